"""The protocol as code: an image set, a task, a table of per-image and mean measures."""

import contextlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import RESULTS, ROOT, StudyError, jpeg, metrics
from helpers.data import ImageSet
from helpers.data.loading import shown

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


def environment() -> dict:
    """Where a number came from: commit, library versions, processor; machine-neutral, for records."""
    packages = ("numpy", "pillow", "scikit-image", "torch")
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # a copy without git
        commit = None
    return {
        "commit": commit,
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "processor": _processor(),
    }


def write_record(record: dict, path: Path) -> None:
    """The record as JSON, written beside its place and renamed. Raises StudyError if it can't be."""
    if path.is_dir():
        raise StudyError(f"{shown(path)}: can't be written (is a folder)")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(record, indent=1) + "\n")
        part.replace(path)
    except OSError as error:
        raise StudyError(f"{shown(path)}: can't be written ({error.strerror})") from None
    finally:
        with contextlib.suppress(OSError):  # where it could not be made it can't be removed
            part.unlink()


def read_record(name: str) -> dict:
    """A committed record of data/results by its name, without the extension."""
    return json.loads((RESULTS / f"{name}.json").read_text())


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


def _processor() -> str:
    """The processor's model and cores, as the system tells it."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux
        pass
    return f"{model}, {os.cpu_count()} cores"
