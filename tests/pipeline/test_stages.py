"""Three threads: order, back pressure, errors with their frame, and nobody left behind."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from vsr.pipeline.stages import BoundedQueue, StageClock, iterate_ahead, run_stages


@dataclass(frozen=True)
class Item:
    pts: int


def threads_of_ours() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("vsr-")]


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    assert threads_of_ours() == []


def items(count: int) -> Iterator[Item]:
    for index in range(count):
        yield Item(10 * index)


def nothing() -> list[Item]:
    return []


def keep(item: Item) -> list[Item]:
    return [item]


def skip(item: Item) -> None:
    pass


@pytest.mark.parametrize("queue_size", [1, 3, 100])
def test_everything_is_written_once_in_order_and_closed(queue_size: int) -> None:
    written: list[int] = []

    def double(item: Item) -> list[Item]:
        return [item, Item(item.pts + 1)]

    def write(item: Item) -> None:
        written.append(item.pts)

    run_stages(
        items(50),
        double,
        lambda: [Item(-1)],
        write,
        lambda: written.append(-2),
        queue_size=queue_size,
    )
    expected = [pts for index in range(50) for pts in (10 * index, 10 * index + 1)]
    assert written == [*expected, -1, -2]


def test_an_empty_source_is_closed() -> None:
    closed: list[bool] = []
    run_stages(items(0), keep, nothing, skip, lambda: closed.append(True))
    assert closed == [True]


def test_a_slow_encoder_holds_the_decoder_back() -> None:
    decoded: list[int] = []
    gate = threading.Event()
    most_ahead = 0

    def source() -> Iterator[Item]:
        for item in items(40):
            decoded.append(item.pts)
            yield item

    written: list[int] = []

    def write(item: Item) -> None:
        nonlocal most_ahead
        gate.wait(0.002)
        most_ahead = max(most_ahead, len(decoded) - len(written))
        written.append(item.pts)

    run_stages(source(), keep, nothing, write, nothing, queue_size=2)
    # Two full queues and one item in the hands of each stage.
    assert most_ahead <= 2 + 2 + 3


def failing_source() -> Iterator[Item]:
    yield Item(7)
    raise ValueError("broken packet")


def raise_at(pts: int, error: BaseException) -> Callable[[Item], list[Item]]:
    def work(item: Item) -> list[Item]:
        if item.pts == pts:
            raise error
        return [item]

    return work


def test_a_decoder_error_names_the_frame_before() -> None:
    with pytest.raises(ValueError, match="broken packet") as caught:
        run_stages(failing_source(), keep, nothing, skip, nothing)
    assert caught.value.__notes__ == ["in stage decode, after the frame at pts 7"]


@pytest.mark.parametrize("stage", ["infer", "encode"])
def test_an_error_is_raised_in_the_caller_with_its_frame(stage: str) -> None:
    closed: list[bool] = []
    bad = raise_at(30, RuntimeError("no"))
    push = bad if stage == "infer" else keep
    write = bad if stage == "encode" else skip
    with pytest.raises(RuntimeError, match="no") as caught:
        run_stages(
            items(10_000),
            push,
            nothing,
            write,
            lambda: closed.append(True),
            queue_size=2,
        )
    assert caught.value.__notes__ == [f"in stage {stage}, at pts 30"]
    assert closed == []


def test_an_error_while_closing_is_raised() -> None:
    def close() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        run_stages(items(3), keep, nothing, skip, close)


def test_an_interrupt_of_the_caller_ends_all_threads() -> None:
    def endless() -> Iterator[Item]:
        index = 0
        while True:
            yield Item(index)
            index += 1

    def interrupt() -> None:
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        run_stages(endless(), keep, nothing, lambda item: time.sleep(0.01), nothing)
    helper.join()
    assert threads_of_ours() == []


def test_the_slowest_stage_is_the_bottleneck() -> None:
    clock = StageClock()

    def infer(item: Item) -> list[Item]:
        time.sleep(0.005)
        return [item]

    times = run_stages(items(10), infer, nothing, skip, nothing, clock=clock)
    assert times.bottleneck == "infer"
    assert 0.05 <= times.busy_s["infer"] <= times.wall_s
    assert times.busy_s["encode"] < 0.05
    assert clock.busy_s == times.busy_s


def test_a_queue_ends_after_its_last_item() -> None:
    queue: BoundedQueue[int] = BoundedQueue(4)
    for value in (1, 2, 3):
        queue.put(value)
    queue.end()
    assert list(queue) == [1, 2, 3]


def test_items_come_ahead_in_order_and_no_further_than_asked() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            made.append(item)
            yield item

    with closing(iterate_ahead(items(), 3)) as ahead:
        assert next(ahead) == 0
        deadline = time.monotonic() + 5
        while len(made) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        # One taken, three waiting, one in hand.
        assert made == [0, 1, 2, 3, 4]
        assert list(ahead) == list(range(1, 20))


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("three")

    seen = []
    with pytest.raises(KeyError, match="three"):
        for item in iterate_ahead(items()):
            seen.append(item)
    assert seen == [1, 2]


def test_leaving_early_ends_the_thread_before_it_returns() -> None:
    threads = threading.active_count()
    ahead = iterate_ahead(itertools.count(), 2)
    assert next(ahead) == 0
    ahead.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == threads
