"""What every layer is, the checks of what goes into it, and how its parameters start."""

from collections.abc import Callable

import numpy as np

from helpers import StudyError

Initial = Callable[[tuple[int, ...], np.random.Generator], np.ndarray]


class Layer:
    """One step of a network. A subclass defines `_forward` and `_backward`, and `takes` in words.

    `parameters` are what an optimiser moves, in place; `gradients` has the same names after `backward`;
    `state` is what else a file must keep (running means).
    """

    takes = "(N, ...)"
    dimensions: int | None = None  # of the input, if they are fixed
    channels: int | None = None  # the input's last dimension, if it is fixed

    def __init__(self) -> None:
        self.parameters: dict[str, np.ndarray] = {}
        self.gradients: dict[str, np.ndarray] = {}
        self.state: dict[str, np.ndarray] = {}
        self._output_shape: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return type(self).__name__

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """The layer's output for a batch; `training` draws dropout masks and takes the batch's statistics.

        Raises StudyError, naming the layer, what it got and what it takes.
        """
        self._check(x)
        y = self._forward(x, training)
        self._output_shape = y.shape
        return y

    def backward(self, gradient: np.ndarray, to_input: bool = True) -> np.ndarray | None:
        """The loss's gradient by the input, from that by the output of the last `forward`.

        Writes `gradients`. Without `to_input` the input's gradient is not computed: the first layer of a
        network has nobody to hand it to.
        """
        if self._output_shape is None:
            raise StudyError(f"{self}: backward before forward; call forward first, it keeps the input")
        if gradient.shape != self._output_shape:
            raise StudyError(
                f"{self}: got a gradient of shape {gradient.shape}, takes {self._output_shape}, its output's"
            )
        return self._backward(gradient, to_input)

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        raise NotImplementedError

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray | None:
        raise NotImplementedError

    def _check(self, x: np.ndarray) -> None:
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
            kind = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise StudyError(f"{self}: got {kind}, takes floats: x.astype(np.float32) / 255 of a picture")
        for value in self.parameters.values():
            if x.dtype != value.dtype:
                raise StudyError(f"{self}: got {x.dtype}, takes {value.dtype}, the type of its parameters")
        if (self.dimensions and x.ndim != self.dimensions) or (
            self.channels and x.shape[-1:] != (self.channels,)
        ):
            raise StudyError(f"{self}: got shape {x.shape}, takes {self.takes}")
        if 0 in x.shape:
            raise StudyError(f"{self}: got an empty array of shape {x.shape}, takes {self.takes}")
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(x.sum())  # one fast pass: a NaN or an infinity anywhere shows in the sum
        if not finite and not np.isfinite(x).all():
            count = x.size - np.count_nonzero(np.isfinite(x))
            raise StudyError(f"{self}: got {count} values that are NaN or infinite, takes finite ones")


def he(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Normal weights that keep a ReLU network's variance: 2 over a sum's inputs (He et al. 2015, eq. 10).

    `shape` is (..., inputs, outputs): of a dense layer, or of a kernel (k, k, C_in, C_out).
    """
    return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)


def glorot(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Uniform weights for sigmoid and tanh, fit for both directions (Glorot and Bengio 2010, eq. 16)."""
    window = np.prod(shape[:-2])
    bound = np.sqrt(6 / (window * (shape[-2] + shape[-1])))
    return rng.uniform(-bound, bound, shape)
