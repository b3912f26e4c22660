"""Pieces of pictures: patches on JPEG's 8x8 grid, crops, tiles of large pictures, resizing."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

GRID = 8  # side of a JPEG block in pixels
Area = tuple[slice, slice]  # rows, columns


def grid_patches(
    image: np.ndarray, size: int, stride: int | None = None, offset: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """All whole patches (N, size, size[, 3]) of an image (H, W[, 3]), `stride` (or `size`) pixels apart.

    The first one lies at `offset` (row, column). With offset (0, 0) and a stride that is a multiple of 8
    every patch begins on JPEG's block grid. Raises ValueError where not one patch fits.
    """
    if size < 1 or (stride is not None and stride < 1):
        raise ValueError(f"size {size} and stride {stride} must be positive")
    if min(offset) < 0:  # would be counted from the far side
        raise ValueError(f"offset {offset} must not be negative")
    height, width = image.shape[:2]
    rows = range(offset[0], height - size + 1, stride or size)
    columns = range(offset[1], width - size + 1, stride or size)
    if not rows or not columns:
        raise ValueError(f"no {size}x{size} patch fits into {height}x{width} from {offset}")
    return np.stack([image[r : r + size, c : c + size] for r in rows for c in columns])


def crop_to_grid(image: np.ndarray) -> np.ndarray:
    """The largest top-left part of (H, W[, 3]) whose sides are multiples of 8."""
    height, width = image.shape[:2]
    if height < GRID or width < GRID:
        raise ValueError(f"{height}x{width} holds no whole {GRID}x{GRID} block")
    return image[: height // GRID * GRID, : width // GRID * GRID]


def center_crop(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle (height, width) of an image, its corner moved up and left to the 8x8 grid."""
    (height, width), sides = size, image.shape[:2]
    if not (1 <= height <= sides[0] and 1 <= width <= sides[1]):
        raise ValueError(f"can't crop {height}x{width} from {sides[0]}x{sides[1]}")
    top, left = (sides[0] - height) // 2 // GRID * GRID, (sides[1] - width) // 2 // GRID * GRID
    return image[top : top + height, left : left + width]


class Tile(NamedTuple):
    """A part of a large picture."""

    inner: Area  # what is written
    outer: Area  # what is looked at for it: the inner part and a halo
    cut: Area  # the inner part, counted from the outer one's corner


def tiles(height: int, width: int, side: int, halo: int) -> Iterator[Tile]:
    """Tiles of at most side x side positions that cover a picture; of many tiles a progress bar is shown."""
    corners = [(top, left) for top in range(0, height, side) for left in range(0, width, side)]
    for corner in tqdm(corners, unit="tile", leave=False, disable=None if len(corners) > 4 else True):
        inner, outer, cut = [], [], []
        for start, length in zip(corner, (height, width), strict=True):
            stop, first = min(length, start + side), max(0, start - halo)
            inner.append(slice(start, stop))
            outer.append(slice(first, min(length, start + side + halo)))
            cut.append(slice(start - first, stop - first))
        yield Tile(tuple(inner), tuple(outer), tuple(cut))


def scaled(area: Area, factor: int) -> Area:
    """The same rows and columns of a picture that is `factor` times as large."""
    rows, columns = (slice(factor * one.start, factor * one.stop) for one in area)
    return rows, columns


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 image resampled to (height, width) with Pillow's Lanczos filter (anti-aliased)."""
    if image.dtype != np.uint8:
        raise TypeError(f"resize takes a uint8 image, not {image.dtype}")
    return np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))
