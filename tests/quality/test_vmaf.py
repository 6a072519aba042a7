"""VMAF is what libvmaf says, whichever way it is computed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.media.film import BT709, YUV420
from vsr.frame import Frame
from vsr.media.measures import Vmaf, has_libvmaf
from vsr.quality.reference import GroundTruth
from vsr.quality.views import Viewer
from vsr.quality.vmaf import _VmafTorch, open_vmaf

ROWS, COLUMNS, FRAMES = 144, 192, 6
SAID = (
    (55.912989, 55.646998),
    (55.877968, 55.661121),
    (55.613989, 55.397089),
    (55.604117, 55.311006),
    (58.699694, 58.414832),
    (55.750912, 55.471474),
)
"""VMAF and VMAF-NEG of these frames by libvmaf (86da14d) in FFmpeg 9.0.2, the frames as YUV4MPEG2:
ffmpeg -i result.y4m -i truth.y4m -lavfi libvmaf=log_fmt=json:log_path=v.json:model=version=M with
vmaf_v0.6.1 and vmaf_v0.6.1neg for M."""
MOST = 0.05


def truth_codes(index: int) -> NDArray[np.uint8]:
    """A rough board that a camera passes; whole numbers alone, so that it is equal everywhere."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    x = x + index
    triangle = np.abs((3 * x + 2 * y) % 64 - 32) + np.abs((x - 2 * y + 400) % 46 - 23)
    rough = (131 * x + 71 * y + 17 * x * y + x * x * y) % 23 - 11
    codes: NDArray[np.uint8] = (80 + triangle + 12 * ((x // 32 + y // 32) % 2) + rough).astype(
        np.uint8
    )
    return codes


def result_codes(index: int) -> NDArray[np.uint8]:
    """Means of 4x4 pixels, repeated, and a pattern that grows from frame to frame."""
    blocks = truth_codes(index).astype(np.int64).reshape(ROWS // 4, 4, COLUMNS // 4, 4)
    means = ((blocks.sum(axis=(1, 3)) + 8) // 16).repeat(4, 0).repeat(4, 1)
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    pattern = ((7 * x + 13 * y + 29 * index) % 11 - 5) * (index + 1)
    codes: NDArray[np.uint8] = np.clip(means + pattern // 3, 16, 235).astype(np.uint8)
    return codes


def frame(codes: NDArray[np.uint8], index: int) -> Frame:
    gray = np.full((ROWS // 2, COLUMNS // 2), 128, np.uint8)
    return Frame(planes=(codes, gray, gray), layout=YUV420, color=BT709, pts=index)


def pairs() -> list[tuple[Frame, Frame]]:
    return [(frame(result_codes(k), k), frame(truth_codes(k), k)) for k in range(FRAMES)]


def luma(shown: Frame) -> NDArray[np.float32]:
    return Viewer(BT709).view(shown).luma_HW


def test_by_vmaf_torch() -> None:
    pytest.importorskip("vmaf_torch")
    meter = _VmafTorch()
    for result, truth in pairs():
        meter.add(result, truth, (luma(result), luma(truth)))
    scores = meter.finish()
    assert [score for score, _ in scores] == pytest.approx([said for said, _ in SAID], abs=MOST)
    assert "VMAF-NEG" in meter.missing


def test_of_a_long_film_some_frames_are_scored_as_of_a_short_one() -> None:
    pytest.importorskip("vmaf_torch")
    meter = _VmafTorch(every=4)
    for result, truth in pairs():
        meter.add(result, truth, (luma(result), luma(truth)))
    scores = [score for score, _ in meter.finish()]
    assert [score is None for score in scores] == [False, True, True, True, False, True]
    assert scores[0] == pytest.approx(SAID[0][0], abs=MOST)
    assert scores[4] == pytest.approx(SAID[4][0], abs=MOST)
    assert "one frame in 4" in meter.notes[0]
    assert _VmafTorch().notes == ()


@pytest.mark.skipif(not has_libvmaf(), reason="this PyAV has no libvmaf")
def test_by_libvmaf() -> None:
    meter = Vmaf(YUV420, COLUMNS, ROWS)
    for pair in pairs():
        meter.add(*pair)
    for found, said in zip(meter.finish(), SAID, strict=True):
        assert found == pytest.approx(said, abs=MOST)


def test_without_either_it_is_said_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vmaf_torch", None)
    monkeypatch.setattr("vsr.quality.vmaf.has_libvmaf", lambda: False)
    result, truth = pairs()[0]
    with pytest.raises(ValueError, match=r"pip install 'vsr\[metrics\]'"):
        open_vmaf(result, truth)
    known = GroundTruth(iter([truth, truth]), Viewer(BT709), Viewer(BT709))
    for _ in range(2):
        assert known.score(result, luma(result)).psnr_db is not None
    assert known.vmaf() == []
    told = [line for line in known.unavailable() if line.startswith("VMAF")]
    assert len(told) == 1
    assert "VMAF: not available, because neither" in told[0]


def test_a_film_against_its_truth() -> None:
    pytest.importorskip("vmaf_torch")
    truth = GroundTruth((truth for _, truth in pairs()), Viewer(BT709), Viewer(BT709))
    for result, _ in pairs():
        truth.score(result, luma(result))
    found = truth.vmaf()
    assert [score for score, _ in found] == pytest.approx([said for said, _ in SAID], abs=MOST)
    assert ("VMAF-NEG" in " ".join(truth.unavailable())) == (not has_libvmaf())
