from __future__ import annotations

import pytest
import torch

from vsr.training import degrade


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_ramp_is_sampled_at_the_middle_of_each_block(scale: int) -> None:
    slope = 2.0
    large = (slope * torch.arange(20.0 * scale)).clamp(max=255).repeat(8 * scale, 1)
    small = degrade.bicubic(large[None], scale)[0]
    assert small.shape == (8, 20)
    expected = slope * (scale * torch.arange(20.0) + (scale - 1) / 2)
    assert torch.equal(small[4, 2:-2], expected[2:-2].round())


def test_results_are_codes() -> None:
    generator = torch.Generator().manual_seed(0)
    # Stripes of full contrast make a cubic overshoot.
    large = torch.where(torch.rand(2, 3, 32, 48, generator=generator) < 0.5, 0.0, 255.0)
    large[..., :16] = 0.0
    large[..., 16:24] = 255.0
    small = degrade.bicubic(large, 4)
    assert small.shape == (2, 3, 8, 12)
    assert torch.equal(small, small.round())
    assert float(small.min()) == 0.0 and float(small.max()) == 255.0


def test_scale_1_changes_nothing() -> None:
    large = torch.arange(256.0).view(1, 16, 16)
    assert torch.equal(degrade.bicubic(large, 1), large)
