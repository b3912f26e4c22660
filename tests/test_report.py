"""The report command: what it writes, what it leaves alone, and how it fails."""

import re
import shutil
from functools import cache
from pathlib import Path

import in_process
import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from study_copy import copy_study, fingerprints, run_helpers

from helpers import ROOT
from helpers.study import findings

NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@cache
def parsed(page: Path) -> BeautifulSoup:
    """A page that many tests look at."""
    return BeautifulSoup(page.read_text(), "html.parser")


def test_the_command_succeeds_with_a_line_a_notebook(report):
    assert report.process.returncode == 0, report.process.stdout + report.process.stderr
    for number, name in enumerate(NOTEBOOKS, start=1):
        assert re.search(
            rf"\[{number}/{len(NOTEBOOKS)}\] {name}.ipynb \(quick\) \.\.\. \d+ s", report.process.stdout
        )


def test_quick_mode_takes_less_than_ten_minutes(report):
    seconds = [int(found) for found in re.findall(r"\.\.\. (\d+) s$", report.process.stdout, re.MULTILINE)]
    assert len(seconds) == len(NOTEBOOKS) and sum(seconds) < 600


def test_the_museum_of_bugs_ran(report):
    pages = {page.stem: parsed(page).get_text() for page in report.pages}
    strangers = re.search(r"strangers score ([\d.]+) dB, where floats say ([\d.]+)", pages["01_exploration"])
    as_bytes, as_floats = map(float, strangers.groups())
    assert abs(as_bytes - 27.9) < 0.3 and as_floats < 15
    assert "+48.13 dB for nothing" in pages["01_exploration"]
    leak = re.search(
        r"gains (-?[\d.]+) dB when files are\s+shuffled and (-?[\d.]+) dB", pages["02_preprocessing"]
    )
    assert float(leak[1]) > 3 and float(leak[2]) < 0


def test_the_last_page_has_a_glossary(report):
    soup = parsed(report.pages[0].parent / "07_analysis.html")
    (folded,) = [d for d in soup.select("details") if d.summary.get_text().startswith("Glossary")]
    terms = [term.get_text() for term in folded.select("li > strong")]
    assert len(terms) >= 20 and terms == sorted(terms, key=str.lower)


def test_there_is_a_page_for_each_notebook_and_an_index_that_leads_to_it(report):
    assert [page.stem for page in report.pages] == [*NOTEBOOKS, "index"]
    index = parsed(report.pages[-1])
    targets = {link["href"] for link in index.select("a[href]")}
    assert {f"{name}.html" for name in NOTEBOOKS} <= targets


def test_the_opening_page_tells_the_findings_with_figures_that_lead_to_their_notebooks(report):
    index = parsed(report.pages[-1])
    rows = index.select("table.findings tbody tr")
    assert [row.select("td")[1].text for row in rows] == [finding.answer for finding in findings.findings()]
    assert all(row.select_one("a[href$='.html']") for row in rows)
    figures = index.select(".story a[href] img")
    assert [image["src"] for image in figures] == [f"{name}.svg" for name in findings.STORY]
    for image in figures:
        assert (
            image.parent["href"][:2] == image["src"][:2]
            and (report.pages[-1].parent / image["src"]).is_file()
        )


def test_the_working_tree_is_as_clean_as_before(report):
    after = fingerprints(report.folder)
    assert after.keys() == report.before.keys()
    assert [name for name in after if after[name] != report.before[name]] == []


def test_the_notebooks_say_which_pictures_they_used(report, request):
    samples = "samples" in request.node.name
    for name in NOTEBOOKS:
        page = (report.folder / f"figures/report/{name}.html").read_text()
        assert ("<strong>LIVE1 is not on this machine.</strong>" in page) == samples
    assert ("LIVE1 is not here" in report.process.stdout) == samples


def test_links_between_pages_lead_somewhere(report):
    soups = {page: parsed(page) for page in report.pages}
    names = {page: {tag["id"] for tag in soup.select("[id]")} for page, soup in soups.items()}
    for page, soup in soups.items():
        for link in soup.select("a[href]"):
            name, _, anchor = link["href"].partition("#")
            target = page.parent / name if name else page
            assert target.is_file(), f"{page.name}: {link['href']}"
            assert not anchor or anchor in names[target], f"{page.name}: {link['href']}"


def test_pages_need_no_network_and_no_kernel(report):
    for page in report.pages:
        soup = parsed(page)
        sources = [tag.get("src") or tag.get("href") for tag in soup.select("[src], link[href]")]
        assert sources and all(not re.match(r"(https?:)?//", source) for source in sources)
        scripts = [script.get("src") for script in soup.select("script") if script.get("src")]
        assert all(source.startswith("mathjax/") for source in scripts)
        assert "application/vnd.jupyter.widget" not in page.read_text()


def test_every_picture_has_alt_text_of_its_own(report):
    for page in report.pages:
        for image in parsed(page).select("img"):
            assert len(image["alt"]) > 15 and "No description" not in image["alt"]


