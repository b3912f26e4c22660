"""Networks applied to pictures of any size, and the command `restore`: JPEG files to pictures no worse."""

import argparse
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from helpers import jpeg
from helpers.cells import Coding, within_cells
from helpers.data.metadata import JPEG, WRITERS, check_ending, read_coded_jpeg, turned, write_picture
from helpers.data.patches import tiles
from helpers.data.sets import open_set
from helpers.files import check_not_same_file, for_each, printable, write_file

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
    return for_each(source, files, partial(restore_file, strength=options.strength))


def restore_file(source: Path, target: Path, strength: float = 1.0) -> str:
    """Writes a restored copy of a JPEG file as PNG, lossless WebP or JPEG, by the ending of `target`.

    Grey files go through the luma network, colour files through the colour network, in the orientation
    in which they were coded, so that the 8x8 grid begins at the origin; then the picture is turned as
    its EXIF orientation asks. ICC profile and EXIF are kept, the orientation set to 1. A JPEG is coded so
    finely that most of the gain is left; where that can't be, or nothing is gained, it is a copy of the
    source, byte for byte. `strength` 0..1 scales what is changed. Returns a line to print. Raises StudyError,
    and writes nothing, where it is no grey or colour JPEG file or can't be written.
    """
    check_ending(target, WRITERS)
    check_not_same_file(source, target, "restore")
    image, orientation, metadata, coding = read_coded_jpeg(source)
    output = restored(image, coding, strength)
    change = _distance(output, image)
    quality = _quality_that_keeps(output, change) if WRITERS[target.suffix.lower()] == JPEG else None
    what = "restored" if change else "nothing to gain"
    if quality == 0:
        what = "copied, " + ("a new coding would lose the gain" if change else what)
        write_file(target, source.read_bytes())
    else:
        write_picture(target, turned(output, orientation), metadata, quality)
    size = f"{image.shape[1]}x{image.shape[0]}"
    is_moved = change and quality != 0  # a copy of the source holds no change
    moved = f" (pixels moved by {change**0.5:.2f} levels, root mean square)" if is_moved else ""
    written = f"{target.stat().st_size:,} bytes"
    return f"{printable(target.name)}: was {coding}, {size}; {what}{moved}, {written}"


def _quality_that_keeps(output: np.ndarray, change: float) -> int:
    """The lowest quality of a JPEG that loses at most half of a change (mean square), 0 where none does."""
    for quality in (95, 98, 100) if change else ():
        coded = jpeg.decode(jpeg.encode(output, quality, subsampling="4:4:4"))
        if _distance(output, coded) <= change / 2:
            return quality
    return 0


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean square difference."""
    difference = np.subtract(one, other, dtype=np.float32).ravel()
    return float(np.vdot(difference, difference)) / difference.size


def restored(image: np.ndarray, coding: Coding, strength: float = 1.0) -> np.ndarray:
    """What the shipped network makes of a decoded JPEG of any quality, uint8 (H, W) or (H, W, 3)."""
    if not strength or not coding.can_gain:
        return image
    return reconstruct(_restorer("y" if image.ndim == 2 else "rgb"), image, coding, strength)


@cache
def _restorer(space: str) -> "ConvolutionalNetwork":
    from helpers.models import ConvolutionalNetwork  # not before a picture was read: torch takes seconds
    from helpers.weights import default_weights, load_network

    return load_network(default_weights("restore", space), ConvolutionalNetwork, "restore", space)[0]


def reconstruct(
    network: "ConvolutionalNetwork", image: np.ndarray, coding: Coding | None = None, strength: float = 1.0
) -> np.ndarray:
    """The network's picture of a uint8 image (H, W) or (H, W, 3): same shape, rounded and clipped.

    With the `coding` of the JPEG file that the image was decoded from, what the network changes, times
    `strength`, stays within the file's cells. Sides that are no multiple of what the network needs are filled
    by repeating the edge and cut off again. Large pictures go through in tiles that begin on JPEG's grid and
    see HALO pixels around themselves. Raises ValueError where network and image differ in channels.
    """
    import torch

    jpeg.check_image(image, "reconstruct")
    channels, takes = (1 if image.ndim == 2 else 3), network.config.image_channels
    if channels != takes:
        raise ValueError(f"the network takes {takes} channels, the image has {channels}")
    network.eval().to(memory_format=torch.channels_last)
    top, left = (-first % 8 for first in coding.grid) if coding else (0, 0)  # so that blocks begin at 0
    if top or left:
        image = np.pad(image, [(top, 0), (left, 0)] + [(0, 0)] * (image.ndim - 2), mode="edge")
    output, multiple = np.empty_like(image), int(np.lcm(network.config.multiple, 8))
    for tile in tiles(*image.shape[:2], TILE, HALO):
        seen = image[tile.outer]
        found = _through(network, seen, multiple)
        if coding:
            found = seen + strength * within_cells(found - seen, seen, coding)
        output[tile.inner] = np.rint(found.clip(0, 255))[tile.cut]
    return output[top:, left:]


def _through(network: "ConvolutionalNetwork", image: np.ndarray, multiple: int) -> np.ndarray:
    """The network's output of a uint8 image, float32 of its shape, in grey levels."""
    import torch

    from helpers.models import to_tensor

    height, width = image.shape[:2]
    padding = [(0, -height % multiple), (0, -width % multiple)] + [(0, 0)] * (image.ndim - 2)
    batch = to_tensor(np.pad(image, padding, mode="edge")[None]).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        output = network(batch)[0].clamp(0, 1).mul(255)
    return output.permute(1, 2, 0).numpy().reshape(*batch.shape[2:], *image.shape[2:])[:height, :width]
