"""FFmpeg's filters for interlaced video: is it, and make it progressive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import av
import av.error
import numpy as np
from av.filter import Graph
from av.video.reformatter import VideoReformatter

from vsr.errors import DecodeError, UnsupportedVideoError
from vsr.frame import Frame, Plane, VideoInfo
from vsr.media.formats import format_name, pixel_format, read_planes
from vsr.media.opening import AV_ERRORS, DEFAULT_LIMITS, ProbeLimits, open_input, reason
from vsr.media.packets import read_packets
from vsr.media.probe import configure_decoder, pick_video_stream

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

Parity = Literal["tff", "bff"]

_ANY_RATE = 25
"""Told to filters where the rate is unknown; times are ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdetReport:
    """What `idet` saw in the pictures, whatever the flags say. Counts of frames."""

    num_frames: int
    num_tff: int
    num_bff: int
    num_progressive: int
    num_undetermined: int
    num_repeated: int
    """Frames that repeat a field of the frame before: the mark of telecine."""
    num_flagged: int
    """Frames that the decoder flags as interlaced."""

    @property
    def interlaced_share(self) -> float:
        """Interlaced among the decided frames, 0 to 1; 0 when none is decided."""
        interlaced = self.num_tff + self.num_bff
        decided = interlaced + self.num_progressive
        return interlaced / decided if decided else 0.0

    @property
    def parity(self) -> Parity:
        """Which field comes first, by the pictures."""
        return "bff" if self.num_bff > self.num_tff else "tff"


