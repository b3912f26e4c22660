"""What is no file, places without permission, names that are no text, budgets of nothing: one line each."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands_in_turn import MOST_MEMORY, run
from hostile_pictures import PROGRAM, encoded, put_special, whole
from PIL import EpsImagePlugin, Image

from helpers import ROOT, StudyError
from helpers.__main__ import main
from helpers.codec.trained import pictures
from helpers.data import load_image, open_set

# Root, but bound by permissions
UNPRIVILEGED = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


def test_what_is_no_file_is_told_by_every_command_that_reads_one(tmp_path):
    pipe, device, loop, folder = (tmp_path / f"{name}.png" for name in ("pipe", "device", "loop", "folder"))
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    loop.symlink_to(loop)
    folder.mkdir()
    good, weights, out = tmp_path / "good", tmp_path / "out.safetensors", tmp_path / "out.png"
    good.mkdir()
    (good / "good.png").write_bytes(whole(".png"))
    npic = tmp_path / "out.npic"
    for earlier in (out, npic):  # earlier results must not be looked at before the source
        earlier.write_bytes(b"what was there")
    commands, named = [], []
    for path in (pipe, device, loop, folder):
        mine = [
            ["info", path],
            ["evaluate", "restore", "--images", good, "--weights", path],
            ["train", "restore", "--images", good, "--out", weights, "--init", path, "--patch", 16],
        ]
        if path != folder:
            mine += [["encode", path, npic], ["decode", path, out], ["restore", path, out]]
        commands += mine
        named += [path] * len(mine)
    for path, outcome in zip(named, run(*commands), strict=True):
        assert outcome.status == 2 and len(outcome.complaints) == 1 and outcome.said == [], outcome
        assert outcome.complaints[0].startswith(f"{path}: "), outcome
        assert outcome.peak < MOST_MEMORY
    assert out.read_bytes() == b"what was there"


@pytest.mark.slow
def test_a_folder_of_coded_files_may_hold_what_is_none(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    put_special(folder, elsewhere)
    for path in list(folder.glob("*.png")):
        path.rename(path.with_suffix(".npic"))
    (folder / "-good\nfile.npic").write_bytes(pictures.encode(np.zeros((9, 12), np.uint8), 30)[0])
    (outcome,) = run(["decode", folder, tmp_path / "out"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["-good\nfile.png"]
    assert outcome.status == 2 and outcome.peak < MOST_MEMORY
    names = sorted(Path(line.split(": ")[0]).name for line in outcome.complaints)
    assert names == ["broken.npic", "link.npic", "loop a.npic", "loop b.npic", "pipe.npic", "zero.npic"]


def told(capfd, *words) -> tuple[int, list[str], list[str]]:
    """Exit status, lines on stdout and on stderr of a command in this process."""
    status = main([str(word) for word in words])
    captured = capfd.readouterr()
    return status, captured.out.splitlines(), captured.err.splitlines()


@pytest.mark.parametrize("command", ["encode", "decode", "restore"])
def test_a_file_is_never_written_over_itself(tmp_path, capfd, command):
    path = tmp_path / "x.png"
    path.write_bytes(whole(".jpg"))
    if command == "decode":
        path.write_bytes(pictures.encode(np.zeros((9, 12), np.uint8), 30)[0])
    before = path.read_bytes()
    (tmp_path / "same.png").symlink_to(path)
    for target in (path, tmp_path / "same.png"):
        status, _, complaints = told(capfd, command, path, target)
        assert status == 2 and len(complaints) == 1 and path.read_bytes() == before


def test_no_two_files_of_a_folder_get_one_name(tmp_path):
    for name in ("a.png", "a.jpg", "a.png.gif", "b.png", "b", "c.c.png", "c.c"):
        (tmp_path / name).write_bytes(whole(".png"))
    scenes = open_set(tmp_path).scenes
    assert len({scene.name for scene in scenes}) == len(scenes) == 7


@pytest.mark.parametrize("command", ["train", "encode", pytest.param("rd", marks=pytest.mark.long)])
def test_names_that_are_no_text_pass(tmp_path, capfd, command):
    name, folder = os.fsdecode(b"latin-\xe9 <b>&\n.png"), tmp_path / "in"
    folder.mkdir()
    (folder / name).write_bytes(whole(".png"))
    commands = {
        "train": [["train", "restore", "--images", folder, "--out", tmp_path / "w.safetensors", "--steps", 1,
                   "--batch", 1, "--patch", 16, "--network", "plain"]],
        "encode": [["encode", folder / name, tmp_path / f"{name}.npic"], ["info", tmp_path / f"{name}.npic"]],
        "rd": [["rd", "--images", folder, "--csv", tmp_path / "x.csv", "--codecs", "jpeg", "--workers", 1]],
    }  # fmt: skip
    for words in commands[command]:
        status, said, complaints = told(capfd, *words)
        assert (status, complaints) == (0, []) and (command != "encode" or len(said) == 1)


@pytest.mark.parametrize("budget", [0, -5, 1])
def test_a_budget_of_no_bytes_is_one_line(tmp_path, capfd, budget):
    (tmp_path / "x.png").write_bytes(whole(".png"))
    status, said, complaints = told(
        capfd, "encode", tmp_path / "x.png", tmp_path / "x.npic", "--bytes", budget
    )
    assert status == 2 and said == [] and len(complaints) == 1 and "can't be reached" in complaints[0]


def test_postscript_is_a_program_and_is_not_run(tmp_path, monkeypatch):
    """Pillow would give it to Ghostscript, whatever the file's name; this one would never end."""
    (path := tmp_path / "x.png").write_bytes(PROGRAM)
    called = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments: called.append(arguments))
    with pytest.raises(StudyError, match="PostScript"):
        load_image(path)
    assert not called


