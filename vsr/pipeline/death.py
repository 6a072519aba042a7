"""How a child ended, and the error that makes of it."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from vsr import errors
from vsr.errors import DecodeError, DeviceError, DeviceMemoryError, EncodeError, VsrError

_STAGE = re.compile(r'stages\.py", line \d+ in (decode|infer|encode)$', re.MULTILINE)
_IS_WAITING = re.compile(r'^.*\n\s+File "[^"]*threading\.py", line \d+ in wait\b')


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended."""

    how: str
    """After "the process": `was killed by SIGSEGV`, `made no progress for 120 s`."""
    stage: str | None
    """`decode`, `infer`, `encode`, or several of them; None where nobody knows."""
    said: str
    """Its last words."""
    is_memory: bool
    """Memory ran out, it said."""
    is_killed: bool
    """Somebody else's SIGKILL: the system's, when memory ran out, or a person's."""


def stage_of(dump: str) -> str | None:
    """Which stage a process was in, by what `faulthandler` wrote of its threads.

    The thread that crashed is named as the current one. Native threads have no name: then it was
    one of the stages that did not wait for their neighbours.
    """
    busy = []
    for block in re.split(r"\n(?=(?:Current thread|Thread) 0x)", "\n" + dump):
        found = _STAGE.search(block)
        if found is None:
            continue
        if block.startswith("Current thread") and "Fatal Python error" in dump:
            return found[1]
        if not _IS_WAITING.match(block):
            busy.append(found[1])
    return " or ".join(busy) or None


def signal_name(number: int) -> str:
    """A signal as people call it."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def memory_kills() -> int | None:
    """How many processes this system has killed for want of memory; None where unknown."""
    try:
        text = Path("/proc/vmstat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
    return None if found is None else int(found[1])


def raise_as_told(kind: str, values: Sequence[Any]) -> NoReturn:
    """Raise here what was raised in the child."""
    if kind == "refused":
        name, message, hint, notes = values
        error: VsrError = getattr(errors, name)(message, hint=hint)
        for note in notes:
            error.add_note(note)
        raise error
    if kind == "memory":
        raise DeviceMemoryError(f"The memory did not suffice: {values[0]}")
    raise RuntimeError(f"a worker process failed:\n{values[0]}")


def not_started(death: Death) -> VsrError:
    """The error for a child that did not live to its first order."""
    kind = DeviceMemoryError if death.is_memory else DeviceError
    return kind(
        f"A worker process could not be started: it {death.how}{_last_line(death)}",
        hint="the limits on memory or processes may be too low here",
    )


def _last_line(death: Death) -> str:
    lines = re.split(r"Fatal Python error|(?:Current thread|Thread) 0x", death.said)[0].splitlines()
    lines = [line for line in lines if line.strip()]
    return f": {lines[-1].strip()}" if lines else ""


def during(death: Death) -> str:
    """In which stage, as the end of a clause; empty where nobody knows."""
    return f" in stage {death.stage}" if death.stage else ""


def crashed(name: str, death: Death, num_times: int) -> VsrError:
    """The error for a segment that killed each child that made it."""
    text = f"The process that made {name} {death.how}{during(death)}, {num_times} times."
    if death.stage == "decode":
        return DecodeError(text, hint="the source is damaged there in a way FFmpeg cannot bear")
    if death.stage == "encode":
        return EncodeError(text, hint="try another codec or other encoder options")
    if death.stage is None:
        text = text.removesuffix(".") + (_last_line(death) or ".")
    return DeviceError(text, hint="start again to go on; try another device, model or codec")
