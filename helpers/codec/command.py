"""The commands `encode`, `decode` and `info`: pictures, or folders of them, by either codec."""

import argparse
import os
import sys
from concurrent.futures import BrokenExecutor
from functools import partial
from pathlib import Path

import numpy as np

from helpers import files
from helpers.codec.container import DEFAULT_RATE, ENDING
from helpers.codec.files import decode_file, describe, encode_file, encoded, pairs
from helpers.data.metadata import check_ending
from helpers.files import StudyError


def encode(options: argparse.Namespace) -> int:
    """Compresses pictures; one that can't be is reported, the rest is done, status 2; 130 after Ctrl-C."""
    if not options.source.is_dir():
        check_ending(options.target, (ENDING,))  # else a slip of the pen replaces a picture by a coded file
    rate = DEFAULT_RATE if options.rate is None else options.rate
    if options.fit is not None:
        from helpers.codec.fitted.encoder import FitBudget

        budget = FitBudget(60 * options.fit, rate, options.bytes, options.bpp)
        return (_fit_folder if options.source.is_dir() else _fit_one)(budget, options)
    if given := [name for name in ("resume", "workers", "cluster") if getattr(options, name)]:
        raise StudyError(f"encode: --{given[0]} belongs to --fit")

    def encoder(image: np.ndarray, **metadata: bytes) -> tuple[bytes, np.ndarray]:
        from helpers.codec.trained import pictures  # not before a picture was read: torch takes seconds

        if options.bpp is None and options.bytes is None:
            return pictures.encode(image, rate, **metadata)
        pixels = image.shape[0] * image.shape[1]
        most = options.bytes if options.bpp is None else int(options.bpp * pixels / 8)
        return pictures.encode_within(image, most, **metadata)

    todo = pairs(options.source, options.target, ENDING)
    return files.for_each(options.source, todo, partial(encode_file, encoder=encoder))


def decode(options: argparse.Namespace) -> int:
    """Decodes compressed files; one that can't be is reported, the rest is done, status 2."""
    return files.for_each(options.source, pairs(options.source, options.target, ".png"), decode_file)


def info(options: argparse.Namespace) -> int:
    """Prints what a compressed file holds."""
    print(describe(options.source))
    return 0


def _fit_one(budget, options: argparse.Namespace) -> int:
    """`encode --fit` of one picture, with what is reached on the way."""
    from tqdm import tqdm

    from helpers.codec.fitted.encoder import Candidate, FittedEncoder

    ((source, target),) = pairs(options.source, options.target, ENDING)
    files.check_writable(target)
    state = target.with_name(f"{target.name}.fit.safetensors")
    with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed} of {postfix}", disable=None) as bar:

        def on_step(progress: float, psnr: float, bits: float) -> None:
            bar.update(int(100 * progress) - bar.n)
            reached = f"{budget.seconds / 60:g} min: {psnr:.2f} dB, {bits:.3f} bits a pixel"
            bar.set_postfix_str(reached, refresh=False)

        def on_candidate(candidate: Candidate) -> None:
            bar.write(f"{len(candidate.data):,} bytes, {candidate.psnr:.2f} dB")

        fitting = FittedEncoder(budget, state, options.resume, on_step, on_candidate)
        line = encode_file(source, target, fitting)
    print(line)
    if fitting.interrupted:
        print(f"interrupted; --resume goes on from {files.printable(state)}", file=sys.stderr)
        return 130
    state.unlink(missing_ok=True)  # not before the file is there: a kill between loses neither
    return 0


def _fit_folder(budget, options: argparse.Namespace) -> int:
    """`encode --fit` of a folder, through an executor."""
    from tqdm import tqdm

    from helpers.processes import LOST, EmptyClusterError, as_they_end, executor_of

    todo = pairs(options.source, options.target, ENDING)
    files.make_folder(options.target)
    files.check_writable(options.target / f"picture{ENDING}")
    left = [(source, target) for source, target in todo if not (options.resume and target.exists())]
    failed, there = 0, len(todo) - len(left)
    executor = executor_of(options.workers or os.cpu_count(), options.cluster)
    with executor as pool, tqdm(total=len(todo), initial=there, unit="file", disable=None) as bar:
        targets = {pool.submit(fit_file, source.resolve(), target, budget): target for source, target in left}
        try:
            for future in as_they_end(targets, pool, lambda line: bar.write(line, file=sys.stderr)):
                try:
                    data, line = future.result()
                    files.write_file(targets[future], data)
                    bar.write(line)
                except files.UnwritableError:  # nor could the rest be written
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
    print(f"{len(todo) - failed} of {len(todo)} files done")
    return 2 if failed else 0


def fit_file(source: Path, target: Path, budget) -> tuple[bytes, str]:
    """(file, its line) of a picture, fitted on one thread; for workers."""
    import torch

    from helpers.codec.fitted.encoder import FittedEncoder

    torch.set_num_threads(1)
    return encoded(source, target, FittedEncoder(budget))
