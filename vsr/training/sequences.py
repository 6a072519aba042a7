"""The loss of a recurrent network on a batch of sequences."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from vsr.errors import CheckpointError, ConfigError
from vsr.models.catalog import weights_path
from vsr.models.checkpoint import is_file_name, load_upscaler, resolve_spec
from vsr.models.image.interpolation import imresize
from vsr.models.upscaler import Upscaler
from vsr.models.video.flowprop import FlowProp
from vsr.training.config import DistillSection, TrainConfig
from vsr.training.data import Batch
from vsr.training.losses import charbonnier, luma_weighted

LOOK_AHEAD = 2
"""Frames that a carried call may look at, so that its last state is not that of a film's end."""


class SequenceLoss:
    """Charbonnier against the ground truth and, where one is named, against a teacher.

    Args:
        config: of the run.
        device: where the network is.

    Raises:
        ConfigError: the teacher enlarges by another scale.
        CheckpointError: the teacher cannot be loaded.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.carried = config.data.carried_frames
        self.reset_share = config.data.reset_share
        self.cleaning_weight = config.loss.cleaning
        self.options: DistillSection | None = config.distill
        self.teacher: Upscaler | None = None
        if self.options is not None:
            spec = resolve_spec(self.options.teacher)
            if spec.params.get("scale", spec.scale) != config.data.scale:
                raise ConfigError(
                    f"[distill] teacher {self.options.teacher} does not enlarge by "
                    f"{config.data.scale}"
                )
            teacher = cast(nn.Module, load_upscaler(self.options.teacher))
            teacher.requires_grad_(False).to(device).eval()
            self.teacher = cast(Upscaler, teacher)

    def draw_fresh(self, size: int, generator: torch.Generator) -> Tensor | None:
        """Which of so many samples start afresh after the carried frames: (B,) bool.

        The generator is on the CPU, and so is the result; None where nothing is carried.
        """
        return torch.rand(size, generator=generator) < self.reset_share if self.carried else None

    def __call__(
        self, network: FlowProp, batch: Batch, fresh_B: Tensor | None, *, bf16: bool
    ) -> Tensor:
        """Run the network and compare what it made of all but the carried frames.

        The first `carried_frames` of each sequence only bring the state to where it is in the
        middle of a film, without gradients: a network that never sees a state so old may let it
        drift. A share of the samples starts there afresh, as after a cut.

        Args:
            network: in training mode.
            batch: sequences of `carried_frames` more frames than are learned from.
            fresh_B: see `draw_fresh`, on the network's device.
            bf16: whether convolutions may run in bfloat16.
        """
        source, target = batch.source_BTCHW, batch.target_BTCHW
        size, device = len(source), source.device
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            state = network.init_state(size, *source.shape[-2:])
            if fresh_B is not None:
                ahead = min(LOOK_AHEAD, source.shape[1] - self.carried)
                with torch.no_grad():
                    _, old = network.upscale(source[:, : self.carried + ahead], state, ahead)
                state = tuple(
                    torch.where(fresh_B.view(-1, *[1] * (new.ndim - 1)), new, kept.to(new.dtype))
                    for new, kept in zip(state, old, strict=True)
                )
                source, target = source[:, self.carried :], target[:, self.carried :]
            result, _ = network.upscale(source, state)
            taught: Tensor | None = None
            if self.teacher is not None:
                with torch.no_grad():
                    start = self.teacher.init_state(size, *source.shape[-2:])
                    taught, _ = self.teacher.upscale(source, start)
            cleaned: Tensor | None = None
            if self.cleaning_weight and network.cleaning is not None:
                frames = source.flatten(0, 1)
                cleaned = frames + network.cleaning(frames)
        loss = charbonnier(luma_weighted(result - target))
        if cleaned is not None:
            clean = imresize(target.flatten(0, 1), scale=1 / network.scale)
            loss = loss + self.cleaning_weight * charbonnier(luma_weighted(cleaned.float() - clean))
        if taught is None or self.options is None:
            return loss
        imitation = charbonnier(luma_weighted(result - taught.float()))
        return (1 - self.options.weight) * loss + self.options.weight * imitation


def shipped_or_file(name: str) -> Path:
    """The weight file of an id of the catalogue, or the file of that name.

    Raises:
        CheckpointError: there is neither.
        UnknownModelError: the id is not in the catalogue.
    """
    if is_file_name(name) or "/" in name:
        return Path(name)
    path = weights_path(resolve_spec(name))
    if path is None:
        raise CheckpointError(f"{name} has no weights to start from")
    return path
