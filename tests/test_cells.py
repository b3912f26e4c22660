"""What a file's tables allow: changes stay in the cells, shrink with the steps, and follow any sampling."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dctn

from helpers import jpeg
from helpers.cells import FROM_RGB, Coding, coding_of, within_cells
from helpers.data import open_set

RNG = np.random.default_rng(0)


def opened(image: np.ndarray, quality: int, **options) -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, **options)
    return Image.open(buffer)


@pytest.mark.parametrize(
    ("subsampling", "sampling"),
    [(0, ((1, 1),) * 3), (1, ((1, 2), (1, 1), (1, 1))), (2, ((2, 2), (1, 1), (1, 1)))],
)
def test_steps_and_sampling_are_those_of_the_file(subsampling, sampling):
    image = open_set("samples")["coffee"].load()[:64, :64]
    with opened(image, 75, subsampling=subsampling) as picture:
        coding = coding_of(picture)
    luma, chroma = jpeg.quantization_tables(jpeg.encode(image, 75))
    assert [*map(np.array_equal, coding.steps, (luma, chroma, chroma))] == [True] * 3
    assert coding.sampling == sampling and not coding.is_rgb


def test_an_rgb_file_has_planes_of_its_own():
    image = open_set("samples")["coffee"].load()[:64, :64]
    with opened(image, 75, keep_rgb=True) as picture:
        assert coding_of(picture).is_rgb
    grey = image[..., 0]
    with opened(grey, 75) as picture:
        coding = coding_of(picture)
    assert len(coding.steps) == 1 and coding.sampling == ((1, 1),)


def coefficients(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape
    blocks = plane.reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
    return dctn(blocks.astype(float), axes=(2, 3), norm="ortho")


@given(st.integers(1, 98), st.floats(0.1, 200), st.integers(0, 99))
def test_a_change_of_a_grey_picture_stays_in_the_cells(quality, size, seed):
    image = np.random.default_rng(seed).integers(0, 256, (24, 40), dtype=np.uint8)
    with opened(image, quality) as picture:
        coding = coding_of(picture)
    change = size * np.random.default_rng(seed).standard_normal(image.shape).astype(np.float32)
    found = coefficients(within_cells(change, coding))
    assert (np.abs(found) <= coding.steps[0] / 2 + 1e-3).all()
    assert (np.abs(found) <= np.abs(coefficients(change)) + 1e-3).all()  # never more than was wanted


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("columns", [1, 2, 4])
def test_each_plane_of_a_colour_change_stays_in_its_cells(rows, columns):
    """4:4:4, 4:2:2, 4:1:1, 4:4:0, 4:2:0 and a fourth of its columns, at each plane's own resolution."""
    steps = (RNG.integers(1, 60, (8, 8)).astype(np.float32), RNG.integers(1, 60, (8, 8)).astype(np.float32))
    coding = Coding((steps[0], steps[1], steps[1]), ((rows, columns), (1, 1), (1, 1)), False)
    change = 50 * RNG.standard_normal((64, 96, 3)).astype(np.float32)
    planes = within_cells(change, coding) @ FROM_RGB.T
    assert (np.abs(coefficients(planes[..., 0])) <= steps[0] / 2 + 1e-2).all()
    if rows == columns == 1:
        assert (np.abs(coefficients(planes[..., 1])) <= steps[1] / 2 + 1e-2).all()
    assert planes.shape == change.shape


def test_a_file_of_the_highest_quality_is_left_as_it_is():
    coding = Coding((np.ones((8, 8), np.float32),), ((1, 1),), False)
    assert not within_cells(RNG.standard_normal((16, 16)).astype(np.float32), coding).any()


def test_coarse_steps_keep_nearly_all_of_a_small_change():
    coding = Coding((np.full((8, 8), 99, np.float32),), ((1, 1),), False)
    change = RNG.standard_normal((16, 16)).astype(np.float32)
    assert np.abs(within_cells(change, coding) - change).max() < 0.01


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([((1, 1),), ((2, 2), (1, 1), (1, 1))]))
def test_any_size_keeps_its_shape(height, width, sampling):
    coding = Coding((np.full((8, 8), 20, np.float32),) * len(sampling), sampling, False)
    shape = (height, width) if len(sampling) == 1 else (height, width, 3)
    change = RNG.standard_normal(shape).astype(np.float32)
    found = within_cells(change, coding)
    assert found.shape == shape and np.isfinite(found).all()
