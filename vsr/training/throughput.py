"""How much of a device's arithmetic a run uses: what its steps take, and what a matmul reaches."""

from __future__ import annotations

import time
from copy import deepcopy
from functools import cache, lru_cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vsr.models.flow import FlowNet
from vsr.models.image.classsr import ClassSR
from vsr.models.image.per_frame import PerFrame
from vsr.models.video.flowprop import FlowProp
from vsr.training.config import TrainConfig
from vsr.training.sequences import LOOK_AHEAD

_BACKWARD = 2
"""Passes forward that one backward costs: gradients of weights and of inputs."""
_MATMUL_SIDE = {"cuda": 8192, "cpu": 512}
_MATMUL_S = 0.1
"""Time to measure for, after as many calls again to warm up."""


def step_flops(network: nn.Module, config: TrainConfig) -> dict[int, float]:
    """Floating-point operations of one step's model: three times those of its forward pass.

    Convolutions and matrix products count, each multiply-add as two, of the network alone: neither
    sampling, losses, a teacher nor pairs for the flow. A frozen flow counts as if it learned.

    Args:
        network: of the run; left as it is.
        config: of the run.

    Returns:
        By number of frames that are learned from, for all of the schedule; 0 of networks that are
        trained in other ways: generators, features and ClassSR.
    """
    data = config.data
    side, carried = data.crop_px, data.carried_frames
    lengths = sorted(set(data.num_frames))
    if isinstance(network, ClassSR) or not isinstance(network, FlowProp | FlowNet | PerFrame):
        return dict.fromkeys(lengths, 0.0)
    on_meta = deepcopy(network).to("meta")

    @cache
    def forward(length: int, context: int = 0) -> float:
        """Operations for one sample."""
        frames = torch.zeros(1, length, 3, side, side, device="meta")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            if isinstance(on_meta, FlowNet):
                on_meta.pyramid(frames[:, 0], frames[:, 0])
            elif isinstance(on_meta, FlowProp):
                state = on_meta.init_state(1, side, side)
                on_meta.upscale(frames, state, context)
            else:
                assert isinstance(on_meta, PerFrame)
                channels = 1 if on_meta.colors == "y" else 3
                on_meta.levels(frames[:, 0, :channels])
        return float(counter.get_total_flops())

    there_and_back = 1 + _BACKWARD
    if isinstance(network, FlowNet):
        # Half as many pairs of film as there are synthetic ones; as many without any.
        num_pairs = data.batch + max(1, data.batch // 2)
        return dict.fromkeys(lengths, there_and_back * num_pairs * forward(1))
    if isinstance(network, PerFrame):
        return dict.fromkeys(lengths, there_and_back * data.batch * forward(1))
    counts = {}
    for length in lengths:
        # From the second frame on, each costs the same.
        short = min(length, 2)
        more = (length - short) * (forward(3) - forward(2)) if length > short else 0.0
        per_sample = there_and_back * (forward(short) + more)
        if carried:
            ahead = min(LOOK_AHEAD, length)
            more = max(0, carried - 2) * (forward(2 + ahead, ahead) - forward(1 + ahead, ahead))
            per_sample += forward(min(carried, 2) + ahead, ahead) + more
        counts[length] = data.batch * per_sample
    return counts


class Speed:
    """Source pixels and operations per second, over stretches long enough to mean something.

    Args:
        stretch: steps that are looked at together where they are not waited for one by one.
    """

    def __init__(self, stretch: int) -> None:
        self._stretch = stretch
        self.flops, self.seconds = 0.0, 0.0
        """Since the start."""
        self._since = (0.0, 0.0, 0.0)
        self._pixels, self._steps = 0.0, 0
        self._last = (0.0, 0.0)

    def over(
        self, pixels: int, flops: float, seconds: float, *, whole: bool
    ) -> tuple[float, float]:
        """Of a step that was waited for, or of the last few where steps run on (not `whole`)."""
        self.flops, self.seconds = self.flops + flops, self.seconds + seconds
        if whole:
            return pixels / seconds, flops / seconds
        self._pixels += pixels
        self._steps += 1
        at_pixels, at_flops, at_s = self._since
        if self._steps == 1 or self._steps % self._stretch == 0:
            past_s = self.seconds - at_s
            self._last = (self._pixels - at_pixels) / past_s, (self.flops - at_flops) / past_s
            self._since = self._pixels, self.flops, self.seconds
        return self._last


@lru_cache(maxsize=8)
def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second that a product of large square matrices reaches."""
    side = _MATMUL_SIDE.get(device.type, 512)
    matrix = torch.ones(side, side, dtype=dtype, device=device)
    result = torch.empty_like(matrix)

    def run(count: int) -> float:
        """Seconds for so many products."""
        _wait(device)
        started = time.monotonic()
        for _ in range(count):
            torch.mm(matrix, matrix, out=result)
        _wait(device)
        return time.monotonic() - started

    run(2)
    count = max(2, min(1000, int(_MATMUL_S / max(run(2) / 2, 1e-6))))
    run(count)
    return 2.0 * side**3 * count / run(count)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
