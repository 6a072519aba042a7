from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vsr.errors import ConfigError
from vsr.models.image.interpolation import imresize
from vsr.models.video.flowprop import FlowProp
from vsr.models.video.propagation import Cleaning
from vsr.training.config import TrainConfig
from vsr.training.data import Batch, FrameStore
from vsr.training.loop import Trainer
from vsr.training.losses import charbonnier, luma_weighted
from vsr.training.sequences import SequenceLoss

MakeStore = Callable[..., FrameStore]
MakeConfig = Callable[..., TrainConfig]

CPU = torch.device("cpu")


def network(scale: int = 2) -> FlowProp:
    torch.manual_seed(2)
    model = FlowProp(
        scale=scale, num_channels=8, num_blocks=1, direction="forward", flow_channels=4
    )
    torch.nn.init.normal_(model.tail.weight, std=0.05)
    return model


def batch(num_frames: int) -> Batch:
    generator = torch.Generator().manual_seed(3)
    return Batch(
        torch.rand(2, num_frames, 3, 16, 16, generator=generator),
        torch.rand(2, num_frames, 3, 32, 32, generator=generator),
    )


def loss_of(config: TrainConfig, model: FlowProp, drawn: Batch) -> torch.Tensor:
    loss = SequenceLoss(config, CPU)
    fresh_B = loss.draw_fresh(2, torch.Generator().manual_seed(1))
    return loss(model, drawn, fresh_B, bf16=False)


def test_all_fresh_is_a_sequence_without_the_carried_frames(make_config: MakeConfig) -> None:
    model, drawn = network(), batch(7)
    late = Batch(drawn.source_BTCHW[:, 4:], drawn.target_BTCHW[:, 4:])
    plain = loss_of(make_config(), model, late)
    fresh = loss_of(make_config(data={"carried_frames": 4, "reset_share": 1.0}), model, drawn)
    assert torch.equal(plain, fresh)


def test_a_carried_state_is_the_films_own(make_config: MakeConfig) -> None:
    model, drawn = network(), batch(7)
    config = make_config(data={"carried_frames": 4, "reset_share": 0.0})
    loss = loss_of(config, model, drawn)
    # The network is causal but for one frame, so that the whole film gives the same pictures.
    state = model.init_state(2, 16, 16)
    whole, _ = model.upscale(drawn.source_BTCHW, state)
    expected = charbonnier(luma_weighted((whole - drawn.target_BTCHW)[:, 4:]))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert model.tail.weight.grad is not None


def test_a_teacher_pulls_towards_its_pictures(make_config: MakeConfig) -> None:
    config = make_config(data={"scale": 4}, distill={"teacher": "bicubic-x4", "weight": 1.0})
    model = network(scale=4)
    drawn = batch(2)
    drawn = Batch(drawn.source_BTCHW, torch.rand(2, 2, 3, 64, 64))
    away = float(loss_of(config, model, drawn).detach())
    torch.nn.init.zeros_(model.tail.weight)
    torch.nn.init.zeros_(model.tail.bias)  # type: ignore[arg-type]
    # Without a residual it is bicubic interpolation, just as its teacher.
    assert float(loss_of(config, model, drawn).detach()) < 0.1 * away
    with pytest.raises(ConfigError, match="bicubic-x4 does not enlarge by 2"):
        SequenceLoss(make_config(distill={"teacher": "bicubic-x4"}), CPU)


@pytest.mark.parametrize(
    "sections",
    [{"data": {"carried_frames": 3}}, {"distill": {"teacher": "bicubic-x2"}}],
    ids=["carried", "distilled"],
)
def test_runs_repeat(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path, sections: dict[str, Any]
) -> None:
    store = make_store()
    curves = []
    for _ in range(2):
        trainer = Trainer(make_config(**sections), store, tmp_path, CPU)
        curves.append([trainer.train_step().loss for _ in range(3)])
    assert curves[0] == curves[1]


def test_cleaned_frames_are_compared_with_the_truth_made_small(make_config: MakeConfig) -> None:
    model, drawn = network(), batch(3)
    plain = loss_of(make_config(), model, drawn)
    assert torch.equal(loss_of(make_config(loss={"cleaning": 0.5}), model, drawn), plain)
    model.cleaning = Cleaning(8, 1)
    small = imresize(drawn.target_BTCHW.flatten(0, 1), scale=0.5)
    off = charbonnier(luma_weighted(drawn.source_BTCHW.flatten(0, 1) - small))
    loss = loss_of(make_config(loss={"cleaning": 0.5}), model, drawn)
    torch.testing.assert_close(loss, plain + 0.5 * off)
