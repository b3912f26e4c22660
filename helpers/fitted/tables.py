"""Laplace tables for the range coder, the same on every machine.

Only the four basic operations of IEEE arithmetic and Python's decimal exponential, which is rounded
correctly, make them: a platform's own `exp` may differ in a last digit, and one digit ruins a stream.
"""

from decimal import Decimal, localcontext
from functools import cache

import numpy as np

from helpers.fitted.layout import LARGEST, PHASES, SCALES, SMALLEST

COUNTS = 2**24  # of a table, about


@cache
def laplace_tables() -> tuple[np.ndarray, np.ndarray]:
    """(bounds int64 (SCALES,), chances (SCALES * PHASES, 2 * most + 1)).

    Row scale * PHASES + phase holds whole counts, as float64, of the numbers -most..most about a mean
    that lies (phase - PHASES / 2) / PHASES above zero; a scale's numbers beyond its bound are never coded.
    """
    with localcontext() as context:
        context.prec = 40
        ratio = (Decimal(LARGEST) / Decimal(SMALLEST)) ** (Decimal(1) / (SCALES - 1))
        scales = [Decimal(SMALLEST) * ratio**index for index in range(SCALES)]
        decay = np.array([float((-1 / scale).exp()) for scale in scales])
        bounds = np.array([int(18 * scale) + 6 for scale in scales])
        # exp(-distance) from the mean to the near edges of the numbers above and below, and at zero
        edges = np.array(
            [
                [[float((-(Decimal(1) / 2 + sign * phase) / scale).exp()) for sign in (-1, 1)]
                 for phase in (Decimal(n - PHASES // 2) / PHASES for n in range(PHASES))]
                for scale in scales
            ]
        )  # fmt: skip
    most = bounds.max()
    chances = np.empty((SCALES, PHASES, 2 * most + 1))
    chances[:, :, most] = 1 - (edges[:, :, 0] + edges[:, :, 1]) / 2
    above, below = edges[:, :, 0] / 2, edges[:, :, 1] / 2
    share = (1 - decay)[:, None]
    for distance in range(1, most + 1):
        chances[:, :, most + distance] = above * share
        chances[:, :, most - distance] = below * share
        above, below = above * decay[:, None], below * decay[:, None]
    counts = np.floor(chances * COUNTS) + 1
    return bounds, counts.reshape(SCALES * PHASES, -1)


def table_rows(index: np.ndarray, phase: np.ndarray) -> tuple[int, np.ndarray]:
    """(bound, counts (n, 2 * bound + 1)) of numbers coded in one call: the widest scale's bound for all."""
    bounds, counts = laplace_tables()
    bound, most = int(bounds[int(index.max())]), counts.shape[1] // 2
    return bound, counts[index * PHASES + phase, most - bound : most + bound + 1]
