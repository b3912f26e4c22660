"""The house: imports point down through the layers, modules stay small, lint, what each dependency is for."""

import ast
import re
import shutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from helpers import ROOT

# Modules and packages of `helpers`, from the ground up: each imports from layers below its own alone.
LAYERS = (
    ("files", "config", "jpeg", "cells"),
    ("models", "metrics", "data", "numpy_net", "weights", "plots", "records", "processes"),
    ("codec", "restoring", "compare", "checks"),
    ("training",),
    ("experiments",),
    ("study",),
    ("__main__",),
)
TEACHING_CORE = ("jpeg", "metrics", "data", "models", "numpy_net", "plots", "compare", "checks")
MOST_LINES = {"a module": 350, "the teaching core": 2700, "helpers": 9000}


def modules_of(package: Path) -> dict[str, Path]:
    """The files of a copy of `helpers` by the names that they are imported by."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(modules: dict[str, Path]) -> dict[str, set[str]]:
    """What each module imports of the others, anywhere in it; names that `helpers` hands on are files'."""
    found = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                wanted = [(f"{node.module}.{alias.name}", node.module) for alias in node.names]
            elif isinstance(node, ast.Import):
                wanted = [(alias.name, alias.name) for alias in node.names]
            else:
                continue
            for inner, outer in wanted:
                target = inner if inner in modules else outer
                target = "helpers.files" if target == "helpers" else target
                if target in modules and target != name:
                    found[name].add(target)
    return found


def complaints(package: Path) -> list[str]:
    """What is wrong with the plan of a copy of `helpers`, a line each, with names."""
    modules = modules_of(package)
    imports = imports_of(modules)
    layer_of = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    lines = {name: len(path.read_text().splitlines()) for name, path in modules.items()}
    room_of = {name: name.split(".")[1] for name in modules if name != "helpers"}
    found = [f"{name} is in no layer" for name, room in room_of.items() if room not in layer_of]
    if found:
        return found
    for name, room in room_of.items():
        for target in sorted(imports[name]):
            if room_of[target] != room and layer_of[room_of[target]] >= layer_of[room]:
                found.append(f"{name} imports {target}, which is not below it")
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found.append(f"import cycle: {' -> '.join(error.args[1])}")
    found += [f"{name} has {n} lines" for name, n in lines.items() if n > MOST_LINES["a module"]]
    core = sum(n for name, n in lines.items() if room_of.get(name) in TEACHING_CORE)
    for what, count in (("the teaching core", core), ("helpers", sum(lines.values()))):
        if count > MOST_LINES[what]:
            found.append(f"{what} has {count} lines, more than {MOST_LINES[what]}")
    return found


def test_imports_point_down_and_modules_stay_small():
    assert len(modules_of(ROOT / "helpers")) > 50
    assert complaints(ROOT / "helpers") == []


LATE = "\n\ndef late():\n    from helpers.{0} import {1}\n\n    return {1}\n"


@pytest.mark.parametrize(
    ("module", "added", "complaint"),
    [
        ("metrics.py", LATE.format("study", "findings"), r"helpers\.metrics imports helpers\.study"),
        ("data/sets.py", LATE.format("plots", "say"), r"helpers\.data\.sets imports helpers\.plots"),
        ("data/loading.py", LATE.format("data.sets", "split"), r"import cycle: .*helpers\.data\.sets"),
        ("jpeg.py", "\n" * 351, r"helpers\.jpeg has \d+ lines"),
        ("cellar.py", '"""A module that nobody planned."""\n', r"helpers\.cellar is in no layer"),
    ],
)
def test_what_breaks_the_plan_is_named(tmp_path, module, added, complaint):
    package = shutil.copytree(ROOT / "helpers", tmp_path / "helpers")
    with (package / module).open("a") as file:
        file.write(added)
    assert any(re.match(complaint, line) for line in complaints(package)), complaints(package)


@pytest.mark.parametrize(("room", "what"), [("checks", "the teaching core"), ("study", "helpers")])
def test_too_many_lines_in_all_are_named(tmp_path, room, what):
    package = shutil.copytree(ROOT / "helpers", tmp_path / "helpers")
    if room == "checks":
        (package / "checks.py").unlink()
    (package / room).mkdir(exist_ok=True)
    for number in range(MOST_LINES[what] // 300):
        (package / room / f"more_{number}.py").write_text("\n" * 300)
    assert any(line.startswith(f"{what} has ") for line in complaints(package))


def test_ruff_finds_nothing_notebooks_included():
    for command in (["check"], ["format", "--check"]):
        found = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True
        )
        assert found.returncode == 0, found.stdout


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
