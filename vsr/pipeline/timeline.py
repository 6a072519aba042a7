"""When every frame of a film is shown, as small plain data.

The plan keeps the integer pts and duration of every source frame. Steps between neighbours repeat,
so they are stored as runs: a film of constant frame rate takes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise, repeat
from typing import Self

from pydantic import BaseModel, ConfigDict

Runs = tuple[tuple[int, int], ...]
"""(value, how many times in a row)."""


def pack_runs(values: Iterable[int]) -> Runs:
    """Join equal neighbours."""
    runs: list[tuple[int, int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    return tuple(runs)


def unpack_runs(runs: Runs) -> Iterator[int]:
    """The values again."""
    return chain.from_iterable(repeat(value, count) for value, count in runs)


class Timeline(BaseModel):
    """pts and duration of each frame, in units of the source's time base."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_pts: int
    steps: Runs
    """From each frame's pts to the next one's."""
    duration_runs: Runs
    """Of each frame; 0 where the source does not say."""

    @classmethod
    def from_frames(cls, pts: Sequence[int], durations: Sequence[int]) -> Self:
        """Pack the times of at least one frame."""
        assert len(pts) == len(durations) >= 1
        steps = pack_runs(after - before for before, after in pairwise(pts))
        return cls(first_pts=pts[0], steps=steps, duration_runs=pack_runs(durations))

    @property
    def num_frames(self) -> int:
        return sum(count for _, count in self.duration_runs)

    def pts(self) -> list[int]:
        """Of every frame, rising."""
        return list(accumulate(unpack_runs(self.steps), initial=self.first_pts))

    def durations(self) -> list[int]:
        """Of every frame; 0 where unknown."""
        return list(unpack_runs(self.duration_runs))
