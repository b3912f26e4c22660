"""Fitting: a picture's latents and networks, where they start and how Adam learns them, window by window."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from helpers.codec.fitted import network
from helpers.codec.fitted.layout import LATENT_BITS, LATENTS, LEVELS, SHAPES, grids
from helpers.codec.fitted.network import ALIGNED, Doubled, LatentCrop, LayerWeights, Window
from helpers.codec.fitted.payload import START_RATES, starts
from helpers.codec.trained.entropy_model import straight_through

WINDOW = 256  # pixels a side of a window: what fits a cache
SOFT = 0.95  # share of the budget with soft rounding; then the numbers are rounded as the decoder sees them
TEMPERATURES = (0.5, 0.05)  # of the soft rounding, first and last
# Learning rates of Adam. The synthesis shows every change in all pixels at once, the context model does not.
LATENT_RATE, CONTEXT_RATE, SYNTHESIS_RATE = 2e-1, 2e-2, 5e-3
LAST_SHARE = 1e-3  # of the learning rates, in the last part
BETAS, EPSILON = (0.6, 0.9), 1e-8  # short memories: a latent moves once a visit, some hundred times in all
HIGHEST_PRICE, LOWEST_PRICE = 0.03, 2e-4  # squared error (peak 1) for a bit a pixel, at rates 0 and 63
BICUBIC = (-0.03515625, -0.10546875, 0.26171875, 0.87890625)  # half of a filter that doubles a size
# R, G and B of Y, Cb and Cr (ITU-R BT.601, as in JPEG)
FROM_YCBCR = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))
# Squared steps of the first latents over the cost of a bit a pixel: finer than where a step's error pays
# for the bits it saves, 12 / (2 ln 2), because most numbers end as zeros.
FINER = 1.44
SHRUNK, SHRINK = 3, 0.6  # levels, the finest, whose first numbers are brought nearer to zero by so much


class TensorAdam:
    """Adam (Kingma and Ba 2015) of one tensor, of which each step may move a part."""

    def __init__(self, value: Tensor, rate: float):
        self.value, self.rate = value, rate
        self.first, self.second = torch.zeros_like(value), torch.zeros_like(value)  # moments

    def move(self, gradient: Tensor, where, share: float, steps: float) -> None:
        """One step of `value[where]` at a share of the rate, after so many, this one included."""
        first, second = self.first[where], self.second[where]
        first.lerp_(gradient, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        spread = (second / (1 - BETAS[1] ** steps)).sqrt_().add_(EPSILON)
        self.value[where].addcdiv_(first, spread, value=-self.rate * share / (1 - BETAS[0] ** steps))


class Fit:
    """A picture, uint8 (H, W) or (H, W, 3), on its way to a fitted file; steps are taken one by one."""

    def __init__(self, image: np.ndarray, cost: float, seed: int = 0, learnt: bool = True):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        self.image = torch.from_numpy(colour).to(self.device).permute(2, 0, 1).float() / 255
        self.pixels = image.shape[0] * image.shape[1]
        self.size, self.sizes = image.shape[:2], grids(*image.shape[:2])
        self.cost, self.start = cost, start_for(cost)  # of a bit a pixel, see `lagrangian`; of START_RATES
        self.generator = torch.Generator(self.device).manual_seed(seed)
        step = first_step(cost)
        weights = learnt_weights(self.start, step) if learnt else starting_weights(step, seed)
        self.weights = {}
        for name, value in weights.items():
            rate = CONTEXT_RATE if name.startswith("context") else SYNTHESIS_RATE
            self.weights[name] = TensorAdam(value.to(self.device), rate)
        latents = starting_latents(self.image.cpu(), step)
        self.latents = [TensorAdam(latent.to(self.device), LATENT_RATE) for latent in latents]
        self.steps, self.visits = 0, 0.0  # windows seen; how often each pixel was, on average

    def window(self) -> Window:
        """A window somewhere in the picture."""
        ends = []
        for length in self.size:
            last = max(0, -(-(length - WINDOW) // ALIGNED))
            start = ALIGNED * int(torch.randint(last + 1, (1,), generator=self.generator, device=self.device))
            ends += [start, min(length, start + WINDOW)]
        return Window(*ends)

    def step(self, progress: float) -> tuple[float, float]:
        """One step on one window, at `progress` 0..1 through the budget: (squared error, bits a pixel)."""
        window, soft = self.window(), progress < SOFT
        share = max(0.5 * (1 + math.cos(math.pi * min(progress / SOFT, 1))), LAST_SHARE)
        temperature = TEMPERATURES[0] + (TEMPERATURES[1] - TEMPERATURES[0]) * progress / SOFT
        weights = {name: adam.value.detach().requires_grad_() for name, adam in self.weights.items()}
        parts = [network.cropped(adam.value, latent, window) for latent, adam in self.each_latent()]
        leaves = [part.values.detach().requires_grad_() for part in parts]
        rounded = [self._softly(x, temperature) if soft else straight_through(torch.round, x) for x in leaves]
        rounded = [LatentCrop(x, part.area) for x, part in zip(rounded, parts, strict=True)]
        error, bits = self.measure(LayerWeights(weights, torch.bfloat16), rounded, window)
        (error + self.cost * bits).backward()
        self.steps, self.visits = self.steps + 1, self.visits + window.pixels / self.pixels
        with torch.no_grad():
            for name, leaf in weights.items():
                self.weights[name].move(leaf.grad, ..., share, self.steps)
            for (latent, adam), part, leaf in zip(self.each_latent(), parts, leaves, strict=True):
                own = window.at(latent.level)
                adam.move(leaf.grad[part.inside(own)], own, share, self.visits + 1)
        return error.item() / window.pixels, bits.item() / window.pixels

    def each_latent(self) -> list:
        """(what it is, its values and moments) of each latent."""
        return list(zip(LATENTS, self.latents, strict=True))

    def measure(self, layers: LayerWeights, parts: list[LatentCrop], window: Window) -> tuple[Tensor, Tensor]:
        """(sum over pixels of the squared error, bits) of a window whose latents are rounded somehow."""
        picture = network.colours(layers, network.upsampled(layers, parts, self.sizes, window))
        if not torch.is_grad_enabled():
            picture = picture.clamp(0, 1)  # as the decoder does; in training it would hide an error
        error = (picture - self.image[:, *window.at(0)]).square().sum() / 3
        numbers, mean, index = network.predicted(layers, parts, self.sizes, window)
        return error, network.laplace_bits(numbers - mean, index).sum()

    def estimate(self, weights: dict[str, Tensor] | None = None, windows: int | None = None) -> tuple:
        """(mean squared error, bits a pixel) of latents rounded, in float32, in so many windows or in all."""
        weights = weights or {name: adam.value for name, adam in self.weights.items()}
        layers, error, bits, pixels = LayerWeights(weights, torch.float32), 0.0, 0.0, 0
        with torch.no_grad():
            for window in self.all_windows()[:windows]:
                parts = [network.cropped(adam.value, latent, window) for latent, adam in self.each_latent()]
                rounded = [LatentCrop(part.values.round(), part.area) for part in parts]
                found = self.measure(layers, rounded, window)
                error, bits, pixels = error + found[0].item(), bits + found[1].item(), pixels + window.pixels
        return error / pixels, bits / pixels

    def all_windows(self) -> list[Window]:
        """Windows that cover the picture, those far from each other first."""
        height, width = self.size
        corners = [(top, left) for top in range(0, height, WINDOW) for left in range(0, width, WINDOW)]
        stride = max(1, len(corners) // 4)
        corners = [corner for start in range(stride) for corner in corners[start::stride]]
        return [Window(y, min(y + WINDOW, height), x, min(x + WINDOW, width)) for y, x in corners]

    def _softly(self, x: Tensor, temperature: float) -> Tensor:
        """What training sees of numbers to be rounded: noise between two soft roundings (Kim et al. 2024)."""
        noise = torch.rand(2, *x.shape, generator=self.generator, device=self.device)
        noise = noise.sum(0).mul_(0.5).sub_(0.5)  # a triangle
        return softly_rounded(softly_rounded(x, temperature) + noise, temperature)


def softly_rounded(x: Tensor, temperature: float) -> Tensor:
    """A smooth staircase through the integers, steep at low temperatures (Agustsson and Theis 2020)."""
    whole = x.detach().floor()
    return whole + 0.5 + torch.tanh((x - whole - 0.5) / temperature) * (0.5 / math.tanh(0.5 / temperature))


def lagrangian(rate: float) -> float:
    """What a bit a pixel may cost in squared error (peak 1), at rate 0 (smallest files) to 63."""
    return HIGHEST_PRICE * (LOWEST_PRICE / HIGHEST_PRICE) ** (rate / 63)


def start_for(cost: float) -> int:
    """The index of START_RATES that lies nearest a cost of a bit a pixel."""
    return min(range(len(START_RATES)), key=lambda n: abs(math.log(lagrangian(START_RATES[n]) / cost)))


def first_step(cost: float) -> float:
    """What a latent's one is worth at the start, in values 0..1, at a cost of a bit a pixel."""
    return math.sqrt(FINER * cost)


