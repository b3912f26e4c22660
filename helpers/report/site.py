"""Executed notebooks to a site of plain pages: no network, no script but MathJax's, read on any screen."""

import re
from html import escape
from pathlib import Path

import jupyter_server_mathjax
import nbformat
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from helpers import FIGURES, StudyError
from helpers.data.loading import shown
from helpers.findings import STORY, findings
from helpers.records import write_file

HERE = Path(__file__).parent
# What a page can show, best first: a widget's static twin (text/html) instead of a dead control.
DISPLAY_PRIORITY = ["text/html", "text/markdown", "image/svg+xml", "image/png", "text/latex", "text/plain"]
MATHS_LEFT_OUT = {"localization", "SVG", "a11y", "asciimath2jax.js"}
TITLE = "How neural networks compress and reconstruct pictures"


def render_site(executed: Path, target: Path) -> Path:
    """Path of the index, after writing a page for every notebook in `executed` into `target`."""
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in sorted(executed.glob("*.ipynb"))}
    titles = {name: _title(notebook) for name, notebook in notebooks.items()}
    try:
        _copy_assets(target)
    except OSError as error:  # a folder that can't be made; files tell by themselves
        raise StudyError(f"{shown(target)}: can't be written ({error.strerror})") from None
    names = list(notebooks)
    for position, name in enumerate(names):
        body, contents = _body(notebooks[name])
        previous = names[position - 1] if position else None
        following = names[position + 1] if position + 1 < len(names) else None
        _write(
            target / f"{name}.html",
            _page(
                f"{name[:2]} {titles[name]}",
                _navigation(previous, following, titles)
                + contents
                + f"<main id='main'>{body}</main>"
                # the same links again where the reader arrives
                + _navigation(previous, following, titles),
                maths=bool(re.search(r"\$[^$]+\$", BeautifulSoup(body, "html.parser").get_text())),
            ),
        )
    index = target / "index.html"
    _write(index, _page(TITLE, _front(titles, target), maths=False))
    return index


def _body(notebook: nbformat.NotebookNode) -> tuple[str, str]:
    """HTML of a notebook's cells, and of its table of contents."""
    notebook.metadata.pop("widgets", None)  # the state of live widgets: dead weight without a kernel
    config = Config()
    config.NbConvertBase.display_data_priority = DISPLAY_PRIORITY
    exporter = HTMLExporter(
        template_name="basic", config=config, exclude_input_prompt=True, exclude_output_prompt=True
    )
    html, _ = exporter.from_notebook_node(notebook)
    soup = BeautifulSoup(html, "html.parser")
    for anchor in soup.select("a.anchor-link"):
        anchor.decompose()
    for table in soup.select("table"):  # wide tables scroll by themselves, also with the keyboard
        frame = soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0", "role": "region"})
        frame["aria-label"] = "table"
        table.wrap(frame)
    for code in soup.select("div.highlight pre"):
        code["tabindex"] = "0"
    items = "".join(
        f'<li><a href="#{escape(heading["id"])}">{escape(heading.get_text())}</a></li>'
        for heading in soup.select("h2[id]")
    )
    contents = f"<details class='contents'><summary>On this page</summary><ol>{items}</ol></details>"
    return str(soup), contents


def _page(title: str, body: str, maths: bool) -> str:
    return (
        (HERE / "page.html")
        .read_text()
        .replace("{{title}}", escape(title))
        .replace("{{maths}}", (HERE / "maths.html").read_text() if maths else "")
        .replace("{{body}}", body)
    )


def _navigation(previous: str | None, following: str | None, titles: dict[str, str]) -> str:
    links = ["<a href='index.html'>Contents</a>"]
    if previous:
        links.insert(0, f"<a rel='prev' href='{previous}.html'>← {escape(titles[previous])}</a>")
    if following:
        links.append(f"<a rel='next' href='{following}.html'>{escape(titles[following])} →</a>")
    return f"<nav aria-label='Notebooks'>{' '.join(links)}</nav>"


def _front(titles: dict[str, str], target: Path) -> str:
    """The opening page: the findings and three figures, then each chapter with the figures it drew."""
    rows = "".join(
        f"<tr><td>{_to(found.notebook, escape(found.question), titles)}</td>"
        f"<td>{escape(found.answer)}</td></tr>"
        for found in findings()
    )
    entries = []
    for name, title in titles.items():
        figures = "".join(_figure(path, name, target) for path in sorted(FIGURES.glob(f"{name[:2]}_*.svg")))
        entries.append(f'<li>{_to(name, escape(title), titles)}<div class="figures">{figures}</div></li>')
    shown = [FIGURES / f"{name}.svg" for name in STORY if (FIGURES / f"{name}.svg").exists()]
    owner = {name[:2]: name for name in titles}
    story = "".join(_figure(path, owner.get(path.name[:2]), target) for path in shown)
    return (
        f"<main id='main'><h1>{TITLE}</h1><p>What JPEG takes away from photographs, and what "
        "convolutional networks can learn of it, give back, and do in its place: measured on real bytes, in "
        "the conventions of the literature, beside the row that does nothing.</p>"
        "<div class='scroll' tabindex='0' role='region' aria-label='Findings'>"
        "<table class='findings'><thead><tr><th>Question</th><th>Found</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div><div class='figures story'>{story}</div>"
        "<h2>Chapters</h2><p>Each is a notebook that was executed to make its page.</p>"
        f"<ol class='chapters'>{''.join(entries)}</ol></main>"
    )


def _to(name: str | None, inside: str, titles: dict[str, str]) -> str:
    """A link to a notebook's page, if there is one."""
    return f'<a href="{name}.html">{inside}</a>' if name in titles else inside


def _figure(path: Path, name: str | None, target: Path) -> str:
    """A committed figure, copied beside the pages, with the alt text inside it, linked to its notebook."""
    write_file(target / path.name, path.read_bytes())
    alt = re.search(r"<dc:title>(.*?)</dc:title>", path.read_text(), re.S).group(1)
    image = f'<img src="{path.name}" alt="{alt}">'
    return f'<a href="{name}.html">{image}</a>' if name else image


def _copy_assets(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    style = (HERE / "style.css").read_text()
    at_night = f"@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"  # paper stays white
    _write(target / "style.css", f"{style}\n{light}\n{at_night}\n")
    mathjax = Path(jupyter_server_mathjax.__file__).parent / "static"
    for source in mathjax.rglob("*"):
        inside = source.relative_to(mathjax)
        if source.is_dir() or MATHS_LEFT_OUT & set(inside.parts):
            continue
        content, path = source.read_bytes(), target / "mathjax" / inside
        if not path.is_file() or path.read_bytes() != content:  # there are 187 of them
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, content)


def _title(notebook: nbformat.NotebookNode) -> str:
    heading = re.match(r"#\s+(.+)", notebook.cells[0].source)
    return heading.group(1) if heading else "Untitled"


def _write(path: Path, text: str) -> None:
    write_file(path, text.encode())
