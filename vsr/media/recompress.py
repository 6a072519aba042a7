"""Short clips through a lossy codec and back, in memory: what compression does to a picture.

Pictures are raw samples, so neither a container nor a file takes part. RGB and planes are
converted by swscale, in BT.601 (JPEG: full range), which is also how it is undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from vsr.errors import EncodeError
from vsr.media.opening import AV_ERRORS

Compressor = Literal["h264", "hevc", "mpeg2", "mpeg4", "jpeg"]

_NAMES: dict[Compressor, tuple[str, str]] = {
    "h264": ("libx264", "h264"),
    "hevc": ("libx265", "hevc"),
    "mpeg2": ("mpeg2video", "mpeg2video"),
    "mpeg4": ("mpeg4", "mpeg4"),
    "jpeg": ("mjpeg", "mjpeg"),
}
"""Encoder and decoder by FFmpeg's names."""
_BLOCK_PX = 16
"""Sides are padded to multiples of it by repeating the edge."""
_MIN_PX = 64
"""Smallest side. x265 takes 32, but writes beyond its memory at widths below 64."""
# x264 decides by floating-point sums that turn out otherwise from run to run unless told to be
# independent of the processor. x265 would start threads of its own and talk on stderr, and with
# its usual coding units writes small pictures otherwise from run to run.
_PARAMS = {
    "h264": ("x264-params", "cpu-independent=1"),
    "hevc": ("x265-params", "log-level=none:pools=none:frame-threads=1:ctu=16"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """How a clip is compressed."""

    codec: Compressor
    quality: float
    """crf of h264 and hevc, 0 to 51; quantiser of the others, 1 to 31. Higher is worse."""
    preset: str = "veryfast"
    """Of h264 and hevc."""


def recompress(frames_THW3: NDArray[np.uint8], how: Compression) -> NDArray[np.uint8]:
    """Encode and decode a clip.

    Args:
        frames_THW3: uint8 RGB, any size.
        how: codec and quality.

    Returns:
        As many pictures of the same size; equal arguments give equal pictures.

    Raises:
        EncodeError: FFmpeg lacks the codec, or it refuses the quality or the pictures.
    """
    height, width = frames_THW3.shape[1:3]
    sides = [max(_MIN_PX, side + -side % _BLOCK_PX) for side in (height, width)]
    padding = ((0, 0), (0, sides[0] - height), (0, sides[1] - width), (0, 0))
    padded = np.ascontiguousarray(np.pad(frames_THW3, padding, mode="edge"))
    try:
        pictures = _through(padded, how)
    except AV_ERRORS as error:
        raise EncodeError(f"a clip cannot be compressed as {how.codec} ({error})") from error
    if len(pictures) != len(frames_THW3):
        raise EncodeError(f"{how.codec} gave {len(pictures)} pictures of {len(frames_THW3)}")
    return np.stack(pictures)[:, :height, :width]


def _through(frames_THW3: NDArray[np.uint8], how: Compression) -> list[NDArray[np.uint8]]:
    encoder, decoder = _encoder(how, *frames_THW3.shape[1:3]), _decoder(how)
    color_range = ColorRange.JPEG if how.codec == "jpeg" else ColorRange.MPEG
    convert = VideoReformatter()
    packets = []
    for number, pixels in enumerate(frames_THW3):
        frame = convert.reformat(
            av.VideoFrame.from_ndarray(pixels, format="rgb24"),
            format=encoder.pix_fmt,
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=color_range,
            threads=1,
        )
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    pictures = []
    for packet in (*packets, None):
        for decoded in decoder.decode(packet):
            rgb = convert.reformat(
                decoded,
                format="rgb24",
                src_colorspace=Colorspace.ITU601,
                src_color_range=color_range,
                threads=1,
            )
            pictures.append(cast("NDArray[np.uint8]", rgb.to_ndarray()))
    return pictures


def _encoder(how: Compression, height: int, width: int) -> VideoCodecContext:
    context = av.CodecContext.create(_NAMES[how.codec][0], "w")
    assert isinstance(context, VideoCodecContext)
    context.height, context.width = height, width
    context.pix_fmt = "yuvj420p" if how.codec == "jpeg" else "yuv420p"
    context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
    context.thread_count = 1
    if how.codec in _PARAMS:
        name, params = _PARAMS[how.codec]
        context.options = {"crf": f"{how.quality:g}", "preset": how.preset, name: params}
    else:
        # One quantiser throughout, whatever rate comes of it.
        context.qmin = context.qmax = round(how.quality)
        context.bit_rate = 10**8
    return context


def _decoder(how: Compression) -> VideoCodecContext:
    context = av.CodecContext.create(_NAMES[how.codec][1], "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    return context
