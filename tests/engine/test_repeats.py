"""Repeated frames: a network of one frame is not asked again, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.engine.test_runner import (
    BICUBIC,
    BT709,
    YUV420,
    YUV420P10,
    RunningSum,
    make_runner,
    run_shots,
    spec_of,
    yuv_frame,
)
from vsr.engine.grain import GrainSheet
from vsr.engine.runner import Runner
from vsr.frame import Frame, SideData
from vsr.models.image.interpolation import Interpolation
from vsr.models.upscaler import State

SHOWN = (0, 0, 1, 1, 1, 2, 0)
"""Which picture each frame shows."""


class Counting(Interpolation):
    num_calls = 0

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        self.num_calls += 1
        return super().upscale(frames_BTCHW, state, num_context)


def on_twos(bits: int = 8) -> list[Frame]:
    pictures = [yuv_frame(seed, YUV420 if bits == 8 else YUV420P10) for seed in range(3)]
    return [replace(pictures[shown], pts=10 * n) for n, shown in enumerate(SHOWN)]


def yuv_runner(model: object, *, bits: int = 8, grain: GrainSheet | None = None) -> Runner:
    layout = YUV420 if bits == 8 else YUV420P10
    return make_runner(
        model,
        BICUBIC,
        layout_in=layout,
        color_in=BT709,
        layout_out=YUV420,
        color_out=BT709,
        grain=grain,
    )


def same(a: Frame, b: Frame) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))


def test_a_repeated_frame_is_the_same_picture_at_its_own_time() -> None:
    frames = on_twos()
    frames[1] = replace(frames[1], side_data=(SideData("A53_CC", b"words"),))
    model = Counting(2)
    results = run_shots(yuv_runner(model), [frames])
    assert model.num_calls == 4
    assert [frame.pts for frame in results] == [frame.pts for frame in frames]
    assert results[1].side_data == frames[1].side_data
    alone = [run_shots(yuv_runner(Counting(2)), [[frame]])[0] for frame in frames]
    assert all(map(same, results, alone))


def test_one_changed_sample_is_another_frame() -> None:
    frames = on_twos()[:2]
    planes = [plane.copy() for plane in frames[1].planes]
    planes[2][-1, -1] += 1
    frames[1] = replace(frames[1], planes=tuple(planes))
    model = Counting(2)
    run_shots(yuv_runner(model), [frames])
    assert model.num_calls == 2


def test_a_shot_has_no_frame_before_its_first() -> None:
    model = Counting(2)
    run_shots(yuv_runner(model), [on_twos()[:2], on_twos()[:2]])
    assert model.num_calls == 2


def test_what_differs_by_the_frames_number_is_made_anew() -> None:
    grain = GrainSheet((0.05,) * 4, 0.0, seed=1, device=torch.device("cpu"))
    for bits, laid in ((10, None), (8, grain)):
        model = Counting(2)
        runner = yuv_runner(model, bits=bits, grain=laid)
        first, second = run_shots(runner, [on_twos(bits)[:2]])
        assert model.num_calls == 2 and not same(first, second)


@pytest.mark.parametrize("chunk", [1, 2])
def test_networks_that_remember_see_every_frame(chunk: int) -> None:
    model = RunningSum()
    frames = [replace(yuv_frame(0), pts=pts) for pts in range(4)]
    runner = make_runner(
        model,
        spec_of(chunk, 0),
        layout_in=YUV420,
        color_in=BT709,
        layout_out=YUV420,
        color_out=BT709,
    )
    run_shots(runner, [frames])
    assert sum(size for size, _ in model.call_sizes) == 4
