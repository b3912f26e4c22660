"""One run: trained, judged on scenes it has not seen, and its record."""

import math
import threading
import time
from functools import cache

import numpy as np
import torch

from helpers import data, jpeg, metrics
from helpers.codec.trained.network import CompressionNetwork, macs_of, rate_distortion_loss
from helpers.config import to_stored
from helpers.experiments.grid import VERSION, Run
from helpers.files import StudyError
from helpers.models import ConvolutionalNetwork, count_parameters, macs_per_pixel, to_tensor
from helpers.records import environment
from helpers.restoring import reconstruct
from helpers.training.compression import count_tables, rate_distortion, start_codec
from helpers.training.loop import train
from helpers.training.pairs import Photographs

QUALITY = 10  # of JPEG, for the tasks that have one
JUDGED_RATES = (12, 36, 60)  # at which a codec is judged
_one_at_a_time = threading.Lock()  # seeds and thread counts are the process's; a worker may have many threads


def measure_run(run: Run) -> dict:
    """The record of a run: configuration, cost, learning curve, measures of each test scene.

    `seconds` are processor seconds of the training, on one thread. PSNR in dB and SSIM are against the
    task's target; of `imitate` psnr_original is against the original; of `compress` there is `score`
    instead, see `score_of`, and MACs are the decoder's. A training whose loss is no longer finite is
    recorded as diverged and has no measures. Raises StudyError where the image set is not here.
    """
    with _one_at_a_time:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return _measured(run)
        finally:
            torch.set_num_threads(threads)


def _measured(run: Run) -> dict:
    config, codes = run.training, run.training.task == "compress"
    photographs, tests = training_photographs(run), test_scenes(run.images, run.fold, config.space)
    network = untrained(run)
    start, curve, diverged = time.process_time(), [], False
    try:
        if codes:
            start_codec(network, photographs, config)
        curve = train(network, photographs, config, objective=rate_distortion if codes else None)
        if codes:
            count_tables(network, photographs, config)
    except StudyError as error:
        if "not finite" not in str(error):
            raise
        diverged = True
    seconds = time.process_time() - start
    return {
        "key": run.key(),
        "version": VERSION,
        "run": to_stored(run),
        "parameters": count_parameters(network),
        "macs_per_pixel": macs_of(run.network)["decoder"] if codes else macs_per_pixel(run.network),
        "seconds": round(seconds, 3),
        "steps": config.steps,
        "pixels": config.steps * config.batch * config.patch**2,
        "diverged": diverged,
        "curve": [{"step": p["step"], "psnr": round(p["psnr"], 3)} for p in curve],
        "scenes": [] if diverged else [judged(network, config.task, *test) for test in tests],
        **environment(),
    }


def untrained(run: Run) -> ConvolutionalNetwork | CompressionNetwork:
    """The network of a run as its seed makes it."""
    torch.manual_seed(run.training.seed)
    kind = CompressionNetwork if run.training.task == "compress" else ConvolutionalNetwork
    return kind(run.network)


def judged(network: torch.nn.Module, task: str, name: str, original: np.ndarray) -> dict:
    """Measures of what a network makes of one scene, uint8: luma (H, W), or colour (H, W, 3) to compress."""
    if task == "compress":
        return {"scene": name, "score": round(score_of(network, original), 4)}
    coded = jpeg.decode(jpeg.encode(original, QUALITY))
    source, target = (original, coded) if task == "imitate" else (coded, original)
    output = reconstruct(network, source)
    found = {"psnr": metrics.psnr(target, output), "ssim": metrics.ssim(target, output)}
    if task == "imitate":
        found["psnr_original"] = metrics.psnr(original, output)
    return {"scene": name, **{measure: round(value, 4) for measure, value in found.items()}}


@torch.inference_mode()
def score_of(network: CompressionNetwork, original: np.ndarray) -> float:
    """-100 times the logarithm of the Lagrangian, mean over JUDGED_RATES: one more costs 1 % less.

    Latents as the encoder chooses them, bits as the integer tables have them, on the middle 256x256 pixels.
    """
    image = to_tensor(data.center_crop(original, (256, 256))[None])
    network.eval()
    losses = []
    for rate in torch.tensor(JUDGED_RATES, dtype=torch.float32).split(1):
        output, bits = network(image, rate)
        losses.append(rate_distortion_loss(bits, output.clamp(0, 1), image, rate).item())
    return -100 * math.log(np.mean(losses))


def training_photographs(run: Run) -> Photographs:
    """The scenes that a run trains on, to draw patches from; read once a process."""
    return _photographs(run.images, run.fold, run.aligned, run.training.patch, run.training.space)


@cache  # workers take many runs
def _photographs(images: str, fold: int, aligned: bool, patch: int, space: str) -> Photographs:
    found = data.open_set(images)
    training, validation, _ = data.split(found, fold)
    pictures = {name: found[name].load() for name in training + validation}
    return Photographs(pictures, space, patch, aligned)


@cache
def test_scenes(images: str, fold: int, space: str) -> list[tuple[str, np.ndarray]]:
    """(name, picture in that space, cropped to JPEG's grid) of each test scene of a fold."""
    found = data.open_set(images)
    names = data.split(found, fold)[2]
    return [(name, data.crop_to_grid(jpeg.as_space(found[name].load(), space))) for name in names]
