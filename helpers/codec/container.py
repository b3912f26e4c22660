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
                 (helpers/fitted/payload.py)
    last four    CRC-32 of all bytes before

Every bit of the file is under the CRC-32: a range coder has no checks of its own and would decode a
damaged stream to another picture.
"""

import struct
import zlib
from dataclasses import dataclass

from helpers import StudyError

MAGIC, VERSION = b"NPIC", 1
FIXED = struct.Struct("<4sBBB4sHH")
GREY, PARTS, FITTED = 1, {"icc": 2, "exif": 4, "alpha": 8}, 16
MOST_PIXELS = 50_000_000  # a forged size must not fill the memory
ENDING = ".npic"


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
        parts = {name: getattr(self, name) for name in PARTS}
        flags = GREY * self.grey | FITTED * self.fitted
        flags |= sum(PARTS[name] for name, part in parts.items() if part)
        head = FIXED.pack(
            MAGIC, VERSION, flags, self.rate, self.model, self.width - 1, self.height - 1
        ) + b"".join(struct.pack("<I", len(part)) for part in parts.values() if part)
        body = head + b"".join(parts.values()) + self.latent
        return body + struct.pack("<I", zlib.crc32(body))


def read(data: bytes) -> Container:
    """Takes a file apart. Raises CodecError, without the file's name, where it can't be trusted."""
    if data[: len(MAGIC)] != MAGIC:
        raise CodecError("is empty" if not data else "is no file of this codec (other first bytes)")
    if len(data) < FIXED.size + 4:
        raise CodecError(f"is cut off ({len(data)} bytes)")
    (checksum,) = struct.unpack("<I", data[-4:])
    if zlib.crc32(data[:-4]) != checksum:
        raise CodecError("is damaged or cut off (its CRC-32 differs)")
    _, version, flags, rate, model, width, height = FIXED.unpack_from(data)
    width, height = width + 1, height + 1
    if version != VERSION:
        raise CodecError(f"has format version {version}; this program reads version {VERSION}")
    if rate > 63 or flags > 31:
        raise CodecError(f"has rate {rate} and flags {flags}, which version 1 does not know")
    if width * height > MOST_PIXELS:
        raise CodecError(f"claims {width}x{height} pixels; at most {MOST_PIXELS:,} are decoded")
    place, parts, sizes = FIXED.size, {}, {}
    for name, flag in PARTS.items():
        if flags & flag:
            if place + 4 > len(data) - 4:
                raise CodecError("has lengths that lead past its end")
            (sizes[name],) = struct.unpack_from("<I", data, place)
            place += 4
    for name, size in sizes.items():
        parts[name] = data[place : place + size]
        place += size
    if place > len(data) - 4:
        raise CodecError("has lengths that lead past its end")
    fitted = bool(flags & FITTED)
    return Container(width, height, rate, model, data[place:-4], bool(flags & GREY), **parts, fitted=fitted)
