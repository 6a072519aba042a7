"""Prove that a result is the same film as its source, only larger.

A first version: pictures and their times, sound packet by packet, and what else there must be.
Reads both files anew and trusts nothing that the run remembers, except, to save a pass over the
source, the plan's list of frame times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vsr.errors import MediaError
from vsr.media.damage import DamageEvent
from vsr.media.fingerprint import Fingerprint, fingerprint
from vsr.media.probe import MediaInfo, StreamInfo, probe
from vsr.media.reader import FrameReader
from vsr.pipeline.plan import Plan
from vsr.pipeline.scan import PICTURE_DAMAGE

_DECODE_THREADS = 4
_MAX_DRIFT = Fraction(1, 1000)
"""Seconds by which sound may move against pictures, on top of both files' rounding."""


class CheckRow(BaseModel):
    """One property of the film, in the source and in the result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    ok: bool
    source: str
    result: str
    note: str = ""


class CheckResult(BaseModel):
    """The proof: ok only if every row is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ok: bool
    rows: tuple[CheckRow, ...]

    @property
    def failures(self) -> tuple[CheckRow, ...]:
        return tuple(row for row in self.rows if not row.ok)


@dataclass(frozen=True, slots=True)
class _Film:
    """One of the two files, read to its end."""

    info: MediaInfo
    pts: Sequence[int]
    damage: tuple[DamageEvent, ...]
    prints: dict[int, Fingerprint]

    @property
    def time_base(self) -> Fraction:
        return self.info.video.time_base

    def streams(self, kind: str) -> list[StreamInfo]:
        return [stream for stream in self.info.streams if stream.kind == kind]


def check(source: Path, result: Path, *, plan: Plan | None = None) -> CheckResult:
    """Compare a result with its source.

    Args:
        source: the film as it was.
        result: the film enlarged.
        plan: of the run that made the result, if at hand: says which streams were meant to be
            kept, and spares a decoding pass over the source.

    Raises:
        MediaError: the source cannot be read. A result that cannot be read is a failed row.
    """
    before = _read_source(source, plan)
    try:
        after = _read(result, probe(result), None)
    except MediaError as error:
        return CheckResult(ok=False, rows=(_row("decodes", False, "yes", "no", str(error)),))
    kept = None if plan is None else {a.index for a in plan.streams.actions if a.action == "keep"}
    rows = (
        _check_decodes(after),
        _row("frames", len(before.pts) == len(after.pts), len(before.pts), len(after.pts)),
        _check_pts(before, after),
        _check_size(before, after, plan),
        *_check_audio(before, after, kept),
        *_check_counts(before, after, plan),
    )
    return CheckResult(ok=all(row.ok for row in rows), rows=rows)


def _read_source(source: Path, plan: Plan | None) -> _Film:
    if plan is None:
        return _read(source, probe(source), None)
    info = probe(source, stream_index=plan.video.stream_index)
    return _read(source, info, [pts for part in plan.segments for pts in part.timeline.pts()])


def _read(path: Path, info: MediaInfo, pts: list[int] | None) -> _Film:
    damage: tuple[DamageEvent, ...] = ()
    if pts is None:
        with FrameReader(path, info=info.video, threads=_DECODE_THREADS) as reader:
            pts = [frame.pts for frame in reader]
            damage = tuple(event for event in reader.events if event.kind in PICTURE_DAMAGE)
    audio = {stream.index for stream in info.streams if stream.kind == "audio"}
    return _Film(info, pts, damage, fingerprint(path, audio))


def _row(name: str, ok: bool, source: object, result: object, note: str = "") -> CheckRow:
    return CheckRow(name=name, ok=ok, source=str(source), result=str(result), note=note)


def _check_decodes(after: _Film) -> CheckRow:
    """Every packet of the result gives a sound picture."""
    count = sum(event.count for event in after.damage)
    note = f"{after.damage[0].kind}: {after.damage[0].detail}" if after.damage else ""
    return _row("decodes", not count, "yes", f"{count} trouble(s)" if count else "yes", note)


