"""The two files of a check, beside their pictures, and what was meant to be kept."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from vsr.media.fingerprint import Contents
from vsr.media.probe import MediaInfo, StreamInfo
from vsr.media.streams import StreamAction, StreamPlan
from vsr.pipeline.check_time import Moved
from vsr.pipeline.declared import Declared

MAX_DRIFT_S = Fraction(1, 1000)
"""By which anything may move against the pictures, on top of half a tick of the source."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Source and result, and what was meant to be kept."""

    before: MediaInfo
    after: MediaInfo
    old: Contents
    new: Contents
    plan: StreamPlan
    declared: Declared
    moved: Moved

    def kept(self) -> list[tuple[StreamAction, StreamInfo, StreamInfo | None, str]]:
        """(what was planned, source stream, its result or None, name) of sound and subtitles."""
        found = []
        for kind in ("audio", "subtitle"):
            given = [s for s in self.after.streams if s.kind == kind]
            wanted = [
                a for a in self.plan.actions if a.kind == kind and a.action in ("keep", "convert")
            ]
            for number, action in enumerate(wanted):
                result = given[number] if number < len(given) else None
                source = self.before.streams[action.index]
                found.append((action, source, result, f"{kind} {number}"))
        return found
