"""Prove that a result is the same film as its source, only larger.

Both files are read anew, decoded side by side in constant memory, and compared in everything but
size; nothing that the run remembers is trusted. What was changed on purpose has to be declared in
the result (`pipeline.declared`), or it counts as damage.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from vsr.color import complete
from vsr.errors import MediaError, UnsupportedVideoError
from vsr.frame import ColorSpec, Frame
from vsr.media.damage import TIMESTAMP_TROUBLES, DamageEvent
from vsr.media.fingerprint import fingerprint, packet_times
from vsr.media.probe import MediaInfo, probe
from vsr.media.reader import FrameReader
from vsr.media.stills import names_sequence
from vsr.media.streams import StreamPlan, plan_streams
from vsr.pipeline.check_pair import Pair
from vsr.pipeline.check_shape import check_shape
from vsr.pipeline.check_streams import check_streams
from vsr.pipeline.check_time import Clock, check_times
from vsr.pipeline.declared import Declared, read_declared
from vsr.pipeline.likeness import (
    MAX_FIELD_CODES_DEINTERLACED,
    MAX_FILM_CODES,
    MIN_PSNR_DEINTERLACED_DB,
    Likeness,
    SourceWindow,
)
from vsr.pipeline.plan import Plan
from vsr.pipeline.planning import decoder_threads
from vsr.pipeline.sampling import Sampler, View, make_samplers
from vsr.pipeline.scan_pass import PICTURE_DAMAGE
from vsr.pipeline.stages import iterate_ahead
from vsr.pipeline.verdict import CheckResult, CheckRow, row, verdict

__all__ = ["CheckResult", "CheckRow", "check"]

OnFrame = Callable[[int], None]
"""Called with the number of frames of the result read so far."""
_Viewed = View | UnsupportedVideoError | None
"""A frame as it is compared."""


def check(
    source: Path, result: Path, *, plan: Plan | None = None, on_frame: OnFrame | None = None
) -> CheckResult:
    """Compare a result with its source.

    Args:
        source: the film as it was.
        result: the film enlarged.
        plan: of the run that made the result, if at hand. Without it, what was meant to be kept
            follows from the result's container and from what the result declares.
        on_frame: called while reading with the number of frames read so far.

    Raises:
        MediaError: the source cannot be read. A result that cannot be read is a failed row.
    """
    source, result = Path(source), Path(result)
    if names_sequence(source) or names_sequence(result):
        # Here, because it builds on rooms that a check of films does not need.
        from vsr.pipeline.check_pictures import check_pictures

        return check_pictures(source, result, plan=plan, on_frame=on_frame)
    index = None if plan is None else plan.video.stream_index
    before = probe(source, stream_index=index)
    try:
        after = probe(result)
        declared = read_declared(result, after.metadata) if plan is None else plan.declared
        if index is None and declared.video_stream is not None:
            before = probe(source, stream_index=declared.video_stream)
    except MediaError as error:
        return verdict([row("decodes", False, "yes", "no", str(error))])
    except ValueError as error:
        return verdict([row("declaration", False, "what was changed", "unreadable", str(error))])
    streams = plan.streams if plan is not None else _expected_streams(before, after, declared)
    threads = decoder_threads(before.video.height) if plan is None else plan.decode_threads
    is_damaged = plan is not None and plan.num_damaged > 0
    watched = _watch(before, after, declared, threads, on_frame, is_damaged=is_damaged)
    if not is_damaged and any(e.kind in PICTURE_DAMAGE for e in watched.source_events):
        # What a decoder makes of damage differs with its threads, and with pictures still in use.
        watched = _watch(before, after, declared, 1, on_frame, is_damaged=True)
    contents = (
        fingerprint(source, _beside(before), film=before.video.stream_index),
        fingerprint(result, _beside(after), film=after.video.stream_index),
    )
    if any(event.kind in TIMESTAMP_TROUBLES for event in watched.result_events):
        # The reader repairs timestamps; here those count that the file holds.
        watched.after.pts = packet_times(result, after.video.stream_index)
    times, moved = check_times(watched.before, watched.after, after.container, declared)
    pair = Pair(before, after, *contents, streams, declared, moved)
    rows = [
        *_check_declared(declared),
        _check_decodes(watched, contents[1].trouble),
        *times,
        *_check_likeness(watched),
        *check_shape(before, after, contents[1].film_tags, declared, plan),
        *_check_captions(watched, after),
        *check_streams(pair),
    ]
    return verdict(rows)


def _expected_streams(before: MediaInfo, after: MediaInfo, declared: Declared) -> StreamPlan:
    """What a run into such a container would have kept."""
    container = "mkv"
    if "mp4" in after.container:
        brand = after.metadata.get("major_brand", "")
        container = "mov" if brand.strip() == "qt" else "mp4"
    return plan_streams(before, container, without=frozenset(declared.left_out))


def _beside(info: MediaInfo) -> list[int]:
    """Streams whose packets are compared."""
    return [
        stream.index
        for stream in info.streams
        if stream.index != info.video.stream_index
        and (stream.kind in ("audio", "subtitle") or stream.is_cover_art)
    ]


@dataclass(slots=True)
class _Captions:
    """Closed captions inside the pictures."""

    num_frames: int = 0
    data: bytes = b""
    """All of them in a row, padding left out."""

    def add(self, frame: Frame) -> None:
        for held in frame.side_data:
            if held.kind == "A53_CC":
                self.num_frames += 1
                triplets = (held.data[k : k + 3] for k in range(0, len(held.data), 3))
                # A triplet whose valid bit is not set is padding.
                self.data += b"".join(t for t in triplets if t[0] & 4)


@dataclass(slots=True)
class _Watched:
    """Both films, decoded to their ends."""

    before: Clock
    after: Clock
    likeness: Likeness = field(default_factory=Likeness)
    source_events: list[DamageEvent] = field(default_factory=list)
    result_events: list[DamageEvent] = field(default_factory=list)
    failure: str = ""
    """Why the result could not be decoded to its end."""
    captions: tuple[_Captions, _Captions] = field(
        default_factory=lambda: (_Captions(), _Captions())
    )
    blind: str = ""
    """Why the pictures could not be compared."""


def _clock(info: MediaInfo) -> Clock:
    video = info.video
    return Clock(video.time_base, video.frame_rate or Fraction(25), array("q"))


def _watch(
    before: MediaInfo,
    after: MediaInfo,
    declared: Declared,
    threads: int,
    on_frame: OnFrame | None,
    *,
    is_damaged: bool,
) -> _Watched:
    """Decode both films in step and compare every frame of the result with its own."""
    watched = _Watched(_clock(before), _clock(after))
    if declared.deinterlaced is not None:
        watched.likeness.is_deinterlaced = True
        watched.likeness.min_psnr_db = MIN_PSNR_DEINTERLACED_DB
        watched.likeness.max_field_codes = MAX_FIELD_CODES_DEINTERLACED
    samplers = make_samplers(_shape(before, before), _shape(after, before), declared.picture)
    ranks = None if declared.timeline is None else declared.timeline.sources()
    with (
        FrameReader(
            before.path,
            info=before.video,
            threads=threads,
            follow_changes=True,
            copy_planes=is_damaged,
        ) as old,
        FrameReader(
            after.path, info=after.video, threads=decoder_threads(after.video.height)
        ) as new,
    ):
        shown = None if ranks is None else frozenset(ranks)
        source = _noted(old, watched.before, watched.captions[0], shown)
        window = SourceWindow(source, samplers[0])
        # Large pictures are decoded and reduced while the one before is compared.
        noted = _noted(new, watched.after, watched.captions[1])
        with closing(iterate_ahead(_viewed(noted, samplers[1]))) as views:
            for rank, seen in enumerate(_until_failure(views, watched)):
                own = rank if ranks is None else ranks[min(rank, len(ranks) - 1)]
                if not watched.blind:
                    try:
                        around = window.around(own)
                        if isinstance(seen, UnsupportedVideoError):
                            raise seen
                        if seen is None or own not in around:
                            watched.likeness.num_skipped += 1
                        else:
                            watched.likeness.add(rank, own, seen, around)
                    except UnsupportedVideoError as error:
                        watched.blind = str(error)
                if on_frame is not None:
                    on_frame(rank + 1)
        window.finish()
        watched.source_events, watched.result_events = list(old.events), list(new.events)
    return watched


def _noted(
    reader: FrameReader,
    clock: Clock,
    captions: _Captions,
    shown: Container[int] | None = None,
) -> Iterator[Frame]:
    """Frames, their times taken down as they pass, and the captions of those that are shown."""
    for rank, frame in enumerate(reader):
        clock.pts.append(frame.pts)
        clock.last_duration = frame.duration
        if shown is None or rank in shown:
            captions.add(frame)
        yield frame


def _viewed(frames: Iterable[Frame], sampler: Sampler) -> Iterator[_Viewed]:
    """Frames reduced to what is compared; None and errors as `Sampler.view` has them."""
    for frame in frames:
        try:
            view: _Viewed = sampler.view(frame)
        except UnsupportedVideoError as error:
            view = error
        yield view


def _until_failure(views: Iterator[_Viewed], watched: _Watched) -> Iterator[_Viewed]:
    """Frames of the result up to its end or to where it cannot be decoded any more."""
    while True:
        try:
            view = next(views)
        except StopIteration:
            return
        except MediaError as error:
            watched.failure = str(error)
            return
        yield view


def _shape(info: MediaInfo, source: MediaInfo) -> tuple[int, int, ColorSpec]:
    """Size and colour, its gaps filled by the size of the source: a result's says nothing."""
    video = info.video
    color, _ = complete(video.color, source.video.width, source.video.height, video.layout)
    return video.width, video.height, color


