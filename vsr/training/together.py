"""Several small networks trained at once on one device, which one of them alone would not fill.

Each has a thread, and on a GPU a stream, of its own; the store lies there once. Threads suffice: a
recorded step is a single call, and kernels of several streams share the device, which those of
several processes would only take turns at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from vsr.training.loop import Progress, Trainer, run

_WAIT_S = 0.2
"""Between looks at signals, which the main thread alone receives."""


def run_together(
    trainers: Sequence[Trainer], progress: Sequence[Callable[[Progress], None]]
) -> list[nn.Module | BaseException]:
    """Run what is left of several schedules, as `loop.run` does each.

    On a CPU they share its threads. What each draws is its own, except by networks that draw from
    torch's generator within a step (features, generators).

    Args:
        trainers: fresh or resumed, all on one device.
        progress: of each, called in its thread after every step; see `loop.run`.

    Returns:
        For each its mean weights, or what ended it: the others go on.
    """
    results: list[nn.Module | BaseException | None] = [None] * len(trainers)

    def work(number: int) -> None:
        trainer = trainers[number]
        try:
            with _place(trainer.device):
                results[number] = run(trainer, progress=progress[number])
        except BaseException as error:  # noqa: BLE001  # told by whoever waits for it
            results[number] = error

    with _shared_threads(trainers):
        threads = [
            # They do not outlive a main thread that is interrupted twice.
            threading.Thread(target=work, args=(number,), name=trainer.folder.name, daemon=True)
            for number, trainer in enumerate(trainers)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(_WAIT_S)
    return [result for result in results if result is not None]


@contextmanager
def _place(device: torch.device) -> Iterator[None]:
    """A thread's own stream on a GPU; on a CPU, its settings."""
    with ExitStack() as stack:
        if device.type == "cuda":
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            stack.enter_context(torch.cuda.stream(stream))
        else:
            # A young network's activations reach numbers so small that a CPU slows down on them.
            torch.set_flush_denormal(True)
        yield


@contextmanager
def _shared_threads(trainers: Sequence[Trainer]) -> Iterator[None]:
    """Part a CPU's threads between the runs; let a GPU finish what was begun in other streams."""
    if trainers[0].device.type == "cuda":
        torch.cuda.synchronize(trainers[0].device)
        yield
        torch.cuda.synchronize(trainers[0].device)
        return
    count = torch.get_num_threads()
    torch.set_num_threads(max(1, count // len(trainers)))
    try:
        yield
    finally:
        torch.set_num_threads(count)
