"""One run: trained, judged on scenes it has not seen, and its record."""

import math
import time
from dataclasses import asdict
from functools import cache

import numpy as np
import torch

from helpers import StudyError, data, jpeg, metrics
from helpers.experiments.grid import VERSION, Run
from helpers.models import ConvolutionalNetwork, count_parameters, macs_per_pixel
from helpers.records import environment
from helpers.restoring import reconstruct
from helpers.training.loop import train
from helpers.training.pairs import Photographs


def measure(run: Run) -> dict:
    """The record of a run: configuration, cost, learning curve, measures of each test scene.

    `seconds` are processor seconds of the training, on one thread. PSNR in dB and SSIM are against the
    task's target; of `imitate` psnr_original is against the original. A training whose loss is no longer
    finite is recorded as diverged and has no measures. Raises StudyError where the image set is not here.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measured(run)
    finally:
        torch.set_num_threads(threads)


def _measured(run: Run) -> dict:
    photographs, tests = _parts(run.images, run.fold, run.aligned, run.training.patch)
    network = untrained(run)
    start, curve, diverged = time.process_time(), [], False
    try:
        curve = train(network, photographs, run.training)
    except StudyError as error:
        if "not finite" not in str(error):
            raise
        diverged = True
    seconds = time.process_time() - start
    return {
        "key": run.key(),
        "version": VERSION,
        "run": asdict(run),
        "parameters": count_parameters(network),
        "macs_per_pixel": macs_per_pixel(run.network),
        "seconds": round(seconds, 3),
        "steps": run.training.steps,
        "pixels": run.training.steps * run.training.batch * run.training.patch**2,
        "diverged": diverged,
        "curve": [{"step": p["step"], "psnr": round(p["psnr"], 3)} for p in curve],
        "scenes": [] if diverged else [judged(network, run.training.task, *test) for test in tests],
        **environment(),
    }


def untrained(run: Run) -> ConvolutionalNetwork:
    """The network of a run as its seed makes it."""
    torch.manual_seed(run.training.seed)
    return ConvolutionalNetwork(run.network)


def judged(
    network: ConvolutionalNetwork, task: str, name: str, original: np.ndarray, coded: np.ndarray
) -> dict:
    """Measures of what a network makes of one scene, luma (H, W) uint8 and its JPEG."""
    source, target = (original, coded) if task == "imitate" else (coded, original)
    output = reconstruct(network, source)
    found = {"scene": name, "psnr": metrics.psnr(target, output), "ssim": metrics.ssim(target, output)}
    if task == "imitate":
        found["psnr_original"] = metrics.psnr(original, output)
    return {key: round(x, 4) if isinstance(x, float) and math.isfinite(x) else x for key, x in found.items()}


@cache  # workers take many runs
def _parts(images: str, fold: int, aligned: bool, patch: int) -> tuple[Photographs, list[tuple]]:
    """(training photographs, (name, luma, its JPEG at quality 10) of each test scene) of a fold."""
    found = data.open_set(images)
    train_names, validation, test = data.split(found, fold)
    photographs = Photographs(
        {name: found[name].load() for name in train_names + validation}, "y", patch, aligned=aligned
    )
    return photographs, [_pair(name, found[name].load()) for name in test]


def _pair(name: str, picture: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    original = data.crop_to_grid(jpeg.luma(picture))
    return name, original, jpeg.decode(jpeg.encode(original, 10))
