"""The codec's network: a picture to a latent and back, with gains for every rate.

A picture becomes a latent y at an eighth of its size; y is scaled by the gains of the wanted rate and rounded
to integers, by distance and by bits; what an integer costs is predicted, as a mean and a scale, from what was
coded before it (Balle et al. 2018; Minnen et al. 2018). Analysis and synthesis each are the sum of a linear
transform, which starts as the KLT of the training pictures, and a network, which starts at zero.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from helpers.codec.trained import entropy_model
from helpers.codec.trained.entropy_model import CHANNEL_GROUPS, gain_index, gaussian_bits
from helpers.codec.trained.variants import GDN, SIDE_CHANNELS, Factorised, Hyperprior
from helpers.config import check_known, check_range, check_types
from helpers.models import CENTRE, NetworkConfig, ResidualBlock

STRIDE = 8  # pixels a position of y
LINEAR_UNIT, NETWORK_UNIT = 0.05, 0.1  # of both paths' outputs: small, so that Adam's steps move them little
RATE_COUNT = 64  # rates 0 (smallest files) to 63; their gains lie between the learnt ones and above the last
KNOTS = 8  # learnt gains
PRIORS = {"context": entropy_model.Context, "factorised": Factorised, "hyperprior": Hyperprior}
MOST_BLOCKS = 64  # of a file that claims more nothing is built
FINEST, COARSEST = 26.0, 160.0  # steps in grey levels from which the learnt gains start


@dataclass(frozen=True)
class CompressionConfig:
    """One codec network.

    `prior`: what a coded integer is predicted from: its channel and the rate alone (`factorised`), side
    information, sent before it (`hyperprior`), or the channels coded before, here and around, and the first
    channels from their neighbours (`context`). `rounding`: `noise` decodes numbers with noise; the others
    decode integers, with the latent's slope straight through, and take the slope of the bits from there
    (`straight_through`), or from there and from noise, added (`mixed`).
    """

    fine: int = 64  # channels at a quarter of the picture's size
    coarse: int = 96  # and at an eighth
    blocks: tuple[int, int] = (2, 3)  # residual blocks of the synthesis: fine, coarse
    analysis_blocks: tuple[int, int] = (1, 2)
    activation: str = "relu"  # of the residual blocks, or "leaky_relu", "gdn"
    context: int = 64  # channels of the networks that predict
    groups: int = len(CHANNEL_GROUPS)  # of channels of y that are kept, those of most energy at the start
    prior: str = "context"
    rounding: str = "mixed"  # of training
    rdo_strength: float = 0.4  # share of saved bits that counts in `rdo_quantize`; 0: the nearest integer
    multiple = STRIDE  # no field: pixels that the sides of an input must be a multiple of

    def __post_init__(self):
        check_types(self)
        for name in ("blocks", "analysis_blocks"):  # lists when they come from a file
            value = getattr(self, name)
            integers = type(value) in (tuple, list) and [*map(type, value)] == [int, int]
            if not integers or not 0 <= min(value) <= max(value) <= MOST_BLOCKS:
                raise ValueError(f"{name} are {value!r}; they must be two integers in 0..{MOST_BLOCKS}")
            object.__setattr__(self, name, tuple(value))
        check_range(self, ("fine", "coarse", "context"), 1)
        check_known(self, prior=PRIORS, rounding=("mixed", "noise", "straight_through"))
        check_known(self, activation=("relu", "leaky_relu", "gdn"))
        check_range(self, ("rdo_strength",), 0, 1)
        check_range(self, ("groups",), 1, len(CHANNEL_GROUPS))

    @property
    def latent(self) -> int:
        """Channels of y."""
        return sum(CHANNEL_GROUPS[: self.groups])


class CompressionNetwork(nn.Module):
    """float32 (N, 3, H, W) in [0, 1] and rates (N,) in 0..63 to (reconstruction, bits a pixel (N,))."""

    Config = CompressionConfig

    def __init__(self, config: CompressionConfig):
        super().__init__()
        self.config = config
        self.analysis = Analysis(config)
        self.synthesis = Synthesis(config)
        self.prior = PRIORS[config.prior](config.context, CHANNEL_GROUPS[: config.groups])
        steps = torch.linspace(math.log(COARSEST), math.log(FINEST), KNOTS)
        self.log_gain = nn.Parameter(-steps[:, None].repeat(1, config.latent))

    def forward(self, image: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        y = self.analysis(image)
        with full_precision(y):
            decoded, bits = self.coded(self.to_steps(y, rate), rate)
            decoded = decoded / self.gain(rate)
        return self.synthesis(decoded), bits / (image.shape[2] * image.shape[3])

    def to_steps(self, y: Tensor, rate: Tensor) -> Tensor:
        """What is coded of a latent at rates (N,): a hyperprior's side information, and y in steps."""
        in_steps = y * self.gain(rate)
        return self.prior.with_side(in_steps) if isinstance(self.prior, Hyperprior) else in_steps

    def quantize(self, channels: slice, offset: Tensor, index: Tensor) -> Tensor:
        """`rdo_quantize` for channels of a latent; not for side information: its error is no picture's."""
        side = isinstance(self.prior, Hyperprior) and channels.start < SIDE_CHANNELS
        strength = 0.0 if side else self.config.rdo_strength
        return entropy_model.rdo_quantize(offset, index, self.prior.tables, strength)

    def coded(self, in_steps: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """(what is decoded of a latent in steps, bits of each picture (N,)), with gradients in training."""
        bits = []

        def code(channels: slice, mean: Tensor, index: Tensor, here: Tensor):
            offset = in_steps[:, channels] - mean
            noisy = offset + torch.rand_like(offset) - 0.5  # rounding's stand-in (Balle et al. 2017)
            with torch.no_grad():
                quantized = self.quantize(channels, offset, index)
            # a copy: `quantized` itself has no slope
            rounded = entropy_model.straight_through(lambda _: quantized.clone(), offset)
            scale = entropy_model.scale_of(index)
            if not self.training:
                cost = entropy_model.table_bits(quantized, index, self.prior.tables)
            elif self.config.rounding == "straight_through":
                cost = gaussian_bits(rounded, scale)
            elif self.config.rounding == "noise":
                cost = gaussian_bits(noisy, scale)
            else:
                proxy = gaussian_bits(noisy, scale.detach())
                cost = gaussian_bits(rounded, scale) + proxy - proxy.detach()
            bits.append((cost * here).sum((1, 2, 3)))
            return mean + (noisy if self.config.rounding == "noise" and self.training else rounded)

        decoded = self.prior(rate, in_steps.shape, code)
        return decoded, sum(bits)

    def gain(self, rate: Tensor) -> Tensor:
        """(N, latent, 1, 1) gains of rates 0..63, between the learnt ones and above the last."""
        position = gain_index(rate)
        low = position.floor().clamp(0, KNOTS - 2).long()
        share = (position - low)[:, None]
        logs = self.log_gain[low] * (1 - share) + self.log_gain[low + 1] * share
        return logs.exp()[:, :, None, None]


def rate_distortion_loss(bits: Tensor, output: Tensor, target: Tensor, rate: Tensor) -> Tensor:
    """The loss: mean over the batch of weight (bits a pixel + lambda MSE), MSE in squared grey levels.

    Lambda is the slope at which a uniform quantiser of that rate's first step trades bits for error; the
    weight makes small and large rates count alike.
    """
    errors = 255**2 * (output - target).square().mean((1, 2, 3))
    bits_and_errors = bits + 26 / step_of(rate) ** 2 * errors  # 26: 3 channels 12 / (2 ln 2)
    return (rate_weight(rate) * bits_and_errors).mean()


def rate_weight(rate: Tensor) -> Tensor:
    """What a picture counts at rates 0..63: about the inverse of its bits and errors at that rate."""
    return (step_of(rate) / 51) ** 0.9


def step_of(rate: Tensor) -> Tensor:
    """Step in grey levels at which training starts for rates 0..63."""
    return COARSEST * (FINEST / COARSEST) ** (gain_index(rate) / (KNOTS - 1))


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

    def forward(self, image: Tensor) -> Tensor:
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

    def forward(self, y: Tensor) -> Tensor:
        y = y / 255
        with full_precision(y):
            linear = nn.functional.pixel_shuffle(self.linear(y), STRIDE)
        return LINEAR_UNIT * linear + NETWORK_UNIT * self.network(y).to(linear.dtype) + CENTRE


def full_precision(x: Tensor) -> torch.autocast:
    """float32 inside, whatever is around."""
    return torch.autocast("cuda" if x.is_cuda else "cpu", enabled=False)  # it knows no meta device


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


CODEC_CONFIGS = {"codec": CompressionConfig()}
CODEC_CONFIGS |= {prior: CompressionConfig(prior=prior) for prior in ("factorised", "hyperprior")}


def macs_of(config: CompressionConfig) -> dict[str, float]:
    """Multiply-accumulates a pixel of each part; "decoder": context and synthesis."""
    side = 64
    with torch.device("meta"):
        network, image, rate = CompressionNetwork(config), torch.zeros(1, 3, side, side), torch.zeros(1)
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
