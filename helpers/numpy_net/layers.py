"""Activations, the dense layer, batch normalisation, dropout, other shapes."""

import numpy as np

from helpers import StudyError
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
        super().__init__()
        self.slope = slope

    def __str__(self) -> str:
        return f"LeakyReLU({self.slope})"

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
        self,
        inputs: int,
        outputs: int,
        rng: np.random.Generator,
        initial: Initial = he,
        dtype: type = np.float32,
    ) -> None:
        super().__init__()
        if min(inputs, outputs) < 1:
            raise StudyError(f"Dense: {inputs} -> {outputs} must be positive")
        self.channels, self.takes = inputs, f"(N, {inputs}); Flatten comes before it"
        self.parameters = {
            "weight": initial((inputs, outputs), rng).astype(dtype),
            "bias": np.zeros(outputs, dtype),
        }

    def __str__(self) -> str:
        return "Dense({} -> {})".format(*self.parameters["weight"].shape)

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._x = x
        return x @ self.parameters["weight"] + self.parameters["bias"]

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray | None:
        self.gradients = {"weight": self._x.T @ gradient, "bias": gradient.sum(axis=0)}
        return gradient @ self.parameters["weight"].T if to_input else None


class BatchNorm2d(Layer):
    """Each channel to mean 0 and variance 1 over the batch, then scaled and shifted (Ioffe and Szegedy 2015).

    Running means of both statistics (of the unbiased variance) take their place outside training.
    """

    dimensions = 4

    def __init__(
        self, channels: int, momentum: float = 0.1, epsilon: float = 1e-5, dtype: type = np.float32
    ) -> None:
        super().__init__()
        self.channels, self.takes = channels, f"(N, H, W, {channels}), more than one pixel when training"
        self.momentum, self.epsilon = momentum, epsilon
        self.parameters = {"scale": np.ones(channels, dtype), "shift": np.zeros(channels, dtype)}
        self.state = {"mean": np.zeros(channels, dtype), "variance": np.ones(channels, dtype)}

    def __str__(self) -> str:
        return f"BatchNorm2d({self.channels})"

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        mean, variance = self.state["mean"], self.state["variance"]
        count = x.size // self.channels
        if training:
            if count < 2:
                raise StudyError(f"{self}: got shape {x.shape}, takes {self.takes}")
            flat = x.reshape(-1, self.channels)
            batch_mean, batch_variance = flat.mean(axis=0), flat.var(axis=0)
            mean += self.momentum * (batch_mean - mean)  # in place: `state` keeps its arrays
            variance += self.momentum * (batch_variance * count / (count - 1) - variance)
            mean, variance = batch_mean, batch_variance
        self._inverse = 1 / np.sqrt(variance + self.epsilon)
        self._normal = (x - mean) * self._inverse
        self._batch_counts = training
        return self._normal * self.parameters["scale"] + self.parameters["shift"]

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray:
        axes = (0, 1, 2)
        self.gradients = {"scale": (gradient * self._normal).sum(axes), "shift": gradient.sum(axes)}
        inner = gradient
        if self._batch_counts:  # mean and variance depend on every input, too
            count = gradient.size // self.channels
            inner = gradient - (self.gradients["shift"] + self._normal * self.gradients["scale"]) / (count)
        return inner * (self.parameters["scale"] * self._inverse)


class Dropout(Layer):
    """In training each value is 0 with probability `rate`, else divided by 1 - rate; else nothing happens.

    The last `mask` can be read (Srivastava et al. 2014, in the inverted form).
    """

    def __init__(self, rate: float, rng: np.random.Generator) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise StudyError(f"Dropout: rate {rate} must lie in [0, 1)")
        self.rate, self.rng = rate, rng
        self.mask: np.ndarray | None = None

    def __str__(self) -> str:
        return f"Dropout({self.rate})"

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self.mask = None
        if training:
            kept = self.rng.random(x.shape, dtype=np.float32) >= self.rate
            self.mask = kept.astype(x.dtype) / (1 - self.rate)
        return x if self.mask is None else x * self.mask

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray:
        return gradient if self.mask is None else gradient * self.mask


class Reshape(Layer):
    """(N, ...) to (N, *shape)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def __str__(self) -> str:
        return f"{type(self).__name__}{self.shape}"

    def _check(self, x: np.ndarray) -> None:
        super()._check(x)
        if x[0].size != np.prod(self.shape):
            raise StudyError(f"{self}: got shape {x.shape}, takes {np.prod(self.shape)} values a picture")

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._shape = x.shape
        return x.reshape(len(x), *self.shape)

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray:
        return gradient.reshape(self._shape)


class Flatten(Layer):
    """(N, ...) to (N, values)."""

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._shape = x.shape
        return x.reshape(len(x), -1)

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray:
        return gradient.reshape(self._shape)
