"""What two films are, by plain PyAV and numpy: imports nothing from vsr and so errs otherwise.

Also the means to tamper with a result: copying it packet by packet, with a change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

Change = Callable[[Any, str, int], Iterable[Any]]
"""(packet, name of its stream such as `audio 0`, number in it) -> packets to write."""
Pictures = list[np.ndarray]


def fraction(value: Any) -> Fraction:
    return Fraction(value.numerator, value.denominator)


@dataclass
class Facts:
    """Everything that must be equal before and after, but for size."""

    times: list[Fraction] = field(default_factory=list)
    """Of the pictures, in seconds."""
    audio: list[str] = field(default_factory=list)
    """Hash of each track's packets."""
    audio_offsets: list[list[Fraction]] = field(default_factory=list)
    """Of each track's first, middle and last packet against the first picture."""
    subtitles: list[list[tuple[Fraction, str]]] = field(default_factory=list)
    labels: list[tuple[str, str, str]] = field(default_factory=list)
    """Kind, language and title of each stream of sound and subtitles."""
    chapters: list[tuple[Fraction, str]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    color: tuple[int, ...] = ()
    aspect: Fraction = Fraction(1)
    rotation: int = 0
    attachments: list[tuple[str, str]] = field(default_factory=list)


def facts(path: Path) -> Facts:
    """Read a film to its end."""
    found = Facts()
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        base = fraction(video.time_base)
        for frame in container.decode(video):
            assert frame.pts is not None
            found.times.append(frame.pts * base)
            found.rotation = int(frame.rotation)
            found.color = (
                int(frame.color_primaries),
                int(frame.color_trc),
                int(frame.colorspace),
                int(frame.color_range),
            )
        sar = video.sample_aspect_ratio
        pixel = fraction(sar) if sar else Fraction(1)
        found.aspect = pixel * video.width / video.height
        found.chapters = [
            (c["start"] * fraction(c["time_base"]), c["metadata"].get("title", ""))
            for c in container.chapters()
        ]
        found.tags = {
            key.lower(): value
            for key, value in container.metadata.items()
            if key.lower() in ("title", "artist", "comment")
        }
        for stream in [*container.streams.audio, *container.streams.subtitles]:
            tags = {key.lower(): value for key, value in stream.metadata.items()}
            title = tags.get("title") or tags.get("name", "")
            found.labels.append((stream.type, tags.get("language", "und"), title))
        for held in container.streams.attachments:
            digest = hashlib.sha256(held.data).hexdigest()
            found.attachments.append((held.metadata.get("filename", ""), digest))
        numbers = [s.index for s in container.streams.audio]
        texts = [s.index for s in container.streams.subtitles]
    for number in numbers:
        _read_audio(path, number, found)
    found.subtitles = [_read_text(path, number) for number in texts]
    return found


def _read_audio(path: Path, number: int, found: Facts) -> None:
    digest, times = hashlib.sha256(), []
    with av.open(str(path)) as container:
        stream = container.streams[number]
        for packet in container.demux(stream):
            if packet.size:
                digest.update(bytes(packet))
                assert packet.pts is not None
                times.append(packet.pts * fraction(stream.time_base))
    start = found.times[0]
    places = (0, len(times) // 2, len(times) - 1)
    found.audio.append(f"{len(times)} {digest.hexdigest()}")
    found.audio_offsets.append([times[place] - start for place in places])


def _read_text(path: Path, number: int) -> list[tuple[Fraction, str]]:
    """Times and words of a text track, read from the bytes: srt is text, mov_text counted text."""
    cues = []
    with av.open(str(path)) as container:
        stream = container.streams[number]
        is_mov = stream.codec_context.name == "mov_text"
        for packet in container.demux(stream):
            data = bytes(packet) if packet.size else b""
            if is_mov and len(data) >= 2:
                data = data[2 : 2 + int.from_bytes(data[:2], "big")]
            if data:
                assert packet.pts is not None
                cues.append((packet.pts * fraction(stream.time_base), data.decode()))
    return cues


def differences(a: Facts, b: Facts, tick: Fraction = Fraction(1, 1000)) -> set[str]:
    """Names of the facts in which two films differ; times and ratios may be a tick apart."""
    names = set()
    for each in fields(Facts):
        before, after = getattr(a, each.name), getattr(b, each.name)
        if not _same(before, after, tick / 2):
            names.add(each.name)
    return names


def _same(a: Any, b: Any, allowed: Fraction) -> bool:
    if isinstance(a, Fraction):
        return bool(abs(a - b) <= allowed)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_same(x, y, allowed) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def pictures(path: Path, size: tuple[int, int] | None = None) -> Pictures:
    """R, G, B of every frame as (height, width, 3) floats of 0 to 255, by our own arithmetic.

    Args:
        path: a film of planar YUV with 8 bits, BT.709.
        size: width and height to reduce to, by whole steps; None leaves it.
    """
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            planes = []
            for plane in frame.planes:
                rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)  # type: ignore[call-overload]
                planes.append(rows[:, : plane.width].astype(float))
            luma, *chroma = planes
            up = [p.repeat(luma.shape[0] // p.shape[0], 0) for p in chroma]
            cb, cr = (p.repeat(luma.shape[1] // p.shape[1], 1) - 128 for p in up)
            if int(frame.color_range) == 2:
                y, cb, cr = luma, cb / 255 * 255, cr / 255 * 255
            else:
                y, cb, cr = (luma - 16) * 255 / 219, cb * 255 / 224, cr * 255 / 224
            red, blue = y + 1.5748 * cr, y + 1.8556 * cb
            green = (y - 0.2126 * red - 0.0722 * blue) / 0.7152
            rgb = np.stack([red, green, blue], -1)
            if size is not None:
                width, height = size
                step_y, step_x = rgb.shape[0] // height, rgb.shape[1] // width
                rgb = rgb.reshape(height, step_y, width, step_x, 3).mean((1, 3))
            found.append(rgb)
    return found


def nearest(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> list[int]:
    """The source picture nearest to each picture of the result, among all."""
    return [
        min(range(len(before)), key=lambda k: float(np.square(before[k] - picture).mean()))
        for picture in after
    ]


def remux(
    source: Path,
    target: Path,
    *,
    change: Change | None = None,
    redraw: Callable[[list[Any]], list[Any]] | None = None,
    order: Callable[[list[str]], list[str]] | None = None,
    tags: Callable[[dict[str, str]], dict[str, str]] | None = None,
    chapters: Callable[[list[Any]], list[Any]] | None = None,
    stream_tags: Callable[[str, dict[str, str]], dict[str, str]] | None = None,
    color_range: int | None = None,
) -> Path:
    """Copy a film with a change; without one, a copy that is the same film.

    Args:
        source: the film.
        target: the copy.
        change: packets of any stream.
        redraw: decoded pictures, in order; they are encoded again without loss.
        order: of the streams, named `video 0`, `audio 0`, ...
        tags: of the file.
        chapters: as av gives them.
        stream_tags: of one stream, by its name.
        color_range: FFmpeg's number, written into the container's header.
    """
    options = {}
    if target.suffix != ".mkv":
        # A finer clock than mp4's usual one, so that a shift by a tick is not rounded away.
        options = {"movflags": "+use_metadata_tags", "movie_timescale": "192000"}
    with av.open(str(source)) as reader, av.open(str(target), "w", options=options) as writer:
        names = _names(reader)
        wanted = list(names.values())
        streams: dict[str, Any] = {}
        for name in order(wanted) if order else wanted:
            origin = next(reader.streams[index] for index, n in names.items() if n == name)
            streams[name] = stream = (
                _lossless(writer, origin)
                if redraw is not None and name == "video 0"
                else writer.add_stream_from_template(origin, opaque=True)
            )
            # mp4 and mov give the title back as `name`, and take it as `title` only.
            given = {"title" if k == "name" else k: v for k, v in origin.metadata.items()}
            stream.metadata.update(stream_tags(name, given) if stream_tags else given)
            stream.disposition = origin.disposition
        if color_range is not None:
            streams["video 0"].codec_context.color_range = color_range
        given = dict(reader.metadata)
        writer.metadata.update(tags(given) if tags else given)
        marks = reader.chapters()
        if marks:
            writer.set_chapters(chapters(marks) if chapters else marks)
        _copy(reader, writer, names, streams, change, redraw)
    return target


def _names(reader: Any) -> dict[int, str]:
    """`audio 0` and so on, by index."""
    names: dict[int, str] = {}
    for kind in ("video", "audio", "subtitles"):
        for number, stream in enumerate(getattr(reader.streams, kind)):
            names[stream.index] = f"{stream.type} {number}"
    return dict(sorted(names.items()))


def _lossless(writer: Any, origin: Any) -> Any:
    """A stream for pictures that are encoded again."""
    is_mkv = writer.format.name == "matroska"
    stream = writer.add_stream("ffv1" if is_mkv else "libx264", rate=origin.average_rate)
    stream.width, stream.height, stream.pix_fmt = origin.width, origin.height, origin.pix_fmt
    theirs, ours = origin.codec_context, stream.codec_context
    for name in ("color_primaries", "color_trc", "colorspace", "color_range"):
        setattr(ours, name, getattr(theirs, name))
    ours.sample_aspect_ratio = theirs.sample_aspect_ratio
    ours.time_base = origin.time_base
    ours.max_b_frames, ours.thread_count = 0, 1
    if not is_mkv:
        ours.options = {"qp": "0", "preset": "ultrafast"}
    return stream


def _copy(
    reader: Any,
    writer: Any,
    names: dict[int, str],
    streams: dict[str, Any],
    change: Change | None,
    redraw: Callable[[list[Any]], list[Any]] | None,
) -> None:
    counts = dict.fromkeys(names.values(), 0)
    frames: list[Any] = []
    waiting: list[tuple[Fraction, Any]] = []
    last: dict[str, Fraction] = {}

    def wait(name: str, packet: Any) -> None:
        # Packets of one stream keep their order, whatever their times say.
        time = packet.dts if packet.dts is not None else packet.pts
        last[name] = max(time * fraction(packet.time_base), last.get(name, Fraction(-100)))
        waiting.append((last[name], packet))

    for packet in reader.demux([reader.streams[index] for index in names]):
        name = names[packet.stream_index]
        if name == "video 0" and redraw is not None:
            frames += packet.decode()
            continue
        if not packet.size:
            continue
        for changed in change(packet, name, counts[name]) if change else [packet]:
            changed.stream = streams[name]
            wait(name, changed)
        counts[name] += 1
    if redraw is not None:
        times, stream = [frame.pts for frame in frames], streams["video 0"]
        for pts, frame in zip(times, redraw(frames), strict=False):
            frame.pts, frame.pict_type = pts, 0
            for encoded in stream.encode(frame):
                wait("video 0", encoded)
        for encoded in stream.encode(None):
            wait("video 0", encoded)
    for _, packet in sorted(waiting, key=lambda entry: entry[0]):
        writer.mux(packet)


def altered(packet: Any, data: bytes) -> Any:
    """A packet with other bytes and the same times."""
    other = av.Packet(data)
    other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
    other.duration, other.is_keyframe = packet.duration, packet.is_keyframe
    return other
