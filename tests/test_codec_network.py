"""The codec's network: its start, its rates, its cost, and gradients that reach everything."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage import data as photographs

from helpers.codec.trained.entropy_model import (
    CHANNEL_GROUPS,
    SLOPE,
    bits_of,
    bounded,
    features,
    gaussian_bits,
    gaussian_tables,
    rdo_quantize,
    scale_of,
    table_bits,
    table_bounds,
)
from helpers.codec.trained.network import (
    COARSEST,
    CODEC_CONFIGS,
    FINEST,
    RATE_COUNT,
    CompressionConfig,
    CompressionNetwork,
    macs_of,
    rate_distortion_loss,
    rate_weight,
    step_of,
)
from helpers.training.compression import count_tables, start_from_pictures
from helpers.training.config import TrainingConfig
from helpers.training.pairs import Photographs

SMALL = CompressionConfig(fine=16, coarse=16, blocks=(1, 1), analysis_blocks=(1, 1), context=16)


def pictures(size=64):
    crops = [photographs.astronaut()[:size, :size], photographs.coffee()[:size, :size]]
    return torch.from_numpy(np.stack(crops).astype(np.float32) / 255).permute(0, 3, 1, 2)


def test_the_start_is_an_orthonormal_transform_of_8x8_blocks():
    network = CompressionNetwork(SMALL).eval()
    start_from_pictures(network, pictures(192))
    y = network.analysis(pictures(192))
    flat = 255 * (torch.nn.functional.pixel_unshuffle(pictures(192), 8) - 128 / 255)
    assert (y.square().sum() / flat.square().sum()).item() == pytest.approx(1, abs=0.01)  # 128 of 192 keep it
    order = y.square().mean((0, 2, 3))
    assert (order[:-1] >= order[1:] * 0.999).all()
    back = network.synthesis(y)
    lost = (back - pictures(192)).square().mean() * 255**2
    kept = flat.square().sum() - y.square().sum()
    assert lost.item() == pytest.approx((kept / flat.numel()).item(), rel=0.01)


def test_rates_go_from_coarse_to_fine_steps():
    network = CompressionNetwork(SMALL)
    gains = network.gain(torch.arange(RATE_COUNT))[:, 0, 0, 0].detach()
    assert (gains[1:] > gains[:-1]).all()
    ratio = (COARSEST / FINEST) ** (1 / 7)  # of neighbours; from the first to two above the last
    assert 1 / gains[0].item() == pytest.approx(COARSEST)
    assert 1 / gains[-1].item() == pytest.approx(FINEST / ratio**2)
    assert torch.allclose(1 / gains, step_of(torch.arange(RATE_COUNT)))
    network = network.eval()
    start_from_pictures(network, pictures())
    bits, errors = [], []
    for rate in (0, 20, 40, 56):  # untrained, it predicts for the middle: the tables cut what is larger
        with torch.no_grad():
            output, found = network(pictures(), torch.full((2,), float(rate)))
        bits.append(found.mean().item())
        errors.append((output - pictures()).square().mean().item())
    assert bits == sorted(bits) and errors == sorted(errors, reverse=True)


def test_bits_are_those_of_a_gaussian_over_whole_numbers():
    numbers = torch.arange(-700, 701).double()
    for index in (0, 30, 63):
        scale = scale_of(torch.tensor(float(index)).double())
        chances = torch.exp2(-gaussian_bits(numbers, scale))
        assert chances.sum().item() == pytest.approx(1, abs=1e-5)
    wide = gaussian_bits(torch.zeros(1), torch.tensor(50.0)).item()
    assert wide == pytest.approx(math.log2(50 * math.sqrt(2 * math.pi)), abs=0.01)


@given(st.floats(-20, 20, width=32), st.integers(0, 63), st.floats(0, 1))
def test_a_coded_number_is_the_cheaper_of_the_nearest_and_the_next_towards_zero(offset, index, rdo_strength):
    tables = gaussian_tables()
    bits, zeros = bits_of(tables)
    index_of = torch.tensor([float(index)])
    whole = rdo_quantize(torch.tensor([offset]), index_of, tables, rdo_strength)
    cost = table_bits(whole, index_of, tables)

    def price(number: int) -> float:
        return rdo_strength * bits[zeros[index] + number].item() + SLOPE * (offset - number) ** 2

    nearest = round(math.copysign(min(abs(round(offset)), table_bounds()[index]), offset))
    lower = nearest - (nearest > 0) + (nearest < 0)
    assert whole.item() in (nearest, lower) and cost.item() == bits[zeros[index] + int(whole)].item()
    assert price(int(whole)) <= min(price(nearest), price(lower)) + 1e-3
    if rdo_strength == 0:
        assert whole.item() == nearest


def test_bits_are_those_of_the_coders_tables():
    tables = gaussian_tables()
    bits, zeros = bits_of(tables)
    for index, bound in enumerate(table_bounds()):
        part = slice(int(zeros[index]) - int(bound), int(zeros[index]) + int(bound) + 1)
        assert torch.exp2(-bits[part].double()).sum().item() == pytest.approx(1, abs=1e-5)
        assert tables[zeros[index]] == tables[part].max()  # zero stands in the middle


def test_thrift_saves_more_bits_than_error_costs():
    torch.manual_seed(0)
    loss = {}
    for rdo_strength in (0.0, 0.4):
        network = CompressionNetwork(replace(SMALL, rdo_strength=rdo_strength)).eval()
        start_from_pictures(network, pictures())
        rate = torch.full((2,), 32.0)
        with torch.no_grad():
            output, bits = network(pictures(), rate)
        loss[rdo_strength] = rate_distortion_loss(bits, output, pictures(), rate).item(), bits.mean().item()
    assert loss[0.4][0] < loss[0.0][0] and loss[0.4][1] < 0.95 * loss[0.0][1]


def test_counted_tables_code_other_patches_in_fewer_bits():
    """Laplacian by nature, Gaussian by assumption: what was counted on one picture fits another."""
    torch.manual_seed(0)
    network = CompressionNetwork(SMALL).eval()
    start_from_pictures(network, pictures(192))
    astronaut, coffee = pictures(192)
    rate = torch.tensor([32.0])
    with torch.no_grad():
        before = network(coffee[None], rate)[1].item()
    picture = (255 * astronaut).byte().permute(1, 2, 0).numpy()
    count_tables(network, Photographs({"a": picture}, "rgb", 64), TrainingConfig("compress", "rgb", patch=64))
    with torch.no_grad():
        assert network(coffee[None], rate)[1].item() < 0.97 * before
    sizes = (2 * table_bounds() + 1).tolist()
    for table in network.prior.tables.split(sizes):
        assert table.min() >= 1 and torch.equal(table, table.flip(0))
        assert table.sum().item() == pytest.approx(2**16, rel=0.02)


def test_features_are_whole_numbers():
    known = torch.randint(-3000, 3000, (1, 4, 5, 6), generator=torch.Generator().manual_seed(0)) / 16
    found = features(known)
    assert found.shape == (1, 12, 5, 6) and torch.equal(found, found.round())
    assert found.abs().max() <= 1024


@pytest.mark.parametrize("rounding", ["mixed", "noise", "straight_through"])
@pytest.mark.parametrize("prior", ["context", "factorised", "hyperprior"])
def test_a_training_step_reaches_every_weight(prior, rounding):
    torch.manual_seed(0)
    network = CompressionNetwork(CompressionConfig(**{**vars(SMALL), "prior": prior, "rounding": rounding}))
    start_from_pictures(network, pictures())
    for parameter in network.parameters():  # layers that start at nothing would hide those before them
        if not parameter.any():
            torch.nn.init.normal_(parameter, 0, 0.1)
    rate = torch.tensor([10.0, 50.0])
    output, bits = network(pictures(), rate)
    rate_distortion_loss(bits, output, pictures(), rate).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_the_slope_of_the_bits_is_what_rounding_says():
    scaled = 3 * torch.randn(1, 128, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network, slopes = CompressionNetwork(SMALL).train(), {}
    start_from_pictures(network, pictures())
    for rounding in ("mixed", "straight_through", "noise"):
        network.config, latent = replace(SMALL, rounding=rounding), scaled.clone().requires_grad_()
        torch.manual_seed(1)
        network.coded(latent, torch.tensor([30.0]))[1].sum().backward()
        slopes[rounding] = latent.grad
    both = slopes["straight_through"] + slopes["noise"]
    assert slopes["noise"].any() and torch.allclose(slopes["mixed"], both, atol=1e-4)
    assert not torch.allclose(slopes["mixed"], slopes["noise"], atol=1e-2)


def test_what_a_diverged_training_codes_is_not_a_number():
    offset = torch.tensor([float("nan"), 2.3])
    assert rdo_quantize(offset, torch.tensor([3.0, 30.0]), gaussian_tables(), 0.4).isnan().tolist() == [
        True,
        False,
    ]


@pytest.mark.parametrize("wrong", [{"blocks": 2}, {"blocks": (1, "a")}, {"fine": 0}, {"context": -1}])
def test_a_mistyped_size_is_a_value_error(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CompressionConfig(**wrong)


def test_the_loss_is_weighted_bits_and_error():
    rate = torch.tensor([0.0, 63.0])
    target, output = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 2 / 255)
    loss = rate_distortion_loss(torch.tensor([0.5, 3.0]), output, target, rate).item()
    expected = np.mean(
        [
            (s / 51) ** 0.9 * (b + 26 / s**2 * 4)
            for s, b in ((step_of(rate)[0].item(), 0.5), (step_of(rate)[1].item(), 3.0))
        ]
    )
    assert loss == pytest.approx(expected, rel=1e-5)
    assert rate_weight(rate)[0] > rate_weight(rate)[1]


def test_a_bound_lets_gradients_back_inside():
    x = torch.tensor([-2.0, 0.5, 3.0, 3.0], requires_grad=True)
    bounded(x, 0, 1).backward(torch.tensor([-1.0, 1.0, 1.0, -1.0]))
    assert x.grad.tolist() == [-1, 1, 1, 0]  # a step against the gradient leads inside, but for the last


def test_costs_are_those_counted_by_hand():
    config = CODEC_CONFIGS["codec"]
    fine, coarse, latent, width = config.fine, config.coarse, config.latent, config.context
    synthesis = (
        9 * latent * 192 / 64  # linear
        + 9 * latent * coarse / 64 + config.blocks[1] * 2 * 9 * coarse**2 / 64 + coarse * 4 * fine / 64
        + config.blocks[0] * 2 * 9 * fine**2 / 16 + 9 * fine * 48 / 16
    )  # fmt: skip
    first = 3 * CHANNEL_GROUPS[0] + 2
    context = (first * width * (1 + 3 * 25) + 4 * width * 2 * CHANNEL_GROUPS[0]) / 64
    start = CHANNEL_GROUPS[0]
    for size in CHANNEL_GROUPS[1:]:
        context += 9 * ((3 * start + 1) * width + width * 2 * size) / 64
        start += size
    found = macs_of(config)
    assert found["synthesis"] == synthesis and found["context"] == context
    assert found["decoder"] == synthesis + context <= 40_000


@pytest.mark.parametrize(("name", "value"), [("prior", "magic"), ("rounding", "up"), ("activation", "tanh")])
def test_an_unknown_choice_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is '{value}'; known are"):
        CompressionConfig(**{name: value})


def test_a_thrift_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"rdo_strength is 1.5; it must lie in 0..1"):
        CompressionConfig(rdo_strength=1.5)
