from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vsr.errors import CheckpointError, ConfigError
from vsr.models.image.classsr import ClassSR
from vsr.models.image.srgan import MSRResNet
from vsr.models.upscaler import Upscaler
from vsr.models.video.flowprop import FlowProp
from vsr.training.config import TrainConfig
from vsr.training.starting import grow, initialise

SMALL: dict[str, Any] = {"scale": 2, "num_channels": 8, "num_blocks": 2, "flow_channels": 4}


def made(seed: int, **params: Any) -> FlowProp:
    torch.manual_seed(seed)
    model = FlowProp(**(SMALL | params)).eval()
    # A network that has learned something: no weight is where it starts.
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return model


def run(model: Upscaler) -> torch.Tensor:
    frames = torch.rand(2, 4, 3, 16, 24, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        result, _ = model.upscale(frames, model.init_state(2, 16, 24))
    return result


@pytest.mark.parametrize("direction", ["forward", "both", "none"])
@pytest.mark.parametrize(
    "larger",
    [
        {"num_channels": 12},
        {"num_blocks": 4},
        {"cleaning_blocks": 1},
        {"num_channels": 16, "num_blocks": 3, "cleaning_blocks": 2, "tail_blocks": 1},
    ],
)
def test_the_larger_network_starts_with_the_smaller_ones_function(
    direction: str, larger: dict[str, Any]
) -> None:
    small = made(1, direction=direction)
    torch.manual_seed(2)
    large = FlowProp(**(SMALL | {"direction": direction} | larger)).eval()
    before = run(large)
    grow(small.state_dict(), large)
    assert (run(small) - before).abs().max() > 0.01
    torch.testing.assert_close(run(large), run(small), atol=1e-5, rtol=1e-5)


def test_all_that_is_new_can_learn() -> None:
    small = made(1, direction="both")
    large = FlowProp(**(SMALL | {"direction": "both", "num_channels": 12, "num_blocks": 3}))
    grow(small.state_dict(), large)
    frames = torch.rand(1, 3, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    steps = torch.optim.SGD(large.parameters(), lr=0.1)
    for _ in range(2):  # what is silent at first hides what feeds it for one step
        steps.zero_grad()
        result, _ = large.upscale(frames, large.init_state(1, 16, 16))
        torch.autograd.backward(result.square().mean())
        steps.step()
    still = [
        name
        for name, weight in large.named_parameters()
        if not name.startswith("flow.") and (weight.grad is None or not weight.grad.any())
    ]
    assert still == []


def test_rounds_offsets_and_more_channels_than_there_is_room_for() -> None:
    with pytest.raises(CheckpointError, match="more than the 8 to grow to"):
        grow(made(1, num_channels=12).state_dict(), FlowProp(**SMALL))
    with pytest.raises(CheckpointError, match="lacks: backward_pass"):
        grow(made(1).state_dict(), FlowProp(**SMALL, direction="forward"))
    with pytest.raises(CheckpointError, match="cannot grow"):
        grow(made(1).state_dict(), FlowProp(**(SMALL | {"flow_channels": 8})))


def test_branches_begin_as_one_network_and_its_narrower_kin(
    make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    torch.manual_seed(3)
    whole, path = MSRResNet(num_channels=8, num_blocks=2), tmp_path / "w.safetensors"
    with torch.no_grad():
        whole.conv_last.weight.normal_()
    save_file({name: tensor.half() for name, tensor in whole.state_dict().items()}, path)
    params: dict[str, Any] = {"branch": "msrresnet", "widths": (3, 5, 8), "num_blocks": 2}
    model = {"id": "a-x4", "family": "classsr", "params": params}
    config = make_config(model=model, init={"branches": str(path)})
    network = ClassSR(**params)
    initialise(network, config)
    patches = torch.rand(2, 3, 32, 32)
    expected = whole(patches)
    torch.testing.assert_close(network.branches[2](patches), expected, atol=2e-2, rtol=1e-2)
    rows = {tuple(row.flatten().tolist()) for row in whole.conv_first.weight.half().float()}
    for branch in network.branches:
        assert isinstance(branch, MSRResNet)
        assert {tuple(row.flatten().tolist()) for row in branch.conv_first.weight} <= rows
    with pytest.raises(ConfigError, match="branches of the kind msrresnet"):
        initialise(ClassSR(), config)
    with pytest.raises(ConfigError, match="family classsr"):
        initialise(whole, config)
