"""The commands: `python -m helpers --help`."""

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path

from helpers import StudyError, commands
from helpers.training.config import TASKS, TrainingConfig


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0, or 2 after one line on stderr for each thing that could not be done."""
    if hasattr(sys.stdout, "reconfigure"):  # a file's name need not be text in any encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except StudyError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    command = subparsers.add_parser("report", help="execute the notebooks, render figures/report/")
    command.add_argument("--mode", choices=["quick", "full"], default="quick")
    command.add_argument("--only", nargs="+", metavar="NN", help="notebook numbers, e.g. 01 04")
    command.set_defaults(run=commands.report)

    command = subparsers.add_parser("data", help="bring LIVE1 into data/live1")
    command.add_argument("name", choices=["live1"])
    command.add_argument("--from", dest="source", metavar="DIR_OR_URL", help="instead of the web")
    command.set_defaults(run=commands.data)

    command = subparsers.add_parser("evaluate", help="PSNR, SSIM, PSNR-B and rate, image by image")
    command.add_argument("task", choices=["jpeg", "imitate", "restore"])
    command.add_argument("--images", required=True, metavar="DIR", help="folder, samples or live1")
    command.add_argument("--quality", nargs="+", type=_quality, default=[10, 20, 30, 40], metavar="Q")
    command.add_argument("--space", choices=["y", "rgb", "grey"], default="y")
    command.add_argument("--weights", type=Path, metavar="FILE", help="instead of the shipped ones")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the record there")
    command.set_defaults(run=commands.measure)

    command = subparsers.add_parser("rd", help="rate-distortion of codecs, BD-rates")
    command.add_argument("--images", required=True, metavar="DIR", help="folder, samples or live1")
    command.add_argument("--csv", required=True, type=Path, metavar="FILE", help="table; a figure beside it")
    command.add_argument("--codecs", nargs="+", metavar="NAME", help="e.g. jpeg webp ours; all if not given")
    command.add_argument("--workers", type=_count, default=os.cpu_count(), metavar="N", help="processes")
    command.set_defaults(run=commands.rate_distortion)

    command = subparsers.add_parser(
        "ablate", help="run what is missing of the ablations, rebuild their tables"
    )
    command.add_argument("--mode", choices=["quick", "full"], default="quick")
    place = command.add_mutually_exclusive_group()
    place.add_argument("--workers", type=_count, default=os.cpu_count(), metavar="N", help="processes")
    place.add_argument("--cluster", metavar="ADDRESS", help="of a Dask scheduler, e.g. tcp://host:8786")
    command.set_defaults(run=commands.ablate)

    command = subparsers.add_parser("restore", help="a JPEG photograph in, a better picture out")
    command.add_argument("source", type=Path, metavar="IN", help="JPEG file, or folder of them")
    command.add_argument("target", type=Path, metavar="OUT", help="file .png, .webp or .jpg, or folder")
    command.set_defaults(run=commands.restore)

    command = subparsers.add_parser("encode", help="pictures to small files, by a network")
    command.add_argument("source", type=Path, metavar="IN", help="picture, or folder of them")
    command.add_argument("target", type=Path, metavar="OUT", help="file, .npic, or folder")
    budget = command.add_mutually_exclusive_group()
    budget.add_argument("--rate", type=_rate, metavar="R", help="0 (smallest files) to 63; 32 if not given")
    budget.add_argument("--bpp", type=_positive, metavar="B", help="at most so many bits a pixel")
    budget.add_argument("--bytes", type=int, metavar="N", help="at most so many bytes")
    command.add_argument("--fit", type=_minutes, metavar="MINUTES", help="of fitting to each picture")
    command.add_argument("--resume", action="store_true", help="go on with a fit, or a folder of them")
    place = command.add_mutually_exclusive_group()
    place.add_argument("--workers", type=_count, metavar="N", help="processes, for --fit")
    place.add_argument("--cluster", metavar="ADDRESS", help="of a Dask scheduler, for --fit")
    command.set_defaults(run=commands.encode)

    command = subparsers.add_parser("decode", help="compressed files back to pictures")
    command.add_argument("source", type=Path, metavar="IN", help="file, or folder of them")
    command.add_argument("target", type=Path, metavar="OUT", help="file .png or .webp, or folder")
    command.set_defaults(run=commands.decode)

    command = subparsers.add_parser("info", help="what a compressed file holds")
    command.add_argument("source", type=Path, metavar="FILE")
    command.set_defaults(run=commands.info)

    command = subparsers.add_parser("bench", help="speed as ratios measured in one run")
    command.add_argument("name", choices=["numpy", "codec"], help="beside PyTorch, beside Pillow's")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the record there")
    command.set_defaults(run=commands.bench)

    command = subparsers.add_parser("train", help="train a network on photographs")
    command.add_argument("task", choices=TASKS)
    command.add_argument(
        "--images", required=True, nargs="+", metavar="DIR", help="folders, samples or live1"
    )
    command.add_argument("--out", required=True, type=Path, metavar="FILE", help="FILE.safetensors")
    command.add_argument("--minutes", type=float, metavar="M", help="measure, then fix the steps")
    command.add_argument("--resume", action="store_true", help="go on from the checkpoint beside FILE")
    command.add_argument("--init", type=Path, metavar="FILE", help="start from weights, fresh optimiser")
    command.add_argument("--network", metavar="NAME", help="of the course's ladder, e.g. plain, unet")
    command.add_argument("--threads", type=int, metavar="N", help="of the processor")
    command.add_argument("--checkpoint-seconds", type=float, default=60, metavar="S")
    command.add_argument("--qualities", nargs=2, type=_quality, metavar=("LOW", "HIGH"))
    for option in fields(TrainingConfig):
        if option.name not in ("task", "qualities"):
            command.add_argument(f"--{option.name.replace('_', '-')}", type=option.type, metavar="X")
    command.set_defaults(run=commands.train)
    return parser


def _quality(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 95:
        raise argparse.ArgumentTypeError(f"{text!r} is not a JPEG quality from 1 to 95")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes")
    return int(text)


def _rate(text: str) -> int:
    if not text.isdigit() or not 0 <= int(text) <= 63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate from 0 to 63")
    return int(text)


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 24 * 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above zero, a day at most")
    return value


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of bits a pixel")
    return value


if __name__ == "__main__":
    sys.exit(main())
