"""What encoder and decoder agree on: the pyramid, the neighbourhoods, the small networks' shapes, the tables.

After Cool-Chic (Ladune et al. 2023) and C3 (Kim et al. 2024).
"""

from decimal import Decimal, localcontext
from functools import cache
from typing import NamedTuple

import numpy as np

LEVELS = 7  # sizes: the picture's, a half, ... 1/64
REACH = 2  # positions that the context model looks up and to either side
# (row, column) of the decoded neighbours that predict a number: 2 before it, 5 above, 5 above those
NEIGHBOURS = [(0, -2), (0, -1)] + [(dy, dx) for dy in (-1, -2) for dx in range(-REACH, REACH + 1)]


class Latent(NamedTuple):
    """One latent of one channel: what it starts as, and which other latent helps to predict it."""

    level: int  # its size is the picture's divided by 2^level
    component: int  # 0 brightness, 1 and 2 the two colour differences
    reference: int | None  # the latent, coded before, whose number at the same position is known


# Brightness at every size, finest first, then colour differences at 1/4 and 1/16.
LATENTS = [Latent(level, 0, level + 1 if level + 1 < LEVELS else None) for level in range(LEVELS)]
LATENTS += [Latent(2, 1, 2), Latent(2, 2, 7), Latent(4, 1, 4), Latent(4, 2, 9)]
ORDER = [6, 5, 4, 9, 10, 3, 2, 7, 8, 1, 0]  # of coding
INPUTS = len(NEIGHBOURS) + 3  # and the reference's number, the level, whether it is a colour difference
LATENT_BITS = 4  # synthesis sees latents in sixteenths, so that its weights lie around one
CONTEXT, SYNTHESIS = 16, 24  # channels of the hidden layers
TAPS = 8  # of a filter that doubles the size

SHAPES: dict[str, tuple[int, ...]] = {
    "context_1": (CONTEXT, INPUTS),
    "context_2": (CONTEXT, CONTEXT),
    "context_3": (2, CONTEXT),
    "synthesis_1": (SYNTHESIS, len(LATENTS)),
    "synthesis_2": (3, SYNTHESIS),
    "synthesis_3": (3, 3, 3, 3),
    "synthesis_4": (3, 3, 3, 3),
}
SHAPES |= {f"{name}_bias": shape[:1] for name, shape in SHAPES.items()}
SHAPES["upsampling"] = (TAPS // 2,)  # the other half is its mirror image
SCALES, PHASES = 64, 8  # tables: log-spaced scales; where, in eighths, a mean lies between integers
SMALLEST, LARGEST = 0.05, 40.0  # scales, in steps
INDEX_GAIN, INDEX_START = 8.0, 24.0  # an output of the context model to an index of scale


def grids(height: int, width: int) -> list[tuple[int, int]]:
    """(rows, columns) of each of LATENTS, of a picture."""
    return [(-(-height // 2**latent.level), -(-width // 2**latent.level)) for latent in LATENTS]


def macs_per_pixel() -> float:
    """Multiply-accumulates a pixel that decoding takes."""
    context = sum(np.prod(SHAPES[f"context_{n}"]) for n in (1, 2, 3)) * sum(4.0**-a.level for a in LATENTS)
    doubling = sum((TAPS // 2) * 1.5 * sum(a.level > n for a in LATENTS) * 4.0**-n for n in range(LEVELS - 1))
    synthesis = sum(np.prod(SHAPES[f"synthesis_{n}"]) for n in (1, 2, 3, 4))
    return float(context + doubling + synthesis)


# Laplace tables for the range coder. Only the four basic operations of IEEE arithmetic and Python's
# decimal exponential, which is rounded correctly, make them: a platform's own `exp` may differ in a last
# digit, and one digit ruins a stream.
COUNTS = 2**24  # of a table, about


@cache
def laplace_tables() -> tuple[np.ndarray, np.ndarray]:
    """(bounds int64 (SCALES,), counts (SCALES * PHASES, 2 * most + 1)).

    Row scale * PHASES + phase holds integer counts, as float64, of the numbers -most..most about a mean
    that lies (phase - PHASES / 2) / PHASES above zero; a scale's numbers beyond its bound are never coded.
    """
    with localcontext() as context:
        context.prec = 40
        ratio = (Decimal(LARGEST) / Decimal(SMALLEST)) ** (Decimal(1) / (SCALES - 1))
        scales = [Decimal(SMALLEST) * ratio**index for index in range(SCALES)]
        decay = np.array([float((-1 / scale).exp()) for scale in scales])
        bounds = np.array([int(18 * scale) + 6 for scale in scales])
        # exp(-distance) from the mean to the near edges of the numbers above and below, and at zero
        nearest = [Decimal(1) / 2 - Decimal(n - PHASES // 2) / PHASES for n in range(PHASES)]
        above = np.array([[float((-edge / scale).exp()) for edge in nearest] for scale in scales])
        below = np.array([[float(((edge - 1) / scale).exp()) for edge in nearest] for scale in scales])
    most = bounds.max()
    chances = np.empty((SCALES, PHASES, 2 * most + 1))
    chances[:, :, most] = 1 - (above + below) / 2
    above, below, decay = above / 2, below / 2, decay[:, None]
    for distance in range(1, most + 1):
        chances[:, :, most + distance] = above * (1 - decay)
        chances[:, :, most - distance] = below * (1 - decay)
        above, below = above * decay, below * decay
    return bounds, (np.floor(chances * COUNTS) + 1).reshape(SCALES * PHASES, -1)


def table_rows(index: np.ndarray, phase: np.ndarray) -> tuple[int, np.ndarray]:
    """(bound, counts (n, 2 * bound + 1)) of numbers coded in one call: the widest scale's bound for all."""
    bounds, counts = laplace_tables()
    bound, most = int(bounds[int(index.max())]), counts.shape[1] // 2
    return bound, counts[index * PHASES + phase, most - bound : most + bound + 1]
