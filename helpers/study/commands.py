"""The commands that the study needs: `report`, `data`, `evaluate`, `rd`, `ablate` and `bench`."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from helpers.files import StudyError, check_writable, one_line, printable, write_file
from helpers.records import write_record


def report(options: argparse.Namespace) -> int:
    """Executes the notebooks and renders the report."""
    from helpers.study.report import build

    print(f"open {build(options.mode, options.only)}")
    return 0


def data(options: argparse.Namespace) -> int:
    """Brings LIVE1 into data/live1."""
    from helpers.data.live1 import fetch_live1, notice

    print(notice())
    print(f"{fetch_live1(options.source)} pictures in data/live1, every SHA-256 right")
    return 0


@contextlib.contextmanager
def _bar(total: int, unit: str) -> Iterator:
    """(progress bar, on_error, lines that went to it): on_error(line) writes past the bar on stderr."""
    from tqdm import tqdm

    errors: list[str] = []
    with tqdm(total=total, unit=unit, disable=None) as bar:

        def on_error(line: str) -> None:
            errors.append(line)
            bar.write(line, file=sys.stderr)

        yield bar, on_error, errors


def evaluate(options: argparse.Namespace) -> int:
    """Evaluates a task on an image set; a bad picture is reported, the rest is done, status 2."""
    from helpers.data.sets import open_set
    from helpers.study.evaluation import evaluate, mean_table
    from helpers.weights import default_weights

    if options.json:
        check_writable(options.json)
    images, task, space, weights = open_set(options.images), options.task, options.space, options.weights
    if task != "jpeg" and not weights:
        weights = default_weights(task, space)
    with _bar(len(images), "image") as (bar, on_error, errors):
        coded = options.subsampling, options.earlier
        record = evaluate(
            task, images, options.quality, space, on_error, lambda name: bar.update(), weights, *coded
        )
    count, grey = len(record["rows"][0]["images"]), len(record["grey_pictures"])
    chroma = f", chroma {record['subsampling']}" if record["subsampling"] else ""
    print(f"{task} on {printable(record['set'])}, {count} images, {record['space_means']}{chroma}")
    if record["earlier"]:
        print("coded before at quality {}, then cut by {} rows and columns".format(*record["earlier"]))
    if grey and space == "y":
        print(f"{grey} of them grey, taken as they are")
    if weights:
        parameters, macs = record["parameters"], record["macs_per_pixel"]
        print(f"{weights.name}: {parameters:,} parameters, {macs:,.0f} MAC a pixel")
    print(mean_table(record).to_string(index=False, float_format="{:.4f}".format, na_rep=""))
    if options.json:
        write_record(record, options.json)
    return 2 if errors else 0


def rd(options: argparse.Namespace) -> int:
    """Measures codecs on an image set; a bad picture is reported, the rest is done, status 2."""
    from helpers.data.sets import open_set
    from helpers.study import rate_distortion as rd
    from helpers.study.rate_distortion_figures import svg_of

    if options.csv.suffix == ".svg":
        raise StudyError(f"{printable(options.csv)}: is the figure's name; the table needs another ending")
    check_writable(options.csv)  # reported now, not after an hour's work
    images = open_set(options.images)
    codecs = rd.usable(options.codecs or list(rd.CODERS), print)
    with _bar(len(images), "image") as (bar, on_error, errors):
        table = rd.measure_set(images, codecs, options.workers, on_error, lambda name: bar.update())
    count, (low, high) = table["image"].nunique(), rd.WINDOW
    print(f"{printable(images.name)}, {count} images; BD-rate in % against {rd.ANCHOR_NAME}:")
    print(f"PSNR over {low:.0f} to {high:.0f} dB, SSIM and MS-SSIM as -10 log10(1 - s) over the overlap")
    print(rd.bd_rates(table).to_string(index=False, float_format="{:+.1f}".format, na_rep="-"))
    write_file(options.csv, table.to_csv(index=False).encode(errors="backslashreplace"))
    write_file(options.csv.with_suffix(".svg"), svg_of(table, printable(Path(options.images).name)))
    return 2 if errors else 0


def ablate(options: argparse.Namespace) -> int:
    """Runs what is missing of the grid, then rebuilds the tables; a run that fails is named, status 2."""
    from helpers.data.sets import open_set
    from helpers.experiments import grid, sweep
    from helpers.processes import executor_of

    try:
        runs = grid.grid(options.mode)
    except ValueError as error:  # an experiment that was mistyped
        raise StudyError(f"helpers/experiments/grid.py: {one_line(error)}") from None
    left, errors = sweep.missing(runs, print), []
    for name in {run.images for run in left}:
        open_set(name)  # reported now, not by each run
    print(f"{len(runs)} runs in the grid, {len(left)} to do")
    if left:
        executor, done = executor_of(options.workers, options.cluster), []
        with executor as pool, _bar(len(left), "run") as (bar, on_failure, errors):

            def on_error(line: str) -> None:
                bar.update()
                on_failure(line)

            def on_done(record: dict) -> None:
                done.append(record)
                bar.update()
                bar.set_postfix_str(f"{len(errors)} failed, {record['seconds']:.0f} s the last")
                if bar.disable and len(done) % 20 == 0:
                    print(f"{len(done)} of {len(left)} runs done, {len(errors)} failed", flush=True)

            sweep.sweep(left, pool, on_done, on_error, on_note=lambda line: bar.write(line, file=sys.stderr))
        seconds, diverged = (sum(record[name] for record in done) for name in ("seconds", "diverged"))
        trained = f"{len(done)} runs done in {seconds:.0f} s of training"
        print(f"{trained}, {diverged} diverged, {len(errors)} failed")
    if options.mode == "full":
        sweep.gather(runs, print)
    return 2 if errors else 0


def bench(options: argparse.Namespace) -> int:
    """Measures speed as ratios in one run."""
    for library in ("OPENBLAS", "MKL", "VECLIB", "OMP"):  # products inside our threads take one each
        os.environ[f"{library}_NUM_THREADS"] = "1"  # read when NumPy is first imported, below
    import pandas as pd

    from helpers.study import bench_codec, bench_numpy
    from helpers.study.rate_distortion import usable

    if options.json:
        check_writable(options.json)
    if options.name == "numpy":
        with _bar(bench_numpy.ROWS, "row") as (bar, _, _):
            found = bench_numpy.record(lambda row: bar.update())
        tables, title = [bench_numpy.table(found["rows"])], "ratio: NumPy to the faster PyTorch"
    else:
        codecs = usable(list(bench_codec.BENCH_CODECS), print)
        with _bar(bench_codec.TURNS * (2 * len(codecs) + 1), "turn") as (bar, _, _):
            found = bench_codec.record(bar.update, codecs)
        tables = [pd.DataFrame(found[part]) for part in ("rows", "pixels")]
        title = f"{found['picture']}, {found['width']}x{found['height']}; ratios to {found['anchor']}"
    print(f"{found['benchmark']}; {found['processor']}; {title}")
    for table in tables:
        print(table.to_string(index=False, float_format="{:.2f}".format, na_rep=""))
    if options.json:
        write_record(found, options.json)
    return 0
