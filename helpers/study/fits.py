"""Records of fits: eight scenes of LIVE1 at four rates, three of them within other times too.

    python -c "from helpers.study.fits import measure_fits; measure_fits(workers=2)"

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

from helpers.codec.fitted.encoder import FitBudget, FittedEncoder
from helpers.data import open_set
from helpers.files import DATA, RESULTS, make_folder, write_file
from helpers.processes import processes
from helpers.records import environment
from helpers.study import rate_distortion as rd

FIT_FILES = DATA / "runs" / "fitted"
TABLE = RESULTS / "fitted_live1.csv"
EVERY, FIT_RATES, SECONDS = 4, (4, 23, 42, 61), 200  # every fourth scene, at these rates, in so many seconds
FEW, RATE, TIMES = 12, 42, (25, 50, 100)  # every twelfth scene at one rate, in other times too


class Job(NamedTuple):
    """One fit; `seconds` of one core."""

    image: str
    rate: int
    seconds: int

    def file(self) -> Path:
        """Where it leaves its row; what is there is not done again."""
        return FIT_FILES / f"{self.image}-{self.rate}-{self.seconds}.csv"


def jobs(names: list[str]) -> list[Job]:
    """All fits of a set's scenes; those that every plot needs come first."""
    found = [Job(name, rate, SECONDS) for rate in FIT_RATES for name in names[::EVERY]]
    return found + [Job(name, RATE, seconds) for seconds in TIMES for name in names[::FEW]]


def measure_fits(workers: int) -> None:
    """Does the fits of LIVE1 that have no file in FIT_FILES, and then writes TABLE."""
    make_folder(FIT_FILES)
    wanted = jobs(sorted(scene.name for scene in open_set("live1").scenes))
    left = [job for job in wanted if not job.file().exists()]
    with processes(workers) as pool, tqdm(total=len(wanted), initial=len(wanted) - len(left)) as bar:
        for future in as_completed([pool.submit(fit_scene, job) for job in left]):
            future.result()
            bar.update()
    gather(wanted)


def fit_scene(job: Job) -> None:
    """Fits a scene on one thread, timed in processor seconds, and writes the job's file."""
    torch.set_num_threads(1)
    image = open_set("live1")[job.image].load()
    start = time.process_time()
    encoder = FittedEncoder(FitBudget(job.seconds, job.rate), clock=time.process_time)
    data, picture = encoder(image)
    took = time.process_time() - start  # the last search for the weights' steps comes after the budget
    row = rd.row("fitted", job.rate, job.image, image, data, picture)
    row |= {"seconds": job.seconds, "took": took, "visits": encoder.visits}
    where = environment()
    row |= {name: where[name] for name in ("commit", "python", "processor")}
    row["torch"] = where["versions"]["torch"]
    write_file(job.file(), pd.DataFrame([row]).round(6).to_csv(index=False).encode())


def gather(wanted: Iterable[Job]) -> None:
    """Writes TABLE from the files of all jobs, in their order."""
    write_file(TABLE, pd.concat(pd.read_csv(job.file()) for job in wanted).to_csv(index=False).encode())
