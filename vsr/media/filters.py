"""FFmpeg's filters for interlaced video: is it, and make it progressive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import av
import av.error
import numpy as np
from av.filter import Graph
from av.video.reformatter import VideoReformatter

from vsr.errors import DecodeError, UnsupportedVideoError
from vsr.frame import Frame, PlaneLayout, VideoInfo
from vsr.media.formats import format_name, pixel_format, read_planes
from vsr.media.opening import AV_ERRORS, DEFAULT_LIMITS, ProbeLimits, open_input, reason
from vsr.media.packets import read_packets
from vsr.media.probe import configure_decoder, pick_video_stream, to_fraction

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

Parity = Literal["tff", "bff"]


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


class Deinterlacer:
    """Makes progressive frames of interlaced ones with FFmpeg's bwdif.

    With `bob=False` one frame comes out for each that goes in, at the same pts in the source's time
    base. With `bob=True` two come out, one per field, and `time_base` is half the source's, so that
    the second one's time is exact. Frames come out later than they go in: call `flush` at the end.

    Args:
        info: the video, for size, layout and time base.
        parity: which field comes first.
        bob: one frame per field instead of one per pair of fields.
        only_flagged: leave frames alone that are not flagged as interlaced.

    Raises:
        UnsupportedVideoError: the filter cannot work on this layout as it is.
    """

    def __init__(
        self, info: VideoInfo, *, parity: Parity, bob: bool = False, only_flagged: bool = False
    ) -> None:
        self._layout: PlaneLayout = info.layout
        self._only_flagged = only_flagged
        self._bob = bob
        self._source_time_base = info.time_base
        self.time_base = info.time_base / 2 if bob else info.time_base
        self._format = pixel_format(format_name(info.layout))
        self._reformatter = VideoReformatter()
        self._sources: list[Frame] = []
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=info.width,
            height=info.height,
            format=av.VideoFormat(self._format.name, info.width, info.height),
            time_base=info.time_base,
        )
        mode = "send_field" if bob else "send_frame"
        bwdif = self._graph.add("bwdif", f"mode={mode}:parity={parity}:deint=all")
        self._graph.link_nodes(source, bwdif, self._graph.add("buffersink")).configure()

    def push(self, frame: Frame) -> list[Frame]:
        """Take the next frame in order; return those that are done."""
        assert frame.layout == self._layout, f"{frame.layout} is not {self._layout}"
        self._sources.append(frame)
        self._graph.vpush(self._picture(frame))
        return [self._result(picture) for picture in _drain(self._graph)]

    def flush(self) -> list[Frame]:
        """Return the frames still inside, after the last one."""
        self._graph.vpush(None)
        return [self._result(picture) for picture in _drain(self._graph)]

    def _picture(self, frame: Frame) -> VideoFrame:
        picture = av.VideoFrame(frame.width, frame.height, self._format.name)
        for target, plane in zip(picture.planes, frame.planes, strict=True):
            rows, columns = plane.shape
            padded = np.zeros((rows, target.line_size // plane.itemsize), plane.dtype)
            padded[:, :columns] = plane
            target.update(padded.tobytes())
        picture.pts, picture.time_base = frame.pts, self._source_time_base
        return picture

    def _result(self, picture: VideoFrame) -> Frame:
        if picture.format.name != self._format.name:
            raise UnsupportedVideoError(
                f"Deinterlacing would turn {self._format.name} into {picture.format.name}.",
                hint="keep the fields with --deinterlace keep",
            )
        time_base = to_fraction(picture.time_base)
        assert time_base is not None and picture.pts is not None
        seconds = picture.pts * time_base
        source = self._source_of(seconds)
        ticks = seconds / self.time_base
        assert ticks.denominator == 1, f"{seconds} s is no multiple of {self.time_base} s"
        # In halved ticks a field lasts as many as its frame did in whole ones.
        done = replace(source, pts=int(ticks), is_interlaced=False)
        if seconds != self._seconds(source):
            # The second field of a frame: captions and timecode came with the first.
            done = replace(done, side_data=(), is_key=False)
        if self._only_flagged and not source.is_interlaced:
            return done
        return replace(done, planes=read_planes(picture, self._format, self._reformatter))

    def _seconds(self, frame: Frame) -> Fraction:
        return frame.pts * self._source_time_base

    def _source_of(self, seconds: Fraction) -> Frame:
        """The frame whose fields were shown at `seconds`; earlier ones are let go."""
        while len(self._sources) > 1 and self._seconds(self._sources[1]) <= seconds:
            self._sources.pop(0)
        return self._sources[0]
