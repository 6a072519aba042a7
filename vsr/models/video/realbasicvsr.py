"""RealBasicVSR (Chan et al., 2022, arXiv 2111.12704), for the public weights of its authors.

A cleaning network takes noise and compression out of the frames before BasicVSR sees them (figure
3), again and again while it still finds much to take out (section 3.2, dynamic refinement).

Whether to clean once more is decided over the frames of a call, look-ahead included, as the
published network decides it over the sequence it is given; each sample of a batch for itself. For
how several calls differ from one, see `basicvsr`; here the number of passes may differ as well.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vsr.models.layers import ConvResidualBlocks, compute_dtype
from vsr.models.upscaler import State
from vsr.models.video.basicvsr import BasicVSR, num_written


class RealBasicVSR(nn.Module):
    """The network, under the `Upscaler` and `FrameRenderer` contracts.

    Args:
        num_channels: of the features.
        num_blocks: residual blocks of each direction.
        num_cleaning_blocks: residual blocks of the cleaning network.
        threshold: mean absolute correction, samples in [0, 1], under which a picture is clean. The
            authors trained with one pass and advise 1.5 codes of 255 for use. It is not in their
            files.
    """

    scale = 4
    MAX_PASSES = 3

    def __init__(
        self,
        *,
        num_channels: int = 64,
        num_blocks: int = 20,
        num_cleaning_blocks: int = 20,
        threshold: float = 1.5 / 255,
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.cleaning = nn.Sequential(
            ConvResidualBlocks(3, num_channels, num_cleaning_blocks),
            nn.Conv2d(num_channels, 3, 3, padding=1),
        )
        self.basicvsr = BasicVSR(num_channels=num_channels, num_blocks=num_blocks)

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        """See `BasicVSR.init_state`; the previous frame is a cleaned one."""
        return self.basicvsr.init_state(batch, height, width, seed)

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        """See `Upscaler.upscale`."""
        features, state = self.propagate(frames_BTCHW, state, num_context)
        results = [
            self.render(frames_BTCHW[:, t], feature_BCHW) for t, feature_BCHW in enumerate(features)
        ]
        return torch.stack(results, dim=1), state

    def propagate(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[list[Tensor], State]:
        """See `FrameRenderer.propagate`.

        Returns:
            (B, 3 + C, H, W) float32 for each frame to write: the cleaned frame, on which the result
            is built, and its features.
        """
        num_written(frames_BTCHW, num_context)
        cleaned_BTCHW = self.clean(frames_BTCHW)
        features, state = self.basicvsr.propagate(cleaned_BTCHW, state, num_context)
        pairs = zip(cleaned_BTCHW.unbind(1), features, strict=False)
        return [torch.cat((frame, feature.float()), dim=1) for frame, feature in pairs], state

    def render(self, frame_BCHW: Tensor, feature_BCHW: Tensor) -> Tensor:
        """See `FrameRenderer.render`; of the frame, only its dtype matters."""
        result = self.basicvsr.render(feature_BCHW[:, :3], feature_BCHW[:, 3:])
        return result.to(frame_BCHW.dtype)

    def clean(self, frames_BTCHW: Tensor) -> Tensor:
        """Clean frames up to three times, until a pass changes them by less than the threshold.

        Args:
            frames_BTCHW: (B, T, 3, H, W), nominally [0, 1], any float dtype.

        Returns:
            The same shape, float32.
        """
        frames = list(frames_BTCHW.float().unbind(1))
        is_dirty = torch.ones(len(frames[0]), 1, 1, 1, dtype=torch.bool, device=frames[0].device)
        for _ in range(self.MAX_PASSES):
            change = torch.zeros_like(is_dirty, dtype=torch.float32)
            # Frame by frame: a whole call's features at once would fill the memory.
            for t, frame in enumerate(frames):
                residual: Tensor = self.cleaning(frame.to(compute_dtype(self))).float()
                change = change + residual.abs().mean(dim=(1, 2, 3), keepdim=True)
                frames[t] = torch.where(is_dirty, frame + residual, frame)
            is_dirty = is_dirty & (change / len(frames) >= self.threshold)
            # Without numbers, to count what it costs, it is the most that it can cost.
            if not is_dirty.is_meta and not bool(is_dirty.any()):
                break
        return torch.stack(frames, dim=1)
