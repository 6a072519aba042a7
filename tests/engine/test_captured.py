"""Recorded work gives what the work itself gives, and what was given never changes afterwards."""

from __future__ import annotations

import weakref
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.engine.test_runner import make_runner, rgb_frame, run_shots
from vsr.engine.captured import (
    MAX_RECORDINGS,
    CapturedRenderer,
    CudaRecording,
    Work,
    capture_upscaler,
)
from vsr.models.catalog import get_spec
from vsr.models.upscaler import ModelSpec, State
from vsr.models.video.flowprop import FlowProp

CPU = torch.device("cpu")
SIZE = (20, 28)
TINY = {"scale": 2, "num_channels": 16, "num_blocks": 1, "flow_channels": 8, "flow_levels": 2}
KINDS: dict[str, dict[str, Any]] = {
    "forward": {"direction": "forward"},
    "both": {"direction": "both"},
    "grouped": {"direction": "both", "num_groups": 4, "num_rounds": 2, "tail_blocks": 1},
    "cleaned": {"direction": "both", "cleaning_blocks": 1},
}
SPEC = ModelSpec(
    id="tiny-x2", family="flowprop", scale=2, kind="video", build=FlowProp, chunk=4, context=2
)


class OnCpu:
    """A recording as a GPU's behaves: one place for what comes out, and nothing in it at first."""

    num_released = 0

    def __init__(self, work: Work) -> None:
        self._work = work
        self.made = work()
        for tensor in self.made:
            tensor.fill_(torch.nan)

    def replay(self) -> None:
        for place, tensor in zip(self.made, self._work(), strict=True):
            place.copy_(tensor)

    def release(self) -> None:
        self.made = ()
        OnCpu.num_released += 1


