"""What every layer is and checks, layers one after another, and how their parameters start."""

from collections.abc import Callable

import numpy as np

from helpers.files import StudyError

Initial = Callable[[tuple[int, ...], np.random.Generator], np.ndarray]


class Layer:
    """One step of a network; a subclass defines `_forward`, `_backward`, and `takes` in words.

    `parameters` are what an optimiser moves, in place; `gradients` has the same names after `backward`;
    `state` is what else a file must keep (running means).
    """

    takes = "(N, ...)"
    dimensions: int | None = None  # of the input, if they are fixed
    channels: int | None = None  # the input's last dimension, if it is fixed

    def __init__(self, settings: str = "") -> None:
        self._words = type(self).__name__ + settings  # in messages and files
        self.parameters: dict[str, np.ndarray] = {}
        self.gradients: dict[str, np.ndarray] = {}
        self.state: dict[str, np.ndarray] = {}
        self._output_shape: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return self._words

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """The layer's output for a batch; `training` draws dropout masks and takes the batch's statistics.

        Raises StudyError, naming the layer, what it got and what it takes.
        """
        self._check(x)
        y = self._forward(x, training)
        self._output_shape = y.shape
        return y

    def backward(self, gradient: np.ndarray, to_input: bool = True) -> np.ndarray | None:
        """The loss's gradient with respect to the input, from that with respect to the last output.

        Writes `gradients`. Without `to_input` the input's gradient is not computed: the first layer of a
        network has nobody to hand it to. Raises StudyError before a `forward` and for another shape.
        """
        if self._output_shape is None:
            raise StudyError(f"{self}: backward before forward; call forward first, it keeps the input")
        if gradient.shape != self._output_shape:
            got = f"got a gradient of shape {gradient.shape}"
            raise StudyError(f"{self}: {got}, takes {self._output_shape}, its output's")
        return self._backward(gradient, to_input)

    def _check(self, x: np.ndarray) -> None:
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
            kind = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise StudyError(f"{self}: got {kind}, takes floats: x.astype(np.float32) / 255 of a picture")
        for value in self.parameters.values():
            if x.dtype != value.dtype:
                raise StudyError(f"{self}: got {x.dtype}, takes {value.dtype}, the type of its parameters")
        other_dimensions = self.dimensions and x.ndim != self.dimensions
        if other_dimensions or (self.channels and x.shape[-1:] != (self.channels,)):
            raise StudyError(f"{self}: got shape {x.shape}, takes {self.takes}")
        if 0 in x.shape:
            raise StudyError(f"{self}: got an empty array of shape {x.shape}, takes {self.takes}")
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(x.sum())  # one fast pass: a NaN or an infinity anywhere shows in the sum
        if not finite and not np.isfinite(x).all():
            count = x.size - np.count_nonzero(np.isfinite(x))
            raise StudyError(f"{self}: got {count} values that are NaN or infinite, takes finite ones")


class Sequential(Layer):
    """Layers one after another; their parameters, gradients and states are named "number.name"."""

    def __init__(self, *layers: Layer) -> None:
        for layer in layers:
            if not isinstance(layer, Layer):
                kind = type(layer).__name__
                raise StudyError(f"{type(self).__name__}: got {kind}, takes layers, one after another")
        self.layers, self._output_shape = layers, None
        self._words = f"{type(self).__name__}({', '.join(map(str, layers))})"
        leaves = self._leaves()
        if len({id(leaf) for leaf in leaves}) < len(leaves):  # it would keep only the last input it saw
            raise StudyError(f"{self}: has one layer in two places; make one for each place")

    def _leaves(self) -> list[Layer]:
        inner = [layer._leaves() if isinstance(layer, Sequential) else [layer] for layer in self.layers]
        return [leaf for leaves in inner for leaf in leaves]

    parameters = property(lambda self: self._named("parameters"))
    gradients = property(lambda self: self._named("gradients"))
    state = property(lambda self: self._named("state"))

    def _named(self, kind: str) -> dict[str, np.ndarray]:
        numbered = enumerate(self.layers)
        return {f"{n}.{name}": value for n, layer in numbered for name, value in getattr(layer, kind).items()}

    def _check(self, x: np.ndarray) -> None:
        """Each layer checks its own input."""

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        for number, layer in enumerate(self.layers):
            try:
                x = layer.forward(x, training)
            except StudyError as error:
                raise StudyError(f"layer {number}, {error}") from None
        return x

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray | None:
        for number, layer in reversed(list(enumerate(self.layers))):
            gradient = layer.backward(gradient, to_input or number > 0)
        return gradient


class Residual(Sequential):
    """x + layers(x): the layers learn what to change (He et al. 2016)."""

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        y = super()._forward(x, training)
        if y.shape != x.shape:
            made = f"its layers make {y.shape} of {x.shape}"
            raise StudyError(f"{self}: {made}, takes layers that keep the shape")
        return x + y

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray | None:
        inner = super()._backward(gradient, to_input)
        return gradient + inner if to_input else None


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
