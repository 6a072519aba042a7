"""Frames that repeat the one before: a network of one frame makes the same of them."""

from __future__ import annotations

import numpy as np

from vsr.engine.lanes import Download
from vsr.frame import Frame, Plane


class Repeats:
    """The last frame of a shot and what was made of it.

    Compared are the samples as they were decoded, all of them, so that what is written does not
    depend on whether a frame was computed or taken from here. Video on twos, telecine that was
    undone badly and still pictures hold many of them.
    """

    def __init__(self) -> None:
        self._planes: tuple[Plane, ...] = ()
        self._made: Download | None = None

    def forget(self) -> None:
        """The next frame has none before it."""
        self._planes, self._made = (), None

    def find(self, frame: Frame) -> Download | None:
        """What was made of the frame before, if this is the same again."""
        if self._made is None or len(frame.planes) != len(self._planes):
            return None
        pairs = zip(frame.planes, self._planes, strict=True)
        return self._made if all(np.array_equal(now, before) for now, before in pairs) else None

    def note(self, frame: Frame, made: Download) -> None:
        """This is what became of a frame."""
        # Copied: a decoder that finds its pictures in use may make others of damage.
        self._planes, self._made = tuple(plane.copy() for plane in frame.planes), made
