"""One notebook executed headlessly; errors in cells and inside widgets' callbacks are found."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import nbformat
from nbclient.exceptions import DeadKernelError
from nbconvert.filters import strip_ansi
from nbconvert.preprocessors import CellExecutionError, ExecutePreprocessor
from traitlets.config import Config

from helpers.files import StudyError, one_line

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
    _run(notebook, path)
    state = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for traceback in _errors_below(data.get(WIDGET_VIEW, {}).get("model_id"), state):
                raise StudyError(f"{path.name}, cell {number}, in a widget's callback: {traceback}")
            if "image/png" in data and not output.metadata.get("image/png", {}).get("alt"):
                raise StudyError(f"{path.name}, cell {number}: a picture has no alt text; use plots.show")
    return notebook


def _run(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Fills in the outputs. Raises StudyError where a cell raises an error or the kernel dies."""
    config = Config()
    config.KernelManager.transport = "ipc"  # a socket file, not ports open to this machine
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as words:
        config.KernelManager.ip = f"{folder}/kernel"
        processor = _Processor(timeout=CELL_SECONDS, kernel_name="python3", config=config)
        processor.words = words
        try:
            processor.preprocess(notebook, {"metadata": {"path": str(path.parent)}})
        except DeadKernelError:
            words.seek(0)
            lines = words.read().decode(errors="replace").split("\n")
            last = "; ".join(lines[-3:]).strip("; ") or "is memory short?"
            raise StudyError(f"{path.name}: its kernel died ({last})") from None
        except CellExecutionError as error:
            # nbclient marks the failing cell by leaving its error in the outputs
            failed = (n for n, cell in enumerate(notebook.cells, 1) if _errors(cell.get("outputs", [])))
            raise StudyError(f"{path.name}, cell {next(failed, 0)}: {strip_ansi(str(error))}") from None


class _Processor(ExecutePreprocessor):
    """Keeps what the kernel itself says for the case that it dies: its farewells are no news."""

    words: BinaryIO

    def start_new_kernel(self, **options) -> None:
        super().start_new_kernel(stderr=self.words, **options)


def _errors_below(model: str | None, state: dict) -> Iterator[str]:
    """Tracebacks in a widget's captured outputs and in those of its children."""
    values = state.get(model, {}).get("state", {})
    yield from _errors(values.get("outputs", []))
    for child in values.get("children", []):
        yield from _errors_below(child.removeprefix("IPY_MODEL_"), state)


def _errors(outputs: list[dict]) -> list[str]:
    return [strip_ansi("\n".join(o["traceback"])) for o in outputs if o.get("output_type") == "error"]
