"""Group the frames of one shot into model calls. Pure: knows nothing of tensors or devices.

A call takes `chunk` frames that are written and `context` frames that are only looked at; the
looked-at frames come again as the first frames of the next call. Every call of a shot has the same
size except the last, which takes whatever is left and has no look-ahead, unless the shot goes on
elsewhere: then it looks at frames that are written there. Nothing here spans a cut: a chunker lives
for one shot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChunkGrid:
    """How many frames one call writes and looks ahead at."""

    chunk: int
    """Frames written per call, in every call but a shot's last; at least 1."""
    context: int = 0
    """Look-ahead frames per call, in every call but a shot's last; at least 0."""

    def __post_init__(self) -> None:
        assert self.chunk >= 1, self.chunk
        assert self.context >= 0, self.context

    @property
    def num_frames(self) -> int:
        """Frames handed to the model in a full call: the T of its input."""
        return self.chunk + self.context


@dataclass(frozen=True, slots=True)
class Chunk(Generic[T]):
    """The frames of one call; the last `num_context` of them come again in the next call."""

    items: tuple[T, ...]
    num_context: int

    @property
    def num_written(self) -> int:
        """Frames that this call writes."""
        return len(self.items) - self.num_context


@dataclass(slots=True)
class Chunker(Generic[T]):
    """Collect the frames of one shot of unknown length and say when a call is full.

    Holds at most `grid.num_frames` items.
    """

    grid: ChunkGrid
    _held: list[T] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """No frame waits for its call."""
        return not self._held

    def push(self, item: T) -> Chunk[T] | None:
        """Take the shot's next frame; return a call when it is full."""
        self._held.append(item)
        if len(self._held) < self.grid.num_frames:
            return None
        call = Chunk(tuple(self._held), self.grid.context)
        del self._held[: self.grid.chunk]
        return call

    def finish(self, num_context: int = 0) -> Chunk[T] | None:
        """End the shot: the call over all that is left, or None when nothing is to be written.

        Args:
            num_context: of the last frames pushed, so many are only looked at; at most
                `grid.context`, so that no call before this one has written them.
        """
        assert 0 <= num_context <= self.grid.context, num_context
        call = Chunk(tuple(self._held), num_context)
        self._held.clear()
        return call if call.num_written > 0 else None


def iterate_chunks(items: Iterable[T], grid: ChunkGrid) -> Iterator[Chunk[T]]:
    """Yield the calls of one whole shot."""
    chunker: Chunker[T] = Chunker(grid)
    for item in items:
        call = chunker.push(item)
        if call is not None:
            yield call
    call = chunker.finish()
    if call is not None:
        yield call
