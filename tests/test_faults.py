"""Killed at random moments, on a full disk, on one that can't be written, and with the cluster lost."""

import contextlib
import hashlib
import http.server
import io
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image
from sandbox import helpers_command, killed_after, needs, on_disk, quiet_environment, tiny_grid
from study_copy import copy_study, fingerprints

from helpers import ROOT
from helpers.codec.container import read
from helpers.codec.fitted.payload import decode
from helpers.experiments.grid import grid

KILLS = [2, pytest.param(20, marks=pytest.mark.long)]
MORE_KILLS = [pytest.param(2, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.long)]
NAMES = tuple(f"scene{number}" for number in range(6))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def bmp(name: str) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(noise(48, 64, 3, seed=NAMES.index(name)))
    picture.save(buffer, "BMP", dpi=(0, 0))
    return buffer.getvalue()


def small_study(target: Path) -> Path:
    """A copy of the project with two tiny notebooks and a card of six small pictures instead of LIVE1."""
    study = copy_study(target)
    shutil.rmtree(study / "notebooks")
    (study / "notebooks").mkdir()
    first = next(
        cell
        for cell in nbformat.read(ROOT / "notebooks" / "01_exploration.ipynb", 4).cells
        if cell.cell_type == "code"
    )
    drawing = (
        "from helpers import plots\nimport matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\n"
        "axes.plot([1, 2], [2, 1])\nplots.publish(figure, '01_tiny', 'A line that falls from two to one.')"
    )
    for number, code in ((1, drawing), (2, "1 + 1")):
        cells = [new_markdown_cell(f"# Chapter {number}"), first, new_code_cell(code)]
        nbformat.write(new_notebook(cells=cells), study / "notebooks" / f"0{number}_tiny.ipynb")
    card = {
        "sources": [],
        "also_known_as": {},
        "sha256": {name: hashlib.sha256(bmp(name)).hexdigest() for name in NAMES},
        "not_public_domain": [],
    }
    (study / "data" / "live1.json").write_text(json.dumps(card))
    return study


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return small_study(tmp_path / "study")


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """A folder of inputs that no command may change, beside the small study: pictures, JPEG and our files."""
    folder = tmp_path_factory.mktemp("shared")
    small_study(folder / "study")
    for name in ("pictures", "photographs", "references"):
        (folder / name).mkdir()
    for number in range(5):
        picture = Image.fromarray(noise(96, 96, 3, seed=number))
        picture.save(folder / "pictures" / f"{number}.png")
        picture.save(folder / "photographs" / f"{number}.jpg", quality=30)
    for name in NAMES:
        (folder / "references" / f"{name}.bmp").write_bytes(bmp(name))
    made = run("encode", folder / "pictures", folder / "files")
    assert made.returncode == 0, made.stderr
    return folder


