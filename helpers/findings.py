"""What the study found, each line read from records: for the README and the report's opening page."""

from dataclasses import dataclass
from statistics import mean

import numpy as np
import pandas as pd

from helpers import DATA, FIGURES, RESULTS, ROOT, jpeg, metrics, plots, rd, rd_report
from helpers.codec import pictures
from helpers.data import center_crop, open_set
from helpers.evaluation import markdown, write_between
from helpers.experiments import statistics
from helpers.rd_report import NAMES
from helpers.records import read_record
from helpers.restoring import reconstruct
from helpers.weights import WEIGHTS, load_network

SHOWN = "coffee"  # in the README's picture
STORY = ("04_front", "05_rate_distortion", "06_cost")  # what the opening page shows


@dataclass(frozen=True)
class Finding:
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
        Finding("Which parts matter?", _asked(), "06_ablations"),
        Finding("How fast is NumPy alone?", _fast(), "03_numpy_network"),
        Finding("How does a test deceive?", _leaked(), "02_preprocessing"),
    ]


def write_findings() -> None:
    """Draws the table of findings in README.md anew."""
    write_between(ROOT / "README.md", "findings", table())


def table() -> str:
    """Markdown: question, finding, and a link to its notebook."""
    return (
        markdown(
            [
                {"question": f"[{f.question}](notebooks/{f.notebook}.ipynb)", "found": f.answer}
                for f in findings()
            ]
        )
        + "\n"
    )


def write_picture() -> None:
    """Draws figures/picture.png anew, and its captions in README.md."""
    panels = picture()
    plots.pictures(panels, columns=len(panels), side=2.8).savefig(FIGURES / "picture.png")
    alt = f"A part of the photograph {SHOWN}: {'; '.join(panels).replace(chr(10), ', ')}"
    write_between(ROOT / "README.md", "picture", f"![{alt}](figures/picture.png)\n")


def picture() -> dict[str, np.ndarray]:
    """A part of a sample by its caption: as it was, as JPEG, restored, and by our codec in as many bytes."""
    original = open_set("samples")[SHOWN].load()
    file = jpeg.encode(original, 10)
    restorer, _ = load_network(WEIGHTS / "restore_rgb.safetensors", "restore", "rgb")
    ours, coded = pictures.encode_within(original, len(file))
    made = {
        f"JPEG, {len(file):,} bytes": jpeg.decode(file),
        "restored, the same file": reconstruct(restorer, jpeg.decode(file)),
        f"our codec, {len(ours):,} bytes": coded,
    }
    captions = {f"{name}\n{metrics.psnr(original, image):.1f} dB": image for name, image in made.items()}
    return {
        name: center_crop(image, (180, 210)) for name, image in {"original": original, **captions}.items()
    }


def _row(record: str, method: str, reference: str) -> dict:
    rows = read_record(record)["rows"]
    return next(
        r for r in rows if r["method"] == method and r["reference"] == reference and r["quality"] == 10
    )


def _imitated() -> str:
    record = "imitate_y_q10_live1"
    ours, nothing = _row(record, "imitate_y_q10", "jpeg"), _row(record, "identity", "jpeg")
    macs = read_record(record)["macs_per_pixel"]
    return (
        f"{ours['psnr']:.1f} dB against the real JPEG of quality 10, where doing nothing has "
        f"{nothing['psnr']:.1f} dB (LIVE1, luma); {macs:,.0f} multiplications a pixel"
    )


def _restored() -> str:
    published = pd.read_csv(DATA / "published.csv").query(
        "task == 'restore' and space == 'y' and quality == 10"
    )
    parts = []
    for space, name in (("y", "luma"), ("rgb", "colour")):
        record = f"restore_{space}_q10_live1"
        ours, nothing = _row(record, f"restore_{space}_q10", "original"), _row(record, "identity", "original")
        parts.append(f"{name} {nothing['psnr']:.2f} to {ours['psnr']:.2f} dB")
        if space == "y":
            passed = published[published["psnr"] < ours["psnr"]].sort_values("psnr")["method"]
            better = published[published["psnr"] > ours["psnr"]].sort_values("psnr")["method"]
            parts.append(
                f"past {passed.iloc[-1]}, behind {better.iloc[0]}" if len(passed) and len(better) else ""
            )
    macs = read_record("restore_y_q10_live1")["macs_per_pixel"]
    text = ", ".join(part for part in parts if part)
    return f"LIVE1, quality 10: {text}; on luma {macs / 1000:,.0f} thousand multiplications a pixel"


def _compressed() -> str:
    rates = rd.bd_rates(pd.read_csv(RESULTS / "rd_live1.csv")).set_index("codec")["psnr"]
    others = rates.drop(["ours", "jpeg", "jpeg444"])
    passed = [NAMES[name].split(",")[0] for name, rate in others.items() if rate > rates["ours"]]
    ahead = [NAMES[name].split(",")[0] for name, rate in others.items() if rate < rates["ours"]]
    return (
        f"{rates['ours']:+.1f} % bytes at equal PSNR (BD-rate against {rd.ANCHOR_NAME}, LIVE1, "
        f"{rd.WINDOW[0]:.0f} to {rd.WINDOW[1]:.0f} dB); past {' and '.join(passed) or 'none'}, "
        f"behind {' and '.join(ahead) or 'none'}; fitted to each picture {_fitted()}"
    )


def _fitted() -> str:
    rates, _, count = rd_report.fit_rates()
    return (
        f"for {rd_report.SECONDS} s of one core {rates['fitted']:+.1f} % ({count} scenes, where AVIF has "
        f"{rates['avif']:+.1f} %)"
    )


def _asked() -> str:
    cards = statistics.card_table("restore", statistics.load("restore")).set_index("card")
    counts = cards["verdict"].value_counts()
    best = cards["difference"].nlargest(2)
    same = int(cards["difference"].round(4).duplicated(keep=False).sum())  # to the last digit alike
    return (
        f"Of {len(cards)} changes of a small restorer, five runs each, {counts.get('helps', 0)} help, "
        f"{counts.get('hurts', 0)} hurt ({same} of them gave the JPEG back), "
        f"{counts.get('diverged', 0) or 'none'} diverged, for {counts.get('no evidence', 0)} there is no "
        "evidence; most "
        "gained " + " and ".join(f"{name} ({value:+.2f} dB)" for name, value in best.items())
    )


def _fast() -> str:
    rows = [r for r in read_record("bench_numpy")["rows"] if r["pass"] == "step" and r["threads"] == 1]
    ratios = [r["ratio"] for r in rows]
    return (
        f"A training step takes {min(ratios):.2f} to {max(ratios):.2f} times PyTorch's on one thread, "
        f"for convolutions of {rows[0]['size'].split('x')[1]} to {rows[-1]['size'].split('x')[1]} channels"
    )


def _leaked() -> str:
    gains = {name: mean(values) for name, values in read_record("leak_live1")["gains_db"].items()}
    leak, honest = gains["files shuffled (leaks)"], gains["split by scene"]
    return (
        f"A learner that only remembers blocks seems to gain {leak:+.1f} dB when a scene's files lie on both "
        f"sides of the split; split by scene it shows {honest:+.1f} dB"
    )
