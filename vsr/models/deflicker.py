"""Per-frame models on film: what they add is steadied along the motion, repeats are made once.

A model that sees one frame at a time invents its detail anew in each, and that shimmers. What such
a model adds to plain interpolation, its residual, is averaged over time where it can be followed:

    r_t <- (1 - a c_t) r_t + a c_t warp(r_t-1),    c_t = exp(-50 |x_t - warp(x_t-1)|^2)

with the motion found in the source, the confidence c_t of Lai et al. (2018, arXiv 1808.00449,
equation 6), and the strength a. The picture itself stays that of its own frame: no ghost of a
frame before can be left in it but in its finest detail, and not where the source disagrees.

Both classes keep the `Upscaler` contract and carry state, so they run in chunks and stop at cuts as
any recurrent model does.
"""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.errors import ShapeError
from vsr.models.flow import luma, warp
from vsr.models.image.interpolation import imresize
from vsr.models.registration import register
from vsr.models.upscaler import State, Upscaler

DEFAULT_STRENGTH = 0.7
"""Of networks that see one frame at a time, in films: more takes little flicker more away."""
INVENTED_STRENGTH = 0.9
"""Of those that make detail up, and anew in each frame: there more still takes away much more."""
_FORGOTTEN = 0.01
_MOST_WARMUP = 32
_SHARPNESS = 50.0


class _Wrapper:
    """What both do with the model that they stand around.

    Args:
        model: one that sees one frame at a time, and whose state is therefore empty.
    """

    def __init__(self, model: Upscaler) -> None:
        self.scale = model.scale
        self._model = model

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the model."""
        self._model.to(*args, **kwargs)
        return self

    def eval(self) -> Self:
        """Ready the model for use."""
        self._model.eval()
        return self

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        """The last source frame, what is kept of its result, and whether there is one (B,)."""
        device = self._device()
        size = (self.scale * height, self.scale * width)
        return (
            torch.zeros(batch, 3, height, width, device=device),
            torch.zeros(batch, 3, *size, device=device),
            torch.zeros(batch, dtype=torch.bool, device=device),
            *self._model.init_state(batch, height, width, seed),
        )

    def _device(self) -> torch.device:
        # One that stands around tiles has no layers; whoever runs it moves the state.
        layers = self._model if isinstance(self._model, nn.Module) else nn.Identity()
        return next(layers.parameters(), torch.empty(0)).device

    def _enlarge(self, frame_BCHW: Tensor, own: State) -> Tensor:
        return self._model.upscale(frame_BCHW[:, None], own)[0][:, 0]


class Once(_Wrapper):
    """A frame that equals the one before is not computed again: the result is the same to the bit.

    Held and black frames and whole shots that stand still then cost one frame. What is kept of a
    result is the result.
    """

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        """See `Upscaler.upscale`."""
        before, kept, exists, *rest = state
        own = tuple(rest)
        results = []
        for frame in _written(frames_BTCHW, num_context):
            is_same = _equal(frame, before) & exists
            if not bool(is_same.all()):
                kept = torch.where(_spread(is_same), kept, self._enlarge(frame, own))
            before, exists = frame, torch.ones_like(exists)
            results.append(kept)
        result = torch.stack(results, dim=1).to(frames_BTCHW.dtype)
        return result, (before, kept, exists, *own)


class Deflicker(_Wrapper):
    """Steady what a per-frame model adds to interpolation; repeats are made once here, too.

    What is kept of a result is its residual.

    Args:
        model: as above.
        strength: a of the file's head, in [0, 1): how much of the residual comes from before.
    """

    def __init__(self, model: Upscaler, strength: float = DEFAULT_STRENGTH) -> None:
        assert 0 <= strength < 1, strength
        super().__init__(model)
        self.strength = strength

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        """See `Upscaler.upscale`."""
        before, kept, exists, *rest = state
        own = tuple(rest)
        results = []
        for frame in _written(frames_BTCHW, num_context):
            base = imresize(frame.float(), scale=self.scale)
            is_same = _equal(frame, before) & exists
            if not bool(is_same.all()):
                residual = self._enlarge(frame, own).float() - base
                if bool(exists.any()):
                    carried, trust = self._carry(frame, before, kept)
                    share = self.strength * trust * _spread(exists)
                    residual = torch.lerp(residual, carried, share)
                kept = torch.where(_spread(is_same), kept, residual)
            before, exists = frame, torch.ones_like(exists)
            results.append(base + kept)
        result = torch.stack(results, dim=1).to(frames_BTCHW.dtype)
        return result, (before, kept, exists, *own)

    def _carry(self, frame: Tensor, before: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """The residual before, moved to this frame, and how far to believe it: (B, 1, sH, sW)."""
        now, then = frame.float().clamp(0, 1), before.float().clamp(0, 1)
        flow_B2HW = register(luma(now), luma(then))
        distance = (now - warp(then, flow_B2HW)).square().sum(dim=1, keepdim=True)
        trust = torch.exp(-_SHARPNESS * distance)
        size = kept.shape[-2:]
        large_B2HW = self.scale * _resized(flow_B2HW, size)
        return warp(kept, large_B2HW), _resized(trust, size).clamp(0, 1)


def warmup(strength: float) -> int:
    """Frames after which what the first one lacked weighs a hundredth, or nearly."""
    if strength <= 0:
        return 0
    return min(_MOST_WARMUP, math.ceil(math.log(_FORGOTTEN) / math.log(strength)))


def steady(model: Upscaler, strength: float) -> Upscaler:
    """A per-frame model as films are made with it; a strength of 0 changes no sample."""
    return Deflicker(model, strength) if strength else Once(model)


def _written(frames_BTCHW: Tensor, num_context: int) -> tuple[Tensor, ...]:
    """Each frame to write, (B, 3, H, W)."""
    kept = frames_BTCHW.shape[1] - num_context
    if kept < 1:
        raise ShapeError(f"{frames_BTCHW.shape[1]} frames, {num_context} of them context")
    return tuple(frames_BTCHW[:, t] for t in range(kept))


def _equal(frame: Tensor, before: Tensor) -> Tensor:
    """Which samples of the batch are equal, (B,) bool."""
    return (frame == before).flatten(1).all(dim=1)


def _spread(flags_B: Tensor) -> Tensor:
    return flags_B[:, None, None, None]


def _resized(picture: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(picture, size=tuple(size), mode="bilinear", align_corners=False)
