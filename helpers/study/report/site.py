"""Executed notebooks to a site of plain pages: no network, no script but MathJax's, read on any screen."""

import re
from html import unescape
from pathlib import Path

import jinja2
import jupyter_server_mathjax
import nbformat
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from helpers.files import FIGURES, make_folder, write_file
from helpers.study.findings import STORY, findings

HERE = Path(__file__).parent
# front.html and notebook.html, which both extend page.html
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
# What a page can show, best first: a widget's static twin (text/html) instead of a dead control.
DISPLAY_PRIORITY = ["text/html", "text/markdown", "image/svg+xml", "image/png", "text/latex", "text/plain"]
MATHS_LEFT_OUT = {"localization", "SVG", "a11y", "asciimath2jax.js"}
TITLE = "How neural networks compress and reconstruct pictures"


def render_site(executed: Path, target: Path) -> Path:
    """Path of the index, after writing a page for every notebook in `executed` into `target`."""
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in sorted(executed.glob("*.ipynb"))}
    titles = {name: _title(notebook) for name, notebook in notebooks.items()}
    _copy_assets(target)

    def write(name: str, template: str, title: str, **values: object) -> Path:
        page = TEMPLATES.get_template(template).render(title=title, titles=titles, **values)
        write_file(target / f"{name}.html", page.encode())
        return target / f"{name}.html"

    names = [None, *notebooks, None]
    for previous, name, following in zip(names, names[1:], names[2:], strict=False):
        cells = _cells(notebooks[name])
        links = {"previous": previous, "following": following, "headings": cells.select("h2[id]")}
        maths = re.search(r"\$[^$]+\$", cells.text) is not None
        write(name, "notebook.html", f"{name[:2]} {titles[name]}", cells=str(cells), maths=maths, **links)
    shown = {"findings": findings(), "figures": _figures(titles, target), "story": STORY}
    return write("index", "front.html", TITLE, **shown)


def _cells(notebook: nbformat.NotebookNode) -> BeautifulSoup:
    """A notebook's cells as HTML."""
    notebook.metadata.pop("widgets", None)  # the state of live widgets: dead weight without a kernel
    options = {"exclude_input_prompt": True, "exclude_output_prompt": True}
    config = Config({"NbConvertBase": {"display_data_priority": DISPLAY_PRIORITY}})
    html, _ = HTMLExporter(template_name="basic", config=config, **options).from_notebook_node(notebook)
    soup = BeautifulSoup(html, "html.parser")
    for anchor in soup.select("a.anchor-link"):  # nbconvert leaves them out only together with the ids
        anchor.decompose()
    for table in soup.select("table"):  # wide tables scroll by themselves, also with the keyboard
        frame = {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "table"}
        table.wrap(soup.new_tag("div", attrs=frame))
    for code in soup.select("div.highlight pre"):
        code["tabindex"] = "0"
    return soup


def _figures(titles: dict[str, str], target: Path) -> dict[str, dict]:
    """The committed figures that the front page shows, copied next to the pages: file, alt text, notebook."""
    owner, figures = {name[:2]: name for name in titles}, {}
    for path in sorted(FIGURES.glob("*.svg")):
        notebook = owner.get(path.name[:2])
        if notebook or path.stem in STORY:
            write_file(target / path.name, path.read_bytes())
            alt = re.search(r"<dc:title>(.*?)</dc:title>", path.read_text(), re.S).group(1)
            figures[path.stem] = {"file": path.name, "alt": unescape(alt), "notebook": notebook}
    return figures


def _copy_assets(target: Path) -> None:
    """The style sheet and MathJax next to the pages."""
    make_folder(target)
    light, dark = (HtmlFormatter(style=s).get_style_defs(".highlight") for s in ("default", "github-dark"))
    at_night = f"@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"  # paper stays white
    style = f"{(HERE / 'style.css').read_text()}\n{light}\n{at_night}\n"
    write_file(target / "style.css", style.encode())
    mathjax = Path(jupyter_server_mathjax.__file__).parent / "static"
    for source in mathjax.rglob("*"):
        inside = source.relative_to(mathjax)
        if source.is_dir() or MATHS_LEFT_OUT & set(inside.parts):
            continue
        content, path = source.read_bytes(), target / "mathjax" / inside
        if not path.is_file() or path.read_bytes() != content:  # there are 187 of them
            make_folder(path.parent)
            write_file(path, content)


def _title(notebook: nbformat.NotebookNode) -> str:
    heading = re.match(r"#\s+(.+)", notebook.cells[0].source)
    return heading.group(1) if heading else "Untitled"
