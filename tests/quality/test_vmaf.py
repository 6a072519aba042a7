"""VMAF is what libvmaf says, whichever way it is computed."""

from __future__ import annotations

import sys
from collections.abc import Callable

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
Scores = tuple[tuple[float, float, float], ...]
BOARD: Scores = (
    (55.898328, 55.912989, 55.646998),
    (55.892214, 55.877968, 55.661121),
    (55.604268, 55.613989, 55.397089),
    (55.605411, 55.604117, 55.311006),
    (58.711886, 58.699694, 58.414832),
    (55.750602, 55.750912, 55.471474),
)
CARD: Scores = (
    (92.884941, 92.873567, 92.030281),
    (94.921244, 94.880278, 94.129060),
    (95.626357, 95.647969, 94.429067),
    (95.521478, 95.514244, 93.990368),
    (95.471530, 95.513482, 93.589122),
    (93.926163, 93.931009, 91.685527),
)
SHADES: Scores = (
    (81.635203, 81.717397, 80.959198),
    (84.444307, 84.422593, 83.751705),
    (83.933737, 83.847960, 83.175403),
    (83.660899, 83.607881, 82.797346),
    (84.621613, 84.686477, 83.989736),
    (84.947096, 84.922271, 84.239747),
)
"""VMAF in floating point, VMAF and VMAF-NEG of these frames by libvmaf in FFmpeg 9.0.2, the frames
as YUV4MPEG2: ffmpeg -i result.y4m -i truth.y4m -lavfi libvmaf=log_fmt=json:log_path=v.json:model=
version=M with vmaf_float_v0.6.1, vmaf_v0.6.1 and vmaf_v0.6.1neg for M."""
MOST = 0.002
MOST_OF_WHOLE = 0.1
"""Between features in floating point and those in whole numbers, of these films; see
`_VmafTorch`."""

Codes = NDArray[np.uint8]


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


def board(index: int) -> tuple[Codes, Codes]:
    return result_codes(index), truth_codes(index)


def card(index: int) -> tuple[Codes, Codes]:
    """A plain card on a plain ground, and the same with noise."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    inside = (abs(x - 60 - 2 * index) < 30) & (abs(y - 40 - index) < 20)
    truth = np.where(inside, 170, 90)
    rough = (131 * x + 71 * y + 17 * x * y + x * x * y + 29 * index * (x + 3 * y)) % 23 - 11
    return (truth + rough // 2).astype(np.uint8), truth.astype(np.uint8)


def shades(index: int) -> tuple[Codes, Codes]:
    """Soft slopes with small boxes, and means of 2x2 pixels: most of it is nearly flat."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    x = x + 2 * index
    boxes = np.where((x // 7 + y // 11) % 9 == 0, 40, 0)
    truth = np.clip(60 + x // 3 + y // 4 + 6 * ((x // 24 + y // 24) % 2) + boxes, 16, 235)
    blocks = truth.reshape(ROWS // 2, 2, COLUMNS // 2, 2).sum(axis=(1, 3))
    means = ((blocks + 2) // 4).repeat(2, 0).repeat(2, 1)
    return means.astype(np.uint8), truth.astype(np.uint8)


FILMS = [(board, BOARD), (card, CARD), (shades, SHADES)]
Film = Callable[[int], tuple[Codes, Codes]]


def frame(codes: Codes, index: int) -> Frame:
    gray = np.full((ROWS // 2, COLUMNS // 2), 128, np.uint8)
    return Frame(planes=(codes, gray, gray), layout=YUV420, color=BT709, pts=index)


def pairs(film: Film = board) -> list[tuple[Frame, Frame]]:
    shown = (film(index) for index in range(FRAMES))
    return [(frame(result, k), frame(truth, k)) for k, (result, truth) in enumerate(shown)]


def luma(shown: Frame) -> NDArray[np.float32]:
    return Viewer(BT709).view(shown).luma_HW


@pytest.mark.parametrize(("film", "said"), FILMS)
def test_by_vmaf_torch(film: Film, said: Scores) -> None:
    pytest.importorskip("vmaf_torch")
    meter = _VmafTorch()
    for result, truth in pairs(film):
        meter.add(result, truth, (luma(result), luma(truth)))
    scores = [score for score, _ in meter.finish()]
    assert scores == pytest.approx([real for real, _, _ in said], abs=MOST)
    most = 0.05 if film is board else MOST_OF_WHOLE
    assert scores == pytest.approx([whole for _, whole, _ in said], abs=most)
    assert "VMAF-NEG" in meter.missing


def test_of_a_long_film_some_frames_are_scored_as_of_a_short_one() -> None:
    pytest.importorskip("vmaf_torch")
    meter = _VmafTorch(every=4)
    for result, truth in pairs():
        meter.add(result, truth, (luma(result), luma(truth)))
    scores = [score for score, _ in meter.finish()]
    assert [score is None for score in scores] == [False, True, True, True, False, True]
    assert scores[0] == pytest.approx(BOARD[0][0], abs=MOST)
    assert scores[4] == pytest.approx(BOARD[4][0], abs=MOST)
    assert "one frame in 4" in meter.notes[0]
    assert _VmafTorch().notes == ()


@pytest.mark.skipif(not has_libvmaf(), reason="this PyAV has no libvmaf")
@pytest.mark.parametrize(("film", "said"), FILMS)
def test_by_libvmaf(film: Film, said: Scores) -> None:
    meter = Vmaf(YUV420, COLUMNS, ROWS)
    for pair in pairs(film):
        meter.add(*pair)
    for found, (_, *whole) in zip(meter.finish(), said, strict=True):
        # Another build of libvmaf may round in another way.
        assert found == pytest.approx(tuple(whole), abs=0.05)


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
    # By libvmaf, where there is one, in whole numbers.
    said = [score[has_libvmaf()] for score in BOARD]
    assert [score for score, _ in found] == pytest.approx(said, abs=0.05)
    assert ("VMAF-NEG" in " ".join(truth.unavailable())) == (not has_libvmaf())
