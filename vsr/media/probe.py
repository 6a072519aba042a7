"""Say what a media file holds, from its header and its first picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsr.errors import DecodeError, NoVideoStreamError, OpenError, UnsupportedVideoError, VsrError
from vsr.frame import VideoInfo
from vsr.media.formats import pixel_format, read_color
from vsr.media.opening import AV_ERRORS as AV_ERRORS
from vsr.media.opening import DEFAULT_LIMITS as DEFAULT_LIMITS
from vsr.media.opening import ProbeLimits as ProbeLimits
from vsr.media.opening import open_input as open_input
from vsr.media.opening import reason
from vsr.media.sidedata import (
    read_content_light,
    read_display_matrix,
    read_mastering_display,
    read_side_data,
    stream_side_data,
)

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

_FIELD_ORDERS = {1: "progressive", 2: "tt", 3: "bb", 4: "tb", 5: "bt"}
_MICROSECOND = Fraction(1, 1_000_000)
_MAX_PACKETS_BEFORE_FIRST_FRAME = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInfo:
    """One stream as the container declares it."""

    index: int
    kind: str
    """`video`, `audio`, `subtitle`, `data`, `attachment` or `unknown`."""
    codec: str
    """FFmpeg's name; `unknown` when it has none."""
    language: str | None = None
    title: str | None = None
    time_base: Fraction | None = None
    start_pts: int | None = None
    duration_s: float | None = None
    bit_rate: int | None = None
    disposition: frozenset[str] = frozenset()
    metadata: Mapping[str, str]
    is_cover_art: bool = False
    channels: int | None = None
    channel_layout: str | None = None
    sample_rate: int | None = None
    width: int | None = None
    height: int | None = None
    frame_rate: Fraction | None = None
    num_frames: int | None = None
    has_decoder: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A named stretch of time; `start` and `end` count `time_base`."""

    id: int
    start: int
    end: int
    time_base: Fraction
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file inside the file, such as a font."""

    index: int
    name: str
    mimetype: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """What a file holds."""

    path: Path
    container: str
    """FFmpeg's demuxer names, such as `matroska,webm`."""
    size_bytes: int
    duration_s: float | None
    start_time_s: float | None
    bit_rate: int | None
    video: VideoInfo
    streams: tuple[StreamInfo, ...]
    chapters: tuple[Chapter, ...]
    metadata: Mapping[str, str]
    attachments: tuple[Attachment, ...]
    warnings: tuple[str, ...]
    """What was guessed or chosen, one sentence each."""


def to_fraction(value: Any) -> Fraction | None:
    """A rational of any version of av; None for None, 0/1 and 0/0."""
    if not value or not value.denominator:
        return None
    return Fraction(value.numerator, value.denominator)


def stream_disposition(stream: Stream) -> frozenset[str]:
    """Names of the dispositions that are set."""
    flags = stream.disposition
    return frozenset(str(flag.name) for flag in type(flags) if flag in flags and flag.name)


def _has_decoder(stream: Stream) -> bool:
    # The stubs promise a context; streams of unknown codecs have none.
    context: Any = stream.codec_context
    return context is not None


def is_cover_art(stream: Stream) -> bool:
    """True for still pictures that travel as a video stream."""
    return bool(stream_disposition(stream) & {"attached_pic", "timed_thumbnails"})


def pick_video_stream(
    path: Path, container: InputContainer, stream_index: int | None = None
) -> VideoStream:
    """The stream that is the film: by `stream_index`, else the one a player would show.

    That is the first stream marked as default, or the first at all; not the largest, because files
    that carry renditions of one film tie their subtitles and sound to the first.

    Raises:
        NoVideoStreamError: there is none, or `stream_index` is not one.
    """
    films = [s for s in container.streams.video if not is_cover_art(s)]
    usable = [s for s in films if _has_decoder(s)]
    if stream_index is not None:
        for stream in container.streams.video:
            if stream.index == stream_index and _has_decoder(stream):
                return stream
        raise NoVideoStreamError(
            f"Stream {stream_index} of {path} is not a video stream that can be decoded.",
            hint=f"video streams are {[s.index for s in usable]}",
        )
    if usable:
        return min(usable, key=lambda s: ("default" not in stream_disposition(s), s.index))
    if films:
        raise NoVideoStreamError(
            f"{path} holds video, but of a codec that FFmpeg cannot name or decode.",
            hint="the file may be damaged near its start",
        )
    if container.streams.video:
        raise NoVideoStreamError(
            f"{path} holds no video: its only pictures are cover art.",
            hint="use `vsr image` for stills",
        )
    kinds = sorted({s.type for s in container.streams})
    raise NoVideoStreamError(
        f"{path} holds no video stream, only {', '.join(kinds) or 'nothing'}.",
        hint="name a file with video",
    )


