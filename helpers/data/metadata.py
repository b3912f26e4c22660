"""Picture files with what travels along: EXIF, its orientation, the colour profile, transparency."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from helpers.cells import Coding, coding_of
from helpers.data.loading import ImageError, opened, to_array
from helpers.files import StudyError, one_line, printable, write_file

ORIENTATION = ExifTags.Base.Orientation
JPEG = ("JPEG", {"quality": 95, "subsampling": "4:4:4"})  # Pillow's format and options
WRITERS = {".png": ("PNG", {}), ".webp": ("WEBP", {"lossless": True}), ".jpg": JPEG, ".jpeg": JPEG}
LOSSLESS = (".png", ".webp")


def read_upright(path: Path) -> tuple[np.ndarray, np.ndarray | None, dict[str, bytes]]:
    """(image, alpha, metadata) of a picture file, turned upright as its EXIF asks. Raises ImageError.

    The image is as `load_image` returns it, but not laid over white; alpha is uint8 (H, W), None where
    nothing is transparent. The ICC profile of CMYK, LAB and YCbCr pictures is dropped: they become RGB.
    """
    with opened(path) as picture:
        profile = b"" if picture.mode in ("CMYK", "LAB", "YCbCr") else picture.info.get("icc_profile")
        upright, alpha = ImageOps.exif_transpose(picture), None  # before its orientation is set to 1
        exif, picture = _upright_exif(picture)[0], upright
        if picture.has_transparency_data and picture.mode.startswith("I"):  # RGBA would clip its 16 bits
            alpha = np.where(np.array(picture) == picture.info["transparency"], 0, 255).astype(np.uint8)
        elif picture.has_transparency_data:
            grey = picture.mode in ("1", "L", "LA", "La")
            picture = picture.convert("RGBA")
            alpha = np.array(picture.getchannel("A"))
            picture = picture.convert("RGB").convert("L") if grey else picture.convert("RGB")
        return to_array(picture), alpha, {"icc_profile": profile or b"", "exif": exif}


def read_coded_jpeg(path: Path) -> tuple[np.ndarray, int, dict[str, bytes], Coding]:
    """(pixels as they were coded, orientation, metadata, coding) of a grey or RGB JPEG file; ImageError."""
    with opened(path) as picture:
        if picture.format not in ("JPEG", "MPO") or picture.mode not in ("L", "RGB"):
            found = f"is a {picture.format} picture of mode {picture.mode}"
            raise ImageError(f"{printable(path)}: {found}; restore takes grey and RGB JPEG files")
        exif, orientation = _upright_exif(picture)
        metadata = {"icc_profile": picture.info.get("icc_profile") or b"", "exif": exif}
        return np.array(picture), orientation, metadata, coding_of(picture)


def _upright_exif(picture: Image.Image) -> tuple[bytes, int]:
    """(EXIF whose orientation is 1, empty where there is none, and the orientation that it had)."""
    exif = picture.getexif()
    orientation = exif.get(ORIENTATION, 1)
    if exif:  # also where the tag is gone: Pillow turns a TIFF, and drops it, while loading
        exif[ORIENTATION] = 1
    return exif.tobytes() if exif else b"", orientation


def turned(image: np.ndarray, orientation: int) -> Image.Image:
    """A Pillow picture of an image, turned as an EXIF orientation asks."""
    picture = Image.fromarray(image)
    picture.getexif()[ORIENTATION] = orientation
    return ImageOps.exif_transpose(picture)


def check_ending(target: Path, endings: Iterable[str]) -> None:
    """Raises StudyError where a file that is to be written has another ending."""
    if target.suffix.lower() not in endings:
        raise StudyError(f"{printable(target)}: the ending must be one of {', '.join(endings)}")


def write_picture(
    target: Path, picture: Image.Image, metadata: dict[str, bytes], quality: int | None = None
) -> None:
    """Writes a Pillow picture in the format of its ending, a key of WRITERS; `quality` is a JPEG's.

    Raises StudyError, one line.
    """
    kind, options = WRITERS[target.suffix.lower()]
    options = options | ({"quality": quality} if quality else {})
    kept, buffer = {key: value for key, value in metadata.items() if value}, io.BytesIO()
    try:
        picture.save(buffer, kind, **options, **kept)
    except (OSError, ValueError) as error:  # larger than the format holds
        raise StudyError(f"{printable(target)}: can't be written ({one_line(error)})") from None
    write_file(target, buffer.getvalue())
