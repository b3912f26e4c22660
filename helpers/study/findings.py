"""What the study found, each line read from records: for the README and the report's opening page."""

from statistics import mean
from typing import NamedTuple

import pandas as pd

from helpers.experiments import statistics
from helpers.files import DATA, RESULTS
from helpers.records import read_record
from helpers.study import rate_distortion as rd
from helpers.study import rate_distortion_figures as figures

STORY = ("04_front", "05_rate_distortion", "06_cost")  # what the opening page shows


class Finding(NamedTuple):
    """A question, its answer in numbers with their protocol, and the notebook that shows how."""

    question: str
    answer: str
    notebook: str


def findings() -> list[Finding]:
    """The study's findings, in the order of its questions."""
    return [
        Finding("Can a network imitate JPEG?", _imitated(), "04_pytorch_cnns"),
        Finding("Can it undo JPEG?", _restored(), "04_pytorch_cnns"),
        Finding("Can it replace JPEG?", _compressed(), "05_learned_codec"),
        Finding("Which parts matter?", _ablation_finding(), "06_ablations"),
        Finding("How fast is NumPy alone?", _speed_finding(), "03_numpy_network"),
        Finding("How does a test deceive?", _leaked(), "02_preprocessing"),
    ]


def recorded(weights: str, images: str, reference: str) -> tuple[float, float, float]:
    """(PSNR of the do-nothing baseline and of the weights, MAC a pixel) at quality 10, from their record."""
    record = read_record(f"{weights}_{images}")
    rows = [row for row in record["rows"] if row["reference"] == reference and row["quality"] == 10]
    found = {row["method"]: row["psnr"] for row in rows}
    return found["identity"], found[weights], record["macs_per_pixel"]


def _imitated() -> str:
    nothing, ours, macs = recorded("imitate_y_q10", "live1", "jpeg")
    return (
        f"{ours:.1f} dB against the real JPEG of quality 10, where doing nothing has "
        f"{nothing:.1f} dB (LIVE1, luma); {macs:,.0f} multiplications a pixel"
    )


def _restored() -> str:
    nothing, ours, macs = recorded("restore_y_q10", "live1", "original")
    nothing_in_colour, ours_in_colour, _ = recorded("restore_rgb_q10", "live1", "original")
    parts = [f"luma {nothing:.2f} to {ours:.2f} dB"]
    published = pd.read_csv(DATA / "published.csv").sort_values("psnr")
    published = published.query("task == 'restore' and space == 'y' and quality == 10")
    passed, better = published.query("psnr < @ours"), published.query("psnr > @ours")
    if len(passed) and len(better):
        parts.append(f"past {passed['method'].iloc[-1]}, behind {better['method'].iloc[0]}")
    parts.append(f"colour {nothing_in_colour:.2f} to {ours_in_colour:.2f} dB")
    text = ", ".join(parts)
    return f"LIVE1, quality 10: {text}; on luma {macs / 1000:,.0f} thousand multiplications a pixel"


def _compressed() -> str:
    rates = rd.bd_rates(pd.read_csv(RESULTS / "rd_live1.csv")).set_index("codec")["psnr"]
    others = rates.drop(["ours", "jpeg", "jpeg444"]).rename(lambda name: figures.NAMES[name].split(",")[0])
    passed, ahead = others[others > rates["ours"]].index, others[others < rates["ours"]].index
    fits, _, count = figures.fit_rates()
    return (
        f"{rates['ours']:+.1f} % bytes at equal PSNR (BD-rate against {rd.ANCHOR_NAME}, LIVE1, "
        f"{rd.WINDOW[0]:.0f} to {rd.WINDOW[1]:.0f} dB); past {' and '.join(passed) or 'none'}, "
        f"behind {' and '.join(ahead) or 'none'}; fitted to each picture for {figures.SECONDS} s of one core "
        f"{fits['fitted']:+.1f} % ({count} scenes, where AVIF has {fits['avif']:+.1f} %)"
    )


def _ablation_finding() -> str:
    table = statistics.experiment_table("restore", statistics.load("restore")).set_index("experiment")
    counts = table["verdict"].value_counts()
    best = [f"{name} ({value:+.2f} dB)" for name, value in table["difference"].nlargest(2).items()]
    same = int(table["difference"].round(4).duplicated(keep=False).sum())  # to the last digit alike
    return (
        f"Of {len(table)} changes of a small restorer, five runs each, {counts.get('helps', 0)} help, "
        f"{counts.get('hurts', 0)} hurt ({same} of them gave the JPEG back), "
        f"{counts.get('diverged', 0) or 'none'} diverged, for {counts.get('no evidence', 0)} there is no "
        f"evidence; most gained {' and '.join(best)}"
    )


def _speed_finding() -> str:
    rows = [r for r in read_record("bench_numpy")["rows"] if r["pass"] == "step" and r["threads"] == 1]
    ratios, channels = [r["ratio"] for r in rows], [r["size"].split("x")[1] for r in rows]
    return (
        f"A training step takes {min(ratios):.2f} to {max(ratios):.2f} times PyTorch's on one thread, "
        f"for convolutions of {channels[0]} to {channels[-1]} channels"
    )


def _leaked() -> str:
    gains = read_record("leak_live1")["gains_db"]
    leak, honest = mean(gains["files shuffled (leaks)"]), mean(gains["split by scene"])
    return (
        f"A learner that only remembers blocks seems to gain {leak:+.1f} dB when a scene's files lie on both "
        f"sides of the split; split by scene it shows {honest:+.1f} dB"
    )
