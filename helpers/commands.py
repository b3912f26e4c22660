"""What each command does, with its options taken apart; imports wait until a command needs them."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from helpers import StudyError, one_line


def report(options: argparse.Namespace) -> int:
    """Executes the notebooks and renders the report."""
    from helpers.report import build

    index = build(options.mode, options.only)
    print(f"open {index}")
    return 0


def data(options: argparse.Namespace) -> int:
    """Brings LIVE1 into data/live1."""
    from helpers.data.live1 import fetch_live1, notice

    print(notice())
    count = fetch_live1(options.source)
    print(f"{count} pictures in data/live1, every SHA-256 right")
    return 0


def measure(options: argparse.Namespace) -> int:
    """Measures a task on an image set; a bad picture is reported, the rest is done, status 2."""
    from tqdm import tqdm

    from helpers.data import open_set
    from helpers.data.loading import shown
    from helpers.evaluation import default_weights, evaluate, mean_table
    from helpers.records import check_place, write_record

    if options.json:
        check_place(options.json)
    images = open_set(options.images)
    weights = options.weights or default_weights(options.task, options.space)
    errors: list[str] = []
    with tqdm(total=len(images), unit="image", disable=None) as bar:

        def on_error(line: str) -> None:
            errors.append(line)
            bar.write(line, file=sys.stderr)

        record = evaluate(
            options.task, images, options.quality, options.space, on_error, lambda name: bar.update(), weights
        )
    count = len(record["rows"][0]["images"])
    print(f"{record['task']} on {shown(record['set'])}, {count} images, {record['space_means']}")
    if weights:
        parameters, macs = record["parameters"], record["macs_per_pixel"]
        print(f"{weights.name}: {parameters:,} parameters, {macs:,.0f} MAC a pixel")
    print(mean_table(record).to_string(index=False, float_format="{:.4f}".format, na_rep=""))
    if options.json:
        write_record(record, options.json)
    return 2 if errors else 0


def rate_distortion(options: argparse.Namespace) -> int:
    """Measures codecs on an image set; a bad picture is reported, the rest is done, status 2."""
    from tqdm import tqdm

    from helpers import rd, rd_report
    from helpers.data import open_set
    from helpers.data.loading import shown
    from helpers.records import check_place, write_file

    if options.csv.suffix == ".svg":
        raise StudyError(f"{shown(options.csv)}: is the figure's name; the table needs another ending")
    check_place(options.csv)  # told now, not after an hour's work
    images = open_set(options.images)
    codecs = rd.usable(options.codecs or list(rd.CODECS), print)
    errors: list[str] = []
    with tqdm(total=len(images), unit="image", disable=None) as bar:

        def on_error(line: str) -> None:
            errors.append(line)
            bar.write(line, file=sys.stderr)

        table = rd.measure_set(images, codecs, options.workers, on_error, lambda name: bar.update())
    print(f"{shown(images.name)}, {table['image'].nunique()} images; BD-rate in % against {rd.ANCHOR_NAME}:")
    low, high = rd.WINDOW
    print(f"PSNR over {low:.0f} to {high:.0f} dB, SSIM and MS-SSIM as -10 log10(1 - s) over the overlap")
    print(rd.bd_rates(table).to_string(index=False, float_format="{:+.1f}".format, na_rep="-"))
    write_file(options.csv, table.to_csv(index=False).encode(errors="backslashreplace"))
    write_file(options.csv.with_suffix(".svg"), rd_report.svg_of(table, shown(Path(options.images).name)))
    return 2 if errors else 0


def ablate(options: argparse.Namespace) -> int:
    """Runs what is missing of the grid, then rebuilds the tables; a run that fails is named, status 2."""
    from tqdm import tqdm

    from helpers.data import open_set
    from helpers.experiments import sweep
    from helpers.experiments.grid import grid
    from helpers.processes import processes

    try:
        runs = grid(options.mode)
    except ValueError as error:  # a card that was mistyped
        raise StudyError(f"helpers/experiments/grid.py: {one_line(error)}") from None
    errors, done = [], []
    left = sweep.missing(runs, print)
    for name in {run.images for run in left}:
        open_set(name)  # told now, not by each run
    print(f"{len(runs)} runs in the grid, {len(left)} to do")
    if left:
        executor = sweep.cluster(options.cluster) if options.cluster else processes(options.workers)
        with executor as pool, tqdm(total=len(left), unit="run", disable=None) as bar:

            def on_error(line: str) -> None:
                errors.append(line)
                bar.update()
                bar.write(line, file=sys.stderr)

            def on_done(record: dict) -> None:
                done.append(record)
                bar.update()
                bar.set_postfix_str(f"{len(errors)} failed, {record['seconds']:.0f} s the last")
                if bar.disable and len(done) % 20 == 0:
                    print(f"{len(done)} of {len(left)} runs done, {len(errors)} failed", flush=True)

            sweep.sweep(left, pool, on_done, on_error, on_note=lambda line: bar.write(line, file=sys.stderr))
        seconds, diverged = (sum(record[name] for record in done) for name in ("seconds", "diverged"))
        print(
            f"{len(done)} runs done in {seconds:.0f} s of training, {diverged} diverged, {len(errors)} failed"
        )
    if options.mode == "full":
        sweep.gather(runs, print)
    return 2 if errors else 0


def train(options: argparse.Namespace) -> int:
    """Trains a network; a picture that can't be used is reported, the rest is trained on, status 2."""
    from helpers.training.command import run

    errors: list[str] = []

    def complain(line: str) -> None:
        errors.append(line)
        print(line, file=sys.stderr)

    run(options, complain)
    return 2 if errors else 0


