"""`python -m helpers train`: photographs in, a weights file with its model card and a record out."""

import argparse
import json
import math
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, fields, replace
from datetime import date
from functools import partial
from pathlib import Path

import torch

from helpers.codec.trained.network import CODEC_CONFIGS, CompressionNetwork, macs_of
from helpers.config import to_stored
from helpers.files import StudyError, alone, printable
from helpers.models import NETWORKS, ConvolutionalNetwork, count_parameters, macs_per_pixel
from helpers.records import environment, write_record
from helpers.training.checkpoint import Checkpoints
from helpers.training.compression import count_tables, rate_distortion, start_codec
from helpers.training.config import TrainingConfig
from helpers.training.loop import this_process, train
from helpers.training.pairs import Photographs, read_photographs
from helpers.training.rounding import start_from_pixels
from helpers.weights import digest, load_network, save_network

DEFAULT_NETWORK = {"restore": "restorer", "imitate": "rounding", "compress": "codec"}
COMPRESS = dict(space="rgb", batch=8, patch=96, learning_rate=1e-3, gradient_clip=1.0, average=0.999)
# A rounding network has its own defaults: many blocks a step, since few of them stand at a decision.
ROUNDING = dict(batch=64, learning_rate=3e-4, gradient_clip=10.0, average=0.998)
MEASURED_SECONDS = 30  # of training, thrown away, from which --minutes fixes the steps
CURVE_POINTS = 200  # that the record keeps, and the last


def run(options: argparse.Namespace) -> int:
    """Trains as the options say; a picture that can't be used is reported, the rest is used, status 2."""
    errors: list[str] = []

    def complain(line: str) -> None:
        errors.append(line)
        print(line, file=sys.stderr)

    _check_options(options)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if this_process()[1]:  # its number among several
        _run(options, lambda line: None)  # the first process says it for all
        return 0
    lock = options.out.with_name(f".{options.out.stem}.lock")
    with alone(lock, f"trains {printable(options.out.name)}"):
        _run(options, complain)
    return 2 if errors else 0


def _run(options: argparse.Namespace, complain: Callable[[str], None]) -> None:
    device, rank, world = this_process()
    path = options.out.with_suffix(".checkpoint.safetensors")
    if path.exists() and not options.resume:
        name = printable(path)
        raise StudyError(f"{name}: a training was interrupted here; use --resume, or remove this file")
    checkpoints = Checkpoints(path, options.checkpoint_seconds, options.resume)
    saved = checkpoints.read_about() if options.resume else {}
    config = _config(options, saved)
    images = read_photographs(options.images, config.patch, complain)
    photographs = Photographs(images, config.space, config.patch)
    if device.type == "cuda":
        photographs.to_device(device)
    network, legs = _network(options, config)
    if options.minutes and not saved:
        if world > 1:
            raise StudyError("train: give --steps to several processes, so that all take the same number")
        config = replace(config, steps=_steps_in(options.minutes, network, photographs, config))
        print(f"{config.steps} steps fit into {options.minutes:g} minutes", flush=True)
    if not options.resume and not options.init:  # where a training starts that is more than chance
        if config.task == "compress":
            start_codec(network, photographs, config)
        elif network.config.arrangement == "rounding":
            start_from_pixels(network, photographs, config.qualities, config.seed)
    about = {
        "training": asdict(config),
        "network": to_stored(network.config),
        "pictures": photographs.digest(),
        "threads": torch.get_num_threads(),
        "processes": world,
        "legs": saved["legs"] if saved else legs,
    }
    about = json.loads(json.dumps(about))  # as it comes back from a file
    if saved:  # a field that the checkpoint lacks is taken at its default
        usual = json.loads(json.dumps(to_stored(type(network.config)())))
        _check_same(saved | {"network": usual | saved["network"]}, about, path)
    checkpoints = replace(checkpoints, about=about)
    report, objective = partial(print, flush=True), rate_distortion if config.task == "compress" else None
    curve = train(network, photographs, config, report, checkpoints, objective)
    if rank == 0:
        if config.task == "compress":
            count_tables(network, photographs, config)
        _write(options.out, network, photographs, config, curve, about)
        checkpoints.remove()
        print(f"{printable(options.out)}: {config.steps} steps in {curve[-1]['seconds']:.0f} s")
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # no process ends while the first one writes
        torch.distributed.destroy_process_group()


def _check_options(options: argparse.Namespace) -> None:
    if options.threads is not None and options.threads < 1:
        raise StudyError(f"train: --threads is {options.threads}; it must be at least 1")
    if options.minutes is not None and not 0 < options.minutes < math.inf:
        raise StudyError(f"train: --minutes is {options.minutes}; it must be a positive number")
    if options.minutes is not None and options.steps is not None:
        raise StudyError("train: give --minutes or --steps, not both")
    if options.out.suffix != ".safetensors":
        raise StudyError(f"{printable(options.out)}: a weights file must end in .safetensors")
    if not options.out.parent.is_dir():
        raise StudyError(f"{printable(options.out.parent)}: is not a folder")
    if options.init and options.network:
        raise StudyError("train: --init brings its own network; leave --network out")


