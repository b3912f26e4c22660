"""The commands: their output, their exit status, and one line for each mistake."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from in_process import run
from PIL import Image

from helpers import ROOT


def as_process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "helpers", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def evaluate(folder, *arguments, how=run):
    return how("evaluate", "jpeg", "--images", folder, "--quality", "10", "40", *arguments)


def complaints(process):
    """stderr without the progress bar, which is not drawn into a pipe."""
    return process.stderr.splitlines()


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "colour.png")
    Image.fromarray(noise[..., 0]).save(folder / "grey.png")
    return folder


def test_evaluate_prints_and_writes_its_record(folder, tmp_path):
    process = evaluate(folder, "--json", tmp_path / "record.json", how=as_process)
    assert process.returncode == 0 and process.stderr == ""
    assert process.stdout.startswith("jpeg on photographs, 2 images")
    record = json.loads((tmp_path / "record.json").read_text())
    assert {"task", "space", "set", "weights", "parameters", "macs_per_pixel", "rows"} <= record.keys()
    assert [(row["method"], row["reference"], row["quality"]) for row in record["rows"]] == [
        ("jpeg", "original", 10),
        ("jpeg", "original", 40),
    ]
    for row in record["rows"]:
        assert {"psnr", "ssim", "psnr_b", "seconds"} <= row.keys()
        assert [image["name"] for image in row["images"]] == ["colour", "grey"]
        assert row["psnr"] == pytest.approx(np.mean([image["psnr"] for image in row["images"]]))


def test_bad_files_are_named_one_line_each_and_the_rest_is_done(folder, tmp_path):
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "colour.png").read_bytes()[:500])
    Image.new("L", (1, 1)).save(folder / "tiny.png")
    process = evaluate(folder, "--json", tmp_path / "record.json")
    assert process.returncode == 2
    assert sorted(Path(line.split(": ")[0]).name for line in complaints(process)) == [
        "cut.png", "empty.png", "text.jpg", "tiny.png",
    ]  # fmt: skip
    record = json.loads((tmp_path / "record.json").read_text())
    assert [image["name"] for image in record["rows"][0]["images"]] == ["colour", "grey"]


@pytest.mark.parametrize("bad", ["missing", "empty", "file"])
def test_a_folder_that_is_none_is_named(tmp_path, bad):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    process = evaluate(tmp_path / bad)
    assert process.returncode == 2 and process.stdout == ""
    assert len(complaints(process)) == 1 and bad in process.stderr


@pytest.mark.parametrize("target", ["no/such/folder/record.json", "."])
def test_a_record_that_cannot_be_written_is_named(folder, tmp_path, target):
    process = evaluate(folder, "--json", tmp_path / target)
    assert process.returncode == 2
    assert len(complaints(process)) == 1 and "can't be written" in process.stderr
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("quality", ["0", "101", "ten", "-5"])
def test_a_quality_outside_the_scale_is_refused(folder, quality):
    process = run("evaluate", "jpeg", "--images", folder, "--quality", quality)
    assert process.returncode == 2 and "Traceback" not in process.stderr


def test_a_live1_dir_that_is_none_is_named(monkeypatch):
    monkeypatch.setenv("LIVE1_DIR", "/no/such/folder")
    process = run("evaluate", "jpeg", "--images", "live1")
    assert process.returncode == 2
    assert complaints(process) == ["LIVE1_DIR: /no/such/folder is not a folder"]


def test_help_is_there_without_loading_the_libraries():
    code = (
        "import sys; from helpers.__main__ import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "evaluate" in process.stdout and "report" in process.stdout
    assert not {"torch", "numpy", "matplotlib", "pandas"} & set(process.stdout.split())
