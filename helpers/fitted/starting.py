"""Where a fit starts: Laplacian pyramids of Y, Cb and Cr as latents, and networks that add them up."""

import math

import torch
from torch import nn

from helpers.fitted.gradients import Doubled
from helpers.fitted.layout import LATENTS, LEVELS, SHAPES, UNIT
from helpers.fitted.payload import RATES, starts

DEAREST, CHEAPEST = 0.03, 2e-4  # squared error (peak 1) that a bit a pixel may cost, at rates 0 and 63
BICUBIC = (-0.03515625, -0.10546875, 0.26171875, 0.87890625)  # half of a filter that doubles a size
# R, G and B of Y, Cb and Cr (ITU-R BT.601, as in JPEG)
FROM_YCBCR = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))
# Squared steps of the first latents over the cost of a bit a pixel: finer than where a step's error pays
# for the bits it saves, 12 / (2 ln 2), because most numbers end as zeros.
FINER = 1.44
SHRUNK, SHRINK = 3, 0.6  # levels, the finest, whose first numbers are brought nearer to zero by so much


def lagrangian(rate: float) -> float:
    """What a bit a pixel may cost in squared error (peak 1), at rate 0 (smallest files) to 63."""
    return DEAREST * (CHEAPEST / DEAREST) ** (rate / 63)


def start_for(cost: float) -> int:
    """The index of RATES that lies nearest a cost of a bit a pixel."""
    return min(range(len(RATES)), key=lambda n: abs(math.log(lagrangian(RATES[n]) / cost)))


def first_step(cost: float) -> float:
    """What a latent's one is worth at the start, in values 0..1, at a cost of a bit a pixel."""
    return math.sqrt(FINER * cost)


def learnt_weights(start: int, step: float) -> dict[str, torch.Tensor]:
    """Weights of SHAPES learnt on other pictures at RATES[start], for latents that count in `step`."""
    weights = {name: torch.from_numpy(value.copy()) for name, value in starts()[0][start].items()}
    weights["synthesis_1"] *= step / first_step(lagrangian(RATES[start]))
    return weights


def starting_weights(step: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Weights of SHAPES to learn from where there is no better start: sums of pyramids of YCbCr.

    Latents count in `step`, of values 0..1. Two hidden units carry the negative and the positive part of
    each of Y, Cb and Cr; the others start small.
    """
    weights = {}
    for name, shape in SHAPES.items():
        if name == "upsampling":
            weights[name] = torch.tensor(BICUBIC)
        elif name.endswith("bias") or name in ("context_3", "synthesis_3", "synthesis_4"):
            weights[name] = torch.zeros(shape)
        else:
            weights[name] = torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
    channels = [latent.kind for level in range(LEVELS) for latent in LATENTS if latent.level == level]
    weights["synthesis_1"] *= 0.3
    weights["synthesis_2"] *= 0.1
    for kind in range(3):
        carried = step * 2**UNIT * torch.tensor([float(channel == kind) for channel in channels])
        weights["synthesis_1"][2 * kind], weights["synthesis_1"][2 * kind + 1] = carried, -carried
        weights["synthesis_2"][:, 2 * kind] = torch.tensor(FROM_YCBCR)[:, kind]
        weights["synthesis_2"][:, 2 * kind + 1] = -torch.tensor(FROM_YCBCR)[:, kind]
    weights["synthesis_2_bias"] += 0.5  # Y is counted from grey
    return weights


def starting_latents(image: torch.Tensor, step: float) -> list[torch.Tensor]:
    """Laplacian pyramids (Burt and Adelson 1983) of the Y, Cb and Cr of (3, H, W) in 0..1, in steps."""
    ycbcr = torch.linalg.inv(torch.tensor(FROM_YCBCR)) @ (image - 0.5).flatten(1)
    wanted = [ycbcr.view_as(image)]
    while len(wanted) < LEVELS:
        wanted.append(nn.functional.avg_pool2d(wanted[-1], 2, ceil_mode=True))
    taps = torch.tensor(BICUBIC + BICUBIC[::-1])
    found: dict[int, torch.Tensor] = {}
    for kind in range(3):
        coded = None
        for level in reversed(range(LEVELS)):
            height, width = wanted[level].shape[1:]
            if coded is not None:
                padded = nn.functional.pad(coded[None], (2, 2, 2, 2), mode="replicate")
                coded = Doubled.apply(Doubled.apply(padded, taps, 1), taps, 2)[0, :height, :width]
            for number, latent in enumerate(LATENTS):
                if (latent.level, latent.kind) == (level, kind):
                    base = 0.0 if coded is None else coded
                    found[number] = (wanted[level][kind] - base) / step
                    coded = base + found[number].round() * step
                    if level < SHRUNK:
                        found[number] = nn.functional.softshrink(found[number], SHRINK)
    return [found[number] for number in range(len(LATENTS))]
