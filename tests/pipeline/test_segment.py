"""A segment is a function of its plan: same bytes, right shots, and no trust in the source."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.media.film import pictures
from vsr.config import resolve_config
from vsr.errors import DecodeError
from vsr.models import checkpoint
from vsr.models.image.interpolation import Interpolation
from vsr.models.upscaler import ModelSpec, State
from vsr.pipeline.plan import Plan, make_segments
from vsr.pipeline.planning import make_plan
from vsr.pipeline.segment import Effort, run_segment
from vsr.pipeline.split import Division, split
from vsr.pipeline.upscale import upscale

MakeClip = Callable[..., Path]


class Counter(nn.Module):
    """Recurrent stub: picture n of a shot is the grey n / 64, whatever it shows."""

    scale = 2

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        return (torch.zeros(batch),)

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        batch, num_frames, channels, height, width = frames_BTCHW.shape
        written = num_frames - num_context
        steps = torch.arange(1, written + 1) + state[0]
        shape = (batch, written, channels, 2 * height, 2 * width)
        return (steps / 64).view(1, -1, 1, 1, 1).expand(shape).clone(), (state[0] + written,)


COUNTER = ModelSpec(
    id="counter-x2", family="counter", scale=2, kind="video", build=Counter, chunk=3, context=2
)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stub model takes the place of bicubic-x2."""
    monkeypatch.setattr(checkpoint, "resolve_spec", lambda _: COUNTER)
    monkeypatch.setattr(checkpoint, "load_upscaler", lambda *_, **__: Counter())
    yield


def plan_of(clip: Path, **flags: Any) -> Plan:
    flags = {"model": "bicubic-x2", "device": "cpu", **flags}
    return make_plan(clip, Path("out.mkv"), resolve_config(flags=flags))


def luma_means(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [
            float(frame.to_ndarray()[: frame.height, : frame.width].mean())
            for frame in container.decode(video=0)
        ]


@pytest.fixture(scope="module")
def clip(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("segment") / "clip.mkv", bframes=2)


def test_the_function_and_its_arguments_can_be_sent_elsewhere(clip: Path, tmp_path: Path) -> None:
    function, plan = pickle.loads(pickle.dumps((run_segment, plan_of(clip))))
    result = pickle.loads(pickle.dumps(function(plan, 0, tmp_path)))
    assert result.num_frames == 12
    assert result.path.stat().st_size == result.num_bytes
    assert set(result.times.busy_s) == {"decode", "infer", "encode"}


@pytest.mark.parametrize("codec", ["h264", "hevc", "ffv1"])
def test_equal_plans_give_equal_bytes(clip: Path, tmp_path: Path, codec: str) -> None:
    plan = plan_of(clip, codec=codec)
    again = Plan.model_validate_json(plan.model_dump_json())
    bytes_of = []
    for number, each in enumerate((plan, again)):
        folder = tmp_path / str(number)
        folder.mkdir()
        bytes_of.append(run_segment(each, 0, folder).path.read_bytes())
    assert bytes_of[0] == bytes_of[1]


@pytest.mark.usefixtures("counter")
def test_state_is_carried_through_a_shot_and_reset_at_a_cut(clip: Path, tmp_path: Path) -> None:
    # Nothing to fall back on: what the stub draws is not what a guard would let through.
    plan = plan_of(clip, codec="ffv1").model_copy(update={"fallbacks": ()})
    cut = plan.model_copy(
        update={"segments": (plan.segments[0].model_copy(update={"cuts": (5, 6)}),)}
    )
    for each, counts in (
        (plan, list(range(1, 13))),
        (cut, [1, 2, 3, 4, 5, 1, 1, 2, 3, 4, 5, 6]),
    ):
        result = run_segment(each, 0, tmp_path)
        expected = [16 + 219 * count / 64 for count in counts]
        assert np.abs(np.array(luma_means(result.path)) - expected).max() <= 0.5
        result.path.unlink()


@pytest.mark.usefixtures("counter")
def test_inside_a_shot_the_model_is_warmed_up_and_looks_ahead(clip: Path, tmp_path: Path) -> None:
    plan = plan_of(clip, codec="ffv1").model_copy(update={"fallbacks": ()})
    pieces = split(12, (), Division(4, warmup=3, context=2))
    segments = make_segments(plan.segments[0].timeline, (), pieces)
    assert [(one.warmup, one.lookahead) for one in segments] == [(0, 2), (3, 2), (3, 0)]
    plan = plan.model_copy(update={"segments": segments})
    for index, counts in enumerate(([1, 2, 3, 4], [4, 5, 6, 7], [4, 5, 6, 7])):
        result = run_segment(plan, index, tmp_path)
        assert result.num_frames == 4
        expected = [16 + 219 * count / 64 for count in counts]
        assert np.abs(np.array(luma_means(result.path)) - expected).max() <= 0.5


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_a_film_of_many_segments_shows_what_one_shows(
    make_clip: MakeClip, tmp_path: Path, container: str
) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=30, gop=8, bframes=3, audio=["aac"])
    shown = []
    for length in (4, 1000):
        output = tmp_path / f"{length}.{container}"
        config = resolve_config(
            flags={"model": "bicubic-x2", "device": "cpu", "codec": "ffv1"},
            sets=[f"engine.segment_frames={length}", "engine.isolate=false"],
        )
        result = upscale(source, output, config)
        assert result.check.ok
        shown.append(pictures(output))
    assert len(shown[0]) == 30
    assert shown[0] == shown[1]


