"""What teaches optical flow, alone or within a recurrent network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vsr.models.flow import FlowNet
from vsr.training.data import FlowBatch
from vsr.training.losses import endpoint_error, photometric
from vsr.training.resident import AnySampler


def level_weights(count: int) -> list[float]:
    """The finest level counts fully, each coarser one half of the next."""
    return [0.5 ** (count - 1 - index) for index in range(count)]


def pyramid_error(flows: Sequence[Tensor], truth_B2HW: Tensor, visible_B1HW: Tensor) -> Tensor:
    """Weighted sum of the endpoint errors after each level, coarsest first, pixels."""
    weights = level_weights(len(flows))
    return sum(
        (
            weight * endpoint_error(flow, truth_B2HW, visible_B1HW)
            for weight, flow in zip(weights, flows, strict=True)
        ),
        start=truth_B2HW.new_zeros(()),
    )


def pairs_loss(network: FlowNet, sampler: AnySampler, batch: int, device: torch.device) -> Tensor:
    """Endpoint error on a few synthetic pairs, for a step that trains more than the flow.

    A recurrent network bends its flow towards whatever lowers the loss of its pictures. That costs
    accuracy which no picture of the training shows and films do. The pairs are computed in float32,
    the corrections being far below one pixel.

    Args:
        network: within the network that is trained.
        sampler: makes the pairs.
        batch: number of pairs; a few are enough, one for each ten frames of the step.
        device: where the network is.
    """
    pairs = _to(sampler.draw_flow(batch), device)
    with torch.autocast(device.type, enabled=False):
        flows = network.pyramid(pairs.ref_BCHW, pairs.other_BCHW)
    return pyramid_error(flows, pairs.flow_B2HW, pairs.visible_B1HW)


def flow_loss(
    network: FlowNet,
    sampler: AnySampler,
    batch: int,
    device: torch.device,
    *,
    bf16: bool,
) -> tuple[Tensor, int]:
    """Endpoint error on synthetic pairs plus photometric error on pairs of real video.

    Args:
        network: trained alone.
        sampler: makes the pairs.
        batch: number of synthetic pairs; half as many are of video. Without any, the synthetic ones
            are looked at the other way round.
        device: where the network is.
        bf16: whether convolutions may run in bfloat16.

    Returns:
        The loss, and the number of source pixels that were looked at.
    """
    made = _to(sampler.draw_flow(batch), device)
    first, second = made.ref_BCHW, made.other_BCHW
    if not sampler.videos:
        pairs = torch.cat((first, second)), torch.cat((second, first))
    else:
        share, sampler.photo_share = sampler.photo_share, 0.0
        film = sampler.draw(max(1, batch // 2), 2).source_BTCHW.to(device)
        sampler.photo_share = share
        pairs = torch.cat((first, film[:, 0])), torch.cat((second, film[:, 1]))
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        flows = network.pyramid(*pairs)
    loss = pyramid_error([flow[:batch] for flow in flows], made.flow_B2HW, made.visible_B1HW)
    loss = loss + 0.2 * photometric(pairs[0][batch:], pairs[1][batch:], flows[-1][batch:])
    return loss, pairs[0][:, 0].numel()


def _to(pairs: FlowBatch, device: torch.device) -> FlowBatch:
    return FlowBatch(
        pairs.ref_BCHW.to(device),
        pairs.other_BCHW.to(device),
        pairs.flow_B2HW.to(device),
        pairs.visible_B1HW.to(device),
    )
