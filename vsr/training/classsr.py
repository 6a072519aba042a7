"""The two stages of training ClassSR (Kong et al., 2021, arXiv 2103.04039, sections 3.3 to 3.5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vsr.models.image.classsr import PATCH_PX, ClassSR
from vsr.models.image.interpolation import imresize

BRANCH_SHARE = 0.75
"""Part of the schedule in which the branches learn; the classifier learns in the rest."""
_PICTURE_WEIGHT, _CLASS_WEIGHT, _AVERAGE_WEIGHT = 1000.0, 0.5, 3.0


def stage_share(network: nn.Module, fraction: float) -> float:
    """How much of the stage that a schedule has reached is done, 0 to 1.

    The classifier learns nothing at the end of a falling rate: each stage has a fall of its own.

    Args:
        network: a ClassSR has two stages, any other one.
        fraction: done part of the whole schedule.
    """
    if not isinstance(network, ClassSR):
        return fraction
    if fraction < BRANCH_SHARE:
        return fraction / BRANCH_SHARE
    return (fraction - BRANCH_SHARE) / (1 - BRANCH_SHARE)


def classsr_loss(
    network: ClassSR, source_BCHW: Tensor, target_BCHW: Tensor, fraction: float
) -> Tensor:
    """The loss of a batch of patches in the stage that a schedule has reached.

    Args:
        network: in training mode.
        source_BCHW: (B, 3, 32, 32) float32 in [0, 1].
        target_BCHW: (B, 3, s*32, s*32).
        fraction: done part of the schedule.
    """
    assert source_BCHW.shape[-2:] == (PATCH_PX, PATCH_PX)
    if fraction < BRANCH_SHARE:
        return branches_loss(network, source_BCHW, target_BCHW)
    return classifier_loss(network, source_BCHW, target_BCHW)


def branches_loss(network: ClassSR, source_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """L1 of each branch on its share of the batch: easy, medium and hard patches.

    How hard a patch is says the PSNR of bicubic interpolation. The paper takes that of a trained
    network and splits the whole training set in advance; order within a batch is nearly the same
    order, and needs no second data set.
    """
    error = (imresize(source_BCHW, scale=network.scale) - target_BCHW).square().mean(dim=(1, 2, 3))
    groups = error.argsort().tensor_split(len(network.branches))
    losses = [
        (branch(source_BCHW[group]).float() - target_BCHW[group]).abs().mean()
        for branch, group in zip(network.branches, groups, strict=True)
        if len(group)
    ]
    return torch.stack(losses).sum()


def classifier_loss(network: ClassSR, source_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Image, class and average loss with frozen branches, equations 3 to 5, weighted as published.

    The result is the sum of the branches' pictures, weighted by the classifier's softmax, and so
    its error teaches the classifier alone.
    """
    with torch.no_grad():
        pictures = torch.stack([branch(source_BCHW).float() for branch in network.branches], dim=1)
    shares = network.classifier(source_BCHW).float().softmax(dim=1)
    picture = (pictures * shares[:, :, None, None, None]).sum(dim=1)
    image = (picture - target_BCHW).abs().mean()
    sure = _CLASS_WEIGHT * class_loss(shares)
    even = _AVERAGE_WEIGHT * average_loss(shares)
    total: Tensor = _PICTURE_WEIGHT * image + sure + even
    return total


def class_loss(shares_NM: Tensor) -> Tensor:
    """Low where each patch has one class for certain: minus the distances of its probabilities."""
    distance = (shares_NM[:, :, None] - shares_NM[:, None, :]).abs().sum(dim=(1, 2)) / 2
    return (shares_NM.shape[1] - 1 - distance).mean()


def average_loss(shares_NM: Tensor) -> Tensor:
    """Low where the classes get equally many patches, so that not all go to the largest branch."""
    count, num_classes = shares_NM.shape
    fair = count / num_classes
    return (shares_NM.sum(dim=0) - fair).abs().sum() / (fair * (num_classes + 1))
