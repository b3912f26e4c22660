"""For readers: predictions that are kept, and checks of exercises that name the mistake."""

import json
import math
import re
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from helpers import jpeg, metrics
from helpers.files import DATA, ROOT, StudyError, write_file

LEDGER = DATA / "predictions.json"
NO_ANSWER = "the answer is still None; the solution is folded below"


def predict(key: str, question: str, low: float | None = None, high: float | None = None) -> None:
    """Keeps the reader's interval for a number that is measured next; without one, says how to answer.

    Each answer replaces the reader's earlier one under the same key in data/predictions.json, which
    git ignores. Raises ValueError where only one end is given or they are the wrong way round.
    """
    print(question)
    if low is None and high is None:
        how = "put low=... and high=... into the cell, then run it. You can go on without."
        print(f"No prediction yet: {how}")
        return
    if low is None or high is None or not low <= high:
        raise ValueError(f"a prediction needs low <= high, not low={low}, high={high}")
    _write_ledger(_read_ledger() | {key: {"question": question, "low": low, "high": high}})
    print(f"Kept: between {low:g} and {high:g}.")


def reveal(key: str, measured: float, unit: str) -> None:
    """Says what was measured and, if there is a prediction, whether it was inside; keeps the result."""
    print(f"Measured: {measured:.2f} {unit}.")
    ledger = _read_ledger()
    if key not in ledger:
        return
    low, high = ledger[key]["low"], ledger[key]["high"]
    ledger[key]["measured"] = float(measured)
    _write_ledger(ledger)
    side = "inside" if low <= measured <= high else "below" if measured < low else "above"
    print(f"Your interval was {low:g} to {high:g}: the measurement lies {side} it.")


def answers() -> pd.DataFrame:
    """A row a question that the notebooks ask, in that order: notebook, key, low, high, measured, inside.

    low and high are nan where the reader typed nothing, measured where nothing was revealed since; inside
    is False then.
    """
    rows, ledger = [], _read_ledger()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        sources = "".join("".join(cell["source"]) + "\n" for cell in json.loads(path.read_text())["cells"])
        for key in re.findall(r'checks\.predict\(\s*"([^"]+)"', sources):
            rows.append({"notebook": path.stem, "key": key, **ledger.get(key, {})})
    columns = ["notebook", "key", "low", "high", "measured"]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:], float))
    return table.assign(inside=table["measured"].between(table["low"], table["high"]))


