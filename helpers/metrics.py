"""Measures, each in the one convention of the literature: decibels, similarity, bits, BD-rate."""

import math

import numpy as np
from scipy.interpolate import PchipInterpolator
from skimage.metrics import structural_similarity

from helpers.jpeg import check_image, luma

SSIM_WINDOW = 11  # pixels: the Gaussian window of Wang et al. 2004
MS_SSIM_SIDE = 161  # pixels: five scales of that window
Curve = tuple[np.ndarray, np.ndarray]  # bits per pixel and PSNR in dB, any number of points


def psnr(reference: np.ndarray, image: np.ndarray) -> float:
    """PSNR in dB, peak 255, of two uint8 images of one shape (H, W) or (H, W, 3); inf if equal.

    The mean squared error runs over all pixels and channels, no border is shaved. Raises TypeError or
    ValueError for another dtype or shape, as every measure here.
    """
    _check_pair(reference, image, "psnr")
    return _decibels(_mse(reference, image))


def ssim(reference: np.ndarray, image: np.ndarray) -> float:
    """SSIM (Wang et al. 2004) of two uint8 images of one shape, at most 1; colour: mean of channels.

    Gaussian window of 11 pixels, sigma 1.5, K = (.01, .03), range 255. Sides of 11 pixels or more.
    """
    _check_pair(reference, image, "ssim", SSIM_WINDOW)
    paper = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    channels = 2 if image.ndim == 3 else None
    return float(structural_similarity(reference, image, data_range=255, channel_axis=channels, **paper))


def psnr_b(reference: np.ndarray, image: np.ndarray) -> float:
    """PSNR-B in dB (Yim and Bovik 2011): PSNR with a penalty for steps on the 8x8 grid of `image`.

    The blocking factor is that of `image` alone, of a colour image that of its luma. Sides of 9 pixels
    or more, so that there is a boundary to look at.
    """
    _check_pair(reference, image, "psnr_b", 9)
    grey = (image if image.ndim == 2 else luma(image)).astype(np.float64)
    return _decibels(_mse(reference, image) + blocking_effect(grey))


def blocking_effect(grey: np.ndarray) -> float:
    """Yim and Bovik's blocking effect factor of a grey float image (H, W), in squared grey levels."""
    height, width = grey.shape
    across = np.square(np.diff(grey, axis=1))  # (H, W-1): column c to c+1
    down = np.square(np.diff(grey, axis=0))
    on_grid = across[:, 7::8].sum() + down[7::8].sum()
    off_grid = across.sum() + down.sum() - on_grid
    count_on = height * (width / 8 - 1) + width * (height / 8 - 1)
    count_off = height * (width - 1) + width * (height - 1) - count_on
    excess = max(on_grid / count_on - off_grid / count_off, 0.0)
    return math.log2(8) / math.log2(min(height, width)) * excess


def ms_ssim(reference: np.ndarray, image: np.ndarray) -> float:
    """MS-SSIM (Wang et al. 2003, five scales) of two uint8 images of one shape; sides of 161 or more."""
    _check_pair(reference, image, "ms_ssim", MS_SSIM_SIDE)
    import torch  # takes a second, and only this measure needs it
    from pytorch_msssim import ms_ssim as multi_scale

    pair = [torch.from_numpy(np.atleast_3d(x).astype(np.float32)) for x in (reference, image)]
    first, second = (x.permute(2, 0, 1)[None] for x in pair)  # (1, C, H, W)
    return float(multi_scale(first, second, data_range=255))


def bits_per_pixel(data: bytes, image: np.ndarray) -> float:
    """Rate of a file, headers included, in bits per pixel of the image (H, W[, 3]) it holds."""
    check_image(image, "bits_per_pixel")
    return 8 * len(data) / (image.shape[0] * image.shape[1])


def bd_rate(anchor: Curve, test: Curve, window: tuple[float, float] = (25.0, 34.0)) -> float | None:
    """BD-rate in percent of `test` against `anchor`: mean rate difference over `window` dB of PSNR.

    Log rate is interpolated piecewise cubically (pchip) over PSNR (Bjontegaard 2001). None where a curve
    does not span the window: a codec that offers low rates alone would look better than it is.
    """
    import bjontegaard  # only here: it loads Matplotlib

    curves = []
    for rates, decibels in (anchor, test):
        order = np.argsort(decibels)
        rates, decibels = np.asarray(rates, float)[order], np.asarray(decibels, float)[order]
        if decibels[0] > window[0] or decibels[-1] < window[1]:
            return None
        # Cut to the window; 1,000 points, so that the package's own pchip follows this one.
        grid = np.linspace(*window, 1000)
        curves += [np.exp(PchipInterpolator(decibels, np.log(rates))(grid)), grid]
    return float(bjontegaard.bd_rate(*curves, method="pchip", require_matching_points=False, min_overlap=0))


def _mse(reference: np.ndarray, image: np.ndarray) -> float:
    # float64 first: uint8 differences wrap around, and 3 - 5 = 254 is the classic bug. Row by row, since a
    # large picture would take gigabytes; sums of integers are exact in any order
    rows = (a.astype(np.float64) - b.astype(np.float64) for a, b in zip(reference, image, strict=True))
    return float(sum(np.vdot(row, row) for row in rows) / reference.size)


def _decibels(squared_error: float) -> float:
    return 10 * math.log10(255**2 / squared_error) if squared_error > 0 else math.inf


def _check_pair(reference: np.ndarray, image: np.ndarray, metric: str, side: int = 1) -> None:
    check_image(reference, metric)
    check_image(image, metric)
    if reference.shape != image.shape:
        raise ValueError(f"{metric}: shapes differ, {reference.shape} and {image.shape}")
    if min(image.shape[:2]) < side:
        raise ValueError(f"{metric} needs sides of at least {side} pixels, not {image.shape[:2]}")
