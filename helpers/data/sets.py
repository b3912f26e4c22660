"""Image sets: photographs by name or folder, one scene each, with the versions that lie next to them."""

import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from helpers.data.loading import ImageError, load_image
from helpers.files import DATA, StudyError, is_special_file, printable

SAMPLES = (
    "astronaut", "coffee", "motorcycle_left", "chelsea",  # colour
    "camera", "brick", "grass", "gravel", "moon",  # grey
)  # fmt: skip
FOLDS = 5


@dataclass(frozen=True)
class Scene:
    """One photographed scene: its reference picture, and compressed versions of it if there are any."""

    name: str
    path: Path
    versions: dict[str, Path] = field(default_factory=dict)  # "qf10" or "0.345bpp" -> file

    def load(self) -> np.ndarray:
        """The reference, uint8, (H, W) or (H, W, 3). Raises ImageError."""
        return load_image(self.path)


@dataclass(frozen=True)
class ImageSet:
    """Scenes in the order of their names; `layout` says how they lay on disk."""

    name: str
    scenes: tuple[Scene, ...]
    layout: str

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, name: str) -> Scene:
        for scene in self.scenes:
            if scene.name == name:
                return scene
        raise StudyError(f"{self.name}: has no scene {name!r}")

    def showable(self) -> list[Scene]:
        """The scenes whose pixels may be published: all but LIVE1's nine from a commercial CD."""
        withheld = json.loads((DATA / "live1.json").read_text())["not_public_domain"]
        return [scene for scene in self.scenes if self.name != "live1" or scene.name not in withheld]

    def images(self, on_error: Callable[[str], None]) -> Iterator[tuple[str, np.ndarray]]:
        """(name, reference) of each scene; a file that can't be read goes to `on_error` as one line."""
        for scene in self.scenes:
            try:
                yield scene.name, scene.load()
            except ImageError as error:
                on_error(str(error))


def open_set(where: str | Path) -> ImageSet:
    """The image set `samples`, `live1`, or that of a folder in one of three layouts.

    - flat: a folder of reference pictures;
    - course: `refimgs/` next to `qf10/ ... qf90/`, whose files carry the references' names;
    - live: `refimgs/` next to `jpeg/info.txt` (LIVE release 2), lines `source destination bits-per-pixel`.

    Files are recognised by content; what is neither a picture nor named like one is passed over.
    Raises StudyError, one line, where there is nothing to read or `info.txt` is broken.
    """
    if where == "samples":
        import skimage.data  # only here, so that training on a folder needs no scikit-image

        folder = Path(skimage.data.__file__).parent
        scenes = tuple(Scene(name, folder / f"{name}.png") for name in sorted(SAMPLES))
        return ImageSet("samples", scenes, "samples")
    folder = live1_folder() if where == "live1" else Path(where)
    if folder is None:
        raise StudyError("live1: not here; run `python -m helpers data live1` or set LIVE1_DIR")
    return ImageSet("live1" if where == "live1" else folder.resolve().name, *_read_folder(folder))


def default_set() -> ImageSet:
    """LIVE1 where it is on this machine, else the samples: what the notebooks use."""
    return open_set("live1" if live1_folder() else "samples")


def live1_folder() -> Path | None:
    """Folder of LIVE1: $LIVE1_DIR (StudyError if it is no folder), or data/live1 if it is there, or None."""
    named, folder = os.environ.get("LIVE1_DIR"), DATA / "live1"
    if named and not Path(named).is_dir():
        raise StudyError(f"LIVE1_DIR: {printable(named)} is not a folder")
    if named:
        return Path(named)
    return folder if any(folder.glob("*.bmp")) else None


