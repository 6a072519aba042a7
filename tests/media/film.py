"""Encode and join as the pipeline does, and read back with av alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, cast

import av
import numpy as np

from vsr.frame import (
    ColorSpec,
    Frame,
    Matrix,
    PlaneLayout,
    Primaries,
    SideData,
    Transfer,
    VideoInfo,
)
from vsr.media.encoder import EncoderSettings, SegmentEncoder, resolve_settings
from vsr.media.probe import probe
from vsr.media.segments import JoinSummary, join_segments
from vsr.media.streams import StreamPlan, plan_streams

YUV420 = PlaneLayout(bits=8, log2_chroma_w=1, log2_chroma_h=1)
YUV420_10 = PlaneLayout(bits=10, log2_chroma_w=1, log2_chroma_h=1)
BT709 = ColorSpec(primaries=Primaries.BT709, transfer=Transfer.BT709, matrix=Matrix.BT709)


def video_info(layout: PlaneLayout = YUV420, **changes: Any) -> VideoInfo:
    """A source as the prober would describe it."""
    values: dict[str, Any] = {
        "stream_index": 0,
        "codec": "h264",
        "width": 64,
        "height": 48,
        "pixel_format": "yuv420p",
        "layout": layout,
        "color": BT709,
        "time_base": Fraction(1, 12800),
        "frame_rate": Fraction(25),
        "num_frames": None,
        "start_pts": 0,
        "duration_s": None,
    }
    return VideoInfo(**{**values, **changes})


def settings_for(
    info: VideoInfo | None = None, *, color: ColorSpec = BT709, **wishes: Any
) -> EncoderSettings:
    """Settings of a tiny run."""
    info = info or video_info()
    values: dict[str, Any] = {
        "codec": None,
        "crf": None,
        "encoder_preset": None,
        "profile": None,
        "width": info.width,
        "height": info.height,
        "threads": 2,
        "container": "mkv",
    }
    return resolve_settings(info=info, color=color, **{**values, **wishes})


def frames(
    settings: EncoderSettings, pts: Sequence[int], captions: bytes | None = None
) -> list[Frame]:
    """A smooth pattern that moves, different in every frame."""
    side_data = (SideData("A53_CC", captions),) if captions else ()
    layout, top = settings.layout, (1 << settings.layout.bits) - 1
    made = []
    for index, value in enumerate(pts):
        planes = []
        for number in range(layout.num_planes):
            rows, columns = layout.plane_size(number, settings.width, settings.height)
            y, x = np.mgrid[0:rows, 0:columns]
            wave = np.sin((x + 2 * index) / 5.0) * np.cos((y - index) / 4.0)
            codes = np.rint((0.5 + (0.1 if number else 0.4) * wave) * top)
            planes.append(codes.astype(layout.dtype))
        made.append(
            Frame(
                planes=tuple(planes),
                layout=layout,
                color=settings.color,
                pts=value,
                side_data=side_data,
            )
        )
    return made


def write_segments(
    folder: Path, settings: EncoderSettings, made: Sequence[Frame], num_segments: int
) -> list[Path]:
    """The frames in that many segments."""
    paths = []
    for number, part in enumerate(np.array_split(np.arange(len(made)), num_segments)):
        paths.append(folder / f"{num_segments}-{number}.seg")
        with SegmentEncoder(paths[-1], settings) as encoder:
            for index in part:
                encoder.encode(made[index])
    return paths


@dataclass
class Film:
    """A joined film and what went into it."""

    path: Path
    pts: list[int]
    settings: EncoderSettings
    plan: StreamPlan
    summary: JoinSummary
    segments: list[Path]


def remake(
    source: Path,
    container: str,
    *,
    num_segments: int = 3,
    metadata: Mapping[str, str] | None = None,
    name: str = "film",
    audio: str = "all",
    subs: str = "all",
    limit: int | None = None,
    **wishes: Any,
) -> Film:
    """Replace the pictures of a source by our pattern, at its own pts, and join.

    Real files may hold a pts twice or out of order; repairing that is the reader's work, so here
    such pictures are put in order and left out.
    """
    info = probe(source)
    with av.open(str(source)) as opened:
        stream = opened.streams[info.video.stream_index]
        assert isinstance(stream, av.VideoStream)
        found = {_pts(f): f.duration for f in islice(opened.decode(stream), limit)}
        decoded = sorted(found.items())
    wishes = {"encoder_preset": "veryfast", **wishes}
    settings = settings_for(info.video, container=container, **wishes)
    made = frames(settings, [p for p, _ in decoded])
    segments = write_segments(source.parent, settings, made, num_segments)
    plan = plan_streams(info, container, audio=audio, subs=subs)
    output = source.parent / f"{name}-{container}-{num_segments}.part"
    summary = join_segments(
        segments,
        [p for p, _ in decoded],
        [d for _, d in decoded],
        source=source,
        info=info,
        plan=plan,
        settings=settings,
        output=output,
        container=container,
        metadata=metadata or {},
    )
    return Film(output, [p for p, _ in decoded], settings, plan, summary, segments)


@dataclass
class Track:
    """One stream as av reads it."""

    kind: str
    codec: str
    time_base: Fraction
    tags: dict[str, str]
    disposition: int
    pts: list[int]
    data: list[bytes]
    durations: list[int]

    @property
    def times(self) -> list[Fraction]:
        return [p * self.time_base for p in self.pts]


def read(path: Path) -> tuple[list[Track], list[dict[str, Any]], dict[str, str]]:
    """Every stream with all its packets, chapters and tags."""
    with av.open(str(path)) as opened:
        tracks = {}
        for s in opened.streams:
            # An attachment has none, whatever the types of av say.
            context: av.CodecContext | None = s.codec_context
            tracks[s.index] = Track(
                kind=s.type,
                codec=context.codec.canonical_name if context is not None else "",
                time_base=_fraction(s.time_base),
                tags=dict(s.metadata),
                disposition=int(s.disposition),
                pts=[],
                data=[],
                durations=[],
            )
        wanted = [s for s in opened.streams if s.type in ("video", "audio", "subtitle")]
        for packet in opened.demux(wanted):
            if packet.size:
                track = tracks[packet.stream_index]
                # A cover may have neither; every other packet has both.
                track.pts.append(cast(int, packet.pts))
                track.data.append(bytes(packet))
                track.durations.append(cast(int, packet.duration))
        chapters = [
            {
                "start": c["start"] * _fraction(c["time_base"]),
                "end": c["end"] * _fraction(c["time_base"]),
                "title": c["metadata"].get("title"),
            }
            for c in opened.chapters()
        ]
        return list(tracks.values()), chapters, dict(opened.metadata)


def pictures(path: Path) -> list[tuple[int, bytes]]:
    """(pts, luma bytes) of every decoded frame of the first video stream."""
    with av.open(str(path)) as opened:
        return [(_pts(f), _luma(f)) for f in opened.decode(video=0)]


def _fraction(value: Fraction | None) -> Fraction:
    assert value is not None
    return Fraction(value.numerator, value.denominator)


def _pts(frame: av.VideoFrame) -> int:
    assert frame.pts is not None
    return frame.pts


def _luma(frame: av.VideoFrame) -> bytes:
    plane = frame.planes[0]
    width = frame.width * (2 if frame.format.components[0].bits > 8 else 1)
    rows = np.frombuffer(bytes(plane), np.uint8)[: plane.line_size * frame.height]
    return bytes(rows.reshape(frame.height, plane.line_size)[:, :width].tobytes())
