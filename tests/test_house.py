"""The house: lint, the size of its rooms, what each dependency is for."""

import re
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
    assert len(lengths) > 10 and max(lengths.values()) <= 350 and sum(lengths.values()) <= 9800


def test_the_readme_shows_a_newcomer_everything():
    text = (ROOT / "README.md").read_text()
    rooms = [path for path in (ROOT / "helpers").glob("[!_]*") if path.suffix == ".py" or path.is_dir()]
    notebooks = (ROOT / "notebooks").glob("[0-9]*.ipynb")
    for name in [f"{path.name}/" if path.is_dir() else path.name for path in rooms]:
        assert f"/{name}`" in text or f"`{name}`" in text, f"the map of the house lacks {name}"
    for name in [f"notebooks/{path.name})" for path in notebooks] + ["](LICENSE)", "](data/README.md)"]:
        assert name in text, f"no link to {name}"
    headings = (
        "Start",
        "LIVE1",
        "Restore your own photographs",
        "Compress your own photographs",
        "Train",
        "Cite",
    )
    assert all(f"\n## {heading}\n" in text for heading in headings)
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert [blocks[0].split("-m ")[-1], blocks[1].split("-m ")[-1]] == ["helpers report\n", "pytest\n"]
    assert all((ROOT / name).is_file() for name in re.findall(r"\]\(((?!http)[^)#]+)\)", text))


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
