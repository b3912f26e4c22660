"""Activations, the dense layer, batch normalisation, dropout."""

import numpy as np
from numpy.random import Generator

from helpers.files import StudyError
from helpers.numpy_net.parts import Initial, Layer, he


class ReLU(Layer):
    """max(x, 0)."""

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._y = np.maximum(x, 0)
        return self._y

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray:
        return gradient * (self._y > 0)


class LeakyReLU(Layer):
    """x where it is positive, slope x elsewhere."""

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__(f"({slope})")
        self.slope = slope

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._factor = np.where(x > 0, 1, self.slope).astype(x.dtype)
        return x * self._factor

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray:
        return gradient * self._factor


class Sigmoid(Layer):
    """1 / (1 + exp(-x)), written so that nothing overflows and small values keep their digits."""

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        small = np.exp(-np.abs(x))
        self._y = np.where(x < 0, small, 1) / (1 + small)
        return self._y

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray:
        return gradient * self._y * (1 - self._y)


class Tanh(Layer):
    """The hyperbolic tangent."""

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._y = np.tanh(x)
        return self._y

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray:
        return gradient * (1 - self._y**2)


class Dense(Layer):
    """(N, inputs) to (N, outputs): x w + b."""

    dimensions = 2

    def __init__(
        self, inputs: int, outputs: int, rng: Generator, initial: Initial = he, dtype: type = np.float32
    ) -> None:
        super().__init__(f"({inputs} -> {outputs})")
        if min(inputs, outputs) < 1:
            raise StudyError(f"Dense: {inputs} -> {outputs} must be positive")
        self.channels, self.takes = inputs, f"(N, {inputs}); Flatten comes before it"
        weight = initial((inputs, outputs), rng).astype(dtype)
        self.parameters = {"weight": weight, "bias": np.zeros(outputs, dtype)}

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._x = x
        return x @ self.parameters["weight"] + self.parameters["bias"]

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray | None:
        self.gradients = {"weight": self._x.T @ gradient, "bias": gradient.sum(axis=0)}
        return gradient @ self.parameters["weight"].T if to_input else None


class BatchNorm2d(Layer):
    """Each channel to mean 0 and variance 1 over the batch, then scaled and shifted (Ioffe and Szegedy 2015).

    Outside training, running means of both statistics (of the unbiased variance) take their place.
    """

    dimensions = 4

    def __init__(
        self, channels: int, momentum: float = 0.1, epsilon: float = 1e-5, dtype: type = np.float32
    ) -> None:
        super().__init__(f"({channels})")
        self.channels, self.takes = channels, f"(N, H, W, {channels}), more than one pixel when training"
        self.momentum, self.epsilon = momentum, epsilon
        self.parameters = {"scale": np.ones(channels, dtype), "shift": np.zeros(channels, dtype)}
        self.state = {"mean": np.zeros(channels, dtype), "variance": np.ones(channels, dtype)}

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        mean, variance = self.state["mean"], self.state["variance"]
        if training:
            flat = x.reshape(-1, self.channels)
            if len(flat) < 2:
                raise StudyError(f"{self}: got shape {x.shape}, takes {self.takes}")
            batch_mean, batch_variance = flat.mean(axis=0), flat.var(axis=0)
            mean += self.momentum * (batch_mean - mean)  # in place: `state` keeps its arrays
            variance += self.momentum * (batch_variance * len(flat) / (len(flat) - 1) - variance)
            mean, variance = batch_mean, batch_variance
        self._inverse = 1 / np.sqrt(variance + self.epsilon)
        self._normal = (x - mean) * self._inverse
        self._batch_counts = training
        return self._normal * self.parameters["scale"] + self.parameters["shift"]

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray:
        scale, shift = (gradient * self._normal).sum((0, 1, 2)), gradient.sum((0, 1, 2))
        self.gradients = {"scale": scale, "shift": shift}
        if self._batch_counts:  # mean and variance depend on every input, too
            gradient = gradient - (shift + self._normal * scale) / (gradient.size // self.channels)
        return gradient * (self.parameters["scale"] * self._inverse)


class Dropout(Layer):
    """In training each value is 0 with probability `rate`, else divided by 1 - rate; else nothing happens.

    The last `mask` can be read (Srivastava et al. 2014, in the inverted form).
    """

    def __init__(self, rate: float, rng: Generator) -> None:
        super().__init__(f"({rate})")
        if not 0 <= rate < 1:
            raise StudyError(f"Dropout: rate {rate} must lie in [0, 1)")
        self.rate, self.rng, self.mask = rate, rng, None

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self.mask = None
        if training:
            kept = self.rng.random(x.shape, dtype=np.float32) >= self.rate
            self.mask = kept.astype(x.dtype) / (1 - self.rate)
        return x if self.mask is None else x * self.mask

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray:
        return gradient if self.mask is None else gradient * self.mask
