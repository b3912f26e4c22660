"""PyTorch networks, each built from one frozen configuration; their parameters and operations counted."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from helpers.config import check_known, check_range, check_types

CENTRE = 128 / 255  # mid-grey: inputs are centred, since a common brightness makes layers ill-conditioned
ACTIVATIONS = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "gelu": nn.GELU,
    "none": nn.Identity,
}  # fmt: skip
NORMS = {"none": None, "batch": nn.BatchNorm2d}
ORDERS = {
    "convolution, norm, activation": "cna",
    "convolution, activation, norm": "can",
    "norm, activation, convolution": "nac",
}
POOLINGS = ("max", "stride")
DENSE_TILE = 4  # positions a side of a feature map that one dense bottleneck looks at
MOST_DEPTH = 64  # of a file that claims more nothing is built


@dataclass(frozen=True)
class NetworkConfig:
    """One network from image to image; `arrangement` says how its layers are put together:

    - `chain`: `depth` convolutions one after another;
    - `residual`: a first and a last convolution, `depth` residual blocks between (He et al. 2016);
    - `bottleneck`: `depth` times convolution and max-pooling by 2, at the narrowest scale a dense
      layer to `latent` numbers for each 4x4 positions (none if 0), and the way back by upsampling;
    - `unet`: `depth` scales, 1, 2, 3, ... residual blocks at each on the way down and up, the width
      doubled by each halving, skip connections added (Ronneberger et al. 2015; Zhang et al. 2021);
    - `rounding`: linear analysis of each block to `width` numbers, rounding to learnt steps, and linear
      synthesis.

    Pixels are first gathered into channels (pixel unshuffle by `unshuffle`, Shi et al. 2016 backwards).
    With 8, and an image that begins on JPEG's 8x8 grid, each channel has one phase in the grid.
    """

    arrangement: str = "chain"
    image_channels: int = 1
    unshuffle: int = 2  # 8: the grid of JPEG is visible; 1: no position knows where a block begins
    width: int = 32  # channels between the convolutions; of a U-Net at its finest scale
    depth: int = 5
    kernel: int = 3
    dilation: int = 1  # positions between the taps of a kernel (Yu and Koltun 2016)
    activation: str = "relu"
    norm: str = "none"
    order: str = "convolution, norm, activation"  # or another of ORDERS
    dropout: float = 0.0  # share of channels set to zero in training (Tompson et al. 2015)
    latent: int = 0
    pooling: str = "max"  # of a bottleneck; "stride": the convolution itself steps over two positions
    skips: bool = True  # a U-Net without them keeps its shape and loses its shortcuts
    residual: bool = True  # learn the change, not the picture

    def __post_init__(self):
        check_types(self)
        check_known(self, arrangement=ARRANGEMENTS, activation=ACTIVATIONS, norm=NORMS)
        check_known(self, order=ORDERS, pooling=POOLINGS)
        check_range(self, ("image_channels", "unshuffle", "width", "kernel", "dilation"), 1)
        check_range(self, ("depth",), 1, MOST_DEPTH)
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; it must be odd, so that it has a middle")
        check_range(self, ("latent",), 0)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must lie in [0, 1)")

    @property
    def multiple(self) -> int:
        """Pixels that the sides of an input must be a multiple of."""
        halvings = {"bottleneck": self.depth, "unet": self.depth - 1}.get(self.arrangement, 0)
        tile = DENSE_TILE if self.arrangement == "bottleneck" and self.latent else 1
        return self.unshuffle * 2**halvings * tile


class ConvolutionalNetwork(nn.Module):
    """float32 (N, C, H, W) in [0, 1] to the same shape; H and W multiples of `config.multiple`."""

    Config = NetworkConfig

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.body = ARRANGEMENTS[config.arrangement](config, config.image_channels * config.unshuffle**2)
        if config.residual:  # start as the do-nothing baseline
            _zero([layer for layer in self.body.modules() if isinstance(layer, nn.Conv2d)][-1])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        channels = nn.functional.pixel_unshuffle(image - CENTRE, self.config.unshuffle)
        # float32 again after bf16: sums with the picture keep its precision
        output = nn.functional.pixel_shuffle(self.body(channels).float(), self.config.unshuffle)
        return output + (image if self.config.residual else CENTRE)


def chain(config: NetworkConfig, ends: int) -> nn.Module:
    """(N, ends, h, w) to the same through `config.depth` convolutions."""
    channels = [ends, *[config.width] * (config.depth - 1)]
    layers = [part for inputs, outputs in pairwise(channels) for part in _layer(config, inputs, outputs)]
    return nn.Sequential(*layers, _convolution(config, channels[-1], ends))


def residual(config: NetworkConfig, ends: int) -> nn.Module:
    """(N, ends, h, w) to the same through `config.depth` residual blocks."""
    first = _convolution(config, ends, config.width)
    blocks = [ResidualBlock(config, config.width) for _ in range(config.depth)]
    return nn.Sequential(first, *blocks, _convolution(config, config.width, ends))


def bottleneck(config: NetworkConfig, ends: int) -> nn.Module:
    """(N, ends, h, w) to the same through a narrow middle: pooled, and dense where `config.latent`."""
    down, up = [], []
    stride = 2 if config.pooling == "stride" else 1
    for level in range(config.depth):
        down += _layer(config, config.width if level else ends, config.width, stride)
        down += [nn.MaxPool2d(2)] if config.pooling == "max" else []
        up += [nn.Upsample(scale_factor=2, mode="nearest"), *_layer(config, config.width, config.width)]
    middle = [DenseTiles(config)] if config.latent else []
    return nn.Sequential(*down, *middle, *up, _convolution(config, config.width, ends))


class DenseTiles(nn.Module):
    """(N, width, h, w) to the same: each 4x4 positions through a dense layer to `latent` numbers and back."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        size = config.width * DENSE_TILE**2
        self.encode = nn.Linear(size, config.latent)
        self.activation = ACTIVATIONS[config.activation]()
        self.decode = nn.Linear(config.latent, size)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        tiles = nn.functional.pixel_unshuffle(features, DENSE_TILE).movedim(1, -1)  # (N, h/4, w/4, 16 width)
        tiles = self.decode(self.activation(self.encode(tiles)))
        return nn.functional.pixel_shuffle(tiles.movedim(-1, 1), DENSE_TILE)


