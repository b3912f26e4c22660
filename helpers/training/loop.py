"""The training loop: batches in, a trained network, its learning curve and checkpoints out."""

import math
import os
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from helpers import StudyError
from helpers.codec.network import RATES, CompressionNetwork, rate_distortion
from helpers.models import ConvolutionalNetwork
from helpers.numpy_net import schedule_factor
from helpers.training.checkpoint import Checkpoints
from helpers.training.config import TrainingConfig
from helpers.training.pairs import Photographs

READ_EVERY = 10  # steps between looks at the loss: each look waits for the device


def dissimilarity(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 - SSIM, Gaussian window of 11 pixels, of pictures in [0, 1] (Wang et al. 2004; Zhao et al. 2017)."""
    import pytorch_msssim  # only here, so that the other losses need it nowhere

    return 1 - pytorch_msssim.ssim(output, target, data_range=1.0)


LOSSES = {"mse": nn.functional.mse_loss, "l1": nn.functional.l1_loss, "ssim": dissimilarity}


@dataclass
class Progress:
    """How far a training has come; all of it is in a checkpoint."""

    step: int = 0
    seconds: float = 0.0
    rate_factor: float = 1.0  # of schedule "plateau"
    best_loss: float = math.inf
    curve: list[dict] = field(default_factory=list)  # step, loss, psnr (dB), seconds


def train(
    network: ConvolutionalNetwork | CompressionNetwork,
    photographs: Photographs,
    config: TrainingConfig,
    report: Callable[[str], None] = lambda line: None,
    checkpoints: Checkpoints | None = None,
) -> list[dict]:
    """Learning curve of a network trained in place: dicts of step, loss, psnr (dB), seconds.

    Each point is the mean over the steps since the last one, on training patches. `report` hears a
    line each tenth of the way where there is no terminal for a progress bar. The same seed on the
    same processor and thread count gives the same weights bit for bit, also if the training was
    interrupted and went on from a checkpoint. Under torchrun each process draws its own patches and
    gradients are averaged (DDP).
    Raises StudyError if the loss is no longer finite or a checkpoint can't be written.
    """
    device, rank, world = place()
    network.to(device, memory_format=torch.channels_last).train()
    average = deepcopy(network) if config.average else network
    optimizer = _optimizer(network, config)
    parts = {"network": network, "average": average, "optimizer": optimizer}
    progress = Progress(**checkpoints.load(parts)) if checkpoints and checkpoints.resume else Progress()
    forward = _parallel(network, device, world)
    sums, since = torch.zeros(3, device=device), progress.step  # loss, squared error, gradient norm
    started, saved = time.perf_counter() - progress.seconds, time.perf_counter()
    with tqdm(
        total=config.steps,
        initial=progress.step,
        unit="step",
        leave=False,
        disable=None if rank == 0 else True,
    ) as bar:
        while progress.step < config.steps:
            rng = np.random.default_rng([config.seed, progress.step, rank])  # a step knows its patches
            torch.manual_seed(config.seed * 1_000_003 + progress.step)  # and its dropout
            inputs, targets = photographs.draw(config.task, config.batch, config.qualities, rng)
            inputs = inputs.to(device, memory_format=torch.channels_last)
            targets = targets.to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
                if config.task == "compress":
                    rate = torch.from_numpy(rng.uniform(0, RATES - 1, config.batch).astype(np.float32))
                    outputs, bits = forward(inputs, rate.to(device))
                else:
                    outputs = forward(inputs)
            if config.task == "compress":
                loss = rate_distortion(bits, outputs, targets, rate.to(device))
            else:
                loss = LOSSES[config.loss](outputs, targets)
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * learning_rate_factor(progress, config)
            optimizer.step()
            progress.step += 1
            _update_average(average, network, config, progress.step)
            with torch.no_grad():
                squared_error = nn.functional.mse_loss(outputs, targets)
                sums += torch.stack([loss, squared_error, norm])
            if progress.step % READ_EVERY and progress.step != config.steps:
                continue
            if not _read(sums, progress, progress.step - since, started):
                kept = f"; {checkpoints.kept()}" if checkpoints else ""
                where = f"the loss or its gradient is not finite by step {progress.step}"
                raise StudyError(f"{where}: lower the learning rate{kept}")
            since = progress.step
            _follow_plateau(progress, config)
            if rank == 0:
                _tell(bar, progress, config, world, report)
            if checkpoints and rank == 0 and time.perf_counter() - saved >= checkpoints.seconds:
                checkpoints.save(parts, asdict(progress))
                saved = time.perf_counter()
    if average is not network:
        network.load_state_dict(average.state_dict())
    network.to("cpu")
    return progress.curve


class Place(NamedTuple):
    """The device of this process, and its number among those that train together."""

    device: torch.device
    rank: int
    world: int


def place() -> Place:
    """Where this process trains: one of several if torchrun started it, else alone."""
    cuda = torch.cuda.is_available()
    if "WORLD_SIZE" not in os.environ:
        return Place(torch.device("cuda" if cuda else "cpu"), 0, 1)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    return Place(device, torch.distributed.get_rank(), torch.distributed.get_world_size())


def _parallel(network: nn.Module, device: torch.device, world: int) -> nn.Module:
    """The network as it is called in training: compiled on a GPU, gradients averaged over processes."""
    forward = nn.parallel.DistributedDataParallel(network) if world > 1 else network
    return torch.compile(forward) if device.type == "cuda" else forward


def _optimizer(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), config.learning_rate, momentum=0.9, nesterov=True)
    # Kingma and Ba 2015; the shorter memory of squared gradients follows a short training
    return torch.optim.Adam(network.parameters(), config.learning_rate, betas=(0.9, 0.99), fused=True)


def learning_rate_factor(progress: Progress, config: TrainingConfig) -> float:
    """Factor on the learning rate at a step: a linear rise, then the schedule."""
    if config.schedule == "plateau" and progress.step >= config.warm_up:
        return progress.rate_factor
    return schedule_factor(config.schedule, progress.step, config.steps, config.warm_up)


def _follow_plateau(progress: Progress, config: TrainingConfig) -> None:
    """Halves the rate of schedule "plateau" after each twentieth of the steps that brought no better loss."""
    window = max(READ_EVERY, config.steps // 20 // READ_EVERY * READ_EVERY)
    if progress.step % window or progress.step < config.warm_up:
        return
    recent = np.mean([point["loss"] for point in progress.curve if point["step"] > progress.step - window])
    if recent >= progress.best_loss:
        progress.rate_factor /= 2
    progress.best_loss = min(progress.best_loss, float(recent))


def _update_average(average: nn.Module, network: nn.Module, config: TrainingConfig, step: int) -> None:
    """Moves the running mean of the weights; young ones follow faster, so that the start is forgotten."""
    if average is network:
        return
    kept = min(config.average, step / (step + 10))
    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            mean.lerp_(value, 1 - kept) if mean.is_floating_point() else mean.copy_(value)


def _read(sums: torch.Tensor, progress: Progress, steps: int, started: float) -> bool:
    """Adds a point to the curve and clears the sums; False if they are not finite."""
    loss, squared_error, norm = (sums / steps).tolist()
    progress.seconds = time.perf_counter() - started
    if not math.isfinite(loss + norm):  # a gradient that is not finite has spoilt the weights already
        return False
    decibels = -10 * math.log10(max(squared_error, 1e-12))  # equal pictures: 120 dB, not infinity
    progress.curve.append(
        {"step": progress.step, "loss": loss, "psnr": decibels, "seconds": progress.seconds}
    )
    sums.zero_()
    return True


def _tell(bar: tqdm, progress: Progress, config: TrainingConfig, world: int, report: Callable) -> None:
    point, steps, tenth = progress.curve[-1], progress.step, max(1, config.steps // 10)
    speed = steps * config.batch * world * config.patch**2 / progress.seconds / 1e6
    bar.set_postfix_str(f"loss {point['loss']:.3g}, {point['psnr']:.2f} dB, {speed:.2f} Mpx/s", refresh=False)
    bar.update(steps - bar.n)
    previous = progress.curve[-2]["step"] if len(progress.curve) > 1 else 0
    if bar.disable and steps // tenth > previous // tenth:
        recent = [p["psnr"] for p in progress.curve if p["step"] > steps - tenth]
        left = progress.seconds / steps * (config.steps - steps)
        report(
            f"step {steps:5d} of {config.steps}: {np.mean(recent):.2f} dB on training patches, "
            f"{speed:.2f} megapixels a second, {left:.0f} s left"
        )
