from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vsr.errors import CheckpointError, ConfigError
from vsr.training.config import LossSection
from vsr.training.features import (
    FeatureNet,
    Vgg19Features,
    _quantise_blocks,
    content,
    degradation_loss,
    load_features,
    texture,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def picture(seed: int = 1, side: int = 32) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_features_halve_level_by_level() -> None:
    features = FeatureNet(num_channels=4)(picture())
    assert [tuple(f.shape) for f in features] == [
        (2, 4, 32, 32),
        (2, 8, 16, 16),
        (2, 16, 8, 8),
        (2, 32, 4, 4),
    ]


@torch.no_grad()
def test_distances_are_zero_for_equal_pictures_and_grow_with_the_error() -> None:
    network = FeatureNet(num_channels=4)
    true = network(picture())
    near, far = (network(picture() + s * torch.randn(2, 3, 32, 32)) for s in (0.02, 0.2))
    for distance in (content, texture):
        assert float(distance(true, true)) == 0
        assert 0 < float(distance(near, true)) < float(distance(far, true))


def test_texture_does_not_ask_where_in_a_patch_something_is() -> None:
    features = [torch.rand(1, 6, 16, 16)]
    moved = [features[0].roll((3, 5), dims=(2, 3))]
    assert float(texture(moved, features)) < 1e-5
    assert float(content(moved, features)) > 0.1


def test_coarse_steps_leave_only_the_mean_of_a_block() -> None:
    flat = _quantise_blocks(picture(), step=100.0)
    assert float(flat.abs().max()) == 0
    fine = _quantise_blocks(picture(side=36), step=1e-4)
    torch.testing.assert_close(fine, picture(side=36), atol=1e-3, rtol=0)


def test_a_feature_network_learns_to_tell_degradations() -> None:
    network = FeatureNet(num_channels=4)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    clean = nn.functional.avg_pool2d(torch.rand(6, 3, 50, 50), 3, 1)
    losses = []
    for _ in range(20):
        loss = degradation_loss(network, clean)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_vgg_takes_the_weights_of_torchvision(tmp_path: Path) -> None:
    network = Vgg19Features()
    names = [name for name, _ in network.named_parameters()]
    # Of the 16 convolutions of torchvision's vgg19 the first 14.
    indices = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30)
    assert names == [f"features.{i}.{part}" for i in indices for part in ("weight", "bias")]
    features = network(picture())
    assert [tuple(f.shape[1:]) for f in features] == [
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (512, 4, 4),
        (512, 2, 2),
    ]
    assert all(bool((f < 0).any()) for f in features)  # taken before the activation
    whole = dict(network.state_dict()) | {"classifier.0.weight": torch.zeros(2, 2)}
    torch.save(whole, tmp_path / "vgg19.pth")
    section = LossSection(
        content=1.0, features="vgg19", feature_weights=str(tmp_path / "vgg19.pth")
    )
    again = load_features(section)
    assert not any(p.requires_grad for p in again.parameters())
    assert all(torch.equal(a, b) for a, b in zip(again(picture()), features, strict=True))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="feature_weights names no file"):
        load_features(LossSection(content=1.0))
    path = tmp_path / "f.safetensors"
    save_file(FeatureNet(num_channels=4).state_dict(), path)
    for content_of_file in (None, b"", b"no tensors"):
        if content_of_file is not None:
            path.write_bytes(content_of_file)
        with pytest.raises(CheckpointError, match="does not hold the weights of own"):
            load_features(LossSection(content=1.0, feature_weights=str(path)))
    with pytest.raises(CheckpointError, match="does not hold the weights of vgg19"):
        load_features(
            LossSection(texture=1.0, features="vgg19", feature_weights=str(tmp_path / "none.pth"))
        )
