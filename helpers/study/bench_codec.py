"""The codec's seconds next to Pillow's codecs, and what an exact synthesis would cost, in one run."""

import bisect
import contextlib
import copy
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import nn

from helpers import metrics
from helpers.codec.container import DEFAULT_RATE
from helpers.codec.trained import pictures
from helpers.data import live1_folder, open_set
from helpers.records import environment
from helpers.study import rate_distortion as rd
from helpers.study.bench_numpy import medians

BENCH_CODECS = ("jpeg", "webp", "jpeg2000", "avif", "jpegxl", "jpeg+restore", "ours")
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
        rows = rows_of(image, codecs, repeats, on_method)
        pixels = differences(pictures.encode(image, DEFAULT_RATE)[0], pictures.shipped_codec())
    title = f"encode and decode, one thread, median of {repeats}, ms; files of about the same size"
    height, width = image.shape[:2]
    about = {"benchmark": title, "picture": name, "width": width, "height": height, "anchor": rd.ANCHOR_NAME}
    return about | environment() | {"rows": rows, "pixels": pixels}


def photograph() -> tuple[str, np.ndarray]:
    """(name, uint8 (512, 768, 3)): LIVE1's parrots, or without LIVE1 the sample `coffee`, enlarged."""
    if live1_folder() is not None:
        return "parrots (LIVE1)", open_set("live1")["parrots"].load()
    coffee = Image.fromarray(open_set("samples")["coffee"].load())
    return "coffee (samples), enlarged from 600x400", np.array(coffee.resize((768, 512), Image.LANCZOS))


def rows_of(image: np.ndarray, codecs: Sequence[str], repeats: int, on_method: Callable) -> list[dict]:
    """A row a codec: setting, bytes, PSNR in dB, milliseconds, and their ratios to JPEG's.

    The last row is ours with the synthesis in float64, which only decodes.
    """
    size = len(pictures.encode(image, DEFAULT_RATE)[0])
    network, model = pictures.shipped_codec()
    exact = (computing(network, torch.float64, torch.channels_last), model)
    rows, methods = [], {}

    def add(codec: str, setting: int, data: bytes, decode: Callable[[bytes], np.ndarray]) -> None:
        psnr = metrics.psnr(image, decode(data))
        rows.append({"codec": codec, "setting": setting, "bytes": len(data), "psnr": psnr})
        methods[codec, "decode"] = partial(decode, data)

    for codec in codecs:
        settings, coder = rd.CODERS[codec]
        encode = partial(coder.encode, max_threads=1) if codec == "avif" else coder.encode
        setting = DEFAULT_RATE if codec == "ours" else nearest(encode, image, settings, size)
        methods[codec, "encode"] = partial(encode, image, setting)
        data = encode(image, setting)
        add(codec, setting, data, coder.decode)
        if codec == "ours":
            add(EXACT, setting, data, partial(pictures.decode, codec=exact))
    times = medians(methods, repeats, on_method)
    for row in rows:
        for way in ("encode", "decode"):
            row[way] = times.get((row["codec"], way))
            row[f"{way}_ratio"] = row[way] and row[way] / times["jpeg", way]
    return rows


def nearest(encode: Callable, image: np.ndarray, settings: Sequence[int], size: int) -> int:
    """The setting, between the first and the last of `settings`, whose file comes closest to `size` bytes."""
    step = 1 if settings[0] < settings[-1] else -1
    every = range(settings[0], settings[-1] + step, step)  # from small files to large ones
    index = bisect.bisect_left(every, size, key=lambda setting: len(encode(image, setting)))
    return min(every[max(0, index - 1) : index + 1], key=lambda s: abs(len(encode(image, s)) - size))


def differences(data: bytes, codec: tuple[nn.Module, bytes]) -> list[dict]:
    """How many samples of a file's picture differ between ways to compute the synthesis; one row a way.

    float32 and float64 each in CONFIGURATIONS against the first of their own; the first of float64
    against that of float32. `samples` of the picture, `different` ones, `largest` difference in levels.
    """
    network, model = codec
    rows, own = [], {}
    for dtype, name in itertools.product((torch.float32, torch.float64), CONFIGURATIONS):
        layout, onednn = CONFIGURATIONS[name]
        variant = computing(network, dtype, layout), model
        # oneDNN's switch warns of Intel's GPUs
        with warnings.catch_warnings(action="ignore"), torch.backends.mkldnn.flags(enabled=onednn):
            picture = pictures.decode(data, variant)
        first = own.setdefault(dtype, picture)
        apart = np.abs(picture.astype(int) - (own[torch.float32] if picture is first else first))
        row = {"synthesis": str(dtype).removeprefix("torch."), "configuration": name, "samples": apart.size}
        rows.append(row | {"different": int((apart > 0).sum()), "largest": int(apart.max())})
    return rows


def computing(network: nn.Module, dtype: torch.dtype, layout: torch.memory_format) -> nn.Module:
    """A copy of the network whose synthesis computes in another type and memory layout."""
    network = copy.deepcopy(network)

    def convert(synthesis: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
        return inputs[0].to(dtype).contiguous(memory_format=layout)

    network.synthesis.to(dtype).register_forward_pre_hook(convert)
    return network.eval()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch, one core for whatever starts threads by itself, as AVIF's decoder does."""
    with contextlib.ExitStack() as afterwards:
        afterwards.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        if hasattr(os, "sched_setaffinity"):
            cores = os.sched_getaffinity(0)
            afterwards.callback(os.sched_setaffinity, 0, cores)
            os.sched_setaffinity(0, {max(cores)})
        yield
