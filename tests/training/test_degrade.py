from __future__ import annotations

import pytest
import torch

from vsr.training import degrade
from vsr.training.degrade_mixed import SHARES, Footage


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


def draws(name: str, count: int, seed: int = 1) -> list[degrade.Recipe]:
    generator = torch.Generator().manual_seed(seed)
    return [degrade.draw_recipe(name, generator) for _ in range(count)]


def clips(batch: int, num_frames: int, side: int) -> torch.Tensor:
    """Soft texture that moves: (B, T, 3, side, side), whole codes."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(batch, 3, side // 4, side // 4, generator=generator)
    still = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
    frames = torch.stack([still.roll(t, dims=-1) for t in range(num_frames)], dim=1)
    return (frames * 255).round().clamp(0, 255)


@pytest.mark.parametrize("name", degrade.DEGRADATIONS)
def test_equal_seeds_degrade_equally(name: str) -> None:
    large = clips(4, 3, 64)
    one, two, other = (degrade.degrade(large, 2, draws(name, 4, seed)) for seed in (1, 1, 7))
    assert one.shape == (4, 3, 3, 32, 32)
    assert torch.equal(one, two)
    assert torch.equal(one, other) == (name in ("bi", "bd", "bd-corner"))
    assert torch.equal(one, one.round()) and one.min() >= 0 and one.max() <= 255


@pytest.mark.parametrize("name", degrade.DEGRADATIONS)
def test_a_clip_frame_by_frame_is_the_clip(name: str) -> None:
    large = clips(1, 4, 64)
    for recipe in draws(name, 6):
        whole = degrade.degrade(large, 4, [recipe])[0]
        assert torch.equal(whole, degrade.degrade_clip(iter(large[0]), 4, recipe))


@pytest.mark.parametrize("name", ["bd", "mixed"])
def test_the_field_of_view_stays(name: str) -> None:
    """Whatever else happens, the small picture is nearest to the unmoved bicubic one."""
    large = clips(1, 2, 96)
    plain = degrade.bicubic(large[0], 4)[..., 3:-3, 3:-3]
    for recipe in draws(name, 12):
        small = degrade.degrade(large, 4, [recipe])[0]
        errors = {
            (dy, dx): float(
                (small.roll((dy, dx), (-2, -1))[..., 3:-3, 3:-3] - plain).square().mean()
            )
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        }
        assert min(errors, key=lambda shift: errors[shift]) == (0, 0)


def test_a_mix_is_mixed_as_its_shares_say() -> None:
    recipes = [recipe for recipe in draws("mixed", 2000) if isinstance(recipe, Footage)]
    assert len(recipes) == 2000
    for kind, share in SHARES.items():
        assert sum(r.kind == kind for r in recipes) / 2000 == pytest.approx(share, abs=0.035)
    light = [recipe for recipe in recipes if recipe.kind == "light"]
    codecs = {recipe.compression.codec for recipe in light if recipe.compression}
    assert codecs == {"h264", "hevc", "mpeg2", "mpeg4", "jpeg"}
    assert {r.kernel for r in light} == {"bicubic", "bilinear", "box", "lanczos3"}


def test_noise_has_the_strength_it_was_given() -> None:
    grey = torch.full((8, 3, 64, 64), 100.0)
    recipe = Footage("light", seed=3, luma_sigma=4.0, chroma_sigma=2.0)
    noise = recipe.spoil(grey) - grey
    luma = (noise * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    assert float(luma.std()) == pytest.approx(4.0, rel=0.05)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.1)
    assert abs(float((luma[0] * luma[1]).mean())) < 0.5  # no frame repeats another's
    shot = Footage("light", seed=3, shot_gain=0.09).spoil(grey) - grey
    assert float(shot.std()) == pytest.approx(3.0, rel=0.05)