class ResidualBlock(nn.Module):
    """(N, width, h, w) to the same: convolution, activation, convolution, added to the input."""

    def __init__(self, config: NetworkConfig, width: int):
        super().__init__()
        self.change = nn.Sequential(*_layer(config, width, width), _convolution(config, width, width))
        _zero(self.change[-1])  # each block begins as nothing, and deep stacks train from the start

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.change(features)


class UNet(nn.Module):
    """(N, ends, h, w) to the same over `config.depth` scales; h and w multiples of 2**(depth - 1)."""

    def __init__(self, config: NetworkConfig, ends: int):
        super().__init__()
        widths = [config.width * 2**level for level in range(config.depth)]

        def blocks(level: int) -> nn.Module:
            return nn.Sequential(*[ResidualBlock(config, widths[level]) for _ in range(level + 1)])

        self.skips = config.skips
        self.first = _convolution(config, ends, widths[0])
        self.down = nn.ModuleList(map(blocks, range(config.depth)))
        self.shrink = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        grow = [nn.Sequential(nn.Conv2d(2 * w, 4 * w, 1), nn.PixelShuffle(2)) for w in widths[:-1]]
        self.grow = nn.ModuleList(grow)
        self.up = nn.ModuleList(map(blocks, range(config.depth - 1)))
        self.last = _convolution(config, widths[0], ends)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x, skips = self.down[0](self.first(features)), []
        for shrink, blocks in zip(self.shrink, self.down[1:], strict=True):
            skips.append(x)
            x = blocks(shrink(x))
        for grow, blocks in zip(reversed(self.grow), reversed(self.up), strict=True):
            x = blocks(grow(x) + skips.pop() if self.skips else grow(x))
        return self.last(x)