def configure_decoder(stream: VideoStream, *, threads: int, limits: ProbeLimits) -> None:
    """Set what has to be set before the first packet is decoded.

    The default threading hides damage in H.264, and limits given to `av.open` never reach the
    decoder.
    """
    context = stream.codec_context
    context.options = {
        **context.options,
        "max_pixels": str(limits.max_pixels),
        "err_detect": "crccheck",
    }
    stream.thread_type = "AUTO"
    context.thread_count = threads


def check_coded_size(path: Path, stream: VideoStream, limits: ProbeLimits) -> None:
    """Raise UnsupportedVideoError when the declared picture is larger than `limits` allow."""
    context = stream.codec_context
    if context.width * context.height > limits.max_pixels:
        raise UnsupportedVideoError(
            f"{path} declares pictures of {context.width}x{context.height}, "
            f"more than the {limits.max_pixels} pixels allowed.",
            hint="such a file is either damaged or meant to do harm",
        )


def _first_frame(path: Path, container: InputContainer, stream: VideoStream) -> VideoFrame:
    """The first picture that can be decoded."""
    trouble: BaseException | None = None
    try:
        for number, packet in enumerate(container.demux(stream)):
            if number >= _MAX_PACKETS_BEFORE_FIRST_FRAME:
                break
            if packet.size == 0 and packet.dts is not None:
                continue
            try:
                frames = packet.decode()
            except AV_ERRORS as error:
                trouble = error
                continue
            if frames:
                return frames[0]
    except AV_ERRORS as error:
        trouble = error
    why = f": {reason(trouble)}" if trouble else ""
    raise DecodeError(
        f"No picture of {path} could be decoded{why}.",
        hint="the file is damaged at its start or encrypted",
    )


def _video_info(
    container: InputContainer,
    stream: VideoStream,
    frame: VideoFrame,
    side_data: Mapping[str, bytes],
) -> VideoInfo:
    """Header and first picture of a video stream, together."""
    context = stream.codec_context
    time_base = to_fraction(stream.time_base)
    if time_base is None:
        raise UnsupportedVideoError("The video stream has no time base, so nothing can be timed.")
    plan = pixel_format(frame.format.name)
    order = _FIELD_ORDERS.get(int(context.field_order), "unknown")
    matrix = read_display_matrix(side_data)
    mastering = side_data.get("MASTERING_DISPLAY_METADATA")
    light = side_data.get("CONTENT_LIGHT_LEVEL")
    return VideoInfo(
        stream_index=stream.index,
        codec=context.codec.canonical_name,
        width=frame.width,
        height=frame.height,
        pixel_format=plan.name,
        layout=plan.layout,
        color=read_color(frame, plan, context.codec.canonical_name),
        time_base=time_base,
        frame_rate=_frame_rate(stream, time_base),
        num_frames=stream.frames or None,
        start_pts=stream.start_time,
        duration_s=_seconds(stream.duration, time_base)
        or _seconds(container.duration, _MICROSECOND),
        sample_aspect_ratio=to_fraction(stream.sample_aspect_ratio) or Fraction(1),
        rotation=int(frame.rotation) % 360 if matrix is not None else 0,
        display_matrix=matrix,
        is_interlaced=bool(frame.interlaced_frame) or order in ("tt", "bb", "tb", "bt"),
        bit_rate=stream.bit_rate or None,
        metadata=dict(stream.metadata),
        field_order=order,
        mastering_display=read_mastering_display(mastering) if mastering else None,
        content_light=read_content_light(light) if light else None,
        codec_tag=str(context.codec_tag).rstrip("\0 "),
        side_data_kinds=tuple(sorted(side_data)),
    )


def _frame_rate(stream: VideoStream, time_base: Fraction) -> Fraction | None:
    """Average rate as declared; None where the container merely counts its own ticks."""
    rate = to_fraction(stream.average_rate)
    counts_ticks = rate is not None and rate >= 500 and rate * time_base >= 1
    return None if counts_ticks else rate


def _seconds(ticks: int | None, time_base: Fraction | None) -> float | None:
    return None if ticks is None or time_base is None else float(ticks * time_base)


def _codec_name(stream: Stream) -> str:
    """Name of the format, not of the decoder that av happened to choose (`av1`, not `libdav1d`)."""
    context: Any = stream.codec_context
    name = context.codec.canonical_name if context is not None else getattr(stream, "name", None)
    return str(name or "unknown")


