"""One run: trained, judged on scenes it has not seen, and its record."""

import math
import threading
import time
from dataclasses import asdict
from functools import cache

import numpy as np
import torch

from helpers import StudyError, data, jpeg, metrics
from helpers.codec.network import CompressionNetwork, macs_of, rate_distortion
from helpers.experiments.grid import VERSION, Run
from helpers.models import ConvolutionalNetwork, count_parameters, macs_per_pixel
from helpers.records import environment
from helpers.restoring import reconstruct
from helpers.training.codec_statistics import count_tables, start_codec
from helpers.training.loop import train
from helpers.training.pairs import Photographs, as_space, to_tensor

QUALITY = 10  # of JPEG, for the tasks that have one
RATES = (12, 36, 60)  # at which a codec is judged
_alone = threading.Lock()  # seeds and thread counts are the process's: a worker of many threads waits here


def measure(run: Run) -> dict:
    """The record of a run: configuration, cost, learning curve, measures of each test scene.

    `seconds` are processor seconds of the training, on one thread. PSNR in dB and SSIM are against the
    task's target; of `imitate` psnr_original is against the original; of `compress` there is `score`
    instead, see `score_of`, and MACs are the decoder's. A training whose loss is no longer finite is
    recorded as diverged and has no measures. Raises StudyError where the image set is not here.
    """
    with _alone:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return _measured(run)
        finally:
            torch.set_num_threads(threads)


def _measured(run: Run) -> dict:
    task = run.training.task
    photographs, tests = training_photographs(run), test_scenes(run.images, run.fold, run.training.space)
    network = untrained(run)
    start, curve, diverged = time.process_time(), [], False
    try:
        if task == "compress":
            start_codec(network, photographs, run.training)
        curve = train(network, photographs, run.training)
        if task == "compress":
            count_tables(network, photographs, run.training)
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
        "macs_per_pixel": macs_of(run.network)["decoder"]
        if task == "compress"
        else macs_per_pixel(run.network),
        "seconds": round(seconds, 3),
        "steps": run.training.steps,
        "pixels": run.training.steps * run.training.batch * run.training.patch**2,
        "diverged": diverged,
        "curve": [{"step": p["step"], "psnr": round(p["psnr"], 3)} for p in curve],
        "scenes": [] if diverged else [judged(network, task, *test) for test in tests],
        **environment(),
    }


def untrained(run: Run) -> ConvolutionalNetwork | CompressionNetwork:
    """The network of a run as its seed makes it."""
    torch.manual_seed(run.training.seed)
    if run.training.task == "compress":
        return CompressionNetwork(run.network)
    return ConvolutionalNetwork(run.network)


def judged(
    network: ConvolutionalNetwork | CompressionNetwork, task: str, name: str, original: np.ndarray
) -> dict:
    """Measures of what a network makes of one scene, uint8: luma (H, W), or colour (H, W, 3) to compress."""
    if task == "compress":
        return {"scene": name, "score": round(score_of(network, original), 4)}
    coded = jpeg.decode(jpeg.encode(original, QUALITY))
    source, target = (original, coded) if task == "imitate" else (coded, original)
    output = reconstruct(network, source)
    found = {"psnr": metrics.psnr(target, output), "ssim": metrics.ssim(target, output)}
    if task == "imitate":
        found["psnr_original"] = metrics.psnr(original, output)
    return {"scene": name, **{key: round(value, 4) for key, value in found.items()}}


@torch.inference_mode()
def score_of(network: CompressionNetwork, original: np.ndarray) -> float:
    """-100 times the logarithm of the Lagrangian, mean over RATES: one more is one percent less to pay.

    Latents as the encoder chooses them, bits as the integer tables have them, on the middle 256 x 256 pixels.
    """
    image = to_tensor(data.center_crop(original, (256, 256))[None])
    network.eval()
    losses = []
    for rate in RATES:
        rates = torch.tensor([float(rate)])
        output, bits = network(image, rates)
        losses.append(rate_distortion(bits, output.clamp(0, 1), image, rates).item())
    return -100 * math.log(np.mean(losses))


def training_photographs(run: Run) -> Photographs:
    """The scenes that a run trains on, to draw patches from; read once a process."""
    return _photographs(run.images, run.fold, run.aligned, run.training.patch, run.training.space)


@cache  # workers take many runs
def _photographs(images: str, fold: int, aligned: bool, patch: int, space: str) -> Photographs:
    found = data.open_set(images)
    train_names, validation, _ = data.split(found, fold)
    pictures = {name: found[name].load() for name in train_names + validation}
    return Photographs(pictures, space, patch, aligned=aligned)


@cache
def test_scenes(images: str, fold: int, space: str) -> list[tuple[str, np.ndarray]]:
    """(name, picture in that space, cropped to JPEG's grid) of each test scene of a fold."""
    found = data.open_set(images)
    names = data.split(found, fold)[2]
    return [(name, data.crop_to_grid(as_space(found[name].load(), space))) for name in names]
