"""Networks applied to pictures of any size, and JPEG files restored as files."""

from collections.abc import Callable

import numpy as np
import torch

from helpers import jpeg
from helpers.models import ConvolutionalNetwork
from helpers.training.pairs import to_tensor

TILE = 896  # pixels a side that one tile writes
HALO = 96  # pixels around it that it looks at: as far as the shipped restorers see
EXIF_ORIENTATION = 0x0112
WRITERS = {
    ".png": {},
    ".webp": {"lossless": True},
    ".tif": {"compression": "tiff_deflate"},
    ".jpg": {"quality": 95, "subsampling": 0},
}


def reconstruct(network: ConvolutionalNetwork, image: np.ndarray, on_tile: Callable[[], None] = lambda: None):
    """The network's picture of a uint8 image (H, W) or (H, W, 3): same shape, rounded and clipped.

    Sides that are no multiple of what the network needs are filled by repeating the edge and cut off
    again. Large pictures go through in tiles that begin on JPEG's grid and see HALO pixels around
    themselves; `on_tile` is called after each. Raises ValueError where network and image differ in
    channels.
    """
    jpeg.check_image(image, "reconstruct")
    channels = 1 if image.ndim == 2 else 3
    if channels != network.config.image_channels:
        raise ValueError(
            f"the network takes {network.config.image_channels} channels, the image has {channels}"
        )
    network.eval().to(memory_format=torch.channels_last)
    height, width = image.shape[:2]
    multiple = int(np.lcm(network.config.multiple, 8))
    output = np.empty_like(image)
    for top, left in tiles(height, width):
        rows = slice(max(0, top - HALO), min(height, top + TILE + HALO))
        columns = slice(max(0, left - HALO), min(width, left + TILE + HALO))
        part = _through(network, image[rows, columns], multiple)
        target = output[top : top + TILE, left : left + TILE]
        target[:] = part[top - rows.start :, left - columns.start :][: target.shape[0], : target.shape[1]]
        on_tile()
    return output


def tiles(height: int, width: int) -> list[tuple[int, int]]:
    """Top-left corners of the tiles of a picture."""
    return [(top, left) for top in range(0, height, TILE) for left in range(0, width, TILE)]


def _through(network: ConvolutionalNetwork, image: np.ndarray, multiple: int) -> np.ndarray:
    height, width = image.shape[:2]
    padding = [(0, -height % multiple), (0, -width % multiple)] + [(0, 0)] * (image.ndim - 2)
    batch = to_tensor(np.pad(image, padding, mode="edge")[None]).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        output = network(batch)[0].clamp(0, 1).mul(255).round().byte()
    return output.permute(1, 2, 0).numpy().reshape(*batch.shape[2:], *image.shape[2:])[:height, :width]
