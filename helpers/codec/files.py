"""The codec on files and folders: what travels along, and what is refused."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from helpers import StudyError
from helpers.codec.container import ENDING, CodecError, read
from helpers.data.loading import opened, shown, to_array
from helpers.records import write_file

Encoder = Callable[..., tuple[bytes, np.ndarray]]


def encode_file(source: Path, target: Path, encoder: Encoder) -> dict:
    """Writes the compressed file of a picture; {width, height, bytes, bits_per_pixel, psnr in dB}.

    The picture is turned upright as its EXIF asks, EXIF is kept with the orientation set to 1, the ICC
    profile is kept, transparency is kept without loss beside the colours; otherwise the rules of
    `helpers.data.load_image` hold. `encoder` is called with (image, icc=, exif=, alpha=). Raises StudyError,
    one line, where the source can't be read or coded or the target can't be written; nothing is written
    then.
    """
    from helpers.metrics import psnr

    image, metadata = _read_picture(source)
    try:
        data, decoded = encoder(image, **metadata)
    except CodecError as error:
        raise StudyError(f"{shown(source)}: {error}") from None
    write_file(target, data)
    height, width = image.shape[:2]
    return {
        "width": width,
        "height": height,
        "bytes": len(data),
        "bits_per_pixel": 8 * len(data) / (width * height),
        "psnr": psnr(image, decoded),
    }


def _read_picture(source: Path) -> tuple[np.ndarray, dict[str, bytes]]:
    """(image, what travels beside it)."""
    from helpers.codec.pictures import alpha_bytes

    with opened(source) as picture:
        metadata = {"icc": picture.info.get("icc_profile") or b""}
        picture = ImageOps.exif_transpose(picture)
        exif = picture.getexif()
        metadata["exif"] = exif.tobytes() if exif else b""
        if picture.has_transparency_data:
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
        from helpers.codec.pictures import decode, plane_of

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
        raise StudyError(f"{shown(target)}: can't be written ({' '.join(str(error).split())})") from None
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
        f"(latent {len(found.latent):,}{''.join(', ' + p for p in parts)}), model {found.model.hex()}"
    )


def read_file(path: Path) -> bytes:
    """A file's bytes. Raises StudyError, one line."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise StudyError(f"{shown(path)}: can't be read ({error.strerror})") from None


def pairs(source: Path, target: Path, ending: str) -> list[tuple[Path, Path]]:
    """(file, where its result goes) of one file, or of every picture, or compressed file, of a folder."""
    if not source.is_dir():
        return [(source, target)]
    if ending == ENDING:
        from helpers.data import open_set

        return [(scene.path, target / f"{scene.name}{ending}") for scene in open_set(source).scenes]
    found = sorted(source.glob(f"*{ENDING}"))
    if not found:
        raise StudyError(f"{shown(source)}: holds no {ENDING} files")
    return [(path, target / f"{path.stem}{ending}") for path in found]
