from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from vsr.media.damage import DamageLog
from vsr.media.timestamps import TimestampRepair


def repair(
    raw: Sequence[int | None], *, duration: int = 0, step: int = 40, first_pts: int = 0
) -> tuple[list[int], list[tuple[str, int | None, int | None, int]]]:
    """Timestamps after repair, and (kind, first, last, count) of every event."""
    log = DamageLog()
    stamps: TimestampRepair[int] = TimestampRepair(log, default_step=step, first_pts=first_pts)
    out = [pair for index, pts in enumerate(raw) for pair in stamps.push(index, pts, duration)]
    out += stamps.flush()
    assert [item for item, _ in out] == list(range(len(raw))), "frames lost or out of order"
    events = [(e.kind, e.start_pts, e.end_pts, e.count) for e in log.events]
    return [pts for _, pts in out], events


@pytest.mark.parametrize(
    "raw", [[0, 40, 80], [5], [], [-80, -40, 0], [0, 1, 1000, 1001], [2**40, 2**40 + 1]]
)
def test_good_timestamps_pass(raw: list[int | None]) -> None:
    assert repair(raw) == (raw, [])


@pytest.mark.parametrize(
    ("raw", "pts", "events"),
    [
        ([0, None, 80], [0, 40, 80], [("missing_pts", 40, 40, 1)]),
        ([0, None, None, 90], [0, 30, 60, 90], [("missing_pts", 30, 60, 2)]),
        ([None, None, 100], [20, 60, 100], [("missing_pts", 20, 60, 2)]),
        ([0, 40, None], [0, 40, 80], [("missing_pts", 80, 80, 1)]),
        ([None, None], [7, 47], [("missing_pts", 7, 47, 2)]),
        ([0, 40, 40, 120], [0, 40, 80, 120], [("duplicate_pts", 80, 80, 1)]),
        ([0, 40, 40], [0, 40, 80], [("duplicate_pts", 80, 80, 1)]),
        ([0, 40, 80, 10, 160], [0, 40, 80, 120, 160], [("backward_pts", 120, 120, 1)]),
        ([0, 40, 120, 80, 160], [0, 40, 80, 120, 160], [("swapped_pts", 80, 80, 1)]),
        (
            [0, 40, 99999, 120, 160, 200],
            [0, 40, 80, 120, 160, 200],
            [("outlier_pts", 120, 120, 1), ("missing_pts", 80, 80, 1)],
        ),
        # No tick is free between neighbours: the next ones give way too.
        ([0, 1, 1, 2, 3, 10], [0, 1, 3, 5, 7, 10], None),
    ],
)
def test_repairs(
    raw: list[int | None], pts: list[int], events: list[tuple[str, int, int, int]] | None
) -> None:
    got = repair(raw, first_pts=7)
    assert got[0] == pts
    if events is not None:
        assert got[1] == events


def test_a_clock_that_restarts_follows_on() -> None:
    raw = [1000 + 40 * k for k in range(5)] + [40 * k for k in range(12)]
    pts, events = repair(raw)
    assert pts == [1000 + 40 * k for k in range(17)]
    assert events == [("reset_pts", 1200, 1480, 8)]


def test_a_restarted_clock_keeps_its_own_distances() -> None:
    second = [0, 50, 60, 100, 110, 200, 210, 220, 300, 310]
    pts, _ = repair([500, 540, *second])
    assert pts == [500, 540, *(580 + value for value in second)]


def test_all_missing() -> None:
    pts, events = repair([None] * 20, first_pts=100)
    assert pts == [100 + 40 * k for k in range(20)]
    assert events == [("missing_pts", 100, 860, 20)]


def test_duration_beats_the_usual_step() -> None:
    assert repair([0, 25, None, None], duration=25)[0] == [0, 25, 50, 75]


@pytest.mark.parametrize("seed", range(30))
def test_whatever_comes_rises_strictly(seed: int) -> None:
    source = random.Random(seed)
    raw = [source.choice([None, source.randrange(-50, 2000), 40 * k]) for k in range(60)]
    pts, _ = repair(raw)
    assert all(a < b for a, b in pairwise(pts))
