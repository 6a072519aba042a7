"""PULSE with tiny random generators: the search, its sphere, and generators of other people."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.errors import CheckpointError, ConfigError
from vsr.models.image.interpolation import imresize
from vsr.models.image.pulse import EPSILON, PULSE, _Sphere, geodesic_spread, rate
from vsr.models.image.stylegan import SmallGenerator, StyleGAN1, load_stylegan1

TINY: dict[str, Any] = {"latent_dim": 16, "mapping_layers": 2, "channels": (16, 16, 16)}


@pytest.fixture(scope="module")
def model() -> PULSE:
    torch.manual_seed(2)
    generator = SmallGenerator(**TINY).eval().requires_grad_(False)
    for layer in generator.to_rgb:
        layer.conv.weight.mul_(0.4)  # type: ignore[operator, union-attr]
    made = PULSE(4, generator=generator, num_steps=60)
    return made.eval().requires_grad_(False)


def a_picture(model: PULSE, seed: int = 9) -> Tensor:
    """Something that the generator makes, (3, 16, 16)."""
    generator = torch.Generator().manual_seed(seed)
    maker = model.generator
    assert isinstance(maker, SmallGenerator)
    z_LD = torch.randn(maker.num_layers, 16, generator=generator)
    noise = [torch.randn(1, 1, px, px, generator=generator) for px in maker.noise_px]
    picture = maker.synthesis(maker.mapping(z_LD)[None], noise)[0]
    return ((picture + 1) / 2).clamp(0, 1)


def test_what_is_found_shrinks_to_the_source(model: PULSE) -> None:
    truth = a_picture(model)
    source = imresize(truth, scale=0.25)
    found = model.search(source)
    assert found.fits
    assert found.picture_3HW.shape == (3, 16, 16)
    shrunk = imresize(found.picture_3HW, scale=0.25)
    assert float((shrunk - source).square().mean()) <= 1.5 * EPSILON


def test_seeds_give_other_pictures_and_equal_ones_equal(model: PULSE) -> None:
    source = imresize(a_picture(model), scale=0.25)
    pictures = [model.search(source, seed).picture_3HW for seed in (0, 1, 2, 0)]
    assert torch.equal(pictures[0], pictures[3])
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert float((pictures[one] - pictures[two]).abs().mean()) > 1e-3


def test_the_contract_of_upscalers_holds_where_nothing_is_learnt(model: PULSE) -> None:
    source = imresize(a_picture(model), scale=0.25)
    with torch.inference_mode():
        result, _ = model.upscale(source[None, None], model.init_state(1, 4, 4, 5))
    assert torch.equal(result[0, 0], model.search(source, 5).picture_3HW)
    assert "as nearly as the paper asks" in model.explain()


def test_other_sizes_are_refused(model: PULSE) -> None:
    with pytest.raises(ConfigError, match="16x16 pixels of 4x4"):
        model.search(torch.zeros(3, 5, 4))


def test_an_impossible_source_is_said_to_be_one(model: PULSE) -> None:
    checks = (torch.arange(4) + torch.arange(4)[:, None]) % 2
    found = model.search(checks.float().expand(3, 4, 4))
    assert not found.fits
    model.upscale(checks.float().expand(1, 1, 3, 4, 4), model.init_state(1, 4, 4))
    assert "NOT" in model.explain()


def test_the_rate_rises_falls_and_drops() -> None:
    assert rate(0, 100) == pytest.approx(0.1)
    assert rate(45, 100) == pytest.approx(1.0)
    assert rate(90, 100) == pytest.approx(0.1)
    assert rate(99, 100) == pytest.approx(0.1 - 0.9 * 0.099)


def test_vectors_stay_on_their_spheres() -> None:
    vectors, maps = torch.randn(1, 5, 16), torch.randn(1, 1, 4, 4)
    lengths = vectors.norm(dim=-1), maps.norm()
    sphere = _Sphere([vectors.requires_grad_(), maps.requires_grad_()])
    before = vectors.detach().clone()
    for _ in range(3):
        sphere.step((vectors.sum(-1) ** 2).sum() + maps.sum())
    assert not torch.allclose(before, vectors)
    assert torch.allclose(vectors.detach().norm(dim=-1), lengths[0], rtol=1e-4)
    assert torch.allclose(maps.detach().norm(), lengths[1], rtol=1e-4)


def test_spread_is_the_mean_squared_angle() -> None:
    one = torch.zeros(1, 2, 8)
    one[0, 0, 0], one[0, 1, 1] = 3.0, 3.0
    # Two pairs of four are at a right angle, and D / 8 is 1.
    assert float(geodesic_spread(one)) == pytest.approx((math.pi / 2) ** 2 / 2, rel=1e-3)
    assert float(geodesic_spread(one[:, :1])) == pytest.approx(0, abs=1e-6)


def test_whitening_is_the_mappings_own(model: PULSE) -> None:
    maker = model.generator
    assert isinstance(maker, SmallGenerator)
    z_BD = torch.randn(20_000, 16, generator=torch.Generator().manual_seed(3))
    before = F.leaky_relu(maker.mapping(z_BD), 5.0)
    white = (before - model.latent_mean) / model.latent_deviation
    assert white.mean(0).abs().max() < 0.05
    assert (white.std(0) - 1).abs().max() < 0.05


def test_a_stylegan_of_two_files_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(4)
    made = StyleGAN1(16, latent_dim=12, mapping_layers=3, base=64, most=16)
    synthesis = made.g_synthesis.state_dict()
    for name in ("8x8", "16x16"):
        synthesis[f"blocks.{name}.conv0_up.intermediate.kernel"] = torch.ones(1, 1, 3, 3)
    for name, tensors in (("m.pt", made.g_mapping.state_dict()), ("s.pt", synthesis)):
        torch.save(tensors, tmp_path / name)
    loaded = load_stylegan1(tmp_path / "m.pt", tmp_path / "s.pt")
    assert (loaded.resolution, loaded.num_layers, loaded.latent_dim) == (16, 6, 12)
    w_BLD = made.mapping(torch.randn(2, 12))[:, None].expand(-1, 6, -1)
    noise = [torch.randn(1, 1, px, px) for px in made.noise_px]
    with torch.no_grad():
        assert torch.equal(loaded.synthesis(w_BLD, noise), made.synthesis(w_BLD, noise))
        assert loaded.synthesis(w_BLD, noise).shape == (2, 3, 16, 16)
    found = PULSE(4, generator=loaded, num_steps=3).search(torch.full((3, 4, 4), 0.5))
    assert found.picture_3HW.shape == (3, 16, 16)
    with pytest.raises(CheckpointError, match="mapping"):
        load_stylegan1(tmp_path / "s.pt", tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_stylegan1(tmp_path / "m.pt", tmp_path / "none.pt")


def test_names_are_those_of_the_public_port() -> None:
    generator = StyleGAN1(8, latent_dim=8, mapping_layers=8, base=32, most=8)
    assert "dense7.weight" in generator.g_mapping.state_dict()
    held = set(generator.g_synthesis.state_dict())
    assert {
        "blocks.4x4.const", "blocks.4x4.bias", "blocks.4x4.conv.weight", "torgb.bias",
        "blocks.4x4.epi1.noise.weight", "blocks.4x4.epi2.style_mod.lin.bias",
        "blocks.8x8.conv0_up.weight", "blocks.8x8.conv1.bias",
    } <= held  # fmt: skip


def test_large_levels_are_doubled_by_the_transposed_kernel() -> None:
    torch.manual_seed(1)
    generator = StyleGAN1(128, latent_dim=8, mapping_layers=1, base=256, most=4)
    block: Any = generator.g_synthesis.blocks["128x128"]
    x = torch.randn(1, 4, 64, 64)
    with torch.no_grad():
        made = block._doubled(x)
        # The kernel turned by 180 degrees, at nearest-neighbour doubling: the same thing.
        weight = block.conv0_up.scaled.flip(-1, -2)
        plain = F.conv2d(F.interpolate(x, scale_factor=2.0), weight, padding=1)
        taps = torch.tensor([0.25, 0.5, 0.25])
        kernel = (taps[:, None] * taps).expand(plain.shape[1], 1, 3, 3)
        smooth = F.conv2d(plain, kernel, padding=1, groups=plain.shape[1])
    assert torch.allclose(made[..., 4:-4, 4:-4], smooth[..., 4:-4, 4:-4], atol=1e-5)
