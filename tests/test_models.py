"""Networks: shapes, counts by hand, what they begin as, and what each part does."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from helpers.models import (
    ACTIVATIONS,
    NETWORKS,
    ConvolutionalNetwork,
    DenseTiles,
    NetworkConfig,
    Round,
    count_parameters,
    macs_per_pixel,
)

SMALL = NetworkConfig(unshuffle=2, width=8, depth=3)
COLOUR = {f"{name}, colour": dataclasses.replace(c, image_channels=3) for name, c in NETWORKS.items()}
EVERY = {**NETWORKS, **COLOUR, "no unshuffle": NetworkConfig(unshuffle=1, residual=False)}


@pytest.mark.parametrize("config", EVERY.values(), ids=EVERY)
def test_a_network_returns_the_shape_it_was_given(config):
    image = torch.rand(2, config.image_channels, config.multiple, 3 * config.multiple)
    output = ConvolutionalNetwork(config)(image)
    assert output.shape == image.shape and output.dtype == torch.float32 and output.isfinite().all()


@pytest.mark.parametrize("config", EVERY.values(), ids=EVERY)
def test_every_weight_gets_a_gradient(config):
    torch.manual_seed(0)
    network = ConvolutionalNetwork(config)
    for parameter in network.parameters():  # zeros on purpose would stop what lies before them
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1)
    network(torch.rand(2, config.image_channels, config.multiple, config.multiple)).square().sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_chain_counted_by_hand():
    # unshuffle 2: 4 -> 8 -> 8 -> 4 channels, kernels of nine, one place for four pixels
    weights = 9 * 4 * 8 + 9 * 8 * 8 + 9 * 8 * 4
    assert count_parameters(ConvolutionalNetwork(SMALL)) == weights + 8 + 8 + 4
    assert macs_per_pixel(SMALL) == weights / 4


def test_a_unet_counted_by_hand():
    config = NetworkConfig("unet", width=8, depth=2)
    fine = 9 * 4 * 8 + 2 * (2 * 9 * 8 * 8) + 9 * 8 * 4  # first, a block down, a block up, last
    between = 4 * 8 * 16 + 16 * 32  # 2x2 convolution down; 1x1 convolution up, both at the coarse scale
    coarse = between + 2 * (2 * 9 * 16 * 16)
    biases = 8 + 2 * 2 * 8 + 4 + 16 + 32 + 2 * 2 * 16
    assert count_parameters(ConvolutionalNetwork(config)) == fine + coarse + biases
    assert macs_per_pixel(config) == fine / 4 + coarse / 16


def test_a_dense_bottleneck_counted_by_hand():
    config = NetworkConfig("bottleneck", width=8, depth=1, latent=5, residual=False)
    convolutions = (
        9 * 4 * 8 + 9 * 8 * 8 + 9 * 8 * 4
    )  # all at the fine scale: before pooling, after upsampling
    dense = 2 * 16 * 8 * 5  # for each 4x4 places of the coarse scale
    norms = count_parameters(ConvolutionalNetwork(dataclasses.replace(config, norm="batch")))
    assert count_parameters(ConvolutionalNetwork(config)) == convolutions + 8 + 8 + 4 + dense + 5 + 128
    assert norms == count_parameters(ConvolutionalNetwork(config)) + 2 * (8 + 8)
    assert macs_per_pixel(config) == convolutions / 4 + dense / 16 / 16


def test_the_rounding_network_counted_by_hand():
    assert count_parameters(ConvolutionalNetwork(NETWORKS["rounding"])) == 64 * 64 + 2 * 64
    assert macs_per_pixel(NETWORKS["rounding"]) == 2 * 64 * 64 / 64


@pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS)
def test_counts_do_not_depend_on_the_size_and_equal_those_of_a_real_run(config):
    side = 2 * config.multiple
    with FlopCounterMode(display=False) as counter:
        ConvolutionalNetwork(config)(torch.rand(1, 1, side, side))
    assert counter.get_total_flops() / 2 / side**2 == macs_per_pixel(config)


def test_a_residual_network_begins_as_the_one_that_does_nothing():
    for config in NETWORKS.values():
        if config.residual:
            image = torch.rand(1, 1, config.multiple, config.multiple)
            assert torch.equal(ConvolutionalNetwork(config).eval()(image), image)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_configuration_chooses_the_activation(activation):
    network = ConvolutionalNetwork(dataclasses.replace(SMALL, activation=activation))
    kinds = [type(layer) for layer in network.body if not isinstance(layer, nn.Conv2d)]
    assert kinds == [ACTIVATIONS[activation]] * 2


def test_dropout_works_in_training_alone():
    network = ConvolutionalNetwork(dataclasses.replace(SMALL, dropout=0.5, residual=False))
    image = torch.rand(1, 1, 16, 16)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


def test_a_dense_tile_sees_its_own_sixteen_places():
    layer = DenseTiles(NetworkConfig("bottleneck", width=2, latent=3))
    maps = torch.rand(1, 2, 8, 8)
    changed = maps.clone()
    changed[:, :, 5, 6] += 1
    differs = (layer(maps) != layer(changed)).any(1)[0]
    assert differs[4:, 4:].all() and differs.sum() == 16


def test_rounding_is_exact_forwards_and_steep_at_decisions_backwards():
    x = torch.tensor([-1.4, 0.1, 0.5 + 1e-4, 2.0, 2.49], requires_grad=True)
    y = Round.apply(x)
    assert y.tolist() == [-1, 0, 1, 2, 2]
    y.sum().backward()
    assert torch.allclose(x.grad, 12 * (x.detach() - y.detach()).square())
    uniform = torch.linspace(-0.5, 0.5, 10_001)
    assert (12 * (uniform - uniform.round()).square()).mean() == pytest.approx(1, abs=1e-3)


def test_rounding_decides_in_float32_whatever_surrounds_it():
    torch.manual_seed(0)
    network, image = ConvolutionalNetwork(NETWORKS["rounding"]), torch.rand(1, 1, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = network(image)
    assert torch.equal(inside, network(image))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrangement": "spiral"}, "arrangement is 'spiral'; known are chain, residual"),
        ({"activation": "swish"}, "activation is 'swish'"),
        ({"norm": "layer"}, "norm is 'layer'"),
        ({"width": 0}, "width is 0; it must be at least 1"),
        ({"depth": 2.5}, "depth is 2.5"),
        ({"kernel": 4}, "kernel is 4; it must be odd"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**change)


def test_a_dilated_kernel_sees_further_for_the_same_price():
    near, far = (NetworkConfig(unshuffle=1, width=4, depth=2, residual=False, dilation=d) for d in (1, 3))
    assert macs_per_pixel(near) == macs_per_pixel(far)
    reach = []
    for config in (near, far):
        torch.manual_seed(0)
        image = torch.rand(1, 1, 31, 31, requires_grad=True)
        ConvolutionalNetwork(config)(image)[0, 0, 15, 15].backward()
        rows = image.grad[0, 0].abs().sum(1).nonzero()
        reach.append((rows.min().item(), rows.max().item()))
    assert reach == [(13, 17), (9, 21)]


@pytest.mark.parametrize(
    ("order", "kinds"),
    [
        ("convolution, norm, activation", "Conv2d BatchNorm2d ReLU Conv2d BatchNorm2d ReLU Conv2d"),
        ("convolution, activation, norm", "Conv2d ReLU BatchNorm2d Conv2d ReLU BatchNorm2d Conv2d"),
        ("norm, activation, convolution", "BatchNorm2d ReLU Conv2d BatchNorm2d ReLU Conv2d Conv2d"),
    ],
)
def test_layers_stand_in_the_order_that_was_asked_for(order, kinds):
    network = ConvolutionalNetwork(NetworkConfig(width=6, depth=3, norm="batch", order=order))
    assert " ".join(type(layer).__name__ for layer in network.body) == kinds
    network(torch.rand(1, 1, 8, 8))  # each norm has as many features as it is given


def test_a_strided_bottleneck_halves_without_pooling():
    pooled, strided = (
        ConvolutionalNetwork(NetworkConfig("bottleneck", width=8, depth=2, pooling=p))
        for p in ("max", "stride")
    )
    kinds = [[type(layer).__name__ for layer in net.body] for net in (pooled, strided)]
    assert kinds[0].count("MaxPool2d") == 2 and "MaxPool2d" not in kinds[1]
    assert [layer.stride for layer in strided.body if isinstance(layer, nn.Conv2d)][:2] == [(2, 2), (2, 2)]
    assert count_parameters(pooled) == count_parameters(strided)


def test_a_u_net_without_skips_loses_what_only_they_carry():
    torch.manual_seed(0)
    config = NetworkConfig("unet", width=4, depth=2, residual=False)
    with_skips = ConvolutionalNetwork(config)
    without = ConvolutionalNetwork(dataclasses.replace(config, skips=False))
    without.load_state_dict(with_skips.state_dict())
    for network in (with_skips, without):
        nn.init.zeros_(network.body.grow[0][0].weight)  # nothing comes up from the coarse scale
        nn.init.zeros_(network.body.grow[0][0].bias)
    image = torch.rand(1, 1, 16, 16)
    other = torch.rand(1, 1, 16, 16)
    assert torch.equal(without(image), without(other)) and not torch.equal(
        with_skips(image), with_skips(other)
    )
