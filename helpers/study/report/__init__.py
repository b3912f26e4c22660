"""The report: notebooks executed headlessly (`execute`), then rendered to an offline site (`site`)."""

import os
import time
from pathlib import Path

import nbformat

from helpers.data import live1_folder
from helpers.files import FIGURES, ROOT, StudyError, check_writable, make_folder, write_file
from helpers.study.report.execute import execute

NOTEBOOKS = ROOT / "notebooks"
REPORT = FIGURES / "report"


def build(mode: str = "quick", only: list[str] | None = None) -> Path:
    """Path of figures/report/index.html, after executing all notebooks or those whose numbers are in `only`.

    Prints a line a notebook. Executed notebooks are kept in figures/report/executed, and the site shows
    whatever lies there. Raises StudyError with notebook, cell and traceback where one fails: what was
    rendered before stays; for an unknown number; and where the report can't be written, before a notebook
    runs if its folder can't be made.
    """
    known = {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    wanted = [number.zfill(2) for number in only or known]
    if unknown := [number for number in wanted if number not in known]:
        raise StudyError(f"notebook {unknown[0]}: there is none; known are {', '.join(known)}")
    paths = [path for number, path in known.items() if number in wanted]
    os.environ["STUDY_MODE"] = mode  # the kernels inherit it
    folder = live1_folder()
    if folder:
        os.environ["LIVE1_DIR"] = str(folder.resolve())  # kernels run in notebooks/
        print(f"LIVE1 found in {folder}")
    else:
        print("LIVE1 is not here: the notebooks run on the samples inside scikit-image.")
        print("For LIVE1: python -m helpers data live1")
    executed = REPORT / "executed"
    make_folder(executed)
    check_writable(executed / paths[0].name)
    try:
        for number, path in enumerate(paths, start=1):
            print(f"[{number}/{len(paths)}] {path.name} ({mode}) ...", end=" ", flush=True)
            start = time.perf_counter()
            notebook = execute(path)
            write_file(executed / path.name, nbformat.writes(notebook).encode())
            print(f"{time.perf_counter() - start:.0f} s", flush=True)
    finally:
        from helpers.study.report.site import render_site  # it loads torch, which no notebook waits for

        index = render_site(executed, REPORT)
    return index