def _stream_info(stream: Stream) -> StreamInfo:
    """One stream as declared. Attributes that a kind of stream lacks stay None."""
    context: Any = stream.codec_context
    kind = str(stream.type)
    time_base = to_fraction(stream.time_base)
    is_video, is_audio = kind == "video", kind == "audio"
    layout = getattr(context, "layout", None) if is_audio else None
    return StreamInfo(
        index=stream.index,
        kind=kind,
        codec=_codec_name(stream),
        language=stream.metadata.get("language"),
        title=stream.metadata.get("title") or stream.metadata.get("name"),
        time_base=time_base,
        start_pts=stream.start_time,
        duration_s=_seconds(stream.duration, time_base),
        bit_rate=(getattr(context, "bit_rate", None) or None) if is_video or is_audio else None,
        disposition=stream_disposition(stream),
        metadata=dict(stream.metadata),
        is_cover_art=is_video and is_cover_art(stream),
        channels=getattr(context, "channels", None) if is_audio else None,
        channel_layout=getattr(layout, "name", None),
        sample_rate=getattr(context, "sample_rate", None) if is_audio else None,
        width=getattr(context, "width", None) if is_video else None,
        height=getattr(context, "height", None) if is_video else None,
        frame_rate=to_fraction(getattr(stream, "average_rate", None)) if is_video else None,
        num_frames=stream.frames or None,
        has_decoder=context is not None,
    )


def _attachments(container: InputContainer) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(
            index=stream.index,
            name=str(stream.metadata.get("filename") or stream.name or ""),
            mimetype=str(stream.mimetype or "application/octet-stream"),
            size_bytes=len(stream.data),
        )
        for stream in container.streams.attachments
    )


def _chapters(container: InputContainer) -> tuple[Chapter, ...]:
    return tuple(
        Chapter(
            id=int(chapter["id"]),
            start=int(chapter["start"]),
            end=int(chapter["end"]),
            time_base=to_fraction(chapter["time_base"]) or Fraction(1, 1000),
            metadata=dict(chapter["metadata"]),
        )
        for chapter in container.chapters()
    )


def _warnings(
    container: InputContainer,
    stream: VideoStream,
    info: VideoInfo,
    is_chosen: bool,
    side_data: Mapping[str, bytes],
) -> tuple[str, ...]:
    """What was guessed or chosen, one sentence each."""
    said = []
    others = [s.index for s in container.streams.video if s.index != stream.index]
    covers = [s.index for s in container.streams.video if is_cover_art(s)]
    films = [index for index in others if index not in covers]
    if films and not is_chosen:
        said.append(
            f"There are {len(films) + 1} video streams; stream {stream.index} "
            f"({info.width}x{info.height}) was taken as the film, not {films}."
        )
    if covers:
        said.append(f"Stream {covers} is cover art and not part of the film.")
    undecodable = [s.index for s in container.streams if s.type == "video" and not _has_decoder(s)]
    if undecodable:
        said.append(f"Video stream {undecodable} is of a codec that cannot be decoded.")
    if stream.metadata.get("alpha_mode") == "1":
        said.append("The alpha layer of the video is kept apart from its pictures and is not read.")
    if info.display_matrix is None and side_data.get("DISPLAYMATRIX"):
        said.append("The display matrix would shear the pictures, and is left out as damaged.")
    if info.frame_rate is None:
        said.append("The container states no frame rate; timestamps alone are used.")
    return tuple(said)


def probe(
    path: Path, *, limits: ProbeLimits = DEFAULT_LIMITS, stream_index: int | None = None
) -> MediaInfo:
    """Describe a media file; decodes one picture.

    Args:
        path: a regular file.
        limits: what the file may ask of us.
        stream_index: the video stream to describe; the best one that is not cover art if None.

    Raises:
        OpenError: not a readable regular file, or not a known container.
        NoVideoStreamError: no video in it.
        UnsupportedVideoError: beyond `limits`, or of a kind that cannot be read exactly.
        DecodeError: not one picture could be decoded.
    """
    path = Path(path)
    with open_input(path, limits=limits) as container:
        try:
            stream = pick_video_stream(path, container, stream_index)
            check_coded_size(path, stream, limits)
            configure_decoder(stream, threads=1, limits=limits)
            frame = _first_frame(path, container, stream)
            side_data = {**stream_side_data(stream), **(read_side_data(frame) or {})}
            video = _video_info(container, stream, frame, side_data)
            return MediaInfo(
                path=path,
                container=container.format.name,
                size_bytes=path.stat().st_size,
                duration_s=_seconds(container.duration, _MICROSECOND),
                start_time_s=_seconds(container.start_time, _MICROSECOND),
                bit_rate=container.bit_rate or None,
                video=video,
                streams=tuple(_stream_info(s) for s in container.streams),
                chapters=_chapters(container),
                metadata=dict(container.metadata),
                attachments=_attachments(container),
                warnings=_warnings(container, stream, video, stream_index is not None, side_data),
            )
        except AV_ERRORS as error:
            if isinstance(error, VsrError):
                raise
            raise OpenError(f"{path} could not be described: {reason(error)}.") from error
