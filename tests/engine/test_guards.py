"""Guards see what a model did wrong, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsr.engine import guards
from vsr.engine.guards import BLOCK_PX, Alarm, GuardEvent, Judge, merge_events
from vsr.models.image.interpolation import imresize

SCALE = 2
SIZE = (75, 110)


def film(num_frames: int, seed: int = 0, gain: float = 1.0) -> Tensor:
    """(T, 3, H, W) of a pattern that moves."""
    torch.manual_seed(seed)
    base = torch.nn.functional.interpolate(torch.rand(1, 3, 14, 20), size=SIZE, mode="bilinear")
    return gain * torch.cat([base.roll(5 * t, -1) for t in range(num_frames)])


def sketch(pictures_TCHW: Tensor, block_px: int) -> Tensor:
    return guards.sketch(guards.band_means(pictures_TCHW, block_px), block_px)


def sketches(pictures_TCHW: Tensor, scale: int = 1) -> NDArray[np.float32]:
    return np.asarray(sketch(pictures_TCHW, scale * BLOCK_PX).numpy())


def judge(sources: Tensor, results: Tensor, judge: Judge | None = None) -> Alarm | None:
    judge = judge or Judge()
    given, made = sketches(sources), sketches(results, SCALE)
    alarm = judge.judge(given, made)
    judge.accept(given, made)
    return alarm


def larger(pictures: Tensor) -> Tensor:
    return imresize(pictures, scale=SCALE)


def test_a_sketch_holds_means_and_the_spread_of_columns() -> None:
    picture = torch.rand(1, 3, 37, 50)
    means, spread = sketch(picture, 16)[0]
    assert means.shape == (3, 2, 3)
    assert torch.allclose(means[1, 0, 0], picture[0, 1, :16, :16].mean(), atol=1e-6)
    # What is left over belongs to the last blocks.
    assert torch.allclose(means[2, 1, 2], picture[0, 2, 16:, 32:].mean(), atol=1e-6)
    columns = picture[0, 0, :16, 16:32].mean(0)
    assert torch.allclose(spread[0, 0, 1], columns.max() - columns.min(), atol=1e-6)


def test_a_sketch_does_not_depend_on_the_order_in_memory() -> None:
    picture = torch.rand(2, 3, 70, 83)
    turned = picture.to(memory_format=torch.channels_last)
    assert not turned.is_contiguous()
    assert torch.allclose(sketch(turned, 32), sketch(picture, 32), atol=1e-6)
    part = picture[..., 3:]
    assert torch.allclose(sketch(part, 32), sketch(part.contiguous(), 32), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (16, 16), (17, 33)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_small_pictures_have_sketches_as_well(size: tuple[int, int], dtype: torch.dtype) -> None:
    found = sketch(torch.full((2, 3, *size), 0.5, dtype=dtype), 16)
    assert found.dtype == torch.float32
    assert (found[:, 0] == 0.5).all() and (found[:, 1] == 0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [(0, 0, 0), (2, 149, 219), (1, 70, 100)])
def test_one_sample_that_is_no_number_is_seen(value: float, place: tuple[int, int, int]) -> None:
    sources = film(3)
    results = larger(sources)
    results[(1, *place)] = value
    alarm = judge(sources, results)
    assert alarm is not None and alarm.kind == "nan"
    assert "1 blocks of 16 px in 1 of 3 pictures" in alarm.detail


@pytest.mark.parametrize("gain", [1.0, 0.15])
def test_a_black_tile_is_seen_in_bright_and_dark_scenes(gain: float) -> None:
    sources = film(2, gain=gain)
    results = larger(sources)
    results[1, :, 32:96, 64:128] = 0
    alarm = judge(sources, results)
    assert alarm is not None and alarm.kind == "black"


def test_garbage_is_seen_in_one_channel() -> None:
    sources = film(1)
    results = larger(sources)
    results[0, 2, :64, :64] = 1 - results[0, 2, :64, :64].round()
    alarm = judge(sources, results)
    assert alarm is not None and alarm.kind == "black"


@pytest.mark.parametrize("together", [True, False])
def test_a_frozen_picture_is_seen_within_a_window_and_from_one_to_the_next(together: bool) -> None:
    sources = film(3)
    results = larger(sources)
    results[2] = results[1]
    watch = Judge()
    if together:
        alarm = judge(sources, results, watch)
    else:
        assert judge(sources[:2], results[:2], watch) is None
        alarm = judge(sources[2:3], results[2:3], watch)
    assert alarm is not None and alarm.kind == "frozen"


def test_a_new_shot_is_not_compared_with_the_one_before() -> None:
    sources = film(2)
    watch = Judge()
    assert judge(sources[:1], larger(sources[:1]), watch) is None
    watch.start_shot()
    # Bad as a successor, but it has no predecessor.
    assert judge(sources[1:] * 0 + 0.5, larger(sources[1:] * 0 + 0.5), watch) is None


def quiet_films() -> dict[str, Tensor]:
    torch.manual_seed(3)
    noise = torch.rand(6, 3, *SIZE)
    bar = torch.zeros(6, 3, *SIZE)
    for t in range(6):
        bar[t, :, :, 9 * t : 9 * t + 4] = 1
    rows = torch.zeros(6, 3, *SIZE)
    rows[::2, :, ::2] = 1
    rows[1::2, :, 1::2] = 1
    fade = film(1).expand(6, -1, -1, -1) * torch.linspace(1, 0, 6)[:, None, None, None]
    return {
        "black": torch.zeros(6, 3, *SIZE),
        "white": torch.ones(6, 3, *SIZE),
        "static": film(1).expand(6, -1, -1, -1),
        "fade": fade,
        "noise": noise,
        "black and white noise": noise.round(),
        "flashes": torch.tensor([0.0, 1, 0, 0, 1, 0])[:, None, None, None].expand(6, 3, *SIZE),
        "cuts": torch.cat((film(2, 1), noise[:1], film(2, 2, 0.1), torch.zeros(1, 3, *SIZE))),
        "bar": bar,
        "fields": rows,
        "super-white": film(6) * 4 - 1,
    }


@pytest.mark.parametrize("name", list(quiet_films()))
def test_nothing_is_seen_in_what_a_model_makes_of_odd_films(name: str) -> None:
    sources = quiet_films()[name]
    assert judge(sources, larger(sources)) is None


def event(first: int, count: int, kind: str = "nan", action: str = "redone") -> GuardEvent:
    return GuardEvent(kind, first, count, action, f"at {first}")  # type: ignore[arg-type]


def test_events_of_neighbouring_windows_are_one() -> None:
    events: Sequence[GuardEvent] = [
        event(16, 8),
        event(0, 8),
        event(8, 8),
        event(24, 8, action="made by bicubic-x2"),
        event(40, 8, action="made by bicubic-x2"),
        event(48, 2, kind="black", action="made by bicubic-x2"),
    ]
    merged = merge_events(events)
    assert [(e.first_frame, e.num_frames) for e in merged] == [(0, 24), (24, 8), (40, 8), (48, 2)]
    assert merged[0].detail == "at 0"
    assert merge_events(merged) == merged
    assert merge_events(()) == ()
