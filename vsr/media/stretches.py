"""Stretches of a film that are taken, and where everything in them comes to lie (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from vsr.media.probe import Chapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of the source's clock, in seconds, end exclusive; None is the film's own end."""

    start: Fraction | None
    end: Fraction | None
    shift: Fraction
    """What is added to a time of the source to get that of the result."""

    def holds(self, time: Fraction) -> bool:
        """Whether what begins at `time` is taken."""
        return (self.start is None or time >= self.start) and (self.end is None or time < self.end)


def find_stretch(time: Fraction, stretches: Sequence[Stretch]) -> Stretch | None:
    """The stretch in which something that begins at `time` is taken; None when it is left out."""
    return next((stretch for stretch in stretches if stretch.holds(time)), None)


def cut_chapters(chapters: Sequence[Chapter], stretches: Sequence[Stretch]) -> list[Chapter]:
    """The chapters of what was taken, each clipped to it; one that a joint divides stays one.

    Args:
        chapters: of the source.
        stretches: in order, end to start on the result's clock.
    """
    cut: list[Chapter] = []
    last: tuple[int, Fraction] | None = None
    for stretch in stretches:
        for number, chapter in enumerate(chapters):
            start, end = chapter.start * chapter.time_base, chapter.end * chapter.time_base
            if stretch.start is not None:
                start = max(start, stretch.start)
            if stretch.end is not None:
                end = min(end, stretch.end)
            if end <= start:
                continue
            begins, ends = (_ticks(t + stretch.shift, chapter.time_base) for t in (start, end))
            if last == (number, start + stretch.shift):
                cut[-1] = _moved(cut[-1], len(cut), cut[-1].start, ends)
            else:
                cut.append(_moved(chapter, len(cut) + 1, begins, ends))
            last = number, end + stretch.shift
    return cut


def _moved(chapter: Chapter, number: int, start: int, end: int) -> Chapter:
    return Chapter(
        id=number,
        start=start,
        end=end,
        time_base=chapter.time_base,
        metadata=chapter.metadata,
    )


def _ticks(time: Fraction, time_base: Fraction) -> int:
    return round(time / time_base)
