"""`encode --fit`: one picture with what is reached on the way, or a folder through an executor."""

import argparse
import os
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path

import torch
from tqdm import tqdm

from helpers import StudyError
from helpers.codec.container import ENDING
from helpers.codec.files import encode_file, encoded, pairs, summary
from helpers.data.loading import shown
from helpers.experiments.sweep import LOST, EmptyClusterError, as_they_end, cluster
from helpers.fitted.encoding import Attempt, Encoder, Wish
from helpers.processes import processes
from helpers.records import PlaceError, check_place, make_folder, write_file

DEFAULT_RATE = 32


def run(options: argparse.Namespace) -> int:
    """Status 0, 2 after a line for each picture that could not be fitted, 130 after Ctrl-C."""
    rate = DEFAULT_RATE if options.rate is None else options.rate
    wish = Wish(60 * options.fit, rate, options.bytes, options.bpp)
    files = pairs(options.source, options.target, ENDING)
    if not options.source.is_dir():
        return _one(*files[0], wish, options.resume)
    make_folder(options.target)
    check_place(options.target / f"picture{ENDING}")
    return _folder(files, wish, options)


def _one(source: Path, target: Path, wish: Wish, resume: bool) -> int:
    check_place(target)
    with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed} of {postfix}", disable=None) as bar:

        def on_step(progress: float, psnr: float, bits: float) -> None:
            bar.update(int(100 * progress) - bar.n)
            reached = f"{wish.seconds / 60:g} min: {psnr:.2f} dB, {bits:.3f} bits a pixel"
            bar.set_postfix_str(reached, refresh=False)

        def on_attempt(attempt: Attempt) -> None:
            bar.write(f"{len(attempt.data):,} bytes, {attempt.psnr:.2f} dB")

        fitting = Encoder(wish, state_of(target), resume, on_step, on_attempt)
        done = encode_file(source, target, fitting)
    print(summary(target, done))
    if fitting.interrupted:
        print(f"interrupted; --resume goes on from {shown(state_of(target))}", file=sys.stderr)
        return 130
    state_of(target).unlink(missing_ok=True)  # not before the file is there: a kill between loses neither
    return 0


def _folder(files: list[tuple[Path, Path]], wish: Wish, options: argparse.Namespace) -> int:
    left = [(source, target) for source, target in files if not (options.resume and target.exists())]
    failed, there = 0, len(files) - len(left)
    executor = cluster(options.cluster) if options.cluster else processes(options.workers or os.cpu_count())
    with executor as pool, tqdm(total=len(files), initial=there, unit="file", disable=None) as bar:
        targets = {pool.submit(fit_file, source.resolve(), wish): target for source, target in left}
        try:
            for future in as_they_end(targets, pool, lambda line: bar.write(line, file=sys.stderr)):
                target = targets[future]
                try:
                    data, done = future.result()
                    write_file(target, data)
                    bar.write(summary(target, done))
                except PlaceError:  # nor could the rest be written
                    raise
                except StudyError as error:
                    failed += 1
                    bar.write(str(error), file=sys.stderr)
                bar.update()
        except EmptyClusterError as error:
            raise StudyError(f"encode: {error}; --resume goes on") from None
        except Exception as error:
            if not isinstance(error, BrokenExecutor) and type(error).__name__ not in (*LOST, "KilledWorker"):
                raise
            raise StudyError("encode: a worker or the cluster was lost; --resume goes on") from None
    print(f"{len(files) - failed} of {len(files)} files done")
    return 2 if failed else 0


def fit_file(source: Path, wish: Wish) -> tuple[bytes, dict]:
    """(file, what `summary` says of it) of a picture, fitted on one thread; for workers."""
    torch.set_num_threads(1)
    return encoded(source, Encoder(wish))


def state_of(target: Path) -> Path:
    """Where a fit that was ended goes on from."""
    return target.with_name(f"{target.name}.fit.safetensors")
