from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vsr.models.video.flowprop import FlowProp
from vsr.training.config import TrainConfig
from vsr.training.data import FrameStore
from vsr.training.loop import Trainer
from vsr.training.networks import build
from vsr.training.throughput import matmul_rate, step_flops

MakeStore = Callable[..., FrameStore]
MakeConfig = Callable[..., TrainConfig]
CPU = torch.device("cpu")

STILL = {
    "model": {"id": "e", "family": "edsr", "params": {"num_channels": 8, "num_blocks": 1}},
    "data": {"num_frames": [1]},
}
FLOW = {"model": {"id": "f", "family": "flow", "params": {"num_channels": 4}}}
UNKNOWN = {"model": {"id": "g", "family": "features", "params": {}}}


@pytest.mark.parametrize("sections", [{}, STILL, FLOW], ids=["", "still", "flow"])
def test_a_step_is_counted_as_torch_counts_it(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path, sections: dict[str, Any]
) -> None:
    config = make_config(**sections, optimizer={"flow_frozen": 0.0})
    trainer = Trainer(config, make_store(), tmp_path, CPU)
    drawn = trainer.task.draw(2, with_pairs=False)
    with FlopCounterMode(display=False) as counter:
        trainer.task.loss(drawn, 0.0)
    forward = counter.get_total_flops()
    counts = step_flops(trainer.network, config)
    assert counts[min(counts)] == 3 * forward
    assert next(trainer.network.parameters()).device == CPU


@pytest.mark.parametrize("params", [{}, {"direction": "both", "num_rounds": 2}])
def test_long_sequences_are_counted_by_short_ones(
    make_config: MakeConfig, params: dict[str, Any]
) -> None:
    model = {"params": {**make_config().model.params, **params}}
    config = make_config(model=model, data={"num_frames": [7], "carried_frames": 5})
    network = build(config)
    assert isinstance(network, FlowProp)

    def forward(length: int, context: int) -> float:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            state = network.init_state(1, 16, 16)
            network.upscale(torch.rand(1, length, 3, 16, 16), state, context)
        return float(counter.get_total_flops())

    # Carried frames have no backward pass.
    assert step_flops(network, config)[7] == 2 * (3 * forward(7, 0) + forward(5 + 2, 2))


def test_other_ways_of_training_are_not_counted(make_config: MakeConfig) -> None:
    config = make_config(**UNKNOWN)
    assert step_flops(build(config), config) == {2: 0.0, 3: 0.0}


def test_a_run_tells_what_it_reaches(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    for graph in (False, True):
        config = make_config(schedule={"steps": 4, "graph": graph})
        trainer = Trainer(config, make_store(folder=f"store{graph}"), tmp_path, CPU)
        seen = [trainer.train_step() for _ in range(4)]
        counts = step_flops(trainer.network, config)
        flops = 2 * counts[2] + 2 * counts[3]
        assert trainer.tflops == pytest.approx(flops / trainer.elapsed_s / 1e12)
        assert all(progress.tflops > 0 for progress in seen)
        assert trainer.matmul_tflops > trainer.tflops


def test_a_matmul_has_a_rate() -> None:
    rate = matmul_rate(CPU, torch.float32)
    assert 1e8 < rate < 1e15
    assert matmul_rate(CPU, torch.float32) == rate
