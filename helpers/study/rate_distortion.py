"""Rate-distortion: our codec and the classical ones on an image set, real file bytes, BD-rates."""

import contextlib
import io
import math
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import pandas as pd
import torch
from PIL import Image

from helpers import cells, jpeg, metrics
from helpers.codec.trained import pictures
from helpers.data import ImageSet, Scene
from helpers.files import StudyError, one_line, printable
from helpers.processes import processes
from helpers.restoring import restored
from helpers.weights import default_weights

with contextlib.suppress(ImportError):
    import pillow_jxl  # noqa: F401  registers JPEG XL with Pillow, where it is installed

MEASURES = ["psnr", "ssim", "ms_ssim"]
COLUMNS = ["codec", "setting", "image", "bytes", "bpp", *MEASURES]
ANCHOR, ANCHOR_NAME = "jpeg", "JPEG 4:2:0, optimize=True (Pillow)"
WINDOW = (25.0, 34.0)  # dB of PSNR


def measure_image(name: str, image: np.ndarray, codecs: list[str]) -> list[dict]:
    """`row` for each codec (key of CODERS) and setting, of a uint8 image (H, W) or (H, W, 3).

    Grey is coded as grey where the codec can, compared as grey. Raises TypeError or ValueError for another
    dtype or shape, StudyError where a codec can't take the image.
    """
    jpeg.check_image(image, "measure_image")
    rows = []
    for codec in codecs:
        settings, coder = CODERS[codec]
        for setting in settings:
            try:
                data, decoded = coder(image, setting)
            except (OSError, ValueError, StudyError) as error:
                reason = one_line(error)
                raise StudyError(f"{printable(name)}: {codec} can't take it ({reason})") from None
            rows.append(row(codec, setting, name, image, data, decoded))
    return rows


def row(codec: str, setting: int, name: str, image: np.ndarray, data: bytes, decoded: np.ndarray) -> dict:
    """A dict of COLUMNS: bytes and bits a pixel of the file, headers included; PSNR in dB, peak 255.

    SSIM and MS-SSIM are nan where a side is below 11 or 161 pixels.
    """
    side, bpp, psnr = min(image.shape[:2]), metrics.bits_per_pixel(data, image), metrics.psnr(image, decoded)
    ssim = metrics.ssim(image, decoded) if side >= metrics.SSIM_WINDOW else math.nan
    ms_ssim = metrics.ms_ssim(image, decoded) if side >= metrics.MS_SSIM_SIDE else math.nan
    values = (codec, setting, name, len(data), bpp, psnr, ssim, ms_ssim)
    return dict(zip(COLUMNS, values, strict=True))


def measure_set(
    images: ImageSet, codecs: list[str], workers: int, on_error: Callable, on_image: Callable
) -> pd.DataFrame:
    """The rows of `measure_image` for each picture of a set, codec by codec, values to six decimals.

    `workers` processes take a picture each; on_image(name) is called after each. One that can't be read or
    coded goes to on_error(line) and is left out of every curve. Raises StudyError where nothing is left or a
    process was killed.
    """
    found = []
    try:
        with processes(workers) as pool:
            futures = {scene.name: pool.submit(_measure_scene, scene, codecs) for scene in images.scenes}
            for name, future in futures.items():
                try:
                    found.append(future.result())
                except StudyError as error:
                    on_error(str(error))
                on_image(name)
    except BrokenExecutor:
        raise StudyError("rd: a process was killed; fewer --workers take less memory") from None
    if not found:
        raise StudyError(f"{printable(images.name)}: no picture could be measured")
    rows = chain.from_iterable(zip(*found, strict=True))  # from picture by picture to codec by codec
    return pd.DataFrame(rows, columns=COLUMNS).round(6)


def usable(names: list[str], on_note: Callable[[str], None]) -> list[str]:
    """The codecs of these names that can run here, each once; JPEG XL without its plugin is only noted.

    Raises StudyError for a name that is not in CODERS, where our weights are missing, or if none is left.
    """
    if unknown := [name for name in names if name not in CODERS]:
        raise StudyError(f"codec {printable(unknown[0])!r} is not known; known are {', '.join(CODERS)}")
    if "ours" in names and not (path := default_weights("compress", "rgb")).exists():
        raise StudyError(f"{printable(path)}: is missing; `ours` needs it (--codecs names others)")
    if "jpegxl" in names and "JXL" not in Image.SAVE:
        on_note("jpegxl is left out: pillow-jxl-plugin is not installed")
        names = [name for name in names if name != "jpegxl"]
    if not names:
        raise StudyError("rd: no codec is left to measure")
    return list(dict.fromkeys(names))


def mean_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Means over images: codec, setting, bpp, psnr in dB, ssim and ms_ssim, whose empty cells don't count."""
    return table.groupby(["codec", "setting"], sort=False)[["bpp", *MEASURES]].mean().reset_index()


def covered(table: pd.DataFrame) -> tuple[float, float]:
    """The part of WINDOW, in dB, that the mean curves of all codecs of a table of COLUMNS span."""
    ends = mean_curves(table).groupby("codec")["psnr"].agg(["min", "max"])
    return max(WINDOW[0], ends["min"].max()), min(WINDOW[1], ends["max"].min())


