"""Stands for Ray where none is wanted: each task is done in this process, when it is waited for."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest


class RayError(Exception):
    """As Ray's: a task or its node was lost."""


class Full(Exception):  # noqa: N818 - Ray's name
    """As of Ray's queue."""


class Queue:
    """As `ray.util.queue.Queue`."""

    def __init__(self, _most: int, **_: Any) -> None:
        self._items: deque[Any] = deque()

    def put_nowait(self, item: Any) -> None:
        self._items.append(item)

    def qsize(self) -> int:
        return len(self._items)

    def get_nowait_batch(self, count: int) -> list[Any]:
        return [self._items.popleft() for _ in range(count)]


@dataclass(eq=False)
class Ref:
    """What a task will have returned, or what was put."""

    value: Any = None
    call: Callable[[], Any] | None = None


@dataclass
class Started:
    """A task that was started: what is done, with what, and where it was placed."""

    seat: Any
    key: int
    function: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]


@dataclass
class StubRay:
    """As the package, as far as it is used.

    Args:
        num_cpus: of the one node.
        outcome: called for each task instead of doing it: what it returns, unless None, or raises
            is what becomes of the task.
    """

    num_cpus: int = 2
    outcome: Callable[[Started], Any] = lambda _: None
    started: list[Started] = field(default_factory=list)
    most_in_flight: int = 0

    exceptions = ModuleType("exceptions")

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": float(self.num_cpus)}}]

    def get_runtime_context(self) -> Any:
        return self

    def get_node_id(self) -> str:
        return "here"

    def put(self, value: Any) -> Ref:
        return Ref(value)

    def remote(self, function: Callable[..., Any]) -> _Remote:
        return _Remote(self, function)

    def wait(self, refs: list[Ref], **_: Any) -> tuple[list[Ref], list[Ref]]:
        self.most_in_flight = max(self.most_in_flight, len(refs))
        first = refs[0]
        assert first.call is not None
        try:
            first.value = first.call()
        except RayError as error:
            first.value = error
        return [first], refs[1:]

    def get(self, ref: Ref) -> Any:
        if isinstance(ref.value, RayError):
            raise ref.value
        return ref.value

    def cancel(self, _: Ref, **__: Any) -> None:
        """It was not begun."""


StubRay.exceptions.RayError = RayError  # type: ignore[attr-defined]


@dataclass
class _Remote:
    ray: StubRay
    function: Callable[..., Any]

    def options(self, **wishes: Any) -> _Optioned:
        return _Optioned(self.ray, self.function, wishes)


@dataclass
class _Optioned:
    ray: StubRay
    function: Callable[..., Any]
    wishes: dict[str, Any]

    def remote(self, seat: Ref, key: int, function: Any, *arguments: Any) -> Ref:
        plain = tuple(one.value if isinstance(one, Ref) else one for one in arguments)
        task = Started(seat.value, key, function, plain, self.wishes)
        self.ray.started.append(task)

        def call() -> Any:
            instead = self.ray.outcome(task)
            return instead or self.function(seat.value, key, function, *plain)

        return Ref(call=call)


def stand_in(patch: pytest.MonkeyPatch, ray: StubRay) -> None:
    """Have it imported instead of Ray."""
    queue: Any = ModuleType("ray.util.queue")
    queue.Queue, queue.Full = Queue, Full
    strategies: Any = ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = lambda node, soft: (node, soft)
    patch.setitem(sys.modules, "ray", ray)
    patch.setitem(sys.modules, "ray.util.queue", queue)
    patch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
