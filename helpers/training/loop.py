"""The training loop: batches in, a trained network, its learning curve and checkpoints out."""

import math
import os
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from helpers.files import StudyError
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
    network: nn.Module,
    photographs: Photographs,
    config: TrainingConfig,
    report: Callable[[str], None] = lambda line: None,
    checkpoints: Checkpoints | None = None,
    objective: Callable | None = None,
) -> list[dict]:
    """Learning curve of a network trained in place: dicts of step, loss, psnr (dB), seconds.

    Each point is the mean over the steps since the last one, on training patches. `report` is called with
    a line each tenth of the way where there is no terminal for a progress bar. The same seed on the same
    processor and thread count gives the same weights bit for bit, also if the training was interrupted and
    went on from a checkpoint. Under torchrun each process draws its own patches and gradients are averaged
    (DDP). objective(network, inputs, targets, generator) is (outputs, loss); without one the loss is the
    configured one. Raises StudyError if it is no longer finite or a checkpoint can't be written.
    """
    device, rank, world = this_process()
    network.to(device, memory_format=torch.channels_last).train()
    average = deepcopy(network) if config.average else network
    optimizer = _optimizer(network, config)
    parts = {"network": network, "average": average, "optimizer": optimizer}
    progress = Progress(**checkpoints.load(parts)) if checkpoints and checkpoints.resume else Progress()
    forward = nn.parallel.DistributedDataParallel(network) if world > 1 else network
    forward = torch.compile(forward) if device.type == "cuda" else forward

    def in_precision(*inputs: torch.Tensor):
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            return forward(*inputs)

    sums = torch.zeros(3, device=device)  # loss, squared error, gradient norm since the last look
    started, saved = time.perf_counter() - progress.seconds, time.perf_counter()
    hidden = None if rank == 0 else True  # None: hidden where there is no terminal
    with tqdm(total=config.steps, initial=progress.step, unit="step", leave=False, disable=hidden) as bar:
        while progress.step < config.steps:
            rng = np.random.default_rng([config.seed, progress.step, rank])  # a step knows its patches
            torch.manual_seed(config.seed * 1_000_003 + progress.step)  # and its dropout
            inputs, targets = photographs.draw(config.task, config.batch, config.qualities, rng)
            inputs = inputs.to(device, memory_format=torch.channels_last)
            targets = targets.to(device)
            if objective:
                outputs, loss = objective(in_precision, inputs, targets, rng)
            else:
                outputs = in_precision(inputs)
                loss = LOSSES[config.loss](outputs, targets)
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
            optimizer.param_groups[0]["lr"] = config.learning_rate * learning_rate_factor(progress, config)
            optimizer.step()
            progress.step += 1
            with torch.no_grad():
                if config.average:
                    _update_average(average, network, config.average, progress.step)
                sums += torch.stack([loss, nn.functional.mse_loss(outputs, targets), norm])
            if progress.step % READ_EVERY and progress.step != config.steps:
                continue
            previous = progress.curve[-1]["step"] if progress.curve else 0
            if not _read(sums / (progress.step - previous), progress, started):
                kept = f"; {checkpoints.kept()}" if checkpoints else ""
                where = f"the loss or its gradient is not finite by step {progress.step}"
                raise StudyError(f"{where}: lower the learning rate{kept}")
            sums.zero_()
            _follow_plateau(progress, config)
            if rank == 0:
                _show(bar, progress, config, world, report, previous)
            if checkpoints and rank == 0 and time.perf_counter() - saved >= checkpoints.seconds:
                checkpoints.save(parts, asdict(progress))
                saved = time.perf_counter()
    network.load_state_dict(average.state_dict())
    network.to("cpu")
    return progress.curve


def this_process() -> tuple[torch.device, int, int]:
    """(device, rank, world): where this process trains, as one of `world` if torchrun started it."""
    cuda = torch.cuda.is_available()
    if "WORLD_SIZE" not in os.environ:
        return torch.device("cuda" if cuda else "cpu"), 0, 1
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    return device, torch.distributed.get_rank(), torch.distributed.get_world_size()


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


def _update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Moves the running mean of the weights; young ones follow faster, so that the start is forgotten."""
    share = 1 - min(decay, step / (step + 10))
    for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        mean.lerp_(value, share) if mean.is_floating_point() else mean.copy_(value)


def _read(means: torch.Tensor, progress: Progress, started: float) -> bool:
    """Adds a point to the curve: means of loss, squared error and gradient norm; False if not finite."""
    loss, squared_error, norm = means.tolist()
    progress.seconds = time.perf_counter() - started
    if not math.isfinite(loss + norm):  # a gradient that is not finite has spoilt the weights already
        return False
    psnr = -10 * math.log10(max(squared_error, 1e-12))  # equal pictures: 120 dB, not infinity
    progress.curve.append({"step": progress.step, "loss": loss, "psnr": psnr, "seconds": progress.seconds})
    return True


def _show(bar: tqdm, progress: Progress, config: TrainingConfig, world: int, report, previous: int) -> None:
    point, steps, tenth = progress.curve[-1], progress.step, max(1, config.steps // 10)
    speed = steps * config.batch * world * config.patch**2 / progress.seconds / 1e6
    bar.set_postfix_str(f"loss {point['loss']:.3g}, {point['psnr']:.2f} dB, {speed:.2f} Mpx/s", refresh=False)
    bar.update(steps - bar.n)
    if bar.disable and steps // tenth > previous // tenth:
        recent = np.mean([p["psnr"] for p in progress.curve if p["step"] > steps - tenth])
        where = f"step {steps:5d} of {config.steps}: {recent:.2f} dB on training patches"
        left = progress.seconds / steps * (config.steps - steps)
        report(f"{where}, {speed:.2f} megapixels a second, {left:.0f} s left")
