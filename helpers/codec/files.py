"""The codecs on files and folders: what travels along, and what is refused."""

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from helpers import files
from helpers.codec.container import ENDING, MAGIC, CodecError, Container, read
from helpers.data.metadata import LOSSLESS, check_ending, read_upright, write_picture
from helpers.data.sets import open_set
from helpers.files import StudyError, one_line, printable, write_file

PictureEncoder = Callable[..., tuple[bytes, np.ndarray]]


def encode_file(source: Path, target: Path, encoder: PictureEncoder) -> str:
    """Writes what `encoded` makes of a picture; returns its line. Raises StudyError, with nothing written."""
    data, line = encoded(source, target, encoder)
    write_file(target, data)
    return line


def encoded(source: Path, target: Path, encoder: PictureEncoder) -> tuple[bytes, str]:
    """(compressed file, a line with its bytes, bits a pixel and PSNR in dB) of a picture file.

    The picture is turned upright as its EXIF asks, EXIF is kept with the orientation set to 1, the ICC
    profile is kept but for CMYK, LAB and YCbCr, whose channels are not those that are coded, transparency
    is kept without loss; otherwise the rules of `helpers.data.load_image` hold. `encoder` is called with
    (image, icc=, exif=, alpha=). Raises StudyError, one line.
    """
    image, alpha, metadata = read_upright(source)
    from helpers.metrics import psnr  # not before the picture was read: it takes a second

    parts = {"icc": metadata["icc_profile"], "exif": metadata["exif"]}
    try:
        data, decoded = encoder(image, **parts, alpha=b"" if alpha is None else alpha_bytes(alpha))
    except CodecError as error:
        raise StudyError(f"{printable(source)}: {error}") from None
    rate = 8 * len(data) / (image.shape[0] * image.shape[1])
    quality = f"{rate:.3f} bits a pixel, {psnr(image, decoded):.2f} dB"
    return data, f"{printable(target.name)}: {len(data):,} bytes, {quality}"


def decode_file(source: Path, target: Path) -> None:
    """Writes the picture of a file as PNG or lossless WebP, with ICC profile and EXIF. Raises StudyError."""
    check_ending(target, LOSSLESS)
    found, decode = read_container(source)  # header and CRC-32 are checked before torch is loaded
    try:
        picture = Image.fromarray(decode(found))
        if found.alpha:
            picture.putalpha(Image.fromarray(alpha_plane(found.alpha, found.height, found.width)))
    except CodecError as error:
        raise StudyError(f"{printable(source)}: {error}") from None
    write_picture(target, picture, {"icc_profile": found.icc, "exif": found.exif})


def describe(source: Path) -> str:
    """What a compressed file holds, in one line. Raises StudyError."""
    found, _ = read_container(source)
    size, parts = source.stat().st_size, (("ICC", found.icc), ("EXIF", found.exif), ("alpha", found.alpha))
    inside = [f"latent {len(found.latent):,}", *(f"{name} {len(part):,}" for name, part in parts if part)]
    return (
        f"{printable(source)}: {found.width}x{found.height}, {'grey' if found.grey else 'colour'}, "
        f"rate {found.rate}, {size:,} bytes, {8 * size / (found.width * found.height):.3f} bits a pixel "
        f"({', '.join(inside)}), {'fitted to the picture' if found.fitted else f'model {found.model.hex()}'}"
    )


def read_container(path: Path) -> tuple[Container, Callable[[Container], np.ndarray]]:
    """(a file taken apart, what decodes it); of a foreign file 4 bytes are read. Raises StudyError."""
    if files.is_special_file(path):
        raise StudyError(f"{printable(path)}: {files.SPECIAL_FILE}")
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
            found = read(head + file.read() if head == MAGIC else head)
    except OSError as error:
        raise StudyError(f"{printable(path)}: can't be read ({error.strerror})") from None
    except CodecError as error:
        raise StudyError(f"{printable(path)}: {error}") from None
    if found.fitted:
        from helpers.codec.fitted.payload import decode  # NumPy alone
    else:
        from helpers.codec.trained.pictures import decode_container as decode
    return found, decode


def pairs(source: Path, target: Path, ending: str) -> list[tuple[Path, Path]]:
    """(file, where its result goes) of one file, or of every picture, or compressed file, of a folder."""
    if not source.is_dir():
        files.check_not_same_file(source, target, "encode" if ending == ENDING else "decode")
        return [(source, target)]
    if ending == ENDING:
        return [(scene.path, target / f"{scene.name}{ending}") for scene in open_set(source).scenes]
    found = sorted(p for p in source.glob(f"*{ENDING}") if p.name[0] != "." and not os.path.isdir(p))
    if not found:
        raise StudyError(f"{printable(source)}: holds no {ENDING} files")
    return [(path, target / f"{path.stem}{ending}") for path in found]


def alpha_plane(alpha: bytes, height: int, width: int) -> np.ndarray:
    """The alpha plane (height, width) that `alpha_bytes` wrote. Raises CodecError where it is none."""
    try:
        with warnings.catch_warnings(action="ignore"):
            picture = Image.open(io.BytesIO(alpha), formats=["PNG"])
            if picture.mode != "L" or picture.size != (width, height):
                raise ValueError("another size or mode")
            return np.array(picture)
    except Exception as error:  # whatever a decoder raises, a bomb's size included
        raise CodecError(f"has an alpha plane that can't be read ({one_line(error)})") from None


def alpha_bytes(plane: np.ndarray) -> bytes:
    """An alpha plane (H, W), kept without loss, as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
