"""Frames in, larger frames out: order, metadata, state across chunks and cuts, small pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vsr.engine.lanes import CpuLane
from vsr.engine.runner import Runner
from vsr.errors import GuardError, ShapeError
from vsr.frame import (
    ChromaLocation,
    ColorSpec,
    Frame,
    Matrix,
    PlaneLayout,
    Primaries,
    SideData,
    Transfer,
)
from vsr.models.image.interpolation import Interpolation
from vsr.models.upscaler import ModelSpec, State

YUV420 = PlaneLayout(bits=8, log2_chroma_w=1, log2_chroma_h=1)
YUV420P10 = PlaneLayout(bits=10, log2_chroma_w=1, log2_chroma_h=1)
RGB8 = PlaneLayout(bits=8, is_rgb=True)
BT709 = ColorSpec(
    primaries=Primaries.BT709,
    transfer=Transfer.BT709,
    matrix=Matrix.BT709,
    chroma_location=ChromaLocation.LEFT,
)
RGB = ColorSpec(
    primaries=Primaries.BT709, transfer=Transfer.SRGB, matrix=Matrix.RGB, full_range=True
)
BICUBIC = ModelSpec(id="bicubic-x2", family="bicubic", scale=2, kind="image", build=Interpolation)


pytestmark = pytest.mark.usefixtures("lane")


class RunningSum(nn.Module):
    """Causal and recurrent: each result is the sum of all frames of its shot up to its own."""

    scale = 2

    def __init__(self) -> None:
        super().__init__()
        self.call_sizes: list[tuple[int, int]] = []

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        return (torch.full((batch, 3, height, width), seed / 256.0),)

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        num_frames = frames_BTCHW.shape[1]
        self.call_sizes.append((num_frames, num_context))
        (total,) = state
        results = []
        for index in range(num_frames - num_context):
            total = total + frames_BTCHW[:, index]
            results.append(total.repeat_interleave(2, -1).repeat_interleave(2, -2))
        return torch.stack(results, 1), (total,)


def spec_of(chunk: int, context: int, min_size: int = 1) -> ModelSpec:
    return ModelSpec(
        id="sum-x2",
        family="sum",
        scale=2,
        kind="video",
        build=RunningSum,
        chunk=chunk,
        context=context,
        min_size=min_size,
    )


def make_runner(model: Any, spec: ModelSpec, **changes: Any) -> Runner:
    arguments: dict[str, Any] = {
        "device": torch.device("cpu"),
        "layout_in": RGB8,
        "color_in": RGB,
        "layout_out": RGB8,
        "color_out": RGB,
    }
    return Runner(model, spec, **{**arguments, **changes})


def rgb_frame(value: int, pts: int, size: tuple[int, int] = (4, 6)) -> Frame:
    planes = tuple(np.full(size, value, np.uint8) for _ in range(3))
    return Frame(planes=planes, layout=RGB8, color=RGB, pts=pts)


def yuv_frame(pts: int, layout: PlaneLayout = YUV420, size: tuple[int, int] = (8, 12)) -> Frame:
    random = np.random.default_rng(pts)
    top = 1 << layout.bits
    planes = tuple(
        random.integers(top // 4, top // 2, layout.plane_size(i, size[1], size[0])).astype(
            layout.dtype
        )
        for i in range(3)
    )
    return Frame(planes=planes, layout=layout, color=BT709, pts=pts)


def run_shots(runner: Runner, shots: list[list[Frame]]) -> list[Frame]:
    results = []
    for shot in shots:
        runner.start_shot()
        for frame in shot:
            results += runner.push(frame)
        results += runner.finish_shot()
    return results


@pytest.mark.parametrize(("chunk", "context"), [(1, 0), (1, 1), (3, 0), (4, 2)])
@pytest.mark.parametrize("num_frames", [1, 2, 5, 11])
def test_state_carried_across_chunks_equals_whole(
    chunk: int, context: int, num_frames: int
) -> None:
    frames = [rgb_frame(index + 1, pts=10 * index) for index in range(num_frames)]
    results = run_shots(make_runner(RunningSum(), spec_of(chunk, context)), [frames])
    assert [frame.pts for frame in results] == [frame.pts for frame in frames]
    sums = np.cumsum([index + 1 for index in range(num_frames)])
    for frame, expected in zip(results, sums, strict=True):
        for plane in frame.planes:
            assert plane.shape == (8, 12)
            assert plane.dtype == np.uint8
            assert (plane == expected).all()


def test_calls_have_the_grid_of_the_spec() -> None:
    model = RunningSum()
    run_shots(make_runner(model, spec_of(3, 2)), [[rgb_frame(1, i) for i in range(9)]])
    assert model.call_sizes == [(5, 2), (5, 2), (3, 0)]


def test_a_cut_resets_the_state_and_no_call_spans_it() -> None:
    model = RunningSum()
    shots = [[rgb_frame(10, i) for i in range(4)], [rgb_frame(1, 4 + i) for i in range(3)]]
    results = run_shots(make_runner(model, spec_of(3, 1)), shots)
    assert [int(frame.planes[0][0, 0]) for frame in results] == [10, 20, 30, 40, 1, 2, 3]
    assert [frame.pts for frame in results] == list(range(7))
    assert model.call_sizes == [(4, 1), (1, 0), (3, 0)]


@pytest.mark.parametrize("warmup", [1, 2, 3, 5])
@pytest.mark.parametrize(("chunk", "context"), [(1, 0), (3, 0), (2, 1), (4, 2)])
def test_warm_up_is_seen_and_not_written(warmup: int, chunk: int, context: int) -> None:
    frames = [rgb_frame(index + 1, pts=10 * index) for index in range(12)]
    runner = make_runner(RunningSum(), spec_of(chunk, context))
    runner.start_shot()
    results = []
    for index, frame in enumerate(frames):
        results += runner.push(frame, is_warmup=index < warmup)
    results += runner.finish_shot()
    assert [frame.pts for frame in results] == [frame.pts for frame in frames[warmup:]]
    sums = np.cumsum([index + 1 for index in range(12)])[warmup:]
    assert [int(frame.planes[0][0, 0]) for frame in results] == list(sums)


def test_warm_up_is_not_rendered() -> None:
    rendered: list[int] = []

    class Lazy(RunningSum):
        def propagate(
            self, frames_BTCHW: Tensor, state: State, num_context: int = 0
        ) -> tuple[list[Tensor], State]:
            return list(frames_BTCHW.unbind(1))[: frames_BTCHW.shape[1] - num_context], state

        def render(self, frame_BCHW: Tensor, feature_BCHW: Tensor) -> Tensor:
            rendered.append(round(float(feature_BCHW.mean() * 255)))
            return feature_BCHW.repeat_interleave(2, -1).repeat_interleave(2, -2)

    runner = make_runner(Lazy(), spec_of(4, 2))
    runner.start_shot()
    for index in range(10):
        runner.push(rgb_frame(index, index), is_warmup=index < 6)
    runner.finish_shot(1)
    assert rendered == [6, 7, 8]


def test_look_ahead_at_the_end_is_seen_and_not_written() -> None:
    model = RunningSum()
    runner = make_runner(model, spec_of(3, 2))
    runner.start_shot()
    results = []
    for index in range(9):
        results += runner.push(rgb_frame(1, index))
    results += runner.finish_shot(2)
    assert [frame.pts for frame in results] == list(range(7))
    assert model.call_sizes == [(5, 2), (5, 2), (3, 2)]


def test_noise_that_hides_rounding_does_not_depend_on_where_a_shot_is_entered() -> None:
    def run(first: int, warmup: int) -> list[Frame]:
        runner = make_runner(
            Interpolation(2),
            BICUBIC,
            layout_in=YUV420P10,
            color_in=BT709,
            layout_out=YUV420,
            color_out=BT709,
            first_index=first,
        )
        runner.start_shot()
        results = []
        for index in range(first - warmup, 6):
            results += runner.push(yuv_frame(index, YUV420P10), is_warmup=index < first)
        return results + runner.finish_shot()

    whole, part = run(0, 0), run(3, 2)
    assert len(part) == 3
    for frame, other in zip(whole[3:], part, strict=True):
        for plane, wanted in zip(frame.planes, other.planes, strict=True):
            assert (plane == wanted).all()


def test_the_seed_reaches_the_model() -> None:
    runner = make_runner(RunningSum(), spec_of(1, 0), seed=256)
    (result,) = run_shots(runner, [[rgb_frame(0, 0)]])
    assert (result.planes[0] == 255).all()


def test_results_carry_what_belongs_to_their_source_frame() -> None:
    source = Frame(
        planes=rgb_frame(9, 0).planes,
        layout=RGB8,
        color=RGB,
        pts=-77,
        duration=13,
        side_data=(SideData("A53_CC", b"cc"),),
        is_corrupt=True,
        is_concealed=True,
        is_interlaced=True,
        is_key=True,
    )
    (result,) = run_shots(make_runner(RunningSum(), spec_of(2, 1)), [[source]])
    for name in (
        "pts",
        "duration",
        "side_data",
        "is_corrupt",
        "is_concealed",
        "is_interlaced",
        "is_key",
    ):
        assert getattr(result, name) == getattr(source, name)


def test_pictures_below_the_minimum_are_padded_and_cropped_back() -> None:
    seen: list[tuple[int, ...]] = []

    class Spy(RunningSum):
        def upscale(
            self, frames_BTCHW: Tensor, state: State, num_context: int = 0
        ) -> tuple[Tensor, State]:
            seen.append(tuple(frames_BTCHW.shape))
            return super().upscale(frames_BTCHW, state, num_context)

    runner = make_runner(Spy(), spec_of(1, 0, min_size=16))
    (result,) = run_shots(runner, [[rgb_frame(3, 0, size=(1, 3))]])
    assert seen == [(1, 1, 3, 16, 16)]
    assert [plane.shape for plane in result.planes] == [(2, 6)] * 3
    assert (result.planes[1] == 3).all()


@pytest.mark.parametrize("layout", [YUV420, YUV420P10])
@pytest.mark.parametrize("size", [(8, 12), (7, 5)])
def test_planes_keep_their_layout_and_grow(layout: PlaneLayout, size: tuple[int, int]) -> None:
    runner = make_runner(
        Interpolation(2),
        BICUBIC,
        layout_in=layout,
        color_in=BT709,
        layout_out=layout,
        color_out=BT709,
    )
    source = yuv_frame(5, layout, size)
    (result,) = run_shots(runner, [[source]])
    assert result.layout == layout
    assert result.color == BT709
    for index, plane in enumerate(result.planes):
        assert plane.dtype == layout.dtype
        assert plane.shape == layout.plane_size(index, 2 * size[1], 2 * size[0])
    assert abs(float(result.planes[0].mean()) - float(source.planes[0].mean())) < 2.0


def test_more_bits_out_than_in_and_fewer_bits_dithered() -> None:
    grey = tuple(np.full(YUV420P10.plane_size(i, 16, 16), 513, np.uint16) for i in range(3))
    source = Frame(planes=grey, layout=YUV420P10, color=BT709, pts=0)
    runner = make_runner(
        Interpolation(2),
        BICUBIC,
        layout_in=YUV420P10,
        color_in=BT709,
        layout_out=YUV420,
        color_out=BT709,
    )
    (result,) = run_shots(runner, [[source]])
    # 513 of 10 bits is 128.25 of 8: a quarter of the samples is one code higher.
    assert set(np.unique(result.planes[0])) == {128, 129}
    assert abs(float(result.planes[0].mean()) - 128.25) < 0.05


def test_read_only_and_strided_planes_are_taken_and_left_alone() -> None:
    wide = np.arange(4 * 12, dtype=np.uint8).reshape(4, 12)
    wide.flags.writeable = False
    planes = (wide[:, :6], wide[:, 6:], wide[:, ::2])
    source = Frame(planes=planes, layout=RGB8, color=RGB, pts=0)
    (result,) = run_shots(make_runner(RunningSum(), spec_of(1, 0)), [[source]])
    for plane, original in zip(result.planes, planes, strict=True):
        assert (plane[::2, ::2] == original).all()


def test_memory_is_bounded_by_the_chunk(lane: CpuLane) -> None:
    runner = make_runner(RunningSum(), spec_of(4, 2))
    runner.start_shot()
    # One chunk is looked at when the next is there, and its results need not have arrived.
    most = 6 + 4 * bool(lane.num_in_flight)
    due = 0
    for index in range(200):
        due += 1 - len(runner.push(rgb_frame(0, index)))
        assert due <= most
    assert len(runner.finish_shot()) == due


def test_a_frame_of_another_kind_is_refused() -> None:
    runner = make_runner(RunningSum(), spec_of(1, 0))
    runner.start_shot()
    runner.push(rgb_frame(0, 0))
    with pytest.raises(ShapeError, match="height, width"):
        runner.push(rgb_frame(0, 1, size=(6, 6)))
    with pytest.raises(ShapeError, match="layout"):
        runner.push(yuv_frame(1))


def test_a_model_that_returns_another_shape_is_refused() -> None:
    class Liar(RunningSum):
        def upscale(
            self, frames_BTCHW: Tensor, state: State, num_context: int = 0
        ) -> tuple[Tensor, State]:
            return frames_BTCHW, state

    runner = make_runner(Liar(), spec_of(1, 0))
    runner.start_shot()
    with pytest.raises(GuardError, match="sum-x2 returned a frame of shape"):
        runner.push(rgb_frame(0, 0))
