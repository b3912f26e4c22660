"""What a file says of its original: changes stay in the cells, shrink with the steps, follow any sampling; an
earlier coding is seen by its marks."""

import io

import numpy as np
import odd_jpeg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers import cells, jpeg
from helpers.cells import FROM_RGB, Coding, coefficients, within_cells
from helpers.data import center_crop, open_set

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def colour() -> np.ndarray:
    return open_set("samples")["coffee"].load()


def opened(image: np.ndarray, **options) -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", **options)
    return Image.open(buffer)


def chequered(steps: float, sampling=((1, 1),)) -> Coding:
    return Coding((np.full((8, 8), steps, np.float32),) * len(sampling), sampling)


@pytest.mark.parametrize("name", odd_jpeg.SAMPLINGS)
def test_steps_and_sampling_are_those_of_the_file(name, colour):
    image, coding = cells.decode(odd_jpeg.coded(colour[:64, :96], name, quality=75))
    luma, chroma = jpeg.quantization_tables(jpeg.encode(colour[:64, :96], 75))
    assert [*map(np.array_equal, coding.steps, (luma, chroma, chroma))] == [True] * 3
    assert coding.sampling == (odd_jpeg.SAMPLINGS[name], (1, 1), (1, 1)) and not coding.is_rgb
    assert str(coding) == f"quality about 75, {name}" and image.shape == (64, 96, 3)


def test_grey_and_rgb_files_have_planes_of_their_own(colour):
    with opened(colour[:64, :64], quality=75, keep_rgb=True) as picture:
        assert cells.coding_of(picture).is_rgb and "RGB" in str(cells.coding_of(picture))
    coding = cells.decode(jpeg.encode(colour[:64, :64, 0], 75))[1]
    assert len(coding.steps) == 1 and str(coding) == "quality about 75, grey"


def test_tables_of_16_bits_are_read_and_a_zero_is_refused(colour):
    data = odd_jpeg.coded(colour[:64, :64], "4:2:0", quality=75)
    (image, coding), (same, wide) = cells.decode(data), cells.decode(odd_jpeg.with_wide_tables(data))
    assert np.array_equal(image, same) and np.array_equal(coding.steps, wide.steps)
    with pytest.raises(ValueError, match="a quantisation table holds a zero"):
        cells.decode(odd_jpeg.with_wide_tables(data, zero=True))


@given(st.integers(1, 100), st.floats(0.1, 200), st.integers(0, 99))
def test_a_change_of_a_grey_picture_stays_in_the_cells(quality, size, seed):
    rng = np.random.default_rng(seed)
    image, coding = cells.decode(jpeg.encode(rng.integers(0, 256, (24, 40), dtype=np.uint8), quality))
    change = size * rng.standard_normal(image.shape).astype(np.float32)
    found = np.abs(coefficients(within_cells(change, image, coding)))
    assert (found <= coding.steps[0] / 2 + 1e-3).all()
    assert (found <= np.abs(coefficients(change)) + 1e-3).all()  # never more than was wanted


@pytest.mark.parametrize("unit", odd_jpeg.SAMPLINGS.values())
def test_each_plane_of_a_colour_change_stays_in_its_cells(unit):
    """At each plane's own resolution, whose samples are means of pixels."""
    steps = tuple(RNG.integers(1, 60, (8, 8)).astype(np.float32) for _ in range(2))
    coding = Coding((steps[0], steps[1], steps[1]), (unit, (1, 1), (1, 1)))
    image = RNG.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    change = 50 * RNG.standard_normal((64, 96, 3)).astype(np.float32)
    planes = within_cells(change, image, coding) @ FROM_RGB.T
    assert (np.abs(coefficients(planes[..., 0])) <= steps[0] / 2 + 1e-2).all()
    rows, columns = unit
    for plane in (planes[..., 1], planes[..., 2]):
        coarse = plane.reshape(64 // rows, rows, 96 // columns, columns).mean((1, 3))
        assert (np.abs(coefficients(coarse)) <= steps[1] / 2 + 1e-2).all()


def test_a_file_of_the_highest_quality_is_left_as_it_is():
    coding = chequered(1)
    change = RNG.standard_normal((16, 16)).astype(np.float32)
    assert not coding.can_gain and chequered(2).can_gain
    assert not within_cells(change, np.zeros((16, 16), np.uint8), coding).any()


def test_coarse_steps_keep_a_small_change_and_busy_blocks_keep_less_of_it():
    change = RNG.standard_normal((16, 16)).astype(np.float32)
    flat, busy = np.full((16, 16), 128, np.uint8), RNG.integers(0, 256, (16, 16), dtype=np.uint8)
    assert np.abs(within_cells(change, flat, chequered(99)) - change).max() < 0.01
    assert np.abs(within_cells(change, busy, chequered(5))).mean() < np.abs(change).mean() / 4


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([None, *odd_jpeg.SAMPLINGS.values()]))
def test_any_size_keeps_its_shape(height, width, unit):
    coding = chequered(20, (unit, (1, 1), (1, 1)) if unit else ((1, 1),))
    shape = (height, width, 3) if unit else (height, width)
    change, image = RNG.standard_normal(shape).astype(np.float32), RNG.integers(0, 256, shape, dtype=np.uint8)
    found = within_cells(change, image, coding)
    assert found.shape == shape and np.isfinite(found).all()


def test_the_quality_is_that_of_the_nearest_table():
    assert [chequered(1).quality, *(cells.decode(jpeg.encode(np.zeros((8, 8), np.uint8), q))[1].quality
            for q in (5, 50, 75, 95))] == [100, 5, 50, 75, 95]  # fmt: skip


@pytest.mark.parametrize(("first", "last", "cut"), [(30, 90, 0), (30, 90, 4), (75, 95, 0), (50, 90, 3)])
def test_an_earlier_coding_is_seen_with_its_quality_and_grid(first, last, cut, colour):
    image = center_crop(jpeg.luma(colour), (256, 256))
    before = jpeg.decode(jpeg.encode(image, first))[cut:, cut:]
    coding = cells.decode(jpeg.encode(before, last))[1]
    assert abs(coding.earlier - first) <= 1 and coding.grid == (-cut % 8, -cut % 8)
    assert (coding.steps[0] >= cells.standard_steps(coding.earlier)[0]).all() and "before" in str(coding)


def test_a_file_coded_once_shows_no_earlier_coding():
    for scene in open_set("samples").scenes:
        for quality in (30, 75, 90, 98):
            assert cells.decode(jpeg.encode(scene.load(), quality))[1].earlier == 0, (scene.name, quality)


def test_blocks_that_would_be_coded_alike_are_counted():
    image, coding = cells.decode(jpeg.encode(jpeg.luma(open_set("samples")["camera"].load()), 50))
    assert cells.kept(image, image, coding) == 1
    changed = image.copy()
    changed[:8, :8] ^= 64
    assert cells.kept(image, changed, coding) == pytest.approx(1 - 1 / 64**2)
    assert np.isnan(cells.kept(image[:7], image[:7], coding))
