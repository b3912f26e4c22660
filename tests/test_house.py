"""The house: lint, the size of its rooms, what each dependency is for."""

import subprocess
import sys

from helpers import ROOT


def test_ruff_finds_nothing_notebooks_included():
    for command in (["check"], ["format", "--check"]):
        found = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True
        )
        assert found.returncode == 0, found.stdout


def test_each_module_is_one_sitting():
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "helpers").rglob("*.py")}
    assert len(lengths) > 10 and max(lengths.values()) <= 350 and sum(lengths.values()) <= 7500


def test_each_dependency_has_bounds_and_its_reason():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    for line in packages:
        requirement, _, reason = line.partition("#")
        assert reason.strip() and ("==" in requirement or ("<" in requirement and ">=" in requirement)), line


def test_nothing_is_unpickled():
    words = ("pickle", "torch.load", "allow_pickle")
    for path in (ROOT / "helpers").rglob("*.py"):
        assert not any(word in path.read_text() for word in words), path
