"""What a task of `ray_tasks` does in the process that Ray started for it, on any node."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from vsr.batch.parting import Parted
from vsr.batch.storage import Source
from vsr.errors import OutputHeldError
from vsr.pipeline.request import installed_versions
from vsr.pipeline.worker import confession

_TELL_EVERY_S = 0.5
_HELD_S = 60.0
"""How long the last worker of a lost node may still hold its clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What every task is given besides its work."""

    queue: Any
    """A `ray.util.queue.Queue` of (key, progress)."""
    seen: Path
    """A file that only who sees the same folder as the driver can see."""
    source: Source
    """Where the tree is."""
    versions: dict[str, str]
    """Of the programs that the driver runs."""


class Teller:
    """Stands for the `Job` of a worker process."""

    def __init__(self, queue: Any, key: int) -> None:
        self._queue = queue
        self._key = key
        self._next_s = 0.0

    def say(self, *values: Any, now: bool = False) -> None:
        """As `Job.say`; what finds the queue full is not said."""
        time_s = time.monotonic()
        if not now and time_s < self._next_s:
            return
        self._next_s = time_s + _TELL_EVERY_S
        with suppress(import_module("ray.util.queue").Full):
            self._queue.put_nowait((self._key, values))


def work(seat: Seat, key: int, function: Callable[..., Any], *arguments: Any) -> tuple[Any, ...]:
    """The task itself, in a process that Ray started on any node.

    Returns:
        ("done", value), ("parted", value, id of this node), ("unfit", name of this node, why), or
        as `pipeline.worker.confession`.
    """
    why = _unfit(seat)
    if why is not None:
        return "unfit", socket.gethostname(), why
    try:
        value = _patiently(function, Teller(seat.queue, key), arguments)
    except Exception as error:  # noqa: BLE001 - carried to the driver, never swallowed
        return confession(error)
    if isinstance(value, Parted):
        return "parted", value, import_module("ray").get_runtime_context().get_node_id()
    return "done", value


def _unfit(seat: Seat) -> str | None:
    """Why no clip can be made here like on the other nodes; None when all is well."""
    if not seat.seen.exists():
        return f"does not see {seat.seen.parent.parent}"
    if isinstance(seat.source, Path) and not seat.source.exists():
        return f"does not see {seat.source}"
    here = installed_versions()
    others = [f"{k} {v} -> {here.get(k)}" for k, v in seat.versions.items() if here.get(k) != v]
    return f"runs other versions: {'; '.join(others)}" if others else None


def _patiently(function: Callable[..., Any], job: Teller, arguments: Any) -> Any:
    """Wait for the last worker of a lost node, which ends a little later than its node."""
    end_s = time.monotonic() + _HELD_S
    while True:
        try:
            return function(job, *arguments)
        except OutputHeldError:
            if time.monotonic() > end_s:
                raise
            time.sleep(1.0)
