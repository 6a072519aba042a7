"""Against the ground truth: every measure of every frame, or a word why not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tests.media.film import BT709, YUV420, YUV420_10
from vsr.errors import ShapeError
from vsr.frame import Frame
from vsr.quality.metrics import ms_ssim
from vsr.quality.reference import GroundTruth
from vsr.quality.views import Viewer

ROWS, COLUMNS = 184, 200


def frame(index: int, noise: float = 0.0, rows: int = ROWS) -> Frame:
    y, x = np.mgrid[0:rows, 0:COLUMNS]
    luma = 126 + 60 * np.sin((x + 2 * index) / 7) * np.cos((y - index) / 5)
    luma = luma + np.random.default_rng(index).normal(0, noise, luma.shape)
    chroma = np.full((rows // 2, COLUMNS // 2), 128, np.uint8)
    codes = np.rint(np.clip(luma, 16, 235)).astype(np.uint8)
    return Frame(planes=(codes, chroma, chroma), layout=YUV420, color=BT709, pts=index)


def luma(shown: Frame) -> np.ndarray:
    return Viewer(BT709).view(shown).luma_HW


def test_every_measure_of_every_frame() -> None:
    truth = GroundTruth((frame(k) for k in range(3)), Viewer(BT709), Viewer(BT709))
    for index in range(3):
        result = frame(index, noise=4.0)
        score = truth.score(result, luma(result))
        a, b = luma(result).astype(np.float64), luma(frame(index)).astype(np.float64)
        a, b = np.clip(a, 0, 1), np.clip(b, 0, 1)
        psnr = peak_signal_noise_ratio(b, a, data_range=1)  # type: ignore[no-untyped-call]
        similar = structural_similarity(  # type: ignore[no-untyped-call]
            b, a, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert score.psnr_db == pytest.approx(psnr, abs=1e-4)
        assert score.ssim == pytest.approx(similar, abs=1e-4)
        one, two = (torch.from_numpy(p).float()[None, None] for p in (a, b))
        assert score.ms_ssim == pytest.approx(float(ms_ssim(one, two)[0]), abs=1e-6)
        assert score.xpsnr_db is not None
        assert 25 < score.xpsnr_db < 60
    truth.vmaf()
    told = truth.unavailable()
    assert {sentence.split(":")[0] for sentence in told} <= {"VMAF", "VMAF-NEG", "LPIPS"}
    assert all("not available, because" in sentence for sentence in told)


def test_what_cannot_be_measured_is_said() -> None:
    small = [frame(k, rows=64) for k in range(2)]
    truth = GroundTruth(iter(small[:1]), Viewer(BT709), Viewer(BT709))
    deep = replace(
        small[0],
        layout=YUV420_10,
        planes=tuple(plane.astype(np.uint16) * 4 for plane in small[0].planes),
    )
    score = truth.score(deep, luma(small[0]))
    assert score.psnr_db == 100
    assert score.ms_ssim is None
    assert score.xpsnr_db is None
    assert truth.score(small[1], luma(small[1])).psnr_db is None
    told = " ".join(truth.unavailable())
    for word in ("MS-SSIM: ", "XPSNR: ", "The rest: ", "176 pixels", "only 1 frames"):
        assert word in told


def test_another_size_is_refused() -> None:
    truth = GroundTruth(iter([frame(0)]), Viewer(BT709), Viewer(BT709))
    with pytest.raises(ShapeError, match="of one size"):
        truth.score(frame(0, rows=64), luma(frame(0, rows=64)))
