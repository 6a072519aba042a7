"""Worker processes that each do one thing at a time, watched: a crash costs what one was at."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from vsr import errors
from vsr.errors import (
    DeviceError,
    DeviceMemoryError,
    EncodeError,
    LossRefusedError,
    OutputError,
    OutputExistsError,
    VsrError,
)
from vsr.pipeline.child import Child, Message
from vsr.pipeline.death import Death
from vsr.pipeline.isolate import WorkerPool

_WATCHDOG_S = 4000.0
"""More than the longest time that a worker's own children may be silent: it ends those itself."""
_LIMIT_S = 8 * 3600.0
"""For the longest step without progress, such as the join of a very large film."""
_GRACE_S = 10.0
_EXIT_OUR_BUG = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a worker could not do what it was given."""

    error: VsrError | None
    """None for a worker that died, and for a bug of ours."""
    message: str
    """One sentence."""
    exit_code: int
    may_pass: bool
    """Whether the same may well succeed another time."""
    detail: str | None = None
    """Of a bug: where it happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What came from a worker."""

    key: int
    """Of what it was given."""
    kind: Literal["progress", "done", "failed"]
    value: Any
    """A tuple of what was told of progress; the function's value; a `Failure`."""


class Processes:
    """Up to `count` workers; a context that leaves none behind."""

    def __init__(self, count: int) -> None:
        self._pool = WorkerPool(count, watchdog_s=_WATCHDOG_S, limit_s=_LIMIT_S)
        self._keys: dict[Child, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._abandon()
        self._pool.close()

    @property
    def num_free(self) -> int:
        """How many more things could be begun now."""
        return self._pool.count - len(self._keys)

    @property
    def num_busy(self) -> int:
        """How many things are being done."""
        return len(self._keys)

    def begin(self, key: int, function: Callable[..., Any], *arguments: Any) -> None:
        """Have `function(job, *arguments)` done; it is found by its name in the worker.

        Raises:
            DeviceError: the system starts no process.
        """
        assert self.num_free > 0, "all workers are busy"
        # For a scan: so it does not load a model at once.
        child = self._pool.take(for_scan=True)
        self._keys[child] = key
        child.call(function, *arguments)

    def wait(self) -> Said | None:
        """What a worker says next; None when none did for a moment."""
        event = self._pool.wait()
        if event is None or event[0] not in self._keys:
            return None
        child, (kind, *values) = event
        if kind == "progress":
            return Said(key=self._keys[child], kind="progress", value=tuple(values))
        key = self._keys.pop(child)
        if kind == "died":
            return Said(key=key, kind="failed", value=_died(values[0]))
        self._pool.give_back(child)
        if kind == "done":
            return Said(key=key, kind="done", value=values[0])
        return Said(key=key, kind="failed", value=_told(kind, values))

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Have one thing done while nothing else is: the function's value, or a `Failure`."""
        assert not self._keys, "workers are busy"
        self.begin(0, function, *arguments)
        while True:
            said = self.wait()
            if said is not None and said.kind != "progress":
                return said.value

    def _abandon(self) -> None:
        """Let workers leave what they do in order, for a while."""
        for child in self._keys:
            child.abandon()
        end_s = time.monotonic() + _GRACE_S
        while self._keys and time.monotonic() < end_s:
            event = self._pool.wait()
            if event is not None and _is_over(event[1]):
                self._keys.pop(event[0], None)


def _is_over(message: Message) -> bool:
    return bool(message[0] != "progress")


def _died(death: Death) -> Failure:
    return Failure(
        error=None,
        message=f"the process that worked on it {death.how}",
        exit_code=DeviceError.exit_code,
        may_pass=True,
    )


def _told(kind: str, values: list[Any]) -> Failure:
    """A failure that the worker told of itself."""
    if kind == "memory":
        text = f"the memory did not suffice: {values[0]}"
        code = DeviceMemoryError.exit_code
        return Failure(error=None, message=_one_line(text), exit_code=code, may_pass=True)
    if kind == "refused":
        name, message, hint, _ = values
        error: VsrError = getattr(errors, name)(message, hint=hint)
        return Failure(
            error=error,
            message=_one_line(str(error)),
            exit_code=error.exit_code,
            may_pass=_may_pass(error),
        )
    detail = str(values[0]).strip()
    text = f"this is a bug of ours ({detail.splitlines()[-1]}); please report it"
    return Failure(
        error=None,
        message=_one_line(text),
        exit_code=_EXIT_OUR_BUG,
        may_pass=True,
        detail=detail,
    )


def _may_pass(error: VsrError) -> bool:
    if isinstance(error, OutputExistsError | EncodeError | LossRefusedError):
        return False
    return isinstance(error, DeviceError | OutputError)


def _one_line(text: str) -> str:
    return " ".join(text.split())