def check_psnr(answer: Callable[[np.ndarray, np.ndarray], float]) -> None:
    """Tests a PSNR function of two uint8 images and says which convention is off, if one is."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
    second = np.clip(first + rng.integers(-12, 13, first.shape), 0, 255).astype(np.uint8)
    wrapped = np.mean((first - second).astype(float) ** 2)  # the bug itself: uint8 wraps around
    difference = first.astype(float) - second
    squared, absolute = np.mean(difference**2), np.abs(difference).mean()
    of_channels = [_db(error) for error in np.mean(difference**2, axis=(0, 1))]
    mistakes = {
        "equal if the difference is taken in uint8, where 3 - 5 = 254: convert to float first": _db(wrapped),
        "the peak is 1 while the pixels run to 255 (48.13 dB too low)": _db(squared, 1.0),
        "48.13 dB too high: the pixels were divided by 255 and the peak left at 255": _db(squared / 255**2),
        "equal with the natural logarithm: decibels take log10": 10 * math.log(255**2 / squared),
        "equal with 20 log10 of a squared ratio: use 10 log10(255^2 / MSE)": 2 * _db(squared),
        "the sign is turned: the peak belongs above the error": -_db(squared),
        "equal with the mean absolute error: square the difference": _db(absolute),
        "channels are averaged in decibels: average the squared error first": np.mean(of_channels),
    }
    return _verdict(answer, (first, second), metrics.psnr(first, second), mistakes, 1e-6)


def check_bits_per_pixel(answer: Callable[[bytes, np.ndarray], float]) -> None:
    """Tests a rate function of (file bytes, image) and says what is off, if anything is."""
    image = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    data = jpeg.encode(image, 50)
    right = metrics.bits_per_pixel(data, image)
    mistakes = {
        "equal in bytes: a byte has 8 bits": right / 8,
        "divided by the channels too: a pixel is one position, whatever its channels": right / 3,
        "that is bits in all: divide by height times width": 8.0 * len(data),
        "that is the compression ratio: the question is bits per pixel": image.size / len(data),
    }
    return _verdict(answer, (data, image), right, mistakes)


def check_luma(answer: Callable[[np.ndarray], np.ndarray]) -> None:
    """Tests a luma function (uint8 RGB (H, W, 3) to uint8 (H, W)) and names the other convention, if any."""
    image = np.random.default_rng(2).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    exact = 16 + image @ (np.array([65.481, 128.553, 24.966]) / 255)
    grey = jpeg.full_range_grey(image)
    mistakes = {
        "equal to full-range grey (Pillow's L): the literature's Y runs from 16 to 235": grey,
        "channels are swapped: the order is R, G, B": jpeg.luma(image[..., ::-1]),
        "cut off instead of rounded": exact.astype(np.uint8),
        "not rounded: Y is a uint8 picture": exact,
        "the mean of the channels: green weighs most": np.rint(image.mean(axis=2)),
        "the 16 is missing": jpeg.luma(image).astype(int) - 16,
    }
    return _verdict(answer, (image,), jpeg.luma(image), mistakes, 0)


def check_patch_corner(answer: Callable[[int, int, int, np.random.Generator], tuple[int, int]]) -> None:
    """Tests a sampler of patch corners (row, column) on the 8x8 grid; says what is off, if anything is."""
    height, width, size = 72, 136, 64
    rng = np.random.default_rng(3)
    if (first := answer(height, width, size, rng)) is None:
        return _say(False, NO_ANSWER)
    corners = np.array([first] + [answer(height, width, size, rng) for _ in range(400)])
    problems = {
        "some corners are not on the grid: make rows and columns multiples of 8": np.any(corners % 8),
        "some patches leave the picture": np.any(corners < 0) or np.any(corners + size > [height, width]),
        "the last row or column of the grid is never drawn": np.any(corners.max(0) < [8, 72]),
        "every corner is the same: draw from the generator": np.all(corners == corners[0]),
        "rows and columns are swapped": corners[:, 0].max() > 8 >= corners[:, 1].max(),
    }
    found = [problem for problem, is_there in problems.items() if is_there]
    return _say(False, found[-1]) if found else _say(True)


def check_correlation(answer: Callable[[np.ndarray, np.ndarray, int], np.ndarray]) -> None:
    """Tests a zero-padded convolution of (H, W, C_in) with a kernel (3, 3, C_in, C_out)."""
    rng = np.random.default_rng(4)
    image, kernel = rng.standard_normal((7, 9, 3)), rng.standard_normal((3, 3, 3, 3))

    def made(kernel: np.ndarray, before: int = 1, after: int = 1, mode: str = "constant") -> np.ndarray:
        padded = np.pad(image, ((before, after), (before, after), (0, 0)), mode)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
        return np.einsum("ijcuv,uvco->ijo", windows, kernel)

    swapped, transposed = kernel.swapaxes(0, 1), kernel.swapaxes(2, 3)
    mistakes = {
        "equal if the kernel is flipped: a network's convolution does not flip it": made(kernel[::-1, ::-1]),
        "the kernel's rows and columns are swapped: w[u, v] belongs to row i + u": made(swapped),
        "channels are transposed: w[..., c, o] leads from input c to output o": made(transposed),
        "the padding is missing: put zeros round the picture first": made(kernel, 0, 0),
        "the padding is off by one: 1 on each side, not 2": made(kernel, 2, 2),
        "the padding lies above and left only: split it between both sides": made(kernel, 2, 0),
        "the padding lies below and right only: split it between both sides": made(kernel, 0, 2),
        "the border is repeated instead of zero": made(kernel, mode="edge"),
        "each output sees one input channel: sum over all of them": made(kernel * np.eye(3)),
    }
    return _verdict(answer, (image, kernel, 1), made(kernel), mistakes)


def check_batch_norm(answer: Callable[[np.ndarray, float], np.ndarray]) -> None:
    """Tests a batch normalisation of (N, H, W, C) by its own statistics, without scale and shift."""
    x, epsilon = 3 + 2 * np.random.default_rng(5).standard_normal((4, 5, 6, 3)), 0.5

    def normal(axes: int | tuple[int, ...] | None, ddof: int = 0) -> np.ndarray:
        variance = x.var(axes, ddof=ddof, keepdims=True)
        return (x - x.mean(axes, keepdims=True)) / np.sqrt(variance + epsilon)

    batch = (0, 1, 2)
    centred, variance = x - x.mean(batch), x.var(batch)
    mistakes = {
        "the batch mean is missing: subtract it first": x / np.sqrt(variance + epsilon),
        "only the mean is taken away: divide by the deviation": centred,
        "divided by the variance: take its square root": centred / (variance + epsilon),
        "epsilon is missing": centred / np.sqrt(variance),
        "epsilon belongs under the root": centred / (np.sqrt(variance) + epsilon),
        "the variance is divided by n - 1: in training it is by n": normal(batch, ddof=1),
        "each picture has its own mean: take it over the batch too": normal((1, 2)),
        "one mean for all channels: each channel has its own": normal(None),
        "one mean for each place: take it over height and width too": normal(0),
    }
    return _verdict(answer, (x, epsilon), normal(batch), mistakes)


def check_dense_gradient(answer: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Tests the gradient of y = x w + b with respect to w, from x (N, I) and the gradient for y (N, O)."""
    rng = np.random.default_rng(6)
    x, gradient = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    right = x.T @ gradient
    mistakes = {
        "transposed: weights are (inputs, outputs), and so is their gradient": right.T,
        "averaged over the batch: the loss has its mean in it already, sum here": right / len(x),
        "only the first picture counts: sum over the batch": np.outer(x[0], gradient[0]),
        "not summed over the batch": x[:, :, None] * gradient[:, None, :],
        "the sign is turned: the optimiser subtracts, not the gradient": -right,
    }
    return _verdict(answer, (x, gradient), right, mistakes)


