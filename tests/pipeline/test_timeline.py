"""Times go in and come out the same, however they step."""

from __future__ import annotations

import pytest

from vsr.pipeline.timeline import Timeline, pack_runs, unpack_runs


@pytest.mark.parametrize("values", [[], [1], [1, 1, 1], [1, 2, 1], [0, 0, 5, 5, 5, -3]])
def test_runs_round_trip(values: list[int]) -> None:
    assert list(unpack_runs(pack_runs(values))) == values


@pytest.mark.parametrize(
    "pts", [[0], [-512, 0, 512], [7, 8, 1000, 1001], [33, 67, 100, 133, 167, 200]]
)
def test_a_timeline_round_trips_through_json(pts: list[int]) -> None:
    durations = [index % 2 * 512 for index in range(len(pts))]
    timeline = Timeline.from_frames(pts, durations)
    again = Timeline.model_validate_json(timeline.model_dump_json())
    assert again == timeline
    assert again.pts() == pts
    assert again.durations() == durations
    assert again.num_frames == len(pts)


def test_constant_frame_rate_is_small() -> None:
    timeline = Timeline.from_frames([512 * index for index in range(200_000)], [512] * 200_000)
    assert len(timeline.model_dump_json()) < 200