def _drain(graph: Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def idet_report(
    path: Path,
    max_frames: int = 600,
    *,
    stream_index: int | None = None,
    limits: ProbeLimits = DEFAULT_LIMITS,
) -> IdetReport:
    """Look at up to `max_frames` pictures from the start for the combing of two fields.

    Raises:
        MediaError: as `probe`; DecodeError when not one picture could be looked at.
    """
    metadata: dict[str, str] = {}
    num_frames = num_flagged = 0
    with open_input(path, limits=limits) as container:
        stream = pick_video_stream(path, container, stream_index)
        configure_decoder(stream, threads=1, limits=limits)
        graph = Graph()
        try:
            graph.link_nodes(
                graph.add_buffer(template=stream), graph.add("idet"), graph.add("buffersink")
            ).configure()
            for frame in islice(_pictures(container, stream), max_frames):
                num_frames += 1
                num_flagged += bool(frame.interlaced_frame)
                graph.vpush(frame)
                metadata = _last_metadata(graph) or metadata
            graph.vpush(None)
            metadata = _last_metadata(graph) or metadata
        except AV_ERRORS as error:
            raise DecodeError(f"{path} could not be examined: {reason(error)}.") from error
    if not metadata:
        raise DecodeError(f"No picture of {path} could be examined for interlacing.")

    def count(key: str) -> int:
        return int(float(metadata.get(f"lavfi.idet.{key}", 0)))

    return IdetReport(
        num_frames=num_frames,
        num_tff=count("multiple.tff"),
        num_bff=count("multiple.bff"),
        num_progressive=count("multiple.progressive"),
        num_undetermined=count("multiple.undetermined"),
        num_repeated=count("repeated.top") + count("repeated.bottom"),
        num_flagged=num_flagged,
    )


def _pictures(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """All pictures that can be decoded.

    Damaged ones say nothing about interlacing; the reader reports them when it counts.
    """
    for packet in chain(read_packets(container, stream, lambda error, is_end: None), [None]):
        with suppress(*AV_ERRORS):
            yield from stream.codec_context.decode(packet)


def _last_metadata(graph: Graph) -> dict[str, str]:
    last: dict[str, str] = {}
    for frame in _drain(graph):
        last = dict(frame.metadata)
    return last


class Filtered(NamedTuple):
    """What a graph made of one picture."""

    planes: tuple[Plane, ...]
    rank: int
    """Of the picture among those pushed."""


class FieldFilter:
    """Frames in, frames out of a graph of FFmpeg's, pictures only.

    Args:
        info: the video, for size, layout and time base.
        filters: name and arguments of each filter in the chain.
    """

    def __init__(self, info: VideoInfo, *filters: tuple[str, str]) -> None:
        self._layout = info.layout
        self._time_base = info.time_base
        self._format = pixel_format(format_name(info.layout))
        self._reformatter = VideoReformatter()
        self._num_pushed = 0
        self._graph = Graph()
        # By name, because `add_buffer` cannot say the rate, which decimate insists on.
        source = self._graph.add(
            "buffer",
            f"video_size={info.width}x{info.height}:pix_fmt={self._format.name}"
            f":time_base={info.time_base}:frame_rate={info.frame_rate or _ANY_RATE}",
        )
        chain = [self._graph.add(name, arguments) for name, arguments in filters]
        self._graph.link_nodes(source, *chain, self._graph.add("buffersink")).configure()

    def push(self, frame: Frame) -> list[Filtered]:
        """Take the next picture; return those that are done."""
        assert frame.layout == self._layout, f"{frame.layout} is not {self._layout}"
        picture = av.VideoFrame(frame.width, frame.height, self._format.name)
        for target, plane in zip(picture.planes, frame.planes, strict=True):
            rows, columns = plane.shape
            padded = np.zeros((rows, target.line_size // plane.itemsize), plane.dtype)
            padded[:, :columns] = plane
            target.update(padded.tobytes())
        picture.pts, picture.time_base = frame.pts, self._time_base
        # Travels with the picture; times do not, since decimate makes new ones.
        picture.opaque = self._num_pushed
        self._num_pushed += 1
        self._graph.vpush(picture)
        return self._done()

    def flush(self) -> list[Filtered]:
        """The pictures still inside, after the last one."""
        self._graph.vpush(None)
        return self._done()

    def _done(self) -> list[Filtered]:
        return [
            Filtered(self._planes(picture), cast(int, picture.opaque))
            for picture in _drain(self._graph)
        ]

    def _planes(self, picture: VideoFrame) -> tuple[Plane, ...]:
        if picture.format.name != self._format.name:
            raise UnsupportedVideoError(
                f"Deinterlacing would turn {self._format.name} into {picture.format.name}.",
                hint="keep the fields with --deinterlace keep",
            )
        return read_planes(picture, self._format, self._reformatter)


class Deinterlacer:
    """Makes progressive frames of interlaced ones with FFmpeg's bwdif.

    With `bob=False` one frame comes out for each that goes in, at the same pts in the source's time
    base. With `bob=True` two come out, one per field, and `time_base` is half the source's, so that
    the second one's time, midway to the next frame, is exact. Frames come out later than they go
    in: call `flush` at the end.

    Chroma of interlaced 4:2:0 belongs to fields as luma does, and is treated like it: what comes
    out is progressive 4:2:0, to be converted as such.

    Args:
        info: the video, for size, layout and time base.
        parity: which field comes first.
        bob: one frame per field instead of one per pair of fields.

    Raises:
        UnsupportedVideoError: the filter cannot work on this layout as it is.
    """

    def __init__(self, info: VideoInfo, *, parity: Parity, bob: bool = False) -> None:
        self._bob = bob
        self.time_base = info.time_base / 2 if bob else info.time_base
        mode = "send_field" if bob else "send_frame"
        self._filter = FieldFilter(info, ("bwdif", f"mode={mode}:parity={parity}:deint=all"))
        self._sources: list[tuple[Frame, bool]] = []
        self._num_pushed = 0
        self._num_done = 0
        self._last_step = 0

    def push(self, frame: Frame, *, is_combed: bool = True) -> list[Frame]:
        """Take the next frame in order; return those that are done.

        Args:
            frame: a picture of two fields.
            is_combed: False lets the picture pass as it is, unless each field becomes a frame.
        """
        if self._sources:
            self._last_step = frame.pts - self._sources[-1][0].pts
        self._sources.append((frame, is_combed))
        self._num_pushed += 1
        return [self._result(done.planes) for done in self._filter.push(frame)]

    def flush(self) -> list[Frame]:
        """Return the frames still inside, after the last one."""
        done = [self._result(item.planes) for item in self._filter.flush()]
        per_frame = 2 if self._bob else 1
        if self._num_done != per_frame * self._num_pushed:
            raise DecodeError(
                f"Deinterlacing made {self._num_done} frames of {self._num_pushed}.",
                hint="keep the fields with --deinterlace keep",
            )
        return done

    def _result(self, planes: tuple[Plane, ...]) -> Frame:
        is_second = self._bob and self._num_done % 2 == 1
        self._num_done += 1
        source, is_combed = self._sources[0]
        following = self._sources[1][0].pts if len(self._sources) > 1 else None
        if is_second or not self._bob:
            self._sources.pop(0)
        if not self._bob:
            planes = planes if is_combed else source.planes
            return replace(source, planes=planes, is_interlaced=False)
        # In halved ticks a field lasts as many as its frame did in whole ones.
        done = replace(source, planes=planes, is_interlaced=False, pts=2 * source.pts)
        if not is_second:
            return done
        step = self._last_step or source.duration or 2
        end = source.pts + step if following is None else following
        # The second field of a frame: captions and timecode came with the first.
        return replace(done, pts=source.pts + end, side_data=(), is_key=False)


class InverseTelecine:
    """Gives back the film of a 3:2 pulldown: four progressive frames for every five.

    FFmpeg's fieldmatch pairs the fields that were one picture, bwdif cleans what stays combed, and
    decimate drops the picture of five that comes twice. The four are spread evenly over the time
    of the five, in quarters of the source's tick, so that no time is rounded. A last run of less
    than five frames passes whole.

    Args:
        info: the video, for size, layout and time base.
        parity: which field comes first.
    """

    CYCLE = 5

    def __init__(self, info: VideoInfo, *, parity: Parity) -> None:
        self.time_base = info.time_base / (self.CYCLE - 1)
        self._filter = FieldFilter(
            info,
            ("fieldmatch", f"order={parity}:combmatch=full"),
            ("bwdif", f"mode=send_frame:parity={parity}:deint=interlaced"),
            ("decimate", f"cycle={self.CYCLE}"),
        )
        self._waiting: list[Frame] = []
        self._num_settled = 0
        self._pictures: list[Filtered] = []
        self.ranks: list[int] = []
        """For each frame given out, the place of the one that it shows among those pushed."""

    def push(self, frame: Frame) -> list[Frame]:
        """Take the next frame in order; return those that are done."""
        self._waiting.append(frame)
        self._pictures += self._filter.push(frame)
        done: list[Frame] = []
        # A cycle is over when the next frame is known, and its pictures have come out.
        while len(self._waiting) > self.CYCLE and len(self._pictures) >= self.CYCLE - 1:
            done += self._cycle(self._waiting[self.CYCLE].pts)
        return done

    def flush(self) -> list[Frame]:
        """Return the frames still inside, after the last one."""
        self._pictures += self._filter.flush()
        done: list[Frame] = []
        while len(self._waiting) >= self.CYCLE and len(self._pictures) >= self.CYCLE - 1:
            following = self._waiting[self.CYCLE] if len(self._waiting) > self.CYCLE else None
            last, before = self._waiting[self.CYCLE - 1], self._waiting[self.CYCLE - 2]
            end = last.pts + (last.duration or last.pts - before.pts)
            done += self._cycle(end if following is None else following.pts)
        if len(self._pictures) != len(self._waiting):
            raise DecodeError(
                f"Inverse telecine left {len(self._pictures)} of {len(self._waiting)} frames over.",
                hint="use --deinterlace bwdif",
            )
        for picture, source in zip(self._pictures, self._waiting, strict=True):
            done.append(self._frame(picture, source, 4 * source.pts, 4 * source.duration))
        self._waiting, self._pictures = [], []
        return done

    def _cycle(self, end: int) -> list[Frame]:
        """Four pictures, spread over the time of five."""
        sources, self._waiting = self._waiting[: self.CYCLE], self._waiting[self.CYCLE :]
        pictures, self._pictures = self._pictures[:4], self._pictures[4:]
        start = sources[0].pts
        # A quarter of the span, counted in quarters of a tick.
        span = end - start
        frames = []
        for place, picture in enumerate(pictures):
            source = sources[min(max(0, picture.rank - self._num_settled), self.CYCLE - 1)]
            frames.append(self._frame(picture, source, 4 * start + place * span, span))
        self._num_settled += self.CYCLE
        return frames

    def _frame(self, picture: Filtered, source: Frame, pts: int, duration: int) -> Frame:
        self.ranks.append(picture.rank)
        return replace(
            source, planes=picture.planes, pts=pts, duration=duration, is_interlaced=False
        )
