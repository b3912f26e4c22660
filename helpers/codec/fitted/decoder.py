"""Decoding in NumPy, by integers: the same latents and the same pixels on every machine.

Integers are carried in float64, whose sums and products of them are exact below 2^53, so that matrix
products may run in any order. Activations are counted in 2^-ACTIVATION. After C3 (Kim et al. 2024).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import constriction
import numpy as np

from helpers.codec.fitted import layout
from helpers.codec.fitted.layout import INDEX_GAIN, INDEX_START, LATENTS, PHASES, REACH, SCALES, TAPS

ACTIVATION = 16
LIMIT = 2**15  # means of latents lie within it
MOST = 2**31  # activations too, whatever the weights: sums of products stay below 2^53
FAMILY = constriction.stream.model.Categorical(perfect=False)
PADDING = TAPS // 4  # positions at either end that a filter looks at
STRIP = 128  # rows of the picture that are synthesised at once, so that large pictures fit the memory


class FixedPoint(NamedTuple):
    """A tensor of weights as integers, int32, counted in 2^-shift."""

    numbers: np.ndarray
    shift: int

    def scaled(self, bits: int) -> np.ndarray:
        """float64 integers, counted in 2^-bits: exact where bits >= shift, else rounded down."""
        return np.floor(self.numbers * 2.0 ** (bits - self.shift))


Weights = dict[str, FixedPoint]


class Plane:
    """One latent on its way through the coder: a padded plane, and its positions front by front.

    A position is predicted from REACH columns to the right in the rows above, so that all positions with
    the same column + (REACH + 1) * row, a front, can be coded at once. `latent`: integers as float64.
    """

    def __init__(self, weights: Weights, number: int, size: tuple[int, int], decoded: dict[int, np.ndarray]):
        self.weights, (height, width), stride = weights, size, size[1] + 2 * REACH
        padded = np.zeros((height + REACH, stride))
        self.plane, self.latent = padded.ravel(), padded[REACH:, REACH : REACH + width]  # views
        rows, columns = np.divmod(np.arange(height * width), width)
        front = columns + (REACH + 1) * rows
        order = np.argsort(front, kind="stable")
        self.positions = ((rows + REACH) * stride + columns + REACH)[order]
        ends = pairwise([0, *np.cumsum(np.bincount(front)).tolist()])
        self.fronts = [slice(*pair) for pair in ends if pair[0] < pair[1]]  # narrow pictures have empty ones
        self.offsets = np.array([dy * stride + dx for dy, dx in layout.NEIGHBOURS])[:, None]
        latent = LATENTS[number]
        self.about = np.array([[latent.level], [latent.component > 0]], np.float64)
        self.reference = np.zeros(len(order))
        if latent.reference is not None:
            step = 2 ** (LATENTS[latent.reference].level - latent.level)
            self.reference = decoded[latent.reference][rows // step, columns // step][order]

    def predict(self, front: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(integer part of the mean, its phase, index of scale), int64, of a front's positions."""
        weights, reference = self.weights, self.reference[front]
        x = np.empty((layout.INPUTS, len(reference)))
        x[:-3] = self.plane[self.positions[front] + self.offsets]
        x[-3], x[-2:] = reference, self.about
        x = hidden(weights, "context_2", hidden(weights, "context_1", x, before=0))
        mean, index = product(weights, "context_3", x)
        shift = weights["context_3"].shift + ACTIVATION
        mean = np.floor(mean * 2.0**-shift * PHASES + 0.5).clip(-LIMIT * PHASES, LIMIT * PHASES)
        index = np.floor(index * 2.0**-shift * INDEX_GAIN + (INDEX_START + 0.5)).clip(0, SCALES - 1)
        integer = np.floor(mean / PHASES + 0.5)
        phase = mean - PHASES * integer + PHASES // 2
        return integer.astype(np.int64), phase.astype(np.int64), index.astype(np.int64)


def product(weights: Weights, name: str, x: np.ndarray, before: int = ACTIVATION) -> np.ndarray:
    """Sums of a layer for x (channels, n) counted in 2^-before, counted in 2^-(shift + before)."""
    layer, bias = weights[name], weights[f"{name}_bias"]
    flat = layer.numbers.reshape(len(layer.numbers), -1).astype(np.float64)
    return flat @ x + bias.scaled(layer.shift + before)[:, None]


def hidden(weights: Weights, name: str, x: np.ndarray, before: int = ACTIVATION) -> np.ndarray:
    """`product` and ReLU, counted in 2^-ACTIVATION; at most MOST."""
    unit = 2.0 ** (ACTIVATION - weights[name].shift - before)
    return np.floor(product(weights, name, x, before) * unit + 0.5).clip(0, MOST)