def _check_declared(declared: Declared) -> list[CheckRow]:
    """What was changed on purpose, so that nobody has to look for it."""
    if declared == Declared():
        return []
    left_out = {"timeline", "version", "parity", "combed", "ranges"}
    said = declared.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
    if declared.ranges:
        said["taken"] = ", ".join(
            f"{float(part.start_s):.3f} to {float(part.end_s):.3f} s" for part in declared.ranges
        )
    if declared.timeline is not None:
        said["timeline"] = f"{declared.timeline.times.num_frames} frames"
    words = "; ".join(f"{key}: {value}" for key, value in said.items())
    return [row("declaration", True, "the whole film", words, "declared in the result")]


def _check_decodes(watched: _Watched, trouble: str) -> CheckRow:
    """Every packet of the result gives a sound picture, and its end is reached."""
    events = [event for event in watched.result_events if event.kind in PICTURE_DAMAGE]
    count = sum(event.count for event in events)
    notes = [f"{event.kind} at pts {event.start_pts}: {event.detail}" for event in events[:3]]
    notes += [text for text in (watched.failure, trouble) if text]
    if watched.source_events:
        kinds = ", ".join(sorted({event.kind for event in watched.source_events}))
        notes.append(f"the source has troubles of its own ({kinds})")
    failed = bool(count or watched.failure or trouble)
    return row(
        "decodes", not failed, "yes", f"no, {count} troubles" if failed else "yes", "; ".join(notes)
    )


