from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from vsr.errors import EncodeError
from vsr.media.recompress import Compression, Compressor, recompress


def moving(num_frames: int, height: int, width: int) -> NDArray[np.uint8]:
    """(T, H, W, 3) of soft waves that move a pixel a frame."""
    t, y, x = np.mgrid[0:num_frames, 0:height, 0:width].astype(np.float64)
    waves = [np.sin((x + t) / a) * np.cos(y / b) for a, b in ((3, 5), (4, 3), (7, 6))]
    return np.asarray(np.rint(128 + 90 * np.stack(waves, axis=-1)), dtype=np.uint8)


def psnr_db(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return -10 * math.log10(float(np.square((a.astype(float) - b) / 255).mean()))


@pytest.mark.parametrize(
    ("codec", "fine", "coarse"),
    [("h264", 12, 38), ("hevc", 12, 38), ("mpeg2", 2, 24), ("mpeg4", 2, 24), ("jpeg", 2, 24)],
)
def test_a_worse_quality_looks_worse(
    codec: Compressor, fine: float, coarse: float, capfd: pytest.CaptureFixture[str]
) -> None:
    frames = moving(5, 38, 45)
    good, bad = (
        recompress(frames, Compression(codec=codec, quality=quality)) for quality in (fine, coarse)
    )
    assert good.shape == bad.shape == frames.shape and good.dtype == np.uint8
    # Chroma of half resolution bounds what is possible.
    assert psnr_db(good, frames) > psnr_db(bad, frames) + 3 and psnr_db(good, frames) > 28
    # In order and in place: each frame is nearer to its own source than to the next one's.
    for t in range(4):
        assert psnr_db(good[t], frames[t]) > psnr_db(good[t], frames[t + 1]) + 3
    assert np.array_equal(good, recompress(frames, Compression(codec=codec, quality=fine)))
    assert capfd.readouterr().err == ""


def test_grey_keeps_its_level() -> None:
    for level in (0, 16, 90, 235, 255):
        frames = np.full((2, 32, 32, 3), level, np.uint8)
        for codec in ("h264", "jpeg"):
            out = recompress(frames, Compression(codec=codec, quality=4))
            assert np.abs(out.astype(int) - level).max() <= 2


def test_what_the_codec_refuses_is_told() -> None:
    with pytest.raises(EncodeError, match="cannot be compressed as h264"):
        recompress(moving(1, 32, 32), Compression(codec="h264", quality=20, preset="swift"))
