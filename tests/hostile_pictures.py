"""Bad and odd pictures, each with what must become of it; seeded, so that every run has the same."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

GOOD, BAD, EITHER = "is processed", "is refused", "is processed or refused"
FORMATS = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 90}),
    ".jpeg": ("JPEG", {"quality": 60, "progressive": True}),
    ".webp": ("WEBP", {"lossless": True}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {"compression": "tiff_lzw"}),
    ".bmp": ("BMP", {}),
    ".gif": ("GIF", {}),
    ".ppm": ("PPM", {}),
    ".tga": ("TGA", {}),
    ".avif": ("AVIF", {"quality": 90}),
    ".jp2": ("JPEG2000", {}),
}
STEMS = [
    "plain", "two words", 'it\'s "so" {0} %s', "line\nbreak\r", "tab\t", "naïve 図", "\x1b[31mred", "-rf",
    "--help", "~", "$(id)", "*?[a]", "a.b..c", "<img src=x onerror=alert(1)>", "\u202egnp", "\u2028", "a: b",
    "%n", "long" * 58, os.fsdecode(b"latin-\xe9"),
]  # fmt: skip
STORED = {  # EXIF orientation -> how a camera lays an upright picture down
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
UPRIGHT = {6: 8, 8: 6}  # what turns it back; the others undo themselves
COLOUR = np.ascontiguousarray(
    skimage.data.astronaut()[60:101, 190:249]
)  # unlike its mirror image, off the 8x8 grid
GREY = np.array(Image.fromarray(COLOUR).convert("L"))
PROGRAM = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n{ } loop\n"
DEEP = (GREY.astype(np.uint16) * 257) ^ 0x55


@dataclass(frozen=True)
class Hostile:
    """A file: its ending, its bytes, what must become of it, and the picture it is by the stated rules."""

    ending: str
    content: bytes
    fate: str
    image: np.ndarray | None = None  # uint8 (H, W) or (H, W, 3), upright, transparency over white
    alpha: np.ndarray | None = None
    restorable: bool = False  # a grey or RGB JPEG file
    name: str = ""


def hostile_pictures(seed: int = 0) -> list[Hostile]:
    """All of them, named, in an order drawn by the seed."""
    rng = np.random.default_rng(seed)
    every = [*cut(), *flipped(rng), *turned(), *modes(), *misnamed(), *sizes(), *no_pictures(rng), *bombs()]
    every += odd_exif()
    order = rng.permutation(len(every))
    stems = [STEMS[(number + number // 10) % len(STEMS)] for number in range(len(every))]  # in each tenth all
    return [
        replace(every[place], name=f"{stems[number]} {number:03d}{every[place].ending}")
        for number, place in enumerate(order)
    ]


def encoded(picture: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(content: bytes) -> np.ndarray:
    """The picture of a whole file as Pillow has it, neither turned nor scaled."""
    with Image.open(io.BytesIO(content)) as picture:
        return np.array(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))


def whole(ending: str, pixels: np.ndarray = COLOUR) -> bytes:
    kind, options = FORMATS[ending]
    return encoded(pixels, kind, **options)


def cut() -> Iterator[Hostile]:
    for ending in FORMATS:
        content = whole(ending)
        image = decoded(content)  # if no pixel is lost a part is that too
        for tenth in range(1, 10):
            part = content[: len(content) * tenth // 10]
            yield Hostile(ending, part, EITHER, image, restorable=ending in (".jpg", ".jpeg"))


def flipped(rng: np.random.Generator) -> Iterator[Hostile]:
    for ending in FORMATS:
        for _ in range(24):
            content = bytearray(whole(ending))
            for place in rng.integers(0, len(content), rng.integers(1, 9)):
                content[place if rng.random() < 0.7 else place % 64] ^= 1 << rng.integers(8)
            yield Hostile(ending, bytes(content), EITHER, restorable=ending in (".jpg", ".jpeg"))


def turned() -> Iterator[Hostile]:
    for ending, pixels in (
        (".png", COLOUR),
        (".jpg", COLOUR),
        (".jpg", GREY),
        (".webp", COLOUR),
        (".tif", COLOUR),
    ):
        kind, options = FORMATS[ending]
        for orientation, lay_down in STORED.items():
            exif = Image.Exif()
            exif[0x0112] = orientation
            content = encoded(lay_down(pixels), kind, exif=exif, **options)
            upright = pixels
            if kind == "JPEG":  # turned back after its losses
                upright = STORED[UPRIGHT.get(orientation, orientation)](decoded(content))
            yield Hostile(ending, content, GOOD, np.ascontiguousarray(upright), restorable=kind == "JPEG")


def modes() -> Iterator[Hostile]:
    rgb, grey = Image.fromarray(COLOUR), Image.fromarray(GREY)
    alpha = np.ascontiguousarray(np.tile(np.linspace(0, 255, 59).astype(np.uint8), (41, 1)))
    clear = np.dstack([COLOUR, alpha])
    over_white = np.rint(COLOUR * (alpha[..., None] / 255) + 255 - alpha[..., None]).astype(np.uint8)
    for ending, kind in ((".png", "PNG"), (".tif", "TIFF")):
        yield Hostile(ending, encoded(clear, kind), GOOD, over_white, alpha)
    content = encoded(clear, "WEBP", lossless=True, exact=True)
    yield Hostile(".webp", content, GOOD, over_white, alpha)
    pair = Image.merge("LA", (grey, Image.fromarray(alpha)))
    grey_over = np.rint(GREY * (alpha / 255) + 255 - alpha).astype(np.uint8)
    yield Hostile(".png", encoded(pair, "PNG"), GOOD, grey_over, alpha)
    palette = rgb.quantize(16)
    first = np.array(palette) == 0
    shown = np.array(palette.convert("RGB"))
    for ending, kind in ((".png", "PNG"), (".gif", "GIF")):
        yield Hostile(ending, encoded(palette, kind), GOOD, shown)
        content = encoded(palette, kind, transparency=0)
        image = np.where(first[..., None], np.uint8(255), shown)
        yield Hostile(ending, content, GOOD, image, np.where(first, np.uint8(0), np.uint8(255)))
    eight_bits = np.rint(DEEP / 257).astype(np.uint8)
    for ending, kind in ((".png", "PNG"), (".tif", "TIFF")):
        yield Hostile(ending, encoded(DEEP, kind), GOOD, eight_bits)
    scanlines = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in COLOUR)
    yield Hostile(".png", png(59, 41, 16, 2, zlib.compress(scanlines)), GOOD, COLOUR)
    black = np.where(GREY > 99, np.uint8(255), np.uint8(0))
    for ending, kind, options in ((".png", "PNG", {}), (".tif", "TIFF", {"compression": "group4"})):
        bits = Image.fromarray(black).convert("1")
        yield Hostile(ending, encoded(bits, kind, **options), GOOD, black)
    frames = [rgb, Image.new("RGB", rgb.size, "blue"), Image.new("RGB", rgb.size, "lime")]
    for ending, kind, options in (
        (".png", "PNG", {}),
        (".webp", "WEBP", {"lossless": True}),
        (".tif", "TIFF", {}),
    ):
        content = encoded(rgb, kind, save_all=True, append_images=frames[1:], **options)
        yield Hostile(ending, content, GOOD, COLOUR)
    moving = encoded(palette, "GIF", save_all=True, append_images=frames[1:], duration=50)
    yield Hostile(".gif", moving, GOOD, shown)
    for ending, kind in ((".jpg", "JPEG"), (".tif", "TIFF")):
        content = encoded(rgb.convert("CMYK"), kind)
        with Image.open(io.BytesIO(content)) as picture:
            yield Hostile(ending, content, GOOD, np.array(picture.convert("RGB")))
    content = encoded(rgb.convert("YCbCr"), "TIFF")
    yield Hostile(".tif", content, GOOD, decoded(content))
    yield Hostile(".tif", encoded(GREY.astype(np.float32), "TIFF"), BAD)
    yield Hostile(".tif", encoded(GREY.astype(np.int32) - 300, "TIFF"), BAD)
    strange = png(
        59, 41, 8, 2, zlib.compress(b"".join(b"\0" + row.tobytes() for row in COLOUR)), b"x" * 10**6
    )
    yield Hostile(".png", strange, EITHER, COLOUR)  # a comment of a megabyte in a kilobyte
    yield Hostile(".png", encoded(rgb, "PNG", icc_profile=b"no profile at all"), GOOD, COLOUR)


def misnamed() -> Iterator[Hostile]:
    endings = list(FORMATS)
    for number, ending in enumerate(endings):
        other, kind = endings[number - 5], FORMATS[ending][0]
        content = whole(ending)
        for name in (other, "", ".xyz"):
            yield Hostile(name, content, GOOD, decoded(content), restorable=kind == "JPEG")


def sizes() -> Iterator[Hostile]:
    for height, width in ((1, 1), (1, 50), (50, 1), (1, 3000), (3000, 1), (7, 9), (11, 11), (10, 400)):
        pixels = np.resize(COLOUR, (height, width, 3))
        for ending in (".png", ".jpg", ".bmp"):
            content = whole(ending, pixels)
            yield Hostile(ending, content, GOOD, decoded(content), restorable=ending == ".jpg")


def no_pictures(rng: np.random.Generator) -> Iterator[Hostile]:
    for ending in FORMATS:
        yield Hostile(ending, b"", BAD)
        yield Hostile(ending, rng.bytes(700), BAD)
        yield Hostile(ending, whole(ending)[:12] + bytes(500), BAD)
    for content in (b"a picture of a cat\n" * 9, b"<svg xmlns='http://www.w3.org/2000/svg'/>", PROGRAM):
        yield Hostile(".png", content, BAD)
    tiff, tag = whole(".tif"), struct.pack("<HHI", 277, 3, 1)
    yield Hostile(".tif", _claim(tiff, "<HH", tiff.index(tag) + 8, (2048, 0)), BAD)  # samples a pixel
    yield Hostile(".eps", PROGRAM, BAD)  # which would run for ever
    yield Hostile(".jpg", b"PK\x03\x04" + rng.bytes(90), BAD)


def bombs() -> Iterator[Hostile]:
    """Headers that claim far more pixels than there are bytes, and than anybody should make room for."""
    side = 60_000
    yield Hostile(".png", png(side, side, 8, 2, zlib.compress(bytes(1000))), BAD)
    yield Hostile(".png", png(9_000, 9_000, 8, 6, zlib.compress(bytes(1000))), BAD)  # within the limit
    yield Hostile(".ppm", f"P6 {side} {side} 255\n".encode() + bytes(90), BAD)
    yield Hostile(".ppm", b"P6 9000 9000 255\n" + bytes(90), BAD)
    yield Hostile(".bmp", _claim(whole(".bmp"), "<ii", 18, (side, side)), BAD)
    yield Hostile(".gif", _claim(whole(".gif"), "<HH", 6, (65_535, 65_535)), BAD)
    yield Hostile(".tga", _claim(whole(".tga"), "<HH", 12, (65_535, 65_535)), BAD)
    for ending, mark, layout, behind in (
        (".jpg", b"\xff\xc0", ">HH", 5), (".jpeg", b"\xff\xc2", ">HH", 5), (".jp2", b"\xff\x51", ">II", 6),
        (".avif", b"ispe", ">II", 8),
    ):  # fmt: skip
        content = whole(ending)
        big = (65_500, 65_500) if layout == ">HH" else (side, side)
        yield Hostile(ending, _claim(content, layout, content.index(mark) + behind, big), BAD)
    tiff = whole(".tif")
    for tag in (256, 257):
        place = tiff.index(struct.pack("<HHI", tag, 4, 1)) + 8
        tiff = tiff[:place] + struct.pack("<I", side) + tiff[place + 4 :]
    yield Hostile(".tif", tiff, BAD)
    webp = encoded(COLOUR, "WEBP", lossless=True)
    place = webp.index(b"VP8L") + 9  # 14 bits each of width - 1 and height - 1
    bits = struct.unpack_from("<I", webp, place)[0] | (2**28 - 1)
    yield Hostile(".webp", webp[:place] + struct.pack("<I", bits) + webp[place + 4 :], BAD)


def odd_exif() -> Iterator[Hostile]:
    plain = whole(".jpg")
    for exif in (
        b"Exif\0\0II*\0\x08\0\0\0\xff\0",  # claims 255 entries and has none
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",  # orientation 99
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02x\0\0\0\0\0\0\0",  # orientation "x"
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x02\0\x06\0\x03\0\0\0\0",  # orientations 6 and 3
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0",
        b"Exif\0\0nothing of the kind",
    ):
        part = struct.pack(">H", len(exif) + 2) + exif
        yield Hostile(".jpg", plain[:2] + b"\xff\xe1" + part + plain[2:], EITHER, restorable=True)


def png(width: int, height: int, depth: int, colour_type: int, packed: bytes, comment: bytes = b"") -> bytes:
    """A PNG file by hand, for what Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        content = kind + content
        return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(comment)) if comment else b""
    return b"\x89PNG\r\n\x1a\n" + header + text + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _claim(content: bytes, layout: str, place: int, sides: tuple[int, int]) -> bytes:
    return content[:place] + struct.pack(layout, *sides) + content[place + struct.calcsize(layout) :]


def put_special(folder: Path, elsewhere: Path) -> dict[str, str]:
    """What is no ordinary file; names with GOOD, BAD, or "" for what is passed over."""
    good = elsewhere / "linked.png"
    good.write_bytes(whole(".png"))
    (folder / "folder.png").mkdir()
    (folder / ".hidden.png").write_bytes(b"hidden")
    (folder / "notes.txt").write_text("no picture")
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe without ending")
    links = {
        "loop a.png": "loop b.png",
        "loop b.png": "loop a.png",
        "broken.png": "nowhere",
        "zero.png": "/dev/zero",
    }
    for name, target in {**links, "zero without ending": "/dev/zero", "link.png": str(good)}.items():
        (folder / name).symlink_to(target)
    (folder / "folder link.png").symlink_to(elsewhere)
    passed_over = (
        "folder.png",
        ".hidden.png",
        "notes.txt",
        "pipe without ending",
        "zero without ending",
        "folder link.png",
    )
    fates = dict.fromkeys(("pipe.png", *links), BAD)
    return fates | {"link.png": GOOD} | dict.fromkeys(passed_over, "")
