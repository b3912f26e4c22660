"""The codec's network: a picture to a latent and back, with gains for every rate.

A picture becomes a latent y at an eighth of its size; y is scaled by the gains of the wished rate and made
whole, by nearness and by price; what a whole number costs is foretold, as a mean and a scale, from what was
coded before it (Balle et al. 2018; Minnen et al. 2018). Analysis and synthesis each are a linear transform,
which starts as the KLT of the training pictures, and a network beside it, which starts at nothing.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from helpers.codec.prior import (
    GROUPS,
    SIDE,
    Context,
    Factorised,
    Hyperprior,
    gaussian_bits,
    place_of,
    scale_of,
    straight_through,
    table_bits,
    thrifty,
)
from helpers.models import CENTRE, NetworkConfig, ResidualBlock
from helpers.training.config import check_types

STRIDE = 8  # pixels a position of y
LINEAR_UNIT, NETWORK_UNIT = (
    0.05,
    0.1,
)  # of both paths' outputs: small, so that a step of Adam moves them little
RATES = 64  # indexes 0 (smallest files) to 63; their gains lie between the learnt ones and above the last
KNOTS = 8  # learnt gains
FINEST, COARSEST = 26.0, 160.0  # steps in grey levels from which the learnt gains start


@dataclass(frozen=True)
class CompressionConfig:
    """One codec network. `prior` says what a coded number is foretold from:

    - `factorised`: its channel and the rate alone;
    - `hyperprior`: side information, sent before it;
    - `context`: the channels coded before, here and around; the first channels from their neighbours.

    `rounding`: `noise` decodes numbers with noise; the others decode whole numbers, with the latent's slope
    straight through, and take the slope of the bits from there (`straight_through`), or from there and from
    noise, added (`mixed`).
    """

    fine: int = 64  # feature maps at a quarter of the picture's size
    coarse: int = 96  # and at an eighth
    blocks: tuple[int, int] = (2, 3)  # residual blocks of the synthesis: fine, coarse
    analysis_blocks: tuple[int, int] = (1, 2)
    activation: str = "relu"  # of the residual blocks, or "leaky_relu", "gdn"
    context: int = 64  # feature maps of the networks that foretell
    groups: int = len(GROUPS)  # of channels of y that are kept, those of most energy at the start
    prior: str = "context"
    rounding: str = "mixed"  # what training has for rounding, see above
    thrift: float = 0.4  # rate-distortion optimised quantisation: share of saved bits that counts; 0: none

    def __post_init__(self):
        check_types(self)
        for name in ("blocks", "analysis_blocks"):  # lists when they come from a file
            value = getattr(self, name)
            if type(value) not in (tuple, list) or [*map(type, value)] != [int, int] or min(value) < 0:
                raise ValueError(f"{name} are {value!r}; they must be two whole numbers, at least 0")
            object.__setattr__(self, name, tuple(value))
        for name in ("fine", "coarse", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name, known in (
            ("prior", ("context", "factorised", "hyperprior")),
            ("rounding", ("mixed", "noise", "straight_through")),
            ("activation", ("relu", "leaky_relu", "gdn")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; known are {', '.join(known)}")
        if not 0 <= self.thrift <= 1:
            raise ValueError(f"thrift is {self.thrift!r}; it must lie in 0..1")
        if not 1 <= self.groups <= len(GROUPS):
            raise ValueError(f"groups is {self.groups!r}; it must lie in 1..{len(GROUPS)}")

    @property
    def multiple(self) -> int:
        """Pixels that the sides of an input must be a multiple of."""
        return STRIDE

    @property
    def latent(self) -> int:
        """Channels of y."""
        return sum(GROUPS[: self.groups])


class CompressionNetwork(nn.Module):
    """float32 (N, 3, H, W) in [0, 1] and rates (N,) in 0..63 to (reconstruction, bits a pixel (N,))."""

    def __init__(self, config: CompressionConfig):
        super().__init__()
        self.config = config
        self.analysis = Analysis(config)
        self.synthesis = Synthesis(config)
        if config.prior == "context":
            self.prior = Context(config.context, GROUPS[: config.groups])
        else:
            kind = {"factorised": Factorised, "hyperprior": Hyperprior}[config.prior]
            self.prior = kind(config.context, config.latent)
        steps = torch.linspace(math.log(COARSEST), math.log(FINEST), KNOTS)
        self.log_gain = nn.Parameter(-steps[:, None].repeat(1, config.latent))

    def forward(self, image: torch.Tensor, rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.analysis(image)
        with full_precision(y):
            decoded, bits = self.coded(self.scaled(y, rate), rate)
            decoded = decoded / self.gain(rate)
        return self.synthesis(decoded), bits / (image.shape[2] * image.shape[3])

    def scaled(self, y: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """What is coded of a latent at rates (N,): y in steps, after a hyperprior's side information."""
        scaled = y * self.gain(rate)
        return self.prior.with_side(scaled) if isinstance(self.prior, Hyperprior) else scaled

    def chosen(self, channels: slice, offset: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """`thrifty` for channels of what is coded; not for side information, whose error is no picture's."""
        side = isinstance(self.prior, Hyperprior) and channels.start < SIDE
        return thrifty(offset, index, self.prior.tables, 0.0 if side else self.config.thrift)

    def coded(self, scaled: torch.Tensor, rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(what would be decoded of a scaled latent, bits of each picture (N,)); training has gradients."""
        bits = []

        def code(channels: slice, mean: torch.Tensor, index: torch.Tensor, here: torch.Tensor):
            offset = scaled[:, channels] - mean
            noisy = offset + torch.rand_like(offset) - 0.5  # rounding's stand-in (Balle et al. 2017)
            with torch.no_grad():
                chosen = self.chosen(channels, offset, index)
            whole = straight_through(lambda _: chosen.clone(), offset)  # `chosen` itself gets no slope
            scale = scale_of(index)
            if not self.training:
                cost = table_bits(chosen, index, self.prior.tables)
            elif self.config.rounding == "straight_through":
                cost = gaussian_bits(whole, scale)
            elif self.config.rounding == "noise":
                cost = gaussian_bits(noisy, scale)
            else:
                proxy = gaussian_bits(noisy, scale.detach())
                cost = gaussian_bits(whole, scale) + proxy - proxy.detach()
            bits.append((cost * here).sum((1, 2, 3)))
            return mean + (noisy if self.config.rounding == "noise" and self.training else whole)

        decoded = self.prior(rate, scaled.shape, code)
        return decoded, sum(bits)

    def gain(self, rate: torch.Tensor) -> torch.Tensor:
        """(N, latent, 1, 1) gains of rates 0..63, between the learnt ones and above the last."""
        place = place_of(rate)
        low = place.floor().clamp(0, KNOTS - 2)
        share = (place - low)[:, None]
        logs = self.log_gain[low.long()] * (1 - share) + self.log_gain[low.long() + 1] * share
        return logs.exp()[:, :, None, None]


def rate_distortion(
    bits: torch.Tensor, output: torch.Tensor, target: torch.Tensor, rate: torch.Tensor
) -> torch.Tensor:
    """The loss: mean over the batch of weight (bits a pixel + lambda MSE), MSE in squared grey levels.

    Lambda is the slope at which a uniform quantiser of that rate's first step trades bits for error; the
    weight makes small and large rates count alike.
    """
    step, weight = step_of(rate), rate_weight(rate)
    errors = 255**2 * (output - target).square().mean((1, 2, 3))
    return (weight * (bits + 26 / step**2 * errors)).mean()  # 26: 3 channels 12 / (2 ln 2)


def rate_weight(rate: torch.Tensor) -> torch.Tensor:
    """What a picture counts at rates 0..63: about the inverse of its bits and errors at that rate."""
    return (step_of(rate) / 51) ** 0.9


def step_of(rate: torch.Tensor) -> torch.Tensor:
    """Step in grey levels at which training starts for rates 0..63."""
    return COARSEST * (FINEST / COARSEST) ** (place_of(rate) / (KNOTS - 1))


class Analysis(nn.Module):
    """(N, 3, H, W) in [0, 1] to y (N, latent, H / 8, W / 8), in grey levels of an orthonormal basis."""

    def __init__(self, config: CompressionConfig):
        super().__init__()
        self.linear = nn.Conv2d(3 * STRIDE**2, config.latent, 3, padding=1, bias=False)
        self.network = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, config.fine, 3, padding=1),
            *_blocks(config, config.fine, config.analysis_blocks[0]),
            nn.Conv2d(config.fine, config.coarse, 2, stride=2),
            *_blocks(config, config.coarse, config.analysis_blocks[1]),
            _zero(nn.Conv2d(config.coarse, config.latent, 3, padding=1)),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        centred = image - CENTRE
        with full_precision(image):  # bfloat16 has not the digits for bright flat areas
            linear = self.linear(nn.functional.pixel_unshuffle(centred, STRIDE))
        return 255 * (LINEAR_UNIT * linear + NETWORK_UNIT * self.network(centred).float())


class Synthesis(nn.Module):
    """y back to a picture (N, 3, H, W)."""

    def __init__(self, config: CompressionConfig):
        super().__init__()
        self.linear = nn.Conv2d(config.latent, 3 * STRIDE**2, 3, padding=1, bias=False)
        self.network = nn.Sequential(
            nn.Conv2d(config.latent, config.coarse, 3, padding=1),
            *_blocks(config, config.coarse, config.blocks[1]),
            nn.Conv2d(config.coarse, 4 * config.fine, 1),
            nn.PixelShuffle(2),
            *_blocks(config, config.fine, config.blocks[0]),
            _zero(nn.Conv2d(config.fine, 48, 3, padding=1)),
            nn.PixelShuffle(4),
        )

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        y = y / 255
        with full_precision(y):
            linear = nn.functional.pixel_shuffle(self.linear(y), STRIDE)
        return LINEAR_UNIT * linear + NETWORK_UNIT * self.network(y).to(linear.dtype) + CENTRE


def full_precision(x: torch.Tensor) -> torch.autocast:
    """float32 inside, whatever is around."""
    return torch.autocast("cuda" if x.is_cuda else "cpu", enabled=False)  # it knows no meta device


class GDN(nn.Module):
    """Generalised divisive normalisation (Balle et al. 2016): maps over roots of weighted sums of squares."""

    def __init__(self, width: int):
        super().__init__()
        self.bias = nn.Parameter(torch.ones(width))  # used squared, so that nothing falls below zero
        self.weight = nn.Parameter(0.3 * torch.eye(width) + 0.03)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        weight, bias = self.weight.square()[:, :, None, None], self.bias.square() + 1e-6
        return maps * nn.functional.conv2d(maps.square(), weight, bias).rsqrt()


def _blocks(config: CompressionConfig, width: int, count: int) -> list[ResidualBlock]:
    gdn = config.activation == "gdn"
    shape = NetworkConfig("residual", width=width, activation="relu" if gdn else config.activation)
    blocks = [ResidualBlock(shape, width) for _ in range(count)]
    for block in blocks if gdn else []:
        block.change[1] = GDN(width)
    return blocks


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


CODECS = {"codec": CompressionConfig()} | {
    prior: CompressionConfig(prior=prior) for prior in ("factorised", "hyperprior")
}


def macs_of(config: CompressionConfig) -> dict[str, float]:
    """Multiply-accumulates a pixel of each part; "decoder": context and synthesis."""
    side = 64
    with torch.device("meta"):
        network = CompressionNetwork(config)
        image, rate = torch.zeros(1, 3, side, side), torch.zeros(1)
        y = torch.zeros(1, config.latent, side // STRIDE, side // STRIDE)
    calls = {
        "analysis": lambda: network.analysis(image),
        "context": lambda: network.prior(rate, y.shape, lambda channels, mean, index, here: mean),
        "synthesis": lambda: network.synthesis(y),
    }
    found = {}
    for name, call in calls.items():
        with FlopCounterMode(display=False) as counter:
            call()
        found[name] = counter.get_total_flops() / 2 / side**2
    return {**found, "decoder": found["context"] + found["synthesis"]}
