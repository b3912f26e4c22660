"""Each measure against a second way to compute it, written here from its definition."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import convolve2d
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from helpers.data import open_set
from helpers.jpeg import decode, encode, luma
from helpers.metrics import bd_rate, bits_per_pixel, blocking_effect, ms_ssim, psnr, psnr_b, ssim

METRICS = {"psnr": (psnr, 1), "ssim": (ssim, 11), "psnr_b": (psnr_b, 9), "ms_ssim": (ms_ssim, 161)}
EACH_METRIC = pytest.mark.parametrize(
    ("name", "metric", "side"), [(n, m, s) for n, (m, s) in METRICS.items()]
)
JPEG_QUALITIES = (5, 10, 20, 30, 50, 70, 80, 90, 95)  # of the rate-distortion plots


@pytest.fixture(scope="module")
def colour() -> np.ndarray:
    return open_set("samples")["coffee"].load()[100:276, 200:376]  # 176 = 16 * 11: five even halvings


@pytest.fixture(scope="module")
def damaged(colour) -> np.ndarray:
    return decode(encode(colour, 10))


def image_pairs(shortest: int, longest: int = 40) -> st.SearchStrategy:
    """Pairs of grey images, the second noisy, flat in blocks of 8, or both."""

    @st.composite
    def pair(draw):
        height, width = draw(st.integers(shortest, longest)), draw(st.integers(shortest, longest))
        rng = np.random.default_rng(draw(st.integers(0, 10_000)))
        blocks = rng.integers(0, 256, (6, 6)) * draw(st.sampled_from([0, 1]))
        noise = rng.integers(0, draw(st.sampled_from([1, 8, 256])), (height, width))
        image = (np.kron(blocks, np.ones((8, 8)))[:height, :width] + noise).clip(0, 255)
        return draw(arrays(np.uint8, (height, width))), image.astype(np.uint8)

    return pair()


def naive_psnr_b(reference: np.ndarray, image: np.ndarray) -> float:
    """PSNR-B pixel by pixel, in Python's own integers."""
    height, width = image.shape
    pixels, others = image.tolist(), reference.tolist()
    error = sum((pixels[r][c] - others[r][c]) ** 2 for r in range(height) for c in range(width))
    on = off = 0
    for row in range(height):
        for column in range(width):
            for next_row, next_column in ((row, column + 1), (row + 1, column)):
                if next_row == height or next_column == width:
                    continue
                step = (pixels[row][column] - pixels[next_row][next_column]) ** 2
                crosses = next_column % 8 == 0 if next_row == row else next_row % 8 == 0
                on, off = (on + step, off) if crosses else (on, off + step)
    n_on = height * (width / 8 - 1) + width * (height / 8 - 1)
    n_off = height * (width - 1) + width * (height - 1) - n_on
    eta = math.log2(8) / math.log2(min(height, width)) if on / n_on > off / n_off else 0
    total = error / (height * width) + eta * (on / n_on - off / n_off)
    return 10 * math.log10(255**2 / total) if total else math.inf


