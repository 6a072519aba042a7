"""How a batch is run: how often, in which order and when; none of it changes a byte."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time as clock_time

from vsr.batch.rules import Rule
from vsr.errors import ConfigError


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A time of each day, by the machine's clock."""

    start: clock_time
    end: clock_time
    """Earlier than `start` where midnight lies between."""

    def hold(self, now: clock_time) -> bool:
        """Whether it is that time."""
        if self.start <= self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a batch is run; none of it changes a byte."""

    retries: int = 2
    """How often a clip is tried again after what may pass: a crash, a device, a disk."""
    min_free_bytes: int = 1 << 30
    """With less room on the disk of the results, no clip is begun."""
    overwrite: bool = False
    """Replace what others have put at a result's name."""
    priorities: tuple[Rule, ...] = ()
    """Stronger than those of the rules; of them only the priority counts."""
    quiet: QuietHours | None = None
    """When no clip is begun."""


def read_quiet_hours(text: str) -> QuietHours:
    """Read `08:00-18:00`.

    Raises:
        ConfigError: it is something else.
    """
    found = re.fullmatch(r"(\d\d?:\d\d)\s*-\s*(\d\d?:\d\d)", text.strip())
    try:
        if found is None:
            raise ValueError("no two times")
        start, end = (clock_time.fromisoformat(part.zfill(5)) for part in found.groups())
        if start == end:
            raise ValueError("they leave no time")
    except ValueError as error:
        raise ConfigError(
            f"{text!r} are no quiet hours: {error}", hint="e.g. --quiet-hours 08:00-18:00"
        ) from error
    return QuietHours(start, end)
