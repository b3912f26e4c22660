"""JupyterLab itself in a real Chromium: open a notebook, run it, drag its sliders, upload a picture."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
import pytest
from conftest import CHROMIUM
from playwright.sync_api import Page
from study_copy import copy_study

from helpers import ROOT

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")
TOKEN = "a-token-of-this-test"
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"autoStartDefaultKernel": True, "windowingMode": "none"},
}
WITH_WIDGETS = [
    path.stem
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    if re.search(r"compare\.(Comparison|static|Upload)\(|ipywidgets", path.read_text())
]
FIRST = "01_exploration"  # the one in every run, the shortest with a slider
RUN_ALL = """async () => {
  const app = window.jupyterapp; await app.restored;
  const notebook = app.shell.currentWidget;
  await notebook.context.ready; await notebook.sessionContext.ready;
  await notebook.sessionContext.session.kernel.info;
  await app.commands.execute('notebook:run-all-cells');
}"""


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return copy_study(tmp_path_factory.mktemp("lab") / "study")


@pytest.fixture(scope="module")
def lab(study, tmp_path_factory) -> Iterator[str]:
    """The address of a JupyterLab that serves the copy, with settings and state of its own."""
    home, port = tmp_path_factory.mktemp("home"), _free_port()
    for name, values in SETTINGS.items():
        path = home / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    names = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
    environment = {k: v for k, v in os.environ.items() if k not in ("LIVE1_DIR", "STUDY_MODE")}
    environment |= {f"JUPYTER_{key}": str(home / value) for key, value in names.items()}
    environment |= {f"JUPYTERLAB_{key}_DIR": str(home / key.lower()) for key in ("SETTINGS", "WORKSPACES")}
    options = [
        "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={study}",
        "--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(f"http://127.0.0.1:{port}/api?token={TOKEN}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


@dataclass
class Opened:
    """A notebook in JupyterLab with all its cells run."""

    page: Page
    requests: list[str]  # the addresses that the page asked for
    complaints: list[str]  # of its scripts

    def errors(self) -> list[str]:
        """Tracebacks in outputs, those inside widgets included, and what scripts complained of."""
        marked = self.page.locator(".jp-OutputArea-output", has_text="Traceback (most recent call last)")
        return marked.all_inner_texts() + self.complaints


@pytest.fixture(scope="module")
def opened(lab, browser) -> Callable[[str], Opened]:
    """Opens a notebook by its name and runs it, once for all tests."""

    @cache
    def open_notebook(name: str) -> Opened:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        found = Opened(page, [], [])
        page.on("request", lambda request: found.requests.append(request.url))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.goto(f"{lab}/lab/workspaces/{name}/tree/notebooks/{name}.ipynb?token={TOKEN}")
        page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.sessionContext", timeout=120_000)
        page.evaluate(RUN_ALL)
        page.wait_for_function(
            """() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
                     .every(prompt => /\\[\\d+\\]:/.test(prompt.textContent))
                 || [...document.querySelectorAll('.jp-OutputArea-output')]
                     .some(output => /Traceback/.test(output.textContent))""",
            timeout=900_000,
        )
        return found

    return open_notebook


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == FIRST else pytest.mark.slow) for name in WITH_WIDGETS]
)
def test_a_notebook_runs_and_its_sliders_move_its_pictures(lab, opened, name):
    notebook = opened(name)
    page = notebook.page
    assert notebook.errors() == []
    boxes = page.locator(".widget-vbox:has(> img.widget-image)")
    figures = page.locator(".jp-OutputArea-output .study-compare")
    assert boxes.count() + figures.count() >= 1
    for figure in figures.all():  # these need no kernel
        stage, caption = figure.locator(".stage"), figure.locator("output")
        stage.locator("input").press("End")
        assert stage.evaluate("e => e.style.getPropertyValue('--cut')") == "100%"
        before, picker = caption.inner_text(), figure.locator("label input")
        picker.press("Home" if int(picker.input_value()) else "End")
        assert caption.inner_text() != before
    for box in boxes.all():
        picture = box.locator("> img.widget-image")
        for handle in box.locator(".noUi-handle").all():  # the setting, then the cut
            before = picture.get_attribute("src")
            handle.scroll_into_view_if_needed()
            handle.focus()
            start = handle.get_attribute("aria-valuenow")
            page.keyboard.press("ArrowRight")
            if handle.get_attribute("aria-valuenow") == start:  # at its right end
                page.keyboard.press("ArrowLeft")
            page.wait_for_function(
                "([image, before]) => image.src !== before",
                arg=[picture.element_handle(), before],
                timeout=60_000,
            )
    assert notebook.errors() == []
    outside = [
        url
        for url in notebook.requests
        if not url.startswith((lab, "data:", "blob:", lab.replace("http", "ws")))
    ]
    assert outside == []


@pytest.mark.slow
def test_a_picture_of_ones_own_is_uploaded_and_compared(opened, tmp_path):
    import skimage.data

    notebook = opened("05_learned_codec")
    page = notebook.page
    before = page.locator("img.widget-image").count()
    picture = tmp_path / "<img src=x onerror=alert(1)>.png"
    shutil.copyfile(Path(skimage.data.__file__).parent / "coffee.png", picture)
    _choose(page, picture)
    page.wait_for_function(
        "count => document.querySelectorAll('img.widget-image').length > count", arg=before, timeout=60_000
    )
    assert page.get_by_text(
        "<img src=x onerror=alert(1)>.png: 600x400 pixels, made smaller to 512x341"
    ).count()
    assert page.locator("img[src=x]").count() == 0 and notebook.errors() == []
    text = tmp_path / "notes.png"
    text.write_text("no picture")
    _choose(page, text)
    page.get_by_text("notes.png: ").wait_for(timeout=30_000)


@pytest.mark.slow
def test_a_callback_that_raises_is_seen(opened, study):
    notebook = nbformat.read(study / "notebooks" / "01_exploration.ipynb", as_version=4)
    notebook.cells = [notebook.cells[1], nbformat.v4.new_code_cell(
        "import ipywidgets, numpy as np\n"
        "from helpers import compare\n"
        "image = np.zeros((8, 8, 3), np.uint8)\n"
        "def reconstruct(quality):\n"
        "    if quality == 20: raise RuntimeError('seen by the reader')\n"
        "    return image, str(quality)\n"
        "compare.Comparison(image, reconstruct, [10, 20], [10], 10, 'black')"
    )]  # fmt: skip
    nbformat.write(notebook, study / "notebooks" / "raises.ipynb")
    notebook = opened("raises")
    page = notebook.page
    page.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("RuntimeError: seen by the reader").first.wait_for(timeout=30_000)
    assert notebook.errors() != []


def _choose(page: Page, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator(".widget-upload").click()
    chooser.value.set_files(path)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_for(url: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, "JupyterLab does not answer"
            time.sleep(0.5)
