"""JPEG computed where the tensors are, for training on a GPU; results are always measured on real files."""

from functools import cache

import numpy as np
import torch

from helpers.cells import COSINES, FROM_RGB, standard_steps


def jpeg_on_device(images: torch.Tensor, qualities: torch.Tensor) -> torch.Tensor:
    """What JPEG makes of (N, C, H, W), float32 with integer values 0..255, each at its own quality.

    One channel is coded as grey (H and W multiples of 8), three as RGB with chroma 4:2:0 (multiples
    of 16). As libjpeg does it, but with an exact transform where libjpeg's is in fixed point: on
    photographs at quality 10 about 99 % of grey samples are equal, the rest one level off or rounded
    to the neighbouring step.
    """
    tables = tables_by_quality().to(images.device)[qualities]  # (N, 2, 8, 8)
    if images.shape[1] == 1:
        return _code(images, tables[:, :1])
    ycc = torch.einsum("kc,nchw->nkhw", torch.from_numpy(FROM_RGB).to(images.device), images)
    luma, chroma = ycc[:, :1].round(), (ycc[:, 1:] + 128).round()
    luma = _code(luma, tables[:, :1])
    cb, cr = (_double(_code(_halve(chroma), tables[:, 1:])) - 128).split(1, dim=1)
    red = luma + 1.402 * cr
    green = luma - 0.344136286 * cb - 0.714136286 * cr
    blue = luma + 1.772 * cb
    return torch.cat([red, green, blue], 1).round().clamp(0, 255)


@cache
def tables_by_quality() -> torch.Tensor:
    """Step sizes (101, 2, 8, 8) of luma and chroma by quality, those of Pillow's files."""
    unused = [np.ones((2, 8, 8), np.float32)]  # there is no quality 0
    return torch.from_numpy(np.stack(unused + [np.stack(standard_steps(q)) for q in range(1, 101)]))


def _code(planes: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Planes (N, C, H, W) after transform, quantisation by (N, 1, 8, 8) and the way back; integer values."""
    basis = torch.from_numpy(COSINES).to(planes.device)
    blocks = (planes - 128).unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    steps = tables[:, :, None, None]
    coefficients = ((basis @ blocks @ basis.T) / steps).round() * steps
    blocks = (basis.T @ coefficients @ basis).transpose(3, 4)
    return (blocks.flatten(4, 5).flatten(2, 3) + 128).round().clamp(0, 255)


def _halve(chroma: torch.Tensor) -> torch.Tensor:
    """Mean of each 2x2 block, rounded down and up in turns along a row, as libjpeg does it."""
    sums = 4 * torch.nn.functional.avg_pool2d(chroma, 2)
    bias = torch.tensor([1.0, 2.0], device=chroma.device).repeat(sums.shape[3] // 2)
    return ((sums + bias) / 4).floor()


def _double(chroma: torch.Tensor) -> torch.Tensor:
    """libjpeg's "fancy" upsampling by 2: weights 9, 3, 3, 1 of the four nearest samples, in sixteenths."""
    padded = torch.nn.functional.pad(chroma, (1, 1, 1, 1), mode="replicate")
    near, above, below = padded[:, :, 1:-1], padded[:, :, :-2], padded[:, :, 2:]
    rows = torch.stack([3 * near + above, 3 * near + below], 3).flatten(2, 3)
    near, left, right = rows[..., 1:-1], rows[..., :-2], rows[..., 2:]
    return torch.stack([(3 * near + left + 8) / 16, (3 * near + right + 7) / 16], 4).floor().flatten(3)
