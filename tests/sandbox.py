"""Commands in hard places: a full or read-only disk, no network, killed at a moment; and what they cost."""

import fcntl
import functools
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.weights import read_tensors

ON_DISK = """
mount -t tmpfs -o "$1" none "$2" || exit 99
copy="$3"; folder="$2"; shift 3
"$@"
status=$?
cp -a "$folder/." "$copy/"
exit $status
"""
OFFLINE = 'ip link set lo up && exec "$@"'


@functools.cache
def can_unshare(kind: str) -> bool:
    """Whether this system lets a process have mounts ("m") or a network ("n") of its own."""
    if not shutil.which("unshare"):
        return False
    script = "mount -t tmpfs none /tmp" if kind == "m" else "ip link set lo up"
    return subprocess.run(["unshare", f"-r{kind}", "sh", "-c", script], capture_output=True).returncode == 0


def needs(kind: str) -> None:
    if not can_unshare(kind):
        what = "mounts" if kind == "m" else "a network"
        pytest.skip(f"`unshare -r{kind}` can't give a process {what} of its own here")


def tiny_grid(count: int) -> str:
    """Lines that make of the grid so many runs of ten steps, on the samples."""
    return (
        "from dataclasses import replace\n"
        "from helpers.experiments import grid\n"
        "tiny = replace(grid.BASELINES['restore'], images='samples')\n"
        "tiny = tiny.changed({'steps': 10, 'batch': 2, 'width': 8})\n"
        f"runs = [replace(tiny.changed({{'seed': n // 5}}), fold=n % 5) for n in range({count})]\n"
        "grid.grid = lambda mode: runs"
    )


def quiet_environment(**more: str) -> dict[str, str]:
    dropped = ("STUDY_MODE", "LIVE1_DIR")
    return {k: v for k, v in os.environ.items() if k not in dropped} | {"OMP_NUM_THREADS": "1"} | more


def helpers_command(*arguments: object, first: str = "") -> list[str]:
    """`python -m helpers ARGUMENTS`, after the Python lines `first` if there are any."""
    words = [str(argument) for argument in arguments]
    if not first:
        return [sys.executable, "-m", "helpers", *words]
    main = "import sys\nfrom helpers.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", f"{first}\n{main}", *words]


def on_disk(command: list[str], cwd: Path, place: Path, options: str) -> subprocess.CompletedProcess:
    """The command with a small disk of its own at `place`; what it left there is in `place` afterwards."""
    with tempfile.TemporaryDirectory() as copy:
        process = subprocess.run(
            ["unshare", "-rm", "sh", "-c", ON_DISK, "sh", options, str(place), copy, *command],
            cwd=cwd, env=quiet_environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.returncode != 99, process.stderr
        shutil.copytree(copy, place, dirs_exist_ok=True)
    return process


def offline(command: list[str], cwd: Path) -> subprocess.CompletedProcess:
    """The command on a machine whose only network is itself."""
    return subprocess.run(
        ["unshare", "-rn", "sh", "-c", OFFLINE, "sh", *command],
        cwd=cwd, env=quiet_environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def killed_after(command: list[str], cwd: Path, seconds: float) -> bool:
    """Kills the command after so many seconds, as the system would; False if it had ended by itself.

    Whatever it had started must end by itself soon.
    """
    process = subprocess.Popen(
        command, cwd=cwd, env=quiet_environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while left := (_session(process.pid) | _working_in(cwd)) - {process.pid}:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.05)
    return process.wait() == -signal.SIGKILL


def _session(number: int) -> set[int]:
    return _processes(lambda pid: os.getsid(pid) == number)


def _working_in(folder: Path) -> set[int]:
    """Processes whose working folder lies in `folder`, but for those that a test runs from."""
    if folder == Path.cwd():
        return set()
    return _processes(lambda pid: Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(folder))


def _processes(wanted) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and wanted(int(entry.name)) and "zombie" not in _state(entry):
                found.add(int(entry.name))
        except OSError:  # it has just ended, or is another user's
            continue
    return found


def _state(entry: Path) -> str:
    lines = (entry / "status").read_text().splitlines()
    return next(line for line in lines if line.startswith("State:"))


@dataclass(frozen=True)
class Cost:
    """What a command printed on a terminal, and what it took."""

    status: int
    screen: str
    seconds: float
    peak: float  # bytes of the command's own process

    def said(self, count: int, unit: str) -> str:
        speed = f"{count / self.seconds:.1f} a second"
        return f"{count} {unit} in {self.seconds:.1f} s, {speed}, peak {self.peak / 1e6:.0f} MB"


# The system's own count, ru_maxrss, begins with the peak of the process that started this one.
PEAK = """
import atexit, resource, sys
from pathlib import Path
def peak():
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
atexit.register(lambda: Path({!r}).write_text(str(peak())))
"""


def on_a_terminal(arguments: tuple, cwd: Path, first: str = "") -> Cost:
    """Runs `python -m helpers ARGUMENTS` on a terminal of its own, so that its progress bar is drawn."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with tempfile.NamedTemporaryFile() as file:
        command = helpers_command(*arguments, first=f"{PEAK.format(file.name)}\n{first}")
        return _listened(command, cwd, ours, theirs, Path(file.name))


def _listened(command: list[str], cwd: Path, ours: int, theirs: int, peak: Path) -> Cost:
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=cwd, env=quiet_environment(), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    read: list[bytes] = []

    def listen() -> None:
        try:
            while block := os.read(ours, 65536):
                read.append(block)
        except OSError:  # the terminal's other end is closed
            pass

    thread = threading.Thread(target=listen)
    thread.start()
    status = process.wait()
    seconds = time.perf_counter() - start
    thread.join()
    os.close(ours)
    return Cost(status, b"".join(read).decode(errors="replace"), seconds, float(peak.read_text()))


def checkpointed(path: Path, what: str = "state") -> dict:
    """The state of a training, or what it is ("about"), in a checkpoint."""
    return json.loads(read_tensors(path, what)[1][what])
