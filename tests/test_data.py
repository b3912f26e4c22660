"""Any file in, one kind of array out, or one line that names the file."""

import io
import struct
import sys
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hostile_pictures import STORED
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.data import ImageError, load_image
from helpers.files import printable

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 10, 3), dtype=np.uint8)
BLOCKS = np.kron(RNG.integers(30, 220, (2, 3, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))  # 16 x 24
DEEP = np.array([[0, 128, 129, 257], [4660, 32768, 65407, 65535]], np.uint16)


def encoded(picture: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour_type: int, scanlines: bytes) -> bytes:
    """A PNG file by hand, for what Pillow reads and can't write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        content = kind + content
        return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(scanlines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refusal(path: str | Path) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(path)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.startswith(f"{printable(path)}: ")
    return text


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("TIFF", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95, "subsampling": 0}, 4),
    ],
)
def test_exif_rotation_is_applied(tmp_path, orientation, kind, options, tolerance):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = put(tmp_path, "photo", encoded(STORED[orientation](BLOCKS), kind, exif=exif, **options))
    image = load_image(path)
    assert image.shape == BLOCKS.shape
    assert np.abs(image.astype(int) - BLOCKS).max() <= tolerance


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("pixels", [COLOUR, COLOUR[..., 0], COLOUR[:1, :1], COLOUR[:1, :1, 0]])
def test_lossless_formats_come_back_exactly(tmp_path, kind, pixels):
    image = load_image(put(tmp_path, "picture", encoded(pixels, kind)))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels)


def test_content_counts_and_not_the_extension(tmp_path):
    data = encoded(BLOCKS, "JPEG")
    expected = np.array(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(load_image(put(tmp_path, "a.bmp", data)), expected)
    np.testing.assert_array_equal(load_image(put(tmp_path, "a", data)), expected)


@pytest.mark.parametrize(("ink", "colour"), [((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 255), (0, 0, 0))])
def test_cmyk_jpeg_becomes_rgb_and_not_its_negative(tmp_path, ink, colour):
    image = load_image(put(tmp_path, "print.jpg", encoded(Image.new("CMYK", (16, 8), ink), "JPEG")))
    assert image.shape == (8, 16, 3)
    assert np.abs(image.astype(int) - colour).max() <= 3


def test_lab_and_ycbcr_become_rgb(tmp_path):
    lab = load_image(put(tmp_path, "lab.tif", encoded(Image.new("LAB", (9, 9), (255, 128, 128)), "TIFF")))
    ycbcr = load_image(put(tmp_path, "ycc.tif", encoded(Image.new("YCbCr", (9, 9), (76, 85, 255)), "TIFF")))
    assert (lab >= 254).all()
    assert np.abs(ycbcr[0, 0].astype(int) - (255, 0, 0)).max() <= 2


def test_palette_becomes_rgb_and_its_transparent_entry_white(tmp_path):
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    opaque = load_image(put(tmp_path, "p.png", encoded(picture, "PNG")))
    clear = load_image(put(tmp_path, "t.png", encoded(picture, "PNG", transparency=1)))
    assert opaque.tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    assert clear.tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_laid_over_white(tmp_path, channels):
    pixels = RNG.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    pixels[0, 0], pixels[0, 1] = 9, 9
    pixels[0, 0, -1], pixels[0, 1, -1] = 0, 255
    image = load_image(put(tmp_path, "a.png", encoded(Image.fromarray(pixels), "PNG")))
    alpha = pixels[..., -1:] / 255
    over_white = (pixels[..., :-1] * alpha + 255 * (1 - alpha)).squeeze()
    assert image.shape == over_white.shape  # grey with alpha stays grey
    assert np.abs(image - over_white).max() <= 1  # Pillow rounds twice
    assert (image[0, 0] == 255).all() and (image[0, 1] == 9).all()


def test_a_colour_declared_transparent_becomes_white(tmp_path):
    pixels = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)
    image = load_image(put(tmp_path, "a.png", encoded(pixels, "PNG", transparency=(255, 0, 0))))
    assert image.tolist() == [[[255, 255, 255], [0, 0, 255]]]


@pytest.mark.parametrize(
    ("content", "magic"),
    [
        (encoded(DEEP, "PNG"), b"\x89PNG"),
        (encoded(DEEP, "TIFF"), b"II"),
        (encoded(Image.frombytes("I;16B", (4, 2), DEEP.astype(">u2").tobytes()), "TIFF"), b"MM"),
        (b"P5 4 2 65535\n" + DEEP.astype(">u2").tobytes(), b"P5"),
    ],
    ids=["png", "tiff", "big-endian tiff", "pgm"],
)
def test_16_bit_grey_is_scaled_and_rounded(tmp_path, content, magic):
    assert content.startswith(magic)
    image = load_image(put(tmp_path, "deep", content))
    assert image.tolist() == [[0, 0, 1, 1], [18, 128, 255, 255]]  # 129 / 257 rounds up, 128 / 257 down


def test_16_bit_colour_becomes_8_bit(tmp_path):
    deep = RNG.integers(0, 65536, (3, 4, 3), dtype=np.uint16)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)  # 0: no PNG filter
    image = load_image(put(tmp_path, "deep.png", png(4, 3, 16, 2, lines)))
    assert image.dtype == np.uint8 and image.shape == (3, 4, 3)
    assert np.abs(image - deep / 257).max() <= 1


def test_one_bit_becomes_black_and_white(tmp_path):
    picture = Image.fromarray(np.array([[0, 255, 255]], np.uint8)).convert("1")
    image = load_image(put(tmp_path, "fax.tif", encoded(picture, "TIFF")))
    assert image.tolist() == [[0, 255, 255]]


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_of_an_animation_the_first_frame_counts(tmp_path, kind, options):
    frames = [Image.new("RGB", (9, 8), colour) for colour in ("red", "blue", "lime")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
    assert Image.open(io.BytesIO(content)).n_frames == 3
    assert (load_image(put(tmp_path, "moving", content)) == (255, 0, 0)).all()


AWKWARD = ["two words.png", 'it\'s "so" {0} %s.png', "line\nbreak\r.png", "naïve 図.png", "\x1b[31m.png"]
if sys.platform != "darwin":  # its file system takes UTF-8 alone
    AWKWARD.append(b"latin-\xe9.png".decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("name", AWKWARD, ids=ascii)
def test_awkward_file_names(tmp_path, name):
    np.testing.assert_array_equal(load_image(put(tmp_path, name, encoded(COLOUR, "PNG"))), COLOUR)
    text = refusal(put(tmp_path, name, b"no picture"))
    assert text.isprintable()
    text.encode()  # so that it can be printed where stdout is UTF-8


def test_shown_leaves_ordinary_names_alone():
    assert printable(Path("a b/ö 'c'.png")) == "a b/ö 'c'.png"
    assert printable("a\nb\x1b") == "a\\nb\\x1b"


def test_missing_folder_empty_and_no_picture(tmp_path):
    (tmp_path / "folder.png").mkdir()
    assert "does not exist" in refusal(tmp_path / "none.png")
    assert "does not exist" in refusal(put(tmp_path, "file", b"x") / "inside.png")
    assert "is a folder" in refusal(tmp_path / "folder.png")
    assert "0 bytes" in refusal(put(tmp_path, "empty.png", b""))
    assert "not a picture" in refusal(put(tmp_path, "text.png", b"Dear diary,\n"))
    assert "too long" in refusal(tmp_path / ("a" * 300 + ".png"))
    assert "null" in refusal("a\0b.png")


def test_pixels_of_unknown_range_are_refused(tmp_path):
    real = put(tmp_path, "real.tif", encoded(np.zeros((4, 4), np.float32), "TIFF"))
    large = put(tmp_path, "large.tif", encoded(np.full((4, 4), 70_000, np.int32), "TIFF"))
    below = put(tmp_path, "below.tif", encoded(np.full((4, 4), -1, np.int32), "TIFF"))
    assert "floating-point" in refusal(real)
    assert "outside 0..65535" in refusal(large)
    assert "outside 0..65535" in refusal(below)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_file_is_refused_unless_no_pixel_is_lost(tmp_path, kind):
    content = encoded(BLOCKS, kind)
    whole = load_image(put(tmp_path, "whole", content))
    refusal(put(tmp_path, "half", content[: len(content) // 2]))
    for length in range(1, len(content), max(1, len(content) // 60)):
        path = put(tmp_path, "part", content[:length])
        try:
            image = load_image(path)
        except ImageError:
            refusal(path)
        else:
            assert length >= len(content) - 20  # a closing mark is all that's missing
            np.testing.assert_array_equal(image, whole)


@pytest.mark.parametrize("limit", [COLOUR[..., 0].size - 1, COLOUR[..., 0].size // 2 - 1])
def test_a_picture_above_pillows_limit_is_refused(tmp_path, monkeypatch, limit):
    # up to twice its limit Pillow only warns, above it raises
    path = put(tmp_path, "large.png", encoded(COLOUR, "PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert f"more than {limit} pixels" in refusal(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", COLOUR[..., 0].size)
    np.testing.assert_array_equal(load_image(path), COLOUR)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    assert "89,478,485 pixels" in refusal(put(tmp_path, "bomb.png", png(60_000, 60_000, 8, 2, b"\0" * 1000)))


def test_harmless_damage_leaves_stderr_clean(tmp_path, recwarn):
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\0"  # claims 255 entries and has none
    load_image(put(tmp_path, "a.jpg", encoded(BLOCKS, "JPEG", exif=exif)))
    assert not recwarn.list


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
@settings(max_examples=200)
@given(data=st.data())
def test_damaged_bytes_load_or_are_refused_and_nothing_else(tmp_path_factory, kind, data):
    content = bytearray(encoded(BLOCKS, kind))
    edits = st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=8)
    for position, value in data.draw(edits):
        content[position] = value
    length = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    path = put(tmp_path_factory.getbasetemp(), "damaged", bytes(content[:length]))
    with mock.patch.object(Image, "MAX_IMAGE_PIXELS", 1_000_000):  # a damaged header may ask for gigabytes
        try:
            image = load_image(path)
        except ImageError as error:
            assert len(str(error).splitlines()) == 1 and str(path) in str(error)
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 2 or image.shape[2:] == (3,)


@pytest.mark.parametrize("kind", ["a preview first", "Canon's"])
def test_a_raw_file_is_refused_instead_of_its_preview(tmp_path, kind):
    path = tmp_path / "raw.dng"
    preview = Image.fromarray(np.zeros((32, 48), np.uint8))
    preview.save(path, "TIFF", tiffinfo={254: 1} if kind == "a preview first" else {})
    if kind == "Canon's":  # its sign stands between the header and the first directory
        data = path.read_bytes()
        assert int.from_bytes(data[4:8], "little") == 8
        path.write_bytes(data[:4] + (16).to_bytes(4, "little") + b"CR\2\0" + bytes(4) + data[8:])
    with pytest.raises(
        ImageError, match="raw.dng: is a camera's raw file, of which Pillow reads the preview"
    ):
        load_image(path)
