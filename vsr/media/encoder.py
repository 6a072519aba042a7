"""Frames -> one segment on disk.

A segment is a Matroska file that holds one video stream of closed groups of pictures and nothing
else. Its timestamps only count frames: Matroska has milliseconds, and the real integer pts of every
frame are in the plan, from where `media.segments` puts them back.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from vsr.errors import EncodeError, OutputError
from vsr.frame import Frame, Plane
from vsr.media.captions import insert_captions
from vsr.media.opening import AV_ERRORS, open_input
from vsr.media.settings import EncoderSettings, configure, resolve_settings

__all__ = ["EncoderSettings", "SegmentEncoder", "SegmentSummary", "resolve_settings"]

logger = logging.getLogger(__name__)

TICKS_PER_FRAME = 10
"""Milliseconds from frame to frame on a segment's own clock."""
_NOT_IN_MATROSKA = frozenset({"dnxhd"})
_DTS_LEAD = 64
"""Frames by which decoding order is moved ahead: more than any encoder reorders."""


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """What a closed segment holds."""

    num_frames: int
    num_bytes: int


class SegmentEncoder:
    """Encode frames into one segment file; a context manager.

    Leaving the block without an error closes the segment; an error removes the file.

    Args:
        path: file to write; its folder must exist.
        settings: see `resolve_settings`.

    Raises:
        EncodeError: the encoder refused the settings or a frame.
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, settings: EncoderSettings) -> None:
        self._path = path
        self._settings = settings
        self._num_frames = 0
        self._num_packets = 0
        self._last_pts: int | None = None
        self._pending: dict[int, tuple[int, bytes | None]] = {}
        self._summary: SegmentSummary | None = None
        self._container = self._open()
        try:
            self._stream = self._add_stream()
        except (av.error.FFmpegError, ValueError) as error:
            self._abandon()
            raise EncodeError(f"{settings.codec} refused its settings ({error})") from error

    def _open(self) -> OutputContainer:
        name = f"file:{self._path.absolute()}"
        format_name = "mov" if self._settings.codec in _NOT_IN_MATROSKA else "matroska"
        try:
            return av.open(name, "w", format=format_name, container_options={"fflags": "+bitexact"})
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(f"segment {self._path.name} cannot be created ({error})") from error

    def _add_stream(self) -> VideoStream:
        stream = cast(
            VideoStream,
            self._container.add_stream(self._settings.codec, rate=self._settings.frame_rate),
        )
        configure(stream.codec_context, self._settings)
        stream.time_base = Fraction(1, 1000)
        return stream

    def encode(self, frame: Frame) -> None:
        """Encode the next frame, in order of presentation.

        Args:
            frame: of exactly the settings' size and layout, every plane of the layout's dtype;
                integer samples within the layout's bits. `A53_CC` side data are written as
                closed captions where the codec has a place for them.

        Raises:
            EncodeError: pts do not rise, or the encoder failed.
            OutputError: the disk refused.
        """
        assert self._summary is None, "the segment is closed"
        if self._last_pts is not None and frame.pts <= self._last_pts:
            raise EncodeError(
                f"frame pts must rise, but {frame.pts} came after {self._last_pts}",
            )
        picture = to_av_frame(frame, self._settings)
        captions = next((d.data for d in frame.side_data if d.kind == "A53_CC"), None)
        self._pending[frame.pts] = (self._num_frames, captions)
        self._last_pts = frame.pts
        self._num_frames += 1
        self._write(picture, f"frame at pts {frame.pts}")

    def close(self) -> SegmentSummary:
        """Flush the encoder, finish the file, bring it safely to disk and prove it by reading it.

        Raises:
            EncodeError: the segment has no frame, the encoder swallowed some, or what lies on the
                disk is not what was written.
            OutputError: the disk refused.
        """
        if self._summary is not None:
            return self._summary
        if self._num_frames == 0:
            self._abandon()
            raise EncodeError("a segment needs at least one frame")
        self._write(None, "end of segment")
        if self._pending or self._num_packets != self._num_frames:
            self._abandon()
            raise EncodeError(
                f"{self._settings.codec} gave {self._num_packets} packets for "
                f"{self._num_frames} frames"
            )
        try:
            self._container.close()
            sync_file(self._path)
            sync_folder(self._path.parent)
            size = self._path.stat().st_size
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(f"segment {self._path.name} cannot be written ({error})") from error
        verify_segment(self._path, self._num_frames)
        self._summary = SegmentSummary(num_frames=self._num_frames, num_bytes=size)
        return self._summary

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self.close()
        elif self._summary is None:
            self._abandon()

    def _write(self, picture: av.VideoFrame | None, what: str) -> None:
        """Encode (or flush, on None) and mux what comes out."""
        try:
            packets = self._stream.encode(picture)
        except (av.error.FFmpegError, ValueError) as error:
            raise EncodeError(f"{self._settings.codec} failed at the {what} ({error})") from error
        try:
            self._container.mux(list(self._retime(packets)))
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(f"segment {self._path.name} cannot be written ({error})") from error

    def _retime(self, packets: Iterable[Packet[VideoStream]]) -> Iterable[Packet[VideoStream]]:
        """Put packets on the segment's own clock, and captions into them."""
        for packet in packets:
            if packet.pts is None or packet.pts not in self._pending:
                raise EncodeError(f"{self._settings.codec} invented a frame at pts {packet.pts}")
            index, captions = self._pending.pop(packet.pts)
            if captions:
                packet = insert_captions(packet, captions, self._settings.codec)
                packet.stream = self._stream
            packet.time_base = Fraction(1, 1000)
            packet.pts = index * TICKS_PER_FRAME
            packet.dts = (self._num_packets - _DTS_LEAD) * TICKS_PER_FRAME
            packet.duration = TICKS_PER_FRAME
            self._num_packets += 1
            yield packet

    def _abandon(self) -> None:
        """Close what is open and remove the unfinished file."""
        try:
            self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            logger.debug("closing an abandoned segment: %s", error)
        self._path.unlink(missing_ok=True)


