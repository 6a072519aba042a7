"""What teaches optical flow, alone or within a recurrent network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vsr.models.flow import FlowNet
from vsr.training.data import Batch, FlowBatch
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


def pairs_loss(network: FlowNet, pairs: FlowBatch) -> Tensor:
    """Endpoint error on a few synthetic pairs, for a step that trains more than the flow.

    A recurrent network bends its flow towards whatever lowers the loss of its pictures. That costs
    accuracy which no picture of the training shows and films do. The pairs are computed in float32,
    the corrections being far below one pixel.

    Args:
        network: within the network that is trained.
        pairs: on its device; a few are enough, one for each ten frames of the step.
    """
    with torch.autocast(pairs.ref_BCHW.device.type, enabled=False):
        flows = network.pyramid(pairs.ref_BCHW, pairs.other_BCHW)
    return pyramid_error(flows, pairs.flow_B2HW, pairs.visible_B1HW)


def draw_film(sampler: AnySampler, batch: int) -> Batch | None:
    """Pairs of real video for `flow_loss`, half as many as there are synthetic ones.

    Args:
        sampler: makes them.
        batch: number of synthetic pairs.

    Returns:
        Two frames of each; None where there is no video.
    """
    if not sampler.videos:
        return None
    share, sampler.photo_share = sampler.photo_share, 0.0
    film = sampler.draw(max(1, batch // 2), 2)
    sampler.photo_share = share
    return film


def flow_loss(network: FlowNet, made: FlowBatch, film: Batch | None, *, bf16: bool) -> Tensor:
    """Endpoint error on synthetic pairs plus photometric error on pairs of real video.

    Args:
        network: trained alone.
        made: synthetic pairs, on its device.
        film: pairs of video there. Without any, the synthetic ones are looked at the other way
            round.
        bf16: whether convolutions may run in bfloat16.
    """
    first, second = made.ref_BCHW, made.other_BCHW
    batch = len(first)
    if film is None:
        pairs = torch.cat((first, second)), torch.cat((second, first))
    else:
        frames = film.source_BTCHW
        pairs = torch.cat((first, frames[:, 0])), torch.cat((second, frames[:, 1]))
    with torch.autocast(first.device.type, torch.bfloat16, enabled=bf16):
        flows = network.pyramid(*pairs)
    loss = pyramid_error([flow[:batch] for flow in flows], made.flow_B2HW, made.visible_B1HW)
    return loss + 0.2 * photometric(pairs[0][batch:], pairs[1][batch:], flows[-1][batch:])
