"""A film to measure with: textured, moving, cut once, the same on every machine."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vsr.frame import ColorSpec, Frame, Matrix, PlaneLayout, Primaries, Transfer, VideoInfo
from vsr.media.encoder import SegmentEncoder
from vsr.media.settings import resolve_settings

RATE = Fraction(25)
_MARGIN_PX = 64
_CODES = (16.0, 235.0)
"""Black and white of 8-bit limited range."""


def write_bench_clip(path: Path, width: int, height: int, num_frames: int) -> None:
    """Render and encode a clip as H.264 4:2:0 in Matroska.

    A photograph-like texture (noise whose power falls with the square of frequency) drifts by a
    fraction of a pixel a frame, a square moves against it, and at half time another texture is cut
    to.

    Args:
        path: to write.
        width: pixels, even.
        height: pixels, even.
        num_frames: at least 1.

    Raises:
        EncodeError, OutputError: it cannot be encoded or written.
    """
    layout = PlaneLayout(bits=8, log2_chroma_w=1, log2_chroma_h=1)
    color = ColorSpec(
        primaries=Primaries.BT709, transfer=Transfer.BT709, matrix=Matrix.BT709, full_range=False
    )
    info = VideoInfo(
        stream_index=0,
        codec="h264",
        width=width,
        height=height,
        pixel_format="yuv420p",
        layout=layout,
        color=color,
        time_base=1 / RATE,
        frame_rate=RATE,
        num_frames=num_frames,
        start_pts=0,
        duration_s=float(num_frames / RATE),
    )
    settings = resolve_settings(
        codec="h264",
        crf=18,
        encoder_preset="veryfast",
        profile=None,
        info=info,
        color=color,
        width=width,
        height=height,
        threads=2,
        container="mkv",
    )
    cut = (num_frames + 1) // 2
    textures = [_texture(seed, width, height) for seed in (1, 2)]
    chroma = tuple(
        np.full(layout.plane_size(plane, width, height), code, np.uint8)
        for plane, code in ((1, 118), (2, 138))
    )
    with SegmentEncoder(path, settings) as encoder:
        for number in range(num_frames):
            luma = _picture(textures[number >= cut], number, width, height)
            encoder.encode(
                Frame(planes=(luma, *chroma), layout=layout, color=color, pts=number, duration=1)
            )


def _texture(seed: int, width: int, height: int) -> NDArray[np.float32]:
    """Noise with the spectrum of natural pictures, codes 16 to 235, larger than a picture."""
    rows, columns = height + _MARGIN_PX, width + _MARGIN_PX
    noise = np.random.default_rng(seed).standard_normal((rows, columns))
    across = np.fft.rfftfreq(columns)
    down = np.fft.fftfreq(rows)[:, None]
    falling = 1.0 / np.maximum(np.hypot(across, down), 1.0 / max(rows, columns))
    shaped = np.fft.irfft2(np.fft.rfft2(noise) * falling, s=(rows, columns))
    low, high = np.percentile(shaped, (1, 99))
    scaled = np.clip((shaped - low) / (high - low), 0, 1)
    return np.asarray(_CODES[0] + scaled * (_CODES[1] - _CODES[0]), np.float32)


def _picture(
    texture: NDArray[np.float32], number: int, width: int, height: int
) -> NDArray[np.uint8]:
    """Luma of one frame: (height, width)."""
    drift = 0.37 * number % (_MARGIN_PX - 2)
    matrix = np.array([[1, 0, drift], [0, 1, 0.5 * drift]], np.float32)
    luma = cv2.warpAffine(
        texture, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    side = max(2, height // 6)
    left = (3 * number) % max(1, width - side)
    top = height // 3
    luma[top : top + side, left : left + side] = texture[:side, :side]
    return np.asarray(np.rint(luma), np.uint8)
