"""Networks applied to pictures of any size, and the command `restore`: JPEG files to better pictures."""

import argparse
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from helpers import jpeg
from helpers.data.metadata import WRITERS, check_ending, read_coded_jpeg, turned, write_picture
from helpers.data.patches import tiles
from helpers.data.sets import open_set
from helpers.files import check_not_same_file, for_each, printable

if TYPE_CHECKING:
    from helpers.models import ConvolutionalNetwork

TILE = 896  # pixels a side that one tile writes
HALO = 96  # pixels around it that it looks at: as far as the shipped restorers see


def run(options: argparse.Namespace) -> int:
    """Restores JPEG files; one that can't be is reported, the rest is done, status 2."""
    source, target = options.source, options.target
    files = [(source, target)]
    if source.is_dir():
        files = [(scene.path, target / f"{scene.name}.png") for scene in open_set(source).scenes]
    return for_each(source, files, restore_file)


def restore_file(source: Path, target: Path) -> str:
    """Writes a restored copy of a JPEG file as PNG, lossless WebP or JPEG 95, by the ending of `target`.

    Grey files go through the luma network, colour files through the colour network, in the orientation
    in which they were coded, so that the 8x8 grid begins at the origin; then the picture is turned as
    its EXIF orientation asks. ICC profile and EXIF are kept, the orientation set to 1. Returns a line to
    print. Raises StudyError, and writes nothing, where it is no grey or colour JPEG file or can't be written.
    """
    check_ending(target, WRITERS)
    check_not_same_file(source, target, "restore")
    image, orientation, metadata = read_coded_jpeg(source)
    write_picture(target, turned(restored(image), orientation), metadata)
    return f"{printable(target.name)}: restored, {target.stat().st_size:,} bytes"


def restored(image: np.ndarray) -> np.ndarray:
    """What the shipped network makes of a decoded JPEG of any quality, uint8 (H, W) or (H, W, 3)."""
    return reconstruct(_restorer("y" if image.ndim == 2 else "rgb"), image)


@cache
def _restorer(space: str) -> "ConvolutionalNetwork":
    from helpers.models import ConvolutionalNetwork  # not before a picture was read: torch takes seconds
    from helpers.weights import default_weights, load_network

    return load_network(default_weights("restore", space), ConvolutionalNetwork, "restore", space)[0]


def reconstruct(network: "ConvolutionalNetwork", image: np.ndarray) -> np.ndarray:
    """The network's picture of a uint8 image (H, W) or (H, W, 3): same shape, rounded and clipped.

    Sides that are no multiple of what the network needs are filled by repeating the edge and cut off
    again. Large pictures go through in tiles that begin on JPEG's grid and see HALO pixels around
    themselves. Raises ValueError where network and image differ in channels.
    """
    import torch

    jpeg.check_image(image, "reconstruct")
    channels, takes = (1 if image.ndim == 2 else 3), network.config.image_channels
    if channels != takes:
        raise ValueError(f"the network takes {takes} channels, the image has {channels}")
    network.eval().to(memory_format=torch.channels_last)
    output, multiple = np.empty_like(image), int(np.lcm(network.config.multiple, 8))
    for tile in tiles(*image.shape[:2], TILE, HALO):
        output[tile.inner] = _through(network, image[tile.outer], multiple)[tile.cut]
    return output


def _through(network: "ConvolutionalNetwork", image: np.ndarray, multiple: int) -> np.ndarray:
    import torch

    from helpers.models import to_tensor

    height, width = image.shape[:2]
    padding = [(0, -height % multiple), (0, -width % multiple)] + [(0, 0)] * (image.ndim - 2)
    batch = to_tensor(np.pad(image, padding, mode="edge")[None]).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        output = network(batch)[0].clamp(0, 1).mul(255).round().byte()
    return output.permute(1, 2, 0).numpy().reshape(*batch.shape[2:], *image.shape[2:])[:height, :width]
