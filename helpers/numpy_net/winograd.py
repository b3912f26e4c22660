"""3x3 convolution with stride 1 and padding 1 in half the multiplications, shaped for NumPy.

Four outputs of a three-tap filter need twelve products; Winograd's F(4, 3) makes them from six, after
fixed sums of the inputs (Lavin and Gray 2016, section 4.3): y = A^T [(G w) * (B^T x)], with * product by
product. Here it runs down the columns. Along a row nothing needs to be gathered: channels-last, three
neighbouring pixels are 3 C contiguous numbers, so that the kernel's row is one matrix product. NumPy
hands a matrix to BLAS without a copy if its rows don't overlap; windows do, so every third is taken, thrice.
A block of rows goes through all steps while it lies in the processor's cache.
"""

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import as_strided

INPUT = np.array([  # B^T
    [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
])  # fmt: skip
FILTER = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24  # G
OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])  # A^T
BLOCK_BYTES = 800_000  # of a transformed block: of 100, 200, 400, 800 kB the fastest on 1 MB of L2 cache
Block = tuple[int, int, int, int]  # first image, last, first tile (of four rows), last

_threads = 1
_scratch = threading.local()


def set_threads(count: int) -> None:
    """How many threads share the blocks of a 3x3 convolution; NumPy's own products have their own count."""
    global _threads
    if count < 1:
        raise ValueError(f"{count} threads; at least 1")
    _threads = count


