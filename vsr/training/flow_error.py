"""How well a flow network knows the motion, beside OpenCV's DIS.

On synthetic pairs the motion is known, and the endpoint error is taken. They are made from
photographs by `training.motion` with fixed seeds, so that everybody who has the photographs has the
same pairs. On true clips nobody knows the motion; there the next frame, warped back, is held
against the frame itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from vsr.errors import ConfigError
from vsr.models.checkpoint import load_upscaler
from vsr.models.flow import LUMA_WEIGHTS, warp
from vsr.training.clips import Clip, find_clips
from vsr.training.eval_pairs import degraded_pairs
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


@dataclass(frozen=True, slots=True, kw_only=True)
class WarpingError:
    """Mean absolute differences of a frame's luma and the next one's, warped: 8-bit codes."""

    clip: str
    zero: float
    """Not warped at all."""
    dis: float
    """By OpenCV's DIS, preset medium."""
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


def _luma(picture_3HW: Tensor) -> Tensor:
    """(3, H, W) in [0, 1] -> (H, W) in 8-bit codes."""
    return torch.einsum("chw,c->hw", picture_3HW, torch.tensor(LUMA_WEIGHTS)) * 255


def _dis(pair: Tensor) -> Tensor:
    """DIS medium on 8-bit luma: (2, 3, S, S) -> (2, S, S)."""
    first, second = (_luma(picture).round().to(torch.uint8).numpy() for picture in pair)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(
        first, second, np.zeros((*first.shape, 2), np.float32)
    )
    return torch.from_numpy(np.asarray(flow)).permute(2, 0, 1)


def _candidates(network: nn.Module, pair: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What there is to score of (2, 3, H, W): no motion, DIS, the network; (2, H, W) each."""
    found = network(pair[:1], pair[1:])[0].float()
    return torch.zeros_like(found), _dis(pair), found


@torch.inference_mode()
def flow_error(
    network: nn.Module, folder: Path, max_speed_px: float, count: int = NUM_PAIRS
) -> FlowError:
    """Score a flow network against DIS where the motion is known.

    Args:
        network: called with (1, 3, H, W) pairs in [0, 1], gives (1, 2, H, W).
        folder: see `pairs`.
        max_speed_px: see `pairs`.
        count: see `pairs`.
    """
    sums = np.zeros(3)
    for pair, truth, visible in pairs(folder, max_speed_px, count):
        for index, flow in enumerate(_candidates(network, pair)):
            length = (flow - truth).square().sum(0).sqrt()
            sums[index] += float(length[visible[0]].mean())
    zero, dis, found = (float(total) / count for total in sums)
    return FlowError(max_speed_px=max_speed_px, zero=zero, dis=dis, network=found)


@torch.inference_mode()
def warping_error(network: nn.Module, clip: Clip, scale: int) -> WarpingError:
    """Score a flow network against DIS on true motion, in frames made small bicubically.

    Args:
        network: see `flow_error`.
        clip: of two frames or more.
        scale: by which they are made small, so that motion is as fast as where the network works.

    Raises:
        ConfigError: it is a still.
    """
    sums, num_pairs = np.zeros(3), 0
    small = (small for _, small in degraded_pairs(clip, scale, scale, "bi"))
    for first, second in pairwise(small):
        num_pairs += 1
        for index, flow in enumerate(_candidates(network, torch.stack((first, second)))):
            warped = warp(second[None], flow[None])[0]
            sums[index] += float((_luma(warped) - _luma(first)).abs().mean())
    if not num_pairs:
        raise ConfigError(f"{clip.name} is a still and has no motion")
    zero, dis, found = (float(total) / num_pairs for total in sums)
    return WarpingError(clip=clip.name, zero=zero, dis=dis, network=found)


def flow_errors(
    models: Sequence[str | Path], folder: Path, count: int = NUM_PAIRS
) -> list[dict[str, Any]]:
    """Score the flow network inside each model at every speed: rows for a table or JSON.

    Raises:
        ConfigError: a model has no flow network.
    """
    return [
        {"model": str(model), **asdict(flow_error(network, folder, speed, count))}
        for model, network in _flow_networks(models)
        for speed in SPEEDS_PX
    ]


def warping_errors(
    models: Sequence[str | Path],
    folder: Path,
    scale: int,
    progress: Callable[[str, str], None] | None = None,
) -> list[dict[str, Any]]:
    """Score the flow network inside each model on every clip; no rows where there are but stills.

    Args:
        models: ids of the catalogue, or weight files.
        folder: see `clips.find_clips`.
        scale: see `warping_error`.
        progress: called with the model and the clip that begins.

    Raises:
        ConfigError: a model has no flow network.
    """
    rows = []
    for model, network in _flow_networks(models):
        for clip in find_clips(folder):
            if clip.is_video:
                if progress is not None:
                    progress(str(model), clip.name)
                score = warping_error(network, clip, scale)
                rows.append({"model": str(model), **asdict(score)})
    return rows


def _flow_networks(models: Sequence[str | Path]) -> Iterator[tuple[str | Path, nn.Module]]:
    for model in models:
        network = getattr(load_upscaler(model), "flow", None)
        if not isinstance(network, nn.Module):
            raise ConfigError(f"{model} holds no optical flow network")
        yield model, network
