"""A report as one HTML page that needs nothing else and asks nobody for anything.

Whatever comes from outside is text: escaped by the template, with control characters replaced, and
under a policy that runs one script and no other.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vsr.quality.figures import HEIGHT, WIDTH, histogram, maps, plots, short
from vsr.quality.report import Report, file_name, shown, timecode, to_edl

_MAX_POINTS = 20_000
_SUMMARY = (
    ("psnr_db", "Fidelity, PSNR", "dB", "reduced result against source, luma"),
    ("ssim", "Fidelity, SSIM", "", "the same"),
    ("flicker_codes", "Flicker", "codes", "change of the error along the motion"),
    ("detail_codes", "Detail added", "codes", "beyond what the source's size can hold"),
    ("sharpness", "Sharpness", "times", "steepness over the source's, at its size; 1 is alike"),
    ("overshoot_codes", "Overshoot", "codes", "halos and ringing beyond the source's range around"),
    ("clipped_share", "Clipped", "%", "pixels at black or white, less the source's"),
    ("blockiness", "Blockiness", "times", "steps at every eighth pixel, over the source's"),
    ("grain_codes", "Grain of the source", "codes", "in its flat places"),
    ("grain_kept", "Grain kept", "times", "the reduced result's over the source's; 1 is alike"),
    (
        "naturalness",
        "Naturalness",
        "",
        "distance from photographs, 0 is alike; our own fit, not NIQE's",
    ),
    ("delta_e", "Colour drift", "CIEDE2000", "mean colour of the worst shot; 1 is just noticed"),
    ("num_frozen", "Frozen frames", "", "stand still while the source moves"),
    ("num_black", "Black frames", "", "where the source is not"),
    ("reference_psnr_db", "Ground truth, PSNR", "dB", "luma at full size"),
    ("reference_ssim", "Ground truth, SSIM", "", "luma at full size"),
    ("reference_ms_ssim", "Ground truth, MS-SSIM", "", "luma at five sizes"),
    ("reference_xpsnr_db", "Ground truth, XPSNR", "dB", "luma, weighted by what eyes notice"),
    ("reference_vmaf", "Ground truth, VMAF", "of 100", "model v0.6.1; sharpening is rewarded"),
    ("reference_vmaf_neg", "Ground truth, VMAF-NEG", "of 100", "the same, sharpening is not"),
    ("reference_lpips", "Ground truth, LPIPS", "", "unlike to a network, AlexNet; 0 is alike"),
)


@dataclass(frozen=True, slots=True)
class Section:
    """A table of two columns."""

    title: str
    rows: list[tuple[str, str]]
    is_folded: bool = False


def to_html(report: Report) -> str:
    """The whole page."""
    environment = page_environment("vsr.quality")
    style, script = (packaged(environment, name) for name in ("report.css", "report.js"))
    stride = math.ceil(len(report.frames) / _MAX_POINTS)
    return environment.get_template("report.html").render(
        report=report,
        style=Markup(style),
        script=Markup(script),
        style_hash=policy_hash(style),
        script_hash=policy_hash(script),
        summary=_summary(report),
        plots=plots(report, stride),
        stride=stride,
        histogram=histogram(report),
        canvas=(WIDTH, HEIGHT),
        maps=maps(report),
        shots=[_shot_cells(report, number) for number in range(len(report.shots))],
        sections=_sections(report),
        edl=to_edl(report),
    )


def page_environment(*rooms: str) -> Environment:
    """For pages whose templates lie in `templates` of these rooms; the first that has one wins."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(room, "templates") for room in rooms]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = lambda value: shown(str(value))
    environment.filters["name"] = file_name
    return environment


def packaged(environment: Environment, name: str) -> str:
    """A style or script, as it stands in its file."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def policy_hash(text: str) -> str:
    """By which a page's policy allows one style or script and no other."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _summary(report: Report) -> list[tuple[str, str, str]]:
    lines = []
    for key, name, unit, meaning in _SUMMARY:
        value = getattr(report.summary, key)
        if value is not None:
            text = f"{round(100 * value, 2) + 0:+.2f}" if unit == "%" else short(value)
            plain = getattr(report.summary, f"plain_{key}", None)
            if plain is not None:
                meaning = f"{meaning}; plain interpolation: {short(plain)}"
            lines.append((name, f"{text} {unit}".rstrip(), meaning))
    return lines