def _config(options: argparse.Namespace, saved: dict) -> TrainingConfig:
    """What was asked for, over what the checkpoint says, over the defaults."""
    if saved:
        defaults = saved["training"]
    else:
        rounds = options.init is None and (options.network or DEFAULT_NETWORK[options.task]) == "rounding"
        own = COMPRESS if options.task == "compress" else ROUNDING if rounds else {}
        defaults = {"precision": _precision(), **own}
    asked = {f.name: getattr(options, f.name) for f in fields(TrainingConfig)}
    settings = defaults | {name: value for name, value in asked.items() if value is not None}
    settings["qualities"] = tuple(settings.get("qualities", (10, 10)))
    try:
        return TrainingConfig(**settings)
    except ValueError as error:
        raise StudyError(f"train: {error}") from None


def _precision() -> str:
    """bfloat16 where the processor multiplies it natively, which is about twice as fast; else float32."""
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:  # not Linux
        return "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


def _network(options: argparse.Namespace, config: TrainingConfig) -> tuple[torch.nn.Module, list[dict]]:
    """(network to train, former legs of the weights that it starts from)."""
    kind = CompressionNetwork if config.task == "compress" else ConvolutionalNetwork
    if options.init:
        network, card = load_network(options.init, kind, config.task, config.space)
    else:
        name = options.network or DEFAULT_NETWORK[config.task]
        known = CODEC_CONFIGS if config.task == "compress" else NETWORKS
        if name not in known:
            raise StudyError(f"train: there is no network {name!r}; known are {', '.join(known)}")
        shape = known[name]
        rounds = getattr(shape, "arrangement", None) == "rounding"
        if rounds and (config.task, config.space) != ("imitate", "y"):
            raise StudyError("train: the rounding network imitates luma; choose another --network")
        if rounds and config.qualities[0] != config.qualities[1]:
            raise StudyError("train: the rounding network learns the steps of one quality, not of a range")
        if config.task != "compress":
            shape = replace(shape, image_channels=1 if config.space == "y" else 3)
        torch.manual_seed(config.seed)
        network, card = kind(shape), {}
    if config.patch % network.config.multiple:
        raise StudyError(f"train: the network needs patches that are multiples of {network.config.multiple}")
    return network, card.get("legs", [])


def _steps_in(minutes: float, network, photographs: Photographs, config: TrainingConfig) -> int:
    """Steps that fit into `minutes`, by the speed of about half a minute of training a copy."""
    trial, budget, steps = deepcopy(network), min(MEASURED_SECONDS, 6 * minutes), 3
    for _ in range(3):  # the first steps build and compile; the next ones say how many fill the budget
        still = replace(config, steps=steps, warm_up=1, learning_rate=0.0)
        objective = rate_distortion if config.task == "compress" else None
        speed = steps / train(trial, photographs, still, objective=objective)[-1]["seconds"]
        steps = max(10, int(budget * speed))
    return max(10, int(60 * minutes * speed))


def _check_same(saved: dict, about: dict, path: Path) -> None:
    """Raises StudyError, naming the first difference, where a checkpoint is of another training."""
    then, now = ({**one["training"], **one["network"], **one} for one in (saved, about))
    for what in now | then:
        if (old := then.get(what)) != (new := now.get(what)):
            raise StudyError(f"{printable(path)}: was made with {what} {old!r}, not {new!r}; use the same")


def _write(out: Path, network, photographs: Photographs, config, curve: list[dict], about: dict) -> None:
    """The weights with their card, and the record: of a codec MACs are its decoder's, and of each part."""
    count, megapixels = len(photographs.names), round(photographs.megapixels, 2)
    leg = {
        "date": date.today().isoformat(),
        **{key: about[key] for key in ("training", "threads", "processes")},
        "pictures": {"count": count, "megapixels": megapixels, "sha256": about["pictures"]},
        "seconds": curve[-1]["seconds"],
        "pixels": config.steps * config.batch * about["processes"] * config.patch**2,
        "weights_sha256": digest(network.state_dict()),  # in float32, before they are rounded for the file
        **environment(),
    }
    if config.task == "compress":
        parts = macs_of(network.config)
        macs = {"macs_per_pixel": parts.pop("decoder"), "macs_of_parts": parts}
    else:
        macs = {"macs_per_pixel": macs_per_pixel(network.config)}
    card = {"task": config.task, "space": config.space, "parameters": count_parameters(network), **macs}
    card["legs"] = [*about["legs"], leg]
    save_network(network, out, card)
    thinned = curve[:: math.ceil(len(curve) / CURVE_POINTS)] + curve[-1:] * (len(curve) > CURVE_POINTS)
    write_record({**card, "curve": thinned}, out.with_suffix(".json"))
