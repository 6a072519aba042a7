"""A video card's decoder without a card: pictures come as such decoders give them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vsr.errors import HardwareDecodeError
from vsr.media.formats import pixel_format, read_planes
from vsr.media.opening import ProbeLimits, open_input

STORED_AS = {"yuv420p": "nv12", "yuv420p10le": "p010le", "yuv444p": "nv24"}


class FakeHardware:
    """Decodes on the processor, and hands pictures over with their chroma interleaved.

    Args:
        fail_at: the decode call, counted over all files, that fails; None for none.
        error: what is raised there.
        missing: the device is not there.
        unfit: it does not decode such streams.
        change: what is done to a picture on its way.
        drop: number of a picture that is lost.
    """

    def __init__(
        self,
        *,
        fail_at: int | None = None,
        error: Exception | None = None,
        missing: bool = False,
        unfit: bool = False,
        change: Callable[[av.VideoFrame], None] | None = None,
        drop: int | None = None,
    ) -> None:
        self._fail_at, self._error = fail_at, error or av.error.InvalidDataError(1, "no surface")
        self._missing, self._unfit = missing, unfit
        self._change, self._drop = change, drop
        self.num_opened = 0
        self.num_calls = 0
        self.num_pictures = 0
        self.thread_counts: list[int] = []

    def open(self, path: Path, limits: ProbeLimits) -> Any:
        if self._missing:
            raise HardwareDecodeError("the decoder of GPU 0 is not there")
        self.num_opened += 1
        return open_input(path, limits=limits)

    def decoder(self, stream: Any) -> Any:
        if self._unfit:
            raise HardwareDecodeError(f"GPU 0 does not decode {stream.codec_context.name}")
        self.thread_counts.append(stream.codec_context.thread_count)
        return _Decoder(self, stream.codec_context)

    def decoded(self, context: Any, packet: Any) -> list[av.VideoFrame]:
        self.num_calls += 1
        if self.num_calls == self._fail_at:
            raise self._error
        frames = []
        for frame in context.decode(packet):
            self.num_pictures += 1
            if self.num_pictures - 1 == self._drop:
                continue
            stored = STORED_AS[frame.format.name.replace("yuvj", "yuv")]
            # For all that comes with a picture; its samples pass no converter.
            picture = frame.reformat(format=stored)
            picture.color_range = frame.color_range
            interleave(frame, picture)
            if self._change is not None:
                self._change(picture)
            frames.append(picture)
        return frames


def interleave(frame: av.VideoFrame, picture: av.VideoFrame) -> None:
    """Copy planes into a picture of one plane of luma and one of both kinds of chroma."""
    plan = pixel_format(frame.format.name)
    shift = 16 - plan.layout.bits if plan.layout.bits > 8 else 0
    luma, *chroma = (
        np.left_shift(plane.astype(plan.layout.dtype), shift, dtype=plan.layout.dtype)
        for plane in read_planes(frame, plan, VideoReformatter())
    )
    pairs = np.stack(chroma, axis=-1).reshape(len(chroma[0]), -1)
    for target, samples in zip(picture.planes, (luma, pairs), strict=True):
        memory: Any = target
        rows = np.ndarray(
            (target.height, target.line_size // samples.itemsize), samples.dtype, memory
        )
        rows[: samples.shape[0], : samples.shape[1]] = samples


class _Decoder:
    def __init__(self, hardware: FakeHardware, context: Any) -> None:
        self._hardware, self._context = hardware, context

    @property
    def sample_aspect_ratio(self) -> Fraction | None:
        aspect: Fraction | None = self._context.sample_aspect_ratio
        return aspect

    def decode(self, packet: Any) -> list[av.VideoFrame]:
        return self._hardware.decoded(self._context, packet)
