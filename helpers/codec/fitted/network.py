"""The decoder's sums as floats with gradients, on windows of the picture that fit the processor's cache."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from helpers.codec.fitted import layout
from helpers.codec.fitted.layout import LATENTS, LEVELS, NEIGHBOURS, REACH, TAPS

HALO = 4  # positions around a window, of every latent: what filters and context look at
ALIGNED = 2 ** (LEVELS - 1)  # pixels that a window's corner is a multiple of

Area = tuple[slice, slice]  # rows and columns


class Window(NamedTuple):
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
        ends = ((self.top, self.bottom), (self.left, self.right))
        return tuple(slice(start // 2**level, -(-stop // 2**level)) for start, stop in ends)


class LatentCrop(NamedTuple):
    """What a window needs of a latent: values (h, w) that lie at `area`, cut at the picture's edges."""

    values: Tensor
    area: Area

    def inside(self, own: Area) -> Area:
        """An area, counted from this part's corner."""
        corner = [one.start for one in self.area]
        return tuple(slice(one.start - c, one.stop - c) for one, c in zip(own, corner, strict=True))


class LayerWeights(NamedTuple):
    """Weights as one pass uses them; hidden layers in bfloat16 halve the traffic of memory."""

    weights: dict[str, Tensor]
    hidden: torch.dtype

    def layer(self, name: str, x: Tensor) -> Tensor:
        """(outputs, n) of a layer for (inputs, n)."""
        bias = self.weights[f"{name}_bias"][:, None].to(self.hidden)
        return torch.addmm(bias, self.weights[name].to(self.hidden), x)


def cropped(values: Tensor, latent: layout.Latent, window: Window) -> LatentCrop:
    """What a window needs of a whole latent (h, w): its own positions and HALO around them."""
    ends = zip(window.at(latent.level), values.shape, strict=True)
    area = tuple(slice(max(0, own.start - HALO), min(length, own.stop + HALO)) for own, length in ends)
    return LatentCrop(values[area], area)


def upsampled(layers: LayerWeights, parts: list[LatentCrop], sizes: list, window: Window) -> Tensor:
    """(LATENTS, rows + 2 HALO, columns + 2 HALO) of a window's latents, each at the picture's size."""
    half, larger, covered = layers.weights["upsampling"], None, None
    taps = torch.cat([half, half.flip(0)])
    for level in reversed(range(LEVELS)):
        numbers = [number for number, latent in enumerate(LATENTS) if latent.level == level]
        own, size = window.at(level), sizes[numbers[0]]
        values = torch.stack([parts[number].values for number in numbers]) * 2.0**-layout.LATENT_BITS
        planes = _with_halo(values, parts[numbers[0]].area, size, own)
        if larger is not None:
            planes = torch.cat([planes, _with_halo(larger, covered, size, own)])
        if level:  # two positions at either end lack neighbours
            larger = Doubled.apply(Doubled.apply(planes, taps, 1), taps, 2)
            covered = tuple(slice(2 * (a.start - HALO + 2), 2 * (a.stop + HALO - 2)) for a in own)
    return planes


def _with_halo(values: Tensor, area: Area, size: tuple[int, int], own: Area) -> Tensor:
    """Values (C, h, w) that lie at an area, over the own positions and HALO; the picture's edges repeat."""
    for axis, (known, length, inner) in enumerate(zip(area, size, own, strict=True), start=1):
        start, stop = inner.start - HALO, inner.stop + HALO
        if start >= known.start and stop <= min(length, known.stop):
            values = values.narrow(axis, start - known.start, stop - start)
        else:
            index = torch.arange(start, stop, device=values.device).clamp(0, length - 1) - known.start
            values = values.index_select(axis, index)
    return values


def colours(layers: LayerWeights, planes: Tensor) -> Tensor:
    """float32 (3, rows, columns) of a window, from its upsampled latents with HALO."""
    kept = HALO - 2  # two 3x3 layers look at two pixels around
    planes = planes[:, kept : planes.shape[1] - kept, kept : planes.shape[2] - kept]
    x = layers.layer("synthesis_1", planes.reshape(len(planes), -1).to(layers.hidden)).relu_()
    x = layers.layer("synthesis_2", x).float().reshape(1, 3, *planes.shape[1:])
    for name, active in (("synthesis_3", True), ("synthesis_4", False)):
        y = Convolution.apply(x, layers.weights[name], layers.weights[f"{name}_bias"])
        x = x[:, :, 1:-1, 1:-1] + (y.relu() if active else y)
    return x[0]


