"""LIVE1 into data/live1: from public repositories, a folder or an address, every file checked."""

import hashlib
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import requests
from PIL import Image
from tqdm import tqdm

from helpers.data.sets import ImageSet, open_set
from helpers.files import DATA, StudyError, UnwritableError, make_folder, write_file

TIMEOUT = 30  # seconds without an answer before the next source is tried
Fetcher = Callable[[list[str]], bytes]  # a BMP file's content, by the names that its scene goes by


def fetch_live1(source: str | None = None, target: Path = DATA / "live1") -> int:
    """Number of the 29 references that are now in `target` as BMP files with the right SHA-256.

    They come from `source`, a folder (any layout, any lossless format) or an http address under which
    NAME.bmp lie; without it, from the public repositories of data/live1.json in turn. Files already there
    and right are kept, so that the next call takes up an interrupted one. Raises StudyError naming each
    file that is missing or wrong, and what to do; the good ones stay.
    """
    card = json.loads((DATA / "live1.json").read_text())
    fetchers, problems = _fetchers(card, source), []
    make_folder(target)
    for name, expected in tqdm(card["sha256"].items(), unit="file", disable=None):
        path = target / f"{name}.bmp"
        try:
            if not _is_right(path, expected):
                # FBCNN and DnCNN call the portrait-format lighthouse `lighthouse3`, LIVE `lighthouse`
                names = [known for known in (name, card["also_known_as"].get(name)) if known]
                write_file(path, _fetched(path.name, names, expected, fetchers))
        except UnwritableError:  # nor could the rest be written
            raise
        except StudyError as error:
            problems.append(str(error))
            if isinstance(error, _Unreachable):
                break
    if problems:
        have = sum(_is_right(target / f"{name}.bmp", expected) for name, expected in card["sha256"].items())
        advice = "Run the command again to go on, or give a folder or address with --from."
        problems.append(f"{have} of {len(card['sha256'])} files are right in {target}. {advice}")
        raise StudyError("\n".join(problems))
    return len(card["sha256"])


def notice() -> str:
    """LIVE's copyright notice, which must go with every copy of the pictures."""
    return (DATA / "LIVE_NOTICE.txt").read_text()


class _Unreachable(StudyError):
    """No source answers at all: the rest need not be tried."""


def _fetched(file: str, names: list[str], expected: str, fetchers: list[Fetcher]) -> bytes:
    """The first right content. Raises StudyError with the last source's reason if none has it."""
    errors: list[Exception] = []
    for fetch in fetchers:
        try:
            content = fetch(names)
            if hashlib.sha256(content).hexdigest() == expected:
                return content
            raise StudyError("SHA-256 differs from data/live1.json: a damaged or other picture")
        except (requests.RequestException, StudyError) as error:
            errors.append(error)
    reason = " ".join(str(errors[-1]).split())
    if all(isinstance(e, requests.ConnectionError | requests.Timeout) for e in errors):
        raise _Unreachable(f"{file}: no source can be reached ({reason})")
    raise StudyError(f"{file}: {reason}")


def _fetchers(card: dict, source: str | None) -> list[Fetcher]:
    if source is None:
        return [partial(_from_address, repository["address"]) for repository in card["sources"]]
    if source.startswith(("http://", "https://")):
        return [partial(_from_address, source.rstrip("/") + "/{name}.bmp")]
    return [partial(_from_folder, Path(source), open_set(Path(source)))]


def _from_address(template: str, names: list[str]) -> bytes:
    for name in names:
        answer = requests.get(template.replace("{name}", name), timeout=TIMEOUT)
        if answer.ok:
            break
    answer.raise_for_status()
    return answer.content


def _from_folder(folder: Path, images: ImageSet, names: list[str]) -> bytes:
    found = [scene for name in names for scene in images.scenes if scene.name == name]
    if not found:
        raise StudyError(f"not in {folder}")
    # Pixels from any lossless format, written as the BMP that LIVE distributes, byte for byte.
    buffer = io.BytesIO()
    Image.fromarray(found[0].load()).save(buffer, "BMP", dpi=(0, 0))
    return buffer.getvalue()


def _is_right(path: Path, expected: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == expected
