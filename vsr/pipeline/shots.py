"""Find hard cuts: where one shot ends and the next begins.

Works on small pictures of luma alone, so that the result depends on the decoded source and on
nothing else, and looks a few frames ahead, so that a flash or a fade is not taken for a cut. A
missed cut costs a little ghosting in the frame after it, a false one a little detail.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from vsr.frame import Frame

Thumbnail = NDArray[np.float32]

_COLUMNS, _ROWS = 32, 18
_NUM_BESIDE = 4
"""Frames looked at on either side of a border; a flash up to this long is no cut."""
_MIN_CHANGE = 0.30
"""Least change of structure at a cut; see `change`."""
_MIN_OVER_USUAL = 2.5
"""How much more than its neighbours a border has to change: a fast pan changes all of them."""
_MIN_RETURN = 0.5
"""A picture that is again this much like the one before the border has not been cut away from."""
_NOISE = 1e-4
"""Variance of luma below which a picture counts as flat; luma is in [0, 1]."""
_MIN_STEP_OF_FLAT = 0.10
"""Mean change of luma that is a cut when one of the two pictures is flat."""


def thumbnail(frame: Frame) -> Thumbnail:
    """Reduce luma (green of RGB) to at most 18 x 32 block means.

    Returns:
        (rows, columns) float32, nominally [0, 1].
    """
    luma = frame.planes[0]
    height, width = luma.shape
    rows, columns = min(_ROWS, height), min(_COLUMNS, width)
    block_h, block_w = height // rows, width // columns
    cropped = luma[: rows * block_h, : columns * block_w]
    kind = np.float32 if frame.layout.is_float else np.uint32
    # Rows first: adding whole lines is what the processor does fastest.
    sums = cropped.reshape(rows, block_h, columns * block_w).sum(axis=1, dtype=kind)
    means = sums.reshape(rows, columns, block_w).sum(axis=2, dtype=np.float64)
    peak = 1.0 if frame.layout.is_float else float((1 << frame.layout.bits) - 1)
    picture: Thumbnail = (means / (block_h * block_w * peak)).astype(np.float32)
    return picture


def change(a: Thumbnail, b: Thumbnail) -> float:
    """How differently two pictures are structured: 0 alike, about 1 unrelated, 2 inverted.

    Gain and offset make no difference, so a fade or a lamp switched on changes little.
    """
    spread_a, spread_b = a - a.mean(), b - b.mean()
    variance_a, variance_b = float((spread_a**2).mean()), float((spread_b**2).mean())
    if min(variance_a, variance_b) < _NOISE:
        step = abs(float(a.mean()) - float(b.mean()))
        return 1.0 if step >= _MIN_STEP_OF_FLAT else 0.0
    covariance = float((spread_a * spread_b).mean())
    return 1.0 - covariance / math.sqrt(variance_a * variance_b)


class CutDetector:
    """Take the pictures of a film in order and say at which of them a new shot begins.

    Holds a handful of small pictures, whatever the length of the film.
    """

    def __init__(self) -> None:
        self._cuts: list[int] = []
        self._pictures: deque[Thumbnail] = deque(maxlen=2 * _NUM_BESIDE + 2)
        self._changes: deque[float] = deque(maxlen=2 * _NUM_BESIDE + 2)
        """`_changes[k]` is the change from the picture before `_pictures[k]` to that one."""
        self._num_pushed = 0
        self._kind: object = None

    def push_frame(self, frame: Frame) -> None:
        """Take the next frame; where its size, layout, colour or pixels change, a shot begins."""
        kind = (
            frame.width,
            frame.height,
            frame.layout,
            frame.color,
            frame.sample_aspect_ratio,
        )
        if self._num_pushed and kind != self._kind:
            self._restart()
        self._kind = kind
        self.push(thumbnail(frame))

    def push(self, picture: Thumbnail) -> None:
        """Take the next picture."""
        self._changes.append(change(self._pictures[-1], picture) if self._pictures else 0.0)
        self._pictures.append(picture)
        self._num_pushed += 1
        if len(self._pictures) > _NUM_BESIDE:
            self._judge(len(self._pictures) - 1 - _NUM_BESIDE)

    def finish(self) -> tuple[int, ...]:
        """End the film; the first frames of all shots but the first, rising."""
        self._judge_held()
        return tuple(self._cuts)

    def _judge_held(self) -> None:
        """Decide on the last pictures, which have fewer after them than others."""
        held = len(self._pictures)
        for place in range(max(0, held - _NUM_BESIDE), held):
            self._judge(place)

    def _restart(self) -> None:
        """Begin a shot with the next picture, which cannot be compared with those before."""
        self._judge_held()
        self._cuts.append(self._num_pushed)
        self._pictures.clear()
        self._changes.clear()

    def _judge(self, place: int) -> None:
        """Decide whether a shot begins at `_pictures[place]`."""
        here = self._changes[place]
        if place == 0 or here < _MIN_CHANGE:
            return
        # A cut blended over two frames is one cut, where most of it happens.
        after = self._changes[place + 1] if place + 1 < len(self._changes) else 0.0
        if after > here or (place > 1 and self._changes[place - 1] >= here):
            return
        beside = [
            self._changes[other]
            for other in range(max(1, place - _NUM_BESIDE), len(self._changes))
            if other != place and abs(other - place) <= _NUM_BESIDE
        ]
        if beside and here < _MIN_OVER_USUAL * float(np.median(beside)):
            return
        if self._returns(place, here):
            return
        self._cuts.append(self._num_pushed - len(self._pictures) + place)

    def _returns(self, place: int, here: float) -> bool:
        """Whether the picture before the border comes again soon, or the one after was there."""
        before, after = self._pictures[place - 1], self._pictures[place]
        limit = _MIN_RETURN * here
        later = range(place + 1, min(place + _NUM_BESIDE, len(self._pictures) - 1) + 1)
        earlier = range(max(0, place - 1 - _NUM_BESIDE), place - 1)
        return any(change(before, self._pictures[other]) < limit for other in later) or any(
            change(after, self._pictures[other]) < limit for other in earlier
        )
