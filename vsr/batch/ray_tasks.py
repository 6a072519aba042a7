"""Work on the machines of a Ray cluster, placed by the cores and GPUs that it needs.

A clip is one task that makes all of it, or, where `parting` has it so, one that plans it, one for
each stretch of its segments, and one that joins and checks. Ray starts the processes and notices
lost nodes. What these were at is done again elsewhere: a clip goes on from its journal, a stretch
without what is entered there. All nodes see the same folders, and only the driver writes the
manifest, and the journals of parted clips while their segments are made: a task tells of its
progress through a queue, and of its end by what it returns.
"""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vsr.batch.executor import Failure, Said, alone, lost, told
from vsr.batch.opening import folder_of
from vsr.batch.parting import SEGMENT, Film, Parted, make_or_part, make_stretch
from vsr.batch.ray_cluster import Cluster, Wants, on_node
from vsr.batch.ray_worker import Seat, work
from vsr.batch.storage import Source
from vsr.batch.work import make
from vsr.errors import OpenError, OtherDeviceError, VsrError
from vsr.pipeline.output import writing
from vsr.pipeline.request import installed_versions
from vsr.pipeline.worker import confession

logger = logging.getLogger(__name__)

_RETRIES = 4
"""How often what a lost node or process was at is done again, before the batch hears of it."""
_POLL_S = 0.25
_GRACE_S = 15.0
_SEEN = "seen-"
_MAX_WAITING = 10_000
"""Words of progress that wait to be heard; with more, tasks keep theirs to themselves."""


@dataclass(frozen=True, slots=True)
class _Task:
    """What a task of Ray does."""

    key: int
    """Of what was given to the executor."""
    stretch: tuple[int, ...] = ()
    """Segments of a parted clip."""
    node: str | None = None
    """Where it is to be, as long as that lives."""


