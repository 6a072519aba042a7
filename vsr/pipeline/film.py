"""The film as the plan declares it: decoded, filled where pictures are lost, made progressive."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from vsr.frame import Frame, VideoInfo
from vsr.media.damage import DamageEvent
from vsr.media.hardware import Hardware
from vsr.media.reader import FrameReader, ReadWatcher
from vsr.pipeline.conceal import conceal
from vsr.pipeline.interlace import InterlacePlan, deinterlaced


class Film:
    """Frames of the declared timeline; iterate `frames` once, in one thread.

    Args:
        source: the file.
        info: of its video stream.
        threads: decoder threads, as planned.
        interlace: what is done to fields.
        concealed: times of lost pictures, in the source's time base.
        watcher: see `FrameReader`.
        end_pts: see `FrameReader`.
        is_damaged: whether pictures are known to be; they are then the same in every run.
        entry_pts: see `FrameReader`; there the film begins.
        entry_rank: frames before it, after concealment.
        hardware: see `FrameReader`.
    """

    def __init__(
        self,
        source: Path,
        info: VideoInfo,
        *,
        threads: int,
        interlace: InterlacePlan | None = None,
        concealed: Sequence[int] = (),
        watcher: ReadWatcher | None = None,
        end_pts: int | None = None,
        is_damaged: bool = False,
        entry_pts: int | None = None,
        entry_rank: int = 0,
        hardware: Hardware | None = None,
    ) -> None:
        self._source = source
        self._info = info
        self._threads = threads
        self._interlace = interlace or InterlacePlan()
        self._concealed = (
            concealed if entry_pts is None else [time for time in concealed if time > entry_pts]
        )
        self._watcher = watcher
        self._end_pts = end_pts
        self._is_damaged = is_damaged
        self._entry_pts = entry_pts
        self._entry_rank = entry_rank
        self._hardware = hardware
        self.ranks: list[int] = []
        """Under `ivtc`, once over: which frame before decimation each frame shows."""
        self.events: tuple[DamageEvent, ...] = ()
        """What the reader saw; complete when the iteration has ended."""

    def frames(self) -> Generator[Frame, None, None]:
        """All frames, in order.

        Raises:
            DecodeError, UnsupportedVideoError: as `FrameReader`, and when a filter refuses.
        """
        with FrameReader(
            self._source,
            info=self._info,
            threads=self._threads,
            watcher=self._watcher,
            follow_changes=True,
            end_pts=self._end_pts,
            copy_planes=self._is_damaged,
            entry_pts=self._entry_pts,
            hardware=self._hardware,
        ) as reader:
            try:
                whole = conceal(reader, self._concealed) if self._concealed else iter(reader)
                yield from deinterlaced(
                    whole, self._interlace, self._info, self.ranks, first_rank=self._entry_rank
                )
            finally:
                self.events = tuple(reader.events)
