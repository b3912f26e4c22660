"""Many pictures, many runs, and two processes at once on one place: progress, memory, nothing spoilt."""

import json
import re
import subprocess
import time
from pathlib import Path

import in_process
import numpy as np
import pytest
from PIL import Image
from sandbox import checkpointed, helpers_command, on_a_terminal, quiet_environment, tiny_grid
from skimage import data as photographs
from study_copy import copy_study
from test_faults import small_study

from helpers import ROOT
from helpers.codec.container import read
from helpers.models import ConvolutionalNetwork
from helpers.weights import load_network

FEW = 20
FOLDERS = [
    ("encode", 40),
    pytest.param("evaluate", 100, marks=pytest.mark.slow),
    pytest.param("encode", 1000, marks=pytest.mark.long),
    pytest.param("evaluate", 1000, marks=pytest.mark.long),
]
RUNS = [pytest.param(10, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.long)]


def photographs_in(folder: Path, count: int) -> Path:
    """So many pieces of a photograph, 96 x 96 pixels."""
    folder.mkdir()
    whole, chance = photographs.astronaut(), np.random.default_rng(0)
    for number in range(count):
        top, left = chance.integers(0, 416, 2)
        piece = whole[top : top + 96, left : left + 96]
        Image.fromarray(piece).save(folder / f"{number:04d}.png", compress_level=1)
    return folder


def told_progress(screen: str, count: int) -> bool:
    """Whether the progress bar stood somewhere between, and at the end."""
    stood = {int(number) for number in re.findall(rf"(\d+)/{count}\b", screen)}
    return count in stood and any(0 < number < count for number in stood)


@pytest.mark.parametrize(("command", "count"), FOLDERS)
def test_a_folder_of_many_pictures_shows_progress_and_takes_the_memory_of_a_few(tmp_path, command, count):
    def cost(pictures: int):
        folder, out = photographs_in(tmp_path / f"in{pictures}", pictures), tmp_path / f"out{pictures}"
        if command == "encode":
            found = on_a_terminal(("encode", folder, out), ROOT)
            assert len([read(path.read_bytes()) for path in out.iterdir()]) == pictures
        else:
            words = ("evaluate", "restore", "--images", folder, "--quality", 10, "--json", out)
            found = on_a_terminal(words, ROOT)
            assert len(json.loads(out.read_text())["rows"][0]["images"]) == pictures
        assert found.status == 0, found.screen
        return found

    few, many = cost(FEW), cost(count)
    print(f"\n{command}: {many.said(count, 'pictures')}; {FEW} of them: peak {few.peak / 1e6:.0f} MB")
    assert told_progress(many.screen, count), many.screen[-500:]
    assert many.peak < few.peak + 100e6


@pytest.mark.parametrize("count", RUNS)
def test_a_sweep_of_many_runs_shows_progress_and_keeps_its_memory(tmp_path, count):
    study = copy_study(tmp_path / "study")
    found = on_a_terminal(("ablate", "--workers", 1), study, tiny_grid(count))
    assert found.status == 0, found.screen
    assert told_progress(found.screen, count), found.screen[-500:]
    assert f"{count} runs done in" in found.screen and " 0 failed" in found.screen
    assert len(list((study / "data" / "runs").glob("*.json"))) == count
    print(f"\nablate: {found.said(count, 'runs')}")
    assert found.peak < 700e6  # of the process that waits and writes


# Two at once


def both(
    first: list[str], second: list[str], cwd: Path, apart: float = 0
) -> list[subprocess.CompletedProcess]:
    started = []
    for command in (first, second):
        started.append(
            subprocess.Popen(
                command,
                cwd=cwd,
                env=quiet_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )  # fmt: skip
        )
        time.sleep(apart)
    found = []
    for process in started:
        out, complaints = process.communicate(timeout=300)
        found.append(subprocess.CompletedProcess(process.args, process.returncode, out, complaints))
    return found


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


@pytest.mark.slow
def test_two_that_encode_into_one_folder_leave_right_files(tmp_path):
    folder = photographs_in(tmp_path / "in", 30)
    command = helpers_command("encode", folder, tmp_path / "out")
    for process in both(command, command, ROOT):
        assert process.returncode == 0 and "30 of 30 files done" in process.stdout, process.stderr
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == [f"{number:04d}.npic" for number in range(30)]
    assert all(read(path.read_bytes()).width == 96 for path in files)


@pytest.mark.slow
def test_two_sweeps_at_once_leave_right_records_and_tables(tmp_path):
    study = copy_study(tmp_path / "study")
    command = helpers_command("ablate", "--mode", "full", "--workers", 1, first=tiny_grid(3))
    for process in both(command, command, study):
        assert process.returncode == 0, process.stderr
    files = list((study / "data" / "runs").iterdir())
    assert len(files) == 3 and all(json.loads(path.read_text())["scenes"] for path in files)
    assert not hidden(study / "data")
    for name in ("runs", "scenes", "curves"):
        table = (study / "data" / "results" / f"ablation_{name}.csv").read_text()
        assert all(path.stem in table for path in files)


@pytest.mark.slow
def test_of_two_trainings_into_one_file_the_second_refuses(tmp_path):
    folder = photographs_in(tmp_path / "in", 3)
    words = ("train", "restore", "--images", folder, "--network", "unet", "--batch", 2, "--patch", 32)
    words += ("--checkpoint-seconds", 0, "--out", tmp_path / "w.safetensors")
    long = subprocess.Popen(
        helpers_command(*words, "--steps", 100_000),
        cwd=ROOT, env=quiet_environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    checkpoint = tmp_path / "w.checkpoint.safetensors"
    try:
        while long.poll() is None and not checkpoint.exists():
            time.sleep(0.02)
        for more in ((), ("--resume",)):
            second = in_process.run(*words, "--steps", 20, *more)
            assert second.returncode == 2 and second.stderr.count("\n") == 1, second.stderr
            assert "another process trains w.safetensors; let it finish or end it" in second.stderr
        assert long.poll() is None
    finally:
        long.kill()
        long.wait()
    assert checkpointed(checkpoint)["step"] >= 10
    checkpoint.unlink()  # a new training may begin: the lock went with its process
    assert in_process.run(*words, "--steps", 10).returncode == 0
    assert load_network(tmp_path / "w.safetensors", ConvolutionalNetwork, "restore", "y")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "w.json", "w.safetensors"]


@pytest.mark.long
def test_two_reports_at_once_leave_whole_pages(tmp_path):
    study = small_study(tmp_path / "study")
    command = helpers_command("report")
    for process in both(command, command, study):
        assert process.returncode == 0, process.stderr
    report = study / "figures" / "report"
    assert not hidden(report) and not list(report.rglob("*.part"))
    for name in ("01_tiny.html", "02_tiny.html", "index.html"):
        assert (report / name).read_text().rstrip().endswith("</html>")
