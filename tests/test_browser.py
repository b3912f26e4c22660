"""The report in a real Chromium without a network, by mouse, by keys, narrow and dark."""

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


def test_the_sliders_can_be_reached_with_the_tab_key_and_show_it(report, browser):
    with Visit(browser, report.pages[0].parent / "01_exploration.html") as visit:
        cut = visit.page.locator(".study-compare .stage input").first
        for _ in range(400):
            visit.page.keyboard.press("Tab")
            if cut.evaluate("e => e === document.activeElement"):
                break
        assert cut.evaluate("e => e === document.activeElement")
        assert cut.evaluate("e => getComputedStyle(e.parentNode).outlineStyle") == "solid"


def test_pages_fit_a_telephone(report, browser):
    for path in report.pages:
        with Visit(
            browser, path, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True
        ) as visit:
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
            size = visit.page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)")
            assert size >= 15


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_pages_follow_the_colour_scheme(report, browser, scheme, dark):
    brightness = "(c) => c.match(/[0-9]+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 3"
    with Visit(browser, report.pages[0], color_scheme=scheme) as visit:
        paper, ink, code = (
            visit.page.evaluate(
                f"({brightness})(getComputedStyle(document.querySelector('{selector}')).{which})"
            )
            for selector, which in (
                ("body", "backgroundColor"),
                ("body", "color"),
                ("div.highlight pre", "color"),
            )
        )
        assert (paper < 80) == dark
        assert abs(paper - ink) > 120 and abs(paper - code) > 100


def test_the_index_leads_through_the_chapters_and_back(report, browser):
    with Visit(browser, report.pages[-1]) as visit:
        visit.page.get_by_role("link", name="Measure what JPEG takes away").first.click()
        visit.page.get_by_role("link", name="Prepare pairs").first.click()
        visit.page.get_by_role("link", name="Contents").first.click()
        assert visit.page.url.endswith("index.html")
