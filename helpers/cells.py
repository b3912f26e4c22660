"""What a JPEG file says of its original: the cell around each coefficient, and an earlier, coarser coding.

Each DCT coefficient of a file was rounded to a multiple of its step, so that the original's lies within half
a step of it (the constraint set of Zakhor 1992, "Iterative procedures for reduction of blocking effects in
transform image coding"). What a network changes is kept inside these cells. Where steps are small and blocks
are busy the file knows more than the network: there the change shrinks, down to nothing.
"""

import io
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, JpegImagePlugin

FROM_RGB = np.array(  # Y, Cb and Cr of a change of R, G and B (ITU-R BT.601, full range, as in JFIF)
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]], np.float32
)
TO_RGB = np.linalg.inv(FROM_RGB)
COSINES = np.cos(np.pi / 8 * (np.arange(8) + 0.5) * np.arange(8)[:, None]) / 2  # the orthonormal DCT-II
COSINES[0] /= np.sqrt(2)
COSINES = COSINES.astype(np.float32)  # row k holds the k-th cosine
# The share of a coefficient's change that is kept: tanh((step - 1) / (SMOOTH + BUSY * n)), n of the 64
# coefficients of its block not being zero. Its form is that of regressions of the true error on the change,
# by step and by n, over validation photographs at qualities 10 to 97; its numbers are those of the largest
# gain there, rounded to 8 bits, with no picture worse. In chroma, of which networks know less, the scale is
# CHROMA times as large; not for what a subsampled plane can't hold.
SMOOTH, BUSY, CHROMA = 3.0, 0.6, 3.0
# An earlier coding is looked for in these coefficients of a part of the picture, counted by their size.
FREQUENCIES = np.array([(0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (0, 3), (3, 0), (2, 2)]).T
PART, BIN, BINS = 256, 0.25, 800  # pixels a side, grey levels, number
ENOUGH, CERTAIN = 100, 0.2  # coefficients that are not zero; log-likelihood ratio of one, in the mean
NAMES = {(1, 1): "4:4:4", (1, 2): "4:2:2", (2, 2): "4:2:0", (1, 4): "4:1:1", (2, 1): "4:4:0"}


class Coding(NamedTuple):
    """How a JPEG file codes its planes, Y (Cb, Cr), or R, G, B where `is_rgb`."""

    steps: tuple[np.ndarray, ...]  # (8, 8) float32 a plane, in grey levels
    sampling: tuple[tuple[int, int], ...]  # (rows, columns) of samples a plane has in one coding unit
    is_rgb: bool = False
    grid: tuple[int, int] = (0, 0)  # the row and the column, 0..7, where the first whole block begins
    earlier: int = 0  # the quality of an earlier coding whose steps these are, 0 where none shows

    def __str__(self) -> str:
        """The quality whose table is nearest and the chroma subsampling, for a reader."""
        chroma = NAMES.get(self.unit, "subsampled")
        chroma = "grey" if len(self.steps) == 1 else "RGB" if self.is_rgb else chroma
        return f"quality about {self.quality}, {chroma}" + (", coded before" if self.earlier else "")

    @property
    def quality(self) -> int:
        """The quality, 1..100, whose standard luma table is nearest to the first one."""
        return min(range(1, 101), key=lambda q: np.abs(standard_steps(q)[0] - self.steps[0]).sum())

    @property
    def unit(self) -> tuple[int, int]:
        """Samples of the finest planes in one coding unit, (rows, columns)."""
        return max(rows for rows, _ in self.sampling), max(columns for _, columns in self.sampling)

    @property
    def can_gain(self) -> bool:
        """Whether any coefficient may change at all."""
        return any((steps > 1).any() for steps in self.steps)


@cache
def standard_steps(quality: int) -> tuple[np.ndarray, np.ndarray]:
    """The steps of luma and chroma, (8, 8) float32 each, of Pillow's files of a quality 1..100."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as picture:
        return _table(picture, 0), _table(picture, 1)


def decode(data: bytes) -> tuple[np.ndarray, Coding]:
    """(uint8 image (H, W) or (H, W, 3), coding) of a JPEG file's bytes."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
        return np.array(picture), coding_of(picture)


def coding_of(picture: JpegImagePlugin.JpegImageFile) -> Coding:
    """Steps and sampling of an opened JPEG file of one or three planes; ValueError for a step of zero.

    Where the pixels show an earlier, coarser coding, the cells that hold the original are its own: its steps
    and its grid take the place of the file's.
    """
    steps = tuple(_table(picture, table) for _, _, _, table in picture.layer)
    if not all(table.all() for table in steps):
        raise ValueError("a quantisation table holds a zero")
    sampling = tuple((rows, columns) for _, columns, rows, _ in picture.layer)
    if len(steps) == 1:
        sampling = ((1, 1),)  # a single plane is not interleaved, whatever its file says
    ids = [layer[0] for layer in picture.layer]
    is_rgb = len(ids) == 3 and (picture.info.get("adobe_transform") == 0 or ids == [*map(ord, "RGB")])
    if is_rgb or not (found := earlier_coding(np.asarray(picture), steps[0])):
        return Coding(steps, sampling, is_rgb)
    quality, grid = found
    coarse = (standard_steps(quality)[min(plane, 1)] for plane in range(len(steps)))
    steps = tuple(np.maximum(*pair) for pair in zip(steps, coarse, strict=True))
    return Coding(steps, sampling, is_rgb, grid, quality)


def earlier_coding(image: np.ndarray, steps: np.ndarray) -> tuple[int, tuple[int, int]] | None:
    """(quality, (row, column) of the block grid) of a coarser JPEG before the one whose luma steps are given.

    After it, DCT coefficients on its grid lie near multiples of its steps, and rounding them once more does
    not hide that (Lukas and Fridrich 2003, "Estimation of primary quantization matrix in double compressed
    JPEG images"): for each of 64 grids and each standard table that is coarser the likelihood of this is
    compared with that of no such order. None where nothing is certain: an earlier coding that was finer, of
    a table of its own, or followed by resizing or editing, is not seen.
    """
    top, left = (max(side - PART, 0) // 16 * 8 for side in image.shape[:2])
    plane = image[top : top + PART, left : left + PART]
    plane = (plane if plane.ndim == 2 else plane @ FROM_RGB[0]) - np.float32(128)
    counts = np.zeros((8, 8, len(FREQUENCIES[0]), BINS))
    for row, column in np.ndindex(8, 8):
        found = coefficients(plane[row:, column:])[:, :, *FREQUENCIES].reshape(-1, len(FREQUENCIES[0]))
        sizes = np.minimum(np.abs(found.T) / BIN, BINS - 1).astype(int)
        counts[row, column] = [np.bincount(size, minlength=BINS) for size in sizes]
    own = steps[*FREQUENCIES]
    same, shifted = np.sqrt(own**2 / 12 + 0.1), np.sqrt(np.mean(own**2) / 12 + 0.1) * np.full(len(own), 1.8)
    best = (CERTAIN, 0, (0, 0))
    for quality in range(1, 100):
        coarse = standard_steps(quality)[0][*FREQUENCIES]
        ratios, counted = _log_ratios(coarse, own, shifted)
        number, total = np.tensordot(counts, counted, 2), np.tensordot(counts, ratios, 2)
        ratios, counted = _log_ratios(coarse, own, same)
        number[0, 0], total[0, 0] = (counts[0, 0] * counted).sum(), (counts[0, 0] * ratios).sum()
        mean = np.where(number >= ENOUGH, total / np.maximum(number, 1), 0)
        grid = np.unravel_index(mean.argmax(), mean.shape)
        best = max(best, (mean[grid], quality, (int(grid[0]), int(grid[1]))))
    return best[1:] if best[1] else None


def _log_ratios(coarse: np.ndarray, own: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of coefficients by frequency and bin: log-likelihood of multiples of `coarse`, give or take a spread,
    over none; whether they count (not zero, and steps far enough apart)."""
    coarse, own, spread = (values[:, None] for values in (coarse, own, spread))
    sizes = (np.arange(BINS) + 0.5) * BIN
    off = sizes - coarse * np.rint(sizes / coarse)
    peak = np.exp(-((off / spread) ** 2) / 2) / (spread * np.sqrt(2 * np.pi)) * coarse
    counted = (coarse >= np.maximum(1.5 * own, 4 * spread)) & (sizes > coarse / 2)
    counted &= np.arange(BINS) < BINS - 1  # the last holds whatever is larger
    return np.log(0.95 * peak + 0.05) * counted, counted


def _table(picture: JpegImagePlugin.JpegImageFile, number: int) -> np.ndarray:
    return np.array(picture.quantization[number], np.float32).reshape(8, 8)


def within_cells(change: np.ndarray, image: np.ndarray, coding: Coding) -> np.ndarray:
    """A change of a decoded image, float32 (H, W) or (H, W, 3) in grey levels, brought into the file's cells.

    Both begin on the grid of coding units. Each plane of the change, at its own resolution, has DCT
    coefficients within half a step of nothing, so that the file's coefficients and it lie in their cells. A
    subsampled plane's finer detail, of which the file says nothing, is kept by the share of its finest
    coefficients; its samples in the file, means of pixels, stay what the limit made of them.
    """
    height, width = change.shape[:2]
    rows, columns = coding.unit
    ends = ((0, -height % (8 * rows)), (0, -width % (8 * columns)), (0, 0))
    planes, coded = (np.pad(_planes(picture, coding), ends, mode="edge") for picture in (change, image))
    for number, (own_rows, own_columns) in enumerate(coding.sampling):
        plane, whole = planes[..., number], planes.shape[1::-1]  # (width, height), as Pillow has it
        if (own_rows, own_columns) == coding.unit:
            planes[..., number] = _limited(plane, coded[..., number], coding, number)[0]
            continue
        own = whole[0] * own_columns // columns, whole[1] * own_rows // rows
        coarse, of_file = (_resized(p[..., number], own, Image.Resampling.BOX) for p in (planes, coded))
        detail = plane - _resized(coarse, whole, Image.Resampling.BILINEAR)
        limited, finest = _limited(coarse, of_file, coding, number)
        finest = _resized(finest, whole, Image.Resampling.NEAREST)
        plane = _resized(limited, whole, Image.Resampling.BILINEAR) + finest * detail
        off = _resized(plane, own, Image.Resampling.BOX) - limited
        planes[..., number] = plane - _resized(off, whole, Image.Resampling.NEAREST)
    planes = planes[:height, :width]
    return planes[..., 0] if change.ndim == 2 else planes if coding.is_rgb else planes @ TO_RGB.T


def _planes(picture: np.ndarray, coding: Coding) -> np.ndarray:
    """The planes that the file codes, float32 (H, W, planes), of a picture (H, W) or (H, W, 3)."""
    picture = (picture[..., None] if picture.ndim == 2 else picture).astype(np.float32)
    return picture if picture.shape[2] == 1 or coding.is_rgb else picture @ FROM_RGB.T


def coefficients(plane: np.ndarray) -> np.ndarray:
    """Orthonormal DCT coefficients (rows, columns, 8, 8) of the whole 8x8 blocks of a plane (H, W)."""
    height, width = (side // 8 * 8 for side in plane.shape)
    blocks = plane[:height, :width].reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
    return COSINES @ blocks @ COSINES.T


def kept(coded: np.ndarray, image: np.ndarray, coding: Coding) -> float:
    """The share of 8x8 blocks of a decoded picture that another one, rounded to 8 bits, would be coded as.

    Of the first plane (luma, where there is colour) and its whole blocks; nan where there is none.
    """
    weights = np.array([1, 0, 0], np.float32) if coding.is_rgb else FROM_RGB[0]
    planes = (picture if picture.ndim == 2 else picture @ weights for picture in (coded, image))
    first, second = (np.rint(coefficients(plane - np.float32(128)) / coding.steps[0]) for plane in planes)
    return float((first == second).all((2, 3)).mean()) if first.size else np.nan


def _limited(
    plane: np.ndarray, coded: np.ndarray, coding: Coding, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """(a plane of a change whose coefficients are cut at half a step and shrunk, the share of the finest ones
    by block), for planes of sides that are multiples of 8."""
    steps, is_luma = coding.steps[number], number == 0 or coding.is_rgb
    busy = np.rint(coefficients(coded - np.float32(128 if is_luma else 0)) / steps).astype(bool)
    scale = SMOOTH + BUSY * busy.sum((2, 3), keepdims=True, dtype=np.float32)
    share, fine = (np.tanh((steps - 1) / (scale * times)) for times in (1 if is_luma else CHROMA, 1))
    blocks = COSINES.T @ (coefficients(plane).clip(-steps / 2, steps / 2) * share) @ COSINES
    return blocks.swapaxes(1, 2).reshape(plane.shape), fine[:, :, 4:, 4:].mean((2, 3))


def _resized(plane: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    return np.array(Image.fromarray(plane).resize(size, how))
