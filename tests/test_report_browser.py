"""The report page in a real browser, headless: it renders, its parts work, and nothing that a shop writes can run."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_night import HOSTILE, HOSTILE_USER, USERS

from mmsrarec.config import Config
from mmsrarec.reports.page import stage

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (Debian: apt-get install chromium)")
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def place(small_night: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("page") / "report.html"
    stage.write(small_night, user_ids=USERS, out=made)
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


class Watched:
    """The page, what it said on the console, and the addresses it asked for."""

    def __init__(self, browser: object, place: Path, **options: object):
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_context(**options).new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.route("**/*", self._route)
        self.page.goto(place.as_uri())

    def _route(self, route: object) -> None:
        address = route.request.url
        if address.startswith("data:"):
            return route.continue_()
        self.asked.append(address)
        return route.continue_() if address.startswith("file:") else route.abort()

    def style(self, selector: str, name: str) -> str:
        return self.page.eval_on_selector(selector, "(element, name) => getComputedStyle(element)[name]", name)


@pytest.fixture
def opened(browser: object, place: Path) -> Watched:
    return Watched(browser, place)


def test_it_renders_and_says_nothing_and_asks_for_nothing(opened: Watched, place: Path) -> None:
    page = opened.page
    page.click("#open")
    page.wait_for_timeout(300)
    assert page.inner_text("h1") == "The night of 2026-03-02"
    assert page.locator("section").count() == 8 and page.locator("figure svg[role=img]").count() >= 6
    assert page.locator("figure svg text").first.text_content().strip()
    shown = page.locator("details.person .listed .picture use").first.bounding_box()
    assert shown["width"] == shown["height"] == pytest.approx(84)
    assert opened.said == [] and opened.asked == [place.as_uri()]


def test_what_a_shop_writes_is_text(opened: Watched) -> None:
    page = opened.page
    page.click("#open")
    for title in page.locator("bdi.title").all():
        title.hover()
    assert page.evaluate("window.broken") is None
    text = page.inner_text("main")
    assert HOSTILE["i1"] in text and HOSTILE["i2"] in text and HOSTILE_USER in text
    assert page.locator("script").count() == 1 and page.locator("img, iframe, object, embed, form, link").count() == 0
    assert page.is_visible("footer") and opened.said == []


def test_the_policy_stops_a_script_that_got_in(opened: Watched) -> None:
    """The second wall: whatever escaping might miss still cannot run or call home."""
    opened.page.evaluate(
        """() => {
        document.body.insertAdjacentHTML("beforeend",
          '<img src="http://evil.example/1.png" onerror="window.broken = 1">');
        document.body.insertAdjacentHTML("beforeend", '<b onclick="window.broken = 2" id="x">x</b>');
        const script = document.createElement("script");
        script.textContent = "window.broken = 3";
        document.body.append(script);
        document.getElementById("x").click();
        fetch("http://evil.example/2").catch(() => {});
    }"""
    )
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("window.broken") is None
    assert not [address for address in opened.asked if "evil" in address]


def test_people_are_found_and_opened(opened: Watched) -> None:
    page = opened.page
    people = page.locator("details.person")
    assert people.count() == 4
    page.fill("#find", "u2")
    assert [person.is_visible() for person in people.all()] == [False, False, True, False]
    assert page.inner_text("#found") == "1 of 4"
    page.fill("#find", "nobody like this")
    assert page.is_visible("#nobody")
    page.fill("#find", "")
    page.click("#close")
    assert not page.locator("details.person[open]").count()
    page.locator("details.person > summary").nth(1).press("Enter")
    assert page.locator("details.person[open]").count() == 1


def test_tables_are_sorted_by_a_click(opened: Watched) -> None:
    head = opened.page.locator("#funnel thead button", has_text="candidates")
    cells = opened.page.locator("#funnel tbody tr td:nth-child(2)")
    head.click()
    assert cells.all_inner_texts() == ["8", "4", "4"]
    head.click()
    assert cells.all_inner_texts() == ["4", "4", "8"]
    assert opened.page.get_attribute("#funnel th:has-text('candidates')", "aria-sort") == "ascending"


def test_the_theme_follows_the_system_and_the_button(browser: object, place: Path) -> None:
    light, dark = (Watched(browser, place, color_scheme=scheme) for scheme in ("light", "dark"))
    papers = [watched.style("body", "backgroundColor") for watched in (light, dark)]
    assert papers[0] != papers[1]
    assert light.style("figure svg text", "fill") != dark.style("figure svg text", "fill")
    for expected in ("light", "dark"):
        light.page.click("#theme")
        assert expected in light.page.inner_text("#theme")
    assert light.style("body", "backgroundColor") == papers[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(browser: object, place: Path, scheme: str) -> None:
    """WCAG AA: 4.5 between text and what is behind it."""
    page = Watched(browser, place, color_scheme=scheme).page
    page.click("#open")
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) > 50
    assert not [found for found in ratios if found[1] < 4.5]


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const pixels = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (color) => {
    const [r, g, b] = [...pixels(color)].slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return pixels(color)[3] === 255 || !element.parentElement ? color : behind(element.parentElement);
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("script, style")) continue;
    const style = getComputedStyle(element);
    const [ink, paper] = [light(element.closest("svg") ? style.fill : style.color), light(behind(element))];
    found.push([element.textContent.slice(0, 40), (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)]);
  }
  return found;
}"""


def test_a_phone_needs_no_scrolling_to_the_side(browser: object, place: Path) -> None:
    page = Watched(browser, place, viewport=PHONE).page
    page.click("#open")
    for details in page.locator("details:not([open]) > summary").all():
        if details.is_visible():
            details.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_it_can_be_read_without_scripts_and_by_keyboard(browser: object, place: Path) -> None:
    page = Watched(browser, place, java_script_enabled=False).page
    assert not page.is_visible("#theme") and not page.is_visible("#find")
    page.locator("details.person > summary").nth(1).click()
    assert page.locator("details.person[open]").count() == 3
    page = Watched(browser, place).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#overview"
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_on_paper_everything_is_open(opened: Watched) -> None:
    page = opened.page
    page.click("#close")
    page.emulate_media(media="print")
    assert not page.is_visible("nav") and not page.is_visible(".controls")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("details:not([open])").count()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not page.locator("details.person[open]").count()
    assert page.pdf(format="A4").startswith(b"%PDF")
