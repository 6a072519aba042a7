"""Who does the work of a batch: what every executor offers, and what becomes of a failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from vsr import errors
from vsr.errors import (
    DeviceError,
    DeviceMemoryError,
    EncodeError,
    LossRefusedError,
    OutputError,
    OutputExistsError,
    StorageError,
    VsrError,
)

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


class Executor(Protocol):
    """Does several things at a time; a context that leaves nobody at work behind."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    @property
    def count(self) -> int:
        """How many things are done at a time; may change while the context is open."""

    @property
    def num_free(self) -> int:
        """How many more things could be begun now."""

    @property
    def num_busy(self) -> int:
        """How many things are being done."""

    def begin(self, key: int, function: Callable[..., Any], *arguments: Any) -> None:
        """Have `function(job, *arguments)` done; it is found by its name in the worker.

        Raises:
            DeviceError: the system starts no process.
        """

    def wait(self) -> Said | None:
        """What a worker says next; None when none did for a moment.

        Raises:
            VsrError: no worker can go on like that.
        """

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Have one thing done while nothing else is: the function's value, or a `Failure`."""


def alone(executor: Executor, function: Callable[..., Any], *arguments: Any) -> Any:
    """`Executor.ask` by the other methods."""
    assert not executor.num_busy, "workers are busy"
    executor.begin(0, function, *arguments)
    while True:
        said = executor.wait()
        if said is not None and said.kind != "progress":
            return said.value


def lost(how: str) -> Failure:
    """A worker that is gone, and `how` that came about."""
    return Failure(
        error=None,
        message=one_line(f"the process that worked on it {how}"),
        exit_code=DeviceError.exit_code,
        may_pass=True,
    )


def told(kind: str, values: list[Any]) -> Failure:
    """A failure that a worker told of itself, as `pipeline.worker.confession` has it."""
    if kind == "memory":
        text = f"the memory did not suffice: {values[0]}"
        code = DeviceMemoryError.exit_code
        return Failure(error=None, message=one_line(text), exit_code=code, may_pass=True)
    if kind == "refused":
        name, message, hint, _ = values
        error: VsrError = getattr(errors, name)(message, hint=hint)
        return Failure(
            error=error,
            message=one_line(str(error)),
            exit_code=error.exit_code,
            may_pass=_may_pass(error),
        )
    detail = str(values[0]).strip()
    text = f"this is a bug of ours ({detail.splitlines()[-1]}); please report it"
    return Failure(
        error=None,
        message=one_line(text),
        exit_code=_EXIT_OUR_BUG,
        may_pass=True,
        detail=detail,
    )


def _may_pass(error: VsrError) -> bool:
    if isinstance(error, OutputExistsError | EncodeError | LossRefusedError):
        return False
    return isinstance(error, DeviceError | OutputError | StorageError)


def one_line(text: str) -> str:
    """Text without line ends."""
    return " ".join(text.split())