def run(*arguments, cwd: Path = ROOT, first: str = "") -> subprocess.CompletedProcess:
    return subprocess.run(
        helpers_command(*arguments, first=first),
        cwd=cwd, env=quiet_environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def kills(count: int, longest: float, seed: int, since: float = 0) -> Iterator[Callable]:
    """Yields `kill(command, folder)` until so many kills have landed, on a command that takes `longest`.

    The first ones come one in each of `count` parts of the time from `since` to where the last tenth begins;
    those that met a command that had ended are made up for at any moment between. At most five times as
    many are tried.
    """
    chance, landed = random.Random(seed), 0

    def kill(command: list[str], folder: Path) -> None:
        nonlocal landed
        landed += killed_after(command, folder, since + (0.9 * longest - since) * part)

    for number in range(5 * count):
        part = (number + chance.random()) / count if number < count else chance.random()
        yield kill
        if landed == count:
            print(f"{count} kills, {number + 1 - count} more had ended before")
            return
    pytest.fail(f"only {landed} of {5 * count} kills met a command that had not ended")


def one_line(process: subprocess.CompletedProcess) -> str:
    assert process.returncode == 2, (process.returncode, process.stdout, process.stderr)
    (line,) = process.stderr.splitlines()
    return line


def timed(*arguments, cwd: Path = ROOT, first: str = "") -> float:
    start = time.perf_counter()
    process = run(*arguments, cwd=cwd, first=first)
    assert process.returncode == 0, process.stderr
    return time.perf_counter() - start


# Killed


@pytest.mark.parametrize("count", MORE_KILLS)
def test_a_killed_encode_leaves_whole_files_and_the_next_one_ends(shared, tmp_path, count):
    (tmp_path / "in").mkdir()
    for number in range(30):
        Image.fromarray(noise(96, 96, 3, seed=number)).save(tmp_path / "in" / f"{number:02d}.png")
    command = ("encode", tmp_path / "in", tmp_path / "whole")
    longest = timed(*command)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    seen, out = 0, tmp_path / "out"
    for kill in kills(count, longest, seed=1):
        kill(helpers_command("encode", tmp_path / "in", out), ROOT)
        for path in out.glob("*.npic"):
            seen += 1
            assert path.read_bytes() == expected[path.name]
        only_parts(out, expected)
    print(f"{seen} finished files seen, none half-written")
    assert run("encode", tmp_path / "in", out).returncode == 0
    assert {path.name: path.read_bytes() for path in out.glob("*.npic")} == expected
    (out / ".30.npic.99999999.part").write_bytes(b"what a kill may leave")
    assert run("decode", out, tmp_path / "back").returncode == 0
    assert len(list((tmp_path / "back").iterdir())) == 30


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("SIGKILL", b"an old file"),
        pytest.param("SIGINT", None, marks=pytest.mark.slow),
        pytest.param("SIGKILL", None, marks=pytest.mark.slow),
        pytest.param("SIGINT", b"an old file", marks=pytest.mark.slow),
    ],
)
def test_an_encode_interrupted_while_it_writes_leaves_no_half_file(tmp_path, name, old):
    """The moment at which all bytes are written and none is known to be on the disk."""
    source, target = tmp_path / "in.png", tmp_path / "out" / "one.npic"
    Image.fromarray(noise(200, 300, 3)).save(source)
    target.parent.mkdir()
    if old:
        target.write_bytes(old)
    first = f"import os, signal\nos.fsync = lambda file: os.kill(os.getpid(), signal.{name})"
    process = run("encode", source, target, first=first)
    assert process.returncode == {"SIGKILL": -signal.SIGKILL, "SIGINT": 130}[name], process.stderr
    assert (target.read_bytes() if target.exists() else None) == old
    only_parts(target.parent, [target.name])
    left = len(list(target.parent.glob("*.part")))
    assert left == (name == "SIGKILL")  # the written bytes themselves: the moment was met


def only_parts(folder: Path, expected: Iterable[str]) -> None:
    """Asserts that beside what is expected a kill left nothing but hidden files that nobody reads."""
    hidden = {path.name for path in folder.glob("*")} - {*expected}
    assert all(name.startswith(".") and name.endswith(".part") for name in hidden), hidden


@pytest.mark.parametrize("count", MORE_KILLS)
def test_a_killed_sweep_keeps_what_is_finished_and_goes_on(study, count):
    files, first = study / "data" / "runs", tiny_grid(10)
    command = ("ablate", "--workers", "1")
    longest = timed(*command, cwd=study, first=first)
    expected = {path.name: told(path) for path in files.glob("*.json")}
    assert len(expected) == 10
    shutil.rmtree(files)
    finished = {}
    for kill in kills(count, longest, seed=2):
        if len(finished) == len(expected):
            shutil.rmtree(files, ignore_errors=True)
            finished = {}
        kill(helpers_command(*command, first=first), study)
        stamps = {path.name: path.stat().st_mtime_ns for path in files.glob("*.json")}
        assert all(stamps[name] == stamp for name, stamp in finished.items())  # not lost, not made again
        assert all(told(files / name) == expected[name] for name in stamps)
        finished = stamps
    process = run(*command, cwd=study, first=first)
    assert process.returncode == 0 and f"{len(expected) - len(finished)} to do" in process.stdout
    assert {path.name: told(path) for path in files.glob("*.json")} == expected


def told(path: Path) -> dict:
    """A run's file without what differs from time to time."""
    return {key: value for key, value in json.loads(path.read_text()).items() if key != "seconds"}


