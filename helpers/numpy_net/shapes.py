"""Layers that change the shape: pooling, upsampling, reshaping."""

import numpy as np

from helpers.files import StudyError
from helpers.numpy_net.parts import Layer


class _Pool2d(Layer):
    """Windows of side `size`, `stride` apart (`size` unless given); the far edges' rest is dropped."""

    dimensions = 4

    def __init__(self, size: int, stride: int | None = None) -> None:
        self.size, self.stride = size, size if stride is None else stride
        super().__init__(f"({self.size}, stride {self.stride})")
        if min(self.size, self.stride) < 1:
            raise StudyError(f"{type(self).__name__}: size {size} and stride {stride} must be positive")
        self.takes = f"(N, H, W, C) of at least {size}x{size} pixels"

    def _check(self, x: np.ndarray) -> None:
        super()._check(x)
        if min(x.shape[1:3]) < self.size:
            raise StudyError(f"{self}: got shape {x.shape}, takes {self.takes}")

    def _views(self, x: np.ndarray) -> list[np.ndarray]:
        """One view (N, H', W', C) for each position in a window, row by row."""
        s = self.stride
        height, width = ((side - self.size) // s + 1 for side in x.shape[1:3])
        steps = range(self.size)
        return [x[:, u : u + s * height : s, v : v + s * width : s] for u in steps for v in steps]


class MaxPool2d(_Pool2d):
    """The largest value of each window; where two are equal the gradient goes to the first, as in PyTorch."""

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        views = self._views(x)
        y, self._winner, self._shape = views[0].copy(), np.zeros(views[0].shape, np.int32), x.shape
        for number, values in enumerate(views[1:], start=1):
            better = values > y
            np.copyto(y, values, where=better)
            self._winner[better] = number
        return y

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray:
        result = np.zeros(self._shape, gradient.dtype)
        for number, view in enumerate(self._views(result)):
            view += gradient * (self._winner == number)
        return result


class AvgPool2d(_Pool2d):
    """The mean of each window."""

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._shape = x.shape
        return sum(self._views(x)) / self.size**2

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray:
        result = np.zeros(self._shape, gradient.dtype)
        share = gradient / self.size**2
        for view in self._views(result):
            view += share
        return result


class Upsample(Layer):
    """(N, H, W, C) to (N, s H, s W, C): every pixel becomes s x s equal ones."""

    dimensions = 4
    takes = "(N, H, W, C)"

    def __init__(self, scale: int) -> None:
        super().__init__(f"({scale})")
        if scale < 1:
            raise StudyError(f"Upsample: scale {scale} must be positive")
        self.scale = scale

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        return x.repeat(self.scale, axis=1).repeat(self.scale, axis=2)

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray:
        n, height, width, channels = gradient.shape
        s = self.scale
        return gradient.reshape(n, height // s, s, width // s, s, channels).sum(axis=(2, 4))


class Flatten(Layer):
    """(N, ...) to (N, values)."""

    shape: tuple[int, ...] = (-1,)

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._shape = x.shape
        return x.reshape(len(x), *self.shape)

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray:
        return gradient.reshape(self._shape)


class Reshape(Flatten):
    """(N, ...) to (N, *shape)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(str(shape))
        self.shape = shape

    def _check(self, x: np.ndarray) -> None:
        super()._check(x)
        if x[0].size != np.prod(self.shape):
            raise StudyError(f"{self}: got shape {x.shape}, takes {np.prod(self.shape)} values a picture")
