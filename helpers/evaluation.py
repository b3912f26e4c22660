"""The protocol as code: an image set, a task, a table of per-image and mean measures."""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from helpers import StudyError, jpeg, metrics
from helpers.data import ImageSet
from helpers.data.loading import shown
from helpers.records import environment

SPACES = {
    "y": ("Y (BT.601 luma, 16..235), coded and compared as a grey picture", jpeg.luma),
    "rgb": ("RGB, chroma subsampled 4:2:0; grey pictures stay grey", lambda image: image),
    "grey": ("full-range grey (Pillow's L), coded and compared as such", jpeg.full_range_grey),
}


def evaluate_jpeg(
    images: ImageSet,
    qualities: list[int],
    space: str,
    on_error: Callable[[str], None],
    on_image: Callable[[str], None] = lambda name: None,
) -> dict:
    """JPEG against the originals: a record with one row a quality, means over per-image measures.

    `space` is a key of SPACES. A picture that can't be read or measured goes to `on_error` as one
    line and the rest is done; `on_image` hears each name that is finished. Raises StudyError where
    nothing is left.
    """
    rows = {quality: [] for quality in qualities}
    qualities = list(rows)  # each once
    for name, image in images.images(on_error):
        target = SPACES[space][1](image)
        try:
            measured = {quality: _measure_jpeg(target, quality) for quality in qualities}
        except ValueError as error:  # too small for a window
            on_error(f"{shown(images[name].path)}: {error}")
            continue
        for quality in qualities:
            rows[quality].append({"name": name, **measured[quality]})
        on_image(name)
    if not rows[qualities[0]]:
        raise StudyError(f"{shown(images.name)}: no picture could be measured")
    return {
        "task": "jpeg",
        "space": space,
        "space_means": SPACES[space][0],
        "set": images.name,
        "weights": None,
        "parameters": 0,
        "macs_per_pixel": 0,
        **environment(),
        "rows": [row("jpeg", "original", quality, rows[quality]) for quality in qualities],
    }


def image_table(record: dict) -> pd.DataFrame:
    """One line an image and row of a record: method, reference, quality, name and the measures."""
    lines = [
        {"method": row["method"], "reference": row["reference"], "quality": row["quality"], **image}
        for row in record["rows"]
        for image in row["images"]
    ]
    return pd.DataFrame(lines)


def mean_table(record: dict) -> pd.DataFrame:
    """One line a row of a record: method, reference, quality and the mean measures."""
    return pd.DataFrame(record["rows"]).drop(columns="images")


def measure(reference: np.ndarray, image: np.ndarray) -> dict[str, float]:
    """PSNR and PSNR-B in dB and SSIM of an image against a reference, uint8 of one shape."""
    return {
        "psnr": metrics.psnr(reference, image),
        "ssim": metrics.ssim(reference, image),
        "psnr_b": metrics.psnr_b(reference, image),
    }


def row(method: str, reference: str, quality: int, images: list[dict]) -> dict:
    """Row of a record: the means of what `images` (name and measures each) have, and the images."""
    keys = [key for key in images[0] if key != "name"]
    means = {key: float(np.mean([image[key] for image in images])) for key in keys}
    return {"method": method, "reference": reference, "quality": quality, **means, "images": images}


def _measure_jpeg(image: np.ndarray, quality: int) -> dict[str, float]:
    start = time.perf_counter()
    data = jpeg.encode(image, quality)
    decoded = jpeg.decode(data)
    seconds = time.perf_counter() - start
    rate = metrics.bits_per_pixel(data, image)
    return {**measure(image, decoded), "bits_per_pixel": rate, "seconds": seconds}