def _shift(before: _Film, after: _Film) -> tuple[Fraction, Fraction]:
    """Least and greatest time by which frames moved, in seconds."""
    base_a, base_b = before.time_base, after.time_base
    # In whole units of 1 / (both denominators), because fractions are slow and floats wrong.
    times_a, times_b = (
        base_a.numerator * base_b.denominator,
        base_b.numerator * base_a.denominator,
    )
    unit = Fraction(1, base_a.denominator * base_b.denominator)
    moved = [b * times_b - a * times_a for a, b in zip(before.pts, after.pts, strict=False)]
    return min(moved) * unit, max(moved) * unit


def _check_pts(before: _Film, after: _Film) -> CheckRow:
    """Every time equal to the source's, rounded to the result's time base."""
    low, high = _shift(before, after)
    tick = after.time_base
    is_exact = -tick / 2 <= low and high <= tick / 2
    # Matroska cannot hold negative times: a file whose sound starts before its pictures is moved
    # as a whole, and whether the sound moved along is a row of its own.
    is_moved = not is_exact and high - low <= tick
    error_ms = float(max(abs(low), abs(high)) * 1000)
    note = f"all moved by {float(low + high) * 500:.3f} ms" if is_moved else ""
    return _row(
        "pts",
        len(before.pts) == len(after.pts) and (is_exact or is_moved),
        f"time base {before.time_base}",
        f"time base {after.time_base}, furthest off {error_ms:.3f} ms",
        note,
    )


def _check_size(before: _Film, after: _Film, plan: Plan | None) -> CheckRow:
    a, b = before.info.video, after.info.video
    if plan is not None:
        ok = (b.width, b.height) == (plan.encoder.width, plan.encoder.height)
    else:
        ok = b.width >= a.width and b.height >= a.height
    return _row("size", ok, f"{a.width}x{a.height}", f"{b.width}x{b.height}")


def _check_audio(before: _Film, after: _Film, kept: set[int] | None) -> list[CheckRow]:
    """Every kept stream packet by packet, in the order of the source."""
    wanted = [s for s in before.streams("audio") if kept is None or s.index in kept]
    given = after.streams("audio")
    rows = []
    low, high = _shift(before, after)
    for number, stream in enumerate(wanted):
        name = f"audio {number}"
        if number >= len(given):
            rows.append(_row(name, False, stream.codec, "missing"))
            continue
        a, b = before.prints[stream.index], after.prints[given[number].index]
        same = (a.num_packets, a.payload_sha256) == (b.num_packets, b.payload_sha256)
        rows.append(_row(name, same, _say(a), _say(b), "" if same else "packets differ"))
        if a.first_time is not None and b.first_time is not None:
            moved = b.first_time - a.first_time
            drift = max(abs(moved - low), abs(moved - high))
            allowed = _MAX_DRIFT + after.time_base + (given[number].time_base or 0)
            rows.append(
                _row(
                    f"{name} against the picture",
                    drift <= allowed,
                    "0 ms",
                    f"{float(drift) * 1000:.3f} ms",
                )
            )
    return rows


def _say(fingerprint: Fingerprint) -> str:
    return f"{fingerprint.num_packets} packets, {fingerprint.payload_sha256[:12]}"


def _check_counts(before: _Film, after: _Film, plan: Plan | None) -> list[CheckRow]:
    """As many streams of each kind, and chapters, as there must be."""
    rows = []
    for kind in ("audio", "subtitle"):
        wanted = len(before.streams(kind))
        if plan is not None:
            wanted = sum(
                action.kind == kind and action.action in ("keep", "convert")
                for action in plan.streams.actions
            )
        given = len(after.streams(kind))
        rows.append(_row(f"{kind} streams", wanted == given, wanted, given))
    chapters = len(before.info.chapters), len(after.info.chapters)
    rows.append(_row("chapters", chapters[0] == chapters[1], *chapters))
    return rows