def test_pages_name_their_language_title_and_width(report):
    for page in report.pages:
        soup = parsed(page)
        assert soup.html["lang"] == "en" and len(soup.title.text) > 10
        assert soup.select_one("meta[name=viewport]") and len(soup.select("h1")) == 1


def test_the_report_is_small_enough_to_send(report):
    files = [p for p in (report.folder / "figures/report").rglob("*") if p.is_file() and p.suffix != ".ipynb"]
    assert sum(path.stat().st_size for path in files) < 25e6


@pytest.fixture
def small_study(tmp_path: Path) -> Path:
    """A copy of the project whose notebooks are one that works and one to be written by the test."""
    study = copy_study(tmp_path / "study with a space")
    shutil.rmtree(study / "notebooks")
    write(study, "01_fine", "1 + 1")
    return study


def write(study: Path, name: str, *cells: str) -> None:
    first = next(
        c
        for c in nbformat.read(ROOT / "notebooks" / f"{NOTEBOOKS[0]}.ipynb", 4).cells
        if c.cell_type == "code"
    )
    notebook = new_notebook(
        cells=[new_markdown_cell(f"# Title of {name}"), first, *map(new_code_cell, cells)]
    )
    (study / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, study / "notebooks" / f"{name}.ipynb")


def failure(study: Path) -> str:
    """stderr of a report that fails after the first notebook; the first page must be there."""
    process = in_process.report(study)
    assert process.returncode == 2
    assert "Title of 01_fine" in (study / "figures/report/01_fine.html").read_text()
    assert not (study / "figures/report/02_broken.html").exists()
    return process.stderr


def test_an_error_in_a_cell_is_reported_with_notebook_cell_and_traceback(small_study):
    write(small_study, "02_broken", "fine = 1", "fine / 0")
    message = failure(small_study)
    assert message.startswith("02_broken.ipynb, cell 4:")
    assert "ZeroDivisionError: division by zero" in message and "\x1b" not in message


@pytest.mark.slow
def test_an_error_in_an_interact_callback_stops_the_report(small_study):
    write(
        small_study,
        "02_broken",
        "import ipywidgets\nipywidgets.interact(lambda q: 1 / (q - 10), q=(5, 15, 5))",
    )
    message = failure(small_study)
    assert message.startswith("02_broken.ipynb, cell 3, in a widget's callback:")
    assert "ZeroDivisionError" in message


def test_an_error_in_the_sliders_callback_stops_the_report(small_study):
    lines = """
import numpy as np
from helpers import compare
image = np.zeros((16, 16), np.uint8)
calls = []
def fails_in_the_callback(quality):
    calls.append(quality)
    if len(calls) > 2:
        raise RuntimeError("the second look fails")
    return image, str(quality)
compare.Comparison(image, fails_in_the_callback, [1, 2], stops=[1, 2], start=1, name="an example")"""
    write(small_study, "02_broken", lines)
    assert (
        "in a widget's callback" in (message := failure(small_study)) and "the second look fails" in message
    )


@pytest.mark.slow
def test_a_failing_notebook_leaves_its_earlier_page(small_study):
    write(small_study, "02_broken", "print('as it was')")
    assert in_process.report(small_study).returncode == 0
    write(small_study, "02_broken", "1 / 0")
    assert in_process.report(small_study, "--only", "2").returncode == 2
    assert "as it was" in (small_study / "figures/report/02_broken.html").read_text()


@pytest.mark.slow
def test_only_renders_the_chosen_notebook_and_keeps_the_others(small_study):
    write(small_study, "02_broken", "print('second')")
    assert in_process.report(small_study, "--only", "01").returncode == 0
    assert not (small_study / "figures/report/02_broken.html").exists()
    assert in_process.report(small_study, "--only", "02").returncode == 0
    assert "02_broken.html" in (small_study / "figures/report/01_fine.html").read_text()


def test_a_number_without_a_notebook_is_named(small_study):
    process = in_process.report(small_study, "--only", "77")
    assert process.returncode == 2
    assert process.stderr == "notebook 77: there is none; known are 01\n"


def test_a_broken_notebook_file_is_named(small_study):
    (small_study / "notebooks" / "02_broken.ipynb").write_text("{")
    assert re.fullmatch(r".*02_broken\.ipynb: is not a notebook .*\n", failure(small_study))


def test_a_kernel_that_dies_is_named_with_its_last_words(small_study):
    write(small_study, "02_broken", "import os\nos.write(2, b'no room left'); os._exit(1)")
    assert re.fullmatch(r"02_broken\.ipynb: its kernel died \(.*no room left.*\)\n", failure(small_study))


@pytest.mark.slow
def test_what_a_kernel_says_of_itself_is_not_shown(small_study):
    """A kernel writes to the terminal of the process that started it, which is a new one here."""
    write(small_study, "02_fine", "import os, sys\nos.write(sys.__stderr__.fileno(), b'farewell')")
    process = run_helpers(small_study, "report", "--only", "02")
    assert process.returncode == 0 and "farewell" not in process.stderr


def test_a_figure_without_alt_text_is_refused(small_study):
    write(small_study, "02_broken", "import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    assert failure(small_study) == "02_broken.ipynb, cell 3: a picture has no alt text; use plots.show\n"
