"""Pairs to learn from: patches of photographs and their JPEG versions, coded as they are drawn."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from helpers import jpeg
from helpers.data import open_set
from helpers.data.patches import GRID
from helpers.files import DATA, StudyError, printable
from helpers.models import to_tensor
from helpers.training.device_jpeg import jpeg_on_device


class Photographs:
    """uint8 pictures of one kind, all (H, W) for space `y` or all (H, W, 3) for `rgb`, to draw patches from.

    `space` "y" takes the literature's luma of each picture; "rgb" the picture, grey ones as three equal
    channels. Pillow codes each patch, or `to_device` has it done on a GPU. Patches that are not `aligned`
    begin anywhere in a block of their JPEG. Raises StudyError where no picture holds a patch.
    """

    def __init__(self, images: Mapping[str, np.ndarray], space: str, patch: int, aligned: bool = True):
        self.aligned, self.inner = aligned, patch
        self.patch = patch if aligned else patch + GRID  # what is cut and coded
        self.names = sorted(name for name, image in images.items() if min(image.shape[:2]) >= self.patch)
        if not self.names:
            raise StudyError(f"no training picture has {self.patch} pixels on each side")
        self.images = [jpeg.as_space(images[name], space) for name in self.names]
        pixels = np.array([np.prod(image.shape[:2]) for image in self.images], float)
        self.megapixels = float(pixels.sum() / 1e6)
        self._share = pixels / pixels.sum()
        self._pixels = None  # see `to_device`

    def digest(self) -> str:
        """SHA-256 of all pixels: two runs with the same one drew from the same pictures."""
        found = hashlib.sha256()
        for name, image in zip(self.names, self.images, strict=True):
            found.update(f"{name} {image.shape}".encode(errors="surrogateescape"))  # names may be no text
            found.update(np.ascontiguousarray(image))
        return found.hexdigest()

    def draw(self, task: str, count: int, qualities: tuple[int, int], rng: np.random.Generator) -> tuple:
        """(inputs, targets): float32 (count, C, patch, patch) in [0, 1], from the generator alone.

        Each patch is cut anywhere, turned and mirrored at random, then coded, so that it begins on
        JPEG's grid; patches that are not aligned are cut from a larger one. Its quality is drawn
        log-uniformly from `qualities`, both ends included: as often between 5 and 20 as between 20
        and 80. For task `compress` both are the originals.
        """
        chosen = rng.choice(len(self.images), count, p=self._share)
        shapes = np.array([self.images[i].shape[:2] for i in chosen])
        corners = (rng.random((count, 2)) * (shapes - self.patch + 1)).astype(int)
        turns = rng.integers(2, size=(count, 3)).astype(bool)  # transpose, upside down, mirror
        low, high = np.log(qualities[0] - 0.5), np.log(qualities[1] + 0.5)
        drawn = np.rint(np.exp(rng.uniform(low, high, count))).astype(int).clip(*qualities)
        cut = self._cut if self._pixels is None else self._cut_on_device
        originals, coded = cut(chosen, corners, turns, None if task == "compress" else drawn)
        if not self.aligned:
            starts = rng.integers(GRID, size=(count, 2))
            originals, coded = self._within(originals, starts), self._within(coded, starts)
        return (originals, coded) if task == "imitate" else (coded, originals)

    def _cut(self, chosen, corners, turns, qualities) -> tuple[torch.Tensor, torch.Tensor]:
        """(originals, coded), or the originals twice without `qualities`."""
        originals = []
        for image, (row, column), (transpose, down, mirror) in zip(chosen, corners, turns, strict=True):
            patch = self.images[image][row : row + self.patch, column : column + self.patch]
            patch = patch.swapaxes(0, 1) if transpose else patch
            originals.append(np.ascontiguousarray(patch[:: -1 if down else 1, :: -1 if mirror else 1]))
        found = to_tensor(np.stack(originals))
        if qualities is None:
            return found, found
        coded = [jpeg.decode(jpeg.encode(x, int(q))) for x, q in zip(originals, qualities, strict=True)]
        return found, to_tensor(np.stack(coded))

    def _within(self, patches: torch.Tensor, starts: np.ndarray) -> torch.Tensor:
        """Of each patch the square of `inner` pixels a side that begins at its row and column of `starts`."""
        size, cuts = self.inner, zip(patches, starts, strict=True)
        return torch.stack([patch[:, r : r + size, c : c + size] for patch, (r, c) in cuts])

    def to_device(self, device: torch.device) -> None:
        """From now on patches are cut and coded on the device, where all pixels are kept."""
        flat = [image.reshape(image.shape[0] * image.shape[1], -1) for image in self.images]
        self._start = np.cumsum([0, *map(len, flat)])[:-1]
        self._pixels = torch.from_numpy(np.concatenate(flat)).to(device)

    def _cut_on_device(self, chosen, corners, turns, qualities) -> tuple[torch.Tensor, torch.Tensor]:
        device = self._pixels.device

        def each(values):  # one number a patch, to be spread over (N, patch, patch)
            return torch.as_tensor(np.asarray(values), device=device)[:, None, None]

        steps = torch.arange(self.patch, device=device)
        rows, columns = torch.meshgrid(steps, steps, indexing="ij")
        transpose, down, mirror = (each(turns[:, k]) for k in range(3))
        rows = torch.where(down, self.patch - 1 - rows, rows)
        columns = torch.where(mirror, self.patch - 1 - columns, columns)
        rows, columns = torch.where(transpose, columns, rows), torch.where(transpose, rows, columns)
        rows, columns = rows + each(corners[:, 0]), columns + each(corners[:, 1])
        width = each([self.images[i].shape[1] for i in chosen])
        positions = each(self._start[chosen]) + rows * width + columns
        originals = coded = self._pixels[positions].permute(0, 3, 1, 2).float()
        if qualities is not None:
            coded = jpeg_on_device(originals, torch.as_tensor(qualities, device=device))
        return originals / 255, coded / 255


def read_photographs(folders: Sequence[str], patch: int, on_error: Callable[[str], None]) -> dict:
    """uint8 pictures of image sets by set and scene, without the validation photographs of data/splits.json.

    A picture that can't be read or is smaller than a patch goes to `on_error` as one line. Raises
    StudyError where a set can't be opened or nothing is left.
    """
    held_out, pictures = set(json.loads((DATA / "splits.json").read_text())["validation"]), {}
    for folder in folders:
        images = open_set(folder)
        for name, image in images.images(on_error):
            path, (height, width) = images[name].path, image.shape[:2]
            if held_out & {path.stem, path.stem.rpartition("_")[0]}:
                continue
            if min(height, width) < patch:
                on_error(f"{printable(path)}: is {width}x{height}, smaller than a {patch}x{patch} patch")
                continue
            key = f"{images.name}/{name}"
            pictures[key if key not in pictures else f"{folder}/{name}"] = image
    if not pictures:
        raise StudyError(f"{', '.join(map(printable, folders))}: holds no picture to train on")
    return pictures
