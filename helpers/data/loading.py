"""Any picture file to one uint8 array, by its content and by stated rules."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from helpers.files import SPECIAL_FILE, StudyError, is_special_file, one_line, printable


class ImageError(StudyError):
    """A picture that can't be read; the text names the file and the reason."""


logging.getLogger("PIL").addHandler(logging.NullHandler())  # else what it logs and raises is reported twice


def load_image(path: str | Path) -> np.ndarray:
    """Picture as uint8 array, (H, W) if grey or (H, W, 3) if colour (RGB), values 0..255.

    The file is opened by content, whatever its extension says. The rules:

    - the rotation an EXIF tag asks for is applied;
    - 1-bit and 8-bit grey stay grey; 16-bit grey is scaled by 255/65535 and rounded;
    - palette, CMYK, YCbCr, LAB and 16-bit colour become 8-bit RGB as Pillow converts them
      (embedded colour profiles are not applied);
    - transparency is laid over white; of an animation the first frame counts.

    Raises ImageError where the file is missing, empty, truncated, no file or no picture, PostScript (a
    program, which Pillow would run), a camera's raw file, of floating-point pixels, or larger than Pillow's
    limit against decompression bombs.
    """
    with opened(path) as picture:
        return to_array(ImageOps.exif_transpose(picture))


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """A Pillow picture, decoded; whatever goes wrong until the block ends is raised as ImageError."""
    path, name = Path(path), printable(path)
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(f"{name}: does not exist") from None
    except (OSError, ValueError) as error:  # no permission; a name too long or with a null byte
        raise ImageError(f"{name}: can't be read ({getattr(error, 'strerror', error)})") from None
    if path.is_dir():
        raise ImageError(f"{name}: is a folder, not a picture")
    if is_special_file(path):
        raise ImageError(f"{name}: {SPECIAL_FILE}")
    if size == 0:
        raise ImageError(f"{name}: is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damage that matters raises; the rest must not litter stderr
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if picture.format == "EPS":
                    raise ImageError(f"{name}: is PostScript, a program and no picture")
                if picture.format == "TIFF" and _holds_a_preview(picture):
                    reason = "is a camera's raw file, of which Pillow reads the preview; develop it first"
                    raise ImageError(f"{name}: {reason}")
                with _silent() if picture.format == "TIFF" else contextlib.nullcontext():
                    picture.load()
                yield picture
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        most = f"{Image.MAX_IMAGE_PIXELS:,} pixels, Pillow's limit"
        raise ImageError(f"{name}: has more than {most}") from None
    except Image.UnidentifiedImageError:
        if _is_12_bit_jpeg(path):
            raise ImageError(f"{name}: is a JPEG of 12 bits a sample; Pillow reads those of 8") from None
        raise ImageError(f"{name}: is not a picture that Pillow can read") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error...
        raise ImageError(f"{name}: can't be read ({one_line(error) or type(error).__name__})") from None


def _holds_a_preview(picture: Image.Image) -> bool:
    """Whether a TIFF's first picture is a smaller version of another one, or Canon's, before raw data."""
    picture.fp.seek(0)
    return bool(picture.tag_v2.get(254, 0) & 1) or picture.fp.read(10)[8:] == b"CR"  # 254: NewSubfileType


def _is_12_bit_jpeg(path: Path) -> bool:
    """Whether the file's frame header, the first SOF marker, says so."""
    with open(path, "rb") as file:
        marker = file.read(2) == b"\xff\xd8" and file.read(4)
        while marker and marker[0] == 0xFF and len(marker) == 4:
            if 0xC0 <= marker[1] <= 0xCF and marker[1] not in (0xC4, 0xC8, 0xCC):
                return file.read(1) == b"\x0c"
            file.seek(int.from_bytes(marker[2:]) - 2, os.SEEK_CUR)
            marker = file.read(4)
    return False


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """While it lasts nothing reaches stderr, where libtiff writes, past Python, what is raised anyway."""
    with open(os.devnull, "wb") as nowhere, contextlib.ExitStack() as at_the_end:
        with contextlib.suppress(OSError):  # a process may have no stderr
            kept = os.dup(2)
            at_the_end.callback(os.close, kept)
            at_the_end.callback(os.dup2, kept, 2)
            os.dup2(nowhere.fileno(), 2)
        yield


def to_array(picture: Image.Image) -> np.ndarray:
    """uint8 array, (H, W) or (H, W, 3), of a Pillow picture, by the rules of `load_image`.

    Raises ValueError for floating-point pixels and for integers outside 0..65535.
    """
    if picture.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known")
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow keeps in "I;16" or in 32-bit "I"
        grey = np.asarray(picture)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("integer pixels outside 0..65535")
        grey = grey.astype(np.uint32)  # in place from here: there can be 89 million
        grey += 128
        grey //= 257  # grey * 255 / 65535, rounded
        return grey.astype(np.uint8)
    grey = picture.mode in ("1", "L", "LA", "La")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.array(picture.convert("L" if grey else "RGB"))