@pytest.mark.parametrize("count", MORE_KILLS)
def test_a_killed_report_leaves_whole_pages_and_the_next_one_ends(study, count):
    before = fingerprints(study)
    report = study / "figures" / "report"
    longest = timed("report", cwd=study)
    expected = {path.relative_to(report): path.stat().st_size for path in pages(report)}
    assert {Path("index.html"), Path("01_tiny.html"), Path("mathjax/LICENSE")} <= expected.keys()
    for number, kill in enumerate(kills(count, longest, seed=3)):
        if number % 2 == 0:  # the next one meets what the kill has left
            shutil.rmtree(report, ignore_errors=True)  # the one before may have been killed before it began
        kill(helpers_command("report"), study)
        for path in pages(report):
            if path.suffix == ".html":
                assert path.read_text().rstrip().endswith("</html>"), path
            elif path.suffix == ".ipynb":
                nbformat.read(path, 4)
            else:
                assert path.stat().st_size == expected[path.relative_to(report)], path
        for path in (study / "figures").glob("01_tiny.svg"):
            assert path.read_text().rstrip().endswith("</svg>")
    assert run("report", cwd=study).returncode == 0
    assert {path.relative_to(report) for path in pages(report)} == expected.keys()
    after = {name: stamp for name, stamp in fingerprints(study).items() if not name.endswith(".part")}
    assert before.items() <= after.items() and {Path(name).name for name in after.keys() - before.keys()} == {
        "01_tiny.svg"
    }


def pages(report: Path) -> list[Path]:
    """What lies in a report under a name of its own."""
    return [path for path in report.rglob("*") if path.is_file() and not path.name.endswith(".part")]


