"""The codec's seconds beside Pillow's codecs, and what an exact synthesis would cost, in one run."""

import bisect
import contextlib
import copy
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from helpers import metrics, rd
from helpers.bench import medians
from helpers.codec import pictures
from helpers.codec.network import CompressionNetwork
from helpers.data import live1_folder, open_set
from helpers.records import environment

CODECS = ("jpeg", "webp", "jpeg2000", "avif", "jpegxl", "jpeg+restore", "ours")
TURNS, REPEATS = 4, 8
EXACT = "ours, synthesis in float64"
# How a synthesis can be computed: (memory layout, oneDNN); the first is the decoder's own.
CONFIGURATIONS = {
    "channels last": (torch.channels_last, True),
    "contiguous": (torch.contiguous_format, True),
    "channels last, oneDNN off": (torch.channels_last, False),
    "contiguous, oneDNN off": (torch.contiguous_format, False),
}


def record(on_method: Callable[[], None], codecs: Sequence[str], repeats: int = REPEATS) -> dict:
    """The whole benchmark's record; `codecs` holds "jpeg", to which ratios are, and "ours".

    Every codec codes one picture at about the bytes of ours at the usual rate. Milliseconds are medians
    of `repeats`, on one thread and, where the system allows it, one core; encode of ours includes the
    decoder's picture. `on_method` is called TURNS times for each direction of each codec.
    """
    name, image = photograph()
    with _one_thread():
        codec, rows = pictures.shipped_codec(), rows_of(image, codecs, repeats, on_method)
        file = pictures.encode(image, pictures.DEFAULT_RATE)[0]
        pixels = differences(file, codec)
    return {
        "benchmark": f"encode and decode, one thread, median of {repeats}, ms; files of about the same size",
        "picture": name,
        "width": image.shape[1],
        "height": image.shape[0],
        "anchor": rd.ANCHOR_NAME,
        **environment(),
        "rows": rows,
        "pixels": pixels,
    }


def photograph() -> tuple[str, np.ndarray]:
    """(name, uint8 (512, 768, 3)): LIVE1's parrots, or without LIVE1 the sample `coffee`, enlarged."""
    if live1_folder() is not None:
        return "parrots (LIVE1)", open_set("live1")["parrots"].load()
    coffee = Image.fromarray(open_set("samples")["coffee"].load())
    return "coffee (samples), enlarged from 600x400", np.array(coffee.resize((768, 512), Image.LANCZOS))


def rows_of(
    image: np.ndarray, codecs: Sequence[str], repeats: int, on_method: Callable[[], None]
) -> list[dict]:
    """A row a codec: setting, bytes, PSNR in dB, milliseconds, and their ratios to JPEG's.

    The last row is ours with the synthesis in float64, which only decodes.
    """
    size = len(pictures.encode(image, pictures.DEFAULT_RATE)[0])
    network, model = pictures.shipped_codec()
    exact = (computing(network, torch.float64, torch.channels_last), model)
    rows, methods = [], {}
    for codec in codecs:
        settings, coder = rd.CODECS[codec]
        encode = partial(coder.encode, max_threads=1) if codec == "avif" else coder.encode
        setting = pictures.DEFAULT_RATE if codec == "ours" else nearest(encode, image, settings, size)
        data = encode(image, setting)
        rows.append(_row(codec, setting, data, image, coder.decode))
        methods[codec, "encode"] = partial(encode, image, setting)
        methods[codec, "decode"] = partial(coder.decode, data)
        if codec == "ours":
            rows.append(_row(EXACT, setting, data, image, partial(pictures.decode, codec=exact)))
            methods[EXACT, "decode"] = partial(pictures.decode, data, exact)
    times = medians(methods, repeats, on_method)
    for row in rows:
        for way in ("encode", "decode"):
            row[way] = times.get((row["codec"], way))
            row[f"{way}_ratio"] = row[way] and row[way] / times["jpeg", way]
    return rows


def nearest(encode: Callable, image: np.ndarray, settings: Sequence[int], size: int) -> int:
    """The setting, between the first and the last of `settings`, whose file comes closest to `size` bytes."""
    step = 1 if settings[0] < settings[-1] else -1
    all_ = range(settings[0], settings[-1] + step, step)  # from small files to large ones
    place = bisect.bisect_left(all_, size, key=lambda setting: len(encode(image, setting)))
    return min(all_[max(0, place - 1) : place + 1], key=lambda s: abs(len(encode(image, s)) - size))


def differences(data: bytes, codec: tuple[CompressionNetwork, bytes]) -> list[dict]:
    """How many samples of a file's picture differ between ways to compute the synthesis; one row a way.

    float32 and float64 each in CONFIGURATIONS against the first of their own; the first of float64
    against that of float32. `samples` of the picture, `different` ones, `largest` difference in levels.
    """
    network, model = codec
    rows, own = [], {}
    for dtype in (torch.float32, torch.float64):
        for name, (layout, onednn) in CONFIGURATIONS.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # oneDNN's switch warns of Intel's GPUs
                with torch.backends.mkldnn.flags(enabled=onednn):
                    picture = pictures.decode(data, (computing(network, dtype, layout), model))
            reference = own.setdefault(dtype, picture)
            if picture is reference:
                reference = own[torch.float32]
            apart = np.abs(picture.astype(int) - reference)
            rows.append(
                {"synthesis": str(dtype).removeprefix("torch."), "configuration": name, "samples": apart.size}
                | {"different": int((apart > 0).sum()), "largest": int(apart.max())}
            )
    return rows


def computing(
    network: CompressionNetwork, dtype: torch.dtype, layout: torch.memory_format
) -> CompressionNetwork:
    """A copy of the network whose synthesis computes in another type and memory layout."""
    network = copy.deepcopy(network)
    network.synthesis = _Otherwise(network.synthesis.to(dtype), dtype, layout)
    return network.eval()


class _Otherwise(nn.Module):
    def __init__(self, synthesis: nn.Module, dtype: torch.dtype, layout: torch.memory_format):
        super().__init__()
        self.synthesis, self.dtype, self.layout = synthesis, dtype, layout

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.synthesis(y.to(self.dtype).contiguous(memory_format=self.layout))


def tables(found: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The record's rows, and its counts of samples, as tables."""
    return pd.DataFrame(found["rows"]), pd.DataFrame(found["pixels"])


def _row(codec: str, setting: int, data: bytes, image: np.ndarray, decode: Callable) -> dict:
    psnr = metrics.psnr(image, decode(data))
    return {"codec": codec, "setting": setting, "bytes": len(data), "psnr": psnr}


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch, one core for whatever starts threads by itself, as AVIF's decoder does."""
    threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
    try:
        torch.set_num_threads(1)
        if cores:
            os.sched_setaffinity(0, {max(cores)})
        yield
    finally:
        torch.set_num_threads(threads)
        if cores:
            os.sched_setaffinity(0, cores)
