"""Recordings of a model: made before the threads start, kept for the next segment, and no byte."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.test_captured import SPEC, OnCpu, tiny
from vsr.config import resolve_config
from vsr.engine import captured
from vsr.engine.captured import CapturedRenderer, Work
from vsr.models import checkpoint
from vsr.models.upscaler import ModelSpec, Upscaler
from vsr.pipeline import segment
from vsr.pipeline.plan import Plan
from vsr.pipeline.planning import make_plan
from vsr.pipeline.segment import Effort, forget_models, run_segment

STAGES = ("vsr-decode", "vsr-infer", "vsr-encode")
MakeClip = Callable[..., Path]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A tiny recurrent model takes the place of bicubic-x2; what was loaded, by name."""
    found: list[str] = []

    def load(name: str, **_: Any) -> Any:
        found.append(str(name))
        return tiny("forward")

    monkeypatch.setattr(checkpoint, "resolve_spec", lambda _: SPEC)
    monkeypatch.setattr(checkpoint, "load_upscaler", load)
    yield found
    forget_models()


@pytest.fixture
def plan(make_clip: MakeClip, tmp_path: Path, loads: list[str]) -> Plan:
    clip = make_clip(tmp_path / "clip.mkv")
    flags = {"model": "bicubic-x2", "device": "cpu", "codec": "ffv1"}
    return make_plan(clip, Path("out.mkv"), resolve_config(flags=flags))


def with_graphs(plan: Plan) -> Plan:
    compute = plan.compute.model_copy(update={"graphs": True})
    return plan.model_copy(update={"compute": compute})


def use(monkeypatch: pytest.MonkeyPatch, record: Callable[[Work], Any]) -> list[CapturedRenderer]:
    made: list[CapturedRenderer] = []

    def capture(model: Upscaler, spec: ModelSpec, device: torch.device) -> Upscaler:
        made.append(CapturedRenderer(model, spec, device, record))
        return made[-1]

    monkeypatch.setattr(captured, "capture_upscaler", capture)
    return made


def test_segments_share_a_model_and_its_recordings(
    plan: Plan, tmp_path: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = run_segment(plan, 0, tmp_path)
    stages: list[str] = []
    num_recorded = 0

    def record(work: Work) -> OnCpu:
        nonlocal num_recorded
        num_recorded += 1
        stages.extend(t.name for t in threading.enumerate() if t.name in STAGES)
        return OnCpu(work)

    made = use(monkeypatch, record)
    loads.clear()
    results = [run_segment(with_graphs(plan), 0, tmp_path) for _ in range(2)]
    assert [result.sha256 for result in results] == [wanted.sha256] * 2
    assert (len(made), len(loads)) == (1, 1)
    assert made[0].num_replays > 0
    assert (num_recorded, stages) == (2, []), "recorded before the threads start"
    # It is nobody else's, and nobody's in tiles.
    run_segment(with_graphs(plan), 0, tmp_path, effort=Effort(tile_px=64))
    assert len(made) == 1
    run_segment(with_graphs(plan), 0, tmp_path)
    assert len(made) == 2
    forget_models()
    assert segment._shelf.take((plan.model, with_graphs(plan).compute)) is None


@pytest.mark.usefixtures("loads")
def test_what_cannot_be_recorded_is_told(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = run_segment(plan, 0, tmp_path)

    def record(work: Work) -> OnCpu:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    use(monkeypatch, record)
    result = run_segment(with_graphs(plan), 0, tmp_path)
    assert result.notes == ("No CUDA graph is used: the memory does not hold one.",)
    assert (result.sha256, result.exact) == (wanted.sha256, True)


def test_a_plan_says_so_and_its_digest_does_not(plan: Plan) -> None:
    assert not plan.compute.graphs
    assert with_graphs(plan).digest() == plan.digest()
    assert Plan.model_validate_json(with_graphs(plan).model_dump_json()).compute.graphs


@pytest.mark.usefixtures("needs_cuda")
def test_a_run_on_a_gpu_is_equal_with_and_without(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=60)
    digests = {}
    for graphs in ("true", "false"):
        flags = {"model": "flowprop-xs-x4", "device": "cuda", "codec": "ffv1"}
        config = resolve_config(flags=flags, sets=[f"engine.graphs={graphs}"])
        plan = make_plan(clip, Path("out.mkv"), config)
        assert plan.compute.graphs == (graphs == "true")
        assert any("CUDA graphs" in note for note in plan.notes) == (graphs == "true")
        result = run_segment(plan, 0, tmp_path)
        assert result.notes == ()
        digests[graphs] = result.sha256
    forget_models()
    assert digests["true"] == digests["false"]
