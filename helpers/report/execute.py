"""One notebook executed headlessly; errors in cells and inside widgets' callbacks are found."""

import re
import tempfile
from pathlib import Path
from typing import TextIO

import nbformat
from nbclient.exceptions import DeadKernelError
from nbconvert.preprocessors import CellExecutionError, ExecutePreprocessor
from traitlets.config import Config

from helpers import StudyError, one_line

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
CELL_SECONDS = 3600  # a full-mode training cell


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs, run top to bottom in its own folder by a fresh kernel.

    Raises StudyError with the notebook, the cell and the traceback of an error, whether a cell raised
    it or a widget's callback, whose traceback nbconvert would leave hidden in the widget's state; and
    for a picture without alt text.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # JSON, Unicode and schema errors alike
        raise StudyError(f"{path}: is not a notebook ({one_line(error)})") from None
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = Config()
            config.KernelManager.transport = "ipc"  # a socket file, not ports open to this machine
            config.KernelManager.ip = f"{folder}/kernel"
            processor = _Processor(timeout=CELL_SECONDS, kernel_name="python3", config=config)
            with open(f"{folder}/log", "w+", encoding="utf-8", errors="replace") as processor.words:
                try:
                    processor.preprocess(notebook, {"metadata": {"path": str(path.parent)}})
                except DeadKernelError:
                    processor.words.seek(0)
                    last = (
                        "; ".join(processor.words.read().split("\n")[-3:]).strip("; ") or "is memory short?"
                    )
                    raise StudyError(f"{path.name}: its kernel died ({last})") from None
    except CellExecutionError as error:
        # nbclient marks the failing cell by leaving its error in the outputs
        number = next((n for n, c in enumerate(notebook.cells) if _errors(c.get("outputs", []))), -1)
        raise StudyError(f"{path.name}, cell {number + 1}: {_plain(str(error))}") from None
    for number, traceback in widget_errors(notebook):
        raise StudyError(f"{path.name}, cell {number + 1}, in a widget's callback: {traceback}")
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}) and not output.metadata.get("image/png", {}).get("alt"):
                raise StudyError(f"{path.name}, cell {number}: a picture has no alt text; use plots.show")
    return notebook


class _Processor(ExecutePreprocessor):
    """Keeps what the kernel itself says for the case that it dies: its farewells are no news."""

    words: TextIO

    def start_new_kernel(self, **options) -> None:
        super().start_new_kernel(stderr=self.words, **options)


def widget_errors(notebook: nbformat.NotebookNode) -> list[tuple[int, str]]:
    """(cell index, traceback) of each error that a widget shown in an executed notebook has caught."""
    state = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            view = output.get("data", {}).get(WIDGET_VIEW)
            if view:
                found += [(number, text) for text in _errors_below(view["model_id"], state)]
    return found


def _errors_below(model: str, state: dict) -> list[str]:
    """Tracebacks in a widget's captured outputs and in those of its children."""
    values = state.get(model, {}).get("state", {})
    texts = _errors(values.get("outputs", []))
    for child in values.get("children", []):
        texts += _errors_below(child.removeprefix("IPY_MODEL_"), state)
    return texts


def _errors(outputs: list[dict]) -> list[str]:
    return [_plain("\n".join(o["traceback"])) for o in outputs if o.get("output_type") == "error"]


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