def tiny(kind: str = "both", seed: int = 0) -> FlowProp:
    """With weights that let every part of it matter."""
    torch.manual_seed(seed)
    model = FlowProp(**{**TINY, **KINDS[kind]}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def captured(
    model: nn.Module, record: Any = OnCpu, size: tuple[int, int] = SIZE, spec: ModelSpec = SPEC
) -> CapturedRenderer:
    wrapped = CapturedRenderer(model, spec, CPU, record)  # type: ignore[arg-type]
    wrapped.prepare(*size)
    return wrapped


def film(num_frames: int, size: tuple[int, int] = SIZE, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, num_frames, 3, *size, generator=generator)


def chunks(
    model: Any, frames_BTCHW: Tensor, spec: ModelSpec = SPEC, *, shots: int = 2
) -> list[Tensor]:
    """All that comes out of some shots, looked at only when the last has been made."""
    device = frames_BTCHW.device
    results: list[Tensor] = []
    with torch.inference_mode():
        for shot in range(shots):
            frames = frames_BTCHW.roll(shot, dims=1)
            height, width = frames.shape[-2:]
            state: State = tuple(t.to(device) for t in model.init_state(1, height, width))
            start = 0
            while start < frames.shape[1]:
                part = frames[:, start : start + spec.chunk + spec.context]
                is_last = start + part.shape[1] >= frames.shape[1]
                context = 0 if is_last else spec.context
                features, state = model.propagate(part, state, context)
                results += [model.render(part[:, t], f) for t, f in enumerate(features)]
                results += features
                results += state
                start += part.shape[1] - context
    return results


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_chunks_equal_computed_ones(kind: str) -> None:
    model = tiny(kind)
    wrapped = captured(model)
    assert (wrapped.note, wrapped.num_recordings) == (None, 2)
    frames = film(17)
    assert same(chunks(wrapped, frames), chunks(model, frames))
    # In each of two shots three chunks of four frames; the last call of a shot is a shorter one.
    assert wrapped.num_replays == 2 * (3 + 17)


def test_a_call_leaves_what_it_was_given_and_what_it_gave_alone() -> None:
    wrapped = captured(tiny("forward"))
    frames = film(12)
    with torch.inference_mode():
        _, state = wrapped.propagate(frames[:, :6], wrapped.init_state(1, *SIZE), 2)
        given = [tensor.clone() for tensor in state]
        features, after = wrapped.propagate(frames[:, 4:10], state, 2)
        kept = [tensor.clone() for tensor in (*features, *after)]
        # As when a window is done again from the state before it.
        again, after_again = wrapped.propagate(frames[:, 4:10], state, 2)
        wrapped.propagate(frames[:, :6], state, 2)
    assert wrapped.num_replays == 4
    assert same(list(state), given)
    assert same([*features, *after], kept)
    assert same([*again, *after_again], kept)


def test_only_inference_is_replayed() -> None:
    wrapped = captured(tiny("forward"))
    frames = film(6)
    features, _ = wrapped.propagate(frames, wrapped.init_state(1, *SIZE), 2)
    assert wrapped.num_replays == 0
    assert features[0].requires_grad


def test_other_sizes_are_computed() -> None:
    model = tiny()
    wrapped = captured(model)
    frames = film(9, (16, 24))
    assert same(chunks(wrapped, frames), chunks(model, frames))
    assert wrapped.num_replays == 0


def test_a_whole_run_is_equal_with_and_without() -> None:
    model = tiny()
    shots = [[rgb_frame(7 * i % 251, i, (20, 28)) for i in range(n)] for n in (11, 3, 7)]
    random = np.random.default_rng(5)
    for frame in (frame for shot in shots for frame in shot):
        for plane in frame.planes:
            plane += random.integers(0, 5, plane.shape).astype(np.uint8)
    wrapped = CapturedRenderer(model, SPEC, CPU, OnCpu)
    runners = [make_runner(model, SPEC), make_runner(wrapped, SPEC)]
    wrapped.prepare(*SIZE)
    results = [run_shots(runner, shots) for runner in runners]
    assert wrapped.num_replays > 0
    for left, right in zip(*results, strict=True):
        assert left.pts == right.pts
        assert all(map(np.array_equal, left.planes, right.planes))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("operation not permitted when stream is capturing.\nMore"), "not permitted"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "the memory does"),
    ],
)
@pytest.mark.parametrize("at", [1, 2])
def test_what_cannot_be_recorded_is_computed_and_said(
    error: RuntimeError, said: str, at: int
) -> None:
    calls = 0

    def record(work: Work) -> OnCpu:
        nonlocal calls
        calls += 1
        if calls == at:
            raise RuntimeError("ended while recording") from error
        return OnCpu(work)

    model = tiny()
    wrapped = captured(model, record)
    assert wrapped.note is not None
    assert said in wrapped.note
    assert "\n" not in wrapped.note
    assert wrapped.num_recordings == 0
    frames = film(9)
    assert same(chunks(wrapped, frames), chunks(model, frames))
    # It is not tried again and again.
    wrapped.prepare(*SIZE)
    assert calls == at


def test_recordings_are_few_and_given_back() -> None:
    OnCpu.num_released = 0
    wrapped = captured(tiny("forward"))
    wrapped.prepare(*SIZE)
    assert wrapped.num_recordings == 2
    for size in ((16, 16), (24, 16), (16, 24)):
        wrapped.prepare(*size)
    assert wrapped.num_recordings == MAX_RECORDINGS
    assert OnCpu.num_released == 8 - MAX_RECORDINGS
    frames = film(9, (16, 24))
    assert same(chunks(wrapped, frames), chunks(tiny("forward"), frames))
    assert wrapped.num_replays > 0
    wrapped.release()
    assert OnCpu.num_released == 8


def test_recordings_go_when_the_weights_do() -> None:
    wrapped = captured(tiny())
    wrapped.to(device=CPU)
    assert wrapped.num_recordings == 0
    wrapped.prepare(*SIZE)
    wrapped.to(device=CPU)
    assert wrapped.num_recordings == 2
    wrapped.to(torch.float64)
    assert wrapped.num_recordings == 0


