"""JPEG as a function: a picture to bytes and back, luma as the literature takes it, its tables."""

import io

import numpy as np
from PIL import Image

SUBSAMPLING = {"4:4:4": 0, "4:2:0": 2}
LONGEST_SIDE = 65500  # pixels: libjpeg's own limit


def encode(image: np.ndarray, quality: int, *, subsampling: str = "4:2:0", optimize: bool = False) -> bytes:
    """JPEG file of a uint8 image (H, W) or (H, W, 3), written by Pillow's libjpeg-turbo.

    quality 1..100; chroma subsampling "4:2:0" (Pillow's default) or "4:4:4", without meaning for grey;
    `optimize` fits the Huffman tables to the picture, which changes bytes and no pixel. Raises TypeError
    or ValueError for another dtype, shape, quality or subsampling.
    """
    check_image(image, "encode")
    if max(image.shape) > LONGEST_SIDE:
        raise ValueError(f"JPEG holds sides of at most {LONGEST_SIDE} pixels, not {image.shape[:2]}")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality is {quality}; JPEG's scale is 1..100")
    if subsampling not in SUBSAMPLING:
        raise ValueError(f"subsampling is {subsampling!r}; known are {', '.join(SUBSAMPLING)}")
    buffer = io.BytesIO()
    options = {"subsampling": SUBSAMPLING[subsampling]} if image.ndim == 3 else {}
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, optimize=optimize, **options)
    return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    """uint8 image (H, W) or (H, W, 3) of a JPEG file's bytes."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
        return np.array(picture)


def luma(image: np.ndarray) -> np.ndarray:
    """BT.601 luma of an image, uint8 (H, W), range 16..235: MATLAB's `rgb2ycbcr`, channel Y.

    This is the Y of every published restoration table; a grey image, range 0..255, is its own Y, as the
    tables of grey sets (Classic5, Set12) take it.
    """
    check_image(image, "luma")
    if image.ndim == 2:
        return image
    weights = np.array([65.481, 128.553, 24.966]) / 255
    return np.floor(16 + image @ weights + 0.5).astype(np.uint8)


def full_range_grey(image: np.ndarray) -> np.ndarray:
    """Grey of Pillow's mode `L`, uint8 (H, W), range 0..255: what most scripts call grey."""
    check_image(image, "full_range_grey")
    return np.array(Image.fromarray(image).convert("L"))


def as_space(image: np.ndarray, space: str) -> np.ndarray:
    """The literature's luma (H, W) for space "y", three channels (H, W, 3) for "rgb"."""
    if space == "y":
        return luma(image)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def quantization_tables(data: bytes) -> list[np.ndarray]:
    """The step sizes a JPEG file carries, one (8, 8) integer array a table (luma, then chroma)."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
        return [np.array(table).reshape(8, 8) for _, table in sorted(picture.quantization.items())]


def check_image(image: np.ndarray, caller: str) -> None:
    """Raises TypeError or ValueError unless `image` is uint8 of shape (H, W) or (H, W, 3), not empty."""
    dtype = getattr(image, "dtype", type(image).__name__)
    if dtype != np.uint8:
        raise TypeError(f"{caller} takes a uint8 image, range 0..255, not {dtype}")
    if image.size == 0 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"{caller} takes an image (H, W) or (H, W, 3), not {image.shape}")
