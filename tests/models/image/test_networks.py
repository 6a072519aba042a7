"""The per-frame networks: sizes as published, and where they start from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vsr.models.cost import count_params
from vsr.models.image.edsr import EDSR
from vsr.models.image.espcn import ESPCN
from vsr.models.image.fsrcnn import FSRCNN
from vsr.models.image.interpolation import imresize
from vsr.models.image.lapsrn import LapSRN
from vsr.models.image.per_frame import PerFrame, luma
from vsr.models.image.srcnn import SRCNN


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def smooth(height: int = 20, width: int = 24) -> torch.Tensor:
    """(1, 3, H, W) in [0.1, 0.9] without fine detail."""
    coarse = torch.rand(1, 3, height // 4, width // 4, generator=torch.Generator().manual_seed(1))
    return imresize(coarse, size=(height, width)).clamp(0.1, 0.9)


@pytest.mark.parametrize(
    ("network", "count"),
    [
        # Weights and biases, from the layers that the papers list.
        (SRCNN(), 81 * 64 + 64 * 32 * 25 + 32 * 25 + 64 + 32 + 1),
        (SRCNN(kernel_sizes=(9, 1, 5)), 81 * 64 + 64 * 32 + 32 * 25 + 64 + 32 + 1),
        # 12464 weights (table 2 of the paper for 56-12-4), biases and slopes.
        (FSRCNN(), 12464 + (56 + 12 + 4 * 12 + 56 + 1) + (56 + 12 + 4 * 12 + 56)),
        (ESPCN(scale=3), 25 * 64 + 9 * 64 * 32 + 9 * 32 * 9 + 64 + 32 + 9),
        (EDSR(), 1_517_571),
        (EDSR(scale=2), 1_369_859),
        (EDSR(num_channels=256, num_blocks=32, residual_scale=0.1), 43_089_923),
        (LapSRN(bias=False), 9 * 64 + 2 * (10 * 9 * 64 * 64 + 16 * 64 * 64 + 16 + 9 * 64)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, PerFrame) else "",
)
def test_size_is_the_published_one(network: PerFrame, count: int) -> None:
    assert count_params(network) == count


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("make", [SRCNN, ESPCN, FSRCNN, EDSR, LapSRN])
@torch.no_grad()
def test_training_starts_near_interpolation(make: Callable[..., Any], scale: int) -> None:
    if make is LapSRN and scale == 3:
        with pytest.raises(ValueError, match="3 is not a power of 2"):
            make(scale=scale)
        return
    picture = smooth()
    result = make(scale=scale).eval().enlarge(picture)
    expected = imresize(picture, scale=scale)
    inside = slice(4 * scale, -4 * scale)
    error = (result - expected)[..., inside, inside].abs()
    assert error.mean() < 0.04 and error.max() < 0.25


def test_luma_is_that_of_matlab() -> None:
    colors = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0.2, 0.5, 0.9]]).T[:, None]
    expected = torch.tensor([235 / 255, 16 / 255, 81.481 / 255, 115.842 / 255])
    torch.testing.assert_close(luma(colors)[0, 0], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_network_on_luma_leaves_chroma_to_interpolation() -> None:
    network: Any = SRCNN(scale=2).eval()
    torch.nn.init.normal_(network.conv3.weight, std=0.05)
    picture = torch.rand(1, 3, 12, 14, generator=torch.Generator().manual_seed(2))
    result, plain = network.enlarge(picture), imresize(picture, scale=2)
    torch.testing.assert_close(luma(result), network(luma(picture)), atol=1e-5, rtol=0)
    for one, other in ((0, 1), (1, 2)):  # differences of channels are chroma alone
        expected = plain[:, one] - plain[:, other]
        torch.testing.assert_close(result[:, one] - result[:, other], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_pyramid_ends_in_the_picture() -> None:
    network = LapSRN(scale=4, num_channels=4, num_convs=1).eval()
    y = torch.rand(2, 1, 6, 7)
    levels = network.levels(y)
    assert [tuple(level.shape) for level in levels] == [(2, 1, 12, 14), (2, 1, 24, 28)]
    assert torch.equal(levels[-1], network(y))


def test_odd_scales_are_refused() -> None:
    with pytest.raises(ValueError, match="6 is neither a power of 2 nor 3"):
        EDSR(scale=6, num_blocks=1)
