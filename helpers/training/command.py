"""`python -m helpers train`: photographs in, a weights file with its model card and a record out."""

import argparse
import json
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, fields, replace
from datetime import date
from pathlib import Path

import torch

from helpers import StudyError
from helpers.codec.network import CODECS, CompressionNetwork, macs_of
from helpers.data.loading import shown
from helpers.models import NETWORKS, ConvolutionalNetwork, count_parameters, macs_per_pixel
from helpers.processes import alone
from helpers.records import environment, write_record
from helpers.rounding import start_from_pixels
from helpers.training.checkpoint import Checkpoints
from helpers.training.codec_statistics import count_tables, start_codec
from helpers.training.config import TrainingConfig
from helpers.training.loop import place, train
from helpers.training.pairs import Photographs, read_photographs
from helpers.weights import digest, load_network, save_network

DEFAULT_NETWORK = {"restore": "restorer", "imitate": "rounding", "compress": "codec"}
# A rounding network has its own defaults: many blocks a step, since few of them stand at a decision.
COMPRESS = {
    "space": "rgb",
    "batch": 8,
    "patch": 96,
    "learning_rate": 1e-3,
    "gradient_clip": 1.0,
    "average": 0.999,
}
ROUNDING = {"batch": 64, "learning_rate": 3e-4, "gradient_clip": 10.0, "average": 0.998}
MEASURED_SECONDS = 30  # of training, thrown away, from which --minutes fixes the steps


def run(options: argparse.Namespace, complain: Callable[[str], None]) -> None:
    """Trains as the options say. `complain` hears one line for each picture that can't be used."""
    _check_options(options)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if place().rank:
        _run(options, lambda line: None)  # the first process says it for all
        return
    lock = options.out.with_name(f".{options.out.stem}.lock")
    with alone(lock, f"trains {shown(options.out.name)}"):
        _run(options, complain)


def _run(options: argparse.Namespace, complain: Callable[[str], None]) -> None:
    device, rank, world = place()
    checkpoints = Checkpoints(
        options.out.with_suffix(".checkpoint.json"), options.checkpoint_seconds, options.resume
    )
    if checkpoints.path.exists() and not options.resume:
        name = shown(checkpoints.path)
        raise StudyError(f"{name}: a training was interrupted here; use --resume, or remove this file")
    saved = checkpoints.read()["about"] if options.resume else {}
    config = _config(options, saved)
    images = read_photographs(options.images, config.patch, complain)
    photographs = Photographs(images, config.space, config.patch, device)
    network, card = _network(options, config, photographs)
    if options.minutes and not saved:
        if world > 1:
            raise StudyError("train: give --steps to several processes, so that all take the same number")
        config = replace(config, steps=_steps_in(options.minutes, network, photographs, config))
        print(f"{config.steps} steps fit into {options.minutes:g} minutes", flush=True)
    if not options.resume and not options.init:
        _start(network, photographs, config)
    about = {
        "training": asdict(config) | {"qualities": list(config.qualities)},
        "network": json.loads(json.dumps(asdict(network.config))),  # as it comes back from a file
        "pictures": photographs.digest(),
        "threads": torch.get_num_threads(),
        "processes": world,
        "legs": saved["legs"] if saved else card.get("legs", []),
    }
    if saved:  # a field that the checkpoint lacks is taken at its default
        usual = json.loads(json.dumps(asdict(type(network.config)())))
        saved = saved | {"network": usual | saved["network"]}
    _check_same(saved, about, checkpoints.path)
    checkpoints = replace(checkpoints, about=about)
    curve = train(network, photographs, config, lambda line: print(line, flush=True), checkpoints)
    if rank == 0:
        if isinstance(network, CompressionNetwork):
            count_tables(network, photographs, config)
        leg = _leg(about, photographs, network, config, curve)
        card = {
            "task": config.task,
            "space": config.space,
            "parameters": count_parameters(network),
            **_macs(network),
            "legs": [*about["legs"], leg],
        }
        save_network(network, options.out, card)
        write_record({**card, "curve": _thinned(curve)}, options.out.with_suffix(".json"))
        checkpoints.remove()
        print(f"{shown(options.out)}: {config.steps} steps in {leg['seconds']:.0f} s")
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
        raise StudyError(f"{shown(options.out)}: a weights file must end in .safetensors")
    if not options.out.parent.is_dir():
        raise StudyError(f"{shown(options.out.parent)}: is not a folder")
    if options.init and options.network:
        raise StudyError("train: --init brings its own network; leave --network out")


