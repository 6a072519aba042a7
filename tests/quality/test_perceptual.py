"""LPIPS is taken where the user's network is, and else it is said what is missing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from vsr.quality import perceptual
from vsr.quality.perceptual import Lpips, backbone_path


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where torchvision would keep its networks."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    backbone_path().parent.mkdir()
    return tmp_path


def test_without_the_network_it_is_said_where_to_put_it(hub: Path) -> None:
    with pytest.raises(ValueError, match=r"put alexnet-owt-7be5be79\.pth") as error:
        Lpips()
    assert str(hub / "checkpoints") in str(error.value)
    assert list((hub / "checkpoints").iterdir()) == []


def test_another_network_is_refused() -> None:
    pytest.importorskip("torchvision")
    pytest.importorskip("torchmetrics")
    backbone_path().write_bytes(b"something else")
    with pytest.raises(ValueError, match="sha256 is another"):
        Lpips()


def test_alike_is_zero_and_unlike_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("torchvision").models
    pytest.importorskip("torchmetrics")
    torch.save(models.alexnet(weights=None).state_dict(), backbone_path())
    digest = hashlib.sha256(backbone_path().read_bytes()).hexdigest()
    monkeypatch.setattr(perceptual, "_SHA256_BEGINS", digest[:8])
    meter = Lpips()
    picture = np.random.default_rng(1).random((3, 96, 128)).astype(np.float32)
    assert meter.score(picture, picture) == 0
    assert meter.score(picture, 0.5 * picture) > 0
    with pytest.raises(ValueError, match="64 pixels"):
        meter.score(picture[:, :40], picture[:, :40])
