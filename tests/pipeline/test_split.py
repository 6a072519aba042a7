"""Every frame is in one segment, borders lie at cuts where they can, and none is tiny."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vsr.pipeline.plan import make_segments
from vsr.pipeline.split import Division, Needs, Piece, enter, split
from vsr.pipeline.timeline import Timeline


def borders(num_frames: int, cuts: list[int], max_frames: int, leaps: list[int]) -> list[int]:
    pieces = split(num_frames, cuts, Division(max_frames), leaps)
    return [piece.first for piece in pieces]


@pytest.mark.parametrize(
    ("num_frames", "cuts", "expected"),
    [
        (1, [], [0]),
        (124, [], [0]),
        (125, [], [0, 100]),
        (224, [], [0, 100]),
        (300, [], [0, 100, 200]),
        # A cut too early is passed over, one that is late enough is taken.
        (90, [24, 60], [0, 60]),
        (90, [25, 60], [0, 25, 60]),
        # A fixed border first, since the cut is too far.
        (200, [130], [0, 100, 130]),
        # What is left over at the end joins what is before.
        (110, [100], [0]),
        (120, [60, 100], [0, 60]),
    ],
)
def test_where_borders_lie(num_frames: int, cuts: list[int], expected: list[int]) -> None:
    assert borders(num_frames, cuts, 100, []) == expected


def test_a_stretch_left_out_is_a_border_whatever_the_length() -> None:
    assert borders(50, [10, 30], 100, [10]) == [0, 10]
    assert borders(50, [10, 30, 45], 100, [10, 45]) == [0, 10, 45]


@pytest.mark.parametrize("seed", range(20))
def test_every_frame_once_and_within_the_lengths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_frames, max_frames = int(rng.integers(1, 3000)), int(rng.integers(1, 200))
    drawn = rng.integers(1, max(2, num_frames), int(rng.integers(0, 60)))
    cuts = sorted({int(cut) for cut in drawn if cut < num_frames})
    division = Division(max_frames, warmup=16, context=6)
    pieces = split(num_frames, cuts, division)
    assert [0, *(piece.stop for piece in pieces)] == [*(p.first for p in pieces), num_frames]
    least = max(1, max_frames // 4)
    shots = [0, *cuts, num_frames]
    for piece in pieces:
        assert piece.num_frames >= min(least, num_frames)
        assert piece.num_frames <= max_frames + 2 * least
        start = max(shot for shot in shots if shot <= piece.first)
        stop = min(shot for shot in shots if shot >= piece.stop)
        assert piece.warmup == min(16, piece.first - start)
        assert piece.lookahead == min(6, stop - piece.stop)


def test_segments_read_over_their_borders_within_the_shot() -> None:
    pts = [7 * k for k in range(40)]
    timeline = Timeline.from_frames(pts, [7] * 40)
    pieces = split(40, [30], Division(4, warmup=10, context=6))
    segments = make_segments(timeline, (30,), pieces)
    assert sum(segment.num_frames for segment in segments) == 40
    assert [time for segment in segments for time in segment.timeline.pts()] == pts
    by_first = {segment.first_frame: segment for segment in segments}
    assert (by_first[8].warmup, by_first[8].lookahead) == (8, 6)
    assert (by_first[20].warmup, by_first[20].lookahead) == (10, 6)
    assert by_first[30].warmup == 0


def test_cuts_are_counted_from_the_first_own_frame() -> None:
    timeline = Timeline.from_frames(range(100), [1] * 100)
    pieces = (Piece(0, 50), Piece(50, 100))
    first, second = make_segments(timeline, (10, 50, 60, 99), pieces)
    assert first.cuts == (10,)
    assert second.cuts == (10, 49)


def test_decoding_starts_at_the_last_key_that_leaves_room() -> None:
    needs = [Needs(0, 9), Needs(10, 19), Needs(21, 30)]
    assert enter(needs, [0, 10, 20], 0) == (0, 10, 20)
    assert enter(needs, [0, 10, 20], 2) == (0, 0, 10)
    assert enter(needs, [], 0) == (0, 0, 0)


def test_no_more_is_decoded_in_vain_than_by_eight_segments_from_the_start() -> None:
    def needs(count: int) -> list[Needs]:
        return [Needs(100 * k, 100 * k + 99) for k in range(count)]

    assert enter(needs(8), [], 0) is not None
    assert enter(needs(9), [], 0) is None
    assert enter(needs(9), [400], 0) is not None
    assert enter(needs(1), [], 0) == (0,)


def test_a_long_film_is_split_in_no_time() -> None:
    num_frames = 400_000
    cuts = list(range(50, num_frames, 50))
    started = time.process_time()
    pieces = split(num_frames, cuts, Division(480, 16, 6), cuts[::9])
    timeline = Timeline.from_frames(range(num_frames), [1] * num_frames)
    segments = make_segments(timeline, cuts, pieces)
    assert time.process_time() - started < 5
    assert len(segments) > 800
