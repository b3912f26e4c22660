"""What several test files share, and how two processes share the tests."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright
from study_copy import copy_study, fingerprints, run_helpers

from helpers.data import ImageSet, live1_folder, open_set

# Two tests run at a time: a thread for each, which does not spin long where it waits for another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "100000")

# One seed and no clock: a slow or unlucky machine must not turn a run red.
settings.register_profile("study", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("study")

CHROMIUM = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    ),
    shutil.which("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
)
QUIET = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run"
).split()


# What takes longest goes first, so that neither process is left with it at the end.
LONGEST_FIRST = ("lab", "faults", "train_command", "codec", "report", "load", "fitted", "experiments")


def unit(nodeid: str) -> str:
    """What a test is run with: a file shares what it made; the tests of one report share the report."""
    found = re.search(r"report of \w+", nodeid)
    return found[0] if found else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """pytest-xdist's own scheduler, with these units."""
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

    return Units(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    files = [f"tests/test_{name}.py" for name in LONGEST_FIRST]
    order = {name: place for place, name in enumerate(["report of live1", "report of samples", *files])}
    items.sort(key=lambda item: order.get(unit(item.nodeid), len(order)))


@pytest.fixture(scope="session")
def live1() -> ImageSet:
    if live1_folder() is None:
        pytest.skip("LIVE1 is not here: set LIVE1_DIR or run `python -m helpers data live1`")
    return open_set("live1")


@pytest.fixture(params=[1, pytest.param(10, marks=pytest.mark.long)], ids=["a tenth", "all"])
def tenths(request: pytest.FixtureRequest) -> int:
    """How many tenths of a large count a test goes through: one, and all of them with `-m long`."""
    return request.param


@dataclass(frozen=True)
class Report:
    """A report made by the command in a copy of the project."""

    folder: Path  # of the copy
    process: subprocess.CompletedProcess
    before: dict[str, str]  # fingerprints of the copy before the command
    home: Path  # the folder of the user who gave it

    @property
    def pages(self) -> list[Path]:
        return sorted((self.folder / "figures" / "report").glob("*.html"))


def reports() -> list:
    """Names of the reports: one in every run, and where LIVE1 is here, the one without it in slow runs."""
    marks = [pytest.mark.slow] if live1_folder() else []
    return [
        pytest.param("live1", id="report of live1"),
        pytest.param("samples", id="report of samples", marks=marks),
    ]


@pytest.fixture(scope="session", params=reports())
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The whole report in quick mode, made once, with LIVE1 where it is here."""
    where = None
    if request.param == "live1":
        request.getfixturevalue("live1")
        where = live1_folder().resolve()
    folder = copy_study(tmp_path_factory.mktemp(request.param) / "study")
    before = fingerprints(folder)
    home = tmp_path_factory.mktemp("home")
    return Report(folder, run_helpers(folder, "report", live1=where, home=home), before, home)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()
