"""A process that does one piece of work at a time: the parent's side of `pipeline.worker`.

A child that crashes or hangs costs the piece it was at. It dies with its parent, whatever way that
goes, and leaves the terminal's signals to it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from vsr.engine.memory import says_out_of_memory
from vsr.errors import DeviceError
from vsr.media.ffmpeg_log import message_file
from vsr.pipeline.death import Death, signal_name, stage_of

# The parent's sys.path, so that the child finds what the parent runs, wherever that came from.
# The pipes are moved before anything is imported that could print.
_START = (
    "import os, pickle, sys; i = os.fdopen(os.dup(0), 'rb'); o = os.fdopen(os.dup(1), 'wb'); "
    "n = os.open(os.devnull, os.O_RDONLY); os.dup2(n, 0); os.dup2(2, 1); "
    "sys.path[:] = pickle.load(i); from vsr.pipeline.worker import serve; serve(i, o)"
)
# Names of glibc's; other libraries pass them over. One heap for all threads: of one each, frames
# passed from thread to thread leave holes in all, and memory creeps up by a tenth over a long run.
# And what a picture leaves is kept for the next one: given back to the system and asked for anew,
# each page of it is cleared and mapped again, which took longer than what was computed in it.
_HEAP = {
    "MALLOC_ARENA_MAX": "1",
    # None of their own, however large: those are always given back.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2_000_000_000),
}
_END_S = 5.0
_DUMP_S = 0.3
_TAIL_BYTES = 1 << 16
_NO_ROOM = ("MemoryError", "failed to map segment", "can't start new thread")
_LEAST_CPU_SHARE = 0.01

Message = tuple[Any, ...]
Events = SimpleQueue[tuple["Child", Message | None]]
"""What children said; None: the child is gone."""


def can_start() -> bool:
    """Whether there is a Python to start, which an embedded or frozen one is not."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


class Child:
    """One process, started at once.

    Args:
        events: where its messages are put.
        needs_model: import at once what a model needs.

    Raises:
        DeviceError: the system starts no process.
    """

    def __init__(self, events: Events, *, needs_model: bool = False) -> None:
        self.needs_model = needs_model
        self.has_worked = False
        """Whether it was given anything to do."""
        self.is_ready = False
        """Whether it has imported what it needs, and hears."""
        self.limit_s = 0.0
        """How long it may work without progress, whatever it does."""
        self.plan: object | None = None
        """Its plan, if one was sent."""
        self._messages = message_file()
        self._orders: SimpleQueue[object] = SimpleQueue()
        self._ended_by: str | None = None
        self.rest()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._messages,
                env=_HEAP | os.environ,
            )
        except OSError as error:
            self._messages.close()
            raise _not_born(error.strerror) from error
        # The kernel ends a child with the thread that started it: only the main one surely stays.
        is_main = threading.current_thread() is threading.main_thread()
        self._send(sys.path)
        self._send((os.getpid() if is_main else None, needs_model))
        try:
            threading.Thread(target=self._write, daemon=True).start()
            threading.Thread(target=self._read, args=(events,), daemon=True).start()
        except RuntimeError as error:
            self.close()
            raise _not_born(str(error)) from error

    def call(self, function: Any, *arguments: Any) -> None:
        """Have `function(job, *arguments)` done; it is named, not sent."""
        self.rest()
        self.has_worked = True
        self._send(pickle.dumps((function, *arguments)))

    def abandon(self) -> None:
        """Ask it to drop what it does, and to clean up."""
        self._send(None)

    def rest(self) -> None:
        """Note a sign of life: nothing is overdue."""
        self._silent_s = 0.0
        self._idle_s = 0.0
        self._cpu_s: float | None = None

    def overdue(self, step_s: float, watchdog_s: float) -> str | None:
        """Whether it hangs, called every `step_s` seconds while it works.

        It hangs when nothing came for `watchdog_s` in which it used no processor either (where that
        can be seen), or for its `limit_s` whatever it did.
        """
        self._silent_s += step_s
        self._idle_s += step_s
        if self._cpu_s is None:
            self._cpu_s = cpu_seconds(self.process.pid)
        if self._silent_s >= self.limit_s:
            return f"made no progress for {self._silent_s:.0f} s"
        if self._idle_s < watchdog_s:
            return None
        cpu_s = cpu_seconds(self.process.pid)
        if cpu_s is not None and self._cpu_s is not None:
            used_s, self._cpu_s = cpu_s - self._cpu_s, cpu_s
            if used_s >= _LEAST_CPU_SHARE * self._idle_s:
                self._idle_s = 0.0
                return None
        return f"made no progress for {self._silent_s:.0f} s"

    def kill(self, why: str | None = None) -> None:
        """End it now, and wait until it is gone.

        Args:
            why: it hangs, as `overdue` said; what it hangs in is then asked first.
        """
        if self.process.returncode is None and self._ended_by is None:
            self._ended_by = why or "was ended"
            if why is not None and hasattr(signal, "SIGUSR2"):
                self.process.send_signal(signal.SIGUSR2)
                time.sleep(_DUMP_S)
            self.process.kill()
        self._send(None, is_last=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_S)

    def close(self) -> None:
        """End it, and forget what it said."""
        self.kill()
        self._messages.close()

    def death(self) -> Death:
        """How it ended, once nothing more comes from it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_S)
        how, is_killed = self._ended_by, False
        self.kill()
        code = self.process.returncode
        if how is None and code is not None and code < 0:
            how = f"was killed by {signal_name(-code)}"
            is_killed = -code == getattr(signal, "SIGKILL", 0)
        text = self._last_words()
        return Death(
            how=how or f"ended with exit code {code}",
            stage=stage_of(text),
            said=text,
            is_memory=says_out_of_memory(text) or any(word in text for word in _NO_ROOM),
            is_killed=is_killed,
        )

    def _last_words(self) -> str:
        number = self._messages.fileno()
        size = os.fstat(number).st_size
        start = max(0, size - _TAIL_BYTES)
        return os.pread(number, _TAIL_BYTES, start).decode("utf-8", "replace")

    def _send(self, item: Any, *, is_last: bool = False) -> None:
        self._orders.put(StopIteration if is_last else item)

    def _write(self) -> None:
        """In a thread of its own: a child that hangs reads nothing, and pipes are small."""
        stream = self.process.stdin
        assert stream is not None
        # A broken pipe is a dead child, and whoever reads its answers hears of that.
        with contextlib.suppress(OSError), stream:
            while (item := self._orders.get()) is not StopIteration:
                pickle.dump(item, stream)
                stream.flush()

    def _read(self, events: Events) -> None:
        stream = self.process.stdout
        assert stream is not None
        with stream:
            while True:
                try:
                    events.put((self, pickle.load(stream)))
                except (EOFError, OSError, pickle.UnpicklingError):
                    break
                except Exception:  # noqa: BLE001 - carried to who waits, never swallowed
                    events.put((self, ("bug", traceback.format_exc())))
                    break
        events.put((self, None))


def _not_born(why: str | None) -> DeviceError:
    return DeviceError(
        f"A worker process could not be started: {why}",
        hint="the limits on processes or memory are too low here",
    )


def cpu_seconds(process_id: int) -> float | None:
    """Processor time that a process has used, all threads together; None where unknown."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The name before the last bracket may hold anything. Then come state, ..., utime, stime.
    values = text.rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")
