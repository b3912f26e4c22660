"""Checks of exercises: right answers pass, each usual mistake is named, predictions are kept."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import checks, jpeg, metrics, plots


def said(capsys, check, *arguments):
    check(*arguments)
    return capsys.readouterr().out.strip()


def mse(a, b):
    return np.mean((a.astype(float) - b.astype(float)) ** 2)


PSNR = {
    "3 - 5 = 254": lambda a, b: 10 * np.log10(255**2 / np.mean((a - b).astype(float) ** 2)),
    "peak is 1": lambda a, b: 10 * np.log10(1 / mse(a, b)),
    "divided by 255 and the peak": lambda a, b: 10 * np.log10(255**2 / mse(a / 255, b / 255)),
    "natural logarithm": lambda a, b: 10 * math.log(255**2 / mse(a, b)),
    "20 log10": lambda a, b: 20 * np.log10(255**2 / mse(a, b)),
    "sign is turned": lambda a, b: 10 * np.log10(mse(a, b) / 255**2),
    "absolute error": lambda a, b: 10 * np.log10(255**2 / np.abs(a.astype(float) - b).mean()),
    "averaged in decibels": lambda a, b: np.mean([metrics.psnr(a[..., c], b[..., c]) for c in range(3)]),
    "none of the usual slips": lambda a, b: 12.34,
    "still None": lambda a, b: None,
}
LUMA = {
    "full-range grey": lambda x: np.array(Image.fromarray(x).convert("L")),
    "swapped": lambda x: jpeg.luma(x[..., ::-1]),
    "cut off instead of rounded": lambda x: (16 + x @ (np.array([65.481, 128.553, 24.966]) / 255)).astype(
        np.uint8
    ),
    "not rounded": lambda x: 16 + x @ (np.array([65.481, 128.553, 24.966]) / 255),
    "mean of the channels": lambda x: np.rint(x.mean(axis=2)).astype(np.uint8),
    "16 is missing": lambda x: jpeg.luma(x) - 16,
    "shape (32, 24)": lambda x: jpeg.luma(x).T,
}
RATE = {
    "a byte has 8 bits": lambda f, x: len(f) / (x.shape[0] * x.shape[1]),
    "divided by the channels": lambda f, x: 8 * len(f) / x.size,
    "bits in all": lambda f, x: 8 * len(f),
    "compression ratio": lambda f, x: x.nbytes / len(f),
}
CORNER = {
    "not on the grid": lambda h, w, s, rng: (rng.integers(h - s + 1), rng.integers(w - s + 1)),
    "leave the picture": lambda h, w, s, rng: (8 * rng.integers(h // 8), 8 * rng.integers(w // 8)),
    "never drawn": lambda h, w, s, rng: (8 * rng.integers((h - s) // 8), 8 * rng.integers((w - s) // 8)),
    "every corner is the same": lambda h, w, s, rng: (8, 72),
    "rows and columns are swapped": lambda h, w, s, rng: right_corner(h, w, s, rng)[::-1],
}


def correlation(x, w, p, *, sides=None, mode="constant"):
    """A loop over the kernel, as a learner writes it."""
    padded = np.pad(x, (*(sides or ((p, p), (p, p))), (0, 0)), mode=mode)
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    return sum(padded[u : u + height, v : v + width] @ w[u, v] for u in range(3) for v in range(3))


CORRELATION = {
    "equal if the kernel is flipped": lambda x, w, p: correlation(x, w[::-1, ::-1], p),
    "rows and columns are swapped": lambda x, w, p: correlation(x, w.transpose(1, 0, 2, 3), p),
    "channels are transposed": lambda x, w, p: correlation(x, w.transpose(0, 1, 3, 2), p),
    "padding is missing": lambda x, w, p: correlation(x, w, 0),
    "padding is off by one": lambda x, w, p: correlation(x, w, p + 1),
    "above and left only": lambda x, w, p: correlation(x, w, p, sides=((2 * p, 0), (2 * p, 0))),
    "below and right only": lambda x, w, p: correlation(x, w, p, sides=((0, 2 * p), (0, 2 * p))),
    "border is repeated": lambda x, w, p: correlation(x, w, p, mode="edge"),
    "sum over all of them": lambda x, w, p: np.concatenate(
        [correlation(x[..., [c]], w[:, :, [c]][..., [c]], p) for c in range(3)], axis=2
    ),
    "shape (5, 9, 3), expected (7, 9, 3)": lambda x, w, p: correlation(x, w, p)[1:-1],
    "none of the usual slips": lambda x, w, p: 2 * correlation(x, w, p),
}


def normalised(x, e, axes=(0, 1, 2)):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + e)


BATCH_NORM = {
    "batch mean is missing": lambda x, e: x / np.sqrt(x.var((0, 1, 2)) + e),
    "only the mean": lambda x, e: x - x.mean((0, 1, 2)),
    "square root": lambda x, e: (x - x.mean((0, 1, 2))) / (x.var((0, 1, 2)) + e),
    "epsilon is missing": lambda x, e: (x - x.mean((0, 1, 2))) / x.std((0, 1, 2)),
    "under the root": lambda x, e: (x - x.mean((0, 1, 2))) / (x.std((0, 1, 2)) + e),
    "n - 1": lambda x, e: (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2), ddof=1) + e),
    "each picture has its own": lambda x, e: normalised(x, e, (1, 2)),
    "one mean for all channels": lambda x, e: normalised(x, e, (0, 1, 2, 3)),
    "one mean for each place": lambda x, e: normalised(x, e, 0),
}
DENSE = {
    "transposed": lambda x, g: g.T @ x,
    "averaged over the batch": lambda x, g: x.T @ g / len(x),
    "only the first picture": lambda x, g: np.outer(x[0], g[0]),
    "not summed": lambda x, g: np.einsum("ni,no->nio", x, g),
    "sign is turned": lambda x, g: -(x.T @ g),
}


def entropy(counts):
    p = counts[counts > 0] / counts.sum()
    return -(p * np.log2(p)).sum()


ENTROPY = {
    "0 log 0": lambda n: -(n / n.sum() * np.log2(n / n.sum())).sum(),
    "natural logarithm": lambda n: entropy(n) * np.log(2),
    "log10": lambda n: -sum(k / n.sum() * np.log10(k / n.sum()) for k in n if k),
    "bits of all numbers together": lambda n: entropy(n) * n.sum(),
    "sign is turned": lambda n: -entropy(n),
    "counts alike": lambda n: np.mean([-np.log2(k / n.sum()) for k in n if k]),
    "summed over the values": lambda n: sum(-np.log2(k / n.sum()) for k in n if k),
    "no probabilities": lambda n: -sum(k * np.log2(k) for k in n if k),
    "one fixed length": lambda n: np.log2((n > 0).sum()),
    "none of the usual slips": lambda n: 2 * entropy(n),
}


def right_corner(height, width, size, rng):
    return 8 * rng.integers((height - size) // 8 + 1), 8 * rng.integers((width - size) // 8 + 1)


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (checks.check_psnr, metrics.psnr),
        (checks.check_luma, jpeg.luma),
        (checks.check_bits_per_pixel, metrics.bits_per_pixel),
        (checks.check_patch_corner, right_corner),
        (checks.check_correlation, correlation),
        (checks.check_batch_norm, normalised),
        (checks.check_dense_gradient, lambda x, g: x.T @ g),
        (checks.check_entropy, entropy),
    ],
)
def test_right_answers_pass(capsys, check, answer):
    assert said(capsys, check, answer) == "Right."


@pytest.mark.parametrize(
    ("check", "name", "answer"),
    [
        (check, name, answer)
        for check, answers in (
            (checks.check_psnr, PSNR),
            (checks.check_luma, LUMA),
            (checks.check_bits_per_pixel, RATE),
            (checks.check_patch_corner, CORNER),
            (checks.check_correlation, CORRELATION),
            (checks.check_batch_norm, BATCH_NORM),
            (checks.check_dense_gradient, DENSE),
            (checks.check_entropy, ENTROPY),
        )
        for name, answer in answers.items()
    ],
)
def test_each_mistake_is_named(capsys, check, name, answer):
    text = said(capsys, check, answer)
    assert text.startswith("Not yet: ") and name in text


def test_a_number_is_checked_against_its_slips(capsys):
    assert said(capsys, checks.check_number, 5, 5, {}) == "Right."
    assert "the bias is missing" in said(capsys, checks.check_number, 4, 5, {"the bias is missing": 4})
    assert "still None" in said(capsys, checks.check_number, None, 5, {})


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "LEDGER", tmp_path / "predictions.json")
    return checks.LEDGER


def test_without_a_prediction_nothing_is_kept(ledger, capsys):
    checks.predict("key", "How much?")
    checks.reveal("key", 3.0, "dB")
    assert not ledger.exists() and "Measured: 3.00 dB." in capsys.readouterr().out


@pytest.mark.parametrize(("measured", "side"), [(3.0, "inside"), (1.0, "below"), (9.0, "above")])
def test_a_prediction_is_kept_and_compared(ledger, capsys, measured, side):
    checks.predict("key", "How much?", 2, 4)
    checks.reveal("key", measured, "dB")
    assert f"lies {side} it" in capsys.readouterr().out
    assert json.loads(ledger.read_text())["key"] == {
        "question": "How much?",
        "low": 2,
        "high": 4,
        "measured": measured,
    }


def test_half_a_prediction_is_refused(ledger):
    for low, high in ((1, None), (None, 1), (2, 1)):
        with pytest.raises(ValueError, match="low <= high"):
            checks.predict("key", "How much?", low, high)


def test_the_ledger_lists_every_question_in_the_order_of_asking(ledger):
    table = checks.answers()
    assert list(table["notebook"]) == sorted(table["notebook"]) and table["key"].is_unique
    assert {"difference-entropy", "equal-bytes-gain", "least-gain"} <= set(table["key"])
    assert table[["low", "high", "measured"]].isna().all(axis=None) and not table["inside"].any()


def test_the_ledger_says_which_intervals_held(ledger):
    for key, measured in (("leak-gain", 3.0), ("jpeg-q10-psnr", 9.0)):
        checks.predict(key, "How much?", 2, 4)
        checks.reveal(key, measured, "dB")
    checks.predict("restore-ladder", "How much?", 2, 4)  # not revealed
    table = checks.answers().set_index("key")
    assert table["inside"].sum() == 1 and table["inside"]["leak-gain"]
    assert table["low"].notna().sum() == 3 and table["measured"].notna().sum() == 2


def test_the_calibration_plot_puts_each_measurement_into_its_interval():
    found = pd.DataFrame(
        {"notebook": ["a", "a", "b"], "low": [0.0, 0, 1], "high": [4.0, 1, 1], "measured": [1.0, 9, 1]}
        | {"inside": [True, False, True]}
    )
    axis = plots.calibration(found).axes[0]
    held, missed = axis.lines
    assert held.get_xdata().tolist() == [0.25, 0.0] and list(held.get_ydata()) == [0, 1]
    assert missed.get_xdata().tolist() == [3.0]  # eight widths above, drawn at the edge
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a: 1 of 2", "b: 1 of 1"]


def test_the_front_is_the_best_that_each_cost_buys():
    cloud = pd.DataFrame({"seconds": [3.0, 1, 2, 1], "psnr": [30.0, 28, 27, 29]})
    named = pd.DataFrame({"psnr": [31.0, 32]}, index=["a", "b"]).assign(seconds=[4, None])
    axis = plots.fronts(cloud, {"ours": named}, {"seconds": "s"}, "dB", ("nothing", 26)).axes[0]
    lines = {line.get_label(): line for line in axis.lines}
    assert lines["their front"].get_ydata().tolist() == [28, 29, 29, 30]
    assert lines["ours"].get_xdata().tolist() == [4] and [text.get_text() for text in axis.texts] == ["a"]