def split(images: ImageSet, fold: int) -> tuple[list[str], list[str], list[str]]:
    """Names of the training, validation and test scenes of one of five folds, disjoint.

    The test part of fold k is part k, validation is part k + 1, training is the rest, so that over five
    folds every scene is judged once. The parts of `live1` and `samples` are fixed in data/splits.json;
    other sets (also a folder of that name with other scenes in it) are dealt out in the order of names.
    Raises ValueError for another fold.
    """
    if not 0 <= fold < FOLDS:
        raise ValueError(f"fold is {fold}; there are folds 0 to {FOLDS - 1}")
    names = [scene.name for scene in images.scenes]
    fixed = json.loads((DATA / "splits.json").read_text())["folds"].get(images.name)
    known = fixed is not None and set(names) <= {name for part in fixed for name in part}
    parts = fixed if known else [names[part::FOLDS] for part in range(FOLDS)]
    parts = [[name for name in part if name in names] for part in parts]
    test, validation = parts[fold], parts[(fold + 1) % FOLDS]
    train = [name for part in parts for name in part if name not in test + validation]
    return train, validation, test


def _read_folder(folder: Path) -> tuple[tuple[Scene, ...], str]:
    try:
        if not folder.is_dir():
            problem = "is not a folder" if folder.exists() else "does not exist"
            raise StudyError(f"{printable(folder)}: {problem}")
        return _read_layout(folder)
    except OSError as error:  # no permission, a name too long
        raise StudyError(f"{printable(folder)}: can't be read ({error.strerror})") from None


def _read_layout(folder: Path) -> tuple[tuple[Scene, ...], str]:
    references = folder / "refimgs"
    if not references.is_dir():
        paths = _pictures(folder)
        taken = Counter([p.stem for p in paths] + [p.name for p in paths if p.suffix])
        names = [p.stem if taken[p.stem] == 1 else p.name for p in paths]  # a.png next to a.jpg, or a.png.gif
        return tuple(map(Scene, names, paths)), "flat"
    paths = _pictures(references)
    if (folder / "jpeg" / "info.txt").is_file():
        versions = _live_versions(folder / "jpeg" / "info.txt")
        return tuple(Scene(p.stem, p, versions.get(p.name, {})) for p in paths), "live"
    qualities = [folder / f"qf{quality}" for quality in range(10, 100, 10)]
    coded = {one.name: {p.stem: p for p in _pictures(one)} for one in qualities if one.is_dir()}
    versions = {path.stem: {q: of[path.stem] for q, of in coded.items() if path.stem in of} for path in paths}
    return tuple(Scene(path.stem, path, versions[path.stem]) for path in paths), "course"


def _live_versions(info: Path) -> dict[str, dict[str, Path]]:
    """Compressed versions by source file name; rate 0 marks a copy of the reference, left out."""
    versions: dict[str, dict[str, Path]] = {}
    for number, line in enumerate(info.read_text(errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{printable(info)}, line {number}"
        try:
            source, destination, rate = line.split()
            bits_per_pixel = float(rate)
            if not 0 <= bits_per_pixel < math.inf:
                raise ValueError
        except ValueError:
            found = f"found {line.strip()[:80]!r}"
            raise StudyError(f"{where}: expected `source destination bits-per-pixel`, {found}") from None
        if not (info.parent / destination).is_file():
            raise StudyError(f"{where}: {printable(destination)} is not beside it")
        if bits_per_pixel > 0:
            versions.setdefault(source, {})[f"{bits_per_pixel:g}bpp"] = info.parent / destination
    return versions


def _pictures(folder: Path) -> list[Path]:
    """Files of a folder that are pictures by content, or claim to be by their extension, sorted.

    Links that lead nowhere and pipes count if they claim to be; folders don't, whatever their names.
    """
    named = {ext for ext, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and not os.path.isdir(p))
    pictures = [p for p in files if p.suffix.lower() in named or _looks_like_picture(p)]
    if not pictures:
        raise StudyError(f"{printable(folder)}: holds no pictures")
    return pictures


def _looks_like_picture(path: Path) -> bool:
    if is_special_file(path):
        return False
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path):
            return True
    except Exception:  # anything a decoder may raise on a file that never claimed to be a picture
        return False