def restore(options: argparse.Namespace) -> int:
    """Restores JPEG files; one that can't be is reported, the rest is done, status 2."""
    from tqdm import tqdm

    from helpers.data.loading import shown
    from helpers.records import PlaceError, make_folder
    from helpers.restoring import jpeg_files, restore_file

    pairs, failed = jpeg_files(options.source, options.target), 0
    if options.source.is_dir():
        make_folder(options.target)
    for source, target in pairs:
        with tqdm(desc=shown(source.name), unit="tile", disable=None, leave=len(pairs) == 1) as bar:

            def on_tile(count: int, bar: tqdm = bar) -> None:
                bar.total = count
                bar.update()

            try:
                restore_file(source, target, on_tile)
            except PlaceError:  # nor could the rest be written
                raise
            except StudyError as error:
                failed += 1
                bar.write(str(error), file=sys.stderr)
    if len(pairs) > 1:
        print(f"{len(pairs) - failed} of {len(pairs)} pictures restored")
    elif not failed:
        print(f"{shown(target.name)}: restored, {target.stat().st_size:,} bytes")
    return 2 if failed else 0


def encode(options: argparse.Namespace) -> int:
    """Compresses pictures; one that can't be is reported, the rest is done, status 2."""
    if options.fit is not None:
        from helpers.fitted.command import run

        return run(options)
    if given := [name for name in ("resume", "workers", "cluster") if getattr(options, name)]:
        raise StudyError(f"encode: --{given[0]} belongs to --fit")
    from helpers.codec import pictures
    from helpers.codec.container import ENDING
    from helpers.codec.files import encode_file, pairs, summary

    def encoder(image, **metadata):
        if options.rate is not None or (options.bpp is None and options.bytes is None):
            rate = pictures.DEFAULT_RATE if options.rate is None else options.rate
            return pictures.encode(image, rate, **metadata)
        most = options.bytes
        if most is None:
            most = int(options.bpp * image.shape[0] * image.shape[1] / 8)
        return pictures.encode_within(image, most, **metadata)

    def one(source: Path, target: Path) -> str:
        return summary(target, encode_file(source, target, encoder))

    return _each(pairs(options.source, options.target, ENDING), options, one)


def decode(options: argparse.Namespace) -> int:
    """Decodes compressed files; one that can't be is reported, the rest is done, status 2."""
    from helpers.codec.files import decode_file, pairs

    return _each(pairs(options.source, options.target, ".png"), options, decode_file)


def info(options: argparse.Namespace) -> int:
    """Says what a compressed file holds."""
    from helpers.codec.files import describe

    print(describe(options.source))
    return 0


def _each(files: list[tuple[Path, Path]], options: argparse.Namespace, one: Callable) -> int:
    """one(source, target) for each, with a progress bar for a folder; its text is printed. Status 0 or 2."""
    from tqdm import tqdm

    from helpers.records import PlaceError, make_folder

    failed = 0
    if options.source.is_dir():
        make_folder(options.target)
    with tqdm(files, unit="file", disable=None if len(files) > 1 else True) as bar:
        for source, target in bar:
            try:
                said = one(source, target)
                if said:
                    bar.write(said)
            except PlaceError:  # nor could the rest be written
                raise
            except StudyError as error:
                failed += 1
                bar.write(str(error), file=sys.stderr)
    if len(files) > 1:
        print(f"{len(files) - failed} of {len(files)} files done")
    return 2 if failed else 0


def bench(options: argparse.Namespace) -> int:
    """Measures speed as ratios in one run."""
    for library in ("OPENBLAS", "MKL", "VECLIB", "OMP"):  # products inside our threads take one each
        os.environ[f"{library}_NUM_THREADS"] = "1"  # read when NumPy is first imported, below
    from tqdm import tqdm

    from helpers import bench, bench_codec, rd
    from helpers.records import check_place, write_record

    if options.json:
        check_place(options.json)
    if options.name == "numpy":
        with tqdm(total=2 * len(bench.SIZES) * len(bench.THREADS), unit="row", disable=None) as bar:
            found = bench.record(lambda row: bar.update())
        tables, title = [bench.table(found["rows"])], "ratio: NumPy to the faster PyTorch"
    else:
        codecs = rd.usable(list(bench_codec.CODECS), print)
        with tqdm(total=bench_codec.TURNS * (2 * len(codecs) + 1), unit="turn", disable=None) as bar:
            found = bench_codec.record(bar.update, codecs)
        tables = bench_codec.tables(found)
        title = f"{found['picture']}, {found['width']}x{found['height']}; ratios to {found['anchor']}"
    print(f"{found['benchmark']}; {found['processor']}; {title}")
    for table in tables:
        print(table.to_string(index=False, float_format="{:.2f}".format, na_rep=""))
    if options.json:
        write_record(found, options.json)
    return 0