def _shot_cells(report: Report, number: int) -> list[str]:
    shot, rate = report.shots[number], Fraction(report.frame_rate)
    return [
        str(shot.number),
        timecode(shot.first_frame, rate),
        timecode(shot.first_frame + shot.num_frames, rate),
        str(shot.num_frames),
        short(shot.psnr_db),
        short(shot.delta_e),
        ", ".join(f"{codes:+.2f}" for codes in shot.codes_rgb),
        short(shot.sharpness),
        short(shot.flicker_codes),
        short(shot.detail_codes),
        short(shot.grain_kept),
    ]


def _sections(report: Report) -> list[Section]:
    """What the run told, as tables of two columns."""
    run = report.run
    files = [("source", report.source), ("result", report.result)]
    if report.reference is not None:
        files.append(("reference", report.reference))
    plain = [
        (_spaced(key), _words(value))
        for key, value in run.items()
        if isinstance(value, str | int | float) and key not in ("source", "result")
    ]
    sections = [
        Section("Files and run", [*files, *plain]),
        Section("Damage, repairs and fallbacks", _numbered(run.get("events"))),
        Section("Streams, conversions and notes", _plan(run.get("plan"))),
        Section("Model", _pairs(run.get("model_card"))),
        Section("Seconds of each stage", _pairs(run.get("stages"))),
        Section("Digests", _pairs(run.get("digests"))),
        Section("Settings; those left out are unset", _pairs(run.get("settings")), is_folded=True),
        Section("Tags of the result", list(report.tags.items()), is_folded=True),
    ]
    return [section for section in sections if section.rows]


def _pairs(value: Any) -> list[tuple[str, str]]:
    if not isinstance(value, dict):
        return []
    return [(_spaced(name), _words(inner)) for name, inner in value.items() if _is_told(inner)]


def _numbered(value: Any) -> list[tuple[str, str]]:
    if not isinstance(value, list):
        return []
    return [(str(number), _words(inner)) for number, inner in enumerate(value, start=1)]


def _plan(value: Any) -> list[tuple[str, str]]:
    """What happens to each stream and tag; what is kept as it is takes one line together."""
    if not isinstance(value, list):
        return []
    rows, kept = [], []
    for item in value:
        if not isinstance(item, dict) or "action" not in item:
            words = _words(item["note"] if isinstance(item, dict) and "note" in item else item)
            rows.append(("note", words))
            continue
        if "what" in item:
            name = f"{item['what']} {item.get('name', '')} of {item.get('of', 'file')}"
        else:
            name = f"stream {item.get('index')}, {item.get('kind')} {item.get('codec') or ''}"
        if item["action"] == "keep" and not item.get("reason"):
            kept.append(name.strip())
            continue
        action = " to ".join(_words(item[k]) for k in ("action", "target_codec") if item.get(k))
        loss = "; a loss" if item.get("is_loss") else ""
        reason = item.get("reason")
        rows.append((name.strip(), f"{action}{f': {_words(reason)}' if reason else ''}{loss}"))
    return [*rows, ("kept as it was", ", ".join(kept))] if kept else rows


def _is_told(value: Any) -> bool:
    return value is not None and value != "" and value != [] and value != {}


def _spaced(name: str) -> str:
    return str(name).replace("_", " ")


def _words(value: Any) -> str:
    if isinstance(value, dict):
        told = ((key, inner) for key, inner in value.items() if _is_told(inner))
        return "; ".join(f"{_spaced(key)}: {_words(inner)}" for key, inner in told)
    if isinstance(value, list | tuple):
        items = (i.values() if isinstance(i, dict) else [i] for i in value)
        return "; ".join(", ".join(_words(v) for v in item if _is_told(v)) for item in items)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
