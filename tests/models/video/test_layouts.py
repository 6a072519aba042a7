"""Public files of the BasicVSR family: both layouts, their boxes and prefixes, and what is refused.

The names, shapes and numbers of parameters are those of the published files.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.video.public import Family, entries, in_mmagic_names, random_weights
from vsr.errors import CheckpointError
from vsr.models.catalog import list_models
from vsr.models.checkpoint import (
    card_of_file,
    load_upscaler,
    read_checkpoint,
    resolve_spec,
    save_checkpoint,
)
from vsr.models.cost import count_params
from vsr.models.video.layouts import SPECS, recognise

FAMILIES: tuple[Family, ...] = ("basicvsr", "basicvsrpp", "realbasicvsr")
# Counted by hand from the published files' shapes.
NUM_PARAMS = {"basicvsr": 6_291_311, "basicvsrpp": 7_322_927}


def tiny(family: Family = "basicvsr") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same random weights in both layouts."""
    found = entries(family, 4, 1, 4)
    weights = random_weights(found)
    return weights, in_mmagic_names(found, weights)


def save(path: Path, document: Any) -> Path:
    torch.save(document, path)
    return path


def enlarge(path: Path) -> Tensor:
    model = load_upscaler(path)
    frames = torch.rand(1, 3, 3, 12, 9, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.upscale(frames, model.init_state(1, 12, 9))[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("is_mmagic", [False, True])
def test_published_sizes_fit_strictly(family: Family, is_mmagic: bool) -> None:
    found = entries(family)
    tensors = {mmagic if is_mmagic else basicsr: shape for basicsr, mmagic, shape in found}
    recognised = recognise(
        {name: torch.empty(shape, device="meta") for name, shape in tensors.items()}
    )
    assert recognised is not None
    spec, ours = recognised
    assert spec == SPECS[family]
    with torch.device("meta"):
        network = spec.build(**spec.params)
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.items()} == wanted
    assert count_params(network) == NUM_PARAMS.get(family, count_params(network))


@pytest.mark.parametrize("family", FAMILIES)
def test_both_layouts_give_equal_pictures(tmp_path: Path, family: Family) -> None:
    basicsr, mmagic = tiny(family)
    assert set(basicsr) != set(mmagic)
    one = enlarge(save(tmp_path / "a.pth", {"params": basicsr}))
    two = enlarge(save(tmp_path / "b.pth", {"state_dict": mmagic}))
    assert torch.equal(one, two)
    others = {name: -value for name, value in basicsr.items()}
    assert not torch.equal(one, enlarge(save(tmp_path / "c.pth", others)))


def _prefixed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


def _other(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value + 1 for name, value in weights.items()}


BOXES: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "bare": lambda weights: weights,
    "params_ema before params": lambda weights: {"params": _other(weights), "params_ema": weights},
    "wrapped": lambda weights: {"params": _prefixed(weights, "module.")},
    "generator": lambda weights: {
        "meta": {"epoch": 1},
        "state_dict": {
            **_prefixed(weights, "generator."),
            "step_counter": torch.tensor(3),
            "discriminator.conv.weight": torch.ones(1),
            "perceptual_loss.vgg.mean": torch.ones(1),
        },
    },
    "averaged generator": lambda weights: {
        "state_dict": {
            **_prefixed(_other(weights), "generator."),
            **_prefixed(weights, "generator_ema."),
        }
    },
    "averaged and wrapped": lambda weights: {
        "state_dict": {
            **_prefixed(_other(weights), "generator."),
            **_prefixed(weights, "generator_ema.module."),
            "generator_ema.steps": torch.tensor(3),
        }
    },
    "half": lambda weights: {name: value.half() for name, value in weights.items()},
}


@pytest.mark.parametrize("box", BOXES)
def test_boxes_and_prefixes(tmp_path: Path, box: str) -> None:
    _, mmagic = tiny()
    plain = enlarge(save(tmp_path / "plain.pth", mmagic))
    boxed = enlarge(save(tmp_path / "boxed.pth", BOXES[box](mmagic)))
    assert (boxed - plain).abs().max() < (0.02 if box == "half" else 1e-7)


@pytest.mark.parametrize("suffix", ["pth", "pt", "ckpt"])
def test_spec_of_a_file(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"x.{suffix}", tiny()[0])
    spec = resolve_spec(str(path))
    assert (spec.id, spec.scale, spec.kind, spec.causal) == ("basicvsr-x4", 4, "video", False)
    assert spec.params == {"num_channels": 4, "num_blocks": 1}
    assert spec.context > 0 and spec.warmup > 0


def test_card_claims_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pth", tiny()[0])
    card = card_of_file(path)
    assert card is not None
    assert (card.licence, card.degradation) == ("NOASSERTION", "unknown")
    assert card.data == () and card.scores == {}
    assert card.sha256 == read_checkpoint(path).sha256
    module = load_upscaler(path)
    assert isinstance(module, nn.Module) and card.num_params == count_params(module)
    assert card.gmac_180p > 30, "the flow network alone takes 18 for each direction"


def test_public_networks_are_not_listed() -> None:
    assert not {spec.id for spec in SPECS.values()} & {spec.id for spec in list_models()}


def test_our_own_file_of_a_public_network(tmp_path: Path) -> None:
    public = save(tmp_path / "x.pth", tiny()[0])
    module = load_upscaler(public)
    assert isinstance(module, nn.Module)
    spec = resolve_spec(public)
    ours = tmp_path / "x.safetensors"
    save_checkpoint(ours, module, spec_id=spec.id, params=spec.params)
    assert resolve_spec(ours) == spec
    assert (enlarge(ours) - enlarge(public)).abs().max() < 0.02


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda weights: weights.pop("conv_hr.bias"), "lack"),
        (lambda weights: weights.update({"conv_hx.bias": torch.ones(1)}), "unexpected"),
        (lambda weights: weights.update({"fusion.bias": torch.ones(5)}), "wrongly shaped"),
        (lambda weights: weights.pop("spynet.basic_module.5.basic_module.8.bias"), "lack"),
        (lambda weights: weights.update({"upconv1.bias": torch.tensor([torch.nan])}), "finite"),
        (
            lambda weights: weights.update({"upsample1.upsample_conv.bias": torch.ones(16)}),
            "two names",
        ),
        (lambda weights: weights.update({"edvr.conv_first.bias": torch.ones(4)}), "IconVSR"),
        (lambda weights: [weights.pop(f"fusion.{end}") for end in ("weight", "bias")], "not known"),
        (lambda weights: weights.clear(), "no weights by name"),
    ],
)
def test_refused(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], sentence: str
) -> None:
    weights, _ = tiny()
    change(weights)
    with pytest.raises(CheckpointError, match=sentence):
        load_upscaler(save(tmp_path / "x.pth", {"params": weights}))


def test_same_size_network_is_refused(tmp_path: Path) -> None:
    weights, _ = tiny("basicvsrpp")
    weights["feat_extract.0.weight"] = torch.ones(4, 3, 3, 3)
    with pytest.raises(CheckpointError, match="keep their size"):
        load_upscaler(save(tmp_path / "x.pth", weights))


class _Trap:
    """What pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("sprung"),)


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "x.pth", {"params": tiny()[0], "meta": _Trap()})
    with pytest.raises(CheckpointError, match="more than plain weights"):
        load_upscaler(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"<html>Not found</html>", pickle.dumps(3, protocol=2)])
def test_not_weights(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_upscaler(path)


def test_truncated(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pth", tiny()[0])
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="truncated"):
        load_upscaler(path)
