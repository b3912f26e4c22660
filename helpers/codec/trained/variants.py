"""Research branches of the codec's network: entropy models without context, and another normalisation."""

import torch
from torch import Tensor, nn

from helpers.codec.trained import entropy_model
from helpers.codec.trained.entropy_model import Code, EntropyParameters, rate_feature

SIDE_CHANNELS = 16  # of a hyperprior's side information z, at every 4th row and column of y


class Factorised(nn.Module):
    """Predicts each number from its channel and the rate alone."""

    def __init__(self, width: int, sizes: tuple[int, ...]):
        super().__init__()
        self.channels = slice(0, sum(sizes))
        self.register_buffer("tables", entropy_model.gaussian_tables().clone())
        self.network = EntropyParameters(1, width, sum(sizes), 1, 1)

    def parts(self) -> list[tuple[nn.Module, slice]]:
        return [(self.network, self.channels)]

    def forward(self, rate: Tensor, shape: torch.Size, code: Code) -> Tensor:
        n, _, height, width = shape
        rates = rate_feature(rate).expand(n, 1, height, width)
        mean, index = self.network(rates[:, :0], rates)  # of nothing known
        return code(self.channels, mean, index, torch.ones_like(mean[:1, :1]))


class Hyperprior(nn.Module):
    """Predicts y from side information z, sent before it by a factorised model (Minnen et al. 2018)."""

    def __init__(self, width: int, sizes: tuple[int, ...]):
        super().__init__()
        self.channels = sum(sizes)
        self.register_buffer("tables", entropy_model.gaussian_tables().clone())
        self.analysis = nn.Sequential(
            nn.Conv2d(self.channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, SIDE_CHANNELS, 5, stride=2, padding=2),
        )
        self.side = EntropyParameters(1, width, SIDE_CHANNELS, 1, 1)
        self.network = EntropyParameters(3 * SIDE_CHANNELS + 1, width, self.channels, 3, 3)

    def parts(self) -> list[tuple[nn.Module, slice]]:
        return [(self.side, slice(0, 0)), (self.network, slice(0, self.channels))]

    def with_side(self, scaled: Tensor) -> Tensor:
        """z, where it stands, before the channels of a scaled latent."""
        z = scaled.new_zeros(len(scaled), SIDE_CHANNELS, *scaled.shape[2:])
        z[:, :, ::4, ::4] = self.analysis(scaled.abs())
        return torch.cat([z, scaled], dim=1)

    def forward(self, rate: Tensor, shape: torch.Size, code: Code) -> Tensor:
        n, _, height, width = shape
        rates = rate_feature(rate).expand(n, 1, height, width)
        here = entropy_model.lattice(0, height, width).to(rates.device)
        z = code(slice(0, SIDE_CHANNELS), *self.side(rates[:, :0], rates), here)[:, :, ::4, ::4]
        z = z.repeat_interleave(4, 2).repeat_interleave(4, 3)[:, :, :height, :width]
        y_channels = slice(SIDE_CHANNELS, SIDE_CHANNELS + self.channels)
        return code(y_channels, *self.network(z, rates), torch.ones_like(here))


class GDN(nn.Module):
    """Generalised divisive normalisation (Balle et al. 2016): channels over roots of weighted squares."""

    def __init__(self, width: int):
        super().__init__()
        self.bias = nn.Parameter(torch.ones(width))  # used squared, so that nothing falls below zero
        self.weight = nn.Parameter(0.3 * torch.eye(width) + 0.03)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.square()[:, :, None, None], self.bias.square() + 1e-6
        return x * nn.functional.conv2d(x.square(), weight, bias).rsqrt()
