"""Many runs: those that are missing go through an executor, each leaves a file, tables gather them."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Executor

import pandas as pd

from helpers import files
from helpers.experiments.grid import VERSION, Run
from helpers.experiments.run import measure_run
from helpers.files import DATA, RESULTS, StudyError, one_line, printable, write_file
from helpers.processes import LOST, EmptyClusterError, as_they_end
from helpers.records import write_record

RUN_FILES = DATA / "runs"  # one file a run, NAME.json; what is worth keeping is gathered into the tables
# `runs` comes last: a key that stands there has its rows in the others.
TABLES = {name: RESULTS / f"ablation_{name}.csv" for name in ("scenes", "curves", "runs")}
RUN_COLUMNS = ["key", "version", "parameters", "macs_per_pixel", "seconds", "steps", "pixels", "diverged"]
RUN_COLUMNS += ["commit", "python", "torch", "processor", "run"]


def missing(runs: Iterable[Run], on_note: Callable[[str], None]) -> list[Run]:
    """The runs that neither a table nor a file has, each once; a damaged file is named, and run again."""
    done = set(read_table("runs")["key"])
    return [run for run in dict.fromkeys(runs) if run.key() not in done and not _rows(run.key(), on_note)]


def sweep(
    runs: list[Run],
    executor: Executor,
    on_done: Callable[[dict], None],
    on_error: Callable[[str], None],
    function: Callable[[Run], dict] = measure_run,
    on_note: Callable[[str], None] = lambda line: None,
) -> None:
    """Runs each on an executor and writes its file as soon as it is done.

    A run that fails goes to on_error(line), the rest is done. Raises StudyError where the executor
    itself is lost, or a cluster has had no worker for PATIENCE seconds (on_note(line) is called when they
    begin); what was finished is kept.
    """
    files.make_folder(RUN_FILES)
    files.check_writable(RUN_FILES / "run.json")
    lost = ""
    try:
        runs_of = {executor.submit(function, run): run for run in runs}
        for future in as_they_end(runs_of, executor, on_note):
            try:
                record = future.result()
            except BrokenExecutor:  # all that wait end alike; those that had finished are still written
                lost = "a worker process was killed"
            except Exception as error:  # a run's own failure, or a cluster's way to say that it is gone
                if type(error).__name__ in LOST:
                    lost = "the cluster was lost"
                else:
                    reason = f"{type(error).__name__}: {one_line(error)}"
                    on_error(f"{runs_of[future].key()}: failed ({reason})")
            else:
                write_record(record, RUN_FILES / f"{record['key']}.json")
                on_done(record)
    except BrokenExecutor:  # before all were submitted
        lost = "a worker process was killed"
    except EmptyClusterError as error:
        lost = str(error)
    if lost:
        raise StudyError(f"ablate: {lost}; the same command goes on")


def gather(runs: Iterable[Run], on_note: Callable[[str], None]) -> None:
    """Writes the tables of all finished runs of a grid, in its order, from files and former tables.

    Former rows of this version that the grid does not ask for any more are kept behind them; other
    records, of other versions or of quick runs, are counted in one line and left out. One process at a
    time does it, so that the tables fit each other.
    """
    files.make_folder(RUN_FILES)
    with files.alone(RUN_FILES / ".tables.lock", "rebuilds the tables", wait=True):
        recorded = read_table("runs")
        former = {name: read_table(name).groupby("key", sort=False) for name in TABLES}
        asked = dict.fromkeys(run.key() for run in runs)
        kept = [key for key in recorded.loc[recorded["version"] == VERSION, "key"] if key not in asked]
        found: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
        for key in [*asked, *kept]:
            rows = _rows(key, on_note) if key in asked else None
            if rows is None:
                rows = {name: by.get_group(key) for name, by in former.items() if key in by.groups}
            for name in rows:
                found[name].append(rows[name])
        others = {path.stem for path in RUN_FILES.glob("*.json")} | set(former["runs"].groups)
        if left := len(others - {*asked, *kept}):
            on_note(f"{left} records of other versions, settings or sets are not in the tables")
        for name, path in TABLES.items():
            tables = [table for table in found[name] if len(table)]
            table = pd.concat(tables) if tables else read_table(name).head(0)
            write_file(path, table.to_csv(index=False).encode())


def read_table(name: str) -> pd.DataFrame:
    """Gathered `runs` (a row a run), `scenes` (a run and scene), `curves` (and point). Raises StudyError."""
    columns = RUN_COLUMNS if name == "runs" else ["key"]
    try:
        table = pd.read_csv(TABLES[name], dtype={"key": str, "commit": str})
        if lacking := {*columns} - {*table.columns}:
            raise ValueError(f"it has no column {min(lacking)}")
        return table
    except FileNotFoundError:
        return pd.DataFrame(columns=columns)
    except (OSError, ValueError) as error:
        raise StudyError(f"{printable(TABLES[name])}: is no table of runs ({one_line(error)})") from None


def _rows(key: str, on_note: Callable[[str], None]) -> dict[str, pd.DataFrame] | None:
    """The rows of a run's file for each table; None where there is none, or not one of this version."""
    path = RUN_FILES / f"{key}.json"
    try:
        record = json.loads(path.read_bytes())
        if record["key"] == key and record["version"] == VERSION:
            run = {**record, "torch": record["versions"]["torch"], "run": json.dumps(record["run"])}
            rows = {"scenes": pd.DataFrame(record["scenes"]), "curves": pd.DataFrame(record["curve"])}
            for table in rows.values():
                table.insert(0, "key", key)
            return {**rows, "runs": pd.DataFrame([run], columns=RUN_COLUMNS)}
        reason = "is another run's"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = type(error).__name__
    on_note(f"{printable(path)}: is no record ({reason}); it will be run again")
    return None
