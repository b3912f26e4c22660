"""Many runs: those that are missing go through an executor, each leaves a file, tables gather them."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from helpers import DATA, RESULTS, StudyError, one_line
from helpers.data.loading import shown
from helpers.experiments.grid import VERSION, Run
from helpers.experiments.run import measure
from helpers.processes import alone
from helpers.records import check_place, make_folder, write_file, write_record

FILES = DATA / "runs"  # one file a run, NAME.json; what is worth keeping is gathered into the tables
# `runs` comes last: a key that stands there has its rows in the others.
TABLES = {name: RESULTS / f"ablation_{name}.csv" for name in ("scenes", "curves", "runs")}
PATIENCE = 60  # seconds that a cluster may have no worker at all: someone may be starting new ones
LOOK_EVERY = 5  # seconds
LOST = ("FutureCancelledError", "CancelledError", "CommClosedError")  # what Dask raises when it is gone
RUN_COLUMNS = ["key", "version", "parameters", "macs_per_pixel", "seconds", "steps", "pixels", "diverged"]
RUN_COLUMNS += ["commit", "python", "torch", "processor", "run"]


def missing(runs: Iterable[Run], on_note: Callable[[str], None]) -> list[Run]:
    """The runs that neither a table nor a file has, each once; a damaged file is named, and run again."""
    done = set(read_table("runs")["key"])
    return [run for run in dict.fromkeys(runs) if run.key() not in done and not _file(run.key(), on_note)]


def sweep(
    runs: list[Run],
    executor: Executor,
    on_done: Callable[[dict], None],
    on_error: Callable[[str], None],
    function: Callable[[Run], dict] = measure,
    on_note: Callable[[str], None] = lambda line: None,
) -> None:
    """Runs each on an executor and writes its file as soon as it is done.

    A run that fails goes to on_error(line), the rest is done. Raises StudyError where the executor
    itself is lost, or a cluster has had no worker for PATIENCE seconds, of which on_note(line) hears
    when they begin; what was finished is kept.
    """
    _make_folder()
    lost = ""
    try:
        runs_of = {executor.submit(function, run): run for run in runs}
    except BrokenExecutor:
        raise StudyError("ablate: a worker process was killed; the same command goes on") from None
    try:
        for future in as_they_end(runs_of, executor, on_note):
            try:
                record = future.result()
            except BrokenExecutor:  # all that wait end alike; those that had finished are still written
                lost = "a worker process was killed"
            except Exception as error:  # a run's own failure, or a cluster's way to say that it is gone
                if type(error).__name__ in LOST:
                    lost = "the cluster was lost"
                else:
                    reason = one_line(error)
                    on_error(f"{runs_of[future].key()}: failed ({type(error).__name__}: {reason})")
            else:
                write_record(record, FILES / f"{record['key']}.json")
                on_done(record)
    except EmptyClusterError as error:
        lost = str(error)
    if lost:
        raise StudyError(f"ablate: {lost}; the same command goes on")


class EmptyClusterError(StudyError):
    """A cluster has had no worker for too long: what waits there would wait for ever."""


def as_they_end(
    futures: Iterable[Future], executor: Executor, on_note: Callable[[str], None]
) -> Iterator[Future]:
    """Each future as soon as it has ended.

    Raises EmptyClusterError where a cluster has had no worker for PATIENCE seconds, of which on_note(line)
    hears when they begin.
    """
    waiting, empty_since = set(futures), None
    workers = getattr(executor, "workers", lambda: 1)  # how many there are; a broken pool tells by itself
    while waiting:
        done, waiting = wait(waiting, LOOK_EVERY, FIRST_COMPLETED)
        yield from done
        if done or workers():
            empty_since = None
        elif empty_since is None:
            empty_since = time.monotonic()
            on_note(f"the cluster has no worker; waiting {PATIENCE} s for one")
        elif time.monotonic() - empty_since > PATIENCE:
            raise EmptyClusterError(f"the cluster has had no worker for {PATIENCE} s")


@contextmanager
def cluster(address: str):
    """An executor of the workers of a Dask scheduler, and how many there are at a time, `workers()`.

    Raises StudyError where the scheduler can't be reached or has none.
    """
    try:
        from dask.distributed import Client
    except ImportError:
        raise StudyError("--cluster needs `pip install distributed`") from None
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what is lost is told once, by the sweep
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError, TimeoutError) as error:
        reason = one_line(error)
        raise StudyError(f"{shown(address)}: no Dask scheduler can be reached there ({reason})") from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise StudyError(f"{shown(address)}: the scheduler has no workers")

        def workers() -> int:
            try:
                return len(client.sync(client.scheduler.identity, callback_timeout=10)["workers"])
            except (OSError, TimeoutError):  # a scheduler that is gone, or says nothing
                return 0

        executor = client.get_executor(pure=False, retries=2)  # a worker may die, its runs go elsewhere
        executor.workers = workers
        yield executor


def gather(runs: Iterable[Run], on_note: Callable[[str], None]) -> None:
    """Writes the tables of all finished runs of a grid, in its order, from files and former tables.

    Former rows of this version that the grid does not ask for any more are kept behind them; other
    records, of other versions or of quick runs, are counted in one line and left out. One process at a
    time does it, so that the tables fit each other.
    """
    _make_folder()
    with alone(FILES / ".tables.lock", "rebuilds the tables", wait=True):
        _gather(runs, on_note)


def _gather(runs: Iterable[Run], on_note: Callable[[str], None]) -> None:
    former = {name: read_table(name).groupby("key", sort=False) for name in TABLES}
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    keys = [run.key() for run in dict.fromkeys(runs)]
    asked, table = set(keys), read_table("runs")
    kept = [key for key in table.loc[table["version"] == VERSION, "key"] if key not in asked]
    for key in [*keys, *kept]:
        record = _file(key, on_note) if key in asked else None
        for name in TABLES:
            if record:
                found[name].append(_rows(name, record))
            elif key in former[name].groups:
                found[name].append(former[name].get_group(key))
    others = {path.stem for path in FILES.glob("*.json")} | set(former["runs"].groups)
    if left := len(others - {*keys, *kept}):
        on_note(f"{left} records of other versions, settings or sets are not in the tables")
    for name, path in TABLES.items():
        tables = [table for table in found[name] if len(table)]
        table = pd.concat(tables) if tables else read_table(name).head(0)
        write_file(path, table.to_csv(index=False).encode())


def read_table(name: str) -> pd.DataFrame:
    """A gathered table: `runs` (a row a run), `scenes` (a row a run and scene), `curves` (and point).

    Raises StudyError where it can't be read.
    """
    try:
        table = pd.read_csv(TABLES[name], dtype={"key": str, "commit": str})
        if lacking := {*(RUN_COLUMNS if name == "runs" else ["key"])} - {*table.columns}:
            raise ValueError(f"it has no column {min(lacking)}")
        return table
    except FileNotFoundError:
        return pd.DataFrame(columns=RUN_COLUMNS if name == "runs" else ["key"])
    except (OSError, ValueError) as error:
        reason = one_line(error)
        raise StudyError(f"{shown(TABLES[name])}: is no table of runs ({reason})") from None


def _make_folder() -> None:
    make_folder(FILES)
    check_place(FILES / "run.json")


def _rows(name: str, record: dict) -> pd.DataFrame:
    if name == "runs":
        row = {**record, "torch": record["versions"]["torch"], "run": json.dumps(record["run"])}
        return pd.DataFrame([row], columns=RUN_COLUMNS)
    rows = pd.DataFrame(record["scenes" if name == "scenes" else "curve"])
    rows.insert(0, "key", record["key"])
    return rows


def _file(key: str, on_note: Callable[[str], None]) -> dict | None:
    """The record in a run's file; None where there is none, it is damaged or of another version."""
    path: Path = FILES / f"{key}.json"
    try:
        record = json.loads(path.read_bytes())
        if record["key"] == key and record["version"] == VERSION:
            for name in TABLES:  # what is missing in it is found now
                _rows(name, record)
            return record
        reason = "is another run's"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}"
    on_note(f"{shown(path)}: is no record ({reason}); it will be run again")
    return None
