"""PULSE: look among the pictures that a generator can make for one that shrinks to the source.

Menon et al., 2020, "PULSE: Self-Supervised Photo Upsampling via Latent Space Exploration of
Generative Models", arXiv 2003.03808, with the settings of the authors' program: one latent for each
layer, before the last leaky ReLU of the mapping and whitened by the mean and deviation that mapped
samples have there; each latent and noise kept on the sphere where it began; Adam at 0.4 over 100
steps, the rate rising over 45 %, falling over as much and dropping in the end; 100 times the mean
squared difference of the shrunk picture, of no account below 2e-3, plus 0.05 times the geodesic
spread of the latents (equation 4).

This is exploration and not restoration: what it shows is a picture that the generator knows, which
fits the source as well as many others do. Other seeds show others.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.errors import ConfigError, ShapeError
from vsr.models.image.interpolation import imresize
from vsr.models.image.stylegan import SLOPE, SmallGenerator
from vsr.models.upscaler import State

logger = logging.getLogger(__name__)

EPSILON = 2e-3
"""Mean squared difference of samples in [0, 1] from which a shrunk picture counts as the source."""
_FIT_WEIGHT, _SPREAD_WEIGHT = 100.0, 0.05
_LR = 0.4
_NUM_TRAINED_NOISES = 5
_NUM_WHITENED = 100_000
"""Mapped samples that are looked at where a generator does not say how they lie; the authors took a
million, whose mean differs by less than a hundredth of a deviation."""


class Generator(Protocol):
    """What makes pictures of latents."""

    resolution: int
    """R, side of its pictures."""
    num_layers: int
    """L, each with a latent and a noise map of its own."""
    latent_dim: int
    """D."""

    @property
    def noise_px(self) -> tuple[int, ...]:
        """Side of each layer's noise map."""
        ...

    def mapping(self, z_BD: Tensor) -> Tensor:
        """(B, D) normal -> (B, D); ends in a leaky ReLU of slope 0.2."""
        ...

    def synthesis(self, w_BLD: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """(B, L, D) and L noise maps (B or 1, 1, h, h) -> (B, 3, R, R), nominally [-1, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """The best picture of one search."""

    picture_3HW: Tensor
    """float32 in [0, 1]."""
    difference: float
    """Mean squared, of the shrunk picture and the source."""

    @property
    def fits(self) -> bool:
        """Whether it shrinks to the source as nearly as the paper asks."""
        return self.difference <= EPSILON


class PULSE(nn.Module):
    """The search; keeps the `Upscaler` contract for sources of one size, R / scale.

    Args:
        scale: integer factor of enlargement.
        generator: parameters of a `SmallGenerator`, or any generator with its weights.
        num_steps: of the search.
    """

    latent_mean: Tensor
    latent_deviation: Tensor

    def __init__(
        self,
        scale: int = 4,
        *,
        generator: Mapping[str, Any] | nn.Module | None = None,
        num_steps: int = 100,
    ) -> None:
        super().__init__()
        is_ready = isinstance(generator, nn.Module)
        made = generator if is_ready else SmallGenerator(**cast(Any, generator or {}))
        self.generator = cast(nn.Module, made)
        self.scale, self.num_steps = scale, num_steps
        dim = self._maker.latent_dim
        self.register_buffer("latent_mean", torch.zeros(dim))
        self.register_buffer("latent_deviation", torch.ones(dim))
        self._last: Found | None = None
        if is_ready:
            self.whiten()

    @property
    def _maker(self) -> Generator:
        return cast(Generator, self.generator)

    @property
    def source_px(self) -> int:
        """Side of the sources."""
        return self._maker.resolution // self.scale

    @torch.no_grad()
    def whiten(self, num_samples: int = _NUM_WHITENED, seed: int = 0) -> None:
        """Measure where mapped samples lie before the mapping's last activation."""
        draw = torch.Generator().manual_seed(seed)
        device, dim = self.latent_mean.device, self._maker.latent_dim
        total = torch.zeros(2, dim, dtype=torch.float64, device=device)
        for start in range(0, num_samples, 10_000):
            count = min(10_000, num_samples - start)
            z_BD = torch.randn(count, dim, generator=draw).to(device)
            before_BD = F.leaky_relu(self._maker.mapping(z_BD), 1 / SLOPE).double()
            total += torch.stack((before_BD.sum(0), before_BD.square().sum(0)))
        mean, square = total / num_samples
        self.latent_mean.copy_(mean)
        self.latent_deviation.copy_((square - mean.square()).clamp(min=1e-12).sqrt())

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        """The seed of each sample, (B,) int64."""
        return (torch.full((batch,), seed, dtype=torch.int64),)

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        """See `Upscaler.upscale`; samples are clamped to [0, 1].

        Raises:
            ConfigError: the pictures are not of the one size.
        """
        kept = frames_BTCHW.shape[1] - num_context
        if kept < 1:
            raise ShapeError(f"{frames_BTCHW.shape[1]} frames, {num_context} of them context")
        (seeds_B,) = state
        samples = [
            torch.stack([self._enlarged(frame, int(seed)) for frame in frames[:kept]])
            for frames, seed in zip(frames_BTCHW, seeds_B, strict=True)
        ]
        return torch.stack(samples).to(frames_BTCHW.dtype), state

    def explain(self) -> str:
        """See `upscaler.Explains`."""
        if self._last is None:
            return "nothing was searched for"
        fits = "as nearly as the paper asks" if self._last.fits else "NOT as nearly as it should"
        return (
            f"shrunk again, the picture found is the source {fits} (mean squared difference "
            f"{self._last.difference:.1e}, {EPSILON:.0e} asked)"
        )

    def _enlarged(self, frame_3HW: Tensor, seed: int) -> Tensor:
        self._last = self.search(frame_3HW, seed)
        return self._last.picture_3HW

    def search(self, source_3HW: Tensor, seed: int = 0) -> Found:
        """Look for a picture that shrinks to the source.

        Args:
            source_3HW: (3, R/s, R/s), nominally [0, 1].
            seed: where the search begins.

        Raises:
            ConfigError: it is of another size.
        """
        side = self.source_px
        if tuple(source_3HW.shape[-2:]) != (side, side):
            raise ConfigError(
                f"this model makes {self._maker.resolution}x{self._maker.resolution} pixels of "
                f"{side}x{side}, and was given {source_3HW.shape[-1]}x{source_3HW.shape[-2]}",
                hint=f"cut out or shrink to {side}x{side} first",
            )
        # The runner works where nothing can be followed back.
        with torch.inference_mode(False), torch.enable_grad():
            wanted = source_3HW.detach().clone().float().clamp(0, 1)[None]
            return self._descend(wanted, torch.Generator().manual_seed(seed))

    def _descend(self, wanted_13HW: Tensor, draw: torch.Generator) -> Found:
        maker, device = self._maker, wanted_13HW.device
        latent = torch.randn(1, maker.num_layers, maker.latent_dim, generator=draw).to(device)
        noises = [torch.randn(1, 1, px, px, generator=draw).to(device) for px in maker.noise_px]
        noises[-1].zero_()  # the finest would only add grain
        trained = [latent, *noises[: min(_NUM_TRAINED_NOISES, len(noises) - 1)]]
        sphere = _Sphere([tensor.requires_grad_() for tensor in trained])
        best, least = torch.zeros_like(wanted_13HW), math.inf
        difference = math.inf
        for step in range(self.num_steps):
            sphere.set_rate(_LR * rate(step, self.num_steps))
            w_BLD = F.leaky_relu(latent * self.latent_deviation + self.latent_mean, SLOPE)
            picture = (maker.synthesis(w_BLD, noises) + 1) / 2
            shrunk = imresize(picture, scale=1 / self.scale)
            squared = (shrunk - wanted_13HW).square().mean()
            fit = squared.clamp(min=EPSILON)
            loss = _FIT_WEIGHT * fit + _SPREAD_WEIGHT * geodesic_spread(latent)
            value = float(loss.detach())
            if value < least:
                least, best, difference = value, picture.detach(), float(squared.detach())
            sphere.step(loss)
        if difference > EPSILON:
            logger.info("no picture was found that shrinks to the source closely enough")
        return Found(best[0].clamp(0, 1), difference)


class _Sphere:
    """Adam, after each step of which vectors are put back to the length they began with.

    Args:
        tensors: of shape (B, L, D), each row a vector, or (B, 1, h, w), each map a vector.
    """

    def __init__(self, tensors: list[Tensor]) -> None:
        self._tensors = tensors
        self._adam = torch.optim.Adam(tensors, lr=_LR)
        self._lengths = [_length(tensor.detach()) for tensor in tensors]

    def set_rate(self, lr: float) -> None:
        for group in self._adam.param_groups:
            group["lr"] = lr

    def step(self, loss: Tensor) -> None:
        self._adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss, inputs=self._tensors)
        self._adam.step()
        with torch.no_grad():
            for tensor, length in zip(self._tensors, self._lengths, strict=True):
                tensor.mul_(length / _length(tensor))


def _length(tensor: Tensor) -> Tensor:
    return tensor.square().sum(dim=tuple(range(2, tensor.ndim)), keepdim=True).add(1e-9).sqrt()


def rate(step: int, num_steps: int) -> float:
    """Of the learning rate: 0.1 to 1 and back over nine tenths of the steps, then to a thousandth.

    Args:
        step: from 0.
        num_steps: of all.
    """
    ramp = 0.9 * num_steps
    if step < ramp:
        return 0.1 + 0.9 * (1 - abs(2 * step / ramp - 1))
    return 0.1 + (step - ramp) / (0.1 * num_steps) * (1e-3 - 0.1)


def geodesic_spread(latent_BLD: Tensor) -> Tensor:
    """Mean squared angle between the latents of the layers, times D / 8; summed over the batch."""
    one, two = latent_BLD[:, :, None], latent_BLD[:, None]
    apart = ((one - two).square().sum(-1) + 1e-9).sqrt()
    together = ((one + two).square().sum(-1) + 1e-9).sqrt()
    angle = 2 * torch.atan2(apart, together)
    return (angle.square() * latent_BLD.shape[-1]).mean((1, 2)).sum() / 8
