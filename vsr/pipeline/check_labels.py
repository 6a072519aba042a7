"""What the streams, the chapters and the file are called and marked as."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from vsr.media.probe import Chapter
from vsr.media.stretches import Stretch, cut_chapters
from vsr.pipeline.check_pair import MAX_DRIFT_S, Pair
from vsr.pipeline.verdict import CheckRow, row

_WRITTEN_BY_MUXERS = frozenset({"default"})
"""Dispositions that mp4 and mov set by themselves."""
_NOT_IN_MATROSKA_TRACKS = frozenset({"creation_time"})
"""Tags that FFmpeg's muxer writes for the file alone."""


def check_labels(pair: Pair) -> CheckRow:
    """Languages, titles, other tags and dispositions of the kept streams and of the film."""
    film = pair.before.video.stream_index
    places = [
        ("film", pair.before.streams[film], pair.after.streams[pair.after.video.stream_index])
    ]
    places += [(name, a, b) for _, a, b, name in pair.kept() if b is not None]
    problems, notes, said = [], [], []
    num_tags = 0
    for name, source, result in places:
        wanted = pair.plan.stream_metadata.get(source.index, {})
        if pair.plan.container == "mkv":
            lost_here = [key for key in wanted if key.lower() in _NOT_IN_MATROSKA_TRACKS]
            wanted = {key: wanted[key] for key in wanted if key not in lost_here}
            notes += [f"{name}: lost {key}, Matroska tracks hold none" for key in lost_here]
        num_tags += len(wanted)
        problems += [f"{name}: {text}" for text in _tag_problems(wanted, result.metadata)]
        lost = {
            text.partition(" of ")[0]
            for text in pair.plan.dropped_dispositions
            if text.endswith(f" {source.index}")
        }
        missing = source.disposition - result.disposition - lost
        extra = result.disposition - source.disposition
        if pair.plan.container != "mkv":
            extra -= _WRITTEN_BY_MUXERS
        problems += [f"{name}: no longer {flag}" for flag in sorted(missing)]
        problems += [f"{name}: now {flag}" for flag in sorted(extra)]
        said.append(f"{result.language or 'und'} {result.title or ''}".strip())
    notes += [f"lost {text}" for text in pair.plan.dropped_dispositions]
    notes += [f"lost {text}" for text in pair.plan.dropped_tags if " of " in text]
    return row(
        "labels of streams",
        not problems,
        f"{num_tags} tags",
        ", ".join(said),
        "; ".join(problems + notes),
    )


def _tag_problems(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What is missing or other, in words."""
    given = {key.lower(): value for key, value in found.items()}
    if "name" in given:
        given.setdefault("title", given["name"])
    problems = []
    for key, value in wanted.items():
        name = key.lower()
        if name == "language" and value in ("und", "") and given.get(name, "und") == "und":
            continue
        seen = given.get(name)
        if seen is None:
            problems.append(f"{key} is missing")
        elif not _same_value(name, value, seen):
            problems.append(f"{key} is {seen!r} instead of {value!r}")
    return problems


def _same_value(name: str, a: str, b: str) -> bool:
    if name.startswith("creation_time"):
        # One moment, spelled with or without T, fractions and time zone.
        return _moment(a) == _moment(b)
    if name.startswith("location"):
        # ISO 6709 with as many digits as the container has.
        return _place(a) == _place(b)
    return a.strip() == b.strip()


def _moment(text: str) -> str:
    return text.replace(" ", "T").partition(".")[0].removesuffix("Z")


def _place(text: str) -> list[float]:
    return [round(float(number), 3) for number in re.findall(r"[+-]\d+(?:\.\d+)?", text)]


def check_chapters(pair: Pair) -> CheckRow:
    """Where each chapter begins and what it is called; mp4 and mov know no ends of their own."""
    a = list(pair.before.chapters) if pair.plan.chapters else []
    b = pair.after.chapters
    if pair.declared.ranges:
        a = cut_chapters(
            a,
            [
                Stretch(start=r.start_s, end=r.end_s, shift=r.at_s - r.start_s)
                for r in pair.declared.ranges
            ],
        )
    problems = []
    for k, (x, y) in enumerate(zip(a, b, strict=False)):
        ticks = x.time_base + y.time_base
        start = max(Fraction(0), x.start * x.time_base)
        off = y.start * y.time_base - start
        if abs(off) > MAX_DRIFT_S + ticks:
            problems.append(f"chapter {k} begins {float(off) * 1000:+.3f} ms off")
        end_off = y.end * y.time_base - x.end * x.time_base
        has_ends = pair.plan.container == "mkv" and x.end > max(0, x.start)
        if has_ends and abs(end_off) > MAX_DRIFT_S + ticks:
            problems.append(f"chapter {k} ends {float(end_off) * 1000:+.3f} ms off")
        if _title(x) != _title(y):
            problems.append(f"chapter {k} is called {_title(y)!r} instead of {_title(x)!r}")
    ok = len(a) == len(b) and not problems
    return row("chapters", ok, len(a), len(b), "; ".join(problems[:5]))


def _title(chapter: Chapter) -> str:
    return {key.lower(): value for key, value in chapter.metadata.items()}.get("title", "")


def check_tags(pair: Pair) -> CheckRow:
    """Tags of the whole file, by what the container can hold."""
    problems = _tag_problems(pair.plan.metadata, pair.after.metadata)
    lost = [tag for tag in pair.plan.dropped_tags if " of " not in tag]
    notes = [f"lost, no place in {pair.plan.container}: {', '.join(lost)}"] if lost else []
    return row(
        "tags",
        not problems,
        f"{len(pair.plan.metadata)} to keep",
        f"{len(pair.plan.metadata) - len(problems)} kept",
        "; ".join(problems + notes),
    )
