"""A film whose segments are made by several workers at a time, wherever they are.

One worker plans the film and stops there; its segments are handed out in stretches; and `make`,
called again, finds them all made and is left to join and check. Between the two, who hands out
holds the film's journal and enters in it what is made: nobody else writes it.

Each stretch starts a process and loads the model, so that a film of fewer than `LEAST_PARTED`
segments is not parted: the worker that has planned it makes it. Nor is a film of a store, of which
each worker would need a copy.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsr.batch.storage import Remote
from vsr.batch.work import make
from vsr.config import UpscaleConfig
from vsr.errors import JobCancelledError, VsrError
from vsr.pipeline.journal import Journal
from vsr.pipeline.plan import Plan
from vsr.pipeline.segment import SegmentResult
from vsr.pipeline.workers import open_workers

if TYPE_CHECKING:
    from vsr.pipeline.result import UpscaleResult
    from vsr.pipeline.worker import Job

LEAST_PARTED = 3
"""Segments that are still to be made, from which on they are handed out."""
SEGMENT = "segment"
"""First of what a worker says of a stretch; then come the film's `token`, the segment's index, its
frames so far, and its `SegmentResult` once it is made."""
_MOST_IN_STRETCH = 8


class _PartedError(JobCancelledError):
    """A film is planned, and others are to make it."""

    def __init__(self, plan: Plan, indices: Sequence[int], output: Path) -> None:
        super().__init__("parted")
        self.plan = plan
        self.indices = tuple(indices)
        self.output = output


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """A film that is planned, and to be made by several."""

    plan: Plan
    indices: tuple[int, ...]
    """Of the segments to make."""
    output: Path
    """The result's name, as its journal knows it."""
    seconds: float
    """That planning took."""
    config: UpscaleConfig
    """What is asked for."""
    arguments: tuple[Any, ...]
    """Of the call of `make` that finishes it."""


def make_or_part(
    job: Job,
    source: Path | Remote,
    output: Path,
    target: Remote | None,
    config: UpscaleConfig,
    fresh: int,
) -> UpscaleResult | Parted:
    """As `make`, but a film of many segments is handed back when it is planned."""
    began_s = time.perf_counter()
    # This process does one thing at a time; what else there is to do has others to do it.
    config = config.model_copy(update={"workers": 1})
    on_planned = None if isinstance(source, Remote) else _part
    try:
        return make(job, source, output, target, config, fresh, on_planned=on_planned)
    except _PartedError as parted:
        return Parted(
            plan=parted.plan,
            indices=parted.indices,
            output=parted.output,
            seconds=time.perf_counter() - began_s,
            config=config,
            # What was to be forgotten is forgotten by now.
            arguments=(source, output, target, config, min(fresh, 1)),
        )


def _part(plan: Plan, indices: Sequence[int], output: Path) -> None:
    if len(indices) >= LEAST_PARTED:
        raise _PartedError(plan, indices, output)


def make_stretch(
    job: Job,
    plan: Plan,
    indices: Sequence[int],
    output: Path,
    config: UpscaleConfig,
    token: str,
) -> list[SegmentResult]:
    """Make some segments of a parted film, in a folder that no other worker writes to.

    Args:
        job: of the worker; told of each segment as it is made.
        plan: of the film.
        indices: of the segments.
        output: as `Parted.output`.
        config: by which segments are made in processes of their own or not; for bytes, the plan
            says all.
        token: as `Film.token`.

    Raises:
        VsrError: as `run_segment`; what was made before still counts.
    """
    made: list[SegmentResult] = []

    def on_frame(index: int, num_done: int, _: object) -> None:
        job.say(SEGMENT, token, index, num_done, None)

    def on_done(result: SegmentResult) -> None:
        made.append(result)
        job.say(SEGMENT, token, result.index, result.num_frames, result, now=True)

    with open_workers(config) as workers:
        workers.run(
            plan,
            indices,
            Journal(output).desk(),
            on_frame=on_frame,
            on_done=on_done,
            should_stop=lambda: False,
        )
    return made


class Film:
    """A parted film: which of its segments wait, and which are made and entered.

    Holds the film's journal until it is closed.

    Args:
        parted: what was planned.
        node: where.

    Raises:
        OutputError: somebody else has the journal by now.
    """

    def __init__(self, parted: Parted, node: str = "") -> None:
        self.parted = parted
        self.node = node
        """Where it was planned."""
        self.token = uuid.uuid4().hex
        """By which what is said of this film is known from what was said of it in earlier tries."""
        self.num_lost = 0
        """Stretches lost since a segment was last entered."""
        self._waiting = deque(parted.indices)
        ours = frozenset(parted.indices)
        self._frames = {s.index: s.num_frames for s in parted.plan.segments if s.index not in ours}
        self._work_s = parted.seconds
        with ExitStack() as holding:
            self._journal = holding.enter_context(Journal(parted.output))
            self._journal.take_over(parted.plan)
            self._holding = holding.pop_all()

    def close(self, error: VsrError | None = None) -> None:
        """Let go of the journal; what is entered stays, and so does the plan without an error."""
        self._holding.__exit__(None if error is None else type(error), error, None)

    @property
    def num_waiting(self) -> int:
        """Segments that nobody works at."""
        return len(self._waiting)

    @property
    def is_made(self) -> bool:
        """Whether all segments are entered."""
        return len(self._journal.done) == len(self.parted.indices)

    @property
    def num_frames(self) -> int:
        """Frames that are made, those of unfinished segments among them."""
        return sum(self._frames.values())

    def take(self, num_workers: int) -> tuple[int, ...]:
        """A stretch to make: long ones first, and short ones last, so that all end together.

        Args:
            num_workers: how many share what waits.
        """
        share = len(self._waiting) // (2 * num_workers)
        count = min(max(1, share), _MOST_IN_STRETCH, len(self._waiting))
        return tuple(self._waiting.popleft() for _ in range(count))

    def give_back(self, indices: Sequence[int]) -> None:
        """A stretch was lost: have what is not entered of it wait again."""
        self.num_lost += 1
        left = [index for index in indices if index not in self._journal.done]
        self._waiting.extendleft(reversed(left))
        for index in left:
            self._frames.pop(index, None)

    def hear(self, index: int, num_done: int, result: SegmentResult | None = None) -> None:
        """Note how far a segment is, and enter it once it is made.

        Raises:
            OutputError: the disk refuses.
        """
        if index in self._journal.done:
            return
        self._frames[index] = num_done
        if result is not None:
            self._journal.add(result)
            if index in self._waiting:
                # Its worker was taken for lost, and had finished it.
                self._waiting.remove(index)
            self._work_s += result.times.wall_s
            self.num_lost = 0

    def told(self, result: UpscaleResult) -> UpscaleResult:
        """What the last worker says of the film, with what the others have done."""
        return result.model_copy(
            update={
                "seconds": round(result.seconds + self._work_s, 3),
                "resumed_segments": len(self.parted.plan.segments) - len(self.parted.indices),
            }
        )
