"""Decode the video of a file into `Frame`s with exact integer timestamps.

The reader never guesses in silence: repaired timestamps, refused packets and damaged pictures are
delivered or skipped by stated rules, and every one of them is in `FrameReader.events`.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from av.video.reformatter import VideoReformatter

from vsr.errors import DecodeError, HardwareDecodeError, UnsupportedVideoError, VsrError
from vsr.frame import Frame, SideData, VideoInfo
from vsr.media.changes import PictureWatch
from vsr.media.damage import (
    KIND_CORRUPT_FRAME,
    KIND_CORRUPT_PACKET,
    KIND_DECODE_ERROR,
    KIND_DEMUX_ERROR,
    KIND_SHORT,
    KIND_SIDE_DATA,
    KIND_TRUNCATED,
    DamageEvent,
    DamageLog,
)
from vsr.media.formats import pixel_format, read_planes
from vsr.media.hardware import Decoder, Hardware
from vsr.media.opening import AV_ERRORS, DEFAULT_LIMITS, ProbeLimits, open_input, reason
from vsr.media.packets import find_key_packet, read_packets, read_packets_from
from vsr.media.probe import check_coded_size, configure_decoder, pick_video_stream, probe
from vsr.media.sidedata import read_side_data
from vsr.media.timestamps import TimestampRepair

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

MAX_CONSECUTIVE_ERRORS = 500
"""Packets refused in a row before the rest of a file counts as undecodable."""
_MAX_ENTRIES_TRIED = 16


class ReadWatcher(Protocol):
    """Looks on while a file is read; see `pipeline.scan`."""

    def on_demuxed(self, packet: Packet[VideoStream]) -> None:
        """Called with each packet as it comes out of the file."""

    def on_packet(self, pts: int | None) -> None:
        """Called after each packet went through the decoder.

        None: it has no timestamp, is not meant to be shown, or the last one went before.
        """

    def on_picture(self, decoded: VideoFrame, frame: Frame) -> None:
        """Called with each picture as decoded and as it is about to be delivered."""


class FrameReader:
    """The frames of one video stream in display order; iterate once, in one thread.

    Frames whose picture the decoder could not make are missing from the sequence; their packets are
    in `events`. Timestamps rise strictly; repaired ones are in `events` too.

    Args:
        path: a regular file.
        stream_index: the video stream; the film as `probe` picks it if None.
        threads: decoder threads. Use 1 for damaged sources: with more, concealed pictures differ
            from run to run.
        start_pts: first timestamp wanted, in the stream's time base; earlier frames are decoded as
            far as needed and dropped. The frames delivered equal those of a read from the start.
        end_pts: first timestamp not wanted any more.
        entry_pts: of the key packet where decoding starts, with a fresh decoder; from
            `find_decode_entry`. Found by a search if None and `start_pts` is given. Nothing before
            it is delivered.
        limits: what the file may ask of us.
        info: from an earlier `probe` of the same stream; probed anew if None.
        max_consecutive_errors: packets refused in a row before giving up.
        follow_changes: deliver frames of another size, format, colour or shape of pixels as they
            are, and record where that begins. Changes that no conversion undoes are refused still.
        watcher: told of every packet and picture; it changes nothing.
        hardware: decodes in place of the processor. Anything that goes wrong then, a damaged
            picture too, is a HardwareDecodeError, and the film is for the software decoder.
        copy_planes: give the decoder its memory back at once. Some decoders leave in damaged places
            what was there before: then pictures depend on how long earlier ones are held.

    Raises:
        OpenError, NoVideoStreamError, UnsupportedVideoError, DecodeError: as `probe`; while
            iterating also UnsupportedVideoError when size, format or colour change in mid-stream,
            and DecodeError when too many packets in a row are refused.
    """

    def __init__(
        self,
        path: Path,
        *,
        stream_index: int | None = None,
        threads: int = 1,
        start_pts: int | None = None,
        end_pts: int | None = None,
        entry_pts: int | None = None,
        limits: ProbeLimits = DEFAULT_LIMITS,
        info: VideoInfo | None = None,
        max_consecutive_errors: int = MAX_CONSECUTIVE_ERRORS,
        follow_changes: bool = False,
        watcher: ReadWatcher | None = None,
        hardware: Hardware | None = None,
        copy_planes: bool = False,
    ) -> None:
        self.path = Path(path)
        self.info = info or probe(self.path, limits=limits, stream_index=stream_index).video
        self._start_pts = entry_pts if start_pts is None else start_pts
        self._end_pts = end_pts
        self._threads = threads
        self._limits = limits
        self._max_errors = max_consecutive_errors
        self._watcher = watcher
        self._copy_planes = copy_planes
        if entry_pts is None and start_pts is not None:
            entry_pts = find_decode_entry(
                self.path, start_pts, info=self.info, threads=threads, limits=limits
            )
        self._entry_pts = entry_pts
        self._log = DamageLog()
        self._hardware = hardware
        self._container: InputContainer | None = (
            open_input(self.path, limits=limits)
            if hardware is None
            else hardware.open(self.path, limits)
        )
        # Threads are for the processor: a card's decoder has none to give them to.
        num_threads = threads if hardware is None else 1
        self._stream = _prepare(self.path, self._container, self.info, num_threads, limits)
        self._decoder = self._decoder_of(self._container)
        self._reformatter = VideoReformatter()
        self._pictures = PictureWatch(
            self.path,
            self.info,
            self._log,
            follow=follow_changes,
            is_stored_otherwise=hardware is not None,
        )
        self._corrupt_pts: set[int] = set()
        self._errors_in_row = 0
        self._num_decoded = 0

    def _decoder_of(self, container: InputContainer) -> Decoder:
        if self._hardware is None:
            return self._stream.codec_context
        try:
            return self._hardware.decoder(self._stream)
        except HardwareDecodeError:
            container.close()
            raise

    @property
    def events(self) -> list[DamageEvent]:
        """What was wrong so far; complete once the iteration has ended."""
        return self._log.events

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
        """Close the file. Planes already delivered stay valid."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def __iter__(self) -> Generator[Frame, None, None]:
        repair: TimestampRepair[VideoFrame] = TimestampRepair(
            self._log, default_step=_usual_step(self.info), first_pts=self.info.start_pts or 0
        )
        end: int | None = None
        for decoded, pts in _settled(repair, self._decode(), self.info):
            if self._start_pts is not None and pts < self._start_pts:
                continue
            if self._end_pts is not None and pts >= self._end_pts:
                return
            last = self._frame(decoded, pts)
            end = last.pts + last.duration
            if self._watcher is not None:
                self._watcher.on_picture(decoded, last)
            yield last
            del last
        self._check_end(end)
        if self._num_decoded == 0:
            raise DecodeError(
                f"No picture of {self.path} could be decoded.",
                hint="the file is damaged at its start or encrypted",
            )

    def _check_end(self, end: int | None) -> None:
        """Record a video that is over long before the container says so."""
        declared_s = self._declared_s()
        if end is None or declared_s is None:
            return
        # Matroska counts its duration from zero or from the first frame, as its writer pleased.
        start = (
            min(0, self.info.start_pts or 0)
            if self.info.num_frames is None
            else self.info.start_pts
        )
        seconds = float((end - (start or 0)) * self.info.time_base)
        if declared_s - seconds > max(1.0, 0.1 * declared_s):
            self._log.add(
                KIND_SHORT, end, f"lasts {seconds:.3f} s where {declared_s:.3f} s are declared"
            )

    def _declared_s(self) -> float | None:
        """How long the container says the video is."""
        info = self.info
        # FFmpeg counts what it finds in an AVI without an index; the header knows better.
        is_avi = self._container is not None and self._container.format.name == "avi"
        if is_avi and info.num_frames and info.frame_rate and info.duration_s is not None:
            return max(info.duration_s, float(info.num_frames / info.frame_rate))
        return info.duration_s

    def _decode(self) -> Iterator[VideoFrame]:
        """Pictures as the decoder gives them, the delayed ones at the end included."""
        assert self._container is not None, "the reader is closed"
        container, stream = self._container, self._stream
        if self._entry_pts is None:
            packets = read_packets(container, stream, self._demux_failed)
        else:
            packets = read_packets_from(container, stream, self._entry_pts, self._demux_failed)
        for packet in packets:
            if self._watcher is not None:
                self._watcher.on_demuxed(packet)
            if packet.is_corrupt:
                self._note_corrupt(packet)
            yield from self._watched(packet)
        yield from self._watched(None)

    def _watched(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        frames = self._send(packet)
        if self._watcher is not None:
            self._watcher.on_packet(None if packet is None or packet.is_discard else packet.pts)
        return frames

    def _send(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """Decode one packet, or drain with None; a refused packet is recorded and skipped."""
        try:
            frames = self._decoder.decode(packet)
        except EOFError:
            return []
        except AV_ERRORS as error:
            pts = None if packet is None else packet.pts
            if self._hardware is not None:
                raise HardwareDecodeError(
                    f"the GPU's decoder refused a packet of {self.path} at pts {pts} "
                    f"({reason(error)})"
                ) from error
            self._errors_in_row += 1
            if self._start_pts is None or pts is None or pts >= self._start_pts:
                self._log.add(KIND_DECODE_ERROR, pts, reason(error))
            if self._errors_in_row > self._max_errors:
                raise DecodeError(
                    f"{self.path} could not be decoded from pts {pts} on: "
                    f"{self._errors_in_row} packets in a row were refused ({reason(error)}).",
                    hint="the file is damaged beyond what can be skipped",
                ) from error
            return []
        if frames:
            self._errors_in_row = 0
            self._num_decoded += len(frames)
            self._pictures.note_aspect(frames, self._decoder.sample_aspect_ratio)
        return frames

    def _demux_failed(self, error: BaseException, is_end: bool) -> None:
        """Record that the container could not be read; `is_end` when no more is tried."""
        self._log.add(KIND_TRUNCATED if is_end else KIND_DEMUX_ERROR, None, reason(error))

    def _note_corrupt(self, packet: Packet[VideoStream]) -> None:
        if packet.pts is None:
            self._log.add(KIND_CORRUPT_PACKET, None, f"at byte {packet.pos}")
        else:
            self._corrupt_pts.add(packet.pts)

    def _frame(self, decoded: VideoFrame, pts: int) -> Frame:
        picture = self._pictures.check(decoded, pts)
        is_corrupt = bool(decoded.is_corrupt) or decoded.pts in self._corrupt_pts
        if is_corrupt and self._hardware is not None:
            raise HardwareDecodeError(f"the GPU's decoder damaged a picture at pts {pts}")
        if is_corrupt:
            self._log.add(KIND_CORRUPT_FRAME, pts, "called damaged by decoder or container")
        side_data = read_side_data(decoded)
        if side_data is None:
            self._log.add(KIND_SIDE_DATA, pts, "a kind that av has no name for")
        planes = read_planes(decoded, pixel_format(decoded.format.name), self._reformatter)
        if self._copy_planes:
            planes = tuple(plane.copy() for plane in planes)
        return Frame(
            planes=planes,
            layout=picture.format.layout,
            color=picture.color,
            pts=pts,
            duration=_duration(decoded, self.info),
            side_data=tuple(SideData(kind, data) for kind, data in (side_data or {}).items()),
            is_corrupt=is_corrupt,
            is_interlaced=bool(decoded.interlaced_frame),
            is_key=bool(decoded.key_frame),
            sample_aspect_ratio=picture.aspect,
        )


def find_decode_entry(
    path: Path,
    start_pts: int,
    *,
    info: VideoInfo | None = None,
    threads: int = 1,
    limits: ProbeLimits = DEFAULT_LIMITS,
) -> int | None:
    """Where to start decoding so that the frame at `start_pts` comes out as in a read from the top.

    Args:
        path: a regular file.
        start_pts: first timestamp wanted, in the stream's time base.
        info: from an earlier `probe`.
        threads: decoder threads.
        limits: what the file may ask of us.

    Returns:
        Timestamp of the last packet at or before `start_pts` from which a fresh decoder makes a
        clean picture; None for the start of the file.
    """
    info = info or probe(path, limits=limits).video
    if info.start_pts is None or start_pts <= info.start_pts:
        return None
    wanted = start_pts
    for _ in range(_MAX_ENTRIES_TRIED):
        with open_input(path, limits=limits) as container:
            stream = _prepare(path, container, info, threads, limits)
            key_pts = find_key_packet(container, stream, wanted)
        if key_pts is None or key_pts <= info.start_pts:
            return None
        if _is_clean_entry(path, info, key_pts, threads, limits):
            return key_pts
        wanted = key_pts - 1
    return None


def _is_clean_entry(
    path: Path, info: VideoInfo, key_pts: int, threads: int, limits: ProbeLimits
) -> bool:
    """True if a fresh decoder's first picture is the key packet's own, and whole.

    Pictures before a recovery point, and key packets that are not, fail here.
    """
    with FrameReader(path, entry_pts=key_pts, threads=threads, limits=limits, info=info) as reader:
        try:
            first = next(iter(reader), None)
        except (DecodeError, UnsupportedVideoError):
            return False
        return (
            first is not None
            and first.pts == key_pts
            and first.is_key
            and not first.is_corrupt
            and not reader.events
        )


def _usual_step(info: VideoInfo) -> int:
    """Ticks between frames, as far as the header tells."""
    if info.frame_rate:
        return max(1, round(1 / (info.frame_rate * info.time_base)))
    return max(1, round(Fraction(1, 25) / info.time_base))


def _duration(decoded: VideoFrame, info: VideoInfo) -> int:
    """Ticks that a picture lasts; 0 where FFmpeg has it only from a rate that is none."""
    duration = max(0, decoded.duration or 0)
    return 0 if duration == 1 and info.frame_rate is None else duration


def _settled(
    repair: TimestampRepair[VideoFrame], frames: Iterator[VideoFrame], info: VideoInfo
) -> Iterator[tuple[VideoFrame, int]]:
    for frame in frames:
        yield from repair.push(frame, frame.pts, _duration(frame, info))
    yield from repair.flush()


def _prepare(
    path: Path, container: InputContainer, info: VideoInfo, threads: int, limits: ProbeLimits
) -> VideoStream:
    """The stream that `info` describes, its decoder configured but not yet open."""
    try:
        stream = pick_video_stream(path, container, info.stream_index)
        check_coded_size(path, stream, limits)
        configure_decoder(stream, threads=threads, limits=limits)
    except AV_ERRORS as error:
        container.close()
        if isinstance(error, VsrError):
            raise
        raise DecodeError(f"{path} could not be decoded: {reason(error)}.") from error
    return stream
