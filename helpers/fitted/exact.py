"""Decoding in NumPy, in whole numbers: the same latents and the same pixels on every machine.

Whole numbers are carried in float64, whose sums and products of them are exact below 2^53, so that
matrix products may run in any order. Activations are counted in 2^-ACTIVATION.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import constriction
import numpy as np

from helpers.fitted.layout import (
    INDEX_GAIN,
    INDEX_START,
    INPUTS,
    LATENTS,
    LEVELS,
    NEIGHBOURS,
    ORDER,
    PHASES,
    REACH,
    SCALES,
    TAPS,
    UNIT,
    grids,
)
from helpers.fitted.tables import table_rows

ACTIVATION = 16
LIMIT = 2**15  # means of latents lie within it
MOST = 2**31  # activations too, whatever the weights: sums of products stay below 2^53
FAMILY = constriction.stream.model.Categorical(perfect=False)
PADDING = TAPS // 4  # positions at either end that a filter looks at
STRIP = 128  # rows of the picture that are synthesised at once, so that large pictures fit the memory


@dataclass(frozen=True)
class Whole:
    """A tensor of weights as whole numbers, int32, counted in 2^-shift."""

    numbers: np.ndarray
    shift: int

    def scaled(self, bits: int) -> np.ndarray:
        """float64, whole, counted in 2^-bits: exact where bits >= shift, else rounded down."""
        return np.floor(self.numbers * 2.0 ** (bits - self.shift))


Weights = dict[str, Whole]


class Plane:
    """One latent on its way through the coder: a padded plane, and its positions front by front.

    A position is foretold from REACH columns to the right in the rows above, so that all positions with
    the same column + (REACH + 1) * row can be coded at once.
    """

    def __init__(self, weights: Weights, number: int, size: tuple[int, int], decoded: dict[int, np.ndarray]):
        height, width = size
        self.weights, self.size, self.stride = weights, size, width + 2 * REACH
        self.plane = np.zeros((height + REACH) * self.stride)
        rows, columns = np.divmod(np.arange(height * width), width)
        front = columns + (REACH + 1) * rows
        order = np.argsort(front, kind="stable")
        self.places = ((rows + REACH) * self.stride + columns + REACH)[order]
        self.ends = np.cumsum(np.bincount(front))
        self.offsets = np.array([dy * self.stride + dx for dy, dx in NEIGHBOURS])[:, None]
        latent = LATENTS[number]
        self.about = np.array([[latent.level], [latent.kind > 0]], np.float64)
        self.beside = np.zeros(len(order))
        if latent.beside is not None:
            step = 2 ** (LATENTS[latent.beside].level - latent.level)
            self.beside = decoded[latent.beside][rows // step, columns // step][order]

    def fronts(self) -> Iterator[slice]:
        """The positions, in order of coding, of each front."""
        start = 0
        for end in self.ends:
            if end > start:  # narrow pictures have fronts without positions
                yield slice(start, int(end))
            start = int(end)

    def foretell(self, front: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(whole part of the mean, its phase, index of scale), int64, of a front's positions."""
        weights = self.weights
        beside = self.beside[front]
        x = np.empty((INPUTS, len(beside)))
        x[:-3] = self.plane[self.places[front] + self.offsets]
        x[-3], x[-2:] = beside, self.about
        x = requantised(product(weights, "context_1", x, 0), weights["context_1"].shift, 0)
        x = requantised(product(weights, "context_2", x), weights["context_2"].shift, ACTIVATION)
        mean, index = product(weights, "context_3", x)
        shift = weights["context_3"].shift + ACTIVATION
        mean = np.floor(mean * 2.0**-shift * PHASES + 0.5).clip(-LIMIT * PHASES, LIMIT * PHASES)
        index = np.floor(index * 2.0**-shift * INDEX_GAIN + (INDEX_START + 0.5)).clip(0, SCALES - 1)
        whole = np.floor(mean / PHASES + 0.5)
        phase = mean - PHASES * whole + PHASES // 2
        return whole.astype(np.int64), phase.astype(np.int64), index.astype(np.int64)

    def set(self, front: slice, values: np.ndarray) -> None:
        """Writes the numbers of a front."""
        self.plane[self.places[front]] = values

    def latent(self) -> np.ndarray:
        """(rows, columns) float64, whole."""
        height, width = self.size
        return self.plane.reshape(height + REACH, self.stride)[REACH:, REACH : REACH + width]