class RayTasks:
    """As `Executor`: no more tasks at a time than fit the cluster.

    Args:
        wants: how it is used.
        source: where the tree is.
        out: folder of the results.
    """

    def __init__(self, wants: Wants, source: Source, out: Path) -> None:
        self._wants = wants
        self._source = source.absolute()
        self._seen = folder_of(out.absolute()) / f"{_SEEN}{uuid.uuid4().hex}"
        self._cluster: Cluster
        self._ray: Any
        self._tasks: dict[Any, _Task] = {}
        self._at_work: set[int] = set()
        self._films: dict[int, Film] = {}
        """Parted clips, in the order in which they were planned."""
        self._plans: dict[int, Any] = {}
        """Where Ray keeps theirs."""
        self._heard: deque[Said] = deque()

    def __enter__(self) -> Self:
        """Join the cluster, or start one on this machine.

        Raises:
            ConfigError, DeviceError: as `Cluster`.
            OutputError: the folder of the results cannot be written to.
        """
        self._cluster = Cluster(self._wants)
        self._ray = self._cluster.ray
        try:
            self._prepare()
        except BaseException:
            self._leave()
            raise
        return self

    def _prepare(self) -> None:
        """Settle where progress is heard, and what every task is given."""
        with writing(self._seen):
            for left in self._seen.parent.glob(f"{_SEEN}*"):
                # By a run that was killed: no other can be at work now.
                left.unlink(missing_ok=True)
            self._seen.touch()
        # Beside the driver: no other node can take it along when it is lost.
        place = on_node(self._ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "scheduling_strategy": place}
        self._queue = import_module("ray.util.queue").Queue(_MAX_WAITING, actor_options=options)
        seat = Seat(
            queue=self._queue,
            seen=self._seen,
            source=self._source,
            versions={k: v for k, v in installed_versions().items() if k != "machine"},
        )
        self._seat = self._ray.put(seat)
        self._work = self._ray.remote(work)

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
        refs = list(self._tasks)
        for ref in refs:
            self._ray.cancel(ref, force=False)
        if refs:
            _, late = self._ray.wait(refs, num_returns=len(refs), timeout=_GRACE_S)
            for ref in late:
                self._ray.cancel(ref, force=True)
        for film in self._films.values():
            film.close()

    def _leave(self) -> None:
        with suppress(OSError):
            self._seen.unlink(missing_ok=True)
        self._cluster.leave()

    @property
    def count(self) -> int:
        """As `Executor.count`; changes as nodes join and leave."""
        return self._cluster.count

    @property
    def num_free(self) -> int:
        """As `Executor.num_free`: no clip is begun while segments of another wait."""
        num_waiting = sum(film.num_waiting for film in self._films.values())
        return max(0, self.count - len(self._tasks) - num_waiting)

    @property
    def num_busy(self) -> int:
        """As `Executor.num_busy`: what was begun and not heard of yet."""
        return len(self._at_work) + len(self._heard)

    def begin(self, key: int, function: Callable[..., Any], *arguments: Any) -> None:
        """As `Executor.begin`."""
        self._at_work.add(key)
        self._start(_Task(key), make_or_part if function is make else function, *arguments)

    def _start(self, task: _Task, function: Callable[..., Any], *arguments: Any) -> None:
        needs = self._cluster.needs
        remote = self._work.options(
            num_cpus=needs["CPU"],
            num_gpus=needs["GPU"],
            scheduling_strategy=on_node(task.node, soft=True) if task.node else "SPREAD",
            # Of a stretch that is lost, what is entered is not made again, which Ray does not know.
            max_retries=0 if task.stretch else _RETRIES,
        )
        self._tasks[remote.remote(self._seat, task.key, function, *arguments)] = task

    def _start_stretch(self, key: int, stretch: tuple[int, ...], node: str | None = None) -> None:
        film, task = self._films[key], _Task(key, stretch, node)
        output, config = film.parted.output, film.parted.config
        self._start(task, make_stretch, self._plans[key], stretch, output, config, film.token)

    def wait(self) -> Said | None:
        """As `Executor.wait`.

        Raises:
            OpenError: a node does not see the folders of the batch, or runs other programs.
        """
        if not self._heard:
            self._hand_out()
            self._listen()
        return self._heard.popleft() if self._heard else None

    def _hand_out(self) -> None:
        """Start stretches as long as there is room; the clip that was planned first comes first."""
        for key, film in self._films.items():
            while film.num_waiting and len(self._tasks) < self.count:
                self._start_stretch(key, film.take(self.count))

    def _listen(self) -> None:
        assert self._tasks, "nothing is being done"
        ready, _ = self._ray.wait(list(self._tasks), timeout=_POLL_S)
        num_said = self._queue.qsize()
        for key, values in self._queue.get_nowait_batch(num_said) if num_said else ():
            if values[0] == SEGMENT:
                self._hear(key, *values[1:])
            elif key in self._at_work:
                # What a lost node had said last may come when the clip is done.
                self._heard.append(Said(key=key, kind="progress", value=values))
        for ref in ready:
            # Not there any more where another task of its clip has failed.
            task = self._tasks.pop(ref, None)
            if task is not None:
                self._end(task, ref)

    def _end(self, task: _Task, ref: Any) -> None:
        """A task is over, one way or the other."""
        try:
            kind, *values = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            logger.debug("%s", error)
            failure = lost(f"was lost ({type(error).__name__})")
            if task.stretch:
                self._lose(task, failure)
            else:
                self._fail(task.key, failure)
            return
        if kind == "unfit":
            node, why = values
            raise OpenError(
                f"node {node} of the Ray cluster {why}",
                hint="all nodes need the same folders under the same names, and the same programs",
            )
        if kind == "parted":
            self._part(task.key, *values)
        elif kind != "done":
            self._refuse(task, told(kind, values))
        elif task.stretch:
            for result in values[0]:
                self._hear(task.key, None, result.index, result.num_frames, result)
            self._join_if_made(task.key)
        else:
            self._finish(task.key, values[0])

    def _part(self, key: int, parted: Parted, node: str) -> None:
        """A clip is planned: have its segments made."""
        try:
            film = self._films[key] = Film(parted, node)
        except VsrError as error:
            self._fail(key, _failure(error))
            return
        self._plans[key] = self._ray.put(parted.plan)
        self._tell(key, film)

    def _hear(self, key: int, token: str | None, *news: Any) -> None:
        """Note what is new of a segment; None for the token of who has surely the same plan."""
        film = self._films.get(key)
        if film is None or token not in (None, film.token):
            return
        try:
            film.hear(*news)
        except VsrError as error:
            self._fail(key, _failure(error))
            return
        self._tell(key, film)

    def _tell(self, key: int, film: Film) -> None:
        value = ("upscale", film.num_frames, film.parted.plan.num_frames)
        self._heard.append(Said(key=key, kind="progress", value=value))

    def _lose(self, task: _Task, failure: Failure) -> None:
        """The node or process of a stretch is gone."""
        film = self._films[task.key]
        film.give_back(task.stretch)
        if film.num_lost > _RETRIES:
            self._fail(task.key, failure)
        else:
            self._join_if_made(task.key)

    def _refuse(self, task: _Task, failure: Failure) -> None:
        """What a task was given could not be done."""
        is_other_device = isinstance(failure.error, OtherDeviceError)
        if task.stretch and task.node is None and is_other_device:
            # Where the clip was planned is one like the plan's.
            self._start_stretch(task.key, task.stretch, self._films[task.key].node)
        else:
            self._fail(task.key, failure)

    def _join_if_made(self, key: int) -> None:
        film = self._films.get(key)
        if film is not None and film.is_made:
            film.close()
            self._start(_Task(key), make, *film.parted.arguments)

    def _finish(self, key: int, value: Any) -> None:
        film = self._forget(key)
        value = value if film is None else film.told(value)
        self._heard.append(Said(key=key, kind="done", value=value))

    def _fail(self, key: int, failure: Failure) -> None:
        for ref in [ref for ref, task in self._tasks.items() if task.key == key]:
            # Whatever else of it is being done is of no use.
            self._ray.cancel(ref, force=False)
            del self._tasks[ref]
        film = self._forget(key)
        if film is not None:
            film.close(failure.error)
        self._heard.append(Said(key=key, kind="failed", value=failure))

    def _forget(self, key: int) -> Film | None:
        """Something is over; the film that it was, if it was parted."""
        self._at_work.discard(key)
        self._plans.pop(key, None)
        return self._films.pop(key, None)

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """As `Executor.ask`."""
        return alone(self, function, *arguments)


def _failure(error: VsrError) -> Failure:
    """What was met here, as if a task had told of it."""
    kind, *values = confession(error)
    return told(kind, values)