class RoundingTransform(nn.Module):
    """(N, ends, h, w) to the same: each block as `config.width` coefficients in integer steps.

    The rows of `basis` (width, ends) take a block apart and, transposed, put it together. A coefficient
    is counted in steps, whose logarithms are learnt; the count is rounded after a learnt push away from
    zero, which decides ties. This is the form of a transform coder: training finds basis and steps.
    """

    def __init__(self, config: NetworkConfig, ends: int):
        super().__init__()
        self.basis = nn.Parameter(nn.init.orthogonal_(torch.empty(config.width, ends)))
        self.log_steps = nn.Parameter(torch.full((config.width,), math.log(0.1)))  # of the range 0..1
        self.push = nn.Parameter(torch.zeros(config.width, 1, 1))  # in steps

    def forward(self, blocks: torch.Tensor) -> torch.Tensor:
        steps = self.log_steps.exp()[:, None]
        kind = "cuda" if blocks.is_cuda else "cpu"  # autocast knows no meta device
        with torch.autocast(kind, enabled=False):  # bfloat16 would decide at random
            counts = torch.einsum("kc,nchw->nkhw", self.basis / steps, blocks.float())
            rounded = Round.apply(counts + self.push * counts.sign())
            return torch.einsum("kc,nkhw->nchw", self.basis * steps, rounded)


class Round(torch.autograd.Function):
    """Integers forwards; backwards the slope 12 d^2, d the distance to the nearest integer.

    Rounding is flat between its steps, so its true gradient is zero nearly everywhere. This is the slope
    of a cubic staircase (mean 1 over a step): steep where the decision may turn, flat where it is safe.
    """

    @staticmethod
    def forward(context, x: torch.Tensor) -> torch.Tensor:
        rounded = x.round()
        context.save_for_backward(x - rounded)
        return rounded

    @staticmethod
    def backward(context, gradient: torch.Tensor) -> torch.Tensor:
        (distance,) = context.saved_tensors
        return gradient * 12 * distance.square()


ARRANGEMENTS = {
    "chain": chain, "residual": residual, "bottleneck": bottleneck, "unet": UNet,
    "rounding": RoundingTransform,
}  # fmt: skip

# The course's ladder, rung by rung, and the networks that are shipped.
NETWORKS = {
    "plain": NetworkConfig(depth=5),
    "deeper": NetworkConfig(depth=10),
    "batch_norm": NetworkConfig(depth=10, norm="batch"),
    "dropout": NetworkConfig(depth=10, dropout=0.1),
    "pooling": NetworkConfig("bottleneck", depth=2, residual=False),
    "dense": NetworkConfig("bottleneck", depth=2, latent=64, residual=False),
    "residual": NetworkConfig("residual", depth=4),
    "unet": NetworkConfig("unet", width=16, depth=3),
    "grid": NetworkConfig(unshuffle=8, width=256, depth=3, kernel=1),
    "rounding": NetworkConfig("rounding", unshuffle=8, width=64, residual=False),
    "restorer": NetworkConfig("unet", width=47, depth=3),  # the widest below 100 kMAC a pixel in colour
}


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W) or (N, H, W, C) to float32 (N, C, H, W) in [0, 1]."""
    stacked = images[..., None] if images.ndim == 3 else images
    return torch.from_numpy(stacked.astype(np.float32) / 255).permute(0, 3, 1, 2).contiguous()


def count_parameters(network: nn.Module) -> int:
    """Learnt numbers of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def macs_per_pixel(config: NetworkConfig) -> float:
    """Multiply-accumulates per pixel of the input picture; biases, norms and activations not counted."""
    side = math.lcm(64, config.multiple)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        ConvolutionalNetwork(config)(torch.zeros(1, config.image_channels, side, side))
    return counter.get_total_flops() / 2 / side**2


def _layer(config: NetworkConfig, inputs: int, outputs: int, stride: int = 1) -> Iterator[nn.Module]:
    """Convolution, norm, activation, those that the configuration asks for, in its order; then dropout."""
    for part in ORDERS[config.order]:
        if part == "c":
            yield _convolution(config, inputs, outputs, stride)
        elif part == "n" and config.norm != "none":
            yield NORMS[config.norm](inputs if config.order.startswith("norm") else outputs)
        elif part == "a":
            yield ACTIVATIONS[config.activation]()
    if config.dropout:
        yield nn.Dropout2d(config.dropout)


def _convolution(config: NetworkConfig, inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    reach = config.kernel // 2 * config.dilation
    return nn.Conv2d(inputs, outputs, config.kernel, stride, reach, config.dilation)


def _zero(layer: nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
