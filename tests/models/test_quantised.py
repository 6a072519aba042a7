"""Eight bits: stored weights come back near, and convolutions compute near, what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vsr.models.checkpoint import load_upscaler, read_checkpoint, save_checkpoint
from vsr.models.image.srvgg import SRVGGNetCompact
from vsr.models.quantised import SCALE, is_supported, pack, to_int8, unpack

PARAMS: dict[str, Any] = {"scale": 2, "num_channels": 16, "num_convs": 3}


@pytest.fixture
def network() -> SRVGGNetCompact:
    torch.manual_seed(3)
    return SRVGGNetCompact(**PARAMS).eval().requires_grad_(False)


def test_packed_weights_come_back(network: SRVGGNetCompact) -> None:
    tensors = network.state_dict()
    packed = pack(tensors)
    assert packed["body.0.weight"].dtype == torch.int8
    assert packed["body.0.bias"].dtype == torch.float32
    again = unpack(packed)
    assert set(again) == set(tensors)
    for name, tensor in tensors.items():
        most = tensor.abs().flatten(1).amax(1) if tensor.ndim > 1 else tensor.abs()
        error = (again[name] - tensor).abs().flatten(1).amax(1) if tensor.ndim > 1 else 0
        assert bool((error <= most / 127 * 0.52 + 1e-6).all()) if tensor.ndim > 1 else True
    with pytest.raises(ValueError, match=SCALE):
        pack({"a" + SCALE: torch.zeros(1)})


def test_a_file_of_eight_bits_is_smaller_and_loads(
    network: SRVGGNetCompact, tmp_path: Path
) -> None:
    sizes = []
    for int8 in (False, True):
        path = tmp_path / f"{int8}.safetensors"
        save_checkpoint(path, network, spec_id="srvgg-x2", params=PARAMS, int8=int8)
        sizes.append(path.stat().st_size)
    assert sizes[1] < 0.75 * sizes[0]
    checkpoint = read_checkpoint(path)
    assert not any(name.endswith(SCALE) for name in checkpoint.tensors)
    frames = torch.rand(1, 1, 3, 20, 24, generator=torch.Generator().manual_seed(1))
    result, _ = load_upscaler(path).upscale(frames, ())
    assert (result - network.upscale(frames, ())[0]).abs().mean() < 0.01


@pytest.mark.skipif(not is_supported(), reason="torch has no eight-bit convolutions here")
def test_convolutions_of_eight_bits_are_near(network: SRVGGNetCompact) -> None:
    pictures = [
        torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(n)) for n in (1, 2)
    ]

    def run(model: nn.Module, picture: torch.Tensor) -> object:
        return model(picture)

    eight = to_int8(network, run, pictures)
    assert not any(type(module) is nn.Conv2d for module in eight.modules())
    assert any(type(module) is nn.Conv2d for module in network.modules())
    with torch.no_grad():
        error = (eight(pictures[0]) - network(pictures[0])).abs()
    assert 0 < error.mean() < 0.02
