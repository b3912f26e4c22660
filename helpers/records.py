"""Records: what a run measured, where it came from, and files that are never half-written."""

import contextlib
import errno
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import BinaryIO

from helpers import RESULTS, ROOT, StudyError, one_line
from helpers.data.loading import shown

PACKAGES = ("numpy", "pillow", "scikit-image", "torch")
# What the next file would meet as well: no room, a quota, read-only, not allowed, a broken disk.
LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


class PlaceError(StudyError):
    """Nothing can be written at a place, whatever the file: who writes many files there stops."""


def environment() -> dict:
    """Where a number came from: commit, library versions, processor; machine-neutral, for records."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # a copy without git
        commit = None
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):  # training needs only some of them
            versions[package] = version(package)
    return {
        "commit": commit,
        "python": platform.python_version(),
        "versions": versions,
        "processor": _processor(),
    }


def write_record(record: dict, path: Path) -> None:
    """The record as JSON, written beside its place and renamed. Raises StudyError if it can't be."""
    write_file(path, (json.dumps(record, indent=1) + "\n").encode())


def read_record(name: str) -> dict:
    """A committed record of data/results by its name, without the extension. Raises StudyError, one line."""
    path = RESULTS / f"{name}.json"
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise StudyError(f"{shown(path)}: can't be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{shown(path)}: is no record ({one_line(error)})") from None


def write_file(path: Path, data: bytes) -> None:
    """Writes beside the place, then renames: a reader, a kill or a full disk meets the old file or the new.

    What a kill leaves is a hidden file `.NAME.PROCESS.part`, which nobody reads. Raises StudyError, one
    line, where it can't be written, PlaceError where no other file could be either.
    """
    with _beside(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # a rename may reach the disk before the bytes do
        Path(file.name).replace(path)


def check_apart(source: Path, target: Path, doing: str) -> None:
    """Raises StudyError where the place to write is the file to read: a result must not destroy it."""
    with contextlib.suppress(OSError):  # one of them can't be looked at; whoever opens it tells
        if target.samefile(source):
            raise StudyError(f"{shown(target)}: is the file to {doing}; name another one to write")


def make_folder(path: Path) -> None:
    """A folder, and those above it, where there is none. Raises StudyError, one line."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"{shown(path)}: can't be made a folder ({error.strerror})") from None


def check_place(path: Path) -> None:
    """Raises StudyError where no file can be written: told before the work, not after."""
    with _beside(path):
        pass


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[BinaryIO]:
    """A new file beside a place, gone at the end; what can't be done there is raised as StudyError."""
    name = path.name.encode(errors="ignore")[:200].decode(errors="ignore")  # with its ends at most 255 bytes
    part = path.with_name(f".{name}.{os.getpid()}.part")
    try:
        if path.is_dir():
            raise StudyError(f"{shown(path)}: can't be written (is a folder)")
        with part.open("wb") as file:
            yield file
    except OSError as error:
        kind = PlaceError if error.errno in LASTING else StudyError
        raise kind(f"{shown(path)}: can't be written ({error.strerror})") from None
    finally:
        with contextlib.suppress(OSError):  # where it could not be made it can't be removed
            part.unlink()


def _processor() -> str:
    """The processor's model and cores, as the system tells it."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux
        pass
    return f"{model}, {os.cpu_count()} cores"