def pad(x: np.ndarray) -> np.ndarray:
    """(N, H, W, C) with zeros round it: (N, 4 ceil(H / 4) + 2, W + 2, C)."""
    n, height, width, channels = x.shape
    padded = np.empty((n, -(-height // 4) * 4 + 2, width + 2, channels), x.dtype)
    padded[:, 0] = padded[:, height + 1 :] = 0
    padded[:, :, 0] = padded[:, :, -1] = 0
    padded[:, 1 : height + 1, 1:-1] = x
    return padded


def correlate(padded: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, height: int) -> np.ndarray:
    """(N, height, W, O) of what `pad` made and a kernel (3, 3, C, O)."""
    n, _, wide, channels = padded.shape
    outputs, width = weight.shape[3], wide - 2
    dtype, size = padded.dtype, padded.itemsize
    y = np.empty((n, -(-height // 4), 4, width * outputs), dtype)
    bias_row = None if bias is None else np.tile(bias, wide)
    kernel = (FILTER.astype(dtype) @ weight.reshape(3, -1)).reshape(6, 1, 3 * channels, outputs)
    back = OUTPUT.astype(dtype)

    def run(blocks: list[Block]) -> None:
        for first, last, top, bottom in blocks:
            images, tiles = last - first, bottom - top
            points = images * tiles * wide  # of each of the six planes
            third = -(-points // 3)
            x = _planes(padded, INPUT, (first, last, top, bottom), "input")
            strides = (x.strides[0], channels * size, 3 * channels * size, size)
            windows = as_strided(x, (6, 3, third, 3 * channels), strides)
            product = _take("product", (6, 3 * third * outputs), dtype)
            strides = (product.strides[0], outputs * size, 3 * outputs * size, size)
            np.matmul(windows, kernel, out=as_strided(product, (6, 3, third, outputs), strides))
            planes = product[:, : points * outputs].reshape(6, images, tiles, wide * outputs)
            if bias_row is not None:
                planes[1] += bias_row  # the second column of A^T is all ones: it reaches every output once
            inner = planes[..., : width * outputs].transpose(1, 2, 0, 3)  # without what lies over the edge
            np.matmul(back, inner, out=y[first:last, top:bottom])

    _share(run, blocks_of(padded, max(channels, outputs)))
    return y.reshape(n, -1, width, outputs)[:, :height]


def weight_gradient(padded: np.ndarray, padded_gradient: np.ndarray) -> np.ndarray:
    """(3, 3, C, O): the transposed algorithm, from the input and the output's gradient after `pad`."""
    wide, channels, outputs = padded.shape[2], padded.shape[3], padded_gradient.shape[3]
    dtype, size = padded.dtype, padded.itemsize
    first_pixel = (wide + 1) * outputs  # behind the border's first row and column

    def run(blocks: list[Block]) -> np.ndarray:
        total = np.zeros((6, 3, channels, outputs), dtype)
        part = np.empty_like(total)
        for block in blocks:
            x = _planes(padded, INPUT, block, "input")
            points = (block[1] - block[0]) * (block[3] - block[2]) * wide
            strides = (x.strides[0], channels * size, size, channels * size)
            shifted = as_strided(x, (6, 3, channels, points), strides)  # three neighbours, transposed
            g = _planes(padded_gradient, OUTPUT.T, block, "product", first_pixel)
            np.matmul(shifted, g[:, : points * outputs].reshape(6, 1, points, outputs), out=part)
            total += part
        return total

    total = sum(_share(run, blocks_of(padded, max(channels, outputs))))
    return (FILTER.T.astype(dtype) @ total.reshape(6, -1)).reshape(3, 3, channels, outputs)


def _planes(padded: np.ndarray, matrix: np.ndarray, block: Block, name: str, offset: int = 0) -> np.ndarray:
    """Six planes of a block, flat: `matrix` (6, k) on each k rows of a tile, tiles four rows apart.

    A few zeros follow each plane, for the windows at its end.
    """
    first, last, top, bottom = block
    _, high, wide, channels = padded.shape
    row, size = wide * channels, padded.itemsize
    images, tiles, count = last - first, bottom - top, matrix.shape[1]
    values = padded.reshape(-1)[(first * high + 4 * top) * row + offset :]
    strides = (high * row * size, 4 * row * size, row * size, size)
    rows = as_strided(values, (images, tiles, count, row), strides, writeable=False)
    length = images * tiles * row
    planes = _take(name, (6, length + 4 * channels), padded.dtype)
    planes[:, length:] = 0
    out = planes[:, :length].reshape(6, images, tiles, row).transpose(1, 2, 0, 3)
    np.matmul(matrix.astype(padded.dtype), rows, out=out)
    return planes


def blocks_of(padded: np.ndarray, channels: int) -> list[Block]:
    """The parts that go through all steps at once: some rows of one image, or some small images."""
    n, high, wide, _ = padded.shape
    tiles = high // 4
    per_tile = 6 * wide * channels * padded.itemsize
    if per_tile * tiles < BLOCK_BYTES:
        images = BLOCK_BYTES // (per_tile * tiles)
        return [(i, min(i + images, n), 0, tiles) for i in range(0, n, images)]
    parts = _parts(tiles, -(-tiles // max(1, BLOCK_BYTES // per_tile)))
    return [(i, i + 1, top, bottom) for i in range(n) for top, bottom in parts]


def _share(run: Callable, blocks: list) -> list:
    """run(part) for each thread's part of the blocks; NumPy lets go of the interpreter inside products."""
    count = max(1, min(_threads, len(blocks) // 4))  # handing over less costs more than it brings
    parts = [blocks[first:last] for first, last in _parts(len(blocks), count)]
    others = [_pool(count).submit(run, part) for part in parts[1:]]
    return [run(parts[0]), *(other.result() for other in others)]


def _parts(length: int, count: int) -> list[tuple[int, int]]:
    """(first, last) of `count` parts of a sequence, as equal as can be."""
    return list(pairwise(length * part // count for part in range(count + 1)))


def _take(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """This thread's scratch array of that name: fresh memory for every block would cost a product's time."""
    count, held = int(np.prod(shape)), _scratch.__dict__
    array = held.get((name, dtype))
    if array is None or array.size < count:
        array = held[name, dtype] = np.zeros(count, dtype)
    return array[:count].reshape(shape)


@functools.cache
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads live on between calls, and so do their scratch arrays."""
    return ThreadPoolExecutor(count - 1)  # the caller is one of them
