from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vsr.models.video.flowprop import FlowProp
from vsr.training.alignment import draw_film, flow_loss, level_weights, pairs_loss, pyramid_error
from vsr.training.config import TrainConfig
from vsr.training.data import FrameStore, Sampler
from vsr.training.loop import Trainer

MakeStore = Callable[..., FrameStore]
MakeConfig = Callable[..., TrainConfig]

CPU = torch.device("cpu")


def flow_weights(trainer: Trainer) -> torch.Tensor:
    network = trainer.network
    assert isinstance(network, FlowProp) and network.flow is not None
    return torch.cat([p.detach().flatten() for p in network.flow.parameters()])


def test_finer_levels_count_more() -> None:
    assert level_weights(3) == [0.25, 0.5, 1.0]
    truth, seen = torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 4, 4)
    off = torch.zeros(1, 2, 4, 4)
    off[:, 0] = 3.0
    assert float(pyramid_error([off, truth], truth, seen)) == pytest.approx(1.5, abs=0.01)
    assert float(pyramid_error([truth, off], truth, seen)) == pytest.approx(3.0, abs=0.01)


def test_a_frozen_flow_keeps_its_weights(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(optimizer={"flow_frozen": 1.0, "flow_loss_weight": 1.0})
    trainer = Trainer(config, make_store(), tmp_path, CPU)
    before, network = flow_weights(trainer), trainer.network
    assert isinstance(network, FlowProp)
    tail = network.tail.weight.detach().clone()
    for _ in range(6):
        trainer.train_step()
    assert torch.equal(before, flow_weights(trainer))
    assert all(p.grad is None for n, p in network.named_parameters() if n.startswith("flow."))
    assert not torch.equal(tail, network.tail.weight)


def test_the_flow_learns_after_its_part_of_the_schedule(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    trainer = Trainer(make_config(optimizer={"flow_frozen": 0.5}), make_store(), tmp_path, CPU)
    before = flow_weights(trainer)
    for _ in range(3):
        trainer.train_step()
    assert torch.equal(before, flow_weights(trainer))
    trainer.train_step()
    assert not torch.equal(before, flow_weights(trainer))


def test_pairs_keep_the_flow_true_within_a_recurrent_network(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Trained on pictures and pairs alike, the flow's error falls as the pairs' weight says."""
    store = make_store()

    def error_after(weight: float) -> float:
        config = make_config(
            optimizer={
                "lr": 1e-2,
                "flow_lr_ratio": 1.0,
                "flow_frozen": 0.0,
                "flow_loss_weight": weight,
            },
            schedule={"steps": 30},
        )
        trainer = Trainer(config, store, tmp_path, CPU)
        for _ in range(30):
            trainer.train_step()
        network = trainer.network
        assert isinstance(network, FlowProp) and network.flow is not None
        sampler = Sampler(store, scale=2, crop_px=16, seed=99)
        with torch.no_grad():
            return float(pairs_loss(network.flow, sampler.draw_flow(16)))

    assert error_after(1.0) < 0.9 * error_after(0.0)


def test_without_video_pairs_are_looked_at_from_both_sides(make_store: MakeStore) -> None:
    network = FlowProp(scale=2, num_channels=8, num_blocks=1, flow_channels=4, flow_levels=2).flow
    assert network is not None
    for shapes in (((1, 96, 96),), ((1, 96, 96), (6, 64, 72))):
        store = make_store(shapes, folder=f"store{len(shapes)}")
        sampler = Sampler(store, scale=2, crop_px=16, seed=1)
        made, film = sampler.draw_flow(4), draw_film(sampler, 4)
        assert (film is None) == (len(shapes) == 1)
        assert film is None or film.source_BTCHW.shape == (2, 2, 3, 16, 16)
        assert torch.isfinite(flow_loss(network, made, film, bf16=False))
