"""A trace says what took the time, and how much of it nothing did."""

from __future__ import annotations

import pytest
import torch

from vsr.engine.trace import gpu_trace, summary, trace

CPU = torch.device("cpu")


def test_a_processors_operations_are_summed_up() -> None:
    weight = torch.randn(8, 3, 3, 3)
    picture = torch.randn(1, 3, 32, 32)
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        for _ in range(5):
            torch.nn.functional.conv2d(picture, weight, padding=1).relu()

    found = trace(work, CPU)
    assert calls == 1
    assert (found.device, found.busy, found.copy_ms) == ("cpu", None, 0.0)
    relu = next(row for row in trace(work, CPU, num_rows=100).rows if row.name == "aten::relu")
    assert relu.calls == 5
    times = [row.total_ms for row in found.rows]
    assert times == sorted(times, reverse=True)
    assert 0 < sum(times) <= found.wall_ms
    assert len(found.rows) <= 12


def test_overlapping_kernels_count_once() -> None:
    events = [
        ("conv", 10.0, 14.0),
        ("Memcpy DtoH (Device -> Pinned)", 12.0, 16.0),
        ("conv", 1.0, 3.0),
        ("warp", 2.0, 2.5),
    ]
    found = gpu_trace(events, 20.0)
    # From 1 to 3 and from 10 to 16.
    assert found.busy == pytest.approx(8 / 20)
    assert found.copy_ms == 4.0
    first = found.rows[0]
    assert (first.name, first.calls, first.total_ms) == ("conv", 2, 6.0)
    assert sum(row.share for row in found.rows) == pytest.approx(1, abs=1e-3)


def test_nothing_done_is_no_error() -> None:
    found = gpu_trace([], 5.0)
    assert (found.busy, found.rows) == (0.0, ())
    assert summary([], 3) == ()


def test_only_the_longest_are_listed() -> None:
    rows = summary([("a", 1, 1.0), ("b", 1, 5.0), ("c", 2, 2.0)], 2)
    assert [row.name for row in rows] == ["b", "c"]
    assert rows[0].share == pytest.approx(5 / 8)


@pytest.mark.usefixtures("needs_cuda")
def test_kernels_of_a_gpu_are_seen() -> None:
    device = torch.device("cuda", 0)
    a = torch.randn(2048, 2048, device=device)

    def work() -> None:
        (a @ a).cpu()

    work()
    found = trace(work, device)
    assert found.device == "cuda"
    assert found.busy is not None
    assert 0 < found.busy <= 1
    assert found.copy_ms > 0
    assert any("Memcpy" in row.name for row in found.rows)
