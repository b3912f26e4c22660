"""Records: what a run measured, where it came from, and files that are never half-written."""

import contextlib
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from helpers import RESULTS, ROOT, StudyError
from helpers.data.loading import shown

PACKAGES = ("numpy", "pillow", "scikit-image", "torch")


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
    """A committed record of data/results by its name, without the extension."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def write_file(path: Path, data: bytes) -> None:
    """Writes beside the place, then renames: a reader, a kill or a full disk meets the old file or the new.

    Raises StudyError, one line, where it can't be written.
    """
    if path.is_dir():
        raise StudyError(f"{shown(path)}: can't be written (is a folder)")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before the bytes do
        part.replace(path)
    except OSError as error:
        raise StudyError(f"{shown(path)}: can't be written ({error.strerror})") from None
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
