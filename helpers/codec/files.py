"""The codec on files and folders: what travels along, and what is refused."""

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from helpers import StudyError, one_line
from helpers.codec.container import ENDING, MAGIC, CodecError, read
from helpers.data.loading import ENDLESS, endless, opened, shown, to_array
from helpers.records import check_apart, write_file

Encoder = Callable[..., tuple[bytes, np.ndarray]]


def encode_file(source: Path, target: Path, encoder: Encoder) -> dict:
    """Writes what `encoded` makes of a picture; {width, height, bytes, bits_per_pixel, psnr in dB}.

    Raises StudyError, one line, where the source can't be read or coded or the target can't be written;
    nothing is written then.
    """
    data, done = encoded(source, encoder)
    write_file(target, data)
    return done


def encoded(source: Path, encoder: Encoder) -> tuple[bytes, dict]:
    """(compressed file, {width, height, bytes, bits_per_pixel, psnr in dB}) of a picture file.

    The picture is turned upright as its EXIF asks, EXIF is kept with the orientation set to 1, the ICC
    profile is kept but for CMYK, LAB and YCbCr, whose channels are not those that are coded, transparency
    is kept without loss beside the colours; otherwise the rules of `helpers.data.load_image` hold.
    `encoder` is called with (image, icc=, exif=, alpha=). Raises StudyError, one line.
    """
    from helpers.metrics import psnr

    image, metadata = _read_picture(source)
    try:
        data, decoded = encoder(image, **metadata)
    except CodecError as error:
        raise StudyError(f"{shown(source)}: {error}") from None
    height, width = image.shape[:2]
    return data, {
        "width": width,
        "height": height,
        "bytes": len(data),
        "bits_per_pixel": 8 * len(data) / (width * height),
        "psnr": psnr(image, decoded),
    }


def summary(target: Path, done: dict) -> str:
    """One line of what `encode_file` returned."""
    return (
        f"{shown(target.name)}: {done['bytes']:,} bytes, {done['bits_per_pixel']:.3f} bits a pixel, "
        f"{done['psnr']:.2f} dB"
    )


def _read_picture(source: Path) -> tuple[np.ndarray, dict[str, bytes]]:
    """(image, what travels beside it)."""
    with opened(source) as picture:
        own = picture.mode not in ("CMYK", "LAB", "YCbCr")  # these become RGB, of which theirs is no profile
        metadata = {"icc": (own and picture.info.get("icc_profile")) or b""}
        exif, picture = picture.getexif(), ImageOps.exif_transpose(picture)
        if exif:  # also where the tag is gone: Pillow turns a TIFF, and drops it, while loading
            exif[ExifTags.Base.Orientation] = 1
        metadata["exif"] = exif.tobytes() if exif else b""
        if picture.has_transparency_data and picture.mode.startswith("I"):  # RGBA would clip its 16 bits
            clear = np.array(picture) == picture.info["transparency"]
            metadata["alpha"] = alpha_bytes(np.where(clear, 0, 255).astype(np.uint8))
        elif picture.has_transparency_data:
            grey = picture.mode in ("1", "L", "LA", "La")
            picture = picture.convert("RGBA")
            metadata["alpha"] = alpha_bytes(np.array(picture.getchannel("A")))
            picture = picture.convert("RGB").convert("L") if grey else picture.convert("RGB")
        return to_array(picture), metadata


def decode_file(source: Path, target: Path) -> None:
    """Writes the picture of a compressed file as PNG or lossless WebP, with its ICC profile and EXIF.

    Raises StudyError, one line; header and CRC-32 are checked before torch is loaded.
    """
    kinds = {".png": ("PNG", {}), ".webp": ("WEBP", {"lossless": True})}
    if target.suffix.lower() not in kinds:
        raise StudyError(f"{shown(target)}: the ending must be one of {', '.join(kinds)}")
    data = read_file(source)
    try:
        found = read(data)
        if found.fitted:
            from helpers.fitted.payload import decode  # NumPy alone

            picture = Image.fromarray(decode(found))
        else:
            from helpers.codec.pictures import decode

            picture = Image.fromarray(decode(data))
        if found.alpha:
            picture.putalpha(Image.fromarray(plane_of(found.alpha, found.height, found.width)))
    except CodecError as error:
        raise StudyError(f"{shown(source)}: {error}") from None
    kind, options = kinds[target.suffix.lower()]
    buffer = io.BytesIO()
    kept = {"icc_profile": found.icc, "exif": found.exif}
    try:
        picture.save(buffer, kind, **options, **{key: value for key, value in kept.items() if value})
    except (OSError, ValueError) as error:
        raise StudyError(f"{shown(target)}: can't be written ({one_line(error)})") from None
    write_file(target, buffer.getvalue())


def describe(source: Path) -> str:
    """What a compressed file holds, in one line. Raises StudyError."""
    data = read_file(source)
    try:
        found = read(data)
    except CodecError as error:
        raise StudyError(f"{shown(source)}: {error}") from None
    parts = [
        f"{name} {len(part):,}"
        for name, part in (("ICC", found.icc), ("EXIF", found.exif), ("alpha", found.alpha))
        if part
    ]
    kind = "grey" if found.grey else "colour"
    return (
        f"{shown(source)}: {found.width}x{found.height}, {kind}, rate {found.rate}, "
        f"{len(data):,} bytes, {8 * len(data) / (found.width * found.height):.3f} bits a pixel "
        f"(latent {len(found.latent):,}{''.join(', ' + p for p in parts)}), "
        + ("fitted to the picture" if found.fitted else f"model {found.model.hex()}")
    )


def read_file(path: Path) -> bytes:
    """A file's bytes; of one that is not the codec's only the first few. Raises StudyError, one line."""
    if endless(path):
        raise StudyError(f"{shown(path)}: {ENDLESS}")
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
            return head + file.read() if head == MAGIC else head
    except OSError as error:
        raise StudyError(f"{shown(path)}: can't be read ({error.strerror})") from None


def pairs(source: Path, target: Path, ending: str) -> list[tuple[Path, Path]]:
    """(file, where its result goes) of one file, or of every picture, or compressed file, of a folder."""
    if not source.is_dir():
        check_apart(source, target, "encode" if ending == ENDING else "decode")
        return [(source, target)]
    if ending == ENDING:
        from helpers.data import open_set

        return [(scene.path, target / f"{scene.name}{ending}") for scene in open_set(source).scenes]
    found = sorted(p for p in source.glob(f"*{ENDING}") if p.name[0] != "." and not os.path.isdir(p))
    if not found:
        raise StudyError(f"{shown(source)}: holds no {ENDING} files")
    return [(path, target / f"{path.stem}{ending}") for path in found]


def plane_of(alpha: bytes, height: int, width: int) -> np.ndarray:
    """The alpha plane (height, width) that `alpha_bytes` wrote. Raises CodecError where it is none."""
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(alpha), formats=["PNG"]) as picture,
        ):
            if picture.mode != "L" or picture.size != (width, height):
                raise CodecError("has an alpha plane of another size")
            return np.array(picture)
    except CodecError:
        raise
    except Exception as error:  # whatever a decoder raises, a bomb's size included
        reason = one_line(error)
        raise CodecError(f"has an alpha plane that can't be read ({reason})") from None


def alpha_bytes(plane: np.ndarray) -> bytes:
    """An alpha plane (H, W), kept without loss, as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
