"""The commands: `python -m helpers --help`."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from helpers.files import StudyError
from helpers.training.config import TASKS, TrainingConfig


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0, or 2 after one line on stderr for each thing that could not be done."""
    if hasattr(sys.stdout, "reconfigure"):  # a file's name need not be text in any encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        return _function_of(options.command)(options)
    except StudyError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return 130


def _function_of(command: str) -> Callable[[argparse.Namespace], int]:
    """What runs a command; imported when it is given, since `--help` needs none of it."""
    if command in ("encode", "decode", "info"):
        from helpers.codec import command as module
    elif command == "restore":
        from helpers import restoring as module
    elif command == "train":
        from helpers.training import command as module
    else:
        from helpers.study import commands as module
    return getattr(module, "run" if command in ("restore", "train") else command)


def _number(kind: type, low: float, high: float, name: str) -> Callable[[str], float]:
    """Reads an option: a number of a kind in low..high."""

    def read(text: str) -> float:
        with contextlib.suppress(ValueError):
            value = kind(text)
            if low <= value <= high and (kind is float or text.isdigit()):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {name}")

    return read


QUALITY = _number(int, 1, 100, "a JPEG quality from 1 to 100")
COUNT = _number(int, 1, 10**9, "a number of processes")
RATE = _number(int, 0, 63, "a rate from 0 to 63")
MINUTES = _number(float, 1e-6, 24 * 60, "a number of minutes above zero, a day at most")
EARLIER = _number(int, 0, 100, "a number from 0 to 100")
STRENGTH = _number(float, 0, 1, "a strength from 0 to 1")
BITS = _number(float, 1e-6, 1000, "a positive number of bits a pixel")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    add = parser.add_subparsers(required=True, dest="command", metavar="COMMAND").add_parser

    command = add("report", help="execute the notebooks, render figures/report/")
    command.add_argument("--mode", choices=["quick", "full"], default="quick")
    command.add_argument("--only", nargs="+", metavar="NN", help="notebook numbers, e.g. 01 04")

    command = add("data", help="bring LIVE1 into data/live1")
    command.add_argument("name", choices=["live1"])
    command.add_argument("--from", dest="source", metavar="DIR_OR_URL", help="instead of the web")

    command = add("evaluate", help="PSNR, SSIM, PSNR-B and rate, image by image")
    command.add_argument("task", choices=["jpeg", "imitate", "restore"])
    command.add_argument("--images", required=True, metavar="DIR", help="folder, samples or live1")
    command.add_argument("--quality", nargs="+", type=QUALITY, default=[10, 20, 30, 40], metavar="Q")
    command.add_argument("--space", choices=["y", "rgb", "grey"], default="y")
    command.add_argument("--subsampling", choices=["4:2:0", "4:4:4"], default="4:2:0", help="of rgb")
    command.add_argument(
        "--earlier", nargs=2, type=EARLIER, metavar=("Q", "CUT"), help="code at quality Q, cut, then code"
    )
    command.add_argument("--weights", type=Path, metavar="FILE", help="instead of the shipped ones")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the record there")

    command = add("rd", help="rate-distortion of codecs, BD-rates")
    command.add_argument("--images", required=True, metavar="DIR", help="folder, samples or live1")
    command.add_argument("--csv", required=True, type=Path, metavar="FILE", help="table; a figure next to it")
    command.add_argument("--codecs", nargs="+", metavar="NAME", help="e.g. jpeg webp ours; all if not given")
    command.add_argument("--workers", type=COUNT, default=os.cpu_count(), metavar="N", help="processes")

    command = add("ablate", help="run what is missing of the ablations, rebuild their tables")
    command.add_argument("--mode", choices=["quick", "full"], default="quick")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--workers", type=COUNT, default=os.cpu_count(), metavar="N", help="processes")
    where.add_argument("--cluster", metavar="ADDRESS", help="of a Dask scheduler, e.g. tcp://host:8786")

    command = add("restore", help="a JPEG photograph in, a better picture out")
    command.add_argument("source", type=Path, metavar="IN", help="JPEG file, or folder of them")
    command.add_argument("target", type=Path, metavar="OUT", help="file .png, .webp or .jpg, or folder")
    command.add_argument("--strength", type=STRENGTH, default=1.0, metavar="S", help="of the change, 0 to 1")

    command = add("encode", help="pictures to small files, by a network")
    command.add_argument("source", type=Path, metavar="IN", help="picture, or folder of them")
    command.add_argument("target", type=Path, metavar="OUT", help="file, .npic, or folder")
    budget = command.add_mutually_exclusive_group()
    budget.add_argument("--rate", type=RATE, metavar="R", help="0 (smallest files) to 63; 32 if not given")
    budget.add_argument("--bpp", type=BITS, metavar="B", help="at most so many bits a pixel")
    budget.add_argument("--bytes", type=int, metavar="N", help="at most so many bytes")
    command.add_argument("--fit", type=MINUTES, metavar="MINUTES", help="of fitting to each picture")
    command.add_argument("--resume", action="store_true", help="go on with a fit, or a folder of them")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--workers", type=COUNT, metavar="N", help="processes, for --fit")
    where.add_argument("--cluster", metavar="ADDRESS", help="of a Dask scheduler, for --fit")

    command = add("decode", help="compressed files back to pictures")
    command.add_argument("source", type=Path, metavar="IN", help="file, or folder of them")
    command.add_argument("target", type=Path, metavar="OUT", help="file .png or .webp, or folder")

    command = add("info", help="what a compressed file holds")
    command.add_argument("source", type=Path, metavar="FILE")

    command = add("bench", help="speed as ratios measured in one run")
    command.add_argument("name", choices=["numpy", "codec"], help="next to PyTorch, next to Pillow's")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the record there")

    command = add("train", help="train a network on photographs")
    command.add_argument("task", choices=TASKS)
    command.add_argument("--images", required=True, nargs="+", metavar="DIR", help="folders, samples, live1")
    command.add_argument("--out", required=True, type=Path, metavar="FILE", help="FILE.safetensors")
    command.add_argument("--minutes", type=float, metavar="M", help="measure, then fix the steps")
    command.add_argument("--resume", action="store_true", help="go on from the checkpoint next to FILE")
    command.add_argument("--init", type=Path, metavar="FILE", help="start from weights, fresh optimiser")
    command.add_argument("--network", metavar="NAME", help="of the course's ladder, e.g. plain, unet")
    command.add_argument("--threads", type=int, metavar="N", help="of the processor")
    command.add_argument("--checkpoint-seconds", type=float, default=60, metavar="S")
    command.add_argument("--qualities", nargs=2, type=QUALITY, metavar=("LOW", "HIGH"))
    for option in fields(TrainingConfig):
        if option.name not in ("task", "qualities"):
            command.add_argument(f"--{option.name.replace('_', '-')}", type=option.type, metavar="X")
    return parser


if __name__ == "__main__":
    sys.exit(main())