class SlowServer(http.server.ThreadingHTTPServer):
    """Gives each picture in two halves, a fifth of a second apart; `asked` counts the questions."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), SlowHandler)
        self.asked: list[str] = []


class SlowHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = Path(self.path).stem
        self.server.asked.append(name)
        content = bmp(name)
        with contextlib.suppress(ConnectionError):  # who asked was killed
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            time.sleep(0.2)
            self.wfile.write(content[len(content) // 2 :])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = SlowServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("count", KILLS)
def test_a_killed_download_keeps_right_pictures_and_the_next_one_asks_for_the_rest(study, server, count):
    command = ("data", "live1", "--from", f"http://127.0.0.1:{server.server_port}")
    target = study / "data" / "live1"
    longest = timed(*command, cwd=study)
    have = set(NAMES)
    for kill in kills(count, longest, seed=4):
        if len(have) == len(NAMES):
            shutil.rmtree(target, ignore_errors=True)
        kill(helpers_command(*command), study)
        found = {path.stem for path in target.glob("*.bmp")}
        assert all((target / f"{name}.bmp").read_bytes() == bmp(name) for name in found)
        assert len(have) == len(NAMES) or have <= found
        have = found
    server.asked.clear()
    assert run(*command, cwd=study).returncode == 0
    assert set(server.asked) == set(NAMES) - have
    assert {path.name for path in target.glob("*.bmp")} == {f"{name}.bmp" for name in NAMES}


def fitting(folder: Path, minutes: float, *sides: int, count: int = 0) -> tuple:
    """Words that fit a picture of noise, or a folder of `count`, of so many rows and columns to `out`."""
    for number in range(count or 1):
        path = folder / "in" / f"{number}.png" if count else folder / "in.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise(*sides, 3, seed=number)).save(path)
    (folder / "out").mkdir()
    ends = ("in", "out") if count else ("in.png", "out/one.npic")
    return "encode", folder / ends[0], folder / ends[1], "--fit", minutes


def shape(path: Path) -> tuple[int, ...]:
    """Of the picture in a fitted file, which is whole if it has one."""
    return decode(read(path.read_bytes())).shape


@pytest.mark.parametrize("count", MORE_KILLS)
def test_a_killed_fit_leaves_whole_files_and_a_state_to_go_on_from(tmp_path, count):
    command = fitting(tmp_path, 0.05, 64, 64)
    target, state = tmp_path / "out" / "one.npic", tmp_path / "out" / "one.npic.fit.safetensors"
    longest = timed(*command)
    gone_on = 0
    for kill in kills(count, longest, seed=5, since=longest / 2):  # before, libraries are loaded
        target.unlink(missing_ok=True)
        kill(helpers_command(*command), ROOT)
        only_parts(target.parent, (target.name, state.name))
        assert not target.exists() or shape(target) == (64, 64, 3)
        if state.exists():
            process = run(*command, "--resume")
            assert process.returncode == 0, process.stderr
            gone_on += 1
            assert not state.exists() and shape(target) == (64, 64, 3)
    print(f"{gone_on} states gone on from")
    assert gone_on


def test_a_fit_killed_before_its_file_is_written_still_has_its_state(tmp_path):
    """A moment that random ones hardly meet."""
    command = fitting(tmp_path, 0.01, 40, 50)
    target, state = tmp_path / "out" / "one.npic", tmp_path / "out" / "one.npic.fit.safetensors"
    first = (
        "import os, signal\nfrom helpers.codec import files\n"
        "files.write_file = lambda path, data: os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert run(*command, first=first).returncode == -signal.SIGKILL
    assert state.exists() and not target.exists()
    process = run(*command, "--resume")
    assert process.returncode == 0, process.stderr
    assert not state.exists() and shape(target) == (40, 50, 3)


@pytest.mark.parametrize("count", MORE_KILLS)
def test_a_killed_folder_of_fits_keeps_what_is_finished_and_does_the_rest(tmp_path, count):
    command, out = (*fitting(tmp_path, 0.01, 40, 50, count=3), "--workers", "1"), tmp_path / "out"
    names = {f"{number}.npic" for number in range(3)}
    longest = timed(*command)
    finished, seen = {name: 0 for name in names}, 0
    for kill in kills(count, longest, seed=6):
        if len(finished) == len(names):
            shutil.rmtree(out)
            finished = {}
        kill(helpers_command(*command, "--resume"), ROOT)
        stamps = {path.name: path.stat().st_mtime_ns for path in out.glob("*.npic")}
        assert all(stamps[name] == stamp for name, stamp in finished.items())  # not lost, not made again
        assert all(shape(out / name) == (40, 50, 3) for name in stamps)
        only_parts(out, names)
        seen += len(stamps.keys() - finished.keys())
        finished = stamps
    print(f"{seen} finished files seen, none half-written")
    (out / "0.npic").unlink(missing_ok=True)  # one at least is still to do
    finished.pop("0.npic", None)
    process = run(*command, "--resume")
    assert process.returncode == 0 and "3 of 3 files done" in process.stdout
    assert process.stdout.count(" bits a pixel") == len(names) - len(finished)
    assert all((out / name).stat().st_mtime_ns == stamp for name, stamp in finished.items())
    assert {shape(out / name) for name in names} == {(40, 50, 3)}


def test_a_killed_comparison_of_codecs_leaves_no_process_behind(shared, tmp_path):
    """Its workers wait for work that will never come."""
    command = ("rd", "--images", "samples", "--codecs", "jpeg2000", "--workers", "2")
    command = helpers_command(*command, "--csv", tmp_path / "rd.csv")
    assert killed_after(command, ROOT, 6)
    assert list(tmp_path.iterdir()) == []


# Disks


FULL = "size=16k"  # four pages: what is small fits, what is large does not
COMMANDS = {
    "evaluate": ("evaluate", "jpeg", "--images", "{0}/pictures", "--json", "{1}/record.json"),
    "rd": ("rd", "--images", "{0}/pictures", "--codecs", "jpeg", "--workers", "1", "--csv", "{1}/rd.csv"),
    "restore": ("restore", "{0}/photographs", "{1}"),
    "encode": ("encode", "{0}/pictures", "{1}"),
    "encode --fit": ("encode", "{0}/pictures/0.png", "{1}/0.npic", "--fit", "0.01"),
    "encode --fit of a folder": ("encode", "{0}/pictures", "{1}", "--fit", "0.01", "--workers", "1"),
    "decode": ("decode", "{0}/files", "{1}"),
    "train": (
        "train", "restore", "--images", "{0}/pictures", "--network", "unet", "--steps", "20", "--batch", "2",
        "--patch", "32", "--checkpoint-seconds", "0", "--out", "{1}/weights.safetensors",
    ),
    "bench": ("bench", "numpy", "--json", "{1}/record.json"),
    "ablate": ("ablate", "--workers", "1"),
    "report": ("report", "--only", "01"),
    "data": ("data", "live1", "--from", "{0}/references"),
}  # fmt: skip


def usual(*names: str) -> list:
    """All commands, those named in every run, the rest in slow ones."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]


PLACES = {"ablate": "data/runs", "report": "figures/report", "data": "data/live1"}  # in the study


def on_a_hard_disk(shared: Path, tmp_path: Path, name: str, options: str):
    """(the process, what it left where it writes) of a command that writes to a disk mounted so."""
    study = shared / "study"
    place = study / PLACES[name] if name in PLACES else tmp_path / "out"
    made = [folder for folder in (place, *place.parents) if not folder.exists()]
    place.mkdir(parents=True, exist_ok=True)
    before = untouched(shared, place)
    words = [word.format(shared, place) for word in COMMANDS[name]]
    try:
        process = on_disk(helpers_command(*words), study if name in PLACES else ROOT, place, options)
        paths = [path for path in place.rglob("*") if path.is_file()]
        left = {path.relative_to(place).as_posix(): path.read_bytes() for path in paths}
        assert untouched(shared, place) == before
    finally:
        for folder in made[:1]:
            shutil.rmtree(folder)
    return process, left