def requantised(sums: np.ndarray, shift: int, before: int) -> np.ndarray:
    """ReLU of sums counted in 2^-(shift + before), counted in 2^-ACTIVATION; at most MOST."""
    return np.floor(sums * 2.0 ** (ACTIVATION - shift - before) + 0.5).clip(0, MOST)


def product(weights: Weights, name: str, x: np.ndarray, before: int = ACTIVATION) -> np.ndarray:
    """Sums of a layer for x (channels, n) counted in 2^-before, counted in 2^-(shift + before)."""
    layer, bias = weights[name], weights[f"{name}_bias"]
    flat = layer.numbers.reshape(len(layer.numbers), -1).astype(np.float64)
    return flat @ x + bias.scaled(layer.shift + before)[:, None]


def encode_latents(weights: Weights, latents: list[np.ndarray], coder) -> list[np.ndarray]:
    """What is decoded of latents, whole numbers (rows, columns) in the order of LATENTS, given to a coder.

    A number further from its mean than the tables reach is brought nearer, for the decoder too.
    """
    decoded: dict[int, np.ndarray] = {}
    for number in ORDER:
        values = latents[number]
        plane = Plane(weights, number, values.shape, decoded)
        padded = np.pad(values, ((REACH, 0), (REACH, REACH)))
        wanted = padded.ravel()[plane.places]
        for front in plane.fronts():
            mean, phase, index = plane.foretell(front)
            bound, counts = table_rows(index, phase)
            symbols = (wanted[front] - mean).clip(-bound, bound).astype(np.int32)
            coder.encode(symbols + bound, FAMILY, counts)
            plane.set(front, symbols + mean)
        decoded[number] = plane.latent()
    return [decoded[number] for number in range(len(LATENTS))]


def decode_latents(weights: Weights, coder, height: int, width: int) -> list[np.ndarray]:
    """Latents, float64 and whole, in the order of LATENTS, out of a range coder, one call a front.

    Raises AssertionError, constriction's, where the stream is impossible.
    """
    decoded: dict[int, np.ndarray] = {}
    sizes = grids(height, width)
    for number in ORDER:
        plane = Plane(weights, number, sizes[number], decoded)
        for front in plane.fronts():
            mean, phase, index = plane.foretell(front)
            bound, counts = table_rows(index, phase)
            plane.set(front, coder.decode(FAMILY, counts) - bound + mean)
        decoded[number] = plane.latent()
    return [decoded[number] for number in range(len(LATENTS))]


def synthesise(weights: Weights, latents: list[np.ndarray]) -> np.ndarray:
    """The picture, uint8 (H, W, 3), of latents; the finest sizes in strips of rows."""
    half, planes = weights["upsampling"].scaled(ACTIVATION), None
    for level in reversed(range(1, LEVELS)):
        own = _own(latents, level)
        if planes is not None:
            larger = doubled(_padded(doubled(_padded(planes, 1), half), 2), half, 2)
            own = np.concatenate([own, larger[:, : own.shape[1], : own.shape[2]]])
        planes = own
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
    return np.stack([latents[n][rows] for n in numbers]) * 2.0 ** (ACTIVATION - UNIT)


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
    x = requantised(
        product(weights, "synthesis_1", planes.reshape(len(planes), -1)),
        weights["synthesis_1"].shift,
        ACTIVATION,
    )
    x = product(weights, "synthesis_2", x)
    x = np.floor(x * 2.0 ** -weights["synthesis_2"].shift).reshape(3, height, width)
    for name, active in (("synthesis_3", True), ("synthesis_4", False)):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
        near = np.stack([padded[:, r : r + height, c : c + width] for r in range(3) for c in range(3)], 1)
        y = np.floor(product(weights, name, near.reshape(27, -1)) * 2.0 ** -weights[name].shift)
        y = y.reshape(3, height, width)
        x = x + (np.maximum(y, 0) if active else y)
    levels = np.floor(x * (255 * 2.0**-ACTIVATION) + 0.5).clip(0, 255)
    return levels.astype(np.uint8).transpose(1, 2, 0)
