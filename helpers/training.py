"""Training: pairs of pictures in, a trained network and its learning curve out."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from helpers.data.patches import GRID

Pairs = Mapping[str, tuple[np.ndarray, np.ndarray]]  # scene -> (input, target), uint8, one shape


@dataclass(frozen=True)
class TrainingConfig:
    steps: int = 600
    batch: int = 16  # patches a step
    patch: int = 64  # pixels a side; a multiple of 8, cut on JPEG's grid
    learning_rate: float = 3e-3  # Adam's, at its highest
    warm_up: int = 50  # steps of linear rise, then a cosine down to zero
    gradient_clip: float = 0.5  # norm
    seed: int = 0


def train(
    network: torch.nn.Module,
    pairs: Pairs,
    config: TrainingConfig,
    report: Callable[[str], None] = lambda line: None,
) -> list[dict]:
    """Learning curve of a network trained in place: dicts of step, psnr (dB, of the batch), seconds.

    Minimises the mean squared error on random grid-aligned patches with Adam (Kingma and Ba 2015).
    `report` hears one line each tenth of the way. The same seed on the same thread count gives the
    same weights bit for bit. Raises FloatingPointError if the loss is no longer finite.
    """
    rng = np.random.default_rng(config.seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    network.train()
    curve, start = [], time.perf_counter()
    for step in range(1, config.steps + 1):
        inputs, targets = _batch(pairs, config, rng)
        loss = torch.nn.functional.mse_loss(network(inputs), targets)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}: lower the learning rate")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
        optimizer.step()
        schedule.step()
        seconds = time.perf_counter() - start
        decibels = -10 * math.log10(max(loss.item(), 1e-12))  # equal pictures: 120 dB, not infinity
        curve.append({"step": step, "psnr": decibels, "seconds": seconds})
        if step % max(1, config.steps // 10) == 0:
            tenth = np.mean([point["psnr"] for point in curve[-config.steps // 10 :]])
            pixels = step * config.batch * config.patch**2 / seconds
            left = seconds / step * (config.steps - step)
            report(
                f"step {step:5d} of {config.steps}: {tenth:.2f} dB on training patches, "
                f"{pixels / 1e6:.2f} megapixels a second, {left:.0f} s left"
            )
    return curve


def reconstruct(network: torch.nn.Module, image: np.ndarray) -> np.ndarray:
    """The network's picture of a uint8 image (H, W) or (H, W, 3): same shape, rounded and clipped.

    Sides that are no multiple of 8 are filled by repeating the edge and cut off again.
    """
    height, width = image.shape[:2]
    padding = [(0, -height % GRID), (0, -width % GRID)] + [(0, 0)] * (image.ndim - 2)
    batch = _tensor(np.pad(image, padding, mode="edge")[None])
    network.eval()
    with torch.inference_mode():
        output = network(batch)[0].clamp(0, 1).mul(255).round().byte()
    return output.permute(1, 2, 0).numpy().reshape(*batch.shape[2:], *image.shape[2:])[:height, :width]


def _rate(step: int, config: TrainingConfig) -> float:
    """Factor on the learning rate: linear warm-up, then half a cosine (Loshchilov and Hutter 2017)."""
    if step < config.warm_up:
        return (step + 1) / config.warm_up
    done = (step - config.warm_up) / max(1, config.steps - config.warm_up)
    return 0.5 * (1 + math.cos(math.pi * done))


def _batch(
    pairs: Pairs, config: TrainingConfig, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    names = list(pairs)
    inputs, targets = [], []
    for _ in range(config.batch):
        first, second = pairs[names[rng.integers(len(names))]]
        row, column = (GRID * rng.integers((side - config.patch) // GRID + 1) for side in first.shape[:2])
        cut = np.s_[row : row + config.patch, column : column + config.patch]
        inputs.append(first[cut])
        targets.append(second[cut])
    return _tensor(np.stack(inputs)), _tensor(np.stack(targets))


def _tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W) or (N, H, W, C) to float32 (N, C, H, W) in [0, 1]."""
    stacked = images[..., None] if images.ndim == 3 else images
    return torch.from_numpy(stacked.astype(np.float32) / 255).permute(0, 3, 1, 2).contiguous()