def untouched(shared: Path, place: Path) -> dict[str, str]:
    """Fingerprints of all that a command may not write to; a notebook may draw its figure."""
    found = fingerprints(shared)
    own = place.relative_to(shared).as_posix() if place.is_relative_to(shared) else None
    return {
        name: stamp for name, stamp in found.items() if not (own and own in name) and "_tiny.svg" not in name
    }


@pytest.mark.parametrize("name", usual("train", "data"))
def test_where_nothing_can_be_written_a_command_says_so_in_one_line(shared, tmp_path, name):
    needs("m")
    process, left = on_a_hard_disk(shared, tmp_path, name, "ro")
    line = one_line(process)
    assert "Read-only file system" in line and left == {}


@pytest.mark.parametrize("name", usual("encode", "encode --fit", "data"))
def test_on_a_full_disk_a_command_says_so_in_one_line_and_leaves_whole_files(shared, tmp_path, name):
    needs("m")
    tight = dict.fromkeys(("evaluate", "ablate", "rd"), "size=4k") | {"bench": "size=4k,nr_inodes=1"}
    process, left = on_a_hard_disk(shared, tmp_path, name, tight.get(name, FULL))
    line = one_line(process)
    assert "can't be written (No space left on device)" in line
    assert not [path for path in left if path.endswith((".part", ".lock"))]
    for path, content in left.items():
        if path.endswith(".npic"):
            read(content)
        elif path.endswith(".png"):
            Image.open(io.BytesIO(content)).load()
        elif path.endswith(".bmp"):
            assert content == bmp(Path(path).stem)
        elif path.endswith(".json"):
            json.loads(content)
        elif path.endswith(".csv"):
            assert len(content.splitlines()) == 1 + 5 * 9  # pictures, settings
        else:
            assert name == "report" and len(content) > 0, path
    if name in ("encode", "encode --fit of a folder", "data"):
        assert left, "what fitted is kept"


def test_a_folder_of_fits_is_refused_before_the_work_where_nothing_can_be_written(tmp_path):
    needs("m")
    first = "from helpers import processes\nprocesses.executor_of = None"  # work would end in a traceback
    command = helpers_command(*fitting(tmp_path, 0.01, 40, 50, count=2), first=first)
    assert "Read-only file system" in one_line(on_disk(command, ROOT, tmp_path / "out", "ro"))


# A cluster that is lost


