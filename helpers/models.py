"""PyTorch networks, built from one frozen configuration; their parameters and multiplications counted."""

from dataclasses import dataclass

import torch
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


@dataclass(frozen=True)
class NetworkConfig:
    """A plain convolutional network from image to image.

    Pixels are first gathered into channels (`unshuffle` x `unshuffle` blocks, Shi et al. 2016
    backwards), so that one position of a feature map knows its place in JPEG's 8x8 grid whenever
    `unshuffle` is 8 and the image begins on the grid.
    """

    image_channels: int = 1
    unshuffle: int = 8  # 8: the grid of JPEG is visible; 1: no position knows where a block begins
    width: int = 96  # feature maps between the convolutions
    depth: int = 3  # convolutions, first and last included
    kernel: int = 3
    activation: str = "relu"
    residual: bool = True  # learn the change, not the picture


class ConvolutionalNetwork(nn.Module):
    """float32 (N, C, H, W) in [0, 1] to the same shape; H and W multiples of `config.unshuffle`."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        for position, (inputs, outputs) in enumerate(_layer_channels(config)):
            if position:
                layers.append(ACTIVATIONS[config.activation]())
            layers.append(nn.Conv2d(inputs, outputs, config.kernel, padding="same"))
        if config.residual:  # start as the network that does nothing
            nn.init.zeros_(layers[-1].weight)
            nn.init.zeros_(layers[-1].bias)
        self.body = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # centred, because a common brightness in every input makes the layers ill-conditioned
        blocks = nn.functional.pixel_unshuffle(image - 0.5, self.config.unshuffle)
        change = nn.functional.pixel_shuffle(self.body(blocks), self.config.unshuffle)
        return image + change if self.config.residual else change + 0.5


def count_parameters(network: nn.Module) -> int:
    """Learnt numbers of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def macs_per_pixel(config: NetworkConfig) -> float:
    """Multiply-accumulates per pixel of the input picture; biases and activations not counted."""
    per_position = sum(i * o * config.kernel**2 for i, o in _layer_channels(config))
    return per_position / config.unshuffle**2


def _layer_channels(config: NetworkConfig) -> list[tuple[int, int]]:
    ends = config.image_channels * config.unshuffle**2
    channels = [ends, *[config.width] * (config.depth - 1), ends]
    return list(zip(channels[:-1], channels[1:], strict=True))
