"""JPEG's bytes, luma and tables, against the standards' own formulas."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, UnidentifiedImageError

from helpers.data import open_set
from helpers.jpeg import decode, encode, full_range_grey, luma, quantization_tables

SHAPE = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda s: st.sampled_from([s, (*s, 3)]))
IMAGES = SHAPE.flatmap(lambda shape: arrays(np.uint8, shape))
LUMINANCE = [  # ITU-T T.81, table K.1
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]


@pytest.fixture(scope="module")
def colour() -> np.ndarray:
    return open_set("samples")["coffee"].load()[100:228, 200:333]  # 128 x 133


@pytest.fixture(scope="module")
def grey(colour) -> np.ndarray:
    return luma(colour)


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((0, 0, 0), 16),
        ((255, 255, 255), 235),
        ((255, 0, 0), 81),  # 16 + 65.481
        ((0, 255, 0), 145),  # 16 + 128.553
        ((0, 0, 255), 41),  # 16 + 24.966
        ((128, 128, 128), 126),  # 16 + 219 * 128 / 255 = 125.93
    ],
)
def test_luma_of_known_colours(rgb, expected):
    result = luma(np.full((2, 3, 3), rgb, np.uint8))
    assert result.dtype == np.uint8 and result.shape == (2, 3)
    assert (result == expected).all()


def test_luma_is_the_nearest_integer_to_bt601():
    # in whole numbers, on every 5th level: 255000 Y = 255000 * 16 + 65481 R + 128553 G + 24966 B
    levels = np.indices((52, 52, 52)).reshape(3, 52 * 52, 52).transpose(1, 2, 0) * 5
    exact = 255_000 * 16 + levels @ [65_481, 128_553, 24_966]
    error = luma(levels.astype(np.uint8)).astype(int) * 255_000 - exact
    assert np.abs(error).max() <= 127_500


def test_grey_is_its_own_luma_and_equal_channels_have_the_range_of_luma():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(luma(grey), grey)
    np.testing.assert_array_equal(luma(np.stack([grey] * 3, axis=2)), np.rint(16 + grey * (219 / 255)))


def test_full_range_grey_is_the_jfif_luma(colour):
    exact = colour @ np.array([0.299, 0.587, 0.114])
    result = full_range_grey(colour)
    assert result.dtype == np.uint8
    assert np.abs(result - exact).max() <= 0.501
    flat = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(full_range_grey(flat), flat)


def test_tables_of_quality_50_are_the_standards(colour, grey):
    tables = quantization_tables(encode(colour, 50))
    assert [table.shape for table in tables] == [(8, 8), (8, 8)]  # luma and chroma
    assert tables[0].tolist() == LUMINANCE
    assert tables[1][0].tolist() == [17, 18, 24, 47, 99, 99, 99, 99]
    assert [table.tolist() for table in quantization_tables(encode(grey, 50))] == [LUMINANCE]


@pytest.mark.parametrize("quality", [1, 10, 20, 40, 75, 95])
def test_tables_scale_with_quality_as_libjpeg_does(grey, quality):
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    expected = np.clip((np.array(LUMINANCE) * percent + 50) // 100, 1, 255)
    np.testing.assert_array_equal(quantization_tables(encode(grey, quality))[0], expected)


@pytest.mark.parametrize("quality", [10, 75])
def test_bytes_are_those_of_pillows_defaults(colour, grey, quality):
    # so that rates are comparable with what a plain `save` gives
    for image in (colour, grey):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        assert encode(image, quality) == buffer.getvalue()


@given(IMAGES, st.integers(1, 95), st.sampled_from(["4:2:0", "4:4:4"]), st.booleans())
def test_what_is_encoded_is_decoded_in_its_shape(image, quality, subsampling, optimize):
    decoded = decode(encode(image, quality, subsampling=subsampling, optimize=optimize))
    assert decoded.dtype == np.uint8
    assert decoded.shape == image.shape


def test_quality_buys_nearness(grey):
    errors = [np.abs(decode(encode(grey, q)).astype(int) - grey).mean() for q in (5, 20, 50, 95)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1.5 < errors[0]


def test_optimize_changes_bytes_and_no_pixel(colour, grey):
    for image in (colour, grey):
        plain, optimized = encode(image, 30), encode(image, 30, optimize=True)
        assert len(optimized) < len(plain)
        np.testing.assert_array_equal(decode(optimized), decode(plain))


def test_chroma_subsampling_costs_chroma_and_saves_bytes(colour, grey):
    halved, full = (encode(colour, 75, subsampling=s) for s in ("4:2:0", "4:4:4"))
    assert len(halved) < len(full)
    assert encode(colour, 75) == halved
    errors = [np.square(decode(data).astype(float) - colour).mean() for data in (halved, full)]
    assert errors[1] < errors[0]
    for data, factors in ((halved, (2, 2)), (full, (1, 1))):
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.layer[0][1:3] == factors  # samples of luma to one of chroma, across and down
    assert encode(grey, 75, subsampling="4:2:0") == encode(grey, 75, subsampling="4:4:4")


@pytest.mark.parametrize("caller", [lambda image: encode(image, 50), luma, full_range_grey])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool, np.int8, np.uint16])
def test_other_dtypes_are_refused(caller, dtype):
    with pytest.raises(TypeError, match="takes a uint8 image, range 0..255, not"):
        caller(np.zeros((8, 8), dtype))


@pytest.mark.parametrize("caller", [lambda image: encode(image, 50), luma, full_range_grey])
@pytest.mark.parametrize("shape", [(), (8,), (0, 8), (8, 8, 1), (8, 8, 4), (3, 8, 8), (1, 8, 8, 3)])
def test_other_shapes_are_refused(caller, shape):
    with pytest.raises(ValueError, match=r"takes an image \(H, W\) or \(H, W, 3\), not"):
        caller(np.zeros(shape, np.uint8))


def test_what_is_no_array_is_refused():
    with pytest.raises(TypeError, match="encode takes a uint8 image, range 0..255, not list"):
        encode([[1, 2], [3, 4]], 50)


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_quality_off_the_scale_is_refused(grey, quality):
    with pytest.raises(ValueError, match=f"quality is {quality}"):
        encode(grey, quality)


@pytest.mark.parametrize("subsampling", ["4:2:2", "", None, 2])
def test_unknown_subsampling_is_refused(grey, subsampling):
    with pytest.raises(ValueError, match="known are 4:4:4, 4:2:0"):
        encode(grey, 50, subsampling=subsampling)


def test_sides_that_jpeg_cannot_hold_are_refused(capfd):
    assert decode(encode(np.zeros((1, 65_500), np.uint8), 10)).shape == (1, 65_500)
    for shape in ((1, 65_501), (65_501, 1)):
        with pytest.raises(ValueError, match="sides of at most 65500 pixels"):
            encode(np.zeros(shape, np.uint8), 10)
    assert capfd.readouterr().err == ""  # libjpeg would print there


def test_only_jpeg_streams_are_decoded(grey):
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    with pytest.raises(UnidentifiedImageError):
        decode(buffer.getvalue())
