"""The summary page in a real browser: it sorts, it chooses, and asks nobody for anything.

Needs Playwright for Python and Debian's Chromium, or the browser that VSR_CHROMIUM names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urlsplit

import pytest

from tests.batch.test_summary import HOSTILE, fill
from tests.browser import launched
from vsr.cli.main import run
from vsr.quality.report import shown

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Opener = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from launched()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("summary") / "out"
    fill(out)
    assert run(["batch", "-q", "report", str(out)]) == 0
    return out / "batch.report.html"


@pytest.fixture
def show(browser: Browser, page_file: Path) -> Iterator[Opener]:
    """Opens the page; in the end nothing was said on its console, and nothing else fetched."""
    contexts, heard = [], []

    def opened(**options: Any) -> Page:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", lambda dialog: heard.append(dialog.message))
        page.on("request", lambda request: heard.append(request.url))
        page.goto(page_file.as_uri())
        assert heard.pop(0) == page_file.as_uri()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert heard == []


def clips(page: Page) -> list[str]:
    return page.locator("#clips tbody tr:visible th").all_text_contents()


def sort_by(page: Page, name: str) -> list[str]:
    page.get_by_role("button", name=name, exact=True).click()
    return clips(page)


def test_columns_sort_both_ways_and_what_has_no_figure_comes_last(show: Opener) -> None:
    page = show()
    worst_first = clips(page)
    assert worst_first[0] == "e cut.mp4"
    assert sort_by(page, "PSNR dB")[:3] == ["c plain.mp4", "a fine.mp4", "d blurred.mp4"]
    assert sort_by(page, "PSNR dB")[:3] == ["d blurred.mp4", "a fine.mp4", "c plain.mp4"]
    head = page.locator("th[aria-sort]")
    assert (head.count(), head.get_attribute("aria-sort")) == (1, "descending")
    # As numbers: 9 < 100 < 2000.
    assert sort_by(page, "Frames")[:2] == ["g next.mp4", shown(HOSTILE)]
    assert sort_by(page, "Frames")[0] == "c plain.mp4"
    assert sort_by(page, "State") == worst_first
    page.get_by_role("button", name="Clip").focus()
    page.keyboard.press("Enter")
    assert clips(page)[-1] == "h shaky.mp4"


def test_clips_are_chosen_by_words(show: Opener) -> None:
    page = show()
    page.get_by_label("Show only clips with").fill("QUARANT")
    assert clips(page) == ["e cut.mp4"]
    assert page.locator("#shown").inner_text() == "1 of 9"
    page.get_by_label("Show only clips with").fill("")
    assert len(clips(page)) == 9


def test_links_lead_beside_the_page_whatever_the_name(show: Opener, page_file: Path) -> None:
    page = show()
    links = page.locator("#clips a")
    assert links.count() == 13
    found = links.evaluate_all("links => links.map(link => link.href)")
    for address in found:
        assert address.startswith("file://")
        path = Path(os.fsdecode(unquote_to_bytes(urlsplit(address).path)))
        assert path.is_file()
        assert path.is_relative_to(page_file.parent)
    assert page.locator("img, form, iframe, object, embed, link, base").count() == 0
    assert page.locator("script").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_is_wider_than_the_screen(show: Opener, width: int, scheme: str) -> None:
    screen: dict[str, Any] = {"width": width, "height": 800}
    page = show(viewport=screen, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    table = page.locator(".wide").first
    room, links = table.bounding_box(), page.locator("#clips .links").first.bounding_box()
    assert room is not None and links is not None
    # On a phone the links at least, on a desk the whole table is in sight.
    assert links["x"] + links["width"] <= room["x"] + room["width"]
    assert width < 1280 or table.evaluate("box => box.scrollWidth <= box.clientWidth")
    ground = "rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 24, 28)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
    folder = os.environ.get("VSR_SCREENSHOTS")
    if folder:
        page.screenshot(path=f"{folder}/summary-{width}-{scheme}.png", full_page=True)
