"""Multi-frame reconstruction without training: the baseline for networks that see neighbours.

Frames y_k of a scene x are small pictures of it, each moved: y_k = D W_k x, with W_k the motion and
D the blur and decimation of bicubic shrinking. The scene is found by iterative back-projection
(Irani and Peleg, 1991): what the guess predicts is compared with what was seen, and the difference
is carried back:

    x <- x + a sum_k W_k^T U v_k r_k / sum_k W_k^T U v_k,    r_k = y_k - D W_k x

with weights v_k of Tukey's biweight, so that what was registered wrongly or is hidden has no say
(in place of the L1 norm of Farsiu et al., 2004, equation 10). The first pass of it, from the
interpolated frame, is their shift-and-add. Luma is reconstructed; colour is interpolated.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.errors import ShapeError
from vsr.models.blur import GaussianBlur, separated, taps
from vsr.models.flow import luma
from vsr.models.image.interpolation import imresize
from vsr.models.registration import register
from vsr.models.upscaler import State

_TUKEY = 4.685
"""Cut-off over the scale of the residuals: 95 % efficiency for Gaussian ones."""
_MIN_SIGMA = 6.0 / 255
"""Below this, residuals are no sign of a wrong registration: the guess lacks detail as yet."""
_MATCH_WINDOW = 5
_MATCH_ERROR = 0.06
"""Mean mismatch over a window of small pixels, samples in [0, 1], at which belief falls to 1/e."""


class Reconstruction(nn.Module):
    """Registration, shift-and-add, back-projection; keeps the `Upscaler` contract.

    Args:
        scale: integer factor of enlargement.
        radius: frames used on each side.
        num_iterations: of back-projection.
        step: by how much each one goes beyond the mean of what is carried back.
        own_weight: of the frame itself among its neighbours, which are registered less surely.
        blur: D of the file's head; None is that of bicubic shrinking.
    """

    place: Tensor
    """Empty; says on which device the model is."""

    def __init__(
        self,
        scale: int = 4,
        radius: int = 2,
        num_iterations: int = 8,
        step: float = 1.7,
        own_weight: float = 4.0,
        blur: GaussianBlur | None = None,
    ) -> None:
        super().__init__()
        self.scale, self.radius = scale, radius
        self.num_iterations, self.step, self.own_weight = num_iterations, step, own_weight
        self._passes = _passes(scale, blur)
        self.register_buffer("place", torch.zeros(0), persistent=False)

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        """The last `radius` frames (B, R, 3, H, W), and which of them exist (B, R)."""
        device = self.place.device
        return (
            torch.zeros(batch, self.radius, 3, height, width, device=device),
            torch.zeros(batch, self.radius, device=device),
        )

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        """See `Upscaler.upscale`."""
        length = frames_BTCHW.shape[1]
        if frames_BTCHW.shape[2] != 3 or not 0 <= num_context < length:
            raise ShapeError(
                f"expected (B, T, 3, H, W) with T > {num_context} context frames, "
                f"got {tuple(frames_BTCHW.shape)}"
            )
        before_BRCHW, exists_BR = state
        kept = length - num_context
        frames = torch.cat((before_BRCHW.float(), frames_BTCHW.float()), dim=1)
        exists_BT = torch.cat((exists_BR, exists_BR.new_ones(len(frames), length)), dim=1)
        flows = _Flows(frames)
        results = [
            self._reconstruct(frames, exists_BT, self.radius + t, flows) for t in range(kept)
        ]
        last = slice(kept, kept + self.radius)
        state = (frames[:, last].contiguous(), exists_BT[:, last].contiguous())
        return torch.stack(results, dim=1).to(frames_BTCHW.dtype), state

    def _reconstruct(
        self, frames_BTCHW: Tensor, exists_BT: Tensor, t: int, flows: _Flows
    ) -> Tensor:
        """Frame t enlarged: (B, 3, sH, sW)."""
        start = imresize(frames_BTCHW[:, t], scale=self.scale)
        near = range(t - self.radius, min(t + self.radius + 1, frames_BTCHW.shape[1]))
        others = [k for k in near if k != t]
        batch = len(start)
        seen_NCHW = torch.cat([flows.luma(t), *(flows.luma(k) for k in others)])
        weights = [exists_BT[:, t] * self.own_weight, *(exists_BT[:, k] for k in others)]
        own_NCHW = flows.luma(t).repeat(len(others) + 1, 1, 1, 1)
        still = torch.zeros_like(flows.luma(t)).expand(-1, 2, -1, -1)
        # Where the small pixels of each frame lie in the large picture of this one, and where
        # the pixels of that lie in each small frame.
        to_here = torch.cat([still, *(flows.between(k, t) for k in others)])
        from_here = torch.cat([still, *(flows.between(t, k) for k in others)])
        down_NHW2 = _grid(to_here, 1)
        weight_N1HW = torch.cat(weights)[:, None, None, None] * _match(
            seen_NCHW, _sample(own_NCHW, down_NHW2, "bilinear")
        )
        large = F.interpolate(from_here, scale_factor=self.scale, mode="bilinear")
        up_NHW2 = _grid(large, self.scale)
        guess = luma(start)
        first = guess
        for _ in range(self.num_iterations):
            blurred = self._blurred(guess).repeat(len(others) + 1, 1, 1, 1)
            predicted = _sample(blurred, down_NHW2, "bicubic")
            residual = seen_NCHW - predicted
            trust = weight_N1HW * _tukey(residual)
            back = _sample(torch.cat((trust * residual, trust), dim=1), up_NHW2, "bilinear")
            sums = back.view(len(others) + 1, batch, 2, *back.shape[-2:]).sum(dim=0)
            guess = guess + self.step * sums[:, :1] / sums[:, 1:].clamp(min=1e-3)
        return start + (guess - first)

    def _blurred(self, x_B1HW: Tensor) -> Tensor:
        """What shrinking averages, before it takes samples; edges repeated."""
        sums = [_along(_along(x_B1HW, rows, -2), columns, -1) for rows, columns in self._passes]
        return sums[0] if len(sums) == 1 else torch.stack(sums).sum(dim=0)


def _along(x_B1HW: Tensor, taps: list[float], axis: int) -> Tensor:
    """Filter along one axis, as a sum of shifted pictures.

    A convolution of one channel has no fast path on a CPU.
    """
    radius = len(taps) // 2
    padding = (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius)
    padded = F.pad(x_B1HW, padding, mode="replicate")
    length = x_B1HW.shape[axis]
    result = padded.narrow(axis, 0, length) * taps[0]
    for shift, tap in enumerate(taps[1:], start=1):
        result.add_(padded.narrow(axis, shift, length), alpha=tap)
    return result


def _passes(scale: int, blur: GaussianBlur | None) -> list[tuple[list[float], list[float]]]:
    """Vertical and horizontal filters at whole pixels, whose products add up to the blur."""
    if blur is None:
        return [(_blur_taps(scale), _blur_taps(scale))]
    side = 2 * max(1, math.ceil(3 * scale * blur.major)) + 1
    parts = separated(taps(blur, scale, side), smallest=1e-2)
    return [(rows.tolist(), columns.tolist()) for rows, columns in parts]


class _Flows:
    """Luma of the frames of one call and the flows between them, each made once."""

    def __init__(self, frames_BTCHW: Tensor) -> None:
        self._frames = frames_BTCHW
        self._lumas: dict[int, Tensor] = {}
        self._flows: dict[tuple[int, int], Tensor] = {}

    def luma(self, t: int) -> Tensor:
        if t not in self._lumas:
            self._lumas[t] = luma(self._frames[:, t])
        return self._lumas[t]

    def between(self, a: int, b: int) -> Tensor:
        """From a's grid to where b must be sampled: (B, 2, H, W)."""
        if (a, b) not in self._flows:
            self._flows[a, b] = register(self.luma(a), self.luma(b))
        return self._flows[a, b]


