"""The same stretch of several films as one film: side by side, or wiped from one to the other."""

from __future__ import annotations

import string
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from vsr.color import rgb_to_planes
from vsr.errors import MediaError
from vsr.frame import (
    ChromaLocation,
    ColorSpec,
    Frame,
    Matrix,
    PlaneLayout,
    Primaries,
    Transfer,
    VideoInfo,
)
from vsr.media.encoder import EncoderSettings, SegmentEncoder, resolve_settings
from vsr.media.probe import probe
from vsr.media.segments import join_segments
from vsr.media.streams import plan_film_alone
from vsr.quality.montage import Montage
from vsr.quality.views import Viewer

_SLACK = Fraction(3, 2000)
"""Seconds by which containers that count milliseconds, and their rounding, put frames off."""
_STEP = Fraction(1, 25)
_WHITE = {Transfer.PQ: 0.58, Transfer.HLG: 0.75}
"""What 203 cd/m2 are by these curves: ITU-R BT.2408."""
_ASCII_UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class Showing:
    """A stretch of one film."""

    name: str
    """Shown in its label; what is not ASCII is replaced."""
    frames: Iterable[Frame]
    """From the one shown when the stretch begins, or a little earlier."""
    viewer: Viewer
    time_base: Fraction
    start_pts: int
    """Of the whole film: the times of all are counted from there."""


class _InStep:
    """Says what a film shows at rising times."""

    def __init__(self, film: Showing) -> None:
        self._film, self._frames = film, iter(film.frames)
        self._shown: Frame | None = None
        self._next = next(self._frames, None)

    def at(self, time: Fraction) -> Frame | None:
        """The frame shown at a time from the film's start, its first if it begins later.

        None: it is over.
        """
        while self._next is not None and (
            self._shown is None or self._time(self._next) <= time + _SLACK
        ):
            self._shown, self._next = self._next, next(self._frames, None)
        if self._shown is None or (self._next is None and self._end(self._shown) <= time + _SLACK):
            return None
        return self._shown

    def _time(self, frame: Frame) -> Fraction:
        return (frame.pts - self._film.start_pts) * self._film.time_base

    def _end(self, frame: Frame) -> Fraction:
        return self._time(frame) + (frame.duration * self._film.time_base or _STEP)


def combine(
    films: Sequence[Showing],
    leader: int,
    montage: Montage,
    settings: EncoderSettings,
    *,
    first_pts: int = 0,
) -> Iterator[Frame]:
    """Draw a stretch, frame by frame of one of the films, until the first of them is over.

    Args:
        films: in the order in which they are shown.
        leader: which of them gives the times; its frames begin with the stretch.
        montage: of their sizes.
        settings: of the encoder the frames are for; in the leader's time base.
        first_pts: of the first frame.
    """
    origin: int | None = None
    others = [None if index == leader else _InStep(film) for index, film in enumerate(films)]
    for frame in films[leader].frames:
        origin = frame.pts if origin is None else origin
        time = (frame.pts - films[leader].start_pts) * films[leader].time_base
        shown = [frame if other is None else other.at(time) for other in others]
        pictures = [
            film.viewer.full_rgb(each)
            for film, each in zip(films, shown, strict=True)
            if each is not None
        ]
        if len(pictures) < len(films):
            return
        labels = [
            f"{letter}  {picture.shape[2]}x{picture.shape[1]}  {clock(time)}  {_ascii(film.name)}"
            for letter, film, picture in zip(string.ascii_uppercase, films, pictures, strict=False)
        ]
        since_s = float((first_pts + frame.pts - origin) * settings.time_base)
        rgb = montage.draw(pictures, labels, since_s)
        planes = rgb_to_planes(rgb[None], settings.layout, settings.color)
        yield Frame(
            planes=tuple(plane[0].numpy() for plane in planes),
            layout=settings.layout,
            color=settings.color,
            pts=first_pts + frame.pts - origin,
            duration=frame.duration,
        )


def comparison_settings(
    infos: Sequence[VideoInfo],
    color: ColorSpec,
    leader: int,
    size: tuple[int, int],
    container: str,
    aspect: Fraction,
) -> EncoderSettings:
    """How a comparison is encoded: as a result would be, in Y'CbCr 4:2:0 of limited range.

    Args:
        infos: of the films.
        color: of the first film, complete; its primaries and transfer are kept.
        leader: index of the film that gives the times.
        size: width and height of the montage.
        container: `mkv`, `mp4` or `mov`.
        aspect: of the pixels of the largest film, as shown.

    Raises:
        ConfigError: the encoder refuses.
    """
    is_deep = any(info.layout.bits > 8 for info in infos) or color.transfer in _WHITE
    layout = PlaneLayout(bits=10 if is_deep else 8, log2_chroma_w=1, log2_chroma_h=1)
    is_wide = color.primaries is Primaries.BT2020
    color = replace(
        color,
        matrix=Matrix.BT2020_NCL if is_wide else Matrix.BT709,
        full_range=False,
        chroma_location=ChromaLocation.TOPLEFT if is_wide else ChromaLocation.LEFT,
    )
    return resolve_settings(
        codec=None,
        crf=None,
        encoder_preset=None,
        profile=None,
        info=replace(infos[leader], layout=layout),
        color=color,
        width=size[0],
        height=size[1],
        threads=2,
        container=container,
        sample_aspect_ratio=aspect,
    )


def white_of(transfer: Transfer) -> float:
    """The code of a white that does not dazzle, in [0, 1]."""
    return _WHITE.get(transfer, 1.0)


def write_comparison(
    frames: Iterable[Frame],
    settings: EncoderSettings,
    path: Path,
    container: str,
    on_frame: Callable[[int], None] | None = None,
) -> tuple[int, Fraction]:
    """Encode frames into a film of their own, whole or not at all; an existing file is replaced.

    Returns:
        Number of frames, and how long they last in seconds.

    Raises:
        MediaError: there is no frame, or a film cannot be read.
        EncodeError, OutputError: it cannot be written.
    """
    pts, durations = [], []
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as name:
        segment = Path(name) / "segment.mkv"
        with SegmentEncoder(segment, settings) as encoder:
            for number, frame in enumerate(frames, start=1):
                encoder.encode(frame)
                pts.append(frame.pts)
                durations.append(frame.duration)
                if on_frame is not None:
                    on_frame(number)
            if not pts:
                raise MediaError("The films have no frame at one time.")
        info = probe(segment)
        partial = Path(name) / f"film.{container}"
        join_segments(
            [segment],
            pts,
            durations,
            source=segment,
            info=replace(info, video=replace(info.video, frame_rate=settings.frame_rate)),
            plan=plan_film_alone(info, container, why="compared", why_not="not compared"),
            settings=settings,
            output=partial,
            container=container,
            metadata={},
        )
        partial.replace(path)
    last = durations[-1] * settings.time_base or 1 / settings.frame_rate
    return len(pts), (pts[-1] - pts[0]) * settings.time_base + last


def clock(time: Fraction) -> str:
    """hh:mm:ss.mmm of a time in seconds."""
    seconds, rest = divmod(round(1000 * time), 1000)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours:02d}:{minutes:02d}:{seconds % 60:02d}.{rest:03d}"


def _ascii(name: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else _ASCII_UNKNOWN for c in name)
