"""Who can reach JupyterLab, what the study reads and writes of its user's, and names that try to be HTML."""

import ast
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import in_process
import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from conftest import Report
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from study_copy import at_home, copy_study

from helpers import ROOT, compare

README = (ROOT / "README.md").read_text()
NAME = r"<img src=x onerror=alert(1)><script>alert(2)<!-- $\x$"
# What the study reads of its environment; the last sets how many threads libraries take.
ALLOWED = {"STUDY_MODE", "LIVE1_DIR", "WORLD_SIZE", "LOCAL_RANK", "{library}_NUM_THREADS"}


# JupyterLab as the README starts it


@dataclass(frozen=True)
class Lab:
    """A JupyterLab that runs: its process, its own address with the token, and what it said."""

    process: subprocess.Popen
    address: str
    token: str

    def ask(self, path: str, token: str | None = None, data: bytes | None = None) -> tuple[int, bytes]:
        """(status, answer) of a request that shows that token, or none."""
        headers = {"Authorization": f"token {token}"} if token else {}
        request = urllib.request.Request(f"{self.address}/{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, b""


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    (command,) = re.findall(r"^\.venv/bin/(jupyter lab .*)$", README, re.MULTILINE)
    words = [str(Path(sys.executable).with_name("jupyter")), *command.split()[1:], "--no-browser"]
    if not os.geteuid():  # which Jupyter refuses, unless it is told that this is meant
        words.append("--allow-root")
    study, home = copy_study(tmp_path_factory.mktemp("lab") / "study"), tmp_path_factory.mktemp("home")
    said = home / "said"
    with said.open("w") as log:
        process = subprocess.Popen(
            words,
            cwd=study,
            env=at_home(home, dict(os.environ)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 120
        while not (found := re.search(r"(http://\S+?)/lab\?token=(\w+)", said.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, said.read_text()[-2000:]
            time.sleep(0.2)
        yield Lab(process, *found.groups())
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def test_jupyterlab_lets_nobody_in_without_its_token(lab):
    assert re.fullmatch("[0-9a-f]{48}", lab.token)
    for token in (None, "0" * 48, lab.token[:-1]):
        assert lab.ask("api/contents", token)[0] == 403
        assert lab.ask("api/kernels", token, b"{}")[0] == 403
    status, answer = lab.ask("api/contents", lab.token)
    names = {entry["name"] for entry in json.loads(answer)["content"]}
    assert status == 200 and {f"{number:02d}" for number in range(1, 8)} <= {name[:2] for name in names}
    for path in ("../README.md", "%2e%2e/README.md", "..%2fREADME.md"):  # it serves the notebooks, no more
        assert lab.ask(f"api/contents/{path}", lab.token)[0] in (400, 403, 404)


@pytest.mark.skipif(
    not Path("/proc/net/tcp").exists(), reason="sockets are looked up in /proc, which is Linux's"
)
def test_jupyterlab_and_its_kernels_listen_to_this_machine_alone(lab):
    assert lab.ask("api/kernels", lab.token, b'{"name": "python3"}')[0] == 201
    deadline = time.monotonic() + 120
    while len(found := listening(lab.process.pid)) < 6:  # the server's, and five of the kernel
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    assert all(address in ("127.0.0.1", "::1") for address, _ in found), found
    assert int(lab.address.rpartition(":")[2]) in {port for _, port in found}


def listening(process: int) -> set[tuple[str, int]]:
    """(address, port) of each TCP socket on which a process or one that it started listens."""
    sockets = set()
    for pid in [process, *_children(process)]:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                sockets.add(os.readlink(link))
            except OSError:  # closed meanwhile
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, port = fields[1].split(":")
                found.add((_readable(address), int(port, 16)))
    return found


def _readable(address: str) -> str:
    words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]  # words, each turned
    if len(words) == 1:
        return ".".join(map(str, words[0]))
    return "::1" if b"".join(words) == bytes(15) + b"\1" else b"".join(words).hex()


def _children(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *_children(int(child))]
    return found


def test_what_looks_for_listeners_sees_an_open_one():
    code = (
        "import socket, sys; s = socket.create_server(('0.0.0.0', 0))\n"
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        port = int(process.stdout.readline())
        assert listening(process.pid) == {("0.0.0.0", port)}
    finally:
        process.communicate()


# What is the user's own


def variables(source: str) -> set[str]:
    """What a source reads of its environment: names, or "all" where it takes the whole."""
    found = set()
    tree = ast.parse(source)
    of = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    for node in ast.walk(tree):
        name = getattr(node, "attr", getattr(node, "id", getattr(node, "name", None)))
        if name in ("getenv", "environb", "putenv", "unsetenv"):
            found.add("all")
        if name == "environ":
            above = of[node]
            if isinstance(above, ast.Attribute) and above.attr == "get":
                above = of[above]
            inside = [
                *getattr(above, "args", []),
                getattr(above, "slice", None),
                getattr(above, "left", None),
            ]
            key = next((part for part in inside if part is not None), None)
            text = ast.unparse(key) if isinstance(key, ast.Constant | ast.JoinedStr) else "all"
            found.add(text.lstrip("f").strip("'\""))
    return found


def code_of(path: Path) -> str:
    """A module's source, or that of a notebook's code cells."""
    if path.suffix == ".py":
        return path.read_text()
    return "\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code")


def test_the_environment_is_read_for_a_few_names_alone():
    sources = [*(ROOT / "helpers").rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]
    found = {path.name: names for path in sources if (names := variables(code_of(path)))}
    assert not {name for name in found if name.endswith(".ipynb")}
    assert set().union(*found.values()) == ALLOWED, found


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import os\nos.environ['A']", {"A"}),
        ("import os\nos.environ.get('B', 1)", {"B"}),
        ("from os import environ\ndict(environ)", {"all"}),
        ("import os\nos.getenv('C')", {"all"}),
        ("import os\nprint(os.environ)", {"all"}),
        ("import os\n'D' in os.environ", {"D"}),
        ("x = 1", set()),
    ],
)
def test_the_look_at_the_environment_sees_each_way(source, names):
    assert variables(source) == names


def test_a_report_leaves_nothing_in_its_users_folder(report: Report):
    """But for what Matplotlib and IPython keep for themselves, and no temporary file."""
    left = {path.relative_to(report.home).as_posix() for path in report.home.rglob("*") if path.is_file()}
    known = re.compile(r"\.(cache|config)/(matplotlib|fontconfig)/.*|\.ipython/.*|\.local/share/jupyter/.*")
    assert report.process.returncode == 0 and [name for name in left if not known.fullmatch(name)] == []


# Names that try to be HTML


def harmless(html: str) -> bool:
    """Whether a page has no element that a picture's name could have made."""
    soup = BeautifulSoup(html, "html.parser")
    handlers = {
        attribute for tag in soup.find_all(True) for attribute in tag.attrs if attribute.startswith("on")
    }
    mine = {compare.CUT, compare.PICK}
    inputs = {tag["oninput"] for tag in soup.select("[oninput]")}
    scripts = [tag for tag in soup.select("script") if "alert" in tag.text]
    return handlers <= {"oninput"} and inputs <= mine and not soup.select("img[src=x]") and not scripts


def test_what_looks_for_harm_sees_it():
    assert harmless("<p>&lt;img src=x onerror=alert(1)&gt;</p>")
    for html in (NAME, "<img src=x>", "<p oninput='alert(1)'>", "<script>alert(2)</script>"):
        assert not harmless(html)


def test_the_sliders_texts_are_no_html():
    image = np.zeros((8, 8, 3), np.uint8)
    shown_now = compare.Comparison(image, lambda setting: (image, NAME), [1, 2], [1, 2], 1, NAME, NAME)
    bundle = shown_now._repr_mimebundle_()
    assert harmless(compare.static(image, {NAME: image, "'\">" + NAME: image}, "'\">" + NAME).data)
    assert harmless(bundle["text/html"]) and harmless(shown_now.children[3].value)


def test_a_name_is_a_name_in_the_report(tmp_path):
    """On every way on which a notebook shows one: text, table, sentence, figure, slider, error."""
    study = copy_study(tmp_path / "study")
    notebooks = sorted((study / "notebooks").glob("*.ipynb"))
    first = next(c for c in nbformat.read(notebooks[0], 4).cells if c.cell_type == "code")
    for path in notebooks:
        path.unlink()
    cells = [
        "import pandas as pd\nfrom helpers import compare, plots\nfrom helpers.data import open_set\n"
        "scene = open_set('../data/own').scenes[0]\nimage = scene.load()\nprint(scene.name)\nscene",
        "pd.DataFrame({scene.name: [scene.name]}, index=[scene.name])",
        "plots.say(f'**{scene.name}** is the best, `{scene.name}`, {scene.name}')",
        "plots.show(plots.pictures({scene.name: image}), f'{scene.name} {scene.name}')",
        "plots.show(plots.scatter([1.0], [2.0], [scene.name], 'x', 'y'), f'{scene.name} {scene.name}')",
        "compare.static(image, {scene.name: image}, scene.name)",
        "compare.Comparison(image, lambda q: (image, scene.name), [1, 2], [1, 2], 1, scene.name)",
    ]
    notebook = new_notebook(cells=[new_markdown_cell("# Names"), first, *map(new_code_cell, cells)])
    nbformat.write(notebook, study / "notebooks" / "01_names.ipynb")
    own = study / "data" / "own"
    own.mkdir()
    from hostile_pictures import whole

    (own / f"{NAME}.png").write_bytes(whole(".png"))
    process = in_process.report(study)
    assert process.returncode == 0, process.stderr
    page = (study / "figures" / "report" / "01_names.html").read_text()
    assert harmless(page)
    soup = BeautifulSoup(page, "html.parser")
    shown_as = [soup.get_text(), *(str(tag.get("alt")) for tag in soup.select("img"))]
    assert sum(text.count("<img src=x onerror=alert(1)>") for text in shown_as) > 10
