"""Records: what a run measured and where it came from, as JSON files that are never half-written."""

import contextlib
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from helpers.files import RESULTS, ROOT, StudyError, one_line, printable, write_file

PACKAGES = ("numpy", "pillow", "scikit-image", "torch")


def environment() -> dict:
    """Where a number came from: commit, library versions, processor; machine-neutral, for records."""
    commit, versions = None, {}
    with contextlib.suppress(OSError, subprocess.CalledProcessError):  # a copy without git
        command = ["git", "rev-parse", "HEAD"]
        commit = subprocess.check_output(command, cwd=ROOT, text=True, stderr=subprocess.DEVNULL).strip()
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):  # training needs only some of them
            versions[package] = version(package)
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):  # not Linux
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    python, processor = platform.python_version(), f"{model}, {os.cpu_count()} cores"
    return {"commit": commit, "python": python, "versions": versions, "processor": processor}


def write_record(record: dict, path: Path) -> None:
    """Writes the record as JSON, whole or not at all. Raises StudyError if it can't be."""
    write_file(path, (json.dumps(record, indent=1) + "\n").encode())


def read_record(name: str) -> dict:
    """A committed record of data/results by its name, without the extension. Raises StudyError, one line."""
    path = RESULTS / f"{name}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StudyError(f"{printable(path)}: can't be read ({one_line(error)})") from None
