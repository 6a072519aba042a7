from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vsr.models.image.classsr import PATCH_PX, ClassSR, _cut
from vsr.training.classsr import (
    BRANCH_SHARE,
    average_loss,
    branches_loss,
    class_loss,
    classifier_loss,
)
from vsr.training.config import TrainConfig
from vsr.training.data import FrameStore
from vsr.training.loop import Trainer

MakeStore = Callable[..., FrameStore]
MakeConfig = Callable[..., TrainConfig]

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def small() -> ClassSR:
    return ClassSR(scale=2, widths=(3, 4, 5))


def test_losses_of_the_classifier_by_hand() -> None:
    certain = torch.eye(3)
    even = torch.full((3, 3), 1 / 3)
    # Distances between the classes' probabilities: two of 1 for a certain patch, none for even.
    assert float(class_loss(certain)) == pytest.approx(0.0)
    assert float(class_loss(even)) == pytest.approx(2.0)
    assert float(average_loss(certain)) == pytest.approx(0.0)
    all_hard = torch.tensor([[0.0, 0.0, 1.0]]).repeat(6, 1)
    # |0 - 2| + |0 - 2| + |6 - 2| over 2 * 4.
    assert float(average_loss(all_hard)) == pytest.approx(1.0)


def test_each_branch_learns_from_its_third(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small()
    strength = torch.tensor([0.05, 0.4, 0.2, 0.01, 0.3, 0.1])
    source = 0.5 + 0.0 * torch.rand(6, 3, PATCH_PX, PATCH_PX)
    target = 0.5 + strength[:, None, None, None] * torch.randn(6, 3, 2 * PATCH_PX, 2 * PATCH_PX)
    source += strength[:, None, None, None]  # a mark by which to know a patch again
    target += strength[:, None, None, None]
    seen: list[list[float]] = []
    for branch in network.branches:
        branch.register_forward_pre_hook(
            lambda _module, inputs: seen.append(inputs[0][:, 0, 0, 0].sub(0.5).tolist())
        )
    loss = branches_loss(network, source, target)
    torch.autograd.backward(loss)
    expected = [[0.01, 0.05], [0.1, 0.2], [0.3, 0.4]]
    assert [sorted(group) for group in seen] == [pytest.approx(group) for group in expected]
    assert all(p.grad is None for p in network.classifier.parameters())


def test_the_classifier_learns_alone() -> None:
    network = small()
    source, target = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 64, 64)
    torch.autograd.backward(classifier_loss(network, source, target))
    assert all(p.grad is not None for p in network.classifier.parameters())
    assert all(p.grad is None for p in network.branches.parameters())


def test_a_run_trains_the_branches_and_then_the_classifier(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(
        model={"id": "tiny-classsr", "family": "classsr", "params": {"widths": [3, 4, 5]}},
        data={"scale": 2, "crop_px": 32, "num_frames": [1], "batch": 3},
        schedule={"steps": 8},
        optimizer={"lr": 1e-2},
    )
    trainer = Trainer(config, make_store(((1, 96, 96),)), tmp_path, CPU)
    network = trainer.network
    assert isinstance(network, ClassSR)

    def state(part: str) -> list[Tensor]:
        return [p.detach().clone() for p in network.get_submodule(part).parameters()]

    def changed(one: list[Tensor], other: list[Tensor]) -> bool:
        return any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))

    classifier, branches = state("classifier"), state("branches")
    while trainer.fraction < BRANCH_SHARE:
        trainer.train_step()
    assert not changed(classifier, state("classifier"))
    assert changed(branches, state("branches"))
    branches = state("branches")
    rates = []
    while trainer.fraction < 1:
        rates.append(trainer.train_step().lr)
    # The second stage begins at the full rate again.
    assert rates[0] == pytest.approx(1e-2, rel=1e-3) and rates[-1] < 0.6 * rates[0]
    assert changed(classifier, state("classifier"))
    assert not changed(branches, state("branches"))


@torch.no_grad()
def test_patches_are_joined_without_a_seam() -> None:
    network = small().eval()
    picture = torch.rand(2, 3, 75, 90)
    patches, grid = _cut(picture)
    assert grid == (3, 4) and len(patches) == 24
    # Patches that say the same where they overlap give that picture, everywhere.
    same = patches.repeat_interleave(2, 2).repeat_interleave(2, 3)
    joined = network._join(same, grid, picture)
    expected = picture.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(joined, expected, atol=1e-6, rtol=0)
    # Two neighbours that differ by one meet in a ramp and not in a step.
    flat = torch.zeros(2, 3, 64, 64)
    flat[1] = 1.0
    row = network._join(flat, (1, 2), torch.zeros(1, 3, 32, 60))[0, 0, 32]
    assert float(row.diff().max()) < 0.15 and float(row.diff().min()) >= 0
    assert float(row[0]) == 0 and float(row[-1]) == 1


@torch.no_grad()
def test_each_class_goes_through_its_branch_in_one_call() -> None:
    network = small().eval()
    calls: list[tuple[int, int]] = []
    for number, branch in enumerate(network.branches):
        branch.register_forward_hook(
            lambda _module, inputs, _result, number=number: calls.append((number, len(inputs[0])))
        )
    classes = torch.tensor([2, 0, 0, 2, 1, 0])
    patches = torch.rand(6, 3, 32, 32)
    result = network._enlarge(patches, classes)
    assert calls == [(0, 3), (1, 1), (2, 2)]
    calls.clear()
    for patch, number, got in zip(patches, classes.tolist(), result, strict=True):
        expected = network.branches[number](patch[None])[0]
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_routing_tells_shares_and_what_was_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small().eval()
    classes = torch.tensor([0, 0, 1, 2])
    monkeypatch.setattr(ClassSR, "classify", lambda *_: classes)
    routing = network.routing(torch.rand(1, 3, 60, 60))
    assert routing.shares == (0.5, 0.25, 0.25)
    *costs, classifying = network.patch_macs
    # 5x5 head, 1x1 down to 12, four 3x3 of 12, 1x1 up, and 81 taps to three colours.
    for width, cost in zip((3, 4, 5), costs, strict=True):
        per_pixel = 75 * width + 12 * width + 4 * 9 * 144 + 12 * width + 81 * 3 * width
        assert cost == 32 * 32 * per_pixel
    assert classifying == 64 * (48 * 128 + 3 * 128 * 128 + 128 * 32) + 32 * 3
    spent = classifying + costs[0] / 2 + costs[1] / 4 + costs[2] / 4
    assert routing.macs_saved == pytest.approx(1 - spent / costs[2])
