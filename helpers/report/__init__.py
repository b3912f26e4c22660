"""The report: notebooks executed headlessly (`execute`), then rendered to an offline site (`site`)."""

import os
import time
from pathlib import Path

import nbformat

from helpers import FIGURES, ROOT, StudyError
from helpers.data import live1_folder
from helpers.records import check_place, make_folder, write_file
from helpers.report.execute import execute
from helpers.report.site import render_site

NOTEBOOKS = ROOT / "notebooks"
REPORT = FIGURES / "report"


def build(mode: str = "quick", only: list[str] | None = None) -> Path:
    """Path of figures/report/index.html, after executing all notebooks or those whose numbers are in `only`.

    Prints a line a notebook. Executed notebooks are kept in figures/report/executed, and the site shows
    whatever lies there: where one fails, StudyError carries notebook, cell and traceback, and what was
    rendered before stays. Raises StudyError where the report can't be written, before a notebook runs if
    its folder can't be made.
    """
    paths = chosen_notebooks(only)
    os.environ["STUDY_MODE"] = mode  # the kernels inherit it
    folder = live1_folder()
    if folder is None:
        print("LIVE1 is not here: the notebooks run on the samples inside scikit-image.")
        print("For LIVE1: python -m helpers data live1")
    else:
        os.environ["LIVE1_DIR"] = str(folder.resolve())  # kernels run in notebooks/
        print(f"LIVE1 found in {folder}")
    executed = REPORT / "executed"
    make_folder(executed)
    check_place(executed / paths[0].name)
    try:
        for number, path in enumerate(paths, start=1):
            print(f"[{number}/{len(paths)}] {path.name} ({mode}) ...", end=" ", flush=True)
            start = time.perf_counter()
            notebook = execute(path)
            write_file(executed / path.name, nbformat.writes(notebook).encode())
            print(f"{time.perf_counter() - start:.0f} s", flush=True)
    finally:
        index = render_site(executed, REPORT)
    return index


def chosen_notebooks(only: list[str] | None) -> list[Path]:
    """The notebooks in order, or those with the given numbers. Raises StudyError for an unknown number."""
    paths = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    known = [path.name[:2] for path in paths]
    wanted = [number.zfill(2) for number in only or known]
    for number in wanted:
        if number not in known:
            raise StudyError(f"notebook {number}: there is none; known are {', '.join(known)}")
    return [path for path in paths if path.name[:2] in wanted]
