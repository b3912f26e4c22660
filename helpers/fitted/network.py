"""The decoder while it is learnt: the sums of `exact` as floats with gradients, on a window of the picture.

Windows small enough for the processor's cache take less time a pixel than the whole picture at once.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from helpers.fitted.gradients import Convolution, Doubled, Neighbours
from helpers.fitted.layout import (
    INDEX_GAIN,
    INDEX_START,
    LARGEST,
    LATENTS,
    LEVELS,
    REACH,
    SCALES,
    SMALLEST,
    UNIT,
    Latent,
)

HALO = 4  # positions around a window, of every latent: what filters and context look at
ALIGNED = 2 ** (LEVELS - 1)  # pixels that a window's corner is a multiple of

Area = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True)
class Window:
    """A part of the picture, in pixels: rows top..bottom, columns left..right, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def pixels(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)

    def at(self, level: int) -> Area:
        """Its positions in latents of a level."""
        step = 2**level
        return (
            slice(self.top // step, -(-self.bottom // step)),
            slice(self.left // step, -(-self.right // step)),
        )


@dataclass(frozen=True)
class Part:
    """What a window needs of a latent: values (h, w) that lie at `area`, cut at the picture's edges."""

    values: torch.Tensor
    area: Area

    def with_values(self, values: torch.Tensor) -> "Part":
        return replace(self, values=values)

    def inside(self, own: Area) -> tuple[Area, Area]:
        """(an area, the same counted from this part's corner)."""
        return own, tuple(
            slice(one.start - all_.start, one.stop - all_.start)
            for one, all_ in zip(own, self.area, strict=True)
        )


class Working:
    """Weights as a pass uses them; hidden layers in bfloat16 halve the traffic of memory."""

    def __init__(self, weights: dict[str, torch.Tensor], hidden: torch.dtype):
        self.weights, self.hidden = weights, hidden

    def layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """(outputs, n) of a layer for (inputs, n)."""
        bias = self.weights[f"{name}_bias"][:, None].to(self.hidden)
        return torch.addmm(bias, self.weights[name].to(self.hidden), x)


def cropped(values: torch.Tensor, latent: Latent, window: Window) -> Part:
    """What a window needs of a whole latent (h, w): its own positions and HALO around them."""
    area = tuple(
        slice(max(0, own.start - HALO), min(length, own.stop + HALO))
        for own, length in zip(window.at(latent.level), values.shape, strict=True)
    )
    return Part(values[area], area)


def upsampled(
    working: Working, parts: list[Part], sizes: list[tuple[int, int]], window: Window
) -> torch.Tensor:
    """(LATENTS, rows + 2 HALO, columns + 2 HALO) of a window's latents, each at the picture's size."""
    half = working.weights["upsampling"]
    taps, planes, larger, covered = torch.cat([half, half.flip(0)]), None, None, None
    for level in reversed(range(LEVELS)):
        numbers = [number for number, latent in enumerate(LATENTS) if latent.level == level]
        own, size = window.at(level), sizes[numbers[0]]
        values = torch.stack([parts[number].values for number in numbers]) * 2.0**-UNIT
        around = _with_halo(values, parts[numbers[0]].area, size, own)
        if level < LEVELS - 1:
            around = torch.cat([around, _with_halo(larger, covered, size, own)])
        planes = around
        if level:  # two positions at either end lack neighbours
            larger = Doubled.apply(Doubled.apply(planes, taps, 1), taps, 2)
            covered = tuple(slice(2 * (a.start - HALO + 2), 2 * (a.stop + HALO - 2)) for a in own)
    return planes


def _with_halo(values: torch.Tensor, area: Area, size: tuple[int, int], own: Area) -> torch.Tensor:
    """Values (C, h, w) that lie at an area, over the own positions and HALO; the picture's edges repeat."""
    for axis, (known, length, inner) in enumerate(zip(area, size, own, strict=True), start=1):
        start, stop = inner.start - HALO, inner.stop + HALO
        if start >= known.start and stop <= min(length, known.stop):
            values = values.narrow(axis, start - known.start, stop - start)
        else:
            index = torch.arange(start, stop, device=values.device).clamp(0, length - 1) - known.start
            values = values.index_select(axis, index)
    return values


def colours(working: Working, planes: torch.Tensor) -> torch.Tensor:
    """float32 (3, rows, columns) of a window, from its upsampled latents with HALO."""
    kept = HALO - 2  # two 3x3 layers look at two pixels around
    planes = planes[:, kept : planes.shape[1] - kept, kept : planes.shape[2] - kept]
    x = working.layer("synthesis_1", planes.reshape(len(planes), -1).to(working.hidden)).relu_()
    x = working.layer("synthesis_2", x).float().reshape(1, 3, *planes.shape[1:])
    for name, active in (("synthesis_3", True), ("synthesis_4", False)):
        y = Convolution.apply(x, working.weights[name], working.weights[f"{name}_bias"])
        x = x[:, :, 1:-1, 1:-1] + (y.relu() if active else y)
    return x[0]


def foretold(
    working: Working, parts: list[Part], sizes: list[tuple[int, int]], window: Window
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(numbers, means, indexes of scale), each (n,), in steps, of all of a window's positions."""
    inputs, numbers = [], []
    for latent, part, size in zip(LATENTS, parts, sizes, strict=True):
        rows, columns = (
            slice(own.start, min(own.stop, length))
            for own, length in zip(window.at(latent.level), size, strict=True)
        )
        height, width = rows.stop - rows.start, columns.stop - columns.start
        plane = _for_context(part, rows, columns)
        near = Neighbours.apply(plane, height, width, working.hidden)
        if latent.beside is None:
            beside = near.new_zeros(1, near.shape[1])
        else:
            other = parts[latent.beside]
            step = 2 ** (LATENTS[latent.beside].level - latent.level)
            beside = other.values
            for axis, (own, known) in enumerate(zip((rows, columns), other.area, strict=True)):
                index = torch.arange(own.start, own.stop, device=beside.device) // step - known.start
                beside = beside.index_select(axis, index)
            beside = beside.to(working.hidden).reshape(1, -1)
        about = near.new_tensor([[latent.level], [latent.kind > 0]]).expand(-1, near.shape[1])
        inputs.append(torch.cat([near, beside, about]))
        numbers.append(plane[REACH:, REACH : REACH + width].reshape(-1))
    x = torch.cat(inputs, dim=1)
    for number in (1, 2):
        x = working.layer(f"context_{number}", x).relu_()
    mean, index = working.layer("context_3", x).float()
    return torch.cat(numbers), mean, (index * INDEX_GAIN + INDEX_START).clamp(0, SCALES - 1)


def _for_context(part: Part, rows: slice, columns: slice) -> torch.Tensor:
    """A part's values at rows and columns, REACH more above and on either side; outside the picture zeros."""
    above, left, right = rows.start - REACH, columns.start - REACH, columns.stop + REACH
    known_rows, known_columns = part.area
    values = part.values[max(0, above - known_rows.start) : rows.stop - known_rows.start]
    values = values[:, max(0, left - known_columns.start) : right - known_columns.start]
    missing = (
        max(0, known_columns.start - left),
        max(0, right - known_columns.stop),
        max(0, known_rows.start - above),
    )
    return nn.functional.pad(values, (*missing, 0)) if any(missing) else values


def laplace_bits(offset: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Bits of a unit interval about `offset` from a Laplace distribution's mean, index of scale 0..63."""
    rate = torch.exp(index * (-math.log(LARGEST / SMALLEST) / (SCALES - 1)) - math.log(SMALLEST))
    beyond = rate * (offset.abs() - 0.5)  # of the interval's nearer edge, below zero where it holds the mean
    inside = 1 - 0.5 * (torch.exp(beyond.clamp(max=0)) + torch.exp(-beyond - rate))
    outside = 0.5 * (1 - torch.exp(-rate))
    share = torch.where(beyond < 0, inside, outside)
    return (beyond.clamp(min=0) - torch.log(share)) / math.log(2)
