"""Everything beside the pictures: sound, subtitles, chapters, tags, attachments, cover art."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from fractions import Fraction
from itertools import accumulate

from vsr.errors import MediaError
from vsr.media.cues import Cue, read_cues
from vsr.media.fingerprint import NO_TIME, Fingerprint
from vsr.media.probe import StreamInfo
from vsr.pipeline.check_labels import check_chapters, check_labels, check_tags
from vsr.pipeline.check_pair import MAX_DRIFT_S, Pair
from vsr.pipeline.check_time import Moved
from vsr.pipeline.verdict import CheckRow, row


def check_streams(pair: Pair) -> list[CheckRow]:
    """All rows about what travels beside the pictures."""
    rows = [_check_inventory(pair)]
    for action, source, result, name in pair.kept():
        if result is None:
            rows.append(row(name, False, source.codec, "missing"))
            continue
        if action.action == "keep":
            rows += _check_packets(pair, source, result, name)
        elif action.kind == "subtitle":
            rows += _check_cues(pair, source, result, name)
        else:
            rows += _check_converted(pair, source, result, name)
    rows += [
        check_labels(pair),
        check_chapters(pair),
        check_tags(pair),
        _check_attachments(pair),
    ]
    return rows


def _check_inventory(pair: Pair) -> CheckRow:
    """As many streams of each kind and codec, in their order, as there must be."""
    wanted, given, notes = [], [], []
    for kind in ("audio", "subtitle"):
        for action in pair.plan.actions:
            if action.kind == kind and action.action == "keep":
                wanted.append(f"{kind} {action.codec}")
            elif action.kind == kind and action.action == "convert":
                wanted.append(f"{kind} {action.target_codec}")
                notes.append(str(action))
        given += [f"{kind} {s.codec}" for s in pair.after.streams if s.kind == kind]
    notes += [str(action) for action in pair.plan.actions if action.action == "drop"]
    wanted += ["cover"] * sum(a.kind == "cover" and a.action == "keep" for a in pair.plan.actions)
    given += ["cover"] * sum(s.is_cover_art for s in pair.after.streams)
    same = [_family(name) for name in wanted] == [_family(name) for name in given]
    return row(
        "streams", same, ", ".join(wanted) or "none", ", ".join(given) or "none", "; ".join(notes)
    )


def _family(name: str) -> str:
    """One codec under two names, and MPEG sound, whose layer mp4 does not tell."""
    for other, usual in ((" ssa", " ass"), (" srt", " subrip"), (" mp2", " mp3")):
        name = name.replace(other, usual)
    return name


def _check_packets(pair: Pair, source: StreamInfo, result: StreamInfo, name: str) -> list[CheckRow]:
    """A stream that was passed through: packet by packet, byte by byte, and in time."""
    a, b = pair.old.prints[source.index], pair.new.prints[result.index]
    note, ok = "", True
    if pair.declared.ranges:
        a, note = _within(a, pair), "cut as declared"
    if a.digests != b.digests:
        repacked = a.num_bytes == b.num_bytes and a.bytes_sha256 == b.bytes_sha256
        ok = repacked and not pair.declared.ranges
        note = "the same bytes in other packets" if ok else _first_difference(a, b)
    taken = " and ".join(sorted(a.rewrites - b.rewrites))
    note = "; ".join(filter(None, (note, f"{taken} taken off" if taken else "")))
    rows = [row(name, ok, _say(a), _say(b), note)]
    if ok and a.num_packets and b.num_packets:
        rows.append(_check_sync(pair.moved, a, b, name))
    return rows


def _say(found: Fingerprint) -> str:
    count = f"{found.num_packets} packets, {found.num_bytes} bytes"
    return f"{count}, {found.bytes_sha256[:12]}" if found.bytes_sha256 else count


def _first_difference(a: Fingerprint, b: Fingerprint) -> str:
    pairs = enumerate(zip(a.digests, b.digests, strict=False))
    index = next((k for k, (x, y) in pairs if x != y), min(a.num_packets, b.num_packets))
    num = sum(x != y for x, y in zip(a.digests, b.digests, strict=False))
    where = f"packet {index}"
    if index < a.num_packets and (time := a.time(index)) is not None:
        where += f" at {float(time):.3f} s"
    return f"{num or abs(a.num_packets - b.num_packets)} packets differ, the first is {where}"


def _within(a: Fingerprint, pair: Pair) -> Fingerprint:
    """The packets of the source that begin in the declared ranges."""
    cut = Fingerprint(a.time_base, rewrites=a.rewrites)
    for part in pair.declared.ranges:
        for k in range(a.num_packets):
            start = a.time(k)
            if start is not None and part.start_s <= start < part.end_s:
                cut.digests.append(a.digests[k])
                cut.sizes.append(a.sizes[k])
                cut.pts.append(a.pts[k])
                cut.durations.append(a.durations[k])
    return cut


def _check_sync(moved: Moved, a: Fingerprint, b: Fingerprint, name: str) -> CheckRow:
    """The offset against the pictures at start, middle and end, by the same bytes of both."""
    total = min(a.num_bytes, b.num_bytes)
    ends = [list(accumulate(found.sizes)) for found in (a, b)]
    # The start of the last packet, not its end: no container states a last packet's length.
    places = (0, ends[0][len(ends[0]) // 2 - 1] if len(ends[0]) > 1 else 0, total - a.sizes[-1])
    drifts = []
    for place in places:
        times = [_time_of_byte(f, e, place) for f, e in zip((a, b), ends, strict=True)]
        if times[0] is not None and times[1] is not None:
            pushed = _pushed(a, bisect_right(ends[0], place), b.time_base)
            drifts.append(times[1] - times[0] - moved.at(times[0]) - pushed)
    if not drifts:
        return row(f"{name} in time", True, "no timestamps", "not compared")
    # On top of what is pushed, half a tick for the rounding of each.
    allowed = MAX_DRIFT_S + max(a.time_base, b.time_base, moved.before.time_base) / 2
    worst = max(drifts, key=abs)
    said = ", ".join(f"{float(d) * 1000:+.3f}" for d in drifts)
    return row(
        f"{name} in time",
        abs(worst) <= allowed,
        f"within {float(allowed) * 1000:.3f} ms of the picture",
        f"{said} ms",
        "at start, middle and end",
    )


def _time_of_byte(found: Fingerprint, ends: list[int], place: int) -> Fraction | None:
    """When the byte at `place` of the whole stream is heard, in seconds."""
    index = min(bisect_right(ends, place), found.num_packets - 1)
    start = found.time(index)
    if start is None:
        return None
    into = Fraction(place - (ends[index] - found.sizes[index]), max(1, found.sizes[index]))
    return start + into * found.durations[index] * found.time_base


def _pushed(found: Fingerprint, index: int, tick: Fraction) -> Fraction:
    """How far packet `index` has to give way: damaged sound may have several at one time.

    A file holds no two packets of a stream in one tick, so that each of them follows the one before
    by a tick, whatever time it had; times further apart than that give way to nothing.
    """
    index = min(index, found.num_packets - 1)
    own = found.time(index)
    if own is None:
        return Fraction(0)
    crowd = [own]
    for before in range(index - 1, -1, -1):
        time = found.time(before)
        if time is None or not 0 <= own - time < len(crowd) * tick:
            break
        crowd.append(time)
    place = crowd.pop()
    while crowd:
        place = max(crowd.pop(), place + tick)
    return place - own


def _check_converted(
    pair: Pair, source: StreamInfo, result: StreamInfo, name: str
) -> list[CheckRow]:
    """Sound in another codec cannot be equal: it is there, as long, and begins when it did."""
    a, b = pair.old.prints[source.index], pair.new.prints[result.index]
    if pair.declared.ranges:
        a = _within(a, pair)
    if not a.num_packets or not b.num_packets:
        # What begins before 0 is the run-in of an encoder, which nobody hears.
        is_silent = all(NO_TIME < pts < 0 for pts in a.pts)
        return [row(name, is_silent and not b.num_packets, _say(a), _say(b), "converted")]
    spans, packet_s = [], Fraction(0)
    for found in (a, b):
        last = found.num_packets - 1
        start, final = found.time(0) or Fraction(0), found.time(last) or Fraction(0)
        spans.append((start, final + found.durations[last] * found.time_base))
        packet_s = max(packet_s, max(found.durations) * found.time_base)
    shift = pair.moved.at(spans[0][0])
    off = max(abs(y - x - shift) for x, y in zip(*spans, strict=True))
    # An encoder adds its run-in before the first sample and fills its last packet.
    allowed = MAX_DRIFT_S + 2 * max(packet_s, Fraction(2048, 48000))
    return [
        row(
            name,
            off <= allowed,
            f"{source.codec}, {float(spans[0][1] - spans[0][0]):.3f} s",
            f"{result.codec}, {float(spans[1][1] - spans[1][0]):.3f} s",
            f"converted; ends within {float(off) * 1000:.1f} ms, samples not compared",
        )
    ]


def _check_cues(pair: Pair, source: StreamInfo, result: StreamInfo, name: str) -> list[CheckRow]:
    """Subtitles in another dialect: the same words at the same times."""
    try:
        a = read_cues(pair.before.path, source.index)
        b = read_cues(pair.after.path, result.index)
    except MediaError as error:
        return [row(name, False, source.codec, "unreadable", str(error))]
    if pair.declared.ranges:
        a = [
            cue
            for cue in a
            if any(r.start_s <= cue.start_s < r.end_s for r in pair.declared.ranges)
        ]
    pairs = list(zip(a, b, strict=False))
    wrong = [k for k, (x, y) in enumerate(pairs) if _words(x) != _words(y)]
    allowed = MAX_DRIFT_S + (source.time_base or 0) + (result.time_base or 0)
    late = [
        k
        for k, (x, y) in enumerate(pairs)
        if abs(y.start_s - x.start_s - pair.moved.at(x.start_s)) > allowed
    ]
    notes = [f"{source.codec} converted to {result.codec}"]
    if wrong:
        x, y = pairs[wrong[0]]
        notes.append(f"subtitle {wrong[0]} says {y.text!r} instead of {x.text!r}")
    if late:
        notes.append(f"subtitle {late[0]} is shown at another time")
    ok = len(a) == len(b) and not wrong and not late
    return [row(name, ok, f"{len(a)} subtitles", f"{len(b)} subtitles", "; ".join(notes))]


def _words(cue: Cue) -> str:
    return " ".join(cue.text.split())


def _check_attachments(pair: Pair) -> CheckRow:
    """Attached files and cover pictures, byte by byte."""
    indices = {a.index for a in pair.plan.actions if a.kind == "attachment" and a.action == "keep"}
    names = {a.name for a in pair.before.attachments if a.index in indices}
    wanted = Counter((f.name, f.sha256[:16]) for f in pair.old.attachments if f.name in names)
    given = Counter((f.name, f.sha256[:16]) for f in pair.new.attachments)
    covers = [
        Counter(
            f"{contents.prints[index].digests[0]:016x}"
            for index in sorted(chosen)
            if index in contents.prints and contents.prints[index].num_packets
        )
        for contents, chosen in (
            (
                pair.old,
                {a.index for a in pair.plan.actions if a.kind == "cover" and a.action == "keep"},
            ),
            (pair.new, {s.index for s in pair.after.streams if s.is_cover_art}),
        )
    ]
    problems = [f"{name} is missing or changed" for name, _ in wanted - given]
    problems += ["a cover picture is missing or changed"] if covers[0] - covers[1] else []
    return row(
        "attachments and covers",
        not problems,
        f"{wanted.total()} files, {covers[0].total()} covers",
        f"{given.total()} files, {covers[1].total()} covers",
        "; ".join(problems),
    )
