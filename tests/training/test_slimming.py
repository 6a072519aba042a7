"""Pruning of whole channels, and `vsr compress` from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from tests.training.conftest import MakeStore, texture
from vsr.cli.main import run
from vsr.errors import ConfigError
from vsr.models.card import read_card
from vsr.models.checkpoint import load_upscaler, save_checkpoint
from vsr.models.image_catalog import build_network
from vsr.training.slimming import FAMILIES, slim

PARAMS: dict[str, dict[str, Any]] = {
    "edsr": {"scale": 4, "num_channels": 16, "num_blocks": 2},
    "msrresnet": {"scale": 4, "num_channels": 16, "num_blocks": 2},
    "srvgg": {"scale": 2, "num_channels": 16, "num_convs": 3},
}


def test_every_family_has_a_case() -> None:
    assert set(FAMILIES) == set(PARAMS)


@pytest.mark.parametrize("family", FAMILIES)
def test_channels_that_do_nothing_can_go(family: str) -> None:
    torch.manual_seed(2)
    network = build_network(family, **PARAMS[family]).eval().requires_grad_(False)
    # The last eight of each space: what makes them and takes them is next to nothing.
    for name, tensor in network.state_dict().items():
        for axis in range(min(2, tensor.ndim)):
            size = tensor.shape[axis]
            if size % 16 or (axis == 1 and tensor.ndim < 4):
                continue
            is_colours = family == "srvgg" and name.startswith("body.8")
            if axis == 0 and is_colours:
                continue
            several = size // 16
            tensor.movedim(axis, 0)[8 * several :] *= 0.0
    slimmed = build_network(family, **{**PARAMS[family], "num_channels": 8})
    slimmed.load_state_dict(slim(family, network.state_dict(), 16, 8))
    frames = torch.rand(1, 1, 3, 12, 14, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one, two = (m.eval().upscale(frames, ())[0] for m in (network, slimmed))  # type: ignore[operator]
    assert torch.allclose(one, two, atol=1e-5)


def test_what_cannot_be_slimmed() -> None:
    with pytest.raises(ConfigError, match="fsrcnn"):
        slim("fsrcnn", {}, 16, 8)
    with pytest.raises(ConfigError, match="cannot be kept"):
        slim("edsr", {}, 16, 16)


def test_compress_leaves_a_smaller_model_with_a_card(
    make_store: MakeStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(((1, 140, 150), (1, 120, 130)))
    truth = tmp_path / "gt"
    truth.mkdir()
    for number in range(2):
        picture = texture(1, 48, 64, seed=20 + number)[0]
        assert cv2.imwrite(str(truth / f"{number}.png"), picture)
    source = tmp_path / "whole.safetensors"
    torch.manual_seed(0)
    network = build_network("edsr", **PARAMS["edsr"])
    save_checkpoint(source, network, spec_id="edsr-x4", params=PARAMS["edsr"])
    argv = ["compress", str(source), "--gt", str(truth), "--store", str(tmp_path / "store")]
    argv += ["--minutes", "0.01", "--int8", "--out", str(tmp_path / "out"), "--json"]
    assert run(argv) == 0
    document = json.loads(capsys.readouterr().out)
    names = [variant["name"] for variant in document["variants"]]
    assert names[0] == "edsr-x4, float32" and "edsr-x4-slim, not yet trained" in names
    first, last = document["variants"][0], document["variants"][-1]
    assert last["gmac_180p"] <= 0.6 * first["gmac_180p"]
    weights = Path(document["weights"])
    card = read_card(Path(document["card"]))
    assert card.trained_with["psnr_db_before"] == pytest.approx(first["psnr_db"], abs=1e-3)
    assert card.trained_with["size_bytes_after"] == weights.stat().st_size
    model = load_upscaler(weights)
    assert model.upscale(torch.rand(1, 1, 3, 9, 9), ())[0].shape == (1, 1, 3, 36, 36)
    assert not list((tmp_path / "out").glob("*.begun.*"))


def test_compress_only_by_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VSR_DATA", raising=False)  # nothing to train on is part of the test
    truth = tmp_path / "gt"
    truth.mkdir()
    assert cv2.imwrite(str(truth / "a.png"), texture(1, 32, 48)[0])
    source = tmp_path / "whole.safetensors"
    save_checkpoint(
        source, build_network("srvgg", **PARAMS["srvgg"]), spec_id="srvgg-x2",
        params=PARAMS["srvgg"],
    )  # fmt: skip
    argv = ["compress", str(source), "--gt", str(truth), "--less-macs", "0"]
    assert run([*argv, "--out", str(tmp_path / "out")]) == 0
    assert "srvgg-x2-int8.safetensors" in capsys.readouterr().out
    assert run(["compress", str(source), "--gt", str(truth), "--less-macs", "0.5"]) == 2
