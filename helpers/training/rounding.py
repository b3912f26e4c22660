"""Where the rounding imitator starts: a basis and steps estimated from the pixels of training pairs."""

import math

import numpy as np
import torch
from torch.nn.functional import pixel_unshuffle

from helpers.models import CENTRE
from helpers.training.pairs import Photographs

PATCHES = 2000
STEPS = torch.arange(15, 300, 0.5) / 255  # candidates, in units of the range 0..1
SMALLEST = 12 / 255  # coefficients below are the rounding noise of decoded pixels
SAMPLE = 2000  # coefficients that are looked at
FEWEST = 50  # coefficients from which a step is read


def start_from_pixels(network, photographs: Photographs, qualities: tuple[int, int], seed: int) -> None:
    """Sets basis and steps of a rounding network to statistics of training pairs at one quality.

    The basis is the separable Karhunen-Loeve transform of the originals: the eigenvectors of the
    covariance of eight neighbouring pixels, along rows and columns alike. In that basis the
    coefficients of *decoded* pictures crowd at multiples of the steps that coded them; each step is
    the period that its coefficients agree on best. No cosine and no table is used.
    """
    size, rng = network.config.unshuffle, np.random.default_rng(seed)
    originals, coded = (  # the blocks on the grid, as rows of pixels
        pixel_unshuffle(images.cpu() - CENTRE, size).permute(0, 2, 3, 1).reshape(-1, size * size)
        for images in photographs.draw("imitate", PATCHES, qualities, rng)
    )
    basis = _karhunen_loeve(originals, size)
    steps = torch.stack([_period(coefficients) for coefficients in (coded @ basis.T).T])
    with torch.no_grad():
        network.body.basis.copy_(basis)
        network.body.log_steps.copy_(steps.log())


def _karhunen_loeve(blocks: torch.Tensor, size: int) -> torch.Tensor:
    """Separable KLT (size^2, size^2) of blocks (n, size^2), one basis block a row, constant block first.

    Segments of rows and columns lose their means before their covariance is taken: brightness varies
    so much more than the rest that it would leak into every other eigenvector.
    """
    squares = blocks.view(-1, size, size)
    segments = torch.cat([squares, squares.transpose(1, 2)]).reshape(-1, size)
    segments = segments - segments.mean(1, keepdim=True)
    vectors = torch.linalg.eigh(segments.T @ segments).eigenvectors.flip(1).T  # the constant comes last
    vectors = vectors.roll(1, dims=0)
    return torch.kron(vectors, vectors)


def _period(coefficients: torch.Tensor) -> torch.Tensor:
    """The step of which most coefficients (n,) are near a multiple; a large one where nearly all are zero."""
    found = coefficients[coefficients.abs() > SMALLEST][:SAMPLE]
    if len(found) < FEWEST:
        return torch.tensor(400 / 255)
    return STEPS[torch.cos(2 * math.pi * found / STEPS[:, None]).mean(1).argmax()]
