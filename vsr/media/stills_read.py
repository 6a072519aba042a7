"""Read pictures: one file, or a sequence of them as if it were a video.

Each file is opened by its own name, read whole and handed to the one decoder its first bytes ask
for. No demuxer takes part, so nothing can be followed to another file.
"""

from __future__ import annotations

import logging
import stat
import struct
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter

from vsr.errors import DecodeError, OpenError, UnsupportedVideoError, VsrError
from vsr.frame import ColorSpec, Frame, PlaneLayout, SideData, Transfer, VideoInfo
from vsr.media.damage import DamageEvent
from vsr.media.formats import pixel_format, read_color, read_planes
from vsr.media.opening import AV_ERRORS, DEFAULT_LIMITS, ProbeLimits, reason
from vsr.media.probe import MediaInfo, StreamInfo, probe, to_fraction
from vsr.media.stills import CONTAINER, SUFFIXES, Kind, PictureSequence, find_sequence
from vsr.media.stills_headers import MAGICS, SIDE_DATA, Header, read_header

log = logging.getLogger(__name__)

_BYTES_PER_PIXEL = 16
"""Of the largest picture kept, RGBA of 32-bit floats; files may not be larger than that."""
_HEADER_ALLOWANCE = 64 << 20
_DPX_TRANSFERS = {2: Transfer.LINEAR, 6: Transfer.BT709, 7: Transfer.BT709, 8: Transfer.BT709}
DPX_LOG = frozenset((1, 3))
"""DPX transfer codes of film: printing density and logarithmic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Still:
    """One picture file, decoded."""

    kind: Kind
    frame: Frame
    """At pts 0; what its header holds is in the side data."""
    header: Header
    pixel_format: str
    sample_aspect_ratio: Fraction

    @property
    def is_log(self) -> bool:
        """Whether its codes are film densities."""
        return self.kind == "dpx" and self.header.transfer in DPX_LOG


def read_still(path: Path, *, limits: ProbeLimits = DEFAULT_LIMITS) -> Still:
    """Decode one picture file.

    Args:
        path: a regular file; its suffix and its first bytes must agree on the kind.
        limits: what the file may ask of us.

    Raises:
        OpenError: not a readable regular file, or no picture of the kind its name says.
        UnsupportedVideoError: beyond `limits`, or what could not be kept exactly.
        DecodeError: damaged.
    """
    path = Path(path)
    data = read_picture_file(path, limits)
    kind = _kind_of(path, data)
    try:
        header = read_header(kind, data)
        decoded, aspect = decode_picture(kind, data, limits)
        plan = pixel_format(decoded.format.name)
        planes = read_planes(decoded, plan, VideoReformatter())
        color = read_color(decoded, plan, kind)
    except AV_ERRORS as error:
        if isinstance(error, UnsupportedVideoError):
            raise UnsupportedVideoError(
                f"{path} cannot be read: {_lower(error.message)}", hint=error.hint
            ) from error
        raise DecodeError(
            f"{path} could not be decoded: {reason(error)}.", hint="the file is damaged"
        ) from error
    if plan.layout.is_float:
        if not all(bool(np.isfinite(plane).all()) for plane in planes):
            raise UnsupportedVideoError(
                f"{path} holds samples that are infinite or no number.",
                hint="replace them with finite values first",
            )
        color = replace(color, transfer=Transfer.LINEAR)
    elif kind == "dpx" and color.transfer is Transfer.UNSPECIFIED:
        transfer = _DPX_TRANSFERS.get(header.transfer or 0, Transfer.UNSPECIFIED)
        color = replace(color, transfer=transfer)
    side_data = (SideData(SIDE_DATA[kind], header.carried),) if kind in SIDE_DATA else ()
    frame = Frame(
        planes=planes, layout=plan.layout, color=color, pts=0, duration=1, side_data=side_data,
        is_key=True,
    )  # fmt: skip
    return Still(
        kind=kind,
        frame=frame,
        header=header,
        pixel_format=decoded.format.name,
        sample_aspect_ratio=aspect,
    )


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def read_picture_file(path: Path, limits: ProbeLimits) -> bytes:
    """The bytes of a regular file that is not larger than a picture may be. Never blocks."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OpenError(f"{path} is not a regular file, expected a picture.")
        allowed = limits.max_pixels * _BYTES_PER_PIXEL + _HEADER_ALLOWANCE
        if status.st_size > allowed:
            raise UnsupportedVideoError(
                f"{path} has {status.st_size} bytes, more than the {allowed} a picture may have."
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise OpenError(f"{path} does not exist.", hint="check the name") from error
    except OSError as error:
        if isinstance(error, VsrError):
            raise
        raise OpenError(f"{path} cannot be read: {reason(error)}.") from error


def _kind_of(path: Path, data: bytes) -> Kind:
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise OpenError(
            f"{path} is not called like a picture.", hint=f"pictures are {', '.join(SUFFIXES)}"
        )
    if not data:
        raise OpenError(f"{path} is empty.", hint="copy it again")
    if not data.startswith(MAGICS[kind]):
        raise OpenError(f"{path} does not hold a {kind.upper()} picture, whatever its name says.")
    return kind


def decode_picture(codec: str, data: bytes, limits: ProbeLimits) -> tuple[av.VideoFrame, Fraction]:
    """One picture by a decoder of its own, which no other file can have left in disorder."""
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    # With it a PNG of a wrong checksum is an error; TIFF's decoder would refuse sound files too.
    strictness = "crccheck+explode" if codec == "png" else "crccheck"
    context.options = {"max_pixels": str(limits.max_pixels), "err_detect": strictness}
    frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    if len(frames) != 1:
        raise ValueError(f"it holds {len(frames)} pictures")
    if frames[0].is_corrupt:
        raise ValueError("its samples are damaged or cut off")
    return frames[0], to_fraction(context.sample_aspect_ratio) or Fraction(1)


@dataclass(frozen=True, slots=True)
class _Format:
    """What must be the same in every picture of a sequence."""

    width: int
    height: int
    pixel_format: str
    layout: PlaneLayout
    color: ColorSpec
    sample_aspect_ratio: Fraction
    is_log: bool

    @classmethod
    def of(cls, still: Still) -> Self:
        frame = still.frame
        return cls(
            frame.width,
            frame.height,
            # Byte order is how a file is written and not what its picture is.
            still.pixel_format.removesuffix("le").removesuffix("be"),
            frame.layout,
            frame.color,
            still.sample_aspect_ratio,
            still.is_log,
        )

    def difference(self, other: _Format) -> str:
        """What of `self` is other than in the first picture, `other`, in words."""
        if (self.width, self.height) != (other.width, other.height):
            return f"is {self.width}x{self.height}, the first {other.width}x{other.height}"
        if self.layout != other.layout or self.pixel_format != other.pixel_format:
            return f"is {self.pixel_format}, the first {other.pixel_format}"
        if self.sample_aspect_ratio != other.sample_aspect_ratio:
            return f"has pixel shape {self.sample_aspect_ratio}, not {other.sample_aspect_ratio}"
        return "is tagged with another colour than the first"


def probe_sequence(
    source: Path, sequence: PictureSequence, *, limits: ProbeLimits = DEFAULT_LIMITS
) -> MediaInfo:
    """Describe a sequence as if it were a video file; decodes its first picture.

    The time base is one picture, so pts count pictures from 0.

    Args:
        source: as the user named it.
        sequence: from `find_sequence`.
        limits: what a file may ask of us.

    Raises:
        OpenError, UnsupportedVideoError, DecodeError: as `read_still`.
    """
    still = read_still(sequence.path(0), limits=limits)
    frame = still.frame
    rate, count = sequence.frame_rate, sequence.count
    seconds = float(count / rate)
    video = VideoInfo(
        stream_index=0,
        codec=sequence.kind,
        width=frame.width,
        height=frame.height,
        pixel_format=still.pixel_format,
        layout=frame.layout,
        color=frame.color,
        time_base=1 / rate,
        frame_rate=rate,
        num_frames=count,
        start_pts=0,
        duration_s=seconds,
        sample_aspect_ratio=still.sample_aspect_ratio,
        field_order="progressive",
        metadata=_tags(still),
    )
    stream = StreamInfo(
        index=0,
        kind="video",
        codec=sequence.kind,
        time_base=1 / rate,
        start_pts=0,
        duration_s=seconds,
        metadata={},
        width=frame.width,
        height=frame.height,
        frame_rate=rate,
        num_frames=count,
    )
    return MediaInfo(
        path=source,
        container=CONTAINER,
        size_bytes=sum(path.stat().st_size for path in sequence.paths()),
        duration_s=seconds,
        start_time_s=0.0,
        bit_rate=None,
        video=video,
        streams=(stream,),
        chapters=(),
        metadata={},
        attachments=(),
        warnings=_warnings(sequence),
    )


def probe_any(source: Path) -> MediaInfo:
    """Describe a sequence or a film, whichever `source` names.

    Raises:
        MediaError: as `find_sequence`, `probe_sequence` and `probe`.
    """
    sequence = find_sequence(source)
    return probe(source) if sequence is None else probe_sequence(source, sequence)


def _tags(still: Still) -> dict[str, str]:
    """What a picture's header tells a video: the timecode of its television header."""
    carried = still.header.carried
    if still.kind != "dpx" or len(carried) < 1924:
        return {}
    code = struct.unpack_from(">I", carried, 1920)[0]
    digits = f"{code:08x}"
    if code == 0xFFFFFFFF or not digits.isdigit():
        return {}
    return {"timecode": ":".join(digits[k : k + 2] for k in range(0, 8, 2))}


def _warnings(sequence: PictureSequence) -> tuple[str, ...]:
    said = []
    if not sequence.is_rate_given:
        said.append(
            f"Pictures do not say how fast they follow: {sequence.frame_rate} a second was taken."
        )
    if sequence.num_other_files:
        said.append(
            f"{sequence.num_other_files} other files in the folder are no part of the sequence."
        )
    return tuple(said)


class PictureReader:
    """The frames of a sequence in order, as `FrameReader` gives those of a video.

    Args:
        sequence: from `find_sequence`.
        info: from `probe_sequence`.
        threads: pictures decoded at once.
        start_pts: rank of the first picture wanted.
        end_pts: rank of the first picture not wanted any more.
        limits: what a file may ask of us.

    Raises:
        OpenError, DecodeError: while iterating: a file cannot be read.
        UnsupportedVideoError: while iterating: a picture is of another size, format or colour than
            the first one of the sequence; it is named.
    """

    def __init__(
        self,
        sequence: PictureSequence,
        *,
        info: VideoInfo,
        threads: int = 1,
        start_pts: int | None = None,
        end_pts: int | None = None,
        limits: ProbeLimits = DEFAULT_LIMITS,
    ) -> None:
        self.info = info
        self.events: list[DamageEvent] = []
        """Always empty: a damaged picture is an error, never concealed."""
        self._sequence = sequence
        self._threads = threads
        self._limits = limits
        self._range = range(
            max(0, start_pts or 0),
            sequence.count if end_pts is None else min(end_pts, sequence.count),
        )
        self._losses: dict[str, None] = {}

    @property
    def losses(self) -> tuple[str, ...]:
        """What the pictures read so far hold that the result cannot."""
        return tuple(self._losses)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing stays open between two pictures."""

    def __iter__(self) -> Iterator[Frame]:
        expected: _Format | None = None
        for index, still in self._stills():
            found = _Format.of(still)
            if expected is None:
                expected = self._first_format(index, found)
            if found != expected:
                raise UnsupportedVideoError(
                    f"{self._sequence.path(index)} {found.difference(expected)}.",
                    hint="a sequence holds pictures of one size and kind; upscale others apart",
                )
            self._losses |= dict.fromkeys(still.header.losses)
            yield replace(still.frame, pts=index)

    def _first_format(self, index: int, found: _Format) -> _Format:
        """Of the sequence's first picture, which may lie before the range asked for."""
        if index == 0:
            return found
        return _Format.of(read_still(self._sequence.path(0), limits=self._limits))

    def _stills(self) -> Iterator[tuple[int, Still]]:
        """Pictures in order, some of them decoded ahead by other threads."""
        waiting: deque[tuple[int, Future[Still]]] = deque()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="vsr-stills") as pool:
            try:
                for index in self._range:
                    path = self._sequence.path(index)
                    waiting.append((index, pool.submit(read_still, path, limits=self._limits)))
                    if len(waiting) > self._threads:
                        first, future = waiting.popleft()
                        yield first, future.result()
                while waiting:
                    first, future = waiting.popleft()
                    yield first, future.result()
            finally:
                for _, future in waiting:
                    future.cancel()
