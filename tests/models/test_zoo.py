"""spandrel's networks under our contract, against a small module that stands in for spandrel."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.models.image.test_layouts import edsr
from vsr.errors import CheckpointError
from vsr.models import zoo
from vsr.models.checkpoint import card_of_file, load_upscaler, resolve_spec

FAKE = """
import enum
import torch

class UnsupportedModelError(Exception):
    pass

class Tiling(enum.Enum):
    SUPPORTED = 1
    INTERNAL = 3

class Needs:
    minimum = 0
    multiple_of = 8
    square = False

class Architecture:
    id = "Fake"
    name = "Fake network"

class Net(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.only = torch.nn.Conv2d(channels, 4 * channels, 3, padding=1)

    def forward(self, x):
        assert x.shape[-1] % 8 == 0 and x.shape[-2] % 8 == 0
        return torch.nn.functional.pixel_shuffle(self.only(x), 2)

class Descriptor:
    architecture, size_requirements, tiling = Architecture, Needs, Tiling.SUPPORTED
    scale, supports_bfloat16 = 2, True

    def __init__(self, tensors):
        self.input_channels = self.output_channels = tensors["only.weight"].shape[1]
        self.model = Net(self.input_channels)
        self.model.load_state_dict(tensors)
        self.purpose = "Restoration" if self.input_channels == 2 else "SR"

    @torch.inference_mode()
    def __call__(self, image):
        height, width = image.shape[-2:]
        right, below = -width % 8, -height % 8
        padded = torch.nn.functional.pad(image, (0, right, 0, below), mode="reflect")
        return self.model(padded).clamp_(0, 1)[..., : 2 * height, : 2 * width]

class ModelLoader:
    def load_from_file(self, path):
        raise RuntimeError("files are read by vsr alone")

    def load_from_state_dict(self, tensors):
        if "only.weight" not in tensors:
            raise UnsupportedModelError
        return Descriptor(tensors)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "spandrel.py").write_text(FAKE, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.syspath_prepend(folder)
    # So that it is forgotten again afterwards.
    monkeypatch.setitem(sys.modules, "spandrel", import_module("spandrel"))


def weights(path: Path, channels: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    tensors = {
        "only.weight": 0.1 * torch.randn(4 * channels, channels, 3, 3),
        "only.bias": torch.full((4 * channels,), 0.3),
    }
    torch.save({"params_ema": tensors}, path)
    return tensors


@pytest.mark.usefixtures("fake")
def test_the_network_is_run(tmp_path: Path) -> None:
    tensors = weights(tmp_path / "net.pth")
    spec = resolve_spec(tmp_path / "net.pth")
    assert (spec.id, spec.scale, spec.kind, spec.min_size) == ("fake-x2", 2, "image", 8)
    model = load_upscaler(tmp_path / "net.pth")
    frames = torch.rand(1, 2, 3, 11, 13)
    result, state = model.upscale(frames, model.init_state(1, 11, 13))
    padded = F.pad(frames[0], (0, 3, 0, 5), mode="reflect")
    plain = F.conv2d(padded, tensors["only.weight"], tensors["only.bias"], padding=1)
    expected = F.pixel_shuffle(plain, 2).clamp(0, 1)[..., :22, :26]
    assert state == ()
    torch.testing.assert_close(result[0], expected, rtol=1e-4, atol=1e-5)
    card = card_of_file(tmp_path / "net.pth")
    assert card is not None and card.licence == "NOASSERTION"
    assert card.num_params == 12 * 3 * 9 + 12
    assert card.gmac_180p == pytest.approx(320 * 180 * 12 * 27 / 1e9, abs=0.051)


@pytest.mark.usefixtures("fake")
def test_grey_networks_work_on_luma(tmp_path: Path) -> None:
    weights(tmp_path / "net.pth", channels=1)
    model = load_upscaler(tmp_path / "net.pth")
    assert isinstance(model, zoo.Zoo) and model.colors == "y"
    assert model.upscale(torch.rand(1, 1, 3, 8, 16), ())[0].shape == (1, 1, 3, 16, 32)


@pytest.mark.usefixtures("fake")
def test_what_does_not_enlarge_is_refused(tmp_path: Path) -> None:
    weights(tmp_path / "net.pth", channels=2)
    with pytest.raises(CheckpointError, match="does not enlarge"):
        load_upscaler(tmp_path / "net.pth")
    torch.save({"other.weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not known here"):
        load_upscaler(tmp_path / "other.pth")
    torch.save({"only.weight": torch.ones(4, 1, 3, 3)}, tmp_path / "half.pth")
    with pytest.raises(CheckpointError, match="could not be made a network"):
        load_upscaler(tmp_path / "half.pth")


def test_without_spandrel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    weights(tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"pip install 'vsr\[zoo\]'"):
        load_upscaler(tmp_path / "net.pth")


@pytest.mark.usefixtures("fake")
def test_names_that_another_network_has_too(tmp_path: Path) -> None:
    """They are like those of a network known here, and their shapes are not."""
    tensors = weights(tmp_path / "net.pth") | edsr("basicsr", 2)[0]
    tensors["body.0.extra.weight"] = torch.ones(3)
    torch.save({"params": tensors}, tmp_path / "both.pth")
    with pytest.raises(CheckpointError, match="could not be made a network by spandrel"):
        load_upscaler(tmp_path / "both.pth")
    del tensors["body.0.extra.weight"], tensors["only.weight"], tensors["only.bias"]
    torch.save({"params": tensors}, tmp_path / "ours.pth")
    assert resolve_spec(tmp_path / "ours.pth").family == "edsr"
