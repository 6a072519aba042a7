"""Grain on results: strength by brightness, coarseness, another in each frame, always the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vsr.engine.grain import GrainSheet
from vsr.media.grain import measure_grain

CPU = torch.device("cpu")
EVEN = (0.02,) * 8


def grey(level: float, height: int = 240, width: int = 320) -> Tensor:
    return torch.full((1, 3, height, width), level)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
def test_what_is_laid_is_what_would_be_measured(correlation: float) -> None:
    sheet = GrainSheet(EVEN, correlation, seed=1, device=CPU)
    result = sheet.lay_over(grey(0.5), 0)
    added = (result - grey(0.5))[0, 0]
    assert float(added.std()) == pytest.approx(0.02, rel=0.1)
    assert torch.equal(result[:, 0], result[:, 1])
    across = float((added[:, 1:] * added[:, :-1]).mean() / added.square().mean())
    assert across == pytest.approx(correlation, abs=0.05)
    found = measure_grain([result[0, 0].numpy()])
    assert found is not None and found.codes == pytest.approx(0.02 * 255, rel=0.25)


def test_strength_follows_brightness() -> None:
    sheet = GrainSheet([0.08, 0.07, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01], 0.0, seed=1, device=CPU)
    dark, light = (float((sheet.lay_over(grey(v), 0) - grey(v)).std()) for v in (0.1, 0.9))
    assert dark == pytest.approx(0.077, rel=0.1) and light == pytest.approx(0.013, rel=0.15)
    white = sheet.lay_over(grey(1.3), 0)
    assert bool(white.isfinite().all()) and float(white.mean()) == pytest.approx(1.3, abs=0.01)


def test_frames_differ_and_repeat() -> None:
    one, two = (GrainSheet(EVEN, 0.2, seed=4, device=CPU) for _ in range(2))
    frames = [one.lay_over(grey(0.4), index) - 0.4 for index in range(6)]
    assert torch.equal(frames[5], two.lay_over(grey(0.4), 5) - 0.4)
    for index in range(5):
        a, b = (frame.flatten() for frame in frames[index : index + 2])
        assert abs(float((a * b).mean() / a.square().mean())) < 0.05
    other = GrainSheet(EVEN, 0.2, seed=5, device=CPU).lay_over(grey(0.4), 0) - 0.4
    assert not torch.equal(other, frames[0])
