"""Are these the same pictures? Compare each frame of a result with its own and its neighbours.

Both films come as the cells of `sampling`.

Bounds, in codes of 0 to 255:
- order: no neighbour within 3 is nearer to a frame than its own source frame by more than 0.5 codes
  squared or a tenth, whichever is more; closer ones count as ties, as in a still scene, and so do
  source frames that differ by less than half of what the result differs from them. Of a
  deinterlaced film up to half of the frames may be nearer to the frame before or after, with which
  telecined frames share a moment;
- likeness: PSNR of luma at least 20 dB, or an error below a quarter of the picture's variance;
- colour: means over up to 4x4 fields of every frame within 12, or within a fifth of the standard
  deviation in a field with wild colours, as damage makes; of the whole film within 2.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vsr.frame import Frame
from vsr.pipeline.sampling import Cells, Sampler, View

REACH = 3
"""Neighbours looked at before and after."""
TIE_SQUARED_CODES = 0.5
TIE_SHARE = 0.1
TIE_ALIKE = 0.5
"""Of still pictures a source may hold the noise of its codec alone, which a new encode drops."""
MAX_SHARED = 0.5
MIN_PSNR_DB = 20.0
MIN_PSNR_DEINTERLACED_DB = 10.0
"""Half of the rows of a combed picture belong to another moment, which is gone from the result."""
MAX_ERROR_SHARE = 0.25
MAX_FIELD_CODES = 12.0
MAX_FIELD_SHARE = 0.2
MAX_FILM_CODES = 2.0
MAX_FIELD_CODES_DEINTERLACED = 48.0
"""What moves stands elsewhere in a picture of one moment than in one of two."""
_FIELDS = 4
_MIN_FIELD_CELLS = 8
"""Colours of smaller fields say more of their neighbours, from which chroma flows in."""


@dataclass(slots=True)
class Likeness:
    """What was found so far."""

    min_psnr_db: float = MIN_PSNR_DB
    max_field_codes: float = MAX_FIELD_CODES
    is_deinterlaced: bool = False
    num_frames: int = 0
    """Frames of the result that were compared."""
    misplaced: list[tuple[int, int]] = field(default_factory=list)
    """(frame of the result, source frame that is nearer than its own), the first few."""
    num_far: int = 0
    """Frames that are nearer to another than their own; next to it ones apart where that may be."""
    num_next: int = 0
    num_skipped: int = 0
    """Frames whose source has another shape than the first."""
    num_unlike: int = 0
    num_discolored: int = 0
    worst_psnr_db: float = math.inf
    worst_frame: int = 0
    worst_field_codes: float = 0.0
    worst_field_frame: int = 0
    first_unlike: int | None = None
    first_discolored: int | None = None
    _sum_difference: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))

    @property
    def num_misplaced(self) -> int:
        """Frames that are not nearest to their own source frame, and have to be."""
        may_share = self.is_deinterlaced and self.num_next <= MAX_SHARED * self.num_frames
        return self.num_far + (0 if may_share else self.num_next)

    @property
    def film_codes(self) -> tuple[float, float, float]:
        """By how much R, G and B of the whole film differ, in codes."""
        red, green, blue = self._sum_difference / max(1, self.num_frames)
        return float(red), float(green), float(blue)

    def add(self, rank: int, own: int, result: View, sources: dict[int, View]) -> None:
        """Judge one frame of the result.

        Args:
            rank: of the frame in the result.
            own: rank of its source frame.
            result: the frame.
            sources: the source frames around its own, by rank.
        """
        self.num_frames += 1
        errors = {
            other: float(np.mean(np.square(result.luma - view.luma)))
            for other, view in sources.items()
        }
        nearest = min(errors, key=lambda other: (errors[other], abs(other - own)))
        best, error = errors[nearest], errors[own]
        is_nearer = error > best + max(TIE_SQUARED_CODES, TIE_SHARE * best)
        if is_nearer and not _are_alike(sources[own], sources[nearest], best):
            if self.is_deinterlaced and abs(nearest - own) == 1:
                self.num_next += 1
            else:
                self.num_far += 1
            if len(self.misplaced) < 3:
                self.misplaced.append((rank, nearest))
        self._judge_likeness(rank, error, sources[own])
        self._judge_color(rank, result.rgb, sources[own].rgb)

    def _judge_likeness(self, rank: int, error: float, source: View) -> None:
        psnr_db = 10 * math.log10(255**2 / error) if error > 0 else math.inf
        if psnr_db < self.worst_psnr_db:
            self.worst_psnr_db, self.worst_frame = psnr_db, rank
        variance = float(np.var(source.luma))
        if psnr_db < self.min_psnr_db and error > MAX_ERROR_SHARE * variance:
            self.num_unlike += 1
            if self.first_unlike is None:
                self.first_unlike = rank

    def _judge_color(self, rank: int, result: Cells, source: Cells) -> None:
        # What lies outside of these codes nobody sees; damage puts colours far out there.
        difference = np.clip(result, 0, 255) - np.clip(source, 0, 255)
        self._sum_difference += difference.mean(axis=(1, 2), dtype=np.float64)
        worst, is_off = 0.0, False
        for number, part in enumerate(_fields(difference)):
            codes = np.abs(part.mean(axis=(1, 2)))
            if codes.max() > self.max_field_codes:
                before = next(islice(_fields(source), number, None))
                is_off |= float(codes.max()) > self._field_limit(before)
            worst = max(worst, float(codes.max()))
        if worst > self.worst_field_codes:
            self.worst_field_codes, self.worst_field_frame = worst, rank
        if is_off:
            self.num_discolored += 1
            if self.first_discolored is None:
                self.first_discolored = rank

    def _field_limit(self, source: Cells) -> float:
        """How far the colours of a field may be off."""
        spread = source.std(axis=(1, 2)).max()
        return max(self.max_field_codes, MAX_FIELD_SHARE * float(spread))


def _are_alike(own: View, other: View, error: float) -> bool:
    """Whether two source frames are too much alike to be told apart behind an error."""
    return float(np.mean(np.square(own.luma - other.luma))) <= TIE_ALIKE * error


def _fields(cells: Cells) -> Iterator[Cells]:
    """Parts of a picture, row by row."""
    rows, columns = (max(1, min(_FIELDS, n // _MIN_FIELD_CELLS)) for n in cells.shape[1:])
    for strip in np.array_split(cells, rows, axis=1):
        yield from np.array_split(strip, columns, axis=2)


class SourceWindow:
    """The source frames around a rank, read as far as needed and no further.

    Args:
        frames: of the source, in order of display.
        sampler: of the source.
    """

    def __init__(self, frames: Iterable[Frame], sampler: Sampler) -> None:
        self._frames: Iterator[Frame] = iter(frames)
        self._sampler = sampler
        self._held: deque[tuple[int, View | None]] = deque()
        self._num_read = 0

    def around(self, rank: int) -> dict[int, View]:
        """Views by rank, from `rank - REACH` to `rank + REACH`; ranks must not fall by more.

        Frames that cannot be compared are left out.
        """
        while self._num_read <= rank + REACH:
            frame = next(self._frames, None)
            if frame is None:
                break
            if self._num_read >= rank - REACH:
                self._held.append((self._num_read, self._sampler.view(frame)))
            self._num_read += 1
        while self._held and self._held[0][0] < rank - 2 * REACH:
            self._held.popleft()
        return {
            held: view
            for held, view in self._held
            if view is not None and abs(held - rank) <= REACH
        }

    def finish(self) -> None:
        """Read the source to its end."""
        for _ in self._frames:
            self._num_read += 1