@lru_cache(maxsize=1)
def table(size: int) -> Tensor:
    return torch.arange(size, dtype=torch.float32)


class Tabular(nn.Module):
    """Adds a table that others may push out of its cache."""

    scale = 1

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        return (torch.zeros(batch, 3, height, width),)

    def propagate(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[list[Tensor], State]:
        (total,) = state
        features = []
        for frame in frames_BTCHW.unbind(1)[: frames_BTCHW.shape[1] - num_context]:
            total = total + frame + table(frame.shape[-1])
            features.append(total)
        return features, (total,)

    def render(self, frame_BCHW: Tensor, feature_BCHW: Tensor) -> Tensor:
        return frame_BCHW + feature_BCHW


def test_tables_outlive_their_cache() -> None:
    """A recording knows them by their addresses."""
    wrapped = captured(Tabular(), spec=replace(SPEC, scale=1))
    seen = weakref.ref(table(SIZE[1]))
    table(3)
    assert seen() is not None
    wrapped.release()
    assert seen() is None


def test_a_cpu_and_models_unfit_for_it_record_nothing() -> None:
    model = tiny()
    assert capture_upscaler(model, SPEC, CPU) is model
    gpu = torch.device("cuda", 0)
    for spec in (replace(SPEC, capturable=False), replace(SPEC, kind="image")):
        assert capture_upscaler(model, spec, gpu) is model


@pytest.mark.usefixtures("needs_cuda")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model_id", ["flowprop-xs-x4", "flowprop-s-x4", "flowprop-l-x4-bi"])
def test_cuda_graphs_equal_eager(model_id: str, dtype: torch.dtype) -> None:
    from vsr.engine.device import prepare_device
    from vsr.models.flow import _num_inside

    device = torch.device("cuda", 0)
    prepare_device(device)
    spec = replace(get_spec(model_id), chunk=6, context=min(get_spec(model_id).context, 2))
    torch.manual_seed(0)
    model: Any = spec.build(**spec.params)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    model = model.to(device=device, dtype=dtype, memory_format=torch.channels_last).eval()
    wrapped = CapturedRenderer(model, spec, device, partial(CudaRecording, device))
    wrapped.prepare(180, 320)
    assert (wrapped.note, wrapped.num_recordings) == (None, 2)
    _num_inside.cache_clear()
    frames = film(27, (180, 320)).to(device)
    with torch.cuda.stream(torch.cuda.Stream(device)):  # type: ignore[no-untyped-call]
        eager = chunks(model, frames, spec, shots=3)
        replayed = chunks(wrapped, frames, spec, shots=3)
        torch.cuda.synchronize(device)
    assert wrapped.num_replays > 3 * 4
    assert same(replayed, eager)
    wrapped.release()


@pytest.mark.usefixtures("needs_cuda")
def test_what_waits_for_the_gpu_is_not_recorded() -> None:
    class Waits(Tabular):
        def render(self, frame_BCHW: Tensor, feature_BCHW: Tensor) -> Tensor:
            return frame_BCHW if bool(feature_BCHW.sum() > 0) else feature_BCHW

        def propagate(
            self, frames_BTCHW: Tensor, state: State, num_context: int = 0
        ) -> tuple[list[Tensor], State]:
            kept = frames_BTCHW.unbind(1)[: frames_BTCHW.shape[1] - num_context]
            return [frame + state[0] for frame in kept], state

    device = torch.device("cuda", 0)
    spec = replace(SPEC, scale=1)
    record = partial(CudaRecording, device)
    wrapped = CapturedRenderer(Waits(), spec, device, record)  # type: ignore[arg-type]
    wrapped.prepare(*SIZE)
    assert wrapped.note is not None
    assert wrapped.num_recordings == 0
    # The device works as before.
    frames = film(9).to(device)
    assert same(chunks(wrapped, frames, spec), chunks(Waits(), frames, spec))
