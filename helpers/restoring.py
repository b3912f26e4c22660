"""Networks applied to pictures of any size, and JPEG files restored to better pictures."""

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from helpers import StudyError, jpeg, one_line
from helpers.data import open_set
from helpers.data.loading import ImageError, opened, shown
from helpers.models import ConvolutionalNetwork
from helpers.records import check_apart, write_file
from helpers.training.pairs import to_tensor
from helpers.weights import WEIGHTS, load_network

TILE = 896  # pixels a side that one tile writes
HALO = 96  # pixels around it that it looks at: as far as the shipped restorers see
ORIENTATION = 0x0112  # the EXIF tag, and what undoes each of its values
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WRITERS = {
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
}


def reconstruct(
    network: ConvolutionalNetwork, image: np.ndarray, on_tile: Callable[[], None] = lambda: None
) -> np.ndarray:
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


def restore_file(source: Path, target: Path, on_tile: Callable[[int], None] = lambda count: None) -> None:
    """Writes a restored copy of a JPEG file; the ending of `target` chooses PNG, lossless WebP or JPEG 95.

    Grey files go through the luma network, colour files through the colour network, in the orientation
    in which they were coded, so that the 8x8 grid begins at the origin; then the picture is turned as
    its EXIF orientation asks. ICC profile and EXIF are kept, the orientation set to 1. `on_tile` hears
    the number of tiles after each. Raises StudyError, one line, for anything that is not a grey or
    colour JPEG file, or can't be written; nothing is written then.
    """
    if target.suffix.lower() not in WRITERS:
        raise StudyError(f"{shown(target)}: the ending must be one of {', '.join(WRITERS)}")
    check_apart(source, target, "restore")
    image, metadata, orientation = _read_jpeg(source)
    network = _restorer("y" if image.ndim == 2 else "rgb")
    count = len(tiles(*image.shape[:2]))
    restored = Image.fromarray(reconstruct(network, image, lambda: on_tile(count)))
    if orientation in TURNS:
        restored = restored.transpose(TURNS[orientation])
    kind, options = WRITERS[target.suffix.lower()]
    buffer = io.BytesIO()
    try:
        restored.save(buffer, kind, **options, **metadata)
    except (OSError, ValueError) as error:  # larger than the format holds
        raise StudyError(f"{shown(target)}: can't be written ({one_line(error)})") from None
    write_file(target, buffer.getvalue())


def jpeg_files(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """(file, where its restored picture goes) of one file, or of all pictures in a folder, as PNG."""
    if not source.is_dir():
        return [(source, target)]
    return [(scene.path, target / f"{scene.name}.png") for scene in open_set(source).scenes]


def _read_jpeg(path: Path) -> tuple[np.ndarray, dict, int]:
    """(pixels as coded, what to save beside them, orientation) of a JPEG file."""
    with opened(path) as picture:
        if picture.format not in ("JPEG", "MPO") or picture.mode not in ("L", "RGB"):
            kind = f"{picture.format} picture of mode {picture.mode}"
            raise ImageError(f"{shown(path)}: is a {kind}; restore takes grey and RGB JPEG files")
        exif, profile = picture.getexif(), picture.info.get("icc_profile")
        orientation = exif.get(ORIENTATION, 1)
        if exif:
            exif[ORIENTATION] = 1
        metadata = {"exif": exif.tobytes() if exif else None, "icc_profile": profile}
        return np.array(picture), {key: value for key, value in metadata.items() if value}, orientation


@cache
def _restorer(space: str) -> ConvolutionalNetwork:
    return load_network(WEIGHTS / f"restore_{space}.safetensors", "restore", space)[0]


def _through(network: ConvolutionalNetwork, image: np.ndarray, multiple: int) -> np.ndarray:
    height, width = image.shape[:2]
    padding = [(0, -height % multiple), (0, -width % multiple)] + [(0, 0)] * (image.ndim - 2)
    batch = to_tensor(np.pad(image, padding, mode="edge")[None]).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        output = network(batch)[0].clamp(0, 1).mul(255).round().byte()
    return output.permute(1, 2, 0).numpy().reshape(*batch.shape[2:], *image.shape[2:])[:height, :width]
