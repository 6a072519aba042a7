"""ZSSR: learns from one picture what its blur took, and nothing else is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from vsr.models.blur import GaussianBlur, shrink, taps
from vsr.models.image.interpolation import imresize
from vsr.models.image.zssr import ZSSR

BLUR = GaussianBlur(0.8, 0.5, 0.6)


def bricks(height: int = 160, width: int = 192) -> Tensor:
    """A pattern that repeats at several scales, (1, 3, H, W)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    walls = sum(((x // n + y // n) % 2) * 0.2 for n in (5, 11, 23))
    return (0.2 + torch.as_tensor(walls)).expand(1, 3, -1, -1).contiguous()


def enlarged(model: ZSSR, small: Tensor, seed: int = 0) -> Tensor:
    state = model.init_state(1, small.shape[-2], small.shape[-1], seed)
    with torch.inference_mode():
        result, _ = model.upscale(small[None], state)
    return result[0]


def psnr(result: Tensor, truth: Tensor) -> float:
    return -10 * float((result.clamp(0, 1) - truth)[..., 4:-4, 4:-4].square().mean().log10())


def test_it_beats_interpolation_of_an_unknown_blur() -> None:
    truth = bricks()
    small = shrink(truth, taps(BLUR, 2), 2)
    plain = psnr(imresize(small, scale=2), truth)
    blind = ZSSR(2, num_steps=60, num_channels=16, num_layers=4)
    told = ZSSR(2, num_steps=60, num_channels=16, num_layers=4, blur=BLUR)
    assert psnr(enlarged(blind, small), truth) > plain + 0.8
    assert psnr(enlarged(told, small), truth) > plain + 1.0


def test_equal_seeds_give_equal_pictures() -> None:
    small = shrink(bricks(128, 128), taps(BLUR, 2), 2)
    model = ZSSR(2, num_steps=40, num_channels=8, num_layers=3, blur=BLUR)
    torch.manual_seed(1)
    first = enlarged(model, small, seed=7)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(enlarged(model, small, seed=7), first)
    assert torch.equal(torch.get_rng_state(), before), "nobody else's draws change"
    assert not torch.equal(enlarged(model, small, seed=8), first)
    assert not list(model.parameters())


def test_the_result_shrinks_to_the_source() -> None:
    truth = bricks()
    small = shrink(truth, taps(BLUR, 2), 2)
    result = enlarged(ZSSR(2, num_steps=5, num_channels=8, num_layers=3, blur=BLUR), small)
    again = shrink(result, taps(BLUR, 2), 2)
    plain = shrink(imresize(small, scale=2), taps(BLUR, 2), 2)
    assert (again - small).square().mean() < 0.2 * (plain - small).square().mean()
