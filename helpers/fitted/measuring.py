"""Records of fits: eight scenes of LIVE1 at four rates, three of them within other times too.

    python -c "from helpers.fitted.measuring import measure; measure(workers=2)"

may be stopped and goes on where it was; a fit that is recorded is not done again.
"""

import time
from collections.abc import Iterable
from concurrent.futures import as_completed
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from tqdm import tqdm

from helpers import DATA, RESULTS, metrics
from helpers.data import open_set
from helpers.fitted.encoding import Encoder, Wish
from helpers.processes import processes
from helpers.rd import COLUMNS
from helpers.records import environment, make_folder, write_file

FILES = DATA / "runs" / "fitted"
TABLE = RESULTS / "fitted_live1.csv"
EVERY, RATES, SECONDS = 4, (4, 23, 42, 61), 200  # every fourth scene, at these rates, in so many seconds
FEW, RATE, TIMES = 12, 42, (25, 50, 100)  # every twelfth scene at one rate, in other times too


class Job(NamedTuple):
    """One fit; `seconds` of one core."""

    image: str
    rate: int
    seconds: int

    def file(self) -> Path:
        """Where it leaves its row; what is there is not done again."""
        return FILES / f"{self.image}-{self.rate}-{self.seconds}.csv"


def jobs(names: list[str]) -> list[Job]:
    """All fits of a set's scenes; those that every plot needs come first."""
    found = [Job(name, rate, SECONDS) for rate in RATES for name in names[::EVERY]]
    return found + [Job(name, RATE, seconds) for seconds in TIMES for name in names[::FEW]]


def measure(workers: int) -> None:
    """Does the fits of LIVE1 that have no file in FILES, and then writes TABLE."""
    make_folder(FILES)
    wanted = jobs(sorted(scene.name for scene in open_set("live1").scenes))
    left = [job for job in wanted if not job.file().exists()]
    with processes(workers) as pool, tqdm(total=len(wanted), initial=len(wanted) - len(left)) as bar:
        for future in as_completed([pool.submit(fit_scene, job) for job in left]):
            future.result()
            bar.update()
    gather(wanted)


def fit_scene(job: Job) -> None:
    """Fits a scene on one thread, timed by what the processor did for it, and writes the job's file."""
    torch.set_num_threads(1)
    image = open_set("live1")[job.image].load()
    start = time.process_time()
    encoder = Encoder(Wish(job.seconds, job.rate), clock=time.process_time)
    data, picture = encoder(image)
    took = time.process_time() - start  # the last search for the weights' steps comes after the budget
    found = (
        *("fitted", job.rate, job.image, len(data), metrics.bits_per_pixel(data, image)),
        *(metric(image, picture) for metric in (metrics.psnr, metrics.ssim, metrics.ms_ssim)),
    )
    where = environment()
    row = {
        **dict(zip(COLUMNS, found, strict=True)),
        "seconds": job.seconds,
        "took": took,
        "visits": encoder.visits,
        **{name: where[name] for name in ("commit", "python", "processor")},
        "torch": where["versions"]["torch"],
    }
    write_file(job.file(), pd.DataFrame([row]).round(6).to_csv(index=False).encode())


def gather(wanted: Iterable[Job]) -> None:
    """Writes TABLE from the files of all jobs, in their order."""
    write_file(TABLE, pd.concat(pd.read_csv(job.file()) for job in wanted).to_csv(index=False).encode())
