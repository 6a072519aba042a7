"""Curves and maps of a report as numbers that the page's template draws.

A curve is drawn on a canvas of `WIDTH` x `HEIGHT` that is stretched to whatever room there is, so
that labels stay text of the page's own size on any screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vsr.quality.report import FrameScore, Report

WIDTH, HEIGHT = 1000, 100
Values = Sequence[float | None]

_VMAF = "Ground truth: VMAF"
_SAMPLED = (_VMAF,)
_CURVES: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("Fidelity: reduced result against source, PSNR", "dB", (("", "psnr_db"),)),
    ("Fidelity: reduced result against source, SSIM", "", (("", "ssim"),)),
    ("Flicker", "codes", (("", "flicker_codes"),)),
    ("Detail beyond the source", "codes", (("", "detail_codes"),)),
    ("Sharpness over the source's", "times", (("", "sharpness"),)),
    ("Halos and ringing", "codes", (("", "overshoot_codes"),)),
    ("Grain of flat places, over the source's", "times", (("", "grain_kept"),)),
    (
        "Colour, result less source: red drawn through, green dashed, blue dotted",
        "codes",
        (("red", "red_codes"), ("green", "green_codes"), ("blue", "blue_codes")),
    ),
    ("Ground truth: luma, PSNR", "dB", (("", "reference_psnr_db"),)),
    ("Ground truth: luma, SSIM", "", (("", "reference_ssim"),)),
    ("Ground truth: luma, MS-SSIM", "", (("", "reference_ms_ssim"),)),
    ("Ground truth: luma, XPSNR", "dB", (("", "reference_xpsnr_db"),)),
    (_VMAF, "of 100", (("", "reference_vmaf"),)),
    ("Ground truth: VMAF-NEG", "of 100", (("", "reference_vmaf_neg"),)),
    ("Ground truth: LPIPS", "", (("", "reference_lpips"),)),
)


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot."""

    name: str
    """Empty for the only line."""
    stretches: tuple[str, ...]
    """Points of each stretch without a gap, as SVG wants them."""


@dataclass(frozen=True, slots=True)
class Plot:
    """Everything the template needs of one plot."""

    title: str
    unit: str
    low: str
    """The least value, and..."""
    high: str
    """...the greatest; the canvas reaches a little beyond both."""
    start: str
    end: str
    curves: tuple[Curve, ...]
    cuts: tuple[str, ...]
    """Where shots begin."""
    marks: tuple[tuple[str, str], ...]
    """(x, width) of what a person should look at."""
    values: str
    """`frame,seconds,value[,value...]` of each point, for the words beside the cursor."""
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class Map:
    """Blocks of the picture and how strong something is there."""

    title: str
    unit: str
    most: str
    place: str
    """Where the strongest block lies, in words."""
    width: int
    height: int
    cells: tuple[tuple[str, str, str, str, str, str], ...]
    """x, y, width, height, strength in [0, 1], value."""


def short(value: float | None) -> str:
    """Four digits at most; nothing for what is not known."""
    if value is None:
        return ""
    return f"{value:.4g}" if abs(value) >= 1 else f"{round(value, 4):g}"


def plots(report: Report, stride: int) -> list[Plot]:
    """One for each measure that is known of any frame; every `stride`th frame is drawn."""
    frames = report.frames[:: max(1, stride)]
    made = []
    for title, unit, lines in _CURVES:
        # Of a measure that was taken now and then, what lies between is no gap.
        taken = [f for f in frames if any(getattr(f, key) is not None for _, key in lines)]
        drawn = taken if title in _SAMPLED else frames
        values = [[getattr(frame, key) for frame in drawn] for _, key in lines]
        if taken:
            names = [name for name, _ in lines]
            made.append(_plot(title, unit, drawn, names, values, report))
    return made


