"""What of a codec is counted: transforms that training starts from and, at its end, the coder's tables."""

import numpy as np
import torch
from torch import nn

from helpers.codec.network import LINEAR_UNIT, RATES, STRIDE, CompressionNetwork, rate_weight
from helpers.codec.prior import (
    INDEX_UNIT,
    SCALE_STEP,
    SCALES,
    SMALLEST,
    TABLE_BITS,
    UNIT,
    WEIGHT_UNIT,
    bits_of,
    gaussian_tables,
    table_bounds,
)
from helpers.models import CENTRE
from helpers.numpy_net import schedule_factor
from helpers.training.config import TrainingConfig
from helpers.training.pairs import Photographs

BLOCK_PATCHES = 512  # patches whose blocks give the KLT
TABLE_BATCHES = 16  # of patches whose coded numbers give the tables
GAUSSIAN_COUNT = 20  # numbers that a Gaussian table counts for beside them
PRIOR_STEPS, PRIOR_RATE = 1000, 3e-3  # at most a tenth of the training's own steps


def start_codec(network: CompressionNetwork, photographs: Photographs, config: TrainingConfig) -> None:
    """Sets the linear transforms to the KLT and fits the entropy model to its coefficients.

    Trained together from the start, the transforms would first bend to an entropy model that foretells
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
        rate = torch.from_numpy(rng.uniform(0, RATES - 1, config.batch).astype(np.float32))
        with torch.no_grad():
            y = network.analysis(pictures.cpu())
        _, bits = network.coded(network.scaled(y, rate), rate)
        loss = (rate_weight(rate) * bits).mean() / config.patch**2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.prior.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = PRIOR_RATE * schedule_factor("cosine", step, steps, warm_up=50)
        optimizer.step()


@torch.no_grad()
def start_from_pictures(network: CompressionNetwork, pictures: torch.Tensor) -> None:
    """Sets both linear transforms to the KLT of the 8x8 colour blocks of (N, 3, H, W) in [0, 1].

    The strongest `latent` components, in the middle of the 3x3 kernels, which training widens; the entropy
    model starts with each component's deviation at the middle rate.
    """
    blocks = nn.functional.pixel_unshuffle(pictures - CENTRE, STRIDE)
    flat = blocks.movedim(1, -1).flatten(0, -2).double()
    covariance = flat.T @ flat / len(flat)  # about mid-grey: the mean is the first component's
    values, vectors = torch.linalg.eigh(covariance)
    count = network.config.latent
    basis = vectors.flip(1)[:, :count].float()
    for linear, centre in ((network.analysis.linear, basis.T), (network.synthesis.linear, basis)):
        linear.weight.zero_()
        linear.weight[:, :, 1, 1] = centre / LINEAR_UNIT
    deviation = 255 * values.flip(0)[:count].clamp_min(1e-12).sqrt().float()
    middle = network.gain(torch.tensor([RATES / 2]))[0, :, 0, 0]
    start = ((deviation * middle / SMALLEST).log() / SCALE_STEP).clamp(0, SCALES - 1) * INDEX_UNIT
    for foretell, channels in network.prior.parts():
        if channels.stop:  # side information foretells no channel of y
            foretell.second.bias[len(start[channels]) :] = start[channels] / (WEIGHT_UNIT * UNIT)


@torch.no_grad()
def count_tables(network: CompressionNetwork, photographs: Photographs, config: TrainingConfig) -> None:
    """Sets the coder's tables to how often each number occurs, by scale, in patches at all rates.

    Numbers of one size, above and below zero, are counted together. Training foretells Gaussians; what is
    left of real pictures, and of the encoder's choices, has more zeros and longer tails. A further
    leg chooses numbers by the tables of the file that it starts from, and counts them anew at its end.
    """
    usual, sizes = gaussian_tables(), (2 * table_bounds() + 1).tolist()
    network.eval().prior.tables.copy_(usual)
    rng, counts = np.random.default_rng(config.seed), torch.zeros(len(usual))
    for _ in range(TABLE_BATCHES):
        pictures, _ = photographs.draw(config.task, config.batch, config.qualities, rng)
        rate = torch.from_numpy(rng.uniform(0, RATES - 1, config.batch).astype(np.float32))
        counts += _counts(network, network.scaled(network.analysis(pictures.cpu()), rate), rate)
    fitted = []
    for found, gaussian in zip(counts.split(sizes), usual.split(sizes), strict=True):
        share = (found + found.flip(0)) / 2 + GAUSSIAN_COUNT * gaussian / gaussian.sum()
        fitted.append((share / share.sum() * 2**TABLE_BITS).round().clamp_min(1).int())
    network.prior.tables.copy_(torch.cat(fitted))


def _counts(network: CompressionNetwork, scaled: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """How often each entry of the tables codes a number of a scaled latent."""
    tables = network.prior.tables
    zeros, counts = bits_of(tables)[1], torch.zeros(len(tables))

    def code(channels: slice, mean: torch.Tensor, index: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
        whole = network.chosen(channels, scaled[:, channels] - mean, index)
        entries = (zeros[index.int()] + whole.int())[here.expand_as(whole) > 0]
        counts.add_(entries.bincount(minlength=len(tables)))
        return mean + whole

    network.prior(rate, scaled.shape, code)
    return counts
