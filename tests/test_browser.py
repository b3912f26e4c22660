"""The report in a real Chromium without a network: by mouse, by keys, narrow, dark, printed."""

from pathlib import Path

import pytest
from conftest import CHROMIUM
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")


class Visit:
    """A page opened from its folder, offline, with all it asked for and complained of."""

    def __init__(self, browser: Browser, path, **options):
        self.context = browser.new_context(offline=True, **options)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on(
            "console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url[:100]}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri(), wait_until="load")
        if self.page.locator("script[src*=MathJax]").count():
            self.page.wait_for_function(
                "window.MathJax && MathJax.Hub.queue.pending === 0 && MathJax.isReady"
            )

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *error) -> None:
        self.context.close()


def test_no_page_asks_for_anything_outside_its_folder_or_complains(report, browser):
    for path in report.pages:
        with Visit(browser, path) as visit:
            assert visit.complaints == []
            folder = path.parent.as_uri()
            assert all(url.startswith((folder, "data:")) for url in visit.requests), visit.requests


def test_formulas_are_typeset(report, browser):
    with Visit(browser, report.pages[0].parent / "01_exploration.html") as visit:
        formulas = visit.page.locator(".MathJax")
        assert formulas.count() >= 2 and formulas.first.bounding_box()["height"] > 10
        assert "\\log" not in visit.page.locator("main").inner_text()


def test_the_cut_follows_the_mouse_and_the_picture_changes(report, browser):
    with Visit(
        browser, report.pages[0].parent / "01_exploration.html", viewport={"width": 1000, "height": 900}
    ) as visit:
        stage = visit.page.locator(".study-compare .stage").first
        stage.scroll_into_view_if_needed()
        before = stage.screenshot()
        box = stage.bounding_box()
        middle = box["y"] + box["height"] / 2
        visit.page.mouse.move(box["x"] + box["width"] / 2, middle)
        visit.page.mouse.down()
        visit.page.mouse.move(box["x"] + box["width"] * 0.1, middle, steps=8)
        visit.page.mouse.up()
        value = int(stage.locator("input").input_value())
        assert value < 20
        assert stage.evaluate("e => e.style.getPropertyValue('--cut')") == f"{value}%"
        assert stage.screenshot() != before


def test_the_opening_page_tells_its_story_in_one_screen(report, browser):
    with Visit(browser, report.pages[-1], viewport={"width": 1280, "height": 720}) as visit:
        figures = visit.page.locator(".story img").all()
        assert len(figures) == 3 and visit.page.locator("table.findings").is_visible()
        for figure in figures:
            box = figure.bounding_box()
            assert box["y"] + box["height"] <= 720 and box["width"] > 200


def test_the_keyboard_alone_reaches_everything_and_shows_where_it_is(report, browser):
    wanted = "a[href], summary, input[type=range]"
    step = """() => {
      const e = document.activeElement;
      e.seen = [e, e.parentNode].some(x => getComputedStyle(x).outlineStyle !== 'none');
      return e !== document.body;
    }"""
    missed = "all => all.filter(e => e.checkVisibility() && !e.seen).map(e => e.outerHTML.slice(0, 80))"
    for path in (report.pages[0], report.pages[4], report.pages[-1]):  # sliders, many of them, the contents
        with Visit(browser, path) as visit:
            visit.page.keyboard.press("Tab")
            while visit.page.evaluate(step):
                visit.page.keyboard.press("Tab")
            assert visit.page.locator(wanted).evaluate_all(missed) == [], path.name


@pytest.mark.slow
def test_keys_move_every_comparison_of_every_page(report, browser):
    found = {}
    for path in [page for page in report.pages if "study-compare" in page.read_text()]:
        with Visit(browser, path) as visit:
            for figure in visit.page.locator(".study-compare").all():
                found[path.stem] = found.get(path.stem, 0) + 1
                stage, before = figure.locator(".stage"), figure.locator("output").inner_text()
                stage.locator("input").press("End")
                assert stage.evaluate("e => e.style.getPropertyValue('--cut')") == "100%"
                shown = stage.locator("img + img:visible").get_attribute("src")
                for picker in figure.locator("label input").all():
                    first = picker.input_value()
                    picker.press("Home" if int(first) else "End")
                    assert picker.input_value() != first
                    assert stage.locator("img + img:visible").get_attribute("src") != shown
                    assert figure.locator("output").inner_text() != before
    made = {"01_exploration", "03_numpy_network", "04_pytorch_cnns", "05_learned_codec"}
    assert made <= found.keys() and found["05_learned_codec"] >= 2


