"""Patches, crops and resizing: what lies on JPEG's 8x8 grid stays on it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.data import center_crop, crop_to_grid, grid_patches, resize

SIDE = st.integers(1, 70)


def coordinates(height: int, width: int) -> np.ndarray:
    """Image whose first two channels are each pixel's row and column."""
    rows, columns = np.indices((height, width))
    return np.stack([rows, columns, rows * 0], axis=2).astype(np.uint8)


@given(SIDE, SIDE, st.integers(1, 24), st.integers(1, 24), st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_patches_are_all_whole_ones_in_reading_order(height, width, size, stride, offset):
    corners = [
        [row, column]
        for row in range(height)
        for column in range(width)
        if row + size <= height and column + size <= width
        if row >= offset[0] and column >= offset[1]
        if (row - offset[0]) % stride == 0 and (column - offset[1]) % stride == 0
    ]
    if not corners:
        with pytest.raises(ValueError, match="patch fits"):
            grid_patches(coordinates(height, width), size, stride, offset)
        return
    patches = grid_patches(coordinates(height, width), size, stride, offset)
    assert patches.shape == (len(corners), size, size, 3)
    assert patches[:, 0, 0, :2].tolist() == corners
    expected = coordinates(size, size)
    for patch, corner in zip(patches, corners, strict=True):
        np.testing.assert_array_equal(patch - [*corner, 0], expected)


@given(st.integers(24, 70), st.integers(24, 70), st.sampled_from([8, 16, 24]), st.sampled_from([None, 8, 16]))
def test_patches_begin_on_the_block_grid(height, width, size, stride):
    corners = grid_patches(coordinates(height, width), size, stride)[:, 0, 0, :2]
    assert (corners % 8 == 0).all()


def test_stride_is_the_size_unless_given_and_grey_has_no_channel_axis():
    grey = np.arange(16 * 24, dtype=np.int64).reshape(16, 24)
    patches = grid_patches(grey, 8)
    assert patches.shape == (6, 8, 8)
    np.testing.assert_array_equal(np.unique(patches), np.arange(16 * 24))  # each pixel in one patch


@pytest.mark.parametrize(
    ("size", "stride", "offset"), [(0, None, (0, 0)), (-8, None, (0, 0)), (8, 0, (0, 0)), (8, 8, (-16, 0))]
)
def test_patches_of_no_meaning_are_refused(size, stride, offset):
    with pytest.raises(ValueError, match="must"):
        grid_patches(np.zeros((16, 16), np.uint8), size, stride, offset)


@given(SIDE, SIDE)
def test_crop_to_grid_keeps_the_whole_blocks_at_the_top_left(height, width):
    image = coordinates(height, width)
    if min(height, width) < 8:
        with pytest.raises(ValueError, match="no whole 8x8 block"):
            crop_to_grid(image)
        return
    cropped = crop_to_grid(image)
    assert [side % 8 for side in cropped.shape[:2]] == [0, 0]
    assert height - 8 < cropped.shape[0] <= height and width - 8 < cropped.shape[1] <= width
    np.testing.assert_array_equal(cropped, coordinates(*cropped.shape[:2]))


@given(SIDE, SIDE, SIDE, SIDE)
def test_center_crop_begins_on_the_grid_near_the_middle(height, width, rows, columns):
    image = coordinates(height, width)
    if rows > height or columns > width:
        with pytest.raises(ValueError, match="can't crop"):
            center_crop(image, (rows, columns))
        return
    cropped = center_crop(image, (rows, columns))
    assert cropped.shape == (rows, columns, 3)
    corner = cropped[0, 0, :2].astype(int)
    assert (corner % 8 == 0).all()
    middle = np.array([(height - rows) / 2, (width - columns) / 2])
    assert ((corner <= middle) & (middle < corner + 8)).all()


@pytest.mark.parametrize("size", [(0, 8), (8, -1), (17, 8), (8, 17)])
def test_center_crop_refuses_what_does_not_fit(size):
    with pytest.raises(ValueError, match="can't crop"):
        center_crop(np.zeros((16, 16), np.uint8), size)


@given(SIDE, SIDE, SIDE, SIDE, st.booleans())
def test_resize_gives_the_asked_height_and_width(height, width, rows, columns, colour):
    image = coordinates(height, width) if colour else coordinates(height, width)[..., 0]
    resized = resize(image, (rows, columns))
    assert resized.dtype == np.uint8
    assert resized.shape == (rows, columns, *image.shape[2:])


def test_resize_keeps_flat_pictures_and_filters_before_it_drops_pixels():
    assert (resize(np.full((20, 30), 77, np.uint8), (7, 50)) == 77).all()
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    assert np.abs(resize(stripes, (16, 16))[4:-4, 4:-4].astype(int) - 127.5).max() < 3  # no aliasing


def test_resize_takes_uint8_alone():
    with pytest.raises(TypeError, match="resize takes a uint8 image, not float64"):
        resize(np.zeros((8, 8)), (4, 4))