def to_av_frame(frame: Frame, settings: EncoderSettings) -> av.VideoFrame:
    """Copy planes into a new FFmpeg frame, without any conversion.

    PyAV's `encode` would rescale and convert a frame of another size or format without a word, so
    both are asserted here. The picture type of a new frame is undecided, which leaves key frames
    to the encoder.
    """
    layout, width, height = settings.layout, settings.width, settings.height
    assert frame.layout == layout, f"frame is {frame.layout}, the encoder takes {layout}"
    assert (frame.width, frame.height) == (width, height), (
        f"frame is {frame.width}x{frame.height}, the encoder takes {width}x{height}"
    )
    assert len(frame.planes) == layout.num_planes
    for index, plane in enumerate(frame.planes):
        assert plane.dtype == layout.dtype, f"plane {index} is {plane.dtype}, not {layout.dtype}"
        assert plane.shape == layout.plane_size(index, width, height), (
            f"plane {index} has shape {plane.shape}"
        )
    picture = av.VideoFrame(width, height, settings.pixel_format)
    if settings.pixel_format == "bgr0":
        _fill_interleaved(picture, frame.planes)
    elif settings.pixel_format == "p010le":
        _fill_semi_planar(picture, frame.planes)
    else:
        for target, plane in zip(picture.planes, frame.planes, strict=True):
            _fill(target, plane)
    picture.pts = frame.pts
    picture.time_base = settings.time_base
    picture.color_primaries = int(settings.color.primaries)
    picture.color_trc = int(settings.color.transfer)
    picture.colorspace = int(settings.color.matrix)
    picture.color_range = 2 if settings.color.full_range else 1
    return picture


def _fill(target: av.video.plane.VideoPlane, plane: Plane) -> None:
    """Copy one plane row by row; padding is zeroed, or encoders might read what was there."""
    rows, columns = plane.shape
    little = plane.dtype.newbyteorder("<")
    padded = np.ndarray((rows, target.line_size // plane.itemsize), little, cast(bytearray, target))
    padded[:, :columns] = plane
    padded[:, columns:] = 0


def _fill_semi_planar(picture: av.VideoFrame, planes: tuple[Plane, ...]) -> None:
    """Planes of 10 bits into one of luma and one of both chromas, the bits at the top of words."""
    luma, first, second = planes
    chroma = np.empty((first.shape[0], 2 * first.shape[1]), np.uint16)
    chroma[:, ::2], chroma[:, 1::2] = first, second
    for target, codes in zip(picture.planes, (luma, chroma), strict=True):
        _fill(target, np.left_shift(codes, 6, dtype=np.uint16))


def _fill_interleaved(picture: av.VideoFrame, planes: tuple[Plane, ...]) -> None:
    """G, B, R planes of 8 bits into B, G, R, 0 bytes."""
    target = picture.planes[0]
    green, blue, red = planes
    rows, columns = green.shape
    padded = np.ndarray((rows, target.line_size // 4, 4), np.uint8, cast(bytearray, target))
    padded[...] = 0
    for channel, plane in enumerate((blue, green, red)):
        padded[:, :columns, channel] = plane


def verify_segment(path: Path, num_frames: int) -> None:
    """Prove a finished segment: it opens, has a packet for each frame, and begins with a key frame.

    Raises:
        EncodeError: it is not so.
    """
    try:
        with open_input(path) as container:
            packets = (p for p in container.demux(container.streams.video[0]) if p.size)
            first = next(packets, None)
            num_packets = (first is not None) + sum(1 for _ in packets)
    except AV_ERRORS as error:
        raise EncodeError(f"segment {path.name} cannot be read back ({error})") from error
    if first is None or num_packets != num_frames:
        raise EncodeError(
            f"segment {path.name} holds {num_packets} packets, expected {num_frames}",
            hint="the disk does not keep what is written to it",
        )
    if not first.is_keyframe:
        raise EncodeError(f"segment {path.name} does not begin with a key frame")


def sync_folder(folder: Path) -> None:
    """Bring a new name safely to disk, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Bring a finished file safely to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