class Cluster:
    """A Dask scheduler and its workers, as processes, which end with the test."""

    def __init__(self, study: Path):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.address, self.study = f"tcp://127.0.0.1:{self.port}", study
        self.processes: list[subprocess.Popen] = []
        self.scheduler = self.start("scheduler --host 127.0.0.1 --port", self.port)

    def start(self, *words) -> subprocess.Popen:
        words = " ".join(map(str, words)).split()
        self.processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "dask", *words, "--no-dashboard"],
                cwd=self.study,
                env=quiet_environment(PYTHONPATH=str(self.study)),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        )
        return self.processes[-1]

    def worker(self, there: int = 1) -> subprocess.Popen:
        """A new one, when there are so many."""
        started = self.start("worker", self.address, "--nthreads 1 --no-nanny --host 127.0.0.1")
        from distributed import Client

        with Client(self.address, timeout=60) as client:
            client.wait_for_workers(there, timeout=60)
        return started

    def run(self, *arguments, patience: int = 60) -> subprocess.Popen:
        """A command that gives its work to the cluster, and waits so many seconds for a worker."""
        first = f"from helpers import processes\nprocesses.PATIENCE, processes.LOOK_EVERY = {patience}, 0.5"
        self.processes.append(
            subprocess.Popen(
                helpers_command(*arguments, "--cluster", self.address, first=first),
                cwd=self.study,
                env=quiet_environment(),
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        )
        return self.processes[-1]

    def end(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@pytest.fixture
def cluster(study):
    pytest.importorskip("distributed", reason="distributed is not installed")
    cluster = Cluster(study)
    yield cluster
    cluster.end()


def sweeping(cluster: Cluster, patience: int) -> subprocess.Popen:
    """A sweep on the cluster that has finished one run at least."""
    process = cluster.run("ablate", patience=patience)
    while process.poll() is None and not finished(cluster.study):
        time.sleep(0.05)
    return process


def finished(study: Path) -> list[Path]:
    return list((study / "data" / "runs").glob("*.json"))


@pytest.mark.slow
def test_a_sweep_whose_workers_are_all_lost_says_that_it_waits_and_then_gives_up(cluster):
    worker = cluster.worker()
    process = sweeping(cluster, patience=4)
    worker.kill()
    out, complaints = process.communicate(timeout=120)
    note, line = complaints.splitlines()
    assert process.returncode == 2
    assert note == "the cluster has no worker; waiting 4 s for one"
    assert line == "ablate: the cluster has had no worker for 4 s; the same command goes on"
    kept = finished(cluster.study)
    assert kept and all(told(path)["scenes"] for path in kept)


@pytest.mark.long
def test_a_worker_that_comes_in_time_takes_over_from_the_last_that_was_lost(cluster):
    worker = cluster.worker()
    process = sweeping(cluster, patience=120)
    worker.kill()
    assert "waiting 120 s for one" in process.stderr.readline()
    cluster.worker()
    out, complaints = process.communicate(timeout=300)
    assert process.returncode == 0 and complaints == "", complaints
    assert len(finished(cluster.study)) == len(grid("quick"))
    for started in cluster.processes[1:]:
        started.kill()
    shutil.rmtree(cluster.study / "data" / "runs")
    process = sweeping(cluster, patience=60)
    assert "the scheduler has no workers" in process.communicate(timeout=120)[1]


@pytest.mark.long
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_sweep_whose_scheduler_is_lost_ends_with_a_clear_line(cluster, how):
    cluster.worker()
    process = sweeping(cluster, patience=4)
    cluster.scheduler.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    start = time.monotonic()
    _, complaints = process.communicate(timeout=240)
    print(f"ended {time.monotonic() - start:.0f} s after its scheduler was {how}")
    assert process.returncode == 2
    line = complaints.splitlines()[-1]
    assert line.startswith("ablate: the cluster ") and line.endswith("; the same command goes on")
    assert len(complaints.splitlines()) == (1 if how == "killed" else 2), complaints
    assert all(told(path)["scenes"] for path in finished(cluster.study))


def fits(cluster: Cluster, folder: Path, minutes: float, count: int, patience: int = 60) -> subprocess.Popen:
    """A folder of pictures being fitted on the cluster, one of which is done at least."""
    process = cluster.run(*fitting(folder, minutes, 40, 50, count=count), patience=patience)
    while process.poll() is None and not list((folder / "out").glob("*.npic")):
        time.sleep(0.05)
    return process


@pytest.mark.slow
def test_a_folder_of_fits_goes_through_a_cluster(cluster, tmp_path):
    cluster.worker()
    out, complaints = fits(cluster, tmp_path, 0.01, count=2).communicate(timeout=120)
    assert complaints == "" and "2 of 2 files done" in out
    assert [shape(path) for path in (tmp_path / "out").iterdir()] == [(40, 50, 3)] * 2


@pytest.mark.long
def test_a_folder_of_fits_that_loses_one_of_two_workers_is_done_by_the_other(cluster, tmp_path):
    worker = cluster.worker()
    cluster.worker(there=2)
    process = fits(cluster, tmp_path, 0.02, count=4)
    worker.kill()
    assert process.poll() is None
    out, complaints = process.communicate(timeout=120)
    assert process.returncode == 0 and complaints == "" and "4 of 4 files done" in out
    assert [shape(path) for path in (tmp_path / "out").iterdir()] == [(40, 50, 3)] * 4


@pytest.mark.long
def test_a_folder_of_fits_whose_workers_are_all_lost_gives_up_and_keeps_what_is_done(cluster, tmp_path):
    worker = cluster.worker()
    process = fits(cluster, tmp_path, 0.02, count=3, patience=4)
    worker.kill()
    _, complaints = process.communicate(timeout=120)
    note, line = complaints.splitlines()
    assert process.returncode == 2
    assert note == "the cluster has no worker; waiting 4 s for one"
    assert line == "encode: the cluster has had no worker for 4 s; --resume goes on"
    kept = list((tmp_path / "out").iterdir())
    assert kept and [shape(path) for path in kept] == [(40, 50, 3)] * len(kept)
