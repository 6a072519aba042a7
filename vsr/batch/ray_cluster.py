"""A Ray cluster as a batch sees it: joined or started here, and with room for so many tasks."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from vsr.errors import ConfigError, DeviceError

_CORES_PER_TASK = 4.0
_COUNT_EVERY_S = 5.0
"""How often the cluster is asked for nodes that have joined or left."""
_CONNECT_S = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """What is asked of a cluster."""

    address: str | None = None
    """Of its head; None: by RAY_ADDRESS, else the one on this machine, else a new one here."""
    workers: int | None = None
    """Most tasks that are in flight; None: as many as the cluster has room for."""
    cpus: float | None = None
    """Cores of a task; None: four, or all of the largest node."""
    gpus: float | None = None
    """GPUs of a task, or a share of one; None: one where the device is a GPU."""
    device: str = "auto"
    """As in the configuration."""


class Cluster:
    """A cluster that is joined, until it is left.

    Args:
        wants: how it is used.

    Raises:
        ConfigError: Ray is not installed, or a device is asked for that it cannot give.
        DeviceError: there is no such cluster, or none of its nodes is large enough.
    """

    def __init__(self, wants: Wants) -> None:
        if wants.device.startswith("cuda:"):
            raise ConfigError(
                f"Ray gives each task its GPU, so that {wants.device} cannot be asked for",
                hint="use --device cuda",
            )
        try:
            self.ray: Any = import_module("ray")
        except ImportError as error:
            raise ConfigError(
                "the executor ray needs Ray, which is not installed",
                hint="pip install 'vsr[cluster]'",
            ) from error
        self._wants = wants
        self._room = 1
        self._counted_s = float("-inf")
        self._is_ours = not self.ray.is_initialized()
        if self._is_ours:
            self._join()
        try:
            self.needs = self._needed()
        except BaseException:
            self.leave()
            raise

    def _join(self) -> None:
        address = self._wants.address
        _refuse_silent(address or os.environ.get("RAY_ADDRESS"))
        # Nothing of ours tells anybody that it is used.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        wishes: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            wishes["include_dashboard"] = False
        try:
            with _signals_kept():
                self.ray.init(address=address, **wishes)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise DeviceError(
                f"the Ray cluster {address or 'of this machine'} cannot be joined: "
                f"{str(error).splitlines()[0]}",
                hint="see `ray status`, or give --address HOST:PORT of its head",
            ) from error

    def _needed(self) -> dict[str, float]:
        """Cores and GPUs of a task, as Ray calls them."""
        nodes = self._nodes()
        gpus = self._wants.gpus
        if gpus is None:
            has_gpu = any(node.get("GPU", 0) for node in nodes)
            gpus = float(self._wants.device == "cuda" or (self._wants.device == "auto" and has_gpu))
        fit = [node for node in nodes if node.get("GPU", 0) >= gpus]
        largest = max((node.get("CPU", 0.0) for node in fit), default=0.0)
        cpus = self._wants.cpus or min(_CORES_PER_TASK, largest) or 1.0
        if largest < cpus and self._wants.workers is None:
            raise DeviceError(
                f"no node of the Ray cluster has {cpus:g} cores and {gpus:g} GPUs for a task",
                hint="add one, ask for less with --cpus and --gpus, or give --workers to wait",
            )
        return {"CPU": cpus, "GPU": gpus}

    def leave(self) -> None:
        """Let go of it; one that was started here ends."""
        if self._is_ours:
            self.ray.shutdown()

    @property
    def count(self) -> int:
        """How many tasks it has room for; changes as nodes join and leave."""
        if self._wants.workers is not None:
            return self._wants.workers
        time_s = time.monotonic()
        if time_s >= self._counted_s + _COUNT_EVERY_S:
            self._counted_s = time_s
            self._room = max(1, sum(self._fitting(node) for node in self._nodes()))
        return self._room

    def _fitting(self, node: dict[str, float]) -> int:
        """How many tasks a node can do at a time."""
        return min(
            int(node.get(name, 0.0) / amount) for name, amount in self.needs.items() if amount
        )

    def _nodes(self) -> list[dict[str, float]]:
        """What each node has that lives."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]


def on_node(node: str, *, soft: bool) -> Any:
    """How a task is placed on a node, by its id; `soft`: elsewhere once that is lost."""
    strategies = import_module("ray.util.scheduling_strategies")
    return strategies.NodeAffinitySchedulingStrategy(node, soft=soft)


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
