from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from vsr.models.ahead import UsesHelper, ahead
from vsr.models.image.interpolation import Interpolation
from vsr.models.video.flowprop import Direction, FlowProp


@pytest.fixture
def helper() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def test_results_come_in_order_and_never_too_many_ahead(helper: ThreadPoolExecutor) -> None:
    begun: list[int] = []

    def work(number: int) -> tuple[int, int]:
        begun.append(number)
        return number, threading.get_ident()

    with torch.no_grad():
        for expected, (number, thread) in enumerate(
            ahead((partial(work, n) for n in range(9)), helper, num_ahead=2)
        ):
            assert number == expected
            assert thread != threading.get_ident()
            assert len(begun) <= number + 4  # the one given, two begun, one asked for
    assert begun == list(range(9))


def test_without_a_helper_nothing_is_done_before_it_is_asked_for() -> None:
    begun: list[int] = []
    results = ahead((partial(begun.append, n) for n in range(3)), None)
    assert begun == []
    next(results)
    assert begun == [0]


def test_what_a_work_raises_comes_where_its_result_would(helper: ThreadPoolExecutor) -> None:
    def fail() -> int:
        raise MemoryError("full")

    with torch.no_grad():
        results = ahead(iter([lambda: 1, fail, lambda: 3]), helper)
        assert next(results) == 1
        with pytest.raises(MemoryError, match="full"):
            next(results)


def test_the_caller_decides_on_inference(helper: ThreadPoolExecutor) -> None:
    def made() -> torch.Tensor:
        return torch.ones(1) + 1

    with torch.inference_mode():
        assert next(ahead([made], helper)).is_inference()
    with torch.no_grad():
        result = next(ahead([made], helper))
        assert not result.is_inference() and not result.requires_grad


def test_who_stops_in_the_middle_leaves_nothing_to_do(helper: ThreadPoolExecutor) -> None:
    hold, begun = threading.Event(), []

    def work(number: int) -> int:
        begun.append(number)
        hold.wait(5)
        return number

    with torch.no_grad():
        results = ahead((partial(work, n) for n in range(9)), helper, num_ahead=3)
        threading.Timer(0.05, hold.set).start()
        next(results)
        hold.clear()
        results.close()  # type: ignore[attr-defined]
        hold.set()
    helper.submit(int).result()
    assert len(begun) <= 3


@pytest.mark.parametrize("direction", ["forward", "both"])
@pytest.mark.parametrize("rounds", [1, 2])
def test_a_helper_changes_no_bit(
    direction: Direction, rounds: int, helper: ThreadPoolExecutor
) -> None:
    if rounds == 2 and direction != "both":
        pytest.skip("rounds need both directions")
    torch.manual_seed(3)
    model = FlowProp(
        scale=2, num_channels=16, num_blocks=1, direction=direction, num_rounds=rounds
    ).eval()
    torch.nn.init.normal_(model.tail.weight, std=0.05)
    shot = torch.rand(1, 7, 3, 40, 56, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        alone, state = model.upscale(shot, model.init_state(1, 40, 56), 2)
        assert isinstance(model, UsesHelper)
        model.helper = helper
        helped, after = model.upscale(shot, model.init_state(1, 40, 56), 2)
    assert torch.equal(helped, alone)
    assert all(torch.equal(a, b) for a, b in zip(after, state, strict=True))


def test_models_without_one_are_told_apart() -> None:
    assert not isinstance(Interpolation(scale=2), UsesHelper)
