"""What one segment reads of the film: its own frames, warm-up before and look-ahead after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from vsr.errors import DecodeError, HardwareDecodeError, MediaError
from vsr.frame import Frame
from vsr.media.damage import DamageEvent
from vsr.media.hardware import hardware_of
from vsr.pipeline.film import Film
from vsr.pipeline.plan import Plan, Segment


class SegmentSource:
    """The frames that a segment has to be given, each compared with the plan.

    A fresh decoder starts where the plan says, and reading stops after the last frame; only the
    film's last segment reads on, to see that nothing follows.
    """

    def __init__(self, plan: Plan, segment: Segment) -> None:
        self._plan = plan
        self._segment = segment
        self.damage: tuple[DamageEvent, ...] = ()
        """What was wrong with the source as far as it was decoded here."""

    def frames(self) -> Iterator[Frame]:
        """Read in the thread that iterates.

        Raises:
            HardwareDecodeError: the plan's decoder is not the software one, and anything went
                wrong.
            DecodeError: the source gives other frames than the plan lists.
        """
        try:
            yield from self._frames()
        except MediaError as error:
            if self._plan.decoder == "software" or isinstance(error, HardwareDecodeError):
                raise
            # It may be the decoder's fault, which another one will show.
            raise HardwareDecodeError(error.message) from error

    def _frames(self) -> Iterator[Frame]:
        plan, segment = self._plan, self._segment
        expected = plan.read_pts(segment.index)
        is_end = segment.index == len(plan.segments) - 1 and not plan.parts
        num_read = 0
        film = Film(
            plan.source_path,
            plan.video,
            threads=plan.decode_threads,
            interlace=plan.interlace,
            concealed=plan.concealed,
            is_damaged=plan.num_damaged > 0,
            entry_pts=segment.entry_pts,
            entry_rank=segment.entry_rank,
            hardware=hardware_of(plan.decoder, plan.compute.device),
        )
        try:
            with closing(film.frames()) as frames:
                for frame in frames:
                    if num_read < len(expected) and frame.pts == expected[num_read]:
                        num_read += 1
                        yield frame
                        if num_read == len(expected) and not is_end:
                            break
                    elif num_read == len(expected) or not self._may_skip(frame, num_read, expected):
                        raise self._changed(num_read)
        finally:
            self.damage = film.events
        if num_read != len(expected):
            raise self._changed(num_read)

    def _may_skip(self, frame: Frame, num_read: int, expected: list[int]) -> bool:
        """Whether a frame is not wanted here: before the first, or between two parts."""
        is_outside = bool(self._plan.parts) or (num_read == 0 and self._segment.index > 0)
        return is_outside and frame.pts < expected[num_read]

    def _changed(self, num_read: int) -> DecodeError:
        place = self._segment.first_frame - self._segment.warmup + num_read
        return DecodeError(
            f"{self._plan.source_path} gave another frame {place} than when the run was planned.",
            hint="the file has changed since, or cannot be read reliably; start again",
        )