def _check_likeness(watched: _Watched) -> list[CheckRow]:
    """The pictures: each nearest to its own, like it, and of its colour."""
    found = watched.likeness
    if watched.blind or not found.num_frames:
        why = watched.blind or "no frame to compare"
        return [row("picture", False, "comparable", "not comparable", why)]
    others = found.misplaced if found.num_misplaced else []
    misplaced = ", ".join(f"frame {r} is nearer to source frame {n}" for r, n in others)
    skipped = f" ({found.num_skipped} of another shape not compared)" if found.num_skipped else ""
    unlike = f"first frame {found.first_unlike}" if found.num_unlike else ""
    discolored = f"first frame {found.first_discolored}" if found.num_discolored else ""
    film = max(found.film_codes, key=abs)
    return [
        row(
            "picture order",
            not found.num_misplaced,
            "each nearest to its own",
            f"{found.num_misplaced} of {found.num_frames} misplaced",
            misplaced + skipped,
        ),
        row(
            "picture likeness",
            not found.num_unlike,
            f"at least {found.min_psnr_db:g} dB",
            f"{found.num_unlike} of {found.num_frames} below; worst {found.worst_psnr_db:.1f} dB "
            f"in frame {found.worst_frame}",
            unlike,
        ),
        row(
            "picture colour",
            not found.num_discolored and abs(film) <= MAX_FILM_CODES,
            f"within {found.max_field_codes:g} codes in each field, {MAX_FILM_CODES:g} in the film",
            f"{found.worst_field_codes:.1f} in frame {found.worst_field_frame}, "
            f"{film:+.2f} in the film",
            discolored,
        ),
    ]


def _check_captions(watched: _Watched, after: MediaInfo) -> list[CheckRow]:
    """Closed captions that travel in the pictures, for codecs that can carry them."""
    old, new = watched.captions
    if not old.num_frames:
        return []
    can_carry = after.video.codec in ("h264", "hevc")
    same = old.data == new.data
    note = "" if can_carry or same else f"lost: {after.video.codec} cannot carry them"
    return [
        row(
            "closed captions",
            same or not can_carry,
            f"in {old.num_frames} frames",
            f"in {new.num_frames} frames" + ("" if same else ", other data"),
            note,
        )
    ]
