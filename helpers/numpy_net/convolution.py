"""The convolutional layer: any square kernel, stride and padding; 3x3 kernels take the fast way."""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from helpers.files import StudyError
from helpers.numpy_net import winograd
from helpers.numpy_net.parts import Initial, Layer, he


class Conv2d(Layer):
    """(N, H, W, C_in) to (N, H', W', C_out): y[i, j] = b + sum of x[s i + u - p, s j + v - p] w[u, v].

    H' = (H + 2 p - k) // s + 1 for kernel k, stride s, padding p (zeros). As everywhere in deep learning the
    kernel is not flipped: it is a correlation.
    """

    dimensions = 4

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        rng: np.random.Generator,
        stride: int = 1,
        padding: int = 0,
        initial: Initial = he,
        dtype: type = np.float32,
    ) -> None:
        channels, steps = f"{in_channels} -> {out_channels}", f"stride {stride}, padding {padding}"
        super().__init__(f"({channels}, {kernel}x{kernel}, {steps})")
        if min(in_channels, out_channels, kernel, stride) < 1 or padding < 0:
            positive = f"channels {channels}, kernel {kernel} and stride {stride}"
            raise StudyError(f"Conv2d: {positive} must be positive, padding {padding} not negative")
        self.channels, self.kernel, self.stride, self.padding = in_channels, kernel, stride, padding
        self.takes = f"(N, H, W, {in_channels})"
        weight = np.array(initial((kernel, kernel, in_channels, out_channels), rng), dtype, order="C")
        self.parameters = {"weight": weight, "bias": np.zeros(out_channels, dtype)}
        self._fast = (kernel, stride, padding) == (3, 1, 1)

    def _check(self, x: np.ndarray) -> None:
        super()._check(x)
        height, width = (side + 2 * self.padding for side in x.shape[1:3])
        if min(height, width) < self.kernel:
            takes = f"takes at least {self.kernel}x{self.kernel}, its kernel"
            raise StudyError(f"{self}: got shape {x.shape}, {height}x{width} when padded, {takes}")

    def _forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        weight, bias = self.parameters["weight"], self.parameters["bias"]
        if self._fast:
            self._padded = winograd.pad(x)
            return winograd.correlate(self._padded, weight, bias, x.shape[1])
        p = self.padding
        # C order: a window's rows must be contiguous, whatever the order of the input
        self._padded = np.pad(np.ascontiguousarray(x), ((0, 0), (p, p), (p, p), (0, 0)))
        windows = self._windows()
        y = np.broadcast_to(bias, (*windows.shape[:3], len(bias))).copy()
        for u in range(self.kernel):  # one product for each row of the kernel
            y += windows[:, :, :, u] @ weight[u].reshape(-1, len(bias))
        return y

    def _backward(self, gradient: np.ndarray, to_input: bool) -> np.ndarray | None:
        weight = self.parameters["weight"]
        flat = gradient.reshape(-1, gradient.shape[-1])
        self.gradients["bias"] = np.ones(len(flat), flat.dtype) @ flat  # a sum, by BLAS
        if self._fast:
            padded = winograd.pad(gradient)
            self.gradients["weight"] = winograd.weight_gradient(self._padded, padded)
            if not to_input:
                return None
            turned = np.ascontiguousarray(weight[::-1, ::-1].transpose(0, 1, 3, 2))
            return winograd.correlate(padded, turned, None, gradient.shape[1])
        windows = self._windows()
        self.gradients["weight"] = np.empty_like(weight)
        for u in range(self.kernel):
            row = windows[:, :, :, u].reshape(len(flat), -1)  # a copy: windows overlap
            self.gradients["weight"][u] = (row.T @ flat).reshape(weight.shape[1:])
        return self._input_gradient(gradient) if to_input else None

    def _input_gradient(self, gradient: np.ndarray) -> np.ndarray:
        """Every window's share of the gradient, added up where the windows were."""
        s, p, (height, width) = self.stride, self.padding, gradient.shape[1:3]
        whole = np.zeros_like(self._padded)
        for u in range(self.kernel):
            for v in range(self.kernel):
                share = gradient @ self.parameters["weight"][u, v].T
                whole[:, u : u + s * height : s, v : v + s * width : s] += share
        return whole[:, p : whole.shape[1] - p, p : whole.shape[2] - p]

    def _windows(self) -> np.ndarray:
        """(N, H', W', k, k C_in) views of the padded input: the rows of a window are contiguous."""
        x, k, s = self._padded, self.kernel, self.stride
        n, height, width, channels = x.shape
        per_image, per_row, per_pixel, per_value = x.strides
        shape = (n, (height - k) // s + 1, (width - k) // s + 1, k, k * channels)
        strides = (per_image, s * per_row, s * per_pixel, per_row, per_value)
        return as_strided(x, shape, strides, writeable=False)
