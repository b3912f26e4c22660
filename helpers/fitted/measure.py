"""What fitting reaches on an image set: rate and distortion at several rates, and how they improve with time.

    python -c "from helpers.fitted.measure import measure; measure('live1', minutes=5, workers=2)"

goes on where it was stopped; a run that is finished costs nothing again.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass

import pandas as pd
import torch

from helpers import RESULTS, metrics
from helpers.data import open_set
from helpers.experiments import sweep
from helpers.fitted.encoding import Attempt, Encoder, Wish
from helpers.processes import processes
from helpers.rd import COLUMNS
from helpers.records import environment, write_file

RATES = (14, 28, 42, 56)
# Their rows as `helpers.rd` has them, and those of every whole file on the way.
TABLES = {
    "fitted_rd": [*COLUMNS, "minutes"],
    "fitted_seconds": ["image", "setting", "seconds", "bytes", "psnr"],
}


@dataclass(frozen=True)
class FittedRun:
    """A picture of a set, fitted at a rate for some minutes of one thread."""

    images: str
    image: str
    rate: int
    minutes: float

    def key(self) -> str:
        return f"fitted-{self.images}-{self.image}-{self.rate}-{self.minutes:g}"


def measure(images: str, minutes: float, workers: int, scenes: list[str] | None = None) -> None:
    """Fits what is missing of all, or the named, pictures of a set at RATES; then writes TABLES."""
    names = scenes or [scene.name for scene in open_set(images).scenes]
    runs = [FittedRun(images, name, rate, minutes) for name in names for rate in RATES]
    left = [run for run in runs if not (sweep.FILES / f"{run.key()}.json").exists()]
    with processes(workers) as pool:
        sweep.sweep(left, pool, _tell, lambda line: print(line, file=sys.stderr), fitted)
    records = [json.loads((sweep.FILES / f"{run.key()}.json").read_text()) for run in runs]
    rows = [record["row"] | {"minutes": record["run"]["minutes"]} for record in records]
    points = [
        {"image": record["run"]["image"], "setting": record["run"]["rate"]} | point
        for record in records
        for point in record["attempts"]
    ]
    for (name, columns), table in zip(TABLES.items(), (rows, points), strict=True):
        frame = pd.DataFrame(table, columns=columns).round(6)
        write_file(RESULTS / f"{name}.csv", frame.to_csv(index=False).encode())


def fitted(run: FittedRun) -> dict:
    """The record of a run: its row, every whole file on the way, and where it was made."""
    torch.set_num_threads(1)
    image, attempts, start = open_set(run.images)[run.image].load(), [], time.monotonic()

    def on_attempt(attempt: Attempt) -> None:
        attempts.append(
            {"seconds": time.monotonic() - start, "bytes": len(attempt.data), "psnr": attempt.psnr}
        )

    data, decoded = Encoder(Wish(60 * run.minutes, run.rate), on_attempt=on_attempt)(image)
    values = (
        metrics.bits_per_pixel(data, image),
        metrics.psnr(image, decoded),
        metrics.ssim(image, decoded),
        metrics.ms_ssim(image, decoded),
    )
    return {
        "key": run.key(),
        "run": asdict(run),
        "row": dict(zip(COLUMNS, ("fitted", run.rate, run.image, len(data), *values), strict=True)),
        "attempts": attempts,
        **environment(),
    }


def _tell(record: dict) -> None:
    row = record["row"]
    print(f"{record['key']}: {row['bpp']:.3f} bits a pixel, {row['psnr']:.2f} dB", flush=True)
