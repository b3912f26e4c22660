"""What encoder and decoder agree on: the pyramid, the neighbourhoods, the small networks' shapes.

After Cool-Chic (Ladune et al. 2023) and C3 (Kim et al. 2024).
"""

from typing import NamedTuple

import numpy as np

LEVELS = 7  # sizes: the picture's, a half, ... 1/64
REACH = 2  # positions that the context model looks up and to either side
# (row, column) of the decoded neighbours that foretell a number: 2 before it, 5 above, 5 above those
NEIGHBOURS = [(0, -2), (0, -1)] + [(dy, dx) for dy in (-1, -2) for dx in range(-REACH, REACH + 1)]


class Latent(NamedTuple):
    """One latent of one channel: what it starts as, and which number of another one helps to foretell it."""

    level: int  # its size is the picture's divided by 2^level
    kind: int  # 0 brightness, 1 and 2 the two colour differences
    beside: int | None  # the latent, coded before, whose number at the same place is known


# Brightness at every size, finest first, then colour differences at 1/4 and 1/16.
LATENTS = [Latent(level, 0, level + 1 if level + 1 < LEVELS else None) for level in range(LEVELS)]
LATENTS += [Latent(2, 1, 2), Latent(2, 2, 7), Latent(4, 1, 4), Latent(4, 2, 9)]
ORDER = [6, 5, 4, 9, 10, 3, 2, 7, 8, 1, 0]  # of coding
INPUTS = len(NEIGHBOURS) + 3  # and the number beside, the level, whether it is a colour difference
UNIT = 4  # bits: synthesis sees latents in sixteenths, so that its weights lie around one
CONTEXT, SYNTHESIS = 16, 24  # feature maps of the hidden layers
TAPS = 8  # of a filter that doubles the size

SHAPES: dict[str, tuple[int, ...]] = {
    "context_1": (CONTEXT, INPUTS),
    "context_1_bias": (CONTEXT,),
    "context_2": (CONTEXT, CONTEXT),
    "context_2_bias": (CONTEXT,),
    "context_3": (2, CONTEXT),
    "context_3_bias": (2,),
    "upsampling": (TAPS // 2,),  # the other half is its mirror image
    "synthesis_1": (SYNTHESIS, len(LATENTS)),
    "synthesis_1_bias": (SYNTHESIS,),
    "synthesis_2": (3, SYNTHESIS),
    "synthesis_2_bias": (3,),
    "synthesis_3": (3, 3, 3, 3),
    "synthesis_3_bias": (3,),
    "synthesis_4": (3, 3, 3, 3),
    "synthesis_4_bias": (3,),
}
SCALES, PHASES = 64, 8  # tables: log-spaced scales; where, in eighths, a mean lies between whole numbers
SMALLEST, LARGEST = 0.05, 40.0  # scales, in steps
INDEX_GAIN, INDEX_START = 8.0, 24.0  # an output of the context model to an index of scale


def grids(height: int, width: int) -> list[tuple[int, int]]:
    """(rows, columns) of each of LATENTS, of a picture."""
    return [(-(-height // 2**latent.level), -(-width // 2**latent.level)) for latent in LATENTS]


def macs_per_pixel() -> float:
    """Multiplications a pixel that decoding takes."""
    context = sum(np.prod(SHAPES[f"context_{n}"]) for n in (1, 2, 3)) * sum(4.0**-a.level for a in LATENTS)
    doubling = sum((TAPS // 2) * 1.5 * sum(a.level > n for a in LATENTS) * 4.0**-n for n in range(LEVELS - 1))
    synthesis = sum(np.prod(SHAPES[f"synthesis_{n}"]) for n in (1, 2, 3, 4))
    return float(context + doubling + synthesis)
