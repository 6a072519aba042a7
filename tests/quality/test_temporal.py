from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.errors import ShapeError
from vsr.quality.temporal import Flicker, motion


def pan(num_frames: int, step_px: int = 2) -> list[Tensor]:
    """Soft texture under a camera that moves to the right: (3, 64, 80) each, grey."""
    coarse = torch.rand(1, 1, 18, 40, generator=torch.Generator().manual_seed(0))
    wide = F.interpolate(coarse, size=(64, 160), mode="bicubic").clamp(0, 1)[0]
    return [wide[..., step_px * t : step_px * t + 80].expand(3, -1, -1) for t in range(num_frames)]


def flicker(results: list[Tensor], truth: list[Tensor], every: int = 1) -> float:
    metric = Flicker()
    for t, (result, reference) in enumerate(zip(results, truth, strict=True)):
        metric.update(result, reference, is_scored=t % every == 0)
    return metric.compute()


def test_motion_is_found_where_it_can_be() -> None:
    frames = [frame[:1] for frame in pan(2, step_px=3)]
    flow, visible = motion(frames[1], frames[0])
    assert float((flow[0] - 3)[visible[0]].abs().mean()) < 0.2
    assert float(flow[1][visible[0]].abs().mean()) < 0.1
    assert visible[..., :-4].float().mean() > 0.9
    # What came in from the right has no predecessor.
    assert not visible[..., -2:].any()


def test_the_truth_and_a_steady_error_score_nothing() -> None:
    truth = pan(5)
    assert flicker(truth, truth) == 0.0
    darker = [frame - 0.1 for frame in truth]
    assert flicker(darker, truth) == pytest.approx(0.0, abs=1e-3)


def test_an_error_that_moves_with_the_picture_is_steadier_than_one_that_does_not() -> None:
    truth = pan(5)
    noise = 0.05 * torch.randn(1, 64, 160, generator=torch.Generator().manual_seed(1))
    noise = F.avg_pool2d(noise[None], 3, 1, 1)[0]
    moving = [frame + noise[..., 2 * t : 2 * t + 80] for t, frame in enumerate(truth)]
    standing = [frame + noise[..., :80] for frame in truth]
    assert flicker(moving, truth) < 0.35 * flicker(standing, truth)


def test_a_pumping_picture_scores_its_step() -> None:
    truth = pan(6, step_px=0)
    pumping = [frame + 0.02 * (t % 2) for t, frame in enumerate(truth)]
    # 219 of 255 codes carry luma.
    assert flicker(pumping, truth) == pytest.approx(0.02 * 219, rel=1e-3)
    # Pairs are those of a frame and the one before it, also when not all are scored.
    assert flicker(pumping, truth, every=2) == pytest.approx(0.02 * 219, rel=1e-3)


def test_one_frame_has_no_flicker_and_bad_shapes_are_told() -> None:
    frame = pan(1)
    assert math.isnan(flicker(frame, frame))
    with pytest.raises(ShapeError, match="cannot compare"):
        Flicker().update(torch.zeros(3, 16, 16), torch.zeros(3, 16, 18))
    with pytest.raises(ShapeError, match="16x16"):
        Flicker().update(torch.zeros(3, 8, 16), torch.zeros(3, 8, 16))
