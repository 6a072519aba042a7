"""The page in a real browser: it works, asks nobody for anything, and shows hostile text as text.

Needs Playwright for Python and Debian's Chromium, or the browser that VSR_CHROMIUM names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import launched
from tests.quality.test_report import (
    CUT,
    FRAMES,
    HOSTILE,
    blurred,
    measured,
    report_of,
)
from vsr.cli.main import run
from vsr.quality.page import to_html
from vsr.quality.report import Report, shown

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@dataclass
class Seen:
    """A page, and what it said and asked for."""

    page: Page
    url: str
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def assert_quiet(self) -> None:
        """Nothing on the console, nothing but the page itself and its own pictures fetched."""
        assert self.messages == []
        assert self.dialogs == []
        assert [url for url in self.requests if not url.startswith("data:image/jpeg")] == [self.url]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from launched()


Opener = Callable[..., Seen]


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Opener]:
    contexts = []

    def opened(report: Report | Path, **options: Any) -> Seen:
        path = tmp_path / "page.html" if isinstance(report, Report) else report
        if isinstance(report, Report):
            path.write_text(to_html(report), encoding="utf-8")
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        seen = Seen(page, path.as_uri())

        def refuse(dialog: Any) -> None:
            seen.dialogs.append(dialog.message)
            dialog.dismiss()

        page.on("console", lambda message: seen.messages.append(message.text))
        page.on("pageerror", lambda error: seen.messages.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("dialog", refuse)
        page.goto(seen.url)
        return seen

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def report() -> Report:
    """Of a film whose second shot is blurred, told by an honest run."""
    row = {"name": "frames", "ok": True, "source": "24", "result": "24", "note": ""}
    return report_of(
        measured(blurred),
        check={"ok": True, "rows": [row]},
        run={"model": "flowprop-s-x4-bi", "plan": [{"note": "one"}], "settings": {"crf": None}},
    )


def clip(page: Page) -> tuple[float, float]:
    """Share of the first picture that shows the source, and where its border stands."""
    return page.evaluate(  # type: ignore[no-any-return]
        """() => {
            const box = document.querySelector(".slider").getBoundingClientRect();
            const border = document.querySelector(".border").getBoundingClientRect();
            const shape = getComputedStyle(document.querySelectorAll(".slider img")[1]).clipPath;
            return [parseFloat(shape.match(/([0-9.]+)%/)[1]) / 100,
                (border.left + border.width / 2 - box.left) / box.width];
        }"""
    )


def test_the_border_moves_by_keyboard_and_by_pointer(report: Report, show: Opener) -> None:
    seen = show(report)
    page = seen.page
    page.locator(".compare input").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert clip(page) == pytest.approx((0.52, 0.52), abs=0.005)
    page.keyboard.press("Home")
    assert clip(page) == pytest.approx((0, 0), abs=0.005)
    area = page.locator(".slider").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.3 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], y)
    page.mouse.up()
    # Without the button held it stays.
    page.mouse.move(box["x"] + 0.1 * box["width"], y)
    assert clip(page) == pytest.approx((0.8, 0.8), abs=0.01)
    assert page.locator(".compare input").first.input_value() == "80"
    seen.assert_quiet()


def test_plots_have_every_point_and_say_their_values(report: Report, show: Opener) -> None:
    seen = show(report)
    plots = seen.page.locator(".plot")
    assert plots.count() == 8
    # The first frame of a shot has no flicker.
    for number, expected in ((0, [FRAMES]), (2, [CUT - 1, FRAMES - CUT - 1]), (7, [FRAMES] * 3)):
        lines = (
            plots.nth(number)
            .locator("polyline")
            .evaluate_all("lines => lines.map(line => line.points.numberOfItems)")
        )
        assert lines == expected
    svg = plots.first.locator("svg")
    svg.focus()
    seen.page.keyboard.press("ArrowRight")
    said = plots.first.locator("output")
    value = f"{report.frames[1].psnr_db:.4g}"
    assert said.inner_text() == f"frame 1, 0.040 s: {value} dB"
    assert svg.get_attribute("aria-valuetext") == said.inner_text()
    seen.page.keyboard.press("End")
    assert said.inner_text().startswith(f"frame {FRAMES - 1},")
    box = svg.bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] * CUT / (FRAMES - 1)
    seen.page.mouse.move(middle, box["y"] + box["height"] / 2)
    assert said.inner_text().startswith(f"frame {CUT},")
    seen.assert_quiet()


def test_what_to_look_at_is_named_and_marked(report: Report, show: Opener) -> None:
    seen = show(report)
    assert "blur" in seen.page.locator("#findings").inner_text()
    assert "blur" in seen.page.locator(".verdict.bad").inner_text()
    mark = seen.page.locator(".plot").first.locator("rect.found").first
    left, width = (float(mark.get_attribute(name) or "nan") for name in ("x", "width"))
    assert left / 1000 == pytest.approx((CUT - 0.5) / (FRAMES - 1), abs=0.001)
    assert width / 1000 == pytest.approx((FRAMES - CUT) / (FRAMES - 1), abs=0.001)
    seen.assert_quiet()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(
    report: Report, show: Opener, width: int, scheme: str
) -> None:
    screen: dict[str, Any] = {"width": width, "height": 800}
    page = show(report, viewport=screen, color_scheme=scheme).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Contrast of text on its ground, as WCAG 2.2 counts it: 4.5 for text of this size.
    contrast = page.evaluate(
        """() => {
            const light = (text) => {
                const [r, g, b] = text.match(/[0-9.]+/g).map(Number).map((c) => c / 255)
                    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
            };
            const ground = light(getComputedStyle(document.body).backgroundColor);
            return ["body", ".soft", "figcaption span", ".ok"].map((name) => {
                const ink = light(getComputedStyle(document.querySelector(name)).color);
                return Math.max(ink, ground) / Math.min(ink, ground);
            });
        }"""
    )
    assert min(contrast) >= 4.5


def test_paper_shows_all_and_stays_white(report: Report, show: Opener) -> None:
    page = show(report, color_scheme="dark", viewport={"width": 718, "height": 1000}).page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 718


def test_hostile_names_and_tags_are_text(report: Report, show: Opener) -> None:
    row = {"name": HOSTILE, "ok": True, "source": HOSTILE, "result": HOSTILE, "note": HOSTILE}
    finding = report.findings[0].model_copy(update={"kind": HOSTILE, "sentence": HOSTILE})
    hostile = report.model_copy(
        update={
            "source": HOSTILE,
            "result": f"folder/{HOSTILE}",
            "reference": HOSTILE,
            "verdict": HOSTILE,
            "findings": (finding,),
            "check": {"ok": True, "rows": [row]},
            "run": {
                HOSTILE: HOSTILE,
                "model_card": {HOSTILE: [HOSTILE]},
                "events": [{HOSTILE: HOSTILE}],
                "plan": [{"note": HOSTILE}, {"action": HOSTILE, "what": HOSTILE}],
            },
            "tags": {HOSTILE: HOSTILE, "javascript:alert(2)": "\x00\x1b]0;x\x07"},
        }
    )
    seen = show(hostile)
    page = seen.page
    seen.assert_quiet()
    assert page.locator("script").count() == 1
    assert page.locator("img:not([src^='data:image/jpeg'])").count() == 0
    assert page.locator("a, form, iframe, object, embed, link, base").count() == 0
    cell = page.locator("#conformance tbody td").nth(1)
    assert cell.text_content() == shown(HOSTILE)
    assert page.title().endswith(shown(HOSTILE))
    assert page.locator(".compare").count() == len(report.stills)


def test_the_page_of_a_real_run(media_dir: Path, tmp_path: Path, show: Opener) -> None:
    """By the command line, with a network, on a film with sound."""
    result = tmp_path / "large.mkv"
    arguments = ["--start", "10", "--duration", "0.25", "--device", "cpu", "--report", "-q"]
    source = str(media_dir / "bbb_480p_30s.mp4")
    assert run(["upscale", "--model", "flowprop-xs-x4-bi", *arguments, source, str(result)]) == 0
    seen = show(result.with_name("large.mkv.report.html"))
    page = seen.page
    assert "the same film" in page.locator(".verdict").inner_text()
    points = page.locator(".plot").first.locator("polyline")
    assert points.evaluate("line => line.points.numberOfItems") == 6
    page.locator(".compare input").first.focus()
    page.keyboard.press("ArrowRight")
    assert clip(page) == pytest.approx((0.51, 0.51), abs=0.005)
    text = page.locator("main").inner_text()
    for words in ("Naturalness", "not NIQE's", "bottleneck", "flowprop-xs-x4-bi", "audio 0"):
        assert words in text
    assert page.locator("summary", has_text="Settings").count() == 1
    seen.assert_quiet()