def test_a_source_that_has_changed_is_refused_and_nothing_is_left(
    make_clip: MakeClip, clip: Path, tmp_path: Path
) -> None:
    plan = plan_of(clip)
    other = make_clip(tmp_path / "other.mkv", frames=11)
    longer = make_clip(tmp_path / "longer.mkv", frames=13)
    later = make_clip(tmp_path / "later.mkv", start=1)
    folder = tmp_path / "work"
    folder.mkdir()
    for changed in (other, longer, later):
        with pytest.raises(DecodeError, match="another frame"):
            run_segment(plan.model_copy(update={"source_path": changed}), 0, folder)
        assert list(folder.iterdir()) == []


def test_every_frame_is_reported(clip: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    run_segment(plan_of(clip), 0, tmp_path, on_frame=lambda done, _: seen.append(done))
    assert seen == list(range(1, 13))


def test_tiles_make_the_same_picture_and_are_told(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "wide.mkv", width=160, height=96, frames=3)
    plan = plan_of(clip, codec="ffv1")
    tiled, whole = tmp_path / "tiled", tmp_path / "whole"
    tiled.mkdir()
    whole.mkdir()
    result = run_segment(plan, 0, tiled, effort=Effort(tile_px=64))
    plain = run_segment(plan, 0, whole)
    assert (plain.exact, plain.reason, plain.events) == (True, None, ())
    assert not result.exact
    assert result.reason is not None and "memory" in result.reason
    (event,) = result.events
    assert (event.kind, event.first_frame, event.num_frames) == ("memory", 0, 3)
    assert event.action == "tiles of 64 px"
    assert result.path.read_bytes() == plain.path.read_bytes()


class Blind(nn.Module):
    """Stub: black from its fifth picture on."""

    scale = 2

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        return (torch.zeros(batch),)

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        results, _ = Interpolation(2).upscale(frames_BTCHW, (), num_context)
        count = int(state[0])
        results[:, max(0, 4 - count) :] = 0
        return results, (state[0] + results.shape[1],)


def test_what_a_model_fails_at_is_made_by_another_and_told(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(clip, codec="ffv1").model_copy(update={"fallbacks": ("bicubic-x2",)})
    good, told = tmp_path / "good", tmp_path / "told"
    good.mkdir()
    told.mkdir()
    wanted = run_segment(plan, 0, good)
    stub = plan.model.model_copy(update={"id": COUNTER.id})
    specs, load = checkpoint.resolve_spec, checkpoint.load_upscaler
    monkeypatch.setattr(
        checkpoint, "resolve_spec", lambda name: COUNTER if name == COUNTER.id else specs(name)
    )
    monkeypatch.setattr(
        checkpoint,
        "load_upscaler",
        lambda name, **rest: Blind() if name == COUNTER.id else load(name, **rest),
    )
    result = run_segment(plan.model_copy(update={"model": stub}), 0, told)
    assert result.exact
    assert [(e.kind, e.first_frame, e.num_frames, e.action) for e in result.events] == [
        ("black", 3, 3, "made by bicubic-x2"),
        ("black", 9, 3, "made by bicubic-x2"),
    ]
    assert result.path.read_bytes() == wanted.path.read_bytes()
