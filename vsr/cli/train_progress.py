"""What `vsr train` shows while networks learn, and how it is stopped."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from vsr.cli.console import is_interactive, say
from vsr.errors import JobCancelledError

if TYPE_CHECKING:
    from vsr.training.loop import Progress

PERCENT_PER_LINE = 10
"""Where stderr is no terminal, one line is said each time so much more is done."""
EXIT_TERMINATED = 143


@contextmanager
def bars(names: Sequence[str]) -> Iterator[list[Callable[[Progress], None]]]:
    """For each run a bar on a terminal, a line now and then elsewhere, nothing with -q."""
    labels = [f"{name}: " if len(names) > 1 else "" for name in names]
    if not is_interactive():
        yield [_Lines(label) for label in labels]
        return
    from tqdm import tqdm

    shown = [
        tqdm(
            total=100.0,
            bar_format=f"{label or 'train: '}{{percentage:3.0f}}%|{{bar}}| {{desc}}",
            mininterval=0.5,
            position=number,
        )
        for number, label in enumerate(labels)
    ]

    def drawer(bar: Any) -> Callable[[Progress], None]:
        def draw(progress: Progress) -> None:
            bar.set_description_str(_describe(progress), refresh=False)
            bar.update(100 * progress.fraction - bar.n)

        return draw

    try:
        yield [drawer(bar) for bar in shown]
    finally:
        for bar in shown:
            bar.close()


class _Lines:
    """Say how far the training is, every `PERCENT_PER_LINE` percent."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._next_percent: int | None = None

    def __call__(self, progress: Progress) -> None:
        percent = int(100 * progress.fraction)
        if self._next_percent is None:
            # A resumed run starts in the middle.
            self._next_percent = percent - percent % PERCENT_PER_LINE + PERCENT_PER_LINE
        if percent >= self._next_percent:
            self._next_percent = percent - percent % PERCENT_PER_LINE + PERCENT_PER_LINE
            say(f"{self._label}{percent:3d} %  {_describe(progress)}")


def _describe(progress: Progress) -> str:
    """Step, loss, throughput and time left, as a bar or a line says it."""
    left_s = 0.0
    if progress.fraction > 0:
        left_s = progress.elapsed_s * (1 - progress.fraction) / progress.fraction
    hours, seconds = divmod(round(left_s), 3600)
    left = f"{hours}:{seconds // 60:02d}:{seconds % 60:02d}"
    return (
        f"step {progress.step}  loss {progress.loss:.5f}  "
        f"{progress.source_px_per_s / 1e3:.1f} kpx/s  "
        + (f"{progress.tflops:.3g} TFLOP/s  " if progress.tflops else "")
        + f"{left} left"
    )


class Stop:
    """Holds the first ^C or SIGTERM back until a step ends, so that a checkpoint is of whole steps.

    The second one acts at once.
    """

    def __init__(self) -> None:
        self._caught: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._caught = number
        self._restore()

    def check(self, progress: Progress) -> None:
        """Raise what was held back.

        Raises:
            JobCancelledError: ^C was typed.
            SystemExit: the process was told to end.
        """
        if self._caught == signal.SIGTERM:
            raise SystemExit(EXIT_TERMINATED)
        if self._caught is not None:
            raise JobCancelledError(
                f"stopped after step {progress.step}, checkpoint saved", hint="go on with --resume"
            )
