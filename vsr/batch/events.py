"""What happens to clips while a batch runs, for whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vsr.batch.manifest import Clip
from vsr.pipeline.result import UpscaleResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a clip."""

    kind: Literal["started", "progress", "done", "failed", "quarantined"]
    clip: Clip
    """As the manifest has it by now."""
    phase: str | None = None
    frames_done: int = 0
    frames: int | None = None
    result: UpscaleResult | None = None


OnEvent = Callable[[Event], None]