def learnt_weights(start: int, step: float) -> dict[str, Tensor]:
    """Weights of SHAPES learnt on other pictures at START_RATES[start], for latents that count in `step`."""
    weights = {name: torch.from_numpy(value.copy()) for name, value in starts()[0][start].items()}
    weights["synthesis_1"] *= step / first_step(lagrangian(START_RATES[start]))
    return weights


def starting_weights(step: float, seed: int) -> dict[str, Tensor]:
    """Weights of SHAPES to learn from where there is no better start: sums of pyramids of YCbCr.

    Latents count in `step`, of values 0..1. Two hidden units carry the positive and the negative part of
    each of Y, Cb and Cr; the others start small.
    """
    weights, generator = {}, torch.Generator().manual_seed(seed)
    for name, shape in SHAPES.items():
        if name == "upsampling":
            weights[name] = torch.tensor(BICUBIC)
        elif name.endswith("bias") or name in ("context_3", "synthesis_3", "synthesis_4"):
            weights[name] = torch.zeros(shape)
        else:
            weights[name] = torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
    channels = [latent.component for level in range(LEVELS) for latent in LATENTS if latent.level == level]
    weights["synthesis_1"] *= 0.3
    weights["synthesis_2"] *= 0.1
    carried = step * 2**LATENT_BITS * (torch.arange(3)[:, None] == torch.tensor(channels))
    for first, sign in ((0, 1), (1, -1)):
        weights["synthesis_1"][first:6:2] = sign * carried
        weights["synthesis_2"][:, first:6:2] = sign * torch.tensor(FROM_YCBCR)
    weights["synthesis_2_bias"] += 0.5  # Y is counted from grey
    return weights


