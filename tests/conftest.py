"""What several test files share."""

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


@pytest.fixture(scope="session", params=["samples", "live1"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The whole report in quick mode, once without LIVE1 and once with it, where it is here."""
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
