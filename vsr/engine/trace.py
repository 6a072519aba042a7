"""Where a device's time goes: what ran, how long, and how much of the time nothing did."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

NUM_ROWS = 12


@dataclass(frozen=True, slots=True)
class TraceRow:
    """All calls of one kernel, or of one operation of the processor."""

    name: str
    calls: int
    total_ms: float
    share: float
    """Of the time of all of them, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What a device did while some work ran."""

    device: str
    """`cuda`: kernels and copies; `cpu`: torch's operations, each without those it calls."""
    wall_ms: float
    """With the profiler looking on, which takes time of its own."""
    busy: float | None
    """Share of it in which the GPU did anything, from 0 to 1; None on a CPU."""
    copy_ms: float
    """Of copies to, from and on the GPU; 0 on a CPU."""
    rows: tuple[TraceRow, ...]
    """The longest, longest first."""


def trace(work: Callable[[], object], device: torch.device, num_rows: int = NUM_ROWS) -> Trace:
    """Run work under torch's profiler.

    Args:
        work: done once; it should have been done before, or what is seen is the first time.
        device: where.
        num_rows: of the summary.
    """
    is_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU]
    if is_gpu:
        activities.append(ProfilerActivity.CUDA)
        torch.cuda.synchronize(device)
    with profile(activities=activities) as profiler:
        started = time.perf_counter()
        work()
        if is_gpu:
            torch.cuda.synchronize(device)
        wall_ms = 1e3 * (time.perf_counter() - started)
    if not is_gpu:
        spent = [
            (str(row.key), int(row.count), row.self_cpu_time_total / 1e3)
            for row in profiler.key_averages()
        ]
        return Trace("cpu", round(wall_ms, 3), None, 0.0, summary(spent, num_rows))
    found = [
        (str(event.name), event.time_range.start / 1e3, event.time_range.end / 1e3)
        for event in _events(profiler)
        if event.device_type.name == "CUDA"
    ]
    return gpu_trace(found, wall_ms, num_rows)


def _events(profiler: Any) -> Iterable[Any]:
    return profiler.events() or ()


def gpu_trace(
    found: Iterable[tuple[str, float, float]], wall_ms: float, num_rows: int = NUM_ROWS
) -> Trace:
    """Sum up what a GPU did.

    Args:
        found: name, begin and end of each kernel and copy, milliseconds, in any order.
        wall_ms: how long all of it took.
        num_rows: of the summary.
    """
    found = sorted(found, key=lambda each: each[1])
    calls: Counter[str] = Counter()
    total: Counter[str] = Counter()
    busy_ms, until = 0.0, float("-inf")
    for name, begin, end in found:
        calls[name] += 1
        total[name] += end - begin  # type: ignore[assignment]
        # Several streams at a time count once.
        busy_ms += max(0.0, end - max(begin, until))
        until = max(until, end)
    copies = sum(ms for name, ms in total.items() if name.startswith(("Memcpy", "Memset")))
    rows = summary(((name, calls[name], total[name]) for name in total), num_rows)
    busy = min(1.0, busy_ms / wall_ms) if wall_ms > 0 else 0.0
    return Trace("cuda", round(wall_ms, 3), round(busy, 4), round(float(copies), 3), rows)


def summary(spent: Iterable[tuple[str, int, float]], num_rows: int) -> tuple[TraceRow, ...]:
    """The longest of (name, calls, milliseconds), longest first."""
    longest = sorted(spent, key=lambda each: (-each[2], each[0]))
    whole = sum(ms for _, _, ms in longest) or 1.0
    return tuple(
        TraceRow(name, calls, round(ms, 3), round(ms / whole, 4))
        for name, calls, ms in longest[:num_rows]
    )
