"""Work on the machines of a Ray cluster: each clip is one task, placed by the cores it needs.

Ray starts the processes, notices lost nodes and does their tasks again elsewhere; a clip goes on
from its journal there. All nodes see the same folders, and only the driver writes the manifest: a
task tells of its progress through a queue, and of its end by what it returns.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vsr.batch.executor import Said, alone, lost, told
from vsr.batch.opening import folder_of
from vsr.batch.ray_worker import Seat, work
from vsr.batch.storage import Source
from vsr.errors import ConfigError, DeviceError, OpenError
from vsr.pipeline.output import writing
from vsr.pipeline.request import installed_versions

logger = logging.getLogger(__name__)

_CORES_PER_CLIP = 4.0
_RETRIES_OF_RAY = 4
"""How often Ray does a clip again whose node or process was lost, before the batch hears of it."""
_POLL_S = 0.25
_COUNT_EVERY_S = 5.0
"""How often the cluster is asked for nodes that have joined or left."""
_GRACE_S = 15.0
_CONNECT_S = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TOKEN = "seen-"
_MAX_WAITING = 10_000
"""Words of progress that wait to be heard; with more, tasks keep theirs to themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """What is asked of a cluster."""

    address: str | None = None
    """Of its head; None: by RAY_ADDRESS, else the one on this machine, else a new one here."""
    workers: int | None = None
    """Most clips that are in flight; None: as many as the cluster has room for."""
    cpus: float | None = None
    """Cores of a clip; None: four, or all of the largest node."""
    gpus: float | None = None
    """GPUs of a clip, or a share of one; None: one where the device is a GPU."""
    device: str = "auto"
    """As in the configuration."""


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Have signals mean the same afterwards: Ray takes SIGTERM for itself, and ends at once."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)


def _refuse_silent(address: str | None) -> None:
    """Raise at once where nobody listens: Ray itself goes on asking for minutes.

    Raises:
        DeviceError: saying so.
    """
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except OSError as error:
        raise DeviceError(
            f"there is no Ray cluster at {address}: {error.strerror or error}",
            hint="start its head with `ray start --head`, or leave --address out",
        ) from error


