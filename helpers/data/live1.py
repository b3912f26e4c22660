"""LIVE1 into data/live1: from public repositories, a folder or an address, every file checked."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import requests
from PIL import Image
from tqdm import tqdm

from helpers import DATA, StudyError
from helpers.data.sets import open_set
from helpers.records import PlaceError, write_file

TIMEOUT = 30  # seconds without an answer before the next source is tried


def fetch_live1(source: str | None = None, target: Path = DATA / "live1") -> int:
    """Number of the 29 references that are now in `target` as BMP files with the right SHA-256.

    Where they come from: `source`, a folder (any layout, any lossless format) or an http address
    under which NAME.bmp lie; without it, the public repositories of data/live1.json in turn. Files
    already there and right are kept, so that an interrupted call is taken up by the next. Each file
    is written beside its place and renamed. Raises StudyError naming each file that is missing or
    wrong, and what to do; the good ones stay.
    """
    card = json.loads((DATA / "live1.json").read_text())
    fetchers = _fetchers(card, source)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"{target}: can't be made ({error.strerror})") from None
    problems = []
    for name, expected in tqdm(card["sha256"].items(), unit="file", disable=None):
        path = target / f"{name}.bmp"
        if _is_right(path, expected):
            continue
        try:
            _fetch_one(name, expected, fetchers, path)
        except PlaceError:  # nor could the rest be written
            raise
        except _Unreachable as error:
            problems.append(str(error))
            break
        except StudyError as error:
            problems.append(str(error))
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


def _fetch_one(name: str, expected: str, fetchers: list[Callable[[str], bytes]], path: Path) -> None:
    """Writes one file. Raises StudyError with the last source's reason if none has it."""
    errors: list[Exception] = []
    for fetch in fetchers:
        try:
            content = fetch(name)
        except (requests.RequestException, StudyError) as error:
            errors.append(error)
            continue
        if _sha256(content) == expected:
            write_file(path, content)
            return
        errors.append(StudyError("SHA-256 differs from data/live1.json: a damaged or other picture"))
    reason = " ".join(str(errors[-1]).split())
    if all(isinstance(e, requests.ConnectionError | requests.Timeout) for e in errors):
        raise _Unreachable(f"{path.name}: no source can be reached ({reason})")
    raise StudyError(f"{path.name}: {reason}")


def _is_right(path: Path, expected: str) -> bool:
    return path.is_file() and _sha256(path.read_bytes()) == expected


def _fetchers(card: dict, source: str | None) -> list[Callable[[str], bytes]]:
    if source is None:
        return [_from_address(repository["address"], card) for repository in card["sources"]]
    if source.startswith(("http://", "https://")):
        return [_from_address(source.rstrip("/") + "/{name}.bmp", card)]
    return [_from_folder(Path(source), card)]


def _from_address(template: str, card: dict) -> Callable[[str], bytes]:
    def fetch(name: str) -> bytes:
        # FBCNN and DnCNN call the portrait-format lighthouse `lighthouse3`; LIVE and this study `lighthouse`.
        for candidate in (name, card["also_known_as"].get(name)):
            if candidate is not None:
                answer = requests.get(template.replace("{name}", candidate), timeout=TIMEOUT)
                if answer.ok:
                    return answer.content
        answer.raise_for_status()
        raise requests.HTTPError(f"unexpected answer {answer.status_code}")

    return fetch


def _from_folder(folder: Path, card: dict) -> Callable[[str], bytes]:
    images = open_set(folder)
    known = {scene.name for scene in images.scenes}

    def fetch(name: str) -> bytes:
        scene = name if name in known else card["also_known_as"].get(name, name)
        if scene not in known:
            raise StudyError(f"not in {folder}")
        # Pixels from any lossless format, written as the BMP that LIVE distributes, byte for byte.
        buffer = io.BytesIO()
        Image.fromarray(images[scene].load()).save(buffer, "BMP", dpi=(0, 0))
        return buffer.getvalue()

    return fetch


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
