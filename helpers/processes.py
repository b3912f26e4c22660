"""Many processes for one work: workers that end with their parent, or those of a Dask cluster."""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context

from helpers.files import StudyError, one_line, printable

PATIENCE = 60  # seconds that a cluster may have no worker at all: someone may be starting new ones
LOOK_EVERY = 5  # seconds
LOST = ("FutureCancelledError", "CancelledError", "CommClosedError")  # what Dask raises when it is gone


def executor_of(workers: int, address: str | None):
    """An executor, to be entered: so many processes, or the workers of the Dask cluster at an address."""
    return cluster(address) if address else processes(workers)


@contextlib.contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """An executor of so many processes, which end with this one, however it ends."""
    spawn = get_context("spawn")  # torch does not survive a fork
    pool = ProcessPoolExecutor(count, spawn, _start_worker, (os.getpid(),))
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


class EmptyClusterError(StudyError):
    """A cluster has had no worker for too long: what waits there would wait for ever."""


def as_they_end(futures: Iterable[Future], executor: Executor, on_note: Callable) -> Iterator[Future]:
    """Each future as soon as it has ended. Where a cluster has no worker, on_note(line) is called.

    Raises EmptyClusterError where it still has none after PATIENCE seconds.
    """
    waiting, empty_since = set(futures), None
    workers = getattr(executor, "workers", lambda: 1)  # how many there are; a broken pool raises by itself
    while waiting:
        done, waiting = wait(waiting, LOOK_EVERY, FIRST_COMPLETED)
        yield from done
        if done or workers():
            empty_since = None
        elif empty_since is None:
            empty_since = time.monotonic()
            on_note(f"the cluster has no worker; waiting {PATIENCE} s for one")
        elif time.monotonic() - empty_since > PATIENCE:
            raise EmptyClusterError(f"the cluster has had no worker for {PATIENCE} s")


@contextlib.contextmanager
def cluster(address: str):
    """An executor of the workers of a Dask scheduler, and how many there are at a time, `workers()`.

    Raises StudyError where the scheduler can't be reached or has none.
    """
    try:
        from dask.distributed import Client
    except ImportError:
        raise StudyError("--cluster needs `pip install distributed`") from None
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what is lost is reported once, by the caller
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError, TimeoutError) as error:
        reason = one_line(error)
        raise StudyError(f"{printable(address)}: no Dask scheduler can be reached there ({reason})") from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise StudyError(f"{printable(address)}: the scheduler has no workers")

        def workers() -> int:
            try:
                return len(client.sync(client.scheduler.identity, callback_timeout=10)["workers"])
            except (OSError, TimeoutError):  # a scheduler that is gone, or says nothing
                return 0

        executor = client.get_executor(pure=False, retries=2)  # a worker may die, its runs go elsewhere
        executor.workers = workers
        yield executor