def _plot(
    title: str,
    unit: str,
    frames: Sequence[FrameScore],
    names: Sequence[str],
    lines: Sequence[Values],
    report: Report,
) -> Plot:
    known = [value for line in lines for value in line if value is not None]
    low, high = min(known), max(known)
    # A curve that hardly moves stays flat instead of filling the plot with its noise.
    room = max((high - low) * 0.05, 1e-3 * max(abs(high), abs(low), 1e-2))
    least, most = short(low), short(high)
    low, high = low - room, high + room
    last = max(1, report.num_frames - 1)
    marks = (
        (finding.first_frame, finding.num_frames)
        for finding in report.findings
        if finding.first_frame is not None
    )
    said = (
        f"{f.frame},{f.time_s:.3f},{','.join(short(value) for value in values)}"
        for f, values in zip(frames, zip(*lines, strict=True), strict=True)
    )
    return Plot(
        title=title,
        unit=unit,
        low=least,
        high=most,
        start=f"{report.frames[0].time_s:.1f}",
        end=f"{report.frames[-1].time_s:.1f}",
        curves=tuple(
            Curve(name, _stretches(frames, line, low, high, last))
            for name, line in zip(names, lines, strict=True)
        ),
        cuts=tuple(f"{WIDTH * shot.first_frame / last:.1f}" for shot in report.shots[1:]),
        marks=tuple(
            (f"{WIDTH * max(0, first - 0.5) / last:.1f}", f"{max(2, WIDTH * number / last):.1f}")
            for first, number in marks
        ),
        values=" ".join(said),
    )


def _stretches(
    frames: Sequence[FrameScore], values: Values, low: float, high: float, last: int
) -> tuple[str, ...]:
    stretches: list[list[str]] = [[]]
    for frame, value in zip(frames, values, strict=True):
        if value is None:
            stretches.append([])
            continue
        x, y = WIDTH * frame.frame / last, HEIGHT * (high - value) / (high - low)
        stretches[-1].append(f"{x:.1f},{y:.1f}")
    return tuple(" ".join(points) for points in stretches if points)


def histogram(report: Report) -> tuple[str, ...]:
    """Points of the source's curve and of the result's; empty without them."""
    most = max((share for line in report.histogram for share in line), default=0.0)
    if not most:
        return ()
    return tuple(
        " ".join(
            f"{WIDTH * index / max(1, len(line) - 1):.1f},{HEIGHT * (1 - share / most):.1f}"
            for index, share in enumerate(line)
        )
        for line in report.histogram
    )


def maps(report: Report) -> list[Map]:
    """Where detail was added, and where the worst frame is unlike its source."""
    made = []
    worst = min(report.frames, key=lambda frame: frame.psnr_db).frame if report.frames else 0
    for title, rows, unit in (
        ("Detail added, over the whole film", report.detail_map, "codes"),
        (f"Frame {worst} against its source", report.worst_map, "squared codes"),
    ):
        if rows:
            made.append(_map(title, unit, rows, *report.result_size))
    return made


def _map(
    title: str, unit: str, rows: tuple[tuple[float, ...], ...], width: int, height: int
) -> Map:
    most = max(max(row) for row in rows)
    row, column = max(
        ((y, x) for y in range(len(rows)) for x in range(len(rows[y]))),
        key=lambda at: rows[at[0]][at[1]],
    )
    across, down = width / len(rows[0]), height / len(rows)
    cells = tuple(
        (
            f"{x * across:.1f}",
            f"{y * down:.1f}",
            f"{across:.1f}",
            f"{down:.1f}",
            f"{value / most if most else 0:.2f}",
            short(value),
        )
        for y, line in enumerate(rows)
        for x, value in enumerate(line)
    )
    place = _third(row, len(rows), ("top", "middle", "bottom"))
    place = f"{place} {_third(column, len(rows[0]), ('left', 'centre', 'right'))}"
    return Map(title, unit, short(most), place, width, height, cells)


def _third(at: int, number: int, names: tuple[str, str, str]) -> str:
    return names[min(2, 3 * at // number)]