def test_deep_grey_takes_no_more_memory_than_its_pixels(tmp_path):
    """36 megapixels of 16 bits in 100 kilobytes: as float64 they would take ten times the room."""
    path = tmp_path / "deep.png"
    path.write_bytes(encoded(np.zeros((6000, 6000), np.uint16), "PNG"))
    script = (
        "import resource, sys; from helpers.data import load_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert load_image(sys.argv[1]).shape == (6000, 6000)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    process = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True)
    assert int(process.stdout) * (1024 if sys.platform == "linux" else 1) < 300e6, process.stderr


# Without permission


@functools.cache
def bound_by_permissions() -> list[str]:
    """What to write before a command so that permissions hold for it; root has none to heed."""
    if os.geteuid():
        return []
    if not shutil.which("setpriv") or subprocess.run([*UNPRIVILEGED, "true"], capture_output=True).returncode:
        pytest.skip("root reads everything, and there is no `setpriv` here to bind it")
    return UNPRIVILEGED


def test_files_and_folders_without_permission_are_told_and_the_rest_is_done(tmp_path):
    first = bound_by_permissions()
    folder, locked = tmp_path / "in", tmp_path / "locked"
    folder.mkdir()
    locked.mkdir()
    for path in (folder / "good.jpg", folder / "secret.jpg", locked / "inside.jpg"):
        path.write_bytes(whole(".jpg"))
    (folder / "into.jpg").symlink_to(locked / "inside.jpg")
    (folder / "into without ending").symlink_to(locked / "inside.jpg")
    (tmp_path / "out").mkdir()
    (folder / "secret.jpg").chmod(0)
    (tmp_path / "out").chmod(0o555)
    locked.chmod(0)
    try:
        everything = run(
            ["evaluate", "jpeg", "--images", folder, "--quality", 40],
            ["encode", folder, tmp_path / "encoded"],
            ["restore", folder, tmp_path / "restored"],
            ["encode", locked, tmp_path / "never"],
            ["encode", folder / "secret.jpg", tmp_path / "never.npic"],
            ["restore", folder / "good.jpg", tmp_path / "out" / "good.png"],
            ["info", folder / "secret.jpg"],
            first=first,
        )
    finally:
        locked.chmod(0o755)
    for outcome in everything[:3]:
        names = sorted(Path(line.split(": ")[0]).name for line in outcome.complaints)
        assert outcome.status == 2 and names == ["into.jpg", "secret.jpg"], outcome
        assert all("Permission denied" in line for line in outcome.complaints)
    for outcome, name in zip(everything[3:], ("locked", "secret.jpg", "good.png", "secret.jpg"), strict=True):
        (line,) = outcome.complaints
        assert outcome.status == 2 and line.split(": ")[0].endswith(name) and "Permission denied" in line
    assert [path.name for path in (tmp_path / "encoded").iterdir()] == ["good.npic"]
    assert [path.name for path in (tmp_path / "restored").iterdir()] == ["good.png"]
    with pytest.raises(StudyError):
        open_set(tmp_path / "never")


def test_a_picture_is_not_replaced_by_a_coded_file(tmp_path, capfd):
    for name in ("photo.png", "mine.png"):
        Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / name)
    before = (tmp_path / "mine.png").read_bytes()
    status, _, complaints = told(capfd, "encode", tmp_path / "photo.png", tmp_path / "mine.png")
    assert status == 2 and complaints[0].endswith("mine.png: the ending must be one of .npic")
    assert (tmp_path / "mine.png").read_bytes() == before
