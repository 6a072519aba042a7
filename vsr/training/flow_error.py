"""Endpoint error of a flow network on synthetic pairs, beside OpenCV's DIS.

The pairs are made from photographs by `training.motion` with fixed seeds, so that everybody who
has the photographs has the same pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from vsr.errors import ConfigError
from vsr.models.checkpoint import load_upscaler
from vsr.training.clips import find_clips
from vsr.training.motion import exact_flow, random_scene, render

NUM_PAIRS = 200
SPEEDS_PX = (2.0, 8.0)
SIDE_PX = 192


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowError:
    """Mean endpoint errors over visible pixels and pairs, pixels."""

    max_speed_px: float
    zero: float
    """Of no motion at all: how much there was to find."""
    dis: float
    """Of OpenCV's DIS, preset medium."""
    network: float


def pairs(
    folder: Path, max_speed_px: float, count: int = NUM_PAIRS
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The fixed pairs: ((2, 3, S, S) float32 in [0, 1], (2, S, S) flow, (1, S, S) visible).

    Args:
        folder: photographs, in it or in folders in it.
        max_speed_px: of the synthetic camera.
        count: number of pairs.

    Raises:
        OpenError: the folder holds no picture.
    """
    photos = [picture * 255.0 for clip in find_clips(folder) for picture in clip.pictures()]
    for number in range(count):
        generator = torch.Generator().manual_seed(1000 * int(max_speed_px) + number)
        chosen = [photos[(number + 7 * k) % len(photos)] for k in range(1 + number % 3)]
        layers = random_scene(
            generator,
            chosen,
            2,
            size_px=SIDE_PX,
            max_speed_px=max_speed_px,
            zoom=(1.0, 1.2),
            object_share=1.0,
        )
        flow, visible = exact_flow(layers, 0, 1, SIDE_PX, SIDE_PX)
        yield render(layers, SIDE_PX, SIDE_PX).round() / 255.0, flow, visible


def _dis(pair: Tensor) -> Tensor:
    """DIS medium on 8-bit luma: (2, S, S)."""
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    first, second = ((pair * weights).sum(1) * 255).round().to(torch.uint8).numpy()
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(
        first, second, np.zeros((*first.shape, 2), np.float32)
    )
    return torch.from_numpy(np.asarray(flow)).permute(2, 0, 1)


@torch.inference_mode()
def flow_error(
    network: nn.Module, folder: Path, max_speed_px: float, count: int = NUM_PAIRS
) -> FlowError:
    """Score a flow network against DIS.

    Args:
        network: called with (1, 3, H, W) pairs in [0, 1], gives (1, 2, H, W).
        folder: see `pairs`.
        max_speed_px: see `pairs`.
        count: see `pairs`.
    """
    sums = np.zeros(3)
    for pair, truth, visible in pairs(folder, max_speed_px, count):
        candidates = (torch.zeros_like(truth), _dis(pair), network(pair[:1], pair[1:])[0])
        for index, flow in enumerate(candidates):
            length = (flow.float() - truth).square().sum(0).sqrt()
            sums[index] += float(length[visible[0]].mean())
    zero, dis, found = (float(total) / count for total in sums)
    return FlowError(max_speed_px=max_speed_px, zero=zero, dis=dis, network=found)


def flow_errors(
    models: Sequence[str | Path], folder: Path, count: int = NUM_PAIRS
) -> list[dict[str, Any]]:
    """Score the flow network inside each model at every speed: rows for a table or JSON.

    Raises:
        ConfigError: a model has no flow network.
    """
    rows = []
    for model in models:
        network = getattr(load_upscaler(model), "flow", None)
        if not isinstance(network, nn.Module):
            raise ConfigError(f"{model} holds no optical flow network")
        for speed in SPEEDS_PX:
            rows.append({"model": str(model), **asdict(flow_error(network, folder, speed, count))})
    return rows