def test_uploading_is_said_to_need_the_notebook(report, browser):
    with Visit(browser, report.pages[0].parent / "05_learned_codec.html") as visit:
        assert visit.page.locator("p", has_text="Uploading needs the notebook itself").is_visible()


def test_keys_move_the_cut_and_pick_the_reconstruction(report, browser):
    with Visit(browser, report.pages[0].parent / "01_exploration.html") as visit:
        figure = visit.page.locator(".study-compare").first
        cut, picker = figure.locator("input[type=range]").all()
        cut.focus()
        visit.page.keyboard.press("Home")
        assert cut.input_value() == "0" and cut.get_attribute("aria-valuetext").startswith("0 %")
        captions = [figure.locator("output").inner_text()]
        pictures = [figure.locator(".stage").screenshot()]
        picker.focus()
        visit.page.keyboard.press("Home")
        for _ in range(int(picker.get_attribute("max"))):
            captions.append(figure.locator("output").inner_text())
            pictures.append(figure.locator(".stage").screenshot())
            assert figure.locator(".stage img:visible").count() == 2
            visit.page.keyboard.press("ArrowRight")
        assert len(set(captions[1:])) == len(set(pictures[1:])) == int(picker.get_attribute("max"))
        assert picker.get_attribute("aria-valuetext") == figure.locator("output").inner_text()


def chosen(report, which: str) -> list[Path]:
    """All pages, or those of the first and the fifth notebook, which have sliders and code, and the index."""
    return report.pages if which == "all" else [report.pages[n] for n in (0, 4, -1)]


WHICH = pytest.mark.parametrize("which", ["three", pytest.param("all", marks=pytest.mark.slow)])


@WHICH
def test_pages_fit_a_telephone(report, browser, which):
    for path in chosen(report, which):
        with Visit(
            browser, path, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True
        ) as visit:
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
            size = visit.page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)")
            assert size >= 15


BRIGHTNESS = """([selector, which]) => {
  const colour = getComputedStyle(document.querySelector(selector))[which];
  return colour.match(/[0-9]+/g).slice(0, 3).reduce((sum, part) => sum + +part, 0) / 3;
}"""


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_pages_follow_the_colour_scheme(report, browser, scheme, dark):
    for path in (report.pages[0], report.pages[-1]):
        with Visit(browser, path, color_scheme=scheme) as visit:
            paper = visit.page.evaluate(BRIGHTNESS, ["body", "backgroundColor"])
            assert (paper < 80) == dark
            inks = ["body", "a[href]:not(.skip)", "div.highlight pre"][
                : None if path == report.pages[0] else 2
            ]
            for ink in inks:
                assert abs(paper - visit.page.evaluate(BRIGHTNESS, [ink, "color"])) > 80, ink


@pytest.mark.slow
@WHICH
def test_pages_print_dark_on_white_and_whole(report, browser, which):
    for path in chosen(report, which):
        with Visit(browser, path, color_scheme="dark", viewport={"width": 720, "height": 1000}) as visit:
            visit.page.emulate_media(media="print")
            assert visit.page.evaluate(BRIGHTNESS, ["body", "backgroundColor"]) > 240
            for ink in ("body", "div.highlight pre", ":not(pre) > code"):
                if visit.page.locator(ink).count():
                    assert visit.page.evaluate(BRIGHTNESS, [ink, "color"]) < 120, ink
                    assert visit.page.evaluate(BRIGHTNESS, [ink, "backgroundColor"]) not in range(1, 200), ink
            assert not any(one.is_visible() for one in visit.page.locator("nav, input[type=range]").all())
            cut_off = """all => all.filter(e => e.getBoundingClientRect().right > innerWidth + 1
                                               || e.scrollWidth > e.clientWidth + 1).map(e => e.outerHTML)"""
            assert visit.page.locator("img:visible, pre, .scroll").evaluate_all(cut_off) == []


def test_the_index_leads_through_the_chapters_and_back(report, browser):
    with Visit(browser, report.pages[-1]) as visit:
        visit.page.get_by_role("link", name="Measure what JPEG takes away").first.click()
        visit.page.get_by_role("link", name="Prepare pairs").first.click()
        visit.page.get_by_role("link", name="Contents").first.click()
        assert visit.page.url.endswith("index.html")