def predicted(
    layers: LayerWeights, parts: list[LatentCrop], sizes: list[tuple[int, int]], window: Window
) -> tuple[Tensor, Tensor, Tensor]:
    """(numbers, means, indexes of scale), each (n,), in steps, of all of a window's positions."""
    inputs, numbers = [], []
    for latent, part, size in zip(LATENTS, parts, sizes, strict=True):
        ends = zip(window.at(latent.level), size, strict=True)
        rows, columns = (slice(own.start, min(own.stop, length)) for own, length in ends)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        inner_rows, inner_columns = part.inside((rows, columns))
        around = [REACH - inner_columns.start, inner_columns.stop + REACH - part.values.shape[1]]
        around += [REACH - inner_rows.start, inner_rows.stop - part.values.shape[0]]
        plane = nn.functional.pad(part.values, around)  # zeros outside the picture; below zero it cuts
        near = Neighbours.apply(plane, height, width, layers.hidden)
        if latent.reference is None:
            reference = near.new_zeros(1, near.shape[1])
        else:
            other = parts[latent.reference]
            step = 2 ** (LATENTS[latent.reference].level - latent.level)
            reference = other.values
            for axis, (own, known) in enumerate(zip((rows, columns), other.area, strict=True)):
                index = torch.arange(own.start, own.stop, device=reference.device) // step - known.start
                reference = reference.index_select(axis, index)
            reference = reference.to(layers.hidden).reshape(1, -1)
        about = near.new_tensor([[latent.level], [latent.component > 0]]).expand(-1, near.shape[1])
        inputs.append(torch.cat([near, reference, about]))
        numbers.append(plane[REACH:, REACH : REACH + width].reshape(-1))
    x = torch.cat(inputs, dim=1)
    for number in (1, 2):
        x = layers.layer(f"context_{number}", x).relu_()
    mean, index = layers.layer("context_3", x).float()
    index = (index * layout.INDEX_GAIN + layout.INDEX_START).clamp(0, layout.SCALES - 1)
    return torch.cat(numbers), mean, index


def laplace_bits(offset: Tensor, index: Tensor) -> Tensor:
    """Bits of a unit interval about `offset` from a Laplace distribution's mean, index of scale 0..63."""
    log_step = math.log(layout.LARGEST / layout.SMALLEST) / (layout.SCALES - 1)
    rate = torch.exp(index * -log_step - math.log(layout.SMALLEST))
    beyond = rate * (offset.abs() - 0.5)  # of the interval's nearer edge, below zero where it holds the mean
    inside = 1 - 0.5 * (torch.exp(beyond.clamp(max=0)) + torch.exp(-beyond - rate))
    outside = 0.5 * (1 - torch.exp(-rate))
    share = torch.where(beyond < 0, inside, outside)
    return (beyond.clamp(min=0) - torch.log(share)) / math.log(2)


# Three functions with gradients of their own: PyTorch's take longer here.


class Neighbours(torch.autograd.Function):
    """(NEIGHBOURS, height * width) of a plane with REACH rows above and columns on either side, in a type."""

    @staticmethod
    def forward(context, plane: Tensor, height: int, width: int, dtype: torch.dtype):
        context.shape = plane.shape
        near = plane.new_empty(len(NEIGHBOURS), height, width, dtype=dtype)
        for one, (dy, dx) in zip(near, NEIGHBOURS, strict=True):
            one.copy_(plane[REACH + dy : REACH + dy + height, REACH + dx : REACH + dx + width])
        context.size = height, width
        return near.view(len(NEIGHBOURS), -1)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (height, width), plane = context.size, gradient.new_zeros(context.shape, dtype=torch.float32)
        for one, (dy, dx) in zip(gradient.view(-1, height, width), NEIGHBOURS, strict=True):
            plane[REACH + dy : REACH + dy + height, REACH + dx : REACH + dx + width] += one
        return plane, None, None, None


class Convolution(torch.autograd.Function):
    """A 3x3 convolution of few channels without padding, (1, C, H, W)."""

    @staticmethod
    def forward(context, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        context.save_for_backward(x, weight)
        return nn.functional.conv2d(x, weight, bias)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = context.saved_tensors
        before = nn.functional.conv2d(gradient, weight.transpose(0, 1).flip(2, 3), padding=2)
        height, width = gradient.shape[2:]
        flat = gradient[0].flatten(1)
        seen = (x[0, :, r : r + height, c : c + width] for r in range(3) for c in range(3))
        by_position = [flat @ one.flatten(1).T for one in seen]
        return before, torch.stack(by_position, -1).unflatten(-1, (3, 3)), flat.sum(1)


class Doubled(torch.autograd.Function):
    """An axis of n positions to 2 (n - 4), as in `decoder.doubled`: ends whose neighbours are missing go."""

    @staticmethod
    def forward(context, planes: Tensor, taps: Tensor, axis: int) -> Tensor:
        context.save_for_backward(planes, taps)
        context.axis, count, values = axis, planes.shape[axis] - TAPS // 2, taps.tolist()
        shape = list(planes.shape)
        shape[axis : axis + 1] = count, 2
        larger = planes.new_zeros(shape)
        for side in (0, 1):
            one = larger.select(axis + 1, side)
            for n in range(TAPS // 2):
                one.add_(planes.narrow(axis, n + side, count), alpha=values[2 * n + side])
        return larger.flatten(axis, axis + 1)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (planes, taps), axis = context.saved_tensors, context.axis
        count, values = planes.shape[axis] - TAPS // 2, taps.tolist()
        before, of_taps = torch.zeros_like(planes), torch.zeros_like(taps)
        for side, one in enumerate(gradient.unflatten(axis, (count, 2)).unbind(axis + 1)):
            one = one.contiguous()
            for n in range(TAPS // 2):
                tap, seen = 2 * n + side, (axis, n + side, count)
                before.narrow(*seen).add_(one, alpha=values[tap])
                of_taps[tap] = torch.sum(one * planes.narrow(*seen))
        return before, of_taps, None