def _config(options: argparse.Namespace, saved: dict | None) -> TrainingConfig:
    """What was asked for, over what the checkpoint says, over the defaults."""
    if saved:
        defaults = saved["training"]
    else:
        rounds = options.init is None and (options.network or DEFAULT_NETWORK[options.task]) == "rounding"
        own = COMPRESS if options.task == "compress" else ROUNDING if rounds else {}
        defaults = {"precision": _precision(), **own}
    asked = {f.name: getattr(options, f.name) for f in fields(TrainingConfig)}
    asked = {name: value for name, value in asked.items() if value is not None}
    settings = {**defaults, **asked}
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


def _network(options: argparse.Namespace, config: TrainingConfig, photographs: Photographs):
    """(network to train, card of the weights that it starts from)."""
    if options.init:
        network, card = load_network(options.init, config.task, config.space)
        return _fitting(network, config), card
    channels = 1 if config.space == "y" else 3
    name = options.network or DEFAULT_NETWORK[config.task]
    known = CODECS if config.task == "compress" else NETWORKS
    if name not in known:
        raise StudyError(f"train: there is no network {name!r}; known are {', '.join(known)}")
    if config.task == "compress":
        torch.manual_seed(config.seed)
        codec = _fitting(CompressionNetwork(CODECS[name]), config)
        return codec, {}
    shape = NETWORKS[name]
    rounds = shape.arrangement == "rounding"
    if rounds and (config.task, config.space) != ("imitate", "y"):
        raise StudyError("train: the rounding network imitates luma; choose another --network")
    if rounds and config.qualities[0] != config.qualities[1]:
        raise StudyError("train: the rounding network learns the steps of one quality, not of a range")
    torch.manual_seed(config.seed)
    network = _fitting(ConvolutionalNetwork(replace(shape, image_channels=channels)), config)
    return network, {}


def _start(network, photographs: Photographs, config: TrainingConfig) -> None:
    """Sets a fresh network to where its training starts, if that is more than chance."""
    if isinstance(network, CompressionNetwork):
        start_codec(network, photographs, config)
    elif network.config.arrangement == "rounding":
        start_from_pixels(network, photographs, config.qualities, config.seed)


def _fitting(network: ConvolutionalNetwork, config: TrainingConfig) -> ConvolutionalNetwork:
    if config.patch % network.config.multiple:
        raise StudyError(f"train: the network needs patches that are multiples of {network.config.multiple}")
    return network


def _steps_in(minutes: float, network, photographs: Photographs, config: TrainingConfig) -> int:
    """Steps that fit into so many minutes, by the speed of about half a minute of training a copy."""
    trial, budget, steps = deepcopy(network), min(MEASURED_SECONDS, 6 * minutes), 3
    for _ in range(3):  # the first steps build and compile; the next ones say how many fill the budget
        curve = train(trial, photographs, replace(config, steps=steps, warm_up=1, learning_rate=0.0))
        speed = steps / curve[-1]["seconds"]
        steps = max(10, int(budget * speed))
    return max(10, int(60 * minutes * speed))


def _check_same(saved: dict, about: dict, path: Path) -> None:
    """Raises StudyError, naming the first difference, where a checkpoint is of another training."""
    for what, then in saved.items():
        now = about[what]
        if isinstance(then, dict):
            what, then, now = next(
                ((k, then.get(k), now[k]) for k in now if then.get(k) != now[k]), (what, then, now)
            )
        if then != now:
            raise StudyError(f"{shown(path)}: was made with {what} {then!r}, not {now!r}; use the same")


def _leg(about: dict, photographs: Photographs, network, config: TrainingConfig, curve: list[dict]) -> dict:
    return {
        "date": date.today().isoformat(),
        **{key: about[key] for key in ("training", "threads", "processes")},
        "pictures": {
            "count": len(photographs.names),
            "megapixels": round(photographs.megapixels, 2),
            "sha256": about["pictures"],
        },
        "seconds": curve[-1]["seconds"],
        "pixels": config.steps * config.batch * about["processes"] * config.patch**2,
        "weights_sha256": digest(network.state_dict()),  # in float32, before they are rounded for the file
        **environment(),
    }


def _macs(network) -> dict:
    """Multiply-accumulates a pixel, for the card; of a codec those of its decoder, and of each part."""
    if isinstance(network, CompressionNetwork):
        parts = macs_of(network.config)
        return {"macs_per_pixel": parts.pop("decoder"), "macs_of_parts": parts}
    return {"macs_per_pixel": macs_per_pixel(network.config)}


def _thinned(curve: list[dict], points: int = 200) -> list[dict]:
    return curve[:: -(-len(curve) // points)] + curve[-1:] * (len(curve) > points)
