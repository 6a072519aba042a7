from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vsr.errors import ConfigError
from vsr.training.clips import Clip
from vsr.training.flow_error import flow_error, flow_errors, pairs, warping_error


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three textured pictures of 260x240."""
    rng = np.random.default_rng(3)
    for index in range(3):
        coarse = rng.integers(0, 256, (60, 65, 3)).astype(np.float32)
        picture = np.asarray(cv2.resize(coarse, (260, 240), interpolation=cv2.INTER_CUBIC))
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture.clip(0, 255).astype(np.uint8))
    return tmp_path


class _Constant(nn.Module):
    def forward(self, ref_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
        return torch.zeros_like(ref_BCHW[:, :2])


def test_no_motion_scores_as_no_flow(photos: Path) -> None:
    score = flow_error(_Constant(), photos, 2.0, count=4)
    assert score.network == pytest.approx(score.zero)
    assert 0.1 < score.zero < 4.0


def test_dis_finds_the_motion(photos: Path) -> None:
    """Were the truth mirrored or scaled, a sound estimator would not come near it."""
    score = flow_error(_Constant(), photos, 8.0, count=6)
    assert score.dis < 0.35 * score.zero


def test_pairs_are_the_same_for_everybody(photos: Path) -> None:
    first, second = (list(pairs(photos, 2.0, count=3)) for _ in range(2))
    assert len(first) == 3
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(first[0][1], first[1][1])


def test_a_model_without_flow_is_refused(photos: Path) -> None:
    with pytest.raises(ConfigError, match="no optical flow"):
        flow_errors(["bicubic-x4"], photos, count=1)


class _Known(nn.Module):
    """Motion of one pixel to the right, in the small frames."""

    def forward(self, ref_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0])[None, :, None, None].expand_as(ref_BCHW[:, :2])


@pytest.fixture
def panned(photos: Path, tmp_path: Path) -> Clip:
    """A clip of three frames that moves to the right by 2 px a frame."""
    picture = cv2.imread(str(photos / "0.png"))
    assert picture is not None
    files = tuple(tmp_path / f"pan{index}.png" for index in range(3))
    for index, file in enumerate(files):
        cv2.imwrite(str(file), picture[:, 8 - 2 * index : 248 - 2 * index])
    return Clip("pan", files, is_video=True)


def test_true_motion_predicts_the_next_frame(panned: Clip) -> None:
    right = warping_error(_Known(), panned, scale=2)
    none = warping_error(_Constant(), panned, scale=2)
    assert none.network == pytest.approx(none.zero)
    assert right.network < 0.2 * right.zero
    assert right.dis < 0.5 * right.zero


def test_a_still_has_no_motion_to_score(photos: Path) -> None:
    with pytest.raises(ConfigError, match="still"):
        warping_error(_Constant(), Clip("one", (photos / "0.png",), is_video=False), scale=2)
