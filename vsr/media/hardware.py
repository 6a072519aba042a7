"""Decoding by a video card's own decoder, and whether that pays for a film.

Pictures are brought to the host as soon as they are decoded, so that whoever reads them finds what
the software decoder gives: the same samples, times and side data. That a film's first pictures are
the same is proven before a decoder is chosen; where anything goes wrong later, the software decoder
does the work.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from av.codec.hwaccel import HWAccel

from vsr.errors import HardwareDecodeError, OpenError, VsrError
from vsr.frame import Frame, VideoInfo
from vsr.media.opening import AV_ERRORS, ProbeLimits, open_input, reason

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

DecoderName = Literal["software", "cuda"]

MIN_SIDE_PX = 1080
"""Shorter side of the smallest pictures that are worth their way over the bus."""
NUM_COMPARED = 24
_MAX_COMPARED_BYTES = 512 << 20
_REPEATED = frozenset({"SEI_UNREGISTERED"})
"""What x265 writes once; how many pictures it is handed out with depends on the decoder's threads.
Nothing of it goes into a result."""
_SHARED_BY = 480
"""Frames over which the time to open a decoder is spread: about as many as a segment has."""


class Decoder(Protocol):
    """What turns packets into pictures; av's codec contexts do."""

    @property
    def sample_aspect_ratio(self) -> Fraction | None: ...

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]: ...


class Hardware(Protocol):
    """A decoder that is not the processor."""

    def open(self, path: Path, limits: ProbeLimits) -> InputContainer:
        """As `open_input`.

        Raises:
            HardwareDecodeError: the device cannot be used.
        """
        ...

    def decoder(self, stream: VideoStream) -> Decoder:
        """What decodes a stream of that file, its options set.

        Raises:
            HardwareDecodeError: the device does not decode such streams.
        """
        ...


class CudaDecoder:
    """NVDEC; see `Hardware`.

    Args:
        index: of the GPU, as CUDA counts them.
    """

    def __init__(self, index: int = 0) -> None:
        self._index = index

    def open(self, path: Path, limits: ProbeLimits) -> InputContainer:
        # Said outright: what av takes of its own accord differs between its versions.
        accelerator = HWAccel("cuda", device=str(self._index), allow_software_fallback=False)
        try:
            return open_input(path, limits=limits, accelerator=accelerator)
        except OpenError as error:
            why = "not there" if error.__cause__ is None else reason(error.__cause__)
            raise HardwareDecodeError(f"the decoder of GPU {self._index} is {why}") from error

    def decoder(self, stream: VideoStream) -> Decoder:
        context = stream.codec_context
        if not context.is_hwaccel:
            raise HardwareDecodeError(f"GPU {self._index} does not decode {context.name}")
        return context


def open_hardware(device: str) -> Hardware:
    """The decoder of a device such as `cuda:0`."""
    return CudaDecoder(int(device.partition(":")[2] or 0))


def hardware_of(decoder: DecoderName, device: str) -> Hardware | None:
    """What a plan says: its decoder, on its device; None for the software decoder."""
    return None if decoder == "software" else open_hardware(device)


@dataclass(frozen=True, slots=True)
class DecoderChoice:
    """Which decoder reads a film, and why."""

    name: DecoderName
    reason: str
    """One clause."""


def is_worth_a_try(info: VideoInfo) -> str | None:
    """Why a film stays with the software decoder, whatever the device can do; None if open."""
    if min(info.width, info.height) < MIN_SIDE_PX:
        return f"pictures of {info.width}x{info.height} are decoded fastest where they are used"
    if info.is_interlaced:
        return "the film is interlaced"
    return None


def choose_decoder(
    software: Callable[[], Iterable[Frame]],
    hardware: Callable[[], Iterable[Frame]],
    *,
    must_be_faster: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> DecoderChoice:
    """Decode the first pictures of a film both ways, and compare them sample by sample.

    Args:
        software: opens the film with the software decoder; closed before this returns.
        hardware: the same with the other one.
        must_be_faster: choose the hardware only where it takes less time.
        clock: seconds.
    """
    try:
        wanted, software_s = _timed(software, clock)
        found, hardware_s = _timed(hardware, clock)
    except (VsrError, *AV_ERRORS) as error:
        why = error.message if isinstance(error, VsrError) else reason(error)
        return DecoderChoice("software", why.rstrip("."))
    if (trouble := _difference(wanted, found)) is not None:
        return DecoderChoice("software", f"the GPU's decoder gives {trouble}")
    took = f"{1e3 * hardware_s:.2f} ms a picture on the GPU and {1e3 * software_s:.2f} ms without"
    if must_be_faster and hardware_s >= software_s:
        return DecoderChoice("software", took)
    return DecoderChoice("cuda", f"the first {len(found)} pictures are the same, {took}")


def _timed(
    opened: Callable[[], Iterable[Frame]], clock: Callable[[], float]
) -> tuple[list[Frame], float]:
    """The first pictures, and seconds for one of many, opening included."""
    started = clock()
    frames: list[Frame] = []
    opening = [opened()]
    try:
        iterator = iter(opening[0])
        opening.append(iterator)
        # The first alone, for it waits until the decoder has begun.
        frames += itertools.islice(iterator, 1)
        begun = clock()
        size = sum(plane.nbytes for frame in frames for plane in frame.planes)
        count = min(NUM_COMPARED, _MAX_COMPARED_BYTES // max(size, 1)) - 1
        frames += itertools.islice(iterator, max(1, count))
        ended = clock()
    finally:
        for each in reversed(opening):
            close = getattr(each, "close", None)
            if close is not None:
                close()
    steady_s = (ended - begun) / max(len(frames) - 1, 1)
    return frames, steady_s + (begun - started) / _SHARED_BY


def _difference(wanted: Sequence[Frame], found: Sequence[Frame]) -> str | None:
    """How two readings of one film differ first; None where they do not."""
    if len(wanted) < 2:
        return "too few pictures to compare"
    if len(wanted) != len(found):
        return f"{len(found)} pictures instead of {len(wanted)}"
    for number, (left, right) in enumerate(zip(wanted, found, strict=True)):
        if not all(map(np.array_equal, left.planes, right.planes)):
            return f"another picture {number}"
        if _without_samples(left) != _without_samples(right):
            return f"picture {number} with another time or other side data"
    return None


def _without_samples(frame: Frame) -> Frame:
    kept = tuple(data for data in frame.side_data if data.kind not in _REPEATED)
    return replace(frame, planes=(), side_data=kept)
