"""Work that is begun in a second thread before its result is asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import Protocol, TypeVar, runtime_checkable

import torch

T = TypeVar("T")


@runtime_checkable
class UsesHelper(Protocol):
    """A model that can have some of its work done by a second thread."""

    helper: Executor | None
    """Of one thread; None does all work in the caller's."""


def ahead(
    works: Iterable[Callable[[], T]], helper: Executor | None, num_ahead: int = 2
) -> Iterator[T]:
    """Results in order, each of which the helper has begun while those before it were used.

    On a CPU two threads that each compute on their own wait for each other once a frame. Two that
    share every operation wait for each other a thousand times, which in networks of small layers
    costs more than the second core brings.

    Args:
        works: computed in order, each with or without gradients as the caller.
        helper: None computes each when it is asked for.
        num_ahead: results that may lie ready.
    """
    if helper is None:
        for work in works:
            yield work()
        return
    is_inference = torch.is_inference_mode_enabled()

    def compute(work: Callable[[], T]) -> T:
        # Both are states of a thread.
        with torch.inference_mode(is_inference), torch.set_grad_enabled(False):
            return work()

    assert not torch.is_grad_enabled(), "a graph of gradients is built in one thread"
    waiting = iter(works)
    begun: deque[Future[T]] = deque(
        helper.submit(compute, work) for work in islice(waiting, num_ahead)
    )
    try:
        while begun:
            done = begun.popleft().result()
            begun.extend(helper.submit(compute, work) for work in islice(waiting, 1))
            yield done
    finally:
        for future in begun:
            future.cancel()