def _blur_taps(scale: int) -> list[float]:
    """Keys' cubic (1981, equation 4, a = -0.5) stretched by the scale, at whole pixels."""
    if scale == 1:
        return [1.0]
    reach = 2 * scale - 1
    distance = torch.arange(-reach, reach + 1).abs() / scale
    near = ((1.5 * distance - 2.5) * distance) * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    taps = torch.where(distance <= 1, near, far)
    return (taps / taps.sum()).tolist()


def _grid(flow_B2HW: Tensor, step: int) -> Tensor:
    """Where flow leads, as `grid_sample` wants it: -1 to 1 from edge to edge, (B, H, W, 2).

    Args:
        flow_B2HW: in pixels of the small pictures.
        step: pixels of this grid per such pixel.
    """
    height, width = flow_B2HW.shape[-2:]
    xs = (torch.arange(width, device=flow_B2HW.device) + 0.5) / step
    ys = (torch.arange(height, device=flow_B2HW.device)[:, None] + 0.5) / step
    x = (xs + flow_B2HW[:, 0]) * (2 * step / width) - 1
    y = (ys + flow_B2HW[:, 1]) * (2 * step / height) - 1
    return torch.stack((x, y), dim=-1)


def _sample(image: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=False)


def _match(seen_N1HW: Tensor, warped_N1HW: Tensor) -> Tensor:
    """How far a registration can be believed: 1 where a neighbourhood matches, 0 where it fails."""
    error = (seen_N1HW - warped_N1HW).abs()
    error = F.avg_pool2d(error, _MATCH_WINDOW, 1, _MATCH_WINDOW // 2, count_include_pad=False)
    return torch.exp(-(error / _MATCH_ERROR).square())


def _tukey(residual_NCHW: Tensor) -> Tensor:
    """Tukey's biweight of each residual, scaled by their median over the picture."""
    median_N = residual_NCHW.abs().flatten(1).median(dim=1).values
    sigma = (1.4826 * median_N).clamp(min=_MIN_SIGMA)[:, None, None, None]
    return (1 - (residual_NCHW / (_TUKEY * sigma)).square()).clamp(min=0).square()
