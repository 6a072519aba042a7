"""The second player of adversarial training: a discriminator and its optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.errors import ConfigError
from vsr.training.config import AdversarialSection
from vsr.training.discriminators import UNetDiscriminator, VggDiscriminator


def fooling_loss(kind: str, made: Tensor, true: Tensor) -> Tensor:
    """What the generator lowers.

    Args:
        kind: `vanilla` (Goodfellow et al., 2014, non-saturating), `relativistic` (average, ESRGAN
            equation 2) or `hinge`.
        made: logits of made pictures, with gradient.
        true: logits of true pictures; only the relativistic loss looks at them.
    """
    if kind == "hinge":
        return -made.mean()
    if kind == "vanilla":
        return F.softplus(-made).mean()
    relative_true, relative_made = true - made.mean(), made - true.mean()
    return 0.5 * (F.softplus(relative_true).mean() + F.softplus(-relative_made).mean())


def telling_loss(kind: str, made: Tensor, true: Tensor) -> Tensor:
    """What the discriminator lowers; arguments as of `fooling_loss`, ESRGAN equation 1."""
    if kind == "hinge":
        return 0.5 * (F.relu(1 + made).mean() + F.relu(1 - true).mean())
    if kind == "vanilla":
        return 0.5 * (F.softplus(made).mean() + F.softplus(-true).mean())
    relative_true, relative_made = true - made.mean(), made - true.mean()
    return 0.5 * (F.softplus(-relative_true).mean() + F.softplus(relative_made).mean())


class Adversary:
    """A discriminator in training.

    Args:
        section: what it is and how it learns.
        device: where it runs.
    """

    def __init__(self, section: AdversarialSection, device: torch.device) -> None:
        self.section = section
        if section.discriminator == "residual":
            raise ConfigError("[adversarial] discriminator = 'residual' is for generators alone")
        classes: Mapping[str, type[VggDiscriminator | UNetDiscriminator]] = {
            "vgg": VggDiscriminator,
            "unet": UNetDiscriminator,
        }
        self.network: nn.Module = classes[section.discriminator](section.num_channels).to(device)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=section.lr, betas=(0.9, 0.99)
        )

    def judge(self, made_BCHW: Tensor, true_BCHW: Tensor) -> Tensor:
        """The generator's loss; no gradient reaches the discriminator's weights."""
        self.network.requires_grad_(False)
        with torch.no_grad():
            true = self.network(true_BCHW)
        loss = fooling_loss(self.section.kind, self.network(made_BCHW).float(), true.float())
        self.network.requires_grad_(True)
        return loss

    def learn(self, made_BCHW: Tensor, true_BCHW: Tensor) -> float:
        """One step of the discriminator; gives its loss.

        Made and true pictures go through it apart, because batch normalisation would tell them
        from each other by their mean.
        """
        made, true = self.network(made_BCHW.detach()), self.network(true_BCHW)
        loss = telling_loss(self.section.kind, made, true)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        return float(loss.detach())

    def state_dict(self) -> dict[str, Any]:
        """Everything a later step depends on."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