def bd_rates(table: pd.DataFrame, window: tuple[float, float] = WINDOW) -> pd.DataFrame:
    """codec, psnr, ssim, ms_ssim: BD-rate in percent of each codec against ANCHOR, of a table of COLUMNS.

    Of mean rates and mean qualities: PSNR over a window in dB, nan where a curve does not span it; SSIM and
    MS-SSIM as -10 log10(1 - mean) over the overlap of both curves, on the pictures large enough for
    them, nan without an overlap. Raises ValueError where settings were measured on different images.
    """
    if table.groupby(["codec", "setting"])["image"].agg(lambda names: tuple(sorted(names))).nunique() > 1:
        raise ValueError("bd_rates: codecs or settings were measured on different images")
    codecs = list(table["codec"].unique())
    rates = {"codec": codecs}
    for measure in MEASURES:
        means = mean_curves(table.dropna(subset=[measure]))
        curves = {codec: _curve(means[means["codec"] == codec], measure) for codec in (*codecs, ANCHOR)}
        rates[measure] = [_bd_rate(curves[ANCHOR], curves[codec], measure, window) for codec in codecs]
    return pd.DataFrame(rates).astype(dict.fromkeys(MEASURES, float))


def _curve(means: pd.DataFrame, measure: str) -> tuple[np.ndarray, np.ndarray]:
    """(bits a pixel, quality in dB), finite and no quality twice, since interpolation needs both."""
    perfect = math.inf if measure == "psnr" else 1.0
    means = means[means[measure] < perfect].sort_values("bpp").drop_duplicates(measure)
    quality = means[measure].to_numpy()
    return means["bpp"].to_numpy(), quality if measure == "psnr" else -10 * np.log10(1 - quality)


def _bd_rate(anchor: tuple, test: tuple, measure: str, window: tuple[float, float]) -> float | None:
    if min(len(anchor[0]), len(test[0])) < 2:
        return None
    overlap = max(anchor[1].min(), test[1].min()), min(anchor[1].max(), test[1].max())
    window = window if measure == "psnr" else overlap
    return metrics.bd_rate(anchor, test, window) if window[0] < window[1] else None


def _measure_scene(scene: Scene, codecs: list[str]) -> list[dict]:
    torch.set_num_threads(1)  # there is a worker for each core
    return measure_image(scene.name, scene.load(), codecs)


@dataclass(frozen=True)
class Coder:
    """encode(image, setting, **Pillow's options) is a file, decode(file) an image; a call does both."""

    encode: Callable[..., bytes]
    decode: Callable[[bytes], np.ndarray]

    def __call__(self, image: np.ndarray, setting: int) -> tuple[bytes, np.ndarray]:
        data = self.encode(image, setting)
        decoded = self.decode(data)
        if image.ndim < decoded.ndim:  # WebP has no grey: three channels, equal or nearly, become one again
            decoded = jpeg.full_range_grey(decoded)
        return data, decoded


def _jpeg(subsampling: str) -> Coder:
    return Coder(partial(jpeg.encode, subsampling=subsampling, optimize=True), jpeg.decode)


def _of_quality(image: np.ndarray, quality: int) -> dict:
    return {"quality": quality}


def _pillow(kind: str, options: Callable[[np.ndarray, int], dict] = _of_quality, **fixed) -> Coder:
    def encode(image: np.ndarray, setting: int, **more) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, kind, **options(image, setting), **{**fixed, **more})
        return buffer.getvalue()

    def decode(data: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(data), formats=[kind]) as picture:
            return np.array(picture if picture.mode == "L" else picture.convert("RGB"))

    return Coder(encode, decode)


def _jpeg2000(image: np.ndarray, ratio: int) -> dict:
    # Without mct=1 R, G and B are coded apart, which is worse than JPEG; on grey it changes nothing.
    return {"irreversible": True, "mct": 1, "quality_mode": "rates", "quality_layers": [ratio]}


def _avif(image: np.ndarray, quality: int) -> dict:
    return {"quality": quality, "subsampling": "4:0:0" if image.ndim == 2 else "4:4:4"}


QUALITIES = (5, 10, 20, 30, 50, 70, 80, 90, 95)
# name: (settings from small files to large ones, what codes (image, setting));
# the first settings lie below 25 dB on LIVE1, so that every curve spans the window
CODERS = {
    "jpeg": (QUALITIES, _jpeg("4:2:0")),
    "jpeg444": (QUALITIES, _jpeg("4:4:4")),
    "webp": ((0, 1, 5, 15, 30, 50, 70, 80, 90, 95), _pillow("WEBP", method=6)),
    "jpeg2000": ((256, 192, 96, 64, 48, 32, 24, 16, 10), _pillow("JPEG2000", _jpeg2000)),
    # One thread writes another AVIF file than two or more, and Pillow asks for as many as there are cores:
    # with two the file is the usual one, on every machine.
    "avif": ((5, 10, 20, 30, 40, 50, 60, 75, 90), _pillow("AVIF", _avif, speed=6, max_threads=2)),
    "jpegxl": ((1, 5, 15, 30, 50, 70, 80, 90, 95), _pillow("JXL", effort=7)),
    "jpeg+restore": (QUALITIES, Coder(_jpeg("4:2:0").encode, lambda data: restored(*cells.decode(data)))),
    "ours": (range(0, 64, 9), Coder(lambda image, rate: pictures.encode(image, rate)[0], pictures.decode)),
}
