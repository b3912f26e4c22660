"""Networks of layers: one after another, and round a shortcut."""

import numpy as np

from helpers import StudyError
from helpers.numpy_net.parts import Layer


class Sequential(Layer):
    """Layers one after another; their parameters, gradients and states are named "number.name"."""

    def __init__(self, *layers: Layer) -> None:
        for layer in layers:
            if not isinstance(layer, Layer):
                kind = type(layer).__name__
                raise StudyError(f"{type(self).__name__}: got {kind}, takes layers, one after another")
        self.layers = layers
        leaves = self._leaves()
        if len({id(leaf) for leaf in leaves}) < len(leaves):  # it would keep the input of its last place only
            raise StudyError(f"{self}: has one layer in two places; make one for each place")
        self._output_shape = None

    def __str__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.layers))})"

    def _leaves(self) -> list[Layer]:
        inner = [layer._leaves() if isinstance(layer, Sequential) else [layer] for layer in self.layers]
        return [leaf for leaves in inner for leaf in leaves]

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        return self._named("parameters")

    @property
    def gradients(self) -> dict[str, np.ndarray]:
        return self._named("gradients")

    @property
    def state(self) -> dict[str, np.ndarray]:
        return self._named("state")

    def _named(self, kind: str) -> dict[str, np.ndarray]:
        return {
            f"{number}.{name}": value
            for number, layer in enumerate(self.layers)
            for name, value in getattr(layer, kind).items()
        }

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
            raise StudyError(
                f"{self}: its layers make {y.shape} of {x.shape}, takes layers that keep the shape"
            )
        return x + y

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray | None:
        inner = super()._backward(gradient, to_input)
        return gradient + inner if to_input else None
