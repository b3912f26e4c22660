"""Processes that share work and end together, and one at a time where two would spoil a file."""

import contextlib
import errno
import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from helpers import StudyError
from helpers.data.loading import shown


@contextlib.contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """An executor of so many processes, which end with this one, however it ends."""
    context = get_context("spawn")  # torch does not survive a fork
    pool = ProcessPoolExecutor(count, context, _start_worker, (os.getpid(),))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(parent: int) -> None:
    def watch() -> None:  # a killed parent can't tell its workers
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker without a traceback of its own
    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def alone(lock: Path, doing: str, wait: bool = False) -> Iterator[None]:
    """While it lasts no other process is inside with the same lock file, which is gone at the end.

    The system opens the lock when its process ends, however it ends. Raises StudyError where another
    process is inside (`doing` says what it does) and `wait` is False, or the file can't be made.
    """
    try:
        file = _locked(lock, wait)
    except BlockingIOError:
        raise StudyError(f"{shown(lock)}: another process {doing}; let it finish or end it") from None
    except OSError as error:
        raise StudyError(f"{shown(lock)}: can't be written ({error.strerror})") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()  # before the lock opens, so that nobody's file but ours is removed
        os.close(file)


def _locked(lock: Path, wait: bool) -> int:
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(lock)):
                    return file
        except BaseException as error:
            if getattr(error, "errno", None) in (errno.ENOLCK, errno.ENOTSUP):  # a disk without locks
                return file
            os.close(file)
            raise
        os.close(file)  # the process before us removed this file: there may be a new one
