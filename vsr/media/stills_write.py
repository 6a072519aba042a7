"""Write pictures: one file, or the frames of a result as a sequence of them.

Sample depth is kept: 16-bit PNG gives 16-bit PNG, 10-bit DPX 10-bit DPX, half OpenEXR half OpenEXR.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import av.error
import numpy as np
from av.video.codeccontext import VideoCodecContext

from vsr.errors import EncodeError, OutputError, UnsupportedVideoError
from vsr.frame import ColorSpec, Frame, Matrix, PlaneLayout, Transfer, VideoInfo
from vsr.media.codecs import pixel_format_name
from vsr.media.encoder import SegmentSummary, sync_file, sync_folder
from vsr.media.formats import pixel_format
from vsr.media.settings import EncoderSettings
from vsr.media.stills import Kind, PictureTarget
from vsr.media.stills_headers import SIDE_DATA, carry_header

_OPTIONS: dict[Kind, dict[str, str]] = {
    "png": {"pred": "mixed"},
    "tiff": {"compression_algo": "deflate"},
    "dpx": {},
    "exr": {"compression": "zip16"},
}
"""All of them lossless."""


def picture_layout(kind: Kind, source: PlaneLayout) -> tuple[PlaneLayout, str]:
    """What a kind of picture keeps of a source's samples, and FFmpeg's format to encode it from.

    Depth stays or grows to the next one the kind has; PNG and TIFF have 8 and 16 bits, DPX 8, 10,
    12 and 16, OpenEXR half and float (half for integers up to 10 bits). Luma and chroma become RGB.
    """
    is_gray, alpha = source.is_gray, source.has_alpha
    if kind == "exr":
        bits = source.bits
        if not source.is_float:
            bits = 16 if bits <= 10 else 32
        layout = PlaneLayout(
            bits=bits, is_float=True, is_rgb=not is_gray or alpha,
            is_gray=is_gray and not alpha, has_alpha=alpha,
        )  # fmt: skip
        name = pixel_format_name(replace(layout, bits=32))
        assert name is not None
        return layout, name
    depth = 16 if source.is_float else source.bits
    steps = (8, 10, 12, 16) if kind == "dpx" else (8, 16)
    bits = next(step for step in steps if step >= depth)
    if kind == "dpx":
        # FFmpeg writes grey of 8 and 16 bits only, alpha beside RGB of 8 and 16 bits only.
        if alpha and bits in (10, 12):
            bits = 16
        is_gray = is_gray and not alpha and bits in (8, 16)
    layout = PlaneLayout(bits=bits, is_gray=is_gray, is_rgb=not is_gray, has_alpha=alpha)
    wide = bits > 8
    if kind == "dpx" and bits in (10, 12):
        return layout, f"gbrp{bits}be"
    order = ("le" if kind == "tiff" else "be") if wide else ""
    if is_gray:
        name = ("ya16" if alpha else "gray16") if wide else ("ya8" if alpha else "gray")
    else:
        name = ("rgba64" if alpha else "rgb48") if wide else ("rgba" if alpha else "rgb24")
    return layout, name + order


def picture_settings(
    kind: Kind,
    *,
    info: VideoInfo,
    color: ColorSpec,
    width: int,
    height: int,
    threads: int,
    sample_aspect_ratio: Fraction | None = None,
) -> EncoderSettings:
    """The encoder settings of a sequence, in the form that a video's have.

    Args:
        kind: of the pictures.
        info: the source.
        color: of the source, complete.
        width: of the result, pixels.
        height: of the result, pixels.
        threads: pictures encoded at once; changes no byte.
        sample_aspect_ratio: of the result; the source's when None.
    """
    layout, name = picture_layout(kind, info.layout)
    options = dict(_OPTIONS[kind])
    if kind == "exr":
        options["format"] = "half" if layout.bits == 16 else "float"
    color = replace(
        color,
        matrix=Matrix.RGB if layout.is_rgb else color.matrix,
        full_range=True,
        transfer=_transfer(kind, color.transfer),
    )
    losses, notes = _compare(info, layout, color)
    return EncoderSettings(
        codec=kind,
        pixel_format=name,
        layout=layout,
        color=color,
        width=width,
        height=height,
        time_base=info.time_base,
        frame_rate=info.frame_rate or Fraction(25),
        sample_aspect_ratio=(
            info.sample_aspect_ratio if sample_aspect_ratio is None else sample_aspect_ratio
        ),
        gop=1,
        threads=threads,
        options=options,
        notes=tuple(notes),
        losses=tuple(losses),
    )


def _transfer(kind: Kind, source: Transfer) -> Transfer:
    """Curve of the codes written: OpenEXR is linear light, and integers made of that are sRGB."""
    if kind == "exr":
        if source in (Transfer.PQ, Transfer.HLG, Transfer.LOG100, Transfer.LOG316):
            raise UnsupportedVideoError(
                f"OpenEXR holds linear light, and vsr does not make that of {source.name}.",
                hint="write 16-bit tiff or png, which keep the codes as they are",
            )
        return Transfer.LINEAR
    return source


def _compare(info: VideoInfo, layout: PlaneLayout, color: ColorSpec) -> tuple[list[str], list[str]]:
    """(losses, notes) between the source and its pictures."""
    losses, notes = [], []
    source = info.layout
    if source.has_alpha and not layout.has_alpha:
        losses.append("alpha channel (the picture is made opaque)")
    if source.is_float and not layout.is_float:
        losses.append(f"float samples, cut to 0..1 in {layout.bits} bits")
    if not (source.is_rgb or source.is_gray):
        beyond = "" if layout.is_float else "; what is beyond black and white is cut"
        notes.append(f"{info.pixel_format} becomes RGB of {layout.bits} bits{beyond}.")
    elif source.bits != layout.bits and not source.is_float:
        notes.append(f"Samples of {source.bits} bits are written with {layout.bits}.")
    return losses, notes


def encode_still(frame: Frame, settings: EncoderSettings) -> bytes:
    """Encode one picture, with the header that its frame carries where the kind is the same.

    Args:
        frame: of exactly the settings' size and layout.
        settings: from `picture_settings`.

    Raises:
        EncodeError: the encoder failed.
    """
    assert frame.layout == settings.layout, f"{frame.layout} is not {settings.layout}"
    assert (frame.width, frame.height) == (settings.width, settings.height)
    kind: Any = settings.codec
    picture = _pack(frame, settings)
    context = av.CodecContext.create(kind, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = settings.width, settings.height
    context.pix_fmt = settings.pixel_format
    context.time_base = Fraction(1, 25)
    context.thread_count = 1
    context.sample_aspect_ratio = settings.sample_aspect_ratio
    context.color_primaries = int(settings.color.primaries)
    context.color_trc = int(settings.color.transfer)
    context.options = dict(settings.options)
    try:
        packets = [*context.encode(picture), *context.encode(None)]
    except (av.error.FFmpegError, ValueError) as error:
        raise EncodeError(f"the {kind} encoder failed at pts {frame.pts} ({error})") from error
    carried = next((d.data for d in frame.side_data if d.kind == SIDE_DATA.get(kind)), None)
    return carry_header(kind, b"".join(bytes(packet) for packet in packets), carried)


def _pack(frame: Frame, settings: EncoderSettings) -> av.VideoFrame:
    """Planes into the encoder's own format, sample by sample: no converter takes part."""
    plan = pixel_format(settings.pixel_format)
    picture = av.VideoFrame(settings.width, settings.height, settings.pixel_format)
    stored = plan.layout.dtype.newbyteorder(">" if plan.is_big_endian else "<")
    memory = []
    for target in picture.planes:
        buffer: Any = target
        rows = np.frombuffer(buffer, np.uint8).reshape(target.height, target.line_size)
        memory.append(np.zeros_like(rows))
    for (plane, first, step), samples in zip(plan.picks, frame.planes, strict=True):
        rows = memory[plane][:, : memory[plane].shape[1] // stored.itemsize * stored.itemsize]
        view = rows.view(stored)
        view[: samples.shape[0], first::step][:, : samples.shape[1]] = samples
    for target, rows in zip(picture.planes, memory, strict=True):
        target.update(rows.tobytes())
    picture.pts = 0
    picture.time_base = Fraction(1, 25)
    picture.color_primaries = int(settings.color.primaries)
    picture.color_trc = int(settings.color.transfer)
    picture.color_range = 2
    return picture


def write_still(path: Path, frame: Frame, settings: EncoderSettings) -> int:
    """Encode one picture into a file, safely on disk; the number of its bytes.

    Raises:
        EncodeError: the encoder failed.
        OutputError: the disk refused.
    """
    data = encode_still(frame, settings)
    try:
        path.write_bytes(data)
        sync_file(path)
    except OSError as error:
        raise OutputError(f"{path.name} cannot be written ({error.strerror})") from error
    return len(data)


class PictureWriter:
    """Write frames into a folder, as `SegmentEncoder` writes them into a segment.

    Leaving the block without an error closes the sequence; an error removes what was written.

    Args:
        folder: made here; what is in it at the end is whole.
        target: what the pictures are called.
        settings: from `picture_settings`.
        first_frame: rank of the first frame in the result.

    Raises:
        EncodeError: the encoder failed.
        OutputError: the disk refused.
    """

    def __init__(
        self,
        folder: Path,
        target: PictureTarget,
        settings: EncoderSettings,
        *,
        first_frame: int = 0,
    ) -> None:
        self._folder = folder
        self._target = target
        self._settings = settings
        self._first_frame = first_frame
        self._num_frames = 0
        self._num_bytes = 0
        self._names: list[str] = []
        self._summary: SegmentSummary | None = None
        self._waiting: deque[Future[int]] = deque()
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder} cannot be created ({error.strerror})") from error
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="vsr-stills")

    def encode(self, frame: Frame) -> None:
        """Write the next frame; some are encoded while this returns."""
        assert self._summary is None, "the sequence is closed"
        name = self._target.name(self._first_frame + self._num_frames, frame.pts)
        path = self._folder / name
        self._names.append(name)
        self._waiting.append(self._pool.submit(write_still, path, frame, self._settings))
        self._num_frames += 1
        if len(self._waiting) > self._settings.threads:
            self._num_bytes += self._waiting.popleft().result()

    def close(self) -> SegmentSummary:
        """Wait until every picture is on disk.

        Raises:
            EncodeError: there is no frame, or one could not be encoded.
            OutputError: the disk refused.
        """
        if self._summary is not None:
            return self._summary
        while self._waiting:
            self._num_bytes += self._waiting.popleft().result()
        self._pool.shutdown()
        if self._num_frames == 0:
            raise EncodeError("a sequence needs at least one frame")
        sync_folder(self._folder)
        self._summary = SegmentSummary(num_frames=self._num_frames, num_bytes=self._num_bytes)
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
            self._pool.shutdown(wait=True, cancel_futures=True)
            for name in self._names:
                (self._folder / name).unlink(missing_ok=True)
