"""The file format: what stands where, checked before anything else is loaded.

    bytes        what (numbers little-endian)
    0-3          magic, 4E 50 49 43, "NPIC"
    4            version of the format, 1
    5            flags: 1 grey, 2 ICC profile, 4 EXIF, 8 alpha, 16 fitted
    6            rate, 0 (smallest files) to 63
    7-10         model: the first four bytes of the last `weights_sha256` in the card, or of the start
    11-12        width - 1
    13-14        height - 1
    15-          for each of ICC, EXIF, alpha whose flag is set: its length, four bytes
    ...          ICC profile, EXIF, alpha (a PNG file of the plane), in this order
    ...          the latent, to the end but four bytes; of a fitted file its networks before it
                 (helpers/codec/fitted/payload.py)
    last four    CRC-32 of all bytes before

Every bit of the file is under the CRC-32: a range coder has no checks of its own and would decode a
damaged stream to another picture.
"""

import struct
import zlib
from dataclasses import dataclass
from itertools import accumulate, pairwise

from helpers.files import StudyError

MAGIC, VERSION = b"NPIC", 1
FIXED = struct.Struct("<4sBBB4sHH")
GREY, PARTS, FITTED = 1, {"icc": 2, "exif": 4, "alpha": 8}, 16
MOST_PIXELS = 50_000_000  # a forged size must not fill the memory
ENDING = ".npic"
DEFAULT_RATE = 32  # of 0 (smallest files) to 63


class CodecError(StudyError):
    """A file that is not whole, not this format's, or not for these weights: one line."""


@dataclass(frozen=True)
class Container:
    """A compressed picture taken apart; `latent` is the range coder's stream."""

    width: int
    height: int
    rate: int
    model: bytes
    latent: bytes
    grey: bool = False
    icc: bytes = b""
    exif: bytes = b""
    alpha: bytes = b""
    fitted: bool = False

    def to_bytes(self) -> bytes:
        """The whole file."""
        parts = {name: getattr(self, name) for name in PARTS if getattr(self, name)}
        flags = GREY * self.grey | FITTED * self.fitted | sum(PARTS[name] for name in parts)
        fields = MAGIC, VERSION, flags, self.rate, self.model, self.width - 1, self.height - 1
        lengths = (struct.pack("<I", len(part)) for part in parts.values())
        body = b"".join((FIXED.pack(*fields), *lengths, *parts.values(), self.latent))
        return body + struct.pack("<I", zlib.crc32(body))


def read(data: bytes) -> Container:
    """Takes a file apart. Raises CodecError, without the file's name, where it can't be trusted."""
    if data[: len(MAGIC)] != MAGIC:
        raise CodecError("is empty" if not data else "is no file of this codec (other first bytes)")
    if len(data) < FIXED.size + 4:
        raise CodecError(f"is cut off ({len(data)} bytes)")
    if zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
        raise CodecError("is damaged or cut off (its CRC-32 differs)")
    _, version, flags, rate, model, width, height = FIXED.unpack_from(data)
    width, height = width + 1, height + 1
    if version != VERSION:
        raise CodecError(f"has format version {version}; this program reads version {VERSION}")
    if rate > 63 or flags > 31:
        raise CodecError(f"has rate {rate} and flags {flags}, which version 1 does not know")
    if width * height > MOST_PIXELS:
        raise CodecError(f"claims {width}x{height} pixels; at most {MOST_PIXELS:,} are decoded")
    names = [name for name, flag in PARTS.items() if flags & flag]
    first, end = FIXED.size + 4 * len(names), len(data) - 4
    if first <= end:
        sizes = struct.unpack_from(f"<{len(names)}I", data, FIXED.size)
        starts = list(accumulate(sizes, initial=first))
    if first > end or starts[-1] > end:
        raise CodecError("has lengths that lead past its end")
    parts = {name: data[one:other] for name, (one, other) in zip(names, pairwise(starts), strict=True)}
    parts |= {"grey": bool(flags & GREY), "fitted": bool(flags & FITTED)}
    return Container(width, height, rate, model, data[starts[-1] : end], **parts)