def windowed(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luminance term and contrast-structure term of SSIM where the 11x11 window lies inside."""
    taps = np.exp(-np.square(np.arange(-5, 6)) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2

    def mean(x):
        return convolve2d(x, window, mode="valid")

    x, y = first.astype(float), second.astype(float)
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1), (2 * cov + c2) / (vx + vy + c2)


def channels(image: np.ndarray) -> list[np.ndarray]:
    return [image] if image.ndim == 2 else [image[..., channel] for channel in range(3)]


@given(image_pairs(1))
def test_psnr_agrees_with_scikit_image(pair):
    reference, image = pair
    if (reference == image).all():
        assert psnr(reference, image) == math.inf
    else:
        assert psnr(reference, image) == pytest.approx(
            peak_signal_noise_ratio(reference, image, data_range=255)
        )


def test_psnr_by_hand_without_wrapping_around():
    three, five = np.full((2, 3), 3, np.uint8), np.full((2, 3), 5, np.uint8)
    assert psnr(three, five) == psnr(five, three) == pytest.approx(10 * math.log10(255**2 / 4))
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert psnr(black, white) == pytest.approx(0)
    one_channel = black.copy()
    one_channel[..., 2] = 255  # the error runs over channels: a third of the largest
    assert psnr(black, one_channel) == pytest.approx(10 * math.log10(3))


def test_equal_images_score_the_most(colour):
    assert psnr(colour, colour.copy()) == math.inf
    assert ssim(colour, colour.copy()) == pytest.approx(1)
    assert ms_ssim(colour, colour.copy()) == pytest.approx(1)
    flat = np.full((9, 9), 7, np.uint8)
    assert psnr_b(flat, flat.copy()) == math.inf


@pytest.mark.parametrize("grey", [True, False])
def test_ssim_is_wangs_with_a_gaussian_window(colour, damaged, grey):
    first, second = (luma(colour), luma(damaged)) if grey else (colour, damaged)
    options = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
    by_library = structural_similarity(first, second, channel_axis=None if grey else 2, **options)
    by_hand = [
        np.prod(windowed(x, y), axis=0).mean()
        for x, y in zip(channels(first), channels(second), strict=False)
    ]
    assert ssim(first, second) == pytest.approx(by_library, abs=1e-12)
    assert ssim(first, second) == pytest.approx(np.mean(by_hand), abs=1e-9)
    assert 0.3 < ssim(first, second) < 0.95


@pytest.mark.parametrize("grey", [True, False])
def test_ms_ssim_is_wangs_over_five_scales(colour, damaged, grey):
    first, second = (luma(colour), luma(damaged)) if grey else (colour, damaged)
    products = []
    for x, y in zip(channels(first), channels(second), strict=False):
        x, y, product = x.astype(float), y.astype(float), 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            luminance, contrast = windowed(x, y)
            term = (luminance * contrast).mean() if scale == 4 else contrast.mean()
            product *= max(term, 0) ** weight
            x, y = (i.reshape(len(i) // 2, 2, -1, 2).mean((1, 3)) if scale < 4 else i for i in (x, y))
        products.append(product)
    assert ms_ssim(first, second) == pytest.approx(np.mean(products), abs=1e-4)  # it computes in float32


@given(image_pairs(9))
@example((np.zeros((16, 16), np.uint8), np.kron([[0, 200], [100, 50]], np.ones((8, 8))).astype(np.uint8)))
def test_psnr_b_agrees_with_a_loop_over_pixels(pair):
    assert psnr_b(*pair) == pytest.approx(naive_psnr_b(*pair), rel=1e-9)


def test_psnr_b_punishes_steps_on_the_grid_alone():
    steps = np.zeros((32, 32), np.uint8)
    steps[:, 8:16] = 60
    off_grid = np.roll(steps, 3, axis=1)
    flat = np.full_like(steps, 15)
    assert psnr_b(flat, steps) < psnr(flat, steps) - 1
    assert psnr_b(flat, off_grid) == psnr(flat, off_grid)
    assert psnr_b(steps, flat) == psnr(steps, flat)  # blockiness of the reference is no fault of the image


def test_psnr_b_of_colour_takes_the_factor_from_luma(colour, damaged):
    error = np.square(colour.astype(float) - damaged).mean()
    factor = blocking_effect(luma(damaged).astype(float))
    assert factor > 1
    assert psnr_b(colour, damaged) == pytest.approx(10 * math.log10(255**2 / (error + factor)))


@EACH_METRIC
@pytest.mark.parametrize(
    "dtypes", [("uint8", "float32"), ("float64", "float64"), ("bool", "bool"), ("uint8", "int64")]
)
def test_other_dtypes_are_refused(name, metric, side, dtypes):
    first, second = (np.ones((side, side), dtype) for dtype in dtypes)
    for pair in ((first, second), (second, first)):
        with pytest.raises(TypeError, match=f"^{name} takes a uint8 image, range 0..255, not "):
            metric(*pair)


@EACH_METRIC
def test_other_shapes_are_refused(name, metric, side):
    image = np.zeros((side, side + 1), np.uint8)
    for other in (image.T, image[:, 1:], np.stack([image] * 3, axis=2), image[:1]):
        if other.shape != image.shape:
            with pytest.raises(ValueError, match=f"^{name}: shapes differ"):
                metric(image, other)
    for shape in ((side, side, 1), (side, side, 4), (3, side, side, 3), (0, side)):
        with pytest.raises(ValueError, match=f"^{name} takes an image"):
            metric(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))


@EACH_METRIC
def test_the_smallest_sides(name, metric, side, colour):
    smallest = colour[:side, :side]
    assert metric(smallest, 255 - smallest) < metric(smallest, smallest // 2 + 64)
    for shape in ((side - 1, side), (side, side - 1)):
        small = np.zeros(shape, np.uint8)
        message = f"^{name} takes an image" if side == 1 else f"^{name} needs sides of at least {side} pixels"
        with pytest.raises(ValueError, match=message):
            metric(small, small)


def test_bits_per_pixel_counts_bytes_of_the_file(colour):
    assert bits_per_pixel(bytes(1000), np.zeros((40, 50), np.uint8)) == 4
    assert bits_per_pixel(bytes(1000), np.zeros((40, 50, 3), np.uint8)) == 4  # of a pixel, not of a sample
    data = encode(colour, 30)
    assert bits_per_pixel(data, colour) == len(data) * 8 / 176**2
    with pytest.raises(TypeError, match="^bits_per_pixel takes a uint8 image"):
        bits_per_pixel(data, colour / 255)
    with pytest.raises(ValueError, match="^bits_per_pixel takes an image"):
        bits_per_pixel(data, colour.transpose(2, 0, 1))


DECIBELS = np.array([23.0, 25.5, 27.2, 29.9, 31.0, 33.3, 36.0])
RATES = np.array([0.1, 0.17, 0.25, 0.5, 0.6, 0.95, 1.6])


@pytest.mark.parametrize(("factor", "percent"), [(0.5, -50), (1, 0), (2, 100), (1.055, 5.5)])
def test_bd_rate_of_a_fixed_ratio(factor, percent):
    assert bd_rate((RATES, DECIBELS), (RATES * factor, DECIBELS)) == pytest.approx(percent, abs=1e-6)


def test_bd_rate_averages_the_log_rate_over_the_window():
    # Straight lines of log rate over PSNR; their mean distance over 25..34 dB is that at 29.5 dB.
    steep, level = (lambda d: np.exp(0.20 * d - 6)), (lambda d: np.exp(0.15 * d - 5))
    few, many = np.array([20.0, 28.0, 40.0]), np.linspace(24, 35, 12)
    result = bd_rate((steep(few), few), (level(many), many))
    assert result == pytest.approx(100 * (level(29.5) / steep(29.5) - 1), abs=1e-3)
    assert bd_rate((steep(few), few), (level(few), few), (30.0, 40.0)) == pytest.approx(
        100 * (level(35) / steep(35) - 1), abs=1e-3
    )


def test_bd_rate_takes_points_in_any_order_and_as_lists():
    order = [3, 0, 6, 2, 5, 1, 4]
    shuffled = list(RATES[order] * 0.8), list(DECIBELS[order])
    assert bd_rate(shuffled, (RATES, DECIBELS)) == pytest.approx(25)


@pytest.mark.parametrize("kept", [slice(0, 5), slice(2, 7)])
def test_bd_rate_is_none_where_a_curve_does_not_span_the_window(kept):
    whole, part = (RATES, DECIBELS), (RATES[kept], DECIBELS[kept])
    assert bd_rate(whole, part) is None
    assert bd_rate(part, whole) is None
    assert bd_rate(part, part) is None
    edges = np.array([25.0, 34.0])  # just enough
    assert bd_rate((edges / 30, edges), (edges / 30, edges)) == pytest.approx(0)


@pytest.mark.slow
def test_bd_rate_of_full_chroma_on_live1(live1):
    curves = {}
    for subsampling in ("4:2:0", "4:4:4"):
        points = []
        for _, image in live1.images(pytest.fail):
            files = [encode(image, q, subsampling=subsampling, optimize=True) for q in JPEG_QUALITIES]
            points.append([(bits_per_pixel(data, image), psnr(image, decode(data))) for data in files])
        curves[subsampling] = tuple(np.mean(points, axis=0).T)
    assert f"{bd_rate(curves['4:2:0'], curves['4:4:4']):+.1f}" == "+5.5"


def test_psnr_of_a_large_picture_takes_little_memory():
    rng = np.random.default_rng(0)
    reference, image = rng.integers(0, 256, (2, 1000, 1500, 3), dtype=np.uint8)
    expected = peak_signal_noise_ratio(reference, image, data_range=255)
    tracemalloc.start()
    found = psnr(reference, image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == pytest.approx(expected, abs=1e-9) and peak < reference.nbytes / 4
