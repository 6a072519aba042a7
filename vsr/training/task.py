"""What one step of a run draws, and the loss that its network has on it.

Drawing comes first and the loss is a function of what was drawn alone, so that a device can repeat
a step with other contents without asking the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vsr.models.flow import FlowNet
from vsr.models.image.classsr import ClassSR
from vsr.models.image.per_frame import PerFrame
from vsr.models.image.stylegan import SmallGenerator
from vsr.models.video.flowprop import FlowProp
from vsr.training.alignment import draw_film, flow_loss, pairs_loss
from vsr.training.config import TrainConfig
from vsr.training.data import Batch, FlowBatch
from vsr.training.features import FeatureNet, degradation_loss
from vsr.training.generative import GenerativeObjective
from vsr.training.resident import AnySampler
from vsr.training.sequences import SequenceLoss
from vsr.training.stills import Objective


@dataclass(frozen=True, slots=True)
class Drawn:
    """All that the loss of one step depends on besides the network; on its device."""

    batch: Batch | None = None
    fresh_B: Tensor | None = None
    """See `SequenceLoss.draw_fresh`."""
    pairs: FlowBatch | None = None
    num_pixels: int = 0
    """Source pixels that are learned from."""

    def tensors(self) -> list[Tensor]:
        """In an order that hangs on nothing but which of them there are."""
        found: list[Tensor] = []
        if self.batch is not None:
            found += [self.batch.source_BTCHW, self.batch.target_BTCHW]
        if self.fresh_B is not None:
            found.append(self.fresh_B)
        if self.pairs is not None:
            pairs = self.pairs
            found += [pairs.ref_BCHW, pairs.other_BCHW, pairs.flow_B2HW, pairs.visible_B1HW]
        return found

    def with_tensors(self, tensors: Iterator[Tensor]) -> Drawn:
        """The same with others in the place of those that `tensors` gives."""
        batch, fresh_B, pairs = self.batch, self.fresh_B, self.pairs
        if batch is not None:
            batch = Batch(next(tensors), next(tensors))
        if fresh_B is not None:
            fresh_B = next(tensors)
        if pairs is not None:
            pairs = FlowBatch(next(tensors), next(tensors), next(tensors), next(tensors))
        return replace(self, batch=batch, fresh_B=fresh_B, pairs=pairs)


class Task:
    """How a network of a configuration is taught.

    Args:
        config: of the run.
        network: on the device.
        sampler: what batches are cut by.
        objective: of networks that see one frame at a time, and of generators.
        device: where the network is.
    """

    def __init__(
        self,
        config: TrainConfig,
        network: nn.Module,
        sampler: AnySampler,
        objective: Objective | GenerativeObjective,
        device: torch.device,
    ) -> None:
        self.config, self.network, self.sampler = config, network, sampler
        self.objective, self.device = objective, device
        self.sequences = SequenceLoss(config, device)
        self._bf16 = config.precision == "bf16"

    @property
    def hindrance(self) -> str | None:
        """Why the host has to take part in every step, if it has to."""
        if isinstance(self.network, SmallGenerator | FeatureNet):
            return f"a {type(self.network).__name__} draws within the step"
        if isinstance(self.network, ClassSR):
            return "ClassSR sends each patch its own way"
        if self.config.adversarial is not None:
            return "a discriminator learns by turns"
        return None

    def draw(self, num_frames: int, *, with_pairs: bool) -> Drawn:
        """Contents of the next step.

        Args:
            num_frames: to learn from, of networks that see more than one.
            with_pairs: whether the flow within the network learns from synthetic pairs as well.
        """
        drawn, size = self._draw(num_frames, with_pairs), self.config.data.batch
        if isinstance(self.network, FlowNet):
            count = 2 * size if drawn.batch is None else size + len(drawn.batch.source_BTCHW)
            assert drawn.pairs is not None
            num_pixels = count * drawn.pairs.ref_BCHW[0, 0].numel()
        else:
            assert drawn.batch is not None
            side = drawn.batch.source_BTCHW
            if isinstance(self.network, FeatureNet):
                side = drawn.batch.target_BTCHW
            carried = self.config.data.carried_frames if isinstance(self.network, FlowProp) else 0
            num_pixels = side[:, carried:, 0].numel()
        tensors = (tensor.to(self.device, non_blocking=True) for tensor in drawn.tensors())
        return replace(drawn.with_tensors(tensors), num_pixels=num_pixels)

    def _draw(self, num_frames: int, with_pairs: bool) -> Drawn:
        data, sampler = self.config.data, self.sampler
        if isinstance(self.network, FlowNet):
            made = sampler.draw_flow(data.batch)
            return Drawn(batch=draw_film(sampler, data.batch), pairs=made)
        if not isinstance(self.network, FlowProp):
            return Drawn(batch=sampler.draw(data.batch, num_frames))
        batch = sampler.draw(data.batch, num_frames + data.carried_frames)
        fresh_B = self.sequences.draw_fresh(data.batch, sampler.host_generator)
        pairs = sampler.draw_flow(self.config.optimizer.flow_pairs) if with_pairs else None
        return Drawn(batch, fresh_B, pairs)

    def loss(self, drawn: Drawn, fraction: float) -> Tensor:
        """Of the network on what was drawn, with a graph for its gradient.

        Args:
            drawn: by `draw`.
            fraction: done part of the schedule; nothing hangs on it where there is no `hindrance`.
        """
        network, bf16 = self.network, self._bf16
        if isinstance(network, FlowNet):
            assert drawn.pairs is not None
            return flow_loss(network, drawn.pairs, drawn.batch, bf16=bf16)
        assert drawn.batch is not None
        if isinstance(network, FlowProp):
            loss = self.sequences(network, drawn.batch, drawn.fresh_B, bf16=bf16)
            if drawn.pairs is not None:
                assert network.flow is not None
                weight = self.config.optimizer.flow_loss_weight
                loss = loss + weight * pairs_loss(network.flow, drawn.pairs)
            return loss
        source, target = drawn.batch.source_BTCHW[:, 0], drawn.batch.target_BTCHW[:, 0]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            if isinstance(network, SmallGenerator):
                assert isinstance(self.objective, GenerativeObjective)
                # Pictures shrunk from larger ones: more is in them than in crops of that size.
                return self.objective(network, source)
            if isinstance(network, FeatureNet):
                return degradation_loss(network, target)
            assert isinstance(network, PerFrame)
            assert isinstance(self.objective, Objective)
            return self.objective(network, source, target, fraction)
