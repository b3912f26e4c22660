"""The notebooks as files: clean, alike in their first cell, within the measures of a sitting."""

import re

import nbformat
import pytest

from helpers import ROOT

NOTEBOOKS = {
    path.stem: nbformat.read(path, as_version=4) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}


@pytest.fixture(params=NOTEBOOKS)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return NOTEBOOKS[request.param]


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def words(notebook):
    return sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")


def test_there_are_notebooks():
    assert {
        "01_exploration",
        "02_preprocessing",
        "03_numpy_network",
        "04_pytorch_cnns",
        "05_learned_codec",
        "06_ablations",
        "07_analysis",
        "08_fitted_codec",
    } <= NOTEBOOKS.keys()


def test_git_holds_no_outputs(notebook):
    assert all(not cell.outputs and cell.execution_count is None for cell in code(notebook))
    assert "widgets" not in notebook.metadata


def test_the_first_code_cell_is_the_same_everywhere(notebook):
    assert code(notebook)[0].source == code(NOTEBOOKS["01_exploration"])[0].source


def test_a_notebook_keeps_to_the_measures(notebook):
    assert 35 <= len(notebook.cells) <= 60
    assert 1200 <= words(notebook) <= 2500
    assert max(len(cell.source.splitlines()) for cell in code(notebook)) <= 25


def test_a_notebook_opens_with_its_promises_and_closes_with_the_answers(notebook):
    opening, closing = notebook.cells[0].source, code(notebook)[-1].source
    for heading in (
        "# ",
        "**What you will do.**",
        "**What you will be able to do.**",
        "**What you need.**",
        "**Time.**",
    ):
        assert heading in opening
    promises = [line for line in opening.splitlines() if line[:1].isdigit()]
    answers = [line for line in closing.splitlines() if line[:1].isdigit()]
    assert len(promises) == len(answers) >= 3


def test_every_exercise_states_difficulty_and_time_and_has_a_folded_solution(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    exercises = re.findall(r"^\*\*(?:Exercise )?\d+\. .*", text, re.MULTILINE)
    for exercise in exercises:
        assert re.search(r"\*\* \((easy|medium|hard), \d+ minutes(, no check)?\)", exercise), exercise
    assert len(exercises) == text.count("<details><summary>Solution</summary>") >= 2


def test_every_prediction_is_asked_before_it_is_revealed(notebook):
    source = "\n".join(cell.source for cell in code(notebook))
    calls = re.findall(r"checks\.(predict|reveal)\(\s*\"([^\"]+)\"", source)
    asked = [key for call, key in calls if call == "predict"]
    assert len(asked) >= 2 and sorted(asked) == sorted(key for call, key in calls if call == "reveal")
    assert all(calls.index(("predict", key)) < calls.index(("reveal", key)) for key in asked)


def test_a_notebook_is_a_python_3_notebook_with_lasting_cell_names(notebook):
    assert notebook.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
