from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

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
    counted = step_flops(trainer.network, config, 2)
    assert counted == 3 * forward
    assert next(trainer.network.parameters()).device == CPU


def test_carried_frames_cost_no_backward_pass(make_config: MakeConfig) -> None:
    plain, carried = make_config(), make_config(data={"carried_frames": 4})
    network = build(plain)
    short, long = step_flops(network, plain, 2), step_flops(network, carried, 2)
    # Four frames and two to look ahead at, forward only, beside two there and back.
    assert 1.5 * short < long < 2.5 * short
    assert step_flops(build(make_config(**UNKNOWN)), make_config(**UNKNOWN), 1) == 0.0


def test_a_run_tells_what_it_reaches(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    for graph in (False, True):
        config = make_config(schedule={"steps": 4, "graph": graph})
        trainer = Trainer(config, make_store(folder=f"store{graph}"), tmp_path, CPU)
        seen = [trainer.train_step() for _ in range(4)]
        flops = 2 * step_flops(trainer.network, config, 2) + 2 * step_flops(
            trainer.network, config, 3
        )
        assert trainer.tflops == pytest.approx(flops / trainer.elapsed_s / 1e12)
        assert all(progress.tflops > 0 for progress in seen)
        assert trainer.matmul_tflops > trainer.tflops


def test_a_matmul_has_a_rate() -> None:
    rate = matmul_rate(CPU, torch.float32)
    assert 1e8 < rate < 1e15
    assert matmul_rate(CPU, torch.float32) == rate
