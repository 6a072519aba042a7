"""What a model fails at is made again: in float32, then by another model; always told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.engine.test_runner import RGB, RGB8, RunningSum, make_runner, run_shots, spec_of
from vsr.engine.ladder import Rung
from vsr.engine.runner import Runner
from vsr.engine.tiles import TiledUpscaler
from vsr.errors import DeviceMemoryError, GuardError
from vsr.frame import Frame
from vsr.models.catalog import get_spec
from vsr.models.checkpoint import load_upscaler
from vsr.models.image.interpolation import Interpolation
from vsr.models.upscaler import ModelSpec, State, Upscaler

pytestmark = pytest.mark.usefixtures("lane")
SAMPLE = Path(__file__).parents[2] / "samples" / "city_180p.mp4"
SIZE = (40, 56)
Fault = Callable[[Tensor], Tensor]

SPEC = ModelSpec(
    id="faulty-x2", family="faulty", scale=2, kind="video", build=Interpolation, chunk=3, context=1
)


class Faulty(Interpolation):
    """Bicubic, except that some frames of a shot, counted by its state, come out wrong."""

    def __init__(self, faults: dict[int, Fault]) -> None:
        super().__init__(2)
        self.faults = faults
        self.starts: list[int] = []
        self.num_done = 0

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        self.starts.append(self.num_done)
        return (torch.zeros(batch),)

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        results, _ = super().upscale(frames_BTCHW, (), num_context)
        first = int(state[0])
        for index in range(results.shape[1]):
            fault = self.faults.get(first + index)
            if fault is not None:
                results[0, index] = fault(results[0, index])
        self.num_done += results.shape[1]
        return results, (state[0] + results.shape[1],)


def with_nan(picture: Tensor) -> Tensor:
    picture = picture.clone()
    picture[1, 7, 9] = float("nan")
    return picture


def with_black_tile(picture: Tensor) -> Tensor:
    picture = picture.clone()
    picture[:, 16:64, 32:80] = 0
    return picture


def film(num_frames: int) -> list[Frame]:
    random = np.random.default_rng(5)
    base = random.integers(60, 220, (3, 10, 14)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    return [
        Frame(
            planes=tuple(np.ascontiguousarray(np.roll(plane, 4 * t, 1)) for plane in base),
            layout=RGB8,
            color=RGB,
            pts=t,
        )
        for t in range(num_frames)
    ]


def redone(model: Upscaler) -> Rung:
    return Rung(SPEC, lambda: model, "redone in float32")


def bicubic() -> Rung:
    spec = get_spec("bicubic-x2")
    return Rung(spec, lambda: Interpolation(2), "made by bicubic-x2", is_other=True)


def run(model: Any, *rungs: Rung, num_frames: int = 10) -> tuple[list[Frame], Runner]:
    runner = make_runner(model, SPEC, rungs=rungs)
    return run_shots(runner, [film(num_frames)]), runner


def assert_equal(results: list[Frame], expected: list[Frame]) -> None:
    assert [frame.pts for frame in results] == [frame.pts for frame in expected]
    for one, other in zip(results, expected, strict=True):
        for plane, wanted in zip(one.planes, other.planes, strict=True):
            assert np.array_equal(plane, wanted)


@pytest.fixture(scope="module")
def expected() -> list[Frame]:
    return run(Faulty({}))[0]


@pytest.mark.parametrize(("fault", "kind"), [(with_nan, "nan"), (with_black_tile, "black")])
def test_a_bad_window_is_redone_from_the_state_before(
    expected: list[Frame], fault: Fault, kind: str
) -> None:
    model, again = Faulty({4: fault}), Faulty({})
    results, runner = run(model, redone(again), bicubic())
    assert_equal(results, expected)
    (event,) = runner.events
    assert (event.kind, event.first_frame, event.num_frames) == (kind, 3, 3)
    assert event.action == "redone in float32"
    assert "1 of 3 pictures" in event.detail
    # Once for the shot: the redone window went on from the state of the first model.
    assert (model.starts, again.starts, again.num_done) == ([0], [], 3)


def test_a_frozen_picture_is_redone(expected: list[Frame]) -> None:
    class Frozen(Faulty):
        def upscale(
            self, frames_BTCHW: Tensor, state: State, num_context: int = 0
        ) -> tuple[Tensor, State]:
            results, state = super().upscale(frames_BTCHW, state, num_context)
            results[:, 1] = results[:, 0]
            return results, state

    results, runner = run(Frozen({}), redone(Faulty({})), num_frames=3)
    assert runner.events == ()
    results, runner = run(Frozen({}), redone(Faulty({})), bicubic(), num_frames=3)
    assert [(event.kind, event.num_frames) for event in runner.events] == [("frozen", 3)]
    assert_equal(results, expected[:3])


def test_where_float32_fails_as_well_another_model_does_it_and_the_state_starts_anew(
    expected: list[Frame],
) -> None:
    faults: dict[int, Fault] = {1: with_nan}
    model, again = Faulty(faults), Faulty(faults)
    # From a new state the fault comes again at the second frame of every window.
    results, runner = run(model, redone(again), bicubic(), num_frames=8)
    assert_equal(results, expected[:8])
    assert model.starts == [0, 3, 6]
    assert again.num_done == 8
    (event,) = runner.events
    assert (event.first_frame, event.num_frames) == (0, 8)
    assert (event.kind, event.action) == ("nan", "made by bicubic-x2")


def test_no_bad_frame_is_written_when_everything_fails() -> None:
    class AlwaysNan(Interpolation):
        def upscale(
            self, frames_BTCHW: Tensor, state: State, num_context: int = 0
        ) -> tuple[Tensor, State]:
            results, state = super().upscale(frames_BTCHW, state, num_context)
            return results * float("nan"), state

    last = Rung(get_spec("bicubic-x2"), lambda: AlwaysNan(2), "made by nan", is_other=True)
    runner = make_runner(Faulty({4: with_nan}), SPEC, rungs=(redone(Faulty({4: with_nan})), last))
    runner.start_shot()
    results = []
    with pytest.raises(GuardError, match="frames 3 to 5") as caught:
        for frame in film(10):
            results += runner.push(frame)
    assert caught.value.exit_code == 4
    assert len(results) == 3


def test_of_the_last_resort_only_numbers_are_asked() -> None:
    grey = lambda picture: torch.full_like(picture, 0.1)  # noqa: E731
    dark = Rung(
        get_spec("bicubic-x2"), lambda: Faulty({0: grey, 1: grey}), "made by dark", is_other=True
    )
    results, runner = run(Faulty({1: grey}), redone(Faulty({1: grey})), dark, num_frames=3)
    assert [event.action for event in runner.events] == ["made by dark"]
    # A per-frame model has each frame alone, and so its first fault in each.
    assert [int(frame.planes[0].max()) for frame in results] == [26] * 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda results: results[..., 1:],
        lambda results: results.double(),
        lambda results: results[:, :-1],
        lambda results: results[0],
        lambda results: results[:, :, :1],
    ],
    ids=["width", "type", "number", "axes", "channels"],
)
def test_results_of_a_wrong_kind_are_made_again(
    expected: list[Frame], spoil: Callable[[Tensor], Tensor]
) -> None:
    class Spoiled(Faulty):
        def upscale(
            self, frames_BTCHW: Tensor, state: State, num_context: int = 0
        ) -> tuple[Tensor, State]:
            results, state = super().upscale(frames_BTCHW, state, num_context)
            return spoil(results), state

    results, runner = run(Spoiled({}), redone(Spoiled({})), bicubic())
    assert_equal(results, expected)
    (event,) = runner.events
    assert (event.kind, event.first_frame, event.num_frames) == ("shape", 0, 10)
    assert "faulty-x2 returned" in event.detail


def test_a_state_that_is_no_number_is_seen_before_it_spoils_the_next_window(
    expected: list[Frame],
) -> None:
    class Forgetful(Faulty):
        def upscale(
            self, frames_BTCHW: Tensor, state: State, num_context: int = 0
        ) -> tuple[Tensor, State]:
            results, (count,) = super().upscale(frames_BTCHW, state, num_context)
            return results, (count * float("nan") if int(count) == 6 else count,)

    results, runner = run(Forgetful({}), redone(Faulty({})))
    assert_equal(results, expected)
    assert [(e.kind, e.first_frame, e.num_frames) for e in runner.events] == [("nan", 3, 3)]


def test_frames_are_counted_without_the_warm_up() -> None:
    runner = make_runner(Faulty({5: with_nan}), SPEC, rungs=(redone(Faulty({})),), first_index=100)
    runner.start_shot()
    results = []
    for frame in film(9):
        results += runner.push(frame, is_warmup=frame.pts in range(4))
    results += runner.finish_shot()
    assert [frame.pts for frame in results] == [4, 5, 6, 7, 8]
    assert [(event.first_frame, event.num_frames) for event in runner.events] == [(0, 2)]


def test_a_fault_that_passes_leaves_no_trace_in_what_follows() -> None:
    class OnceNan(RunningSum):
        num_calls = 0

        def upscale(
            self, frames_BTCHW: Tensor, state: State, num_context: int = 0
        ) -> tuple[Tensor, State]:
            results, state = super().upscale(frames_BTCHW, state, num_context)
            self.num_calls += 1
            spoiled = self.num_calls == 2
            return results * float("nan") if spoiled else results, state

    frames = [film(1)[0]] * 8
    spec, model = spec_of(3, 1), OnceNan()
    wanted = run_shots(make_runner(RunningSum(), spec), [frames])
    runner = make_runner(model, spec, rungs=(Rung(spec, lambda: model, "redone in float32"),))
    assert_equal(run_shots(runner, [frames]), wanted)
    assert len(runner.events) == 1


class Greedy(Interpolation):
    """Fits no more than a number of pixels."""

    def __init__(self, max_pixels: int, error: Exception) -> None:
        super().__init__(2)
        self.max_pixels = max_pixels
        self.error = error

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        if frames_BTCHW.shape[-2] * frames_BTCHW.shape[-1] > self.max_pixels:
            raise self.error
        return super().upscale(frames_BTCHW, state, num_context)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
        MemoryError(),
    ],
)
def test_memory_that_ran_out_is_one_error_and_tiles_fit(
    expected: list[Frame], error: Exception
) -> None:
    greedy = Greedy(SIZE[0] * SIZE[1] - 1, error)
    with pytest.raises(DeviceMemoryError, match="faulty-x2 makes of 4 frames of 56x40") as caught:
        run(greedy, bicubic())
    assert caught.value.exit_code == 5
    results, runner = run(TiledUpscaler(greedy, tile_px=32, halo_px=2), bicubic())
    assert_equal(results, expected)
    assert runner.events == ()


def test_other_errors_of_a_model_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run(Greedy(1, RuntimeError("mat1 and mat2 shapes cannot be multiplied")), bicubic())


@pytest.mark.parametrize("model_id", ["flowprop-xs-x4", "bicubic-x4"])
def test_no_false_alarm_on_the_sample(model_id: str) -> None:
    with av.open(str(SAMPLE)) as container:
        decoded = container.decode(video=0)
        pictures = [next(decoded).to_ndarray(format="rgb24")[:96, :160] for _ in range(10)]
    frames = [
        Frame(
            planes=tuple(picture[..., c].astype(np.uint8) for c in range(3)),
            layout=RGB8,
            color=RGB,
            pts=t,
        )
        for t, picture in enumerate(pictures)
    ]
    spec = get_spec(model_id)
    other = Rung(get_spec("bicubic-x4"), lambda: Interpolation(4), "made again", is_other=True)
    runner = make_runner(load_upscaler(model_id), spec, rungs=(other,))
    results = run_shots(runner, [frames])
    assert [frame.planes[0].shape for frame in results] == [(384, 640)] * 10
    assert runner.events == ()
