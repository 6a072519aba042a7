"""Run a batch: workers that take one clip after the other, wherever they are.

Each clip is one call of `upscale`, whose journal knows what of it is done. The manifest is written
by this process alone, and may be behind: what it does not know yet, the next run is told at once.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import sleep

from vsr.batch.events import Event, OnEvent
from vsr.batch.executor import Executor, Failure, Said
from vsr.batch.fixity import (
    RESULTS_NAME,
    SOURCES_NAME,
    refuse_lists,
    refuse_sidecar,
    write_lists,
    write_sidecar,
)
from vsr.batch.manifest import Clip, Manifest
from vsr.batch.naming import sidecar_name
from vsr.batch.policy import Policy
from vsr.batch.rules import traits_of
from vsr.batch.settings import Settings
from vsr.batch.storage import Remote, send
from vsr.batch.work import look_at, make
from vsr.errors import (
    DeviceError,
    JobCancelledError,
    ModelError,
    OpenError,
    OutputError,
    StorageError,
    VsrError,
)
from vsr.pipeline.estimate import free_bytes
from vsr.pipeline.output import writing
from vsr.pipeline.result import UpscaleResult

logger = logging.getLogger(__name__)

_NOTE_EVERY_S = 2.0
"""How often the manifest learns how far the running clips are."""

_NUM_LOOKED_FOR = 10
"""Clips of which one has to be there, or else the whole tree is taken to be elsewhere."""

_QUIET_STEP_S = 1.0


def run_batch(
    manifest: Manifest,
    settings: Settings,
    policy: Policy,
    executor: Executor,
    *,
    on_event: OnEvent | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """Make all clips that wait or have failed; those that cannot be made are quarantined.

    Args:
        manifest: of a batch that was planned.
        settings: what is asked for.
        policy: how it is run.
        executor: who does it; entered here.
        on_event: called in this thread.
        should_stop: asked often; clips that are being made are left for the next run.

    Raises:
        JobCancelledError: `should_stop` said so.
        ModelError, DeviceError: no clip can be made like that.
        OpenError: the tree is not there.
        OutputError: the disk is too full to begin another clip.
    """
    refuse_lists(manifest)
    run = _Run(manifest, settings, policy, on_event or (lambda _: None))
    try:
        with executor:
            manifest.set_note("workers", str(executor.count))
            run.work(executor, should_stop or (lambda: False))
    except JobCancelledError as error:
        error.hint = run.how_far()
        raise
    except KeyboardInterrupt as error:
        error.add_note(run.how_far())
        raise
    finally:
        run.leave()


class _Run:
    def __init__(
        self, manifest: Manifest, settings: Settings, policy: Policy, tell: OnEvent
    ) -> None:
        self._manifest = manifest
        self._settings = settings
        self._policy = policy
        self._tell = tell
        wishes = {"overwrite": policy.overwrite}
        self._asked = replace(settings.asked, config=settings.config.model_copy(update=wishes))
        self._todo = deque(self._in_order())
        self._running: dict[int, Clip] = {}
        self._frames: dict[int, int] = {}
        self._noted_s = 0.0
        self._was_quiet = False
        self._full: OutputError | None = None
        """Why nothing is begun any more."""

    def _in_order(self) -> list[int]:
        """Ids of what is to be done: by priority, then by path."""
        rules = (*self._settings.rules, *self._policy.priorities)
        asked = replace(self._asked, rules=rules)
        clips = self._manifest.clips("waiting", "failed")
        clips.sort(key=lambda clip: -asked.priority_of(traits_of(clip)))
        return [clip.id for clip in clips]

    def work(self, executor: Executor, should_stop: Callable[[], bool]) -> None:
        """All that is to be done."""
        self._refuse_unfit(executor)
        while True:
            if should_stop():
                raise JobCancelledError("stopped")
            is_quiet = self._todo and self._is_quiet()
            while self._todo and executor.num_free and not is_quiet and self._has_room():
                self._begin(executor, self._todo.popleft())
            if not executor.num_busy:
                if not is_quiet:
                    break
                sleep(_QUIET_STEP_S)
                continue
            said = executor.wait()
            if said is not None:
                self._hear(said)
            self._note_progress()
        if self._full is not None:
            raise self._full

    def _is_quiet(self) -> bool:
        """Whether no clip may be begun now; said once each time it begins."""
        quiet = self._policy.quiet
        was_quiet = self._was_quiet
        self._was_quiet = quiet is not None and quiet.hold(datetime.now().time())
        if quiet is not None and self._was_quiet and not was_quiet:
            logger.warning("no clip is begun before %s", quiet.end.strftime("%H:%M"))
        return self._was_quiet

    def _refuse_unfit(self, executor: Executor) -> None:
        """Raise what every clip would meet on this machine, rather than quarantine them all."""
        if not self._todo:
            return
        first = [self._manifest.clip(clip_id) for clip_id in list(self._todo)[:_NUM_LOOKED_FOR]]
        if not any(self._places(clip)[0].exists() for clip in first):
            raise OpenError(
                f"{first[0].path} and those after it are not in {self._settings.source} any more",
                hint="see whether that disk is mounted, or plan again",
            )
        source, output = self._places(first[0])
        outcome = executor.ask(look_at, source, output, self._asked, first[0].path)
        if isinstance(outcome, Failure) and isinstance(outcome.error, ModelError | DeviceError):
            raise outcome.error

    def _places(self, clip: Clip) -> tuple[Path | Remote, Path]:
        """Where a clip is, and where its result belongs."""
        assert clip.output is not None, "what has no name does not wait"
        return self._settings.source / clip.path, self._manifest.out.absolute() / clip.output

    def _target(self, name: str | None) -> Remote | None:
        """Where a file beside the manifest is sent; None where it stays."""
        if self._settings.target is None or name is None:
            return None
        return self._settings.target / name

    def how_far(self) -> str:
        """For who stopped the run."""
        counts = self._manifest.counts()
        total = sum(counts.values())
        return f"{counts['done']} of {total} clips are done; the same command goes on with the rest"

    def leave(self) -> None:
        """Whatever ends the run: what is not done waits, and what is done is listed."""
        self._note_progress(at_once=True)
        for clip_id in self._running:
            self._manifest.move(clip_id, "waiting", "the run was stopped before it was done")
        write_lists(self._manifest)
        try:
            for name in (RESULTS_NAME, SOURCES_NAME):
                if (self._manifest.out / name).is_file():
                    self._send(name)
        except StorageError as error:
            # The next run sends them; whatever ended this one is not to be hidden.
            logger.warning("the lists of digests were not sent: %s", error)

    def _has_room(self) -> bool:
        """Whether another clip may be begun; once there is no room, no longer asked."""
        if self._full is not None:
            return False
        free = free_bytes(self._manifest.out)
        if free is not None and free < self._policy.min_free_bytes:
            self._full = OutputError(
                f"{free / 1e9:.1f} GB are free on the disk of {self._manifest.out}, less than the "
                f"{self._policy.min_free_bytes / 1e9:.1f} GB that are to stay free; no further "
                "clip was begun",
                hint="make room; then the same command goes on",
            )
        return self._full is None

    def _begin(self, executor: Executor, clip_id: int) -> None:
        clip = self._manifest.clip(clip_id)
        source, output = self._places(clip)
        try:
            self._make_folder(output.parent)
            refuse_sidecar(self._manifest, clip)
            config = self._asked.config_for(traits_of(clip))
        except VsrError as error:
            self._give_up(clip, str(error), error.exit_code)
            return
        self._manifest.move(clip_id, "running", attempts=clip.attempts)
        self._running[clip_id] = self._manifest.clip(clip_id)
        self._tell(Event(kind="started", clip=self._running[clip_id], frames=clip.frames))
        target = self._target(clip.output)
        executor.begin(clip_id, make, source, output, target, config, clip.fresh)

    def _make_folder(self, folder: Path) -> None:
        """The place of a result, unless a link there leads out of the folder of results."""
        out = self._manifest.out.resolve()
        with writing(folder):
            if not folder.resolve().is_relative_to(out):
                raise OutputError(
                    f"{folder} is a link that leads out of {self._manifest.out}",
                    hint="remove it if you know what it is",
                )
            folder.mkdir(parents=True, exist_ok=True)

    def _hear(self, said: Said) -> None:
        clip = self._running[said.key]
        if said.kind == "progress":
            self._come_forward(clip, *said.value)
            return
        del self._running[said.key]
        self._frames.pop(said.key, None)
        if said.kind == "done":
            self._finish(clip, said.value)
        else:
            self._fail(clip, said.value)

    def _come_forward(self, clip: Clip, phase: str, num_done: int, num_frames: int | None) -> None:
        if phase == "upscale":
            self._frames[clip.id] = num_done
            if clip.fresh > 1:
                # What was there before is forgotten by now; a run that is stopped goes on.
                self._manifest.change(clip.id, fresh=1)
                self._running[clip.id] = self._manifest.clip(clip.id)
        self._tell(
            Event(kind="progress", clip=clip, phase=phase, frames_done=num_done, frames=num_frames)
        )

    def _finish(self, clip: Clip, result: UpscaleResult) -> None:
        try:
            config = self._settings.asked.config_for(traits_of(clip))
            write_sidecar(self._manifest, clip, result, config.model_dump(mode="json"))
            self._send(sidecar_name(clip.output or ""))
        except (OutputError, StorageError) as error:
            self._try_again(clip, str(error), error.exit_code)
            return
        digests = result.digests
        self._manifest.move(
            clip.id,
            "done",
            "an earlier run had made it" if result.already_complete else None,
            error=None,
            exit_code=None,
            fresh=0,
            frames=result.frames,
            frames_done=result.frames,
            seconds=result.seconds,
            result_bytes=self._size(clip),
            source_sha256=digests.get("source"),
            result_sha256=digests.get("result"),
            weights_sha256=digests.get("weights"),
        )
        if self._settings.target is not None and clip.output is not None:
            # Sent and read back by now.
            self._places(clip)[1].unlink(missing_ok=True)
        self._tell(
            Event(
                kind="done",
                clip=self._manifest.clip(clip.id),
                frames_done=result.frames,
                frames=result.frames,
                result=result,
            )
        )

    def _send(self, name: str) -> None:
        target = self._target(name)
        if target is not None:
            send(self._manifest.out / name, target.url)

    def _size(self, clip: Clip) -> int | None:
        with suppress(OSError):
            return (self._manifest.out / (clip.output or "")).stat().st_size
        return None

    def _fail(self, clip: Clip, failure: Failure) -> None:
        if isinstance(failure.error, OutputError) and not self._has_room():
            self._manifest.move(clip.id, "waiting", failure.message)
            return
        if failure.may_pass:
            self._try_again(clip, failure.message, failure.exit_code, failure.detail)
        else:
            self._give_up(clip, failure.message, failure.exit_code, failure.detail)

    def _try_again(self, clip: Clip, why: str, exit_code: int, detail: str | None = None) -> None:
        """After all the others, unless it was tried often enough."""
        attempts = clip.attempts + 1
        if attempts > self._policy.retries:
            self._give_up(clip, why, exit_code, detail)
            return
        logger.warning("%s failed, and is tried again later: %s", clip.path, why)
        self._manifest.move(
            clip.id, "failed", detail, error=why, exit_code=exit_code, attempts=attempts
        )
        self._todo.append(clip.id)
        self._tell(Event(kind="failed", clip=self._manifest.clip(clip.id)))

    def _give_up(self, clip: Clip, why: str, exit_code: int, detail: str | None = None) -> None:
        attempts = clip.attempts + 1
        self._manifest.move(
            clip.id, "quarantined", detail, error=why, exit_code=exit_code, attempts=attempts
        )
        self._tell(Event(kind="quarantined", clip=self._manifest.clip(clip.id)))

    def _note_progress(self, *, at_once: bool = False) -> None:
        time_s = time.monotonic()
        if self._frames and (at_once or time_s >= self._noted_s + _NOTE_EVERY_S):
            self._noted_s = time_s
            self._manifest.set_progress(self._frames)
