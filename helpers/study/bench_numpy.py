"""Speed as ratios measured in one run: the NumPy network next to PyTorch's on the same threads."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch
from torch import nn

from helpers import numpy_net
from helpers.numpy_net import winograd
from helpers.records import environment

SIZES = ((16, 16, 32, 32), (16, 32, 64, 64), (8, 64, 64, 64))  # batch, channels, height, width
THREADS = (1, 2)
REPEATS = 20
ROWS = 2 * len(SIZES) * len(THREADS)


def numpy_against_torch(size: tuple[int, int, int, int], threads: int, repeats: int = REPEATS) -> list[dict]:
    """Forward and training step of conv3x3, ReLU, conv3x3 with MSE and Adam, float32: one row each.

    Milliseconds, medians of `repeats` steps; the ratio is to the faster of PyTorch's two layouts. `floor`
    is what the matrix products alone would take: those that Winograd's algorithm leaves, at the rate
    NumPy reaches on one block of this size.
    """
    numpy_net.set_threads(threads)
    torch.set_num_threads(threads)
    n, channels, height, width = size
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((2, n, height, width, channels)).astype(np.float32)
    first, second = (numpy_net.Conv2d(channels, channels, 3, rng, padding=1) for _ in range(2))
    ours = numpy_net.Sequential(first, numpy_net.ReLU(), second)
    optimizer = numpy_net.Adam(ours)

    def step() -> None:
        _, gradient = numpy_net.mse(ours.forward(x, training=True), target)
        ours.backward(gradient, to_input=False)
        optimizer.step(1e-3)

    forwards, steps = {"numpy": lambda: ours.forward(x)}, {"numpy": step}
    for name, layout in (("torch", torch.contiguous_format), ("channels_last", torch.channels_last)):
        forwards[name], steps[name] = _in_torch(x, target, layout)
    products = n * height * width * 9 * channels**2 / 2
    rate = _product_rate(channels, height, width, n)
    rows = []
    for kind, methods, convolutions in (("forward", forwards, 2), ("step", steps, 5)):
        times = medians(methods, repeats)
        floor = 1e3 * convolutions * products / (threads * rate)
        ratio = times["numpy"] / min(times["torch"], times["channels_last"])
        row = {"size": "x".join(map(str, size)), "threads": threads, "pass": kind} | times
        rows.append(row | {"ratio": ratio, "floor": floor, "gmac_per_second": rate / 1e9})
    return rows


def record(on_row: Callable[[dict], None]) -> dict:
    """The whole benchmark's record; `on_row` sees each row as it is measured."""
    rows = []
    for threads, size in itertools.product(THREADS, SIZES):
        for row in numpy_against_torch(size, threads):
            rows.append(row)
            on_row(row)
    numpy_net.set_threads(1)
    title = "conv3x3, ReLU, conv3x3, MSE, Adam; float32; median of 20 steps, ms"
    return {"benchmark": title, **environment(), "rows": rows}


def _in_torch(x: np.ndarray, target: np.ndarray, layout: torch.memory_format) -> tuple[Callable, Callable]:
    """PyTorch's forward pass and training step on the same arrays."""
    first, second = (nn.Conv2d(x.shape[-1], x.shape[-1], 3, padding=1) for _ in range(2))
    network = nn.Sequential(first, nn.ReLU(), second).to(memory_format=layout)
    x, target = (torch.tensor(a.transpose(0, 3, 1, 2)).contiguous(memory_format=layout) for a in (x, target))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)

    def forward() -> None:
        with torch.inference_mode():
            network(x)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(network(x), target).backward()
        optimizer.step()

    return forward, step


def medians(methods: dict[str, Callable], repeats: int, on_turn: Callable = lambda: None) -> dict:
    """Median milliseconds of each, by name, in four turns, so that all meet the same machine."""
    times = {name: [] for name in methods}
    for _ in range(4):
        for name, method in methods.items():
            time.sleep(0.1)  # PyTorch's idle threads turn for a while before they let go of the processor
            method()  # warms up, not counted
            for _ in range(-(-repeats // 4)):
                start = time.perf_counter()
                method()
                times[name].append(1e3 * (time.perf_counter() - start))
            on_turn()
    return {name: statistics.median(found) for name, found in times.items()}


def _product_rate(channels: int, height: int, width: int, n: int) -> float:
    """Multiply-accumulates a second of NumPy's products on one block of this size, on one thread."""
    padded = np.empty((n, -(-height // 4) * 4 + 2, width + 2, channels), np.float32)
    first, last, top, bottom = winograd.blocks_of(padded, channels)[0]
    third = (last - first) * (bottom - top) * (width + 2) // 3
    windows = np.ones((6, 3, third, 3 * channels), np.float32)
    kernel, out = np.ones((6, 1, 3 * channels, channels), np.float32), np.empty((6, 3, third, channels), "f")
    seconds = medians({"product": lambda: np.matmul(windows, kernel, out=out)}, REPEATS)["product"] / 1e3
    return windows.size * channels / seconds


def table(rows: Iterable[dict]) -> pd.DataFrame:
    """The record's rows as a table."""
    titles = {"torch": "torch, NCHW", "channels_last": "torch, channels-last", "floor": "products alone"}
    return pd.DataFrame(rows).drop(columns="gmac_per_second").rename(columns=titles)
