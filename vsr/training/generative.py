"""Adversarial training of a generator that begins with noise: what PULSE searches in.

Goodfellow et al., 2014, with the non-saturating loss; the discriminator's gradient at true pictures
is kept small by R1 (Mescheder et al., 2018, arXiv 1801.04406, equation 9), every few steps and that
much stronger (Karras et al., 2020, arXiv 1912.04958, section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.errors import ConfigError
from vsr.models.image.stylegan import SmallGenerator
from vsr.training.config import TrainConfig
from vsr.training.discriminators import ResidualDiscriminator

BETAS = (0.0, 0.99)
"""Of Adam for both players: a momentum would chase where the other was."""
_MIXED = 0.9
"""Share of the pictures made of two latents: coarse levels of one, fine ones of the other."""


class GenerativeObjective:
    """What a generator is trained to lower, and the discriminator that is trained along.

    Args:
        config: its adversarial section says how the discriminator learns.
        device: where it runs.

    Raises:
        ConfigError: there is no such section, or crops are not of the generator's size.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        section = config.adversarial
        if section is None or section.discriminator != "residual":
            raise ConfigError(
                "a generator is trained with [adversarial] discriminator = 'residual'"
            )
        self.section = section
        params = config.model.params
        self.network = ResidualDiscriminator(**_known(params)).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=section.lr, betas=BETAS)
        self._pair: tuple[Tensor, Tensor] | None = None
        self._step = 0

    def __call__(self, network: SmallGenerator, true_BCHW: Tensor) -> Tensor:
        """Make as many pictures as were drawn, and say how well they are told from those.

        Args:
            network: in training mode.
            true_BCHW: (B, 3, R, R) float32 in [0, 1].

        Raises:
            ConfigError: they are not of the generator's size.
        """
        if true_BCHW.shape[-1] != network.resolution:
            raise ConfigError(
                f"the generator makes {network.resolution} px, and [data] crop_px is "
                f"{true_BCHW.shape[-1]}",
                hint="make them equal",
            )
        made = make_pictures(network, len(true_BCHW), true_BCHW.device)
        self.network.requires_grad_(False)
        loss = F.softplus(-self.network(made).float()).mean()
        self.network.requires_grad_(True)
        self._pair = made.detach().float(), true_BCHW * 2 - 1
        return loss

    def after_step(self) -> None:
        """Let the discriminator learn from the pictures that were just made."""
        if self._pair is None:
            return
        made, true = self._pair
        self._pair = None
        loss = F.softplus(self.network(made)).mean() + F.softplus(-self.network(true)).mean()
        if self._step % self.section.r1_every == 0:
            loss = loss + self.section.r1_every * self._penalty(true)
        self._step += 1
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()

    def _penalty(self, true_BCHW: Tensor) -> Tensor:
        true = true_BCHW.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.network(true).sum(), true, create_graph=True)
        return 0.5 * self.section.r1 * slope.square().sum((1, 2, 3)).mean()

    def state_dict(self) -> dict[str, Any]:
        """Everything a later step depends on."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self._step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._step = state["step"]


def make_pictures(network: SmallGenerator, batch: int, device: torch.device) -> Tensor:
    """Random pictures, (B, 3, R, R) about [-1, 1], most of them of two latents."""
    z_2BD = torch.randn(2, batch, network.latent_dim).to(device)
    one, two = (network.mapping(z_BD) for z_BD in z_2BD)
    layers = torch.arange(network.num_layers)
    borders = torch.randint(1, network.num_layers, (batch, 1))
    is_fine = (layers >= borders) & (torch.rand(batch, 1) < _MIXED)
    w_BLD = torch.where(is_fine.to(device)[..., None], two[:, None], one[:, None])
    noise = [torch.randn(batch, 1, px, px).to(device) for px in network.noise_px]
    return network.synthesis(w_BLD, noise)


def _known(params: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in params.items() if key == "channels"}
