"""Read a film once, ahead of the run: the time of every frame, and where shots begin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vsr.errors import DecodeError
from vsr.frame import VideoInfo
from vsr.media import damage
from vsr.media.damage import DamageEvent
from vsr.media.reader import FrameReader
from vsr.pipeline.shots import CutDetector, thumbnail
from vsr.pipeline.timeline import Timeline

PICTURE_DAMAGE = frozenset(
    {
        damage.KIND_DECODE_ERROR,
        damage.KIND_DEMUX_ERROR,
        damage.KIND_TRUNCATED,
        damage.KIND_CORRUPT_FRAME,
        damage.KIND_CORRUPT_PACKET,
    }
)
"""Troubles after which a decoder with several threads may make other pictures in another run."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass over the decoded source tells."""

    timeline: Timeline
    cuts: tuple[int, ...]
    """Ranks of the first frames of all shots but the first."""
    decode_threads: int
    """With how many threads the source has to be decoded to give these frames again."""
    events: tuple[DamageEvent, ...]


def scan(
    source: Path,
    info: VideoInfo,
    *,
    decode_threads: int,
    on_frame: Callable[[int], None] | None = None,
) -> Scan:
    """Decode the whole video stream of `source`, keeping nothing but times and cuts.

    A damaged source is decoded again by one thread: with more, its pictures differ from run to
    run.

    Args:
        source: the film.
        info: of its video stream.
        decode_threads: for a sound source.
        on_frame: called with the number of frames read so far.

    Raises:
        DecodeError: no frame could be decoded.
        UnsupportedVideoError: the picture's size or format changes in mid-stream.
    """
    found = _scan_once(source, info, decode_threads, on_frame)
    is_damaged = any(event.kind in PICTURE_DAMAGE for event in found.events)
    if is_damaged and decode_threads > 1:
        found = _scan_once(source, info, 1, on_frame)
    return found


def _scan_once(
    source: Path, info: VideoInfo, threads: int, on_frame: Callable[[int], None] | None
) -> Scan:
    pts: list[int] = []
    durations: list[int] = []
    detector = CutDetector()
    with FrameReader(source, info=info, threads=threads) as reader:
        for frame in reader:
            pts.append(frame.pts)
            durations.append(frame.duration)
            detector.push(thumbnail(frame))
            if on_frame is not None:
                on_frame(len(pts))
        events = tuple(reader.events)
    if not pts:
        raise DecodeError(f"No picture of {source} could be decoded.", hint="the file is damaged")
    return Scan(Timeline.from_frames(pts, durations), detector.finish(), threads, events)