def starting_latents(image: Tensor, step: float) -> list[Tensor]:
    """Laplacian pyramids (Burt and Adelson 1983) of the Y, Cb and Cr of (3, H, W) in 0..1, in steps."""
    ycbcr = torch.linalg.inv(torch.tensor(FROM_YCBCR)) @ (image - 0.5).flatten(1)
    wanted = [ycbcr.view_as(image)]
    while len(wanted) < LEVELS:
        wanted.append(nn.functional.avg_pool2d(wanted[-1], 2, ceil_mode=True))
    taps = torch.tensor(BICUBIC + BICUBIC[::-1])
    numbers = {(latent.level, latent.component): number for number, latent in enumerate(LATENTS)}
    found: dict[int, Tensor] = {}
    for component in range(3):
        coded = None
        for level in reversed(range(LEVELS)):
            height, width = wanted[level].shape[1:]
            if coded is not None:
                padded = nn.functional.pad(coded[None], (2, 2, 2, 2), mode="replicate")
                coded = Doubled.apply(Doubled.apply(padded, taps, 1), taps, 2)[0, :height, :width]
            if (number := numbers.get((level, component))) is not None:
                base = 0.0 if coded is None else coded
                first = (wanted[level][component] - base) / step
                coded = base + first.round() * step
                found[number] = nn.functional.softshrink(first, SHRINK) if level < SHRUNK else first
    return [found[number] for number in range(len(LATENTS))]
