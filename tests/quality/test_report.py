"""Whole reports of tiny films: planted defects are found, clean ones pass, hostile text is text."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.media.film import BT709, YUV420
from vsr.frame import Frame
from vsr.pipeline.shots import CutDetector
from vsr.quality.figures import plots
from vsr.quality.findings import verdict
from vsr.quality.measure import Film, Measured, measure
from vsr.quality.page import to_html
from vsr.quality.report import Report, timecode, to_csv, to_edl
from vsr.quality.views import Viewer, resize

ROWS, COLUMNS, FRAMES, CUT = 64, 96, 24, 12
Spoil = Callable[[int, list[NDArray[np.float32]]], list[NDArray[np.float32]]]
HOSTILE = "</script><script>alert(1)</script>\"'<img src=x onerror=alert(1)>\x1b[31m\u202e\udcff"


def scene(index: int, rows: int, columns: int) -> NDArray[np.float32]:
    """Codes 0 to 255 of one of two shots, drawn at any size."""
    y, x = np.mgrid[0:rows, 0:columns]
    y, x = (y + 0.5) * ROWS / rows, (x + 0.5) * COLUMNS / columns
    if index < CUT:
        wave = np.sin((x + 2 * index) / 4) * np.cos((y - index) / 5)
    else:
        wave = np.cos(np.hypot(x - 40, y - 20 + index) / 3)
    return np.asarray(126 + 70 * wave, np.float32)


def frame(index: int, planes: list[NDArray[np.float32]]) -> Frame:
    codes = tuple(np.rint(np.clip(plane, 16, 240)).astype(np.uint8) for plane in planes)
    return Frame(planes=codes, layout=YUV420, color=BT709, pts=index * 40)


def pictures(index: int, factor: int = 1) -> list[NDArray[np.float32]]:
    rows, columns = ROWS * factor, COLUMNS * factor
    chroma = scene(index, rows // 2, columns // 2)
    return [scene(index, rows, columns), 128 + 0.1 * (chroma - 126), 128 - 0.1 * (chroma - 126)]


def measured(spoil: Spoil | None = None) -> Measured:
    color = BT709
    viewers = Viewer(color), Viewer(color)
    source = (frame(k, pictures(k)) for k in range(FRAMES))
    result = (
        frame(k, pictures(k, 2) if spoil is None else spoil(k, pictures(k, 2)))
        for k in range(FRAMES)
    )
    base = Fraction(1, 1000)
    return measure(Film(source, viewers[0], base), Film(result, viewers[1], base), CutDetector())


def report_of(found: Measured, **changes: Any) -> Report:
    values: dict[str, Any] = {
        "source": "a.mkv",
        "result": "b.mkv",
        "source_size": (COLUMNS, ROWS),
        "result_size": (2 * COLUMNS, 2 * ROWS),
        "frame_rate": "25",
        "num_frames": len(found.frames),
        "ok": not found.findings,
        "verdict": verdict(found.findings, True),
        "findings": found.findings,
        "summary": found.summary,
        "frames": found.frames,
        "shots": found.shots,
        "stills": found.stills,
        "detail_map": found.detail_map,
        "worst_map": found.worst_map,
        "histogram": found.histogram,
    }
    return Report(**{**values, **changes})


@pytest.fixture(scope="module")
def clean() -> Measured:
    return measured()


def test_a_clean_result_raises_no_alarm(clean: Measured) -> None:
    assert clean.findings == ()
    assert [shot.first_frame for shot in clean.shots] == [0, CUT]
    assert len(clean.frames) == FRAMES
    assert [f.frame for f in clean.frames if f.flicker_codes is None] == [0, CUT]
    titles = [title for still in clean.stills for title in still.title.split(" and ")]
    assert sorted(titles) == ["best", "typical", "worst"]
    assert len({still.frame for still in clean.stills}) == len(clean.stills)


def test_noise_and_darkness_raise_no_alarm() -> None:
    noise = np.random.default_rng(4)

    def grainy(_: int, planes: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return [p + noise.normal(0, 2, p.shape).astype(np.float32) for p in planes]

    assert measured(grainy).findings == ()


def frozen(index: int, planes: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    return pictures(4, 2) if index == 5 else planes


def black(index: int, planes: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    return [0 * planes[0] + 16, *(0 * p + 128 for p in planes[1:])] if index == 7 else planes


def discolored(index: int, planes: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    return [planes[0], planes[1], planes[2] + 3] if index >= CUT else planes


def blurred(index: int, planes: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    if index < CUT:
        return planes
    soft = resize(resize(planes[0], 10, 15), *planes[0].shape)
    return [soft, *planes[1:]]


def flickering(index: int, planes: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    return [planes[0] + 4 * (index % 2), *planes[1:]] if 14 <= index < 19 else planes


def seamed(_: int, planes: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    luma = planes[0].copy()
    luma[:, COLUMNS:] += 3
    return [luma, *planes[1:]]


def invented(index: int, planes: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    luma = planes[0].copy()
    if index == 9:
        luma[40:80, 60:110] = 200
    return [luma, *planes[1:]]


@pytest.mark.parametrize(
    ("spoil", "kind", "first", "last"),
    [
        (frozen, "frozen", 5, 5),
        (black, "black", 7, 7),
        (discolored, "colour", CUT, FRAMES - 1),
        (blurred, "blur", CUT, FRAMES - 1),
        (flickering, "flicker", 15, 18),
        (invented, "unlike", 9, 9),
    ],
)
def test_a_planted_defect_is_found_where_it_is(
    spoil: Spoil, kind: str, first: int, last: int
) -> None:
    found = [f for f in measured(spoil).findings if f.kind == kind]
    assert len(found) == 1
    start = found[0].first_frame
    assert start is not None
    assert (start, start + found[0].num_frames - 1) == (first, last)


def test_a_seam_is_named() -> None:
    found = [f for f in measured(seamed).findings if f.kind == "seam"]
    assert found
    assert any(f"column {COLUMNS // 2}" in f.sentence for f in found)


class Page(HTMLParser):
    """Tags with their attributes, and all text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts.append(data)
        if self._open == "style":
            self.styles.append(data)
        self._open = "" if self._open in ("script", "style") else self._open


