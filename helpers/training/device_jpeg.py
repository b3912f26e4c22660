"""JPEG computed where the tensors are, for training on a GPU; results are always measured on real files."""

import io
import math
from functools import cache

import numpy as np
import torch
from PIL import Image

from helpers import jpeg

# JFIF's colour transform, full range; rows Y, Cb, Cr
TO_YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))


def jpeg_on_device(images: torch.Tensor, qualities: torch.Tensor) -> torch.Tensor:
    """What JPEG makes of (N, C, H, W), float32 with whole values 0..255, each at its own quality.

    One channel is coded as grey (H and W multiples of 8), three as RGB with chroma 4:2:0 (multiples
    of 16). As libjpeg does it, but with an exact transform where libjpeg's is in fixed point: on
    photographs at quality 10 about 99 % of grey samples are equal, the rest one level off or rounded
    to the neighbouring step.
    """
    tables = quantization_tables().to(images.device)[qualities]  # (N, 2, 8, 8)
    if images.shape[1] == 1:
        return _code(images, tables[:, :1])
    matrix = torch.tensor(TO_YCC, device=images.device)
    ycc = torch.einsum("kc,nchw->nkhw", matrix, images)
    luma, chroma = ycc[:, :1].round(), (ycc[:, 1:] + 128).round()
    chroma = _code(_halve(chroma), tables[:, 1:])
    luma, chroma = _code(luma, tables[:, :1]), _double(chroma) - 128
    red = luma + 1.402 * chroma[:, 1:]
    green = luma - 0.344136286 * chroma[:, :1] - 0.714136286 * chroma[:, 1:]
    blue = luma + 1.772 * chroma[:, :1]
    return torch.cat([red, green, blue], 1).round().clamp(0, 255)


@cache
def quantization_tables() -> torch.Tensor:
    """Step sizes (96, 2, 8, 8) of luma and chroma by quality, read from files that Pillow wrote."""
    tables = np.ones((96, 2, 8, 8), np.float32)
    for quality in range(1, 96):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=quality)
        tables[quality] = jpeg.quantization_tables(buffer.getvalue())
    return torch.from_numpy(tables)


def _code(planes: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Planes (N, C, H, W) after transform, quantisation by (N, 1, 8, 8) and the way back; whole values."""
    basis = _cosines(planes.device)
    blocks = (planes - 128).unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    steps = tables[:, :, None, None]
    coefficients = ((basis @ blocks @ basis.T) / steps).round() * steps
    blocks = (basis.T @ coefficients @ basis).transpose(3, 4)
    return (blocks.flatten(4, 5).flatten(2, 3) + 128).round().clamp(0, 255)


def _cosines(device: torch.device) -> torch.Tensor:
    """The orthonormal DCT-II matrix (8, 8): row k holds the k-th cosine."""
    places = torch.arange(8, device=device, dtype=torch.float64)
    matrix = torch.cos(math.pi / 8 * (places + 0.5) * places[:, None]) / 2
    matrix[0] /= math.sqrt(2)
    return matrix.float()


def _halve(chroma: torch.Tensor) -> torch.Tensor:
    """Mean of each 2x2 square, rounded down and up in turns along a row, as libjpeg does it."""
    sums = 4 * torch.nn.functional.avg_pool2d(chroma, 2)
    bias = torch.tensor([1.0, 2.0], device=chroma.device).repeat(sums.shape[3] // 2)
    return ((sums + bias) / 4).floor()


def _double(chroma: torch.Tensor) -> torch.Tensor:
    """libjpeg's "fancy" upsampling by 2: weights 9, 3, 3, 1 of the four nearest samples, in sixteenths."""
    padded = torch.nn.functional.pad(chroma, (1, 1, 1, 1), mode="replicate")
    rows = _near_and_far(padded, 2)
    left, right = _near_and_far(rows, 3, apart=True)
    doubled = torch.stack([((left + 8) / 16).floor(), ((right + 7) / 16).floor()], 4)
    return doubled.flatten(3)


def _near_and_far(x: torch.Tensor, axis: int, apart: bool = False):
    """3 x near + far sample towards both sides along a padded axis: interleaved, or the two `apart`."""
    size = x.shape[axis] - 2
    near, before, after = x.narrow(axis, 1, size), x.narrow(axis, 0, size), x.narrow(axis, 2, size)
    first, second = 3 * near + before, 3 * near + after
    return (first, second) if apart else torch.stack([first, second], axis + 1).flatten(axis, axis + 1)
