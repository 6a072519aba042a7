"""Discriminators, their losses, and their place in the loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vsr.models.image.per_frame import PerFrame
from vsr.training.adversarial import Adversary, fooling_loss, telling_loss
from vsr.training.config import AdversarialSection, TrainConfig
from vsr.training.data import FrameStore
from vsr.training.discriminators import UNetDiscriminator, VggDiscriminator
from vsr.training.loop import Trainer, train
from vsr.training.stills import Objective

MakeStore = Callable[..., FrameStore]
MakeConfig = Callable[..., TrainConfig]

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_losses_by_hand() -> None:
    made, true = torch.tensor([[0.5], [-1.5]]), torch.tensor([[2.0], [1.0]])
    vanilla = (softplus(0.5) + softplus(-1.5)) / 2, (softplus(-2.0) + softplus(-1.0)) / 2
    assert float(telling_loss("vanilla", made, true)) == pytest.approx(sum(vanilla) / 2)
    assert float(fooling_loss("vanilla", made, true)) == pytest.approx(
        (softplus(-0.5) + softplus(1.5)) / 2
    )
    assert float(telling_loss("hinge", made, true)) == pytest.approx((0.75 + 0.0) / 2)
    assert float(fooling_loss("hinge", made, true)) == pytest.approx(0.5)
    # Made against the mean of true, 1.5, and true against the mean of made, -0.5.
    told = (softplus(-2.5) + softplus(-1.5)) / 2 + (softplus(-1.0) + softplus(-3.0)) / 2
    fooled = (softplus(2.5) + softplus(1.5)) / 2 + (softplus(1.0) + softplus(3.0)) / 2
    assert float(telling_loss("relativistic", made, true)) == pytest.approx(told / 2)
    assert float(fooling_loss("relativistic", made, true)) == pytest.approx(fooled / 2)


def test_discriminators_judge_pictures_and_pixels() -> None:
    pictures = torch.rand(2, 3, 64, 48)
    assert VggDiscriminator(4)(pictures).shape == (2, 1)
    unet = UNetDiscriminator(4)
    assert unet(pictures).shape == (2, 1, 64, 48)
    # Spectral normalisation: the largest singular value of every kernel is about one.
    for _ in range(30):
        unet(pictures)
    unet.eval()
    kernels = [module.weight for module in [*unet.down, *unet.up]]
    for kernel in kernels:
        assert isinstance(kernel, Tensor)
        assert float(torch.linalg.matrix_norm(kernel.flatten(1), 2)) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("kind", ["vanilla", "relativistic", "hinge"])
@pytest.mark.parametrize("discriminator", ["vgg", "unet"])
def test_a_discriminator_learns_and_a_generator_can_fool_it(kind: str, discriminator: str) -> None:
    section = AdversarialSection.model_validate(
        {"weight": 1.0, "kind": kind, "discriminator": discriminator, "num_channels": 4, "lr": 5e-3}
    )
    adversary = Adversary(section, CPU)
    true = nn.functional.avg_pool2d(torch.rand(4, 3, 34, 34), 3, 1)
    made = torch.nn.Parameter(torch.rand(4, 3, 32, 32))
    told = [adversary.learn(made, true) for _ in range(15)]
    assert told[-1] < 0.9 * told[0]
    before = [parameter.detach().clone() for parameter in adversary.network.parameters()]
    loss = adversary.judge(made, true)
    torch.autograd.backward(loss)
    assert made.grad is not None and float(made.grad.abs().max()) > 0
    assert all(p.grad is None or p.requires_grad for p in adversary.network.parameters())
    assert all(
        torch.equal(a, b) for a, b in zip(before, adversary.network.parameters(), strict=True)
    )


def gan(make_config: MakeConfig, **sections: object) -> TrainConfig:
    return make_config(
        model={
            "id": "tiny-gan",
            "family": "msrresnet",
            "params": {"num_channels": 4, "num_blocks": 1},
        },
        data={"scale": 2, "crop_px": 16, "num_frames": [1], "batch": 2},
        adversarial={"weight": 0.1, "num_channels": 4},
        **sections,
    )


def test_both_players_learn_in_one_step(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    trainer = Trainer(gan(make_config), make_store(), tmp_path, CPU)
    assert isinstance(trainer.objective, Objective)
    adversary = trainer.objective.adversary
    assert adversary is not None
    before = [p.detach().clone() for p in adversary.network.parameters()]
    trainer.train_step()
    after = list(adversary.network.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    own = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert own.isdisjoint({id(p) for p in after})


def test_a_resumed_run_goes_on_with_its_discriminator(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    store, config = make_store(), gan(make_config, schedule={"steps": 4})
    whole = train(config, store, tmp_path / "whole", device=CPU)
    first = Trainer(config, store, tmp_path / "parts", CPU)
    for _ in range(2):
        first.train_step()
    first.save()
    parts = train(config, store, tmp_path / "parts", device=CPU, resume=True)
    pairs = zip(whole.state_dict().values(), parts.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


class _Given(PerFrame):
    """Makes one picture, whatever it is given."""

    halo_px = 2

    def __init__(self, made_BCHW: Tensor) -> None:
        super().__init__(scale=4)
        self.made_BCHW = made_BCHW

    def forward(self, small_BCHW: Tensor) -> Tensor:
        return self.made_BCHW


def test_what_shrinks_away_may_be_made_up(make_config: MakeConfig) -> None:
    network = {"id": "edsr-x4", "family": "edsr", "params": {}}
    losses = {"pixel_weight": 0.0, "consistency": 2.0}
    objective = Objective(make_config(model=network, loss=losses), CPU)
    target = torch.full((1, 3, 32, 32), 0.5)
    small = torch.full((1, 3, 8, 8), 0.5)
    checks = 0.1 * (torch.arange(32) % 2 * 2.0 - 1).expand(1, 3, 32, 32)
    inner = float(objective(_Given(target + checks), small, target, 0.0))
    brighter = float(objective(_Given(target + 0.1), small, target, 0.0))
    assert inner < 0.02  # stripes of one pixel are gone when made small, but for the border
    assert brighter == pytest.approx(0.2, abs=1e-3)
