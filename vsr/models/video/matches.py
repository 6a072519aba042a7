"""What flowprop knows of neighbouring frames: the flow between them, and where it fails."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vsr.models.flow import FlowNet, box_mean, warp


@dataclass(frozen=True, slots=True)
class Match:
    """One frame and its neighbour."""

    flow: Tensor | None
    """(B, 2, H, W) to the neighbour; None where both are equal."""
    warped: Tensor
    """The neighbour on the frame's grid."""
    error: Tensor
    """(B, 1, H, W): how much they differ then."""


Found = tuple[Tensor | None, Tensor, tuple[Tensor, ...]]
"""Flow and error of a match, and what else comes with the state."""


class Matches:
    """Flows and mismatches between neighbouring frames of one call.

    Found pair by pair, not a whole chunk at once: that would hold some ten full-size maps for every
    frame of the chunk.

    Args:
        network: that finds flows.
        frames: the frame before the call's first, then the call's.
        keep: what was found is asked for more than once.
    """

    def __init__(self, network: FlowNet, frames: list[Tensor], *, keep: bool) -> None:
        self._network, self._frames, self._keep = network, frames, keep
        self._kept: dict[tuple[int, int], Match] = {}
        self._looks: dict[int, list[Tensor]] = {}

    def before(self, t: int) -> Found:
        """From frame t of the call to the one before."""
        match = self._kept.get((t + 1, t)) or self._find((t + 1, t))[0]
        if not self._keep:
            self._kept.pop((t + 1, t), None)
        return match.flow, match.error, ()

    def after(self, t: int) -> Found:
        """From frame t of the call to the next."""
        ahead, back = (t + 1, t + 2), (t + 2, t + 1)
        match = self._kept.get(ahead)
        if match is None:
            # Both ways at once: two small pictures take little longer than one.
            match, self._kept[back] = self._find(ahead, back)
        if self._keep:
            self._kept[ahead] = match
        return match.flow, match.error, ()

    def both(self, t: int) -> Found:
        """As `before`, and what the aligned next frame adds to frame t, if there is one."""
        frame = self._frames[t + 1]
        if t + 2 == len(self._frames):
            flow, error, _ = self.before(t)
            return flow, error, (torch.zeros_like(frame),)
        back, ahead = self._find((t + 1, t), (t + 1, t + 2))
        # Nothing where it is occluded.
        added = (ahead.warped - frame) * torch.exp(-20.0 * ahead.error)
        return back.flow, back.error, (added,)

    def _find(self, *pairs: tuple[int, int]) -> list[Match]:
        """What becomes of each second frame on the grid of the first, in one pass."""
        moved = [pair for pair in pairs if not self._is_repeated(*pair)]
        found = iter(self._computed(moved) if moved else ())
        return [next(found) if pair in moved else self._unmoved(*pair) for pair in pairs]

    def _is_repeated(self, a: int, b: int) -> bool:
        """Whether one frame is the other again, sample by sample."""
        frame, other = self._frames[a], self._frames[b]
        # A GPU would have to be waited for, and costs less to find that nothing moved.
        return frame.device.type == "cpu" and torch.equal(frame, other)

    def _unmoved(self, a: int, b: int) -> Match:
        frame = self._frames[a]
        return Match(None, self._frames[b], torch.zeros_like(frame[:, :1]))

    def _computed(self, pairs: list[tuple[int, int]]) -> list[Match]:
        frames, others = ([self._frames[pair[side]] for pair in pairs] for side in (0, 1))
        refs, seen = (
            [torch.cat(level) for level in zip(*looks, strict=True)]
            for looks in ([self._look(pair[side]) for pair in pairs] for side in (0, 1))
        )
        flow = self._network.between(refs, seen, *frames[0].shape[-2:])
        warped = warp(torch.cat(others), flow)
        error = (torch.cat(frames) - warped).abs().mean(dim=1, keepdim=True)
        parts = (part.chunk(len(pairs)) for part in (flow, warped, box_mean(error, 3)))
        return [Match(*each) for each in zip(*parts, strict=True)]

    def _look(self, number: int) -> list[Tensor]:
        """What the network sees of a frame; only those that may be asked for next are held."""
        if number not in self._looks:
            self._looks = {k: v for k, v in self._looks.items() if abs(k - number) <= 1}
            self._looks[number] = self._network.look_at(self._frames[number])
        return self._looks[number]
