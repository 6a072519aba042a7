"""Weights between a model and its parent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vsr.models import catalog
from vsr.models.blend import load_blend
from vsr.models.card import Card, write_card
from vsr.models.catalog import get_spec
from vsr.models.checkpoint import load_upscaler, save_checkpoint

PAIR = ("srresnet-x4", "srgan-x4")


def install(folder: Path, model_id: str, seed: int) -> None:
    """Random weights, as if they were shipped."""
    spec = get_spec(model_id)
    torch.manual_seed(seed)
    module = spec.build(**spec.params)
    path = folder / f"{model_id}.safetensors"
    digest = save_checkpoint(path, module, spec_id=model_id, params=spec.params)
    card = Card(
        id=model_id, sha256=digest, licence="Apache-2.0", degradation="bi", num_params=1,
        gmac_180p=1,
    )  # fmt: skip
    write_card(path.with_suffix(".toml"), card)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "WEIGHTS_FOLDER", tmp_path)
    for seed, model_id in enumerate(PAIR):
        install(tmp_path, model_id, seed)


def weights(model: object) -> dict[str, torch.Tensor]:
    assert isinstance(model, torch.nn.Module)
    return dict(model.state_dict())


@pytest.mark.usefixtures("pair")
@pytest.mark.parametrize("detail", [0.0, 0.25, 1.0])
def test_weights_are_mixed(detail: float) -> None:
    start, end = (weights(load_upscaler(name)) for name in PAIR)
    mixed = weights(load_blend(*PAIR, detail))
    for name in end:
        expected = (1 - detail) * start[name].double() + detail * end[name].double()
        torch.testing.assert_close(mixed[name].double(), expected, rtol=1e-6, atol=1e-7)
    if detail in (0.0, 1.0):
        assert all(torch.equal(mixed[n], (start, end)[int(detail)][n]) for n in mixed)


def test_every_parent_is_of_the_same_shape() -> None:
    found = 0
    for spec in catalog.list_models():
        if spec.parent is None:
            continue
        parent = get_spec(spec.parent)
        found += 1
        assert spec.invents_detail and not parent.invents_detail
        assert (spec.scale, spec.family, spec.params) == (
            parent.scale,
            parent.family,
            parent.params,
        )
    assert found >= 2
