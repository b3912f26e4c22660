"""Many runs: those that are missing go through an executor, each leaves a file, tables gather them."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from helpers import DATA, RESULTS, StudyError
from helpers.data.loading import shown
from helpers.experiments.grid import VERSION, Run
from helpers.experiments.run import measure
from helpers.records import write_file, write_record

FILES = DATA / "runs"  # one file a run, NAME.json; what is worth keeping is gathered into the tables
# `runs` comes last: a key that stands there has its rows in the others.
TABLES = {name: RESULTS / f"ablation_{name}.csv" for name in ("scenes", "curves", "runs")}
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
) -> None:
    """Runs each on an executor and writes its file as soon as it is done.

    A run that fails goes to on_error(line), the rest is done. Raises StudyError where the executor
    itself is lost; what was finished is kept.
    """
    FILES.mkdir(parents=True, exist_ok=True)
    lost = ""
    try:
        waiting = {executor.submit(function, run): run for run in runs}
    except BrokenExecutor:
        raise StudyError("ablate: a worker process was killed; the same command goes on") from None
    for future in as_completed(waiting):
        run = waiting[future]
        try:
            record = future.result()
        except BrokenExecutor:  # all that wait end alike; those that had finished are still written
            lost = "a worker process was killed"
        except Exception as error:  # a run's own failure, or a cluster's way to say that it is gone
            if type(error).__name__ in ("FutureCancelledError", "CancelledError", "CommClosedError"):
                lost = "the cluster was lost"
            else:
                reason = " ".join(str(error).split())[:200]
                on_error(f"{run.key()}: failed ({type(error).__name__}: {reason})")
        else:
            write_record(record, FILES / f"{record['key']}.json")
            on_done(record)
    if lost:
        raise StudyError(f"ablate: {lost}; the same command goes on")


@contextmanager
def processes(count: int):
    """An executor of so many processes of one thread each, which end with this one, however it ends."""
    pool = ProcessPoolExecutor(count, get_context("spawn"), _start_worker, (os.getpid(),))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def cluster(address: str):
    """An executor of the workers of a Dask scheduler. Raises StudyError where it can't be reached."""
    try:
        from dask.distributed import Client
    except ImportError:
        raise StudyError("ablate: --cluster needs `pip install distributed`") from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StudyError(f"{shown(address)}: no Dask scheduler can be reached there ({reason})") from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise StudyError(f"{shown(address)}: the scheduler has no workers")
        yield client.get_executor(pure=False, retries=2)  # a worker may die, its runs go elsewhere


def gather(runs: Iterable[Run], on_note: Callable[[str], None]) -> None:
    """Writes the tables of all finished runs of a grid, in its order, from files and former tables.

    Former rows of this version that the grid does not ask for any more are kept behind them; other
    records, of other versions or of quick runs, are counted in one line and left out.
    """
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
    """A gathered table: `runs` (a row a run), `scenes` (a row a run and scene), `curves` (and point)."""
    try:
        return pd.read_csv(TABLES[name], dtype={"key": str, "commit": str})
    except FileNotFoundError:
        return pd.DataFrame(columns=RUN_COLUMNS if name == "runs" else ["key"])


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


def _start_worker(parent: int) -> None:
    def watch() -> None:  # a killed parent can't tell its workers
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker without a traceback of its own
    threading.Thread(target=watch, daemon=True).start()
