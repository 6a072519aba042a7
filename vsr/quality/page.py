"""A report as one HTML page that needs nothing else and asks nobody for anything.

Whatever comes from outside is text: escaped by the template, with control characters replaced, and
under a policy that runs one script and no other.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vsr.quality.report import FrameScore, Report, shown, timecode, to_edl

_LEFT_PX, _WIDTH_PX, _HEIGHT_PX = 48, 900, 120
_MAX_POINTS = 20_000
_CURVES = (
    ("Reduced result against source, PSNR", "psnr_db", "dB"),
    ("Reduced result against source, SSIM", "ssim", "SSIM"),
    ("Flicker", "flicker_codes", "codes"),
    ("Detail beyond the source", "detail_codes", "codes"),
    ("Sharpness over the source's", "sharpness", "times"),
    ("Halos and ringing", "overshoot_codes", "codes"),
    ("Red, result less source", "red_codes", "codes"),
    ("Green, result less source", "green_codes", "codes"),
    ("Blue, result less source", "blue_codes", "codes"),
    ("Against the ground truth, PSNR of luma", "reference_psnr_db", "dB"),
    ("Against the ground truth, SSIM of luma", "reference_ssim", "SSIM"),
)
_SUMMARY = (
    ("psnr_db", "Fidelity, PSNR", "dB", "reduced result against source, luma"),
    ("ssim", "Fidelity, SSIM", "", "the same"),
    ("flicker_codes", "Flicker", "codes", "change of the error along the motion"),
    ("detail_codes", "Detail added", "codes", "beyond what the source's size can hold"),
    ("sharpness", "Sharpness", "times", "steepness over the source's, at its size; 1 is alike"),
    ("overshoot_codes", "Overshoot", "codes", "halos and ringing beyond the source's range around"),
    ("clipped_share", "Clipped", "of 1", "pixels at black or white, less the source's"),
    ("blockiness", "Blockiness", "times", "steps at every eighth pixel, over the source's"),
    ("delta_e", "Colour drift", "CIEDE2000", "mean colour of the worst shot"),
    ("num_frozen", "Frozen frames", "", "stand still while the source moves"),
    ("num_black", "Black frames", "", "where the source is not"),
    ("reference_psnr_db", "Ground truth, PSNR", "dB", "luma at full size"),
    ("reference_ssim", "Ground truth, SSIM", "", "luma at full size"),
)
_SECTIONS = (
    ("plan", "Streams, conversions and notes"),
    ("events", "Damage, repairs and fallbacks"),
    ("settings", "Settings"),
    ("model_card", "Model"),
    ("stages", "Seconds of each stage"),
    ("digests", "Digests"),
)


def to_html(report: Report) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("vsr.quality", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters["shown"] = lambda value: shown(str(value))
    style, script = (_packaged(environment, name) for name in ("report.css", "report.js"))
    stride = math.ceil(len(report.frames) / _MAX_POINTS)
    return environment.get_template("report.html").render(
        report=report,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        summary=_summary(report),
        plots=_plots(report, stride),
        stride=stride,
        maps=_maps(report),
        shots=[_shot_cells(report, number) for number in range(len(report.shots))],
        sections=_sections(report),
        edl=to_edl(report),
    )


def _packaged(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _summary(report: Report) -> list[tuple[str, str, str]]:
    lines = []
    for key, name, unit, meaning in _SUMMARY:
        value = getattr(report.summary, key)
        if value is not None:
            lines.append((name, f"{_short(value)} {unit}".rstrip(), meaning))
    return lines


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class _Plot:
    title: str
    unit: str
    low: str
    high: str
    end: str
    curves: list[str]
    """Points of each stretch without a gap."""
    cuts: list[str]
    values: str
    left: int = _LEFT_PX
    width: int = _WIDTH_PX
    height: int = _HEIGHT_PX


def _plots(report: Report, stride: int) -> list[_Plot]:
    frames = report.frames[:: max(1, stride)]
    plots = []
    for title, key, unit in _CURVES:
        values = [getattr(frame, key) for frame in frames]
        if any(value is not None for value in values):
            plots.append(_plot(title, unit, frames, values, report))
    return plots


def _plot(
    title: str,
    unit: str,
    frames: Sequence[FrameScore],
    values: Sequence[float | None],
    report: Report,
) -> _Plot:
    known = [value for value in values if value is not None]
    low, high = min(known), max(known)
    room = max((high - low) * 0.05, 1e-3 * max(abs(high), 1e-3))
    low, high = low - room, high + room
    last = max(1, len(values) - 1)
    curves: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            curves.append([])
            continue
        x = _LEFT_PX + _WIDTH_PX * index / last
        y = _HEIGHT_PX * (high - value) / (high - low)
        curves[-1].append(f"{x:.1f},{y:.1f}")
    cuts = [
        f"{_LEFT_PX + _WIDTH_PX * shot.first_frame / max(1, report.num_frames - 1):.1f}"
        for shot in report.shots[1:]
    ]
    said = " ".join(
        f"{f.frame},{f.time_s:.3f},{_short(v)}" for f, v in zip(frames, values, strict=True)
    )
    return _Plot(
        title=title,
        unit=unit,
        low=_short(low),
        high=_short(high),
        end=f"{frames[-1].time_s:.1f}",
        curves=[" ".join(points) for points in curves if points],
        cuts=cuts,
        values=said,
    )


def _maps(report: Report) -> list[dict[str, Any]]:
    made = []
    for title, rows, unit in (
        ("Where detail was added, over the film", report.detail_map, "codes"),
        ("Where the worst frame is unlike its source", report.worst_map, "squared codes"),
    ):
        if not rows:
            continue
        most = max(max(row) for row in rows)
        made.append(
            {
                "title": title,
                "unit": unit,
                "most": _short(most),
                "rows": len(rows),
                "columns": len(rows[0]),
                "cells": [
                    (x, y, f"{value / most if most else 0:.3f}")
                    for y, row in enumerate(rows)
                    for x, value in enumerate(row)
                ],
            }
        )
    return made


def _shot_cells(report: Report, number: int) -> list[str]:
    shot, rate = report.shots[number], Fraction(report.frame_rate)
    return [
        str(shot.number),
        timecode(shot.first_frame, rate),
        timecode(shot.first_frame + shot.num_frames, rate),
        str(shot.num_frames),
        _short(shot.psnr_db),
        _short(shot.delta_e),
        ", ".join(f"{codes:+.2f}" for codes in shot.codes_rgb),
        _short(shot.sharpness),
        _short(shot.flicker_codes),
        _short(shot.detail_codes),
    ]


def _sections(report: Report) -> list[tuple[str, list[tuple[str, str]]]]:
    """What the run told, as tables of two columns."""
    run = report.run
    plain = [(key, _words(value)) for key, value in run.items() if _is_plain(value)]
    sections = [("The run", plain)] if plain else []
    for key, title in _SECTIONS:
        value = run.get(key)
        if isinstance(value, dict) and value:
            sections.append((title, [(name, _words(inner)) for name, inner in value.items()]))
        elif isinstance(value, list) and value:
            numbered = enumerate(value, start=1)
            sections.append((title, [(str(number), _words(inner)) for number, inner in numbered]))
    if report.tags:
        sections.append(("Tags of the result", list(report.tags.items())))
    return sections


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_words(inner)}" for key, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
