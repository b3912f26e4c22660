"""JPEG files that Pillow can't write: any sampling, tables of 16 bits, samples of 12, arithmetic coding."""

import io

import numpy as np
from PIL import Image

# The first plane's sampling by the chroma's name, and the one that Pillow writes with as many luma blocks.
SAMPLINGS = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2), "4:4:0": (2, 1), "4:1:1": (1, 4)}
WRITTEN_AS = {"4:4:0": "4:2:2", "4:1:1": "4:2:0"}


def coded(image: np.ndarray, sampling: str, **options) -> bytes:
    """JPEG file of a colour image (H, W, 3) with a key of SAMPLINGS; Pillow's options besides.

    What Pillow can't write is rearranged: the blocks of a coding unit are put where they would lie in a
    sampling of as many, coded there, and the header is changed to the sampling meant. The sides grow to
    whole units, by repeating the edge.
    """
    if sampling not in WRITTEN_AS:
        return _saved(Image.fromarray(image), subsampling=sampling, **options)
    (rows, columns), (own_rows, own_columns) = SAMPLINGS[sampling], SAMPLINGS[WRITTEN_AS[sampling]]
    unit = 8 * rows, 8 * columns
    image = np.pad(image, ((0, -image.shape[0] % unit[0]), (0, -image.shape[1] % unit[1]), (0, 0)), "edge")
    planes = np.array(Image.fromarray(image).convert("YCbCr"))
    down, across = image.shape[0] // unit[0], image.shape[1] // unit[1]
    blocks = planes[..., 0].reshape(down, rows, 8, across, columns, 8).transpose(0, 3, 1, 4, 2, 5)
    blocks = blocks.reshape(down, across, own_rows, own_columns, 8, 8).transpose(0, 2, 4, 1, 3, 5)
    size = down * own_rows * 8, across * own_columns * 8
    arranged = np.empty((*size, 3), np.uint8)
    arranged[..., 0] = blocks.reshape(size)
    coarse = planes[..., 1:].reshape(down * 8, rows, across * 8, columns, 2).mean((1, 3)).round()
    arranged[..., 1:] = coarse.repeat(own_rows, 0).repeat(own_columns, 1)
    data = bytearray(_saved(Image.fromarray(arranged, "YCbCr"), subsampling=WRITTEN_AS[sampling], **options))
    frame = data.index(b"\xff\xc0\0\x11")  # a table may hold the marker alone
    data[frame + 5 : frame + 9] = bytes([*divmod(image.shape[0], 256), *divmod(image.shape[1], 256)])
    assert data[frame + 11] == own_columns << 4 | own_rows
    data[frame + 11] = columns << 4 | rows
    return bytes(data)


def coded_grey(image: np.ndarray, **options) -> bytes:
    """JPEG file of a grey image (H, W), with Pillow's options; the first table alone."""
    options["qtables"] = options["qtables"][:1]
    return _saved(Image.fromarray(image), **options)


def with_wide_tables(data: bytes, zero: bool = False) -> bytes:
    """The same file with tables of 16 bits an entry, or with a zero in the first table."""
    start = data.index(b"\xff\xdb")
    length = int.from_bytes(data[start + 2 : start + 4])
    table = bytearray(data[start + 4 : start + 2 + length])
    if zero:
        table[10] = 0
        return data[: start + 4] + bytes(table) + data[start + 2 + length :]
    segments = b""
    for first in range(0, len(table), 65):
        wide = b"".join(step.to_bytes(2) for step in table[first + 1 : first + 65])
        segments += bytes([0x10 | table[first]]) + wide
    return data[: start + 2] + (len(segments) + 2).to_bytes(2) + segments + data[start + 2 + length :]


def of_12_bits(data: bytes) -> bytes:
    """The file with a frame header that claims extended coding of 12-bit samples."""
    frame = data.index(b"\xff\xc0\0\x11")
    return data[:frame] + b"\xff\xc1" + data[frame + 2 : frame + 4] + b"\x0c" + data[frame + 5 :]


def arithmetic(data: bytes) -> bytes:
    """The file with a frame header that claims arithmetic coding; its data then mean something else."""
    return data.replace(b"\xff\xc0\0\x11", b"\xff\xc9\0\x11", 1)


def _saved(picture: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **options)
    return buffer.getvalue()
