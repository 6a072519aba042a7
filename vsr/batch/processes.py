"""Work on this machine: processes that are watched, so that a crash costs what one was at."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from vsr.batch.executor import Said, alone, lost, told
from vsr.errors import DeviceError
from vsr.pipeline.child import Child, Message
from vsr.pipeline.isolate import WorkerPool
from vsr.pipeline.worker import Job

_WATCHDOG_S = 4000.0
"""More than the longest time that a worker's own children may be silent: it ends those itself."""
_LIMIT_S = 8 * 3600.0
"""For the longest step without progress, such as the join of a very large film."""
_GRACE_S = 10.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Processes:
    """As `Executor`: up to `count` workers.

    Args:
        count: of workers.
        gpus: one for each worker, by their numbers among those this process may use; none: each
            worker sees all.
    """

    def __init__(self, count: int, gpus: Sequence[int] = ()) -> None:
        assert not gpus or len(gpus) == count, gpus
        self._all_gpus = [_visible(gpu) for gpu in gpus]
        self._gpus: dict[Child, str] = {}
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
    def count(self) -> int:
        """As `Executor.count`."""
        return self._pool.count

    @property
    def num_free(self) -> int:
        """As `Executor.num_free`."""
        return self._pool.count - len(self._keys)

    @property
    def num_busy(self) -> int:
        """As `Executor.num_busy`."""
        return len(self._keys)

    def begin(self, key: int, function: Callable[..., Any], *arguments: Any) -> None:
        """As `Executor.begin`."""
        assert self.num_free > 0, "all workers are busy"
        # For a scan: so it does not load a model at once.
        child = self._pool.take(for_scan=True)
        self._keys[child] = key
        if self._all_gpus:
            child.call(use_gpu, self._gpu_of(child), function, *arguments)
        else:
            child.call(function, *arguments)

    def _gpu_of(self, child: Child) -> str:
        """The one that a worker keeps for life."""
        if child not in self._gpus:
            self._gpus = {c: gpu for c, gpu in self._gpus.items() if c.process.poll() is None}
            unused = list(self._all_gpus)
            for gpu in self._gpus.values():
                unused.remove(gpu)
            self._gpus[child] = unused[0]
        return self._gpus[child]

    def wait(self) -> Said | None:
        """As `Executor.wait`."""
        event = self._pool.wait()
        if event is None or event[0] not in self._keys:
            return None
        child, (kind, *values) = event
        if kind == "progress":
            return Said(key=self._keys[child], kind="progress", value=tuple(values))
        key = self._keys.pop(child)
        if kind == "died":
            return Said(key=key, kind="failed", value=lost(values[0].how))
        self._pool.give_back(child)
        if kind == "done":
            return Said(key=key, kind="done", value=values[0])
        return Said(key=key, kind="failed", value=told(kind, values))

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """As `Executor.ask`."""
        return alone(self, function, *arguments)

    def _abandon(self) -> None:
        """Let workers leave what they do in order, for a while."""
        for child in self._keys:
            child.abandon()
        end_s = time.monotonic() + _GRACE_S
        while self._keys and time.monotonic() < end_s:
            event = self._pool.wait()
            if event is not None and _is_over(event[1]):
                self._keys.pop(event[0], None)


def use_gpu(job: Job, gpu: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Do a thing in a worker that has one GPU, and so have the processes that it starts."""
    os.environ[_VISIBLE] = gpu
    return function(job, *arguments)


def _visible(gpu: int) -> str:
    """A GPU as the driver calls it, of those that this process may use."""
    visible = [name for name in os.environ.get(_VISIBLE, "").split(",") if name]
    if not visible:
        return str(gpu)
    if gpu >= len(visible):
        raise DeviceError(
            f"device cuda:{gpu} was asked for, but {_VISIBLE} names only {len(visible)}"
        )
    return visible[gpu]


def _is_over(message: Message) -> bool:
    return bool(message[0] != "progress")
