"""Fitting: a picture's latents and networks, learnt together by Adam, window by window."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from helpers.fitted import network, starting
from helpers.fitted.layout import LATENTS, grids
from helpers.fitted.network import ALIGNED, Part, Window, Working

SIDE = 256  # pixels of a window: what fits a cache
SOFT = 0.95  # share of the budget with soft rounding; then the numbers are rounded as the decoder sees them
TEMPERATURES = (0.5, 0.05)  # of the soft rounding, first and last
# Learning rates of Adam. The synthesis shows every change in all pixels at once, the context model does not.
LATENT_RATE, CONTEXT_RATE, SYNTHESIS_RATE = 2e-1, 2e-2, 5e-3
LAST_SHARE = 1e-3  # of the learning rates, in the last part
BETAS, EPSILON = (0.6, 0.9), 1e-8  # short memories: a latent moves once a visit, some hundred times in all


@dataclass
class Adam:
    """Adam (Kingma and Ba 2015) of one tensor, of which each step may move a part."""

    value: torch.Tensor
    rate: float
    first: torch.Tensor = field(init=False)
    second: torch.Tensor = field(init=False)

    def __post_init__(self):
        self.first, self.second = torch.zeros_like(self.value), torch.zeros_like(self.value)

    def move(self, gradient: torch.Tensor, where, share: float, steps: float) -> None:
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
        self.cost = cost  # of a bit a pixel, see `starting.lagrangian`
        self.start = starting.start_for(cost)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        step = starting.first_step(cost)
        if learnt:
            weights = starting.learnt_weights(self.start, step)
        else:
            weights = starting.starting_weights(step, torch.Generator().manual_seed(seed))
        self.weights = {
            name: Adam(value.to(self.device), CONTEXT_RATE if name.startswith("context") else SYNTHESIS_RATE)
            for name, value in weights.items()
        }
        latents = starting.starting_latents(self.image.cpu(), step)
        self.latents = [Adam(latent.to(self.device), LATENT_RATE) for latent in latents]
        self.steps, self.visits = 0, 0.0  # windows seen; how often each pixel was, on average

    def window(self) -> Window:
        """A window somewhere in the picture."""
        ends = []
        for length in self.size:
            last = max(0, -(-(length - SIDE) // ALIGNED))
            start = ALIGNED * int(torch.randint(last + 1, (1,), generator=self.generator, device=self.device))
            ends += [start, min(length, start + SIDE)]
        return Window(*ends)

    def step(self, progress: float) -> tuple[float, float]:
        """One step on one window, at `progress` 0..1 through the budget: (squared error, bits a pixel)."""
        window, soft = self.window(), progress < SOFT
        share = max(0.5 * (1 + math.cos(math.pi * min(progress / SOFT, 1))), LAST_SHARE)
        temperature = TEMPERATURES[0] + (TEMPERATURES[1] - TEMPERATURES[0]) * progress / SOFT
        weights = {name: adam.value.detach().requires_grad_() for name, adam in self.weights.items()}
        parts = [network.cropped(adam.value, latent, window) for latent, adam in self.each_latent()]
        leaves = [part.values.detach().requires_grad_() for part in parts]
        rounded = [
            part.with_values(self._softly(leaf, temperature) if soft else hard(leaf))
            for part, leaf in zip(parts, leaves, strict=True)
        ]
        error, bits = self.measured(Working(weights, torch.bfloat16), rounded, window)
        (error + self.cost * bits).backward()
        pixels = window.pixels
        self.steps, self.visits = self.steps + 1, self.visits + pixels / self.pixels
        with torch.no_grad():
            for name, leaf in weights.items():
                self.weights[name].move(leaf.grad, ..., share, self.steps)
            for (latent, adam), part, leaf in zip(self.each_latent(), parts, leaves, strict=True):
                own, inner = part.inside(window.at(latent.level))
                adam.move(leaf.grad[inner], own, share, self.visits + 1)
        return error.item() / pixels, bits.item() / pixels

    def each_latent(self) -> list:
        """(what it is, its values and moments) of each latent."""
        return list(zip(LATENTS, self.latents, strict=True))

    def measured(
        self, working: Working, parts: list[Part], window: Window
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum over pixels of the squared error, bits) of a window whose latents are rounded somehow."""
        planes = network.upsampled(working, parts, self.sizes, window)
        picture = network.colours(working, planes)
        if not torch.is_grad_enabled():
            picture = picture.clamp(0, 1)  # as the decoder does; in training it would hide an error
        original = self.image[:, window.top : window.bottom, window.left : window.right]
        error = (picture[:, : original.shape[1], : original.shape[2]] - original).square().sum() / 3
        numbers, mean, index = network.foretold(working, parts, self.sizes, window)
        return error, network.laplace_bits(numbers - mean, index).sum()

    def estimate(
        self, weights: dict[str, torch.Tensor] | None = None, windows: int | None = None
    ) -> tuple[float, float]:
        """(mean squared error, bits a pixel without the networks) with the latents rounded, in float32.

        Of the whole picture, or of the first so many of its windows; with other weights than the own.
        """
        weights = weights or {name: adam.value for name, adam in self.weights.items()}
        working, error, bits, pixels = Working(weights, torch.float32), 0.0, 0.0, 0
        with torch.no_grad():
            for window in self.all_windows()[:windows]:
                parts = [network.cropped(adam.value, latent, window) for latent, adam in self.each_latent()]
                found = self.measured(
                    working, [part.with_values(part.values.round()) for part in parts], window
                )
                error, bits, pixels = error + found[0].item(), bits + found[1].item(), pixels + window.pixels
        return error / pixels, bits / pixels

    def all_windows(self) -> list[Window]:
        """Windows that cover the picture, those far from each other first."""
        height, width = self.size
        windows = [
            Window(top, min(top + SIDE, height), left, min(left + SIDE, width))
            for top in range(0, height, SIDE)
            for left in range(0, width, SIDE)
        ]
        stride = max(1, len(windows) // 4)
        return [window for start in range(stride) for window in windows[start::stride]]

    def _softly(self, x: torch.Tensor, temperature: float) -> torch.Tensor:
        """What training sees of numbers to be rounded: noise between two soft roundings (Kim et al. 2024)."""
        noise = torch.rand(2, *x.shape, generator=self.generator, device=self.device)
        noise = noise.sum(0).mul_(0.5).sub_(0.5)  # a triangle
        return softly_rounded(softly_rounded(x, temperature) + noise, temperature)


def softly_rounded(x: torch.Tensor, temperature: float) -> torch.Tensor:
    """A smooth staircase through the whole numbers, steep at low temperatures (Agustsson and Theis 2020)."""
    whole = x.detach().floor()
    return whole + 0.5 + torch.tanh((x - whole - 0.5) / temperature) * (0.5 / math.tanh(0.5 / temperature))


def hard(x: torch.Tensor) -> torch.Tensor:
    """Rounded; the gradient passes as if it were not (Bengio et al. 2013)."""
    return x + (x.detach().round() - x.detach())
