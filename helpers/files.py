"""Files: where the study's lie, errors of one line, writing that leaves no half file, one loop over many."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
RESULTS = DATA / "results"
FIGURES = ROOT / "figures"
# What the next file would meet as well: no room, a quota, read-only, not allowed, a broken disk.
LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
SPECIAL_FILE = "is a pipe or a device, not a file"


class StudyError(Exception):
    """A mistake a person can mend: its text is one line that names the file and what is wrong."""


class UnwritableError(StudyError):
    """Nothing can be written to a folder, whatever the file: who writes many files there stops."""


def one_line(error: Exception) -> str:
    """What an error says, on one line, cut where it is long."""
    return " ".join(str(error).split())[:200]


def mode() -> str:
    """$STUDY_MODE: "quick" (networks train for seconds) or "full" (as recorded); StudyError for another."""
    value = os.environ.get("STUDY_MODE", "quick")
    if value not in ("quick", "full"):
        raise StudyError(f"STUDY_MODE is {value!r}; it must be 'quick' or 'full'")
    return value


def printable(path: str | Path) -> str:
    r"""The path as messages show it: one line, characters that can't be printed as \n, \x1b, \udcff."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def is_special_file(path: Path) -> bool:
    """Whether a path leads to a pipe, a device or a socket: reading it could wait or go on for ever."""
    # os.path says False where it can't be looked at; whoever reads it reports
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def write_file(path: Path, data: bytes) -> None:
    """Writes another file, then renames it: a reader, a kill or a full disk meets the old one or the new.

    A kill leaves a hidden file `.NAME.PROCESS.part`, which nobody reads. Raises StudyError, one line,
    where it can't be written, UnwritableError where no other file could be either.
    """
    with _temporary(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # a rename may reach the disk before the bytes do
        Path(file.name).replace(path)


def make_folder(path: Path) -> None:
    """A folder, and those above it, where there is none. Raises StudyError, one line."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"{printable(path)}: can't be made a folder ({error.strerror})") from None


def check_writable(path: Path) -> None:
    """Raises StudyError where no file can be written: reported before the work, not after."""
    with _temporary(path):
        pass


def check_not_same_file(source: Path, target: Path, verb: str) -> None:
    """Raises StudyError where the file to write is the file to read: a result must not destroy it."""
    with contextlib.suppress(OSError):  # one of them can't be looked at; whoever opens it reports
        if target.samefile(source):
            raise StudyError(f"{printable(target)}: is the file to {verb}; name another one to write")


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[BinaryIO]:
    """A new file next to `path`, gone at the end; what can't be done there is raised as StudyError."""
    name = path.name.encode(errors="ignore")[:200].decode(errors="ignore")  # with its ends at most 255 bytes
    part = path.with_name(f".{name}.{os.getpid()}.part")
    try:
        if path.is_dir():
            raise StudyError(f"{printable(path)}: can't be written (is a folder)")
        with part.open("wb") as file:
            yield file
    except OSError as error:
        kind = UnwritableError if error.errno in LASTING else StudyError
        raise kind(f"{printable(path)}: can't be written ({error.strerror})") from None
    finally:
        with contextlib.suppress(OSError):  # where it could not be made it can't be removed
            part.unlink()


@contextlib.contextmanager
def alone(lock: Path, doing: str, wait: bool = False) -> Iterator[None]:
    """While it lasts no other process is inside with the same lock file, which is gone at the end.

    The system frees the lock however its process ends. Raises StudyError where another process is inside
    (`doing` says what it does) and `wait` is False, or the file can't be made.
    """
    from filelock import FileLock, Timeout  # only here: it takes a tenth of a second

    held = FileLock(lock, timeout=-1 if wait else 0)
    try:
        held.acquire()
    except Timeout:
        raise StudyError(f"{printable(lock)}: another process {doing}; let it finish or end it") from None
    except OSError as error:
        raise StudyError(f"{printable(lock)}: can't be written ({error.strerror})") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes it by itself
            lock.unlink()  # while it is held, so that nobody's file but ours is removed
        held.release()


def for_each(source: Path, files: list[tuple[Path, Path]], convert: Callable) -> int:
    """Status 0, or 2 after a line on stderr for each file that could not be converted; the rest is done.

    `files` holds (file, its result's path) of `source`, a file or a folder; convert(file, path) does one,
    and what it returns is printed. Of a folder there is a progress bar and a last line with the count.
    """
    from tqdm import tqdm

    failed = 0
    if source.is_dir():
        make_folder(files[0][1].parent)
    with tqdm(files, unit="file", disable=None if len(files) > 1 else True) as bar:
        for one, target in bar:
            try:
                if said := convert(one, target):
                    bar.write(said)
            except UnwritableError:  # nor could the rest be written
                raise
            except StudyError as error:
                failed += 1
                bar.write(str(error), file=sys.stderr)
    if len(files) > 1:
        print(f"{len(files) - failed} of {len(files)} files done")
    return 2 if failed else 0
