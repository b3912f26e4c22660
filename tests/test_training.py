"""Networks and their training: shapes, counts by hand, the same seed twice, and learning itself."""

import numpy as np
import pytest
import torch

from helpers import jpeg, metrics
from helpers.data import center_crop, open_set
from helpers.models import ConvolutionalNetwork, NetworkConfig, count_parameters, macs_per_pixel
from helpers.training import TrainingConfig, reconstruct, train

SMALL = NetworkConfig(unshuffle=2, width=8, depth=3)


@pytest.fixture(scope="module")
def pairs():
    """JPEG to original, quality 10, 160x160 of two sample photographs."""
    originals = {
        name: center_crop(jpeg.luma(open_set("samples")[name].load()), (160, 160))
        for name in ("camera", "coffee")
    }
    return {name: (jpeg.decode(jpeg.encode(y, 10)), y) for name, y in originals.items()}


def trained(pairs, **changes):
    torch.manual_seed(0)
    network = ConvolutionalNetwork(SMALL)
    curve = train(network, pairs, TrainingConfig(**{"steps": 60, "warm_up": 10, "batch": 8, **changes}))
    return network, curve


@pytest.mark.parametrize(
    "config", [SMALL, NetworkConfig(), NetworkConfig(image_channels=3, unshuffle=1, residual=False)]
)
def test_a_network_returns_the_shape_it_was_given(config):
    image = torch.rand(2, config.image_channels, 16, 24)
    assert ConvolutionalNetwork(config)(image).shape == image.shape


def test_parameters_and_multiplications_equal_a_count_by_hand():
    # unshuffle 2: 4 -> 8 -> 8 -> 4 channels, kernels of nine, one place for four pixels
    assert count_parameters(ConvolutionalNetwork(SMALL)) == (9 * 4 * 8 + 8) + (9 * 8 * 8 + 8) + (
        9 * 8 * 4 + 4
    )
    assert macs_per_pixel(SMALL) == 9 * (4 * 8 + 8 * 8 + 8 * 4) / 4


def test_multiplications_equal_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        ConvolutionalNetwork(SMALL)(torch.rand(1, 1, 32, 32))
    assert counter.get_total_flops() / 2 == macs_per_pixel(SMALL) * 32 * 32


def test_a_residual_network_begins_as_the_one_that_does_nothing():
    image = np.random.default_rng(0).integers(0, 256, (24, 40), dtype=np.uint8)
    assert np.array_equal(reconstruct(ConvolutionalNetwork(SMALL), image), image)


@pytest.mark.parametrize("shape", [(8, 8), (17, 30), (1, 1), (9, 8)])
def test_reconstruction_keeps_any_size_grey_and_colour(shape):
    colour = ConvolutionalNetwork(NetworkConfig(image_channels=3, unshuffle=2, width=4, depth=2))
    grey_image = np.full(shape, 77, np.uint8)
    colour_image = np.full((*shape, 3), (10, 100, 200), np.uint8)
    assert np.array_equal(reconstruct(ConvolutionalNetwork(SMALL), grey_image), grey_image)
    assert np.array_equal(reconstruct(colour, colour_image), colour_image)


def test_a_short_training_restores_better_than_doing_nothing(pairs):
    network, curve = trained(pairs, steps=150)
    for coded, original in pairs.values():
        assert metrics.psnr(original, reconstruct(network, coded)) > metrics.psnr(original, coded) + 0.1
    assert len(curve) == 150 and curve[-1]["seconds"] > curve[0]["seconds"]


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(pairs):
    first, second, other = trained(pairs)[0], trained(pairs)[0], trained(pairs, seed=1)[0]
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    differs = [not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)]
    assert all(same) and all(differs)


def test_progress_is_told_in_tenths(pairs):
    lines = []
    train(
        ConvolutionalNetwork(SMALL), pairs, TrainingConfig(steps=20, warm_up=2, batch=2), report=lines.append
    )
    assert len(lines) == 10 and lines[-1].startswith("step    20 of 20:") and "0 s left" in lines[-1]


def test_a_loss_that_is_not_finite_stops_the_training(pairs):
    network = ConvolutionalNetwork(SMALL)
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="at step 1: lower the learning rate"):
        train(network, pairs, TrainingConfig(steps=2))


def test_patches_lie_on_the_grid():
    """Every training patch of a picture of block numbers begins at a block's corner."""
    rows, columns = np.indices((128, 128)) % 8
    phase = (rows * 8 + columns).astype(np.uint8)

    class Witness(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen = []

        def forward(self, image):
            self.seen.append(image[:, 0, :8, :8].mul(255).round())
            return image + self.weight

    witness = Witness()
    train(witness, {"phase": (phase, phase)}, TrainingConfig(steps=5, batch=8))
    expected = torch.from_numpy(phase[:8, :8].astype(np.float32))
    assert all(torch.equal(patch, expected) for batch in witness.seen for patch in batch)