def encode_latents(weights: Weights, latents: list[np.ndarray], coder) -> list[np.ndarray]:
    """Codes latents, in the order of LATENTS, cut to what the tables reach; returns what a decoder gets."""
    wanted = [np.pad(latent, ((REACH, 0), (REACH, REACH))).ravel() for latent in latents]

    def code(number: int, positions: np.ndarray, mean: np.ndarray, bound: int, counts: np.ndarray):
        symbols = (wanted[number][positions] - mean).clip(-bound, bound).astype(np.int32)
        coder.encode(symbols + bound, FAMILY, counts)
        return symbols + mean

    return _coded(weights, [latent.shape for latent in latents], code)


def decode_latents(weights: Weights, coder, height: int, width: int) -> list[np.ndarray]:
    """Latents, integers as float64, as in LATENTS. Raises AssertionError for an impossible stream."""

    def code(number: int, positions: np.ndarray, mean: np.ndarray, bound: int, counts: np.ndarray):
        return coder.decode(FAMILY, counts) - bound + mean

    return _coded(weights, layout.grids(height, width), code)


def _coded(weights: Weights, sizes: list[tuple[int, int]], code: Callable) -> list[np.ndarray]:
    """Latents of these sizes, in the order of LATENTS, made of what code(...) returns for each front."""
    decoded: dict[int, np.ndarray] = {}
    for number in layout.ORDER:
        plane = Plane(weights, number, sizes[number], decoded)
        for front in plane.fronts:
            mean, phase, index = plane.predict(front)
            positions = plane.positions[front]
            plane.plane[positions] = code(number, positions, mean, *layout.table_rows(index, phase))
        decoded[number] = plane.latent
    return [decoded[number] for number in range(len(LATENTS))]


def synthesise(weights: Weights, latents: list[np.ndarray]) -> np.ndarray:
    """The picture, uint8 (H, W, 3), of latents; the finest sizes in strips of rows."""
    half, planes = weights["upsampling"].scaled(ACTIVATION), _own(latents, layout.LEVELS - 1)
    for level in reversed(range(1, layout.LEVELS - 1)):
        own, larger = _own(latents, level), doubled(_padded(doubled(_padded(planes, 1), half), 2), half, 2)
        planes = np.concatenate([own, larger[:, : own.shape[1], : own.shape[2]]])
    height, width = latents[0].shape
    above, picture = _padded(planes, 1), np.empty((height, width, 3), np.uint8)
    for top in range(0, height, STRIP):
        first, last = max(0, top - 2), min(height, top + STRIP + 2)
        coarse = slice(first // 2, -(-last // 2) + 2 * PADDING)
        larger = doubled(_padded(doubled(above[:, coarse], half), 2), half, 2)
        larger = larger[:, first % 2 :][:, : last - first, :width]
        strip = colours(weights, np.concatenate([_own(latents, 0, slice(first, last)), larger]))
        picture[top : top + STRIP] = strip[top - first :][:STRIP]
    return picture


def _own(latents: list[np.ndarray], level: int, rows: slice = slice(None)) -> np.ndarray:
    """Rows of the latents of a level, (n, rows, columns), counted in 2^-ACTIVATION of what synthesis sees."""
    numbers = [n for n, latent in enumerate(LATENTS) if latent.level == level]
    return np.stack([latents[n][rows] for n in numbers]) * 2.0 ** (ACTIVATION - layout.LATENT_BITS)


def _padded(planes: np.ndarray, axis: int) -> np.ndarray:
    """With PADDING more at both ends of an axis: edges repeat."""
    return np.pad(planes, [(PADDING, PADDING) if n == axis else (0, 0) for n in range(3)], mode="edge")


def doubled(padded: np.ndarray, half: np.ndarray, axis: int = 1) -> np.ndarray:
    """Twice as many rows, or columns for axis 2, as there are without the padding, by a symmetric filter."""
    planes = padded.swapaxes(1, axis)
    count = planes.shape[1] - 2 * PADDING
    taps = np.concatenate([half, half[::-1]])  # output row 2 r + s sees input rows r - 2 + s .. r + 1 + s
    larger = np.empty((len(planes), 2 * count, planes.shape[2]))
    for side in (0, 1):
        parts = (taps[2 * n + side] * planes[:, n + side : n + side + count] for n in range(TAPS // 2))
        larger[:, side::2] = np.floor(sum(parts) * 2.0**-ACTIVATION)
    return larger.swapaxes(1, axis)


def colours(weights: Weights, planes: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) of upsampled latents (LATENTS, h, w)."""
    _, height, width = planes.shape
    x = product(weights, "synthesis_2", hidden(weights, "synthesis_1", planes.reshape(len(planes), -1)))
    x = np.floor(x * 2.0 ** -weights["synthesis_2"].shift).reshape(3, height, width)
    for name, active in (("synthesis_3", True), ("synthesis_4", False)):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
        near = np.stack([padded[:, r : r + height, c : c + width] for r in range(3) for c in range(3)], 1)
        y = np.floor(product(weights, name, near.reshape(27, -1)) * 2.0 ** -weights[name].shift)
        x = x + (np.maximum(y, 0) if active else y).reshape(x.shape)
    levels = np.floor(x * (255 * 2.0**-ACTIVATION) + 0.5).clip(0, 255)
    return levels.astype(np.uint8).transpose(1, 2, 0)
