"""Three steps of the network with gradients of their own: PyTorch's take longer here."""

import torch
from torch import nn

from helpers.fitted.layout import NEIGHBOURS, REACH, TAPS


class Neighbours(torch.autograd.Function):
    """(NEIGHBOURS, height * width) of a plane with REACH rows above and columns on either side, in a type."""

    @staticmethod
    def forward(context, plane: torch.Tensor, height: int, width: int, dtype: torch.dtype):
        context.shape = plane.shape
        near = plane.new_empty(len(NEIGHBOURS), height, width, dtype=dtype)
        for one, (dy, dx) in zip(near, NEIGHBOURS, strict=True):
            one.copy_(plane[REACH + dy : REACH + dy + height, REACH + dx : REACH + dx + width])
        context.size = height, width
        return near.view(len(NEIGHBOURS), -1)

    @staticmethod
    def backward(context, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (height, width), plane = context.size, gradient.new_zeros(context.shape, dtype=torch.float32)
        for one, (dy, dx) in zip(gradient.view(-1, height, width), NEIGHBOURS, strict=True):
            plane[REACH + dy : REACH + dy + height, REACH + dx : REACH + dx + width] += one
        return plane, None, None, None


class Convolution(torch.autograd.Function):
    """A 3x3 convolution of few channels without padding, (1, C, H, W)."""

    @staticmethod
    def forward(context, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(x, weight)
        return nn.functional.conv2d(x, weight, bias)

    @staticmethod
    def backward(context, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x, weight = context.saved_tensors
        before = nn.functional.conv2d(gradient, weight.transpose(0, 1).flip(2, 3), padding=2)
        height, width = gradient.shape[2:]
        flat = gradient[0].flatten(1)
        by_place = [
            flat @ x[0, :, row : row + height, column : column + width].flatten(1).T
            for row in range(3)
            for column in range(3)
        ]
        return before, torch.stack(by_place, -1).unflatten(-1, (3, 3)), flat.sum(1)


class Doubled(torch.autograd.Function):
    """An axis twice as long, as in `exact.doubled`, without the positions whose neighbours are missing.

    `count` positions become 2 * (count - 4).
    """

    @staticmethod
    def forward(context, planes: torch.Tensor, taps: torch.Tensor, axis: int) -> torch.Tensor:
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
    def backward(context, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
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
