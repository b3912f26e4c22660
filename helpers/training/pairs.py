"""Pairs to learn from: patches of photographs and their JPEG versions, coded as they are drawn."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from helpers import DATA, StudyError, jpeg
from helpers.data import open_set
from helpers.data.loading import shown
from helpers.data.patches import GRID
from helpers.training.device_jpeg import jpeg_on_device

CPU = torch.device("cpu")


class Photographs:
    """uint8 pictures of one kind, all (H, W) for space `y` or all (H, W, 3) for `rgb`, to draw patches from.

    `space` "y" takes the literature's luma of each picture; "rgb" the picture, grey ones as three equal
    channels. On a CUDA device the pixels are kept there and JPEG is computed there; elsewhere Pillow
    codes each patch. Patches that are not `aligned` begin anywhere in a block of their JPEG.
    """

    def __init__(
        self,
        images: Mapping[str, np.ndarray],
        space: str,
        patch: int,
        device: torch.device = CPU,
        aligned: bool = True,
    ):
        self.aligned, self.inner = aligned, patch
        self.patch = patch if aligned else patch + GRID  # what is cut and coded
        self.names = sorted(name for name, image in images.items() if min(image.shape[:2]) >= self.patch)
        if not self.names:
            raise StudyError(f"no training picture has {self.patch} pixels on each side")
        self.images = [as_space(images[name], space) for name in self.names]
        pixels = np.array([image.shape[0] * image.shape[1] for image in self.images], float)
        self.megapixels = float(pixels.sum() / 1e6)
        self._share = pixels / pixels.sum()
        self.channels = 1 if space == "y" else 3
        self._pixels = None
        if device.type == "cuda":
            self.to_device(device)

    def digest(self) -> str:
        """SHA-256 of all pixels: two runs with the same one drew from the same pictures."""
        found = hashlib.sha256()
        for name, image in zip(self.names, self.images, strict=True):
            found.update(f"{name} {image.shape}".encode(errors="surrogateescape"))  # names may be no text
            found.update(np.ascontiguousarray(image))
        return found.hexdigest()

    def draw(
        self, task: str, count: int, qualities: tuple[int, int], rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
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
        if task == "compress":
            return originals, originals
        return (originals, coded) if task == "imitate" else (coded, originals)

    def _cut(self, chosen, corners, turns, qualities) -> tuple[torch.Tensor, torch.Tensor | None]:
        originals = []
        for image, (row, column), (transpose, down, mirror) in zip(chosen, corners, turns, strict=True):
            patch = self.images[image][row : row + self.patch, column : column + self.patch]
            patch = patch.swapaxes(0, 1) if transpose else patch
            patch = patch[:: -1 if down else 1, :: -1 if mirror else 1]
            originals.append(np.ascontiguousarray(patch))
        if qualities is None:
            return to_tensor(np.stack(originals)), None
        coded = [jpeg.decode(jpeg.encode(x, int(q))) for x, q in zip(originals, qualities, strict=True)]
        return to_tensor(np.stack(originals)), to_tensor(np.stack(coded))

    def _within(self, patches: torch.Tensor | None, starts: np.ndarray) -> torch.Tensor | None:
        """Of each patch the square of `inner` pixels a side that begins at its row and column of `starts`."""
        if patches is None:
            return None
        return torch.stack(
            [
                patch[:, r : r + self.inner, c : c + self.inner]
                for patch, (r, c) in zip(patches, starts, strict=True)
            ]
        )

    def to_device(self, device: torch.device) -> None:
        """From now on patches are cut and coded on the device."""
        flat = [image.reshape(-1, self.channels) for image in self.images]
        sizes = np.array([len(pixels) for pixels in flat])
        self._start = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self._pixels = torch.from_numpy(np.concatenate(flat)).to(device)

    def _cut_on_device(self, chosen, corners, turns, qualities) -> tuple[torch.Tensor, torch.Tensor | None]:
        device = self._pixels.device

        def each(values):  # one number a patch, to be spread over (N, patch, patch)
            return torch.as_tensor(np.asarray(values), device=device)[:, None, None]

        steps = torch.arange(self.patch, device=device)
        rows, columns = torch.meshgrid(steps, steps, indexing="ij")
        transpose, down, mirror = (each(turns[:, k]) for k in range(3))
        rows, columns = (
            torch.where(down, self.patch - 1 - rows, rows),
            torch.where(mirror, self.patch - 1 - columns, columns),
        )
        rows, columns = torch.where(transpose, columns, rows), torch.where(transpose, rows, columns)
        width = each([self.images[i].shape[1] for i in chosen])
        places = (
            each(self._start[chosen]) + (each(corners[:, 0]) + rows) * width + (each(corners[:, 1]) + columns)
        )
        originals = self._pixels[places].permute(0, 3, 1, 2).float()
        if qualities is None:
            return originals / 255, None
        coded = jpeg_on_device(originals, torch.as_tensor(qualities, device=device))
        return originals / 255, coded / 255


def read_photographs(
    folders: Sequence[str], patch: int, on_error: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """Pictures of image sets by set and scene, without the validation photographs of data/splits.json.

    A picture that can't be read or is smaller than a patch goes to `on_error` as one line. Raises
    StudyError where a set can't be opened or nothing is left.
    """
    held_out = json.loads((DATA / "splits.json").read_text())["validation"]
    pictures = {}
    for folder in folders:
        images = open_set(folder)
        for name, image in images.images(on_error):
            stem = images[name].path.stem
            if stem in held_out or stem.rpartition("_")[0] in held_out:
                continue
            if min(image.shape[:2]) < patch:
                size = f"{image.shape[1]}x{image.shape[0]}"
                on_error(f"{shown(images[name].path)}: is {size}, smaller than a {patch}x{patch} patch")
                continue
            key = f"{images.name}/{name}"
            pictures[key if key not in pictures else f"{folder}/{name}"] = image
    if not pictures:
        raise StudyError(f"{', '.join(map(shown, folders))}: holds no picture to train on")
    return pictures


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W) or (N, H, W, C) to float32 (N, C, H, W) in [0, 1]."""
    stacked = images[..., None] if images.ndim == 3 else images
    return torch.from_numpy(stacked.astype(np.float32) / 255).permute(0, 3, 1, 2).contiguous()


def as_space(image: np.ndarray, space: str) -> np.ndarray:
    """The literature's luma (H, W) for space "y", three channels (H, W, 3) for "rgb"."""
    if space == "y":
        return jpeg.luma(image)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
