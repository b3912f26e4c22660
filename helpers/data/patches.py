"""Pieces of pictures: patches on JPEG's 8x8 grid, crops, resizing."""

import numpy as np
from PIL import Image

GRID = 8  # side of a JPEG block in pixels


def grid_patches(
    image: np.ndarray, size: int, stride: int | None = None, offset: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """All whole patches (N, size, size[, 3]) of an image (H, W[, 3]), `stride` pixels apart.

    The first one lies at `offset` (row, column); the stride is `size` unless given. With offset
    (0, 0) and a stride that is a multiple of 8 every patch begins on JPEG's block grid. Raises
    ValueError where not one patch fits.
    """
    if size < 1 or (stride is not None and stride < 1):
        raise ValueError(f"size {size} and stride {stride} must be positive")
    if min(offset) < 0:  # would be counted from the far side
        raise ValueError(f"offset {offset} must not be negative")
    height, width = image.shape[:2]
    stride = stride or size
    rows = range(offset[0], height - size + 1, stride)
    columns = range(offset[1], width - size + 1, stride)
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
    height, width = image.shape[:2]
    if not (1 <= size[0] <= height and 1 <= size[1] <= width):
        raise ValueError(f"can't crop {size[0]}x{size[1]} from {height}x{width}")
    top = (height - size[0]) // 2 // GRID * GRID
    left = (width - size[1]) // 2 // GRID * GRID
    return image[top : top + size[0], left : left + size[1]]


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 image resampled to (height, width) with Pillow's Lanczos filter (anti-aliased)."""
    if image.dtype != np.uint8:
        raise TypeError(f"resize takes a uint8 image, not {image.dtype}")
    return np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))
