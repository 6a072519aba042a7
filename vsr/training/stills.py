"""What a per-frame network is trained to lower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vsr.models.image.classsr import ClassSR
from vsr.models.image.interpolation import imresize
from vsr.models.image.per_frame import PerFrame, luma
from vsr.training.adversarial import Adversary
from vsr.training.classsr import classsr_loss
from vsr.training.config import TrainConfig
from vsr.training.features import content, load_features, texture
from vsr.training.losses import PIXEL_LOSSES, absolute, frequency, total_variation


class Objective:
    """The sum of the losses that a configuration weighs.

    Args:
        config: says the weights.
        device: where feature network and discriminator run.

    Raises:
        ConfigError: features are to be compared, and no weights for them are named.
        CheckpointError: those weights cannot be used.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.section = section = config.loss
        self._pixel = PIXEL_LOSSES[section.pixel]
        self.features: nn.Module | None = None
        if section.content or section.texture:
            self.features = load_features(section).to(device)
        self.adversary: Adversary | None = None
        if config.adversarial is not None:
            self.adversary = Adversary(config.adversarial, device)
        self._pair: tuple[Tensor, Tensor] | None = None

    def __call__(
        self, network: PerFrame, source_BCHW: Tensor, target_BCHW: Tensor, fraction: float
    ) -> Tensor:
        """Run a network and compare every picture it makes with the truth of that size.

        Args:
            network: in training mode.
            source_BCHW: (B, 3, H, W) float32 in [0, 1].
            target_BCHW: (B, 3, s*H, s*W) float32 in [0, 1].
            fraction: done part of the schedule.
        """
        if isinstance(network, ClassSR):
            return classsr_loss(network, source_BCHW, target_BCHW, fraction)
        if network.colors == "y":
            source_BCHW, target_BCHW = luma(source_BCHW), luma(target_BCHW)
        pictures = [picture.float() for picture in network.levels(source_BCHW)]
        with torch.autocast(source_BCHW.device.type, enabled=False):
            loss = source_BCHW.new_zeros(())
            for picture in pictures:
                loss = loss + self._compare(picture, target_BCHW)
            if self.section.consistency:
                small = imresize(pictures[-1], size=(source_BCHW.shape[-2], source_BCHW.shape[-1]))
                loss = loss + self.section.consistency * absolute(small - source_BCHW)
        return loss + self._look(pictures[-1], target_BCHW)

    def after_step(self) -> None:
        """Let the discriminator learn from the pictures that were just made."""
        if self.adversary is not None and self._pair is not None:
            self.adversary.learn(*self._pair)
            self._pair = None

    def state_dict(self) -> dict[str, Any]:
        """Everything a later step depends on."""
        return {} if self.adversary is None else self.adversary.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        if self.adversary is not None:
            self.adversary.load_state_dict(state)

    def _compare(self, picture: Tensor, target: Tensor) -> Tensor:
        """Sample by sample."""
        section = self.section
        if picture.shape != target.shape:
            height, width = picture.shape[-2:]
            target = imresize(target, size=(height, width))
        loss = section.pixel_weight * self._pixel(picture - target)
        if section.frequency:
            loss = loss + section.frequency * frequency(picture - target)
        if section.total_variation:
            loss = loss + section.total_variation * total_variation(picture)
        return loss

    def _look(self, picture: Tensor, target: Tensor) -> Tensor:
        """By how it looks: features, and whether the discriminator is taken in."""
        section, loss = self.section, picture.new_zeros(())
        if self.features is not None:
            with torch.no_grad():
                true = self.features(_rgb(target))
            made = self.features(_rgb(picture))
            if section.content:
                loss = loss + section.content * content(made, true)
            if section.texture:
                loss = loss + section.texture * texture(made, true)
        if self.adversary is not None:
            pair = _rgb(picture), _rgb(target)
            loss = loss + self.adversary.section.weight * self.adversary.judge(*pair)
            self._pair = pair[0].detach(), pair[1]
        return loss


def _rgb(picture: Tensor) -> Tensor:
    """Three channels of a picture that may have one."""
    return picture.expand(-1, 3, -1, -1)