class RayTasks:
    """As `Executor`: a task for each thing, no more at a time than fit the cluster.

    Args:
        wants: how it is used.
        source: where the tree is.
        out: folder of the results.
    """

    def __init__(self, wants: Wants, source: Source, out: Path) -> None:
        self._wants = wants
        self._source = source.absolute()
        self._token = folder_of(out.absolute()) / f"{_TOKEN}{uuid.uuid4().hex}"
        self._keys: dict[Any, int] = {}
        self._heard: deque[Said] = deque()
        self._room = 1
        self._counted_s = float("-inf")
        self._is_ours = False
        self._ray: Any
        """The package, which carries no types that could be relied on."""

    def __enter__(self) -> Self:
        """Join the cluster, or start one on this machine.

        Raises:
            ConfigError: Ray is not installed, or a device is asked for that it cannot give.
            DeviceError: there is no such cluster, or none of its nodes is large enough.
        """
        if self._wants.device.startswith("cuda:"):
            raise ConfigError(
                f"Ray gives each clip its GPU, so that {self._wants.device} cannot be asked for",
                hint="use --device cuda",
            )
        try:
            self._ray = import_module("ray")
        except ImportError as error:
            raise ConfigError(
                "the executor ray needs Ray, which is not installed",
                hint="pip install 'vsr[cluster]'",
            ) from error
        self._join()
        try:
            self._prepare()
        except BaseException:
            self._leave()
            raise
        return self

    def _join(self) -> None:
        if self._ray.is_initialized():
            return
        _refuse_silent(self._wants.address or os.environ.get("RAY_ADDRESS"))
        # Nothing of ours tells anybody that it is used.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        wishes: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._wants.address is None:
            wishes["include_dashboard"] = False
        try:
            with _signals_kept():
                self._ray.init(address=self._wants.address, **wishes)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise DeviceError(
                f"the Ray cluster {self._wants.address or 'of this machine'} cannot be joined: "
                f"{str(error).splitlines()[0]}",
                hint="see `ray status`, or give --address HOST:PORT of its head",
            ) from error
        self._is_ours = True

    def _prepare(self) -> None:
        """Settle what a clip needs, and where its progress is heard."""
        nodes = self._nodes()
        gpus = self._wants.gpus
        if gpus is None:
            has_gpu = any(node.get("GPU", 0) for node in nodes)
            gpus = float(self._wants.device == "cuda" or (self._wants.device == "auto" and has_gpu))
        fit = [node for node in nodes if node.get("GPU", 0) >= gpus]
        largest = max((node.get("CPU", 0.0) for node in fit), default=0.0)
        cpus = self._wants.cpus or min(_CORES_PER_CLIP, largest) or 1.0
        self._needs = {"CPU": cpus, "GPU": gpus}
        if largest < cpus and self._wants.workers is None:
            raise DeviceError(
                f"no node of the Ray cluster has {cpus:g} cores and {gpus:g} GPUs for a clip",
                hint="add one, ask for less with --cpus and --gpus, or give --workers to wait",
            )
        with writing(self._token):
            for left in self._token.parent.glob(f"{_TOKEN}*"):
                # By a run that was killed: no other can be at work now.
                left.unlink(missing_ok=True)
            self._token.touch()
        here = self._ray.get_runtime_context().get_node_id()
        # Beside the driver: no other node can take it along when it is lost.
        strategies = import_module("ray.util.scheduling_strategies")
        place = strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        options = {"num_cpus": 0, "scheduling_strategy": place}
        self._queue = import_module("ray.util.queue").Queue(_MAX_WAITING, actor_options=options)
        seat = Seat(
            queue=self._queue,
            token=self._token,
            source=self._source,
            versions={k: v for k, v in installed_versions().items() if k != "machine"},
        )
        self._seat = self._ray.put(seat)
        self._task = self._ray.remote(work).options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_retries=_RETRIES_OF_RAY,
            scheduling_strategy="SPREAD",
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._abandon()
        finally:
            self._leave()

    def _abandon(self) -> None:
        """Let tasks leave what they do in order, for a while."""
        tasks = list(self._keys)
        if not tasks:
            return
        for task in tasks:
            self._ray.cancel(task, force=False)
        _, late = self._ray.wait(tasks, num_returns=len(tasks), timeout=_GRACE_S)
        for task in late:
            self._ray.cancel(task, force=True)
        self._keys.clear()

    def _leave(self) -> None:
        with suppress(OSError):
            self._token.unlink(missing_ok=True)
        if self._is_ours:
            self._ray.shutdown()
            self._is_ours = False

    @property
    def count(self) -> int:
        """As `Executor.count`; changes as nodes join and leave."""
        if self._wants.workers is not None:
            return self._wants.workers
        time_s = time.monotonic()
        if time_s >= self._counted_s + _COUNT_EVERY_S:
            self._counted_s = time_s
            self._room = max(1, sum(self._fitting(node) for node in self._nodes()))
        return self._room

    def _fitting(self, node: dict[str, float]) -> int:
        """How many clips a node can make at a time."""
        return min(
            int(node.get(name, 0.0) / amount) for name, amount in self._needs.items() if amount
        )

    def _nodes(self) -> list[dict[str, float]]:
        """What each node has that lives."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    @property
    def num_free(self) -> int:
        """As `Executor.num_free`."""
        return max(0, self.count - len(self._keys))

    @property
    def num_busy(self) -> int:
        """As `Executor.num_busy`: what was handed out and not heard of yet."""
        return len(self._keys) + len(self._heard)

    def begin(self, key: int, function: Callable[..., Any], *arguments: Any) -> None:
        """As `Executor.begin`."""
        self._keys[self._task.remote(self._seat, key, function, arguments)] = key

    def wait(self) -> Said | None:
        """As `Executor.wait`.

        Raises:
            OpenError: a node does not see the folders of the batch, or runs other programs.
        """
        if not self._heard:
            self._listen()
        return self._heard.popleft() if self._heard else None

    def _listen(self) -> None:
        assert self._keys, "nothing is being done"
        ready, _ = self._ray.wait(list(self._keys), timeout=_POLL_S)
        num_said = self._queue.qsize()
        if num_said:
            running = set(self._keys.values())
            for key, values in self._queue.get_nowait_batch(num_said):
                # What a lost node had said last may come when the clip is done.
                if key in running:
                    self._heard.append(Said(key=key, kind="progress", value=values))
        for task in ready:
            key = self._keys.pop(task)
            self._heard.append(self._outcome(key, task))

    def _outcome(self, key: int, task: Any) -> Said:
        try:
            kind, *values = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            logger.debug("%s", error)
            return Said(key=key, kind="failed", value=lost(f"was lost ({type(error).__name__})"))
        if kind == "unfit":
            node, why = values
            raise OpenError(
                f"node {node} of the Ray cluster {why}",
                hint="all nodes need the same folders under the same names, and the same programs",
            )
        if kind == "done":
            return Said(key=key, kind="done", value=values[0])
        return Said(key=key, kind="failed", value=told(kind, values))

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """As `Executor.ask`."""
        return alone(self, function, *arguments)
