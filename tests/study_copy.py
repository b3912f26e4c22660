"""A copy of the project as git would clone it, to run commands in without touching this tree."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from helpers import ROOT


def copy_study(target: Path) -> Path:
    """The tracked and not ignored files of this tree, copied to `target`; all but caches without git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if listed.returncode:  # an unpacked archive
        shutil.copytree(ROOT, target, dirs_exist_ok=True, ignore=_ignored)
        return target
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    return target


def _ignored(folder: str, names: list[str]) -> set[str]:
    """What .gitignore says, by its place: `helpers/report` is no rendered report."""
    here = Path(folder)
    found = {
        ROOT / name for name in (".git", ".venv", ".hypothesis", "figures/report", "data/live1", "data/runs")
    }
    caches = shutil.ignore_patterns("__pycache__", ".*_cache", ".ipynb_checkpoints")(folder, names)
    return {name for name in names if here / name in found} | caches


def run_helpers(
    study: Path, *arguments: str, live1: Path | None = None, home: Path | None = None
) -> subprocess.CompletedProcess:
    """`python -m helpers ARGUMENTS` in a copy, with LIVE1 from that folder or without LIVE1.

    `home` stands for a user's own folder and, in its `tmp`, for the system's temporary one.
    """
    environment = {k: v for k, v in os.environ.items() if k not in ("LIVE1_DIR", "STUDY_MODE")}
    if home is not None:
        environment = at_home(home, environment)
    if live1 is not None:
        environment["LIVE1_DIR"] = str(live1)
    return subprocess.run(
        [sys.executable, "-m", "helpers", *arguments],
        cwd=study, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def at_home(home: Path, environment: dict[str, str]) -> dict[str, str]:
    """The environment of a user whose folder that is, and who has set nothing up."""
    (home / "tmp").mkdir(exist_ok=True)
    own = ("XDG_", "JUPYTER", "IPYTHON", "MPL")
    kept = {key: value for key, value in environment.items() if not key.startswith(own)}
    return kept | {"HOME": str(home), "TMPDIR": str(home / "tmp")}


def fingerprints(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that git would look at, by its path."""
    skipped = ("figures/report/", "__pycache__", ".ipynb_checkpoints")
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part in (name := path.relative_to(folder).as_posix()) for part in skipped)
    }