def check_entropy(answer: Callable[[np.ndarray], float]) -> None:
    """Tests an entropy, in bits a number, of a histogram: how often each value occurred, some never."""
    counts = np.array([40, 25, 0, 20, 10, 5])
    some = counts[counts > 0]
    p = some / counts.sum()
    right = float(-(p * np.log2(p)).sum())
    mistakes = {
        "a value that never occurs makes 0 log 0, which is nan: leave it out": math.nan,
        "equal with the natural logarithm: bits take log2": right * math.log(2),
        "equal with log10: bits take log2": right * math.log10(2),
        "that is the bits of all numbers together: divide by how many there are": right * counts.sum(),
        "the sign is turned: the logarithm of a probability is negative": -right,
        "each value counts alike: weigh its bits by how often it occurs": -np.log2(p).mean(),
        "that is summed over the values: weigh each by how often it occurs": -np.log2(p).sum(),
        "counts are no probabilities: divide by their sum first": -(some * np.log2(some)).sum(),
        "that is what a code of one fixed length takes": math.log2(len(p)),
    }
    with np.errstate(divide="ignore", invalid="ignore"):  # the nan is a mistake with a name
        return _verdict(answer, (counts,), right, mistakes)


def check_number(answer: float | None, right: float, mistakes: Mapping[str, float]) -> None:
    """Tests a number worked out by hand against the right one and against known slips."""
    return _verdict(lambda: answer, (), right, mistakes)


def _verdict(answer: Callable, inputs: tuple, right: object, mistakes: Mapping, close: float = 1e-9) -> None:
    value = answer(*inputs)
    if value is None:
        return _say(False, NO_ANSWER)
    shape = np.shape(value)
    if shape == np.shape(right) and np.allclose(value, right, rtol=close, atol=close):
        return _say(True)
    for mistake, wrong in mistakes.items():
        if shape == np.shape(wrong) and np.allclose(value, wrong, rtol=1e-6, atol=1e-6, equal_nan=True):
            return _say(False, mistake)
    if shape != np.shape(right):
        return _say(False, f"shape {shape}, expected {np.shape(right)}")
    return _say(False, "the answer fits none of the usual slips; compare it with the formula term by term")


def _say(right: bool, reason: str = "") -> None:
    print("Right." if right else f"Not yet: {reason}.")


def _db(squared_error: float, peak: float = 255.0) -> float:
    return 10 * math.log10(peak**2 / squared_error)


def _read_ledger() -> dict:
    if not LEDGER.exists():
        return {}
    try:
        ledger = json.loads(LEDGER.read_text())
        return {key: {"low": kept["low"], "high": kept["high"], **kept} for key, kept in ledger.items()}
    except Exception as error:
        raise StudyError(f"{LEDGER}: is damaged ({error}); remove it and predict again") from None


def _write_ledger(ledger: dict) -> None:
    write_file(LEDGER, (json.dumps(ledger, indent=1) + "\n").encode())
