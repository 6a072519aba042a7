"""What was wrong with a source, and what was done about it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class DamageEvent:
    """A run of like troubles in one video stream."""

    kind: str
    """One of the `KIND_` names of this file."""
    start_pts: int | None
    """First frame concerned, in the stream's time base, as delivered; None when unknown."""
    end_pts: int | None
    """Last frame concerned, inclusive."""
    count: int = 1
    """Frames or packets concerned."""
    detail: str = ""
    """The first trouble of the run in words."""


KIND_DECODE_ERROR = "decode_error"
"""The decoder refused a packet; its picture is missing or damaged."""
KIND_DEMUX_ERROR = "demux_error"
"""The container could not be read at this place."""
KIND_TRUNCATED = "truncated"
"""The file ends before the video does."""
KIND_CORRUPT_FRAME = "corrupt_frame"
"""A picture was delivered though the decoder or the container called it damaged."""
KIND_CORRUPT_PACKET = "corrupt_packet"
"""A packet without a timestamp was damaged: its picture cannot be named."""
KIND_MISSING_PTS = "missing_pts"
"""Frames without a timestamp got one by interpolation."""
KIND_DUPLICATE_PTS = "duplicate_pts"
"""Frames with the timestamp of the frame before got one of their own."""
KIND_BACKWARD_PTS = "backward_pts"
"""Frames with an earlier timestamp than the frame before got a later one."""
KIND_RESET_PTS = "reset_pts"
"""Timestamps started anew; all later ones were shifted to follow on."""
KIND_SWAPPED_PTS = "swapped_pts"
"""Two neighbours had each other's timestamps."""
KIND_OUTLIER_PTS = "outlier_pts"
"""A timestamp far ahead of its neighbours was replaced by interpolation."""
KIND_PICTURE_CHANGE = "picture_change"
"""From here on pictures are of another size, format, colour or shape of pixels."""
KIND_SHORT = "short"
"""The video ends well before the duration that the container declares."""
KIND_DECODER_MESSAGE = "decoder_message"
"""The decoder complained in its log, and said nothing else: a checksum that fails, for one."""
KIND_CHECKSUM = "checksum"
"""A stretch of the container is not what was written, by its own checksum; pictures or sound."""
KIND_CONCEALED = "concealed"
"""Pictures that were lost; the one before is shown again at each one's time."""
KIND_SIDE_DATA = "side_data_unreadable"
"""Side data of a kind that av does not know was left out."""

TIMESTAMP_TROUBLES = frozenset(
    {
        *(KIND_MISSING_PTS, KIND_DUPLICATE_PTS, KIND_BACKWARD_PTS, KIND_RESET_PTS),
        *(KIND_SWAPPED_PTS, KIND_OUTLIER_PTS),
    }
)
"""Kinds that changed the timestamps of frames."""


class DamageLog:
    """Events in the order of their arrival; runs of one kind become one event."""

    def __init__(self) -> None:
        self.events: list[DamageEvent] = []

    def add(self, kind: str, pts: int | None, detail: str = "") -> None:
        """Record one trouble at `pts`; it joins the last event if that is of the same kind."""
        if self.events and self.events[-1].kind == kind:
            last = self.events[-1]
            start = pts if last.start_pts is None else last.start_pts
            end = last.end_pts if pts is None else pts
            self.events[-1] = replace(last, start_pts=start, end_pts=end, count=last.count + 1)
        else:
            self.events.append(DamageEvent(kind=kind, start_pts=pts, end_pts=pts, detail=detail))