def test_the_page_is_complete_and_asks_nobody(clean: Measured) -> None:
    html = to_html(report_of(clean))
    page = Page(html)
    # Base64 may hold anything that looks like an address.
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r'src="data:[^"]*"', "", html))
    assert not any(name.startswith("on") for _, given in page.tags for name in given)
    policy = next(str(g["content"]) for t, g in page.tags if t == "meta" and "http-equiv" in g)
    assert policy.startswith("default-src 'none'")
    for text, kind in ((page.scripts[0], "script"), (page.styles[0], "style")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    plots = [given for tag, given in page.tags if given.get("class") == "plot"]
    assert all(len(str(given["data-values"]).split()) == FRAMES for given in plots)
    assert len(re.findall(r'class="curve before"', html)) == 1
    curves = [given for tag, given in page.tags if tag == "polyline"]
    assert len(str(curves[0]["points"]).split()) == FRAMES
    pictures = [given for tag, given in page.tags if tag == "img"]
    assert len(pictures) == 4 * len(clean.stills)
    assert all(str(p["src"]).startswith("data:image/jpeg;base64,/9j/") for p in pictures)


def test_hostile_text_is_text(clean: Measured) -> None:
    row = {"name": HOSTILE, "ok": True, "source": HOSTILE, "result": HOSTILE, "note": HOSTILE}
    report = report_of(
        clean,
        source=HOSTILE,
        result="=cmd|' /C calc'!A0",
        check={"ok": True, "rows": [row]},
        run={"model": HOSTILE, "events": [{"kind": HOSTILE}], "plan": [{"note": HOSTILE}]},
        tags={"title": HOSTILE},
    )
    html = to_html(report)
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any("onerror" in given for _, given in page.tags)
    assert not any(c in html for c in "\x1b\u202e")
    html.encode("utf-8")
    document = json.loads(report.to_json())
    assert document["run"]["model"].startswith("</script>")
    assert "\x1b" not in document["check"]["rows"][0]["note"]


def test_csv_and_edl_say_what_was_measured(clean: Measured) -> None:
    report = report_of(clean)
    rows = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert len(rows) == FRAMES
    assert float(rows[3]["psnr_db"]) == pytest.approx(report.frames[3].psnr_db, rel=1e-5)
    assert rows[0]["flicker_codes"] == ""
    assert to_edl(report).splitlines()[2:] == [
        "001  AX       V     C        00:00:00:00 00:00:00:12 00:00:00:00 00:00:00:12",
        "002  AX       V     C        00:00:00:12 00:00:00:24 00:00:00:12 00:00:00:24",
    ]
    assert timecode(25 * 3661 + 7, Fraction(25)) == "01:01:01:07"


def test_a_cell_is_no_formula() -> None:
    from vsr.quality.report import cell

    assert [cell(v) for v in ("=1+1", " @x", "plain", None)] == ["'=1+1", "' @x", "plain", ""]
    assert cell(-1.5) == "-1.5"


def test_a_turned_and_boxed_film_is_seen_upright() -> None:
    planes = pictures(3)
    upright = Viewer(BT709).view(frame(3, planes))
    turned = replace(
        frame(3, planes), planes=tuple(np.rot90(p, -1) for p in frame(3, planes).planes)
    )
    seen = Viewer(BT709, turn=90).view(turned)
    assert np.array_equal(seen.luma_HW, upright.luma_HW)
    assert np.array_equal(seen.small_3HW, upright.small_3HW)
    boxed = Viewer(BT709, box=(10, 4, 20, 16)).view(frame(3, planes))
    assert np.array_equal(boxed.luma_HW, upright.luma_HW[4:20, 10:30])


def test_what_was_measured_now_and_then_is_one_curve(clean: Measured) -> None:
    frames = tuple(
        f.model_copy(update={"reference_vmaf": 90.0 + f.frame if f.frame % 5 == 0 else None})
        for f in clean.frames
    )
    report = report_of(clean, frames=frames)
    plot = next(plot for plot in plots(report, 1) if "VMAF" in plot.title)
    assert len(plot.curves[0].stretches) == 1
    assert len(plot.curves[0].stretches[0].split()) == len(plot.values.split()) == 5
    assert plot.end == f"{frames[-1].time_s:.1f}"
    flicker = next(plot for plot in plots(report, 1) if plot.title == "Flicker")
    assert len(flicker.curves[0].stretches) == 2


def test_a_black_frame_is_no_example_of_the_best() -> None:
    def starts_black(index: int, factor: int) -> list[NDArray[np.float32]]:
        luma, *chroma = pictures(index, factor)
        return [0 * luma + 16, *(0 * p + 128 for p in chroma)] if index < 4 else [luma, *chroma]

    source, result = (
        Film([frame(k, starts_black(k, n)) for k in range(10)], Viewer(BT709), Fraction(1, 1000))
        for n in (1, 2)
    )
    stills = measure(source, result, CutDetector()).stills
    frames = {title: still.frame for still in stills for title in still.title.split(" and ")}
    assert frames["best"] >= 4
    assert frames["typical"] >= 4
