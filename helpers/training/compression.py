"""Training of the codec: where it starts, its objective and, at the end, the coder's tables."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from helpers.codec.trained import entropy_model
from helpers.codec.trained import network as codec
from helpers.models import CENTRE
from helpers.numpy_net import schedule_factor
from helpers.training.config import TrainingConfig
from helpers.training.pairs import Photographs

BLOCK_PATCHES = 512  # patches whose blocks give the KLT
TABLE_BATCHES = 16  # of patches whose coded numbers give the tables
GAUSSIAN_COUNT = 20  # numbers that a Gaussian table counts for next to them
PRIOR_STEPS, PRIOR_RATE = 1000, 3e-3  # at most a tenth of the training's own steps


def start_codec(network: codec.CompressionNetwork, photographs: Photographs, config: TrainingConfig) -> None:
    """Sets the linear transforms to the KLT and fits the entropy model to its coefficients.

    Trained together from the start, the transforms would first bend to an entropy model that predicts
    nothing yet; it learns most of what it can within a thousand cheap steps.
    """
    rng = np.random.default_rng(config.seed)
    pictures, _ = photographs.draw(config.task, BLOCK_PATCHES, config.qualities, rng)
    start_from_pictures(network, pictures.cpu())
    torch.manual_seed(config.seed)
    optimizer = torch.optim.Adam(network.prior.parameters(), PRIOR_RATE, betas=(0.9, 0.99))
    steps = min(PRIOR_STEPS, config.steps // 10)
    for step in range(steps):
        pictures, _ = photographs.draw(config.task, config.batch, config.qualities, rng)
        rate = random_rates(config.batch, rng)
        with torch.no_grad():
            y = network.analysis(pictures.cpu())
        _, bits = network.coded(network.to_steps(y, rate), rate)
        loss = (codec.rate_weight(rate) * bits).mean() / config.patch**2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.prior.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = PRIOR_RATE * schedule_factor("cosine", step, steps, warm_up=50)
        optimizer.step()


def random_rates(count: int, rng: np.random.Generator) -> torch.Tensor:
    """Rates (count,), float32, uniform in 0..63."""
    return torch.from_numpy(rng.uniform(0, codec.RATE_COUNT - 1, count).astype(np.float32))


def rate_distortion(network: Callable, inputs: torch.Tensor, targets: torch.Tensor, rng) -> tuple:
    """(outputs, loss) of the codec in training: a rate for each picture, drawn anew in each step."""
    rate = random_rates(len(inputs), rng).to(inputs.device)
    outputs, bits = network(inputs, rate)
    return outputs, codec.rate_distortion_loss(bits, outputs, targets, rate)


@torch.no_grad()
def start_from_pictures(network: codec.CompressionNetwork, pictures: torch.Tensor) -> None:
    """Sets both linear transforms to the KLT of the 8x8 colour blocks of (N, 3, H, W) in [0, 1].

    The strongest `latent` components, in the middle of the 3x3 kernels, which training widens; the entropy
    model starts with each component's deviation at the middle rate.
    """
    blocks = nn.functional.pixel_unshuffle(pictures - CENTRE, codec.STRIDE)
    flat = blocks.movedim(1, -1).flatten(0, -2).double()
    covariance = flat.T @ flat / len(flat)  # about mid-grey: the mean is the first component's
    values, vectors = torch.linalg.eigh(covariance)
    count = network.config.latent
    basis = vectors.flip(1)[:, :count].float()
    for linear, centre in ((network.analysis.linear, basis.T), (network.synthesis.linear, basis)):
        linear.weight.zero_()
        linear.weight[:, :, 1, 1] = centre / codec.LINEAR_UNIT
    deviation = 255 * values.flip(0)[:count].clamp_min(1e-12).sqrt().float()
    middle = network.gain(torch.tensor([codec.RATE_COUNT / 2]))[0, :, 0, 0]
    scale = (deviation * middle / entropy_model.SMALLEST).log() / entropy_model.SCALE_STEP
    start = scale.clamp(0, entropy_model.SCALES - 1) * entropy_model.INDEX_UNIT
    for part, channels in network.prior.parts():
        if channels.stop:  # side information predicts no channel of y
            unit = entropy_model.WEIGHT_UNIT * entropy_model.ACTIVATION_UNIT
            part.second.bias[len(start[channels]) :] = start[channels] / unit


@torch.no_grad()
def count_tables(network: codec.CompressionNetwork, photographs: Photographs, config: TrainingConfig) -> None:
    """Sets the coder's tables to how often each number occurs, by scale, in patches at all rates.

    Numbers of one size, above and below zero, are counted together. Training predicts Gaussians; what is
    left of real pictures, and of the encoder's choices, has more zeros and longer tails. A further
    leg chooses numbers by the tables of the file that it starts from, and counts them anew at its end.
    """
    gaussians, sizes = entropy_model.gaussian_tables(), (2 * entropy_model.table_bounds() + 1).tolist()
    tables = network.eval().prior.tables
    tables.copy_(gaussians)
    zeros, counts = entropy_model.bits_of(tables)[1], torch.zeros(len(tables))

    def count(channels: slice, mean: torch.Tensor, index: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
        """Counts what is coded of `in_steps`, the latent of each turn of the loop below."""
        quantized = network.quantize(channels, in_steps[:, channels] - mean, index)
        entries = (zeros[index.int()] + quantized.int())[here.expand_as(quantized) > 0]
        counts.add_(entries.bincount(minlength=len(tables)))
        return mean + quantized

    rng = np.random.default_rng(config.seed)
    for _ in range(TABLE_BATCHES):
        pictures, _ = photographs.draw(config.task, config.batch, config.qualities, rng)
        rate = random_rates(config.batch, rng)
        in_steps = network.to_steps(network.analysis(pictures.cpu()), rate)
        network.prior(rate, in_steps.shape, count)
    fitted = []
    for found, gaussian in zip(counts.split(sizes), gaussians.split(sizes), strict=True):
        share = (found + found.flip(0)) / 2 + GAUSSIAN_COUNT * gaussian / gaussian.sum()
        fitted.append((share / share.sum() * 2**entropy_model.TABLE_BITS).round().clamp_min(1).int())
    tables.copy_(torch.cat(fitted))
