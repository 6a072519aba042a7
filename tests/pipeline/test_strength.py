"""`--strength` on films: what the plan says, who is steadied, and that bytes still repeat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.test_blend import install
from vsr.config import resolve_config
from vsr.errors import ConfigError
from vsr.models import catalog
from vsr.models.deflicker import (
    DEFAULT_STRENGTH,
    INVENTED_STRENGTH,
    Deflicker,
    Once,
    warmup,
)
from vsr.pipeline.plan import Plan
from vsr.pipeline.planning import make_plan
from vsr.pipeline.segment import make_runner, run_segment

MakeClip = Callable[..., Path]
MODEL = "srresnet-x4"


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(catalog, "WEIGHTS_FOLDER", folder)
    install(folder, MODEL, 3)
    install(folder, "srgan-x4", 3)


@pytest.fixture
def clip(make_clip: MakeClip, tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mkv", frames=6, width=32, height=32)


def plan_of(clip: Path, **flags: object) -> Plan:
    flags = {"model": MODEL, "device": "cpu", **flags}
    return make_plan(clip, Path("out.mkv"), resolve_config(flags=flags))


def test_the_plan_says_it(clip: Path) -> None:
    by_itself, off, wished = (plan_of(clip, strength=value) for value in (None, 0.0, 0.3))
    assert (by_itself.model.strength, by_itself.model.warmup) == (DEFAULT_STRENGTH, 13)
    assert (off.model.strength, off.model.warmup) == (0.0, 0)
    assert plan_of(clip, model="srgan-x4").model.strength == INVENTED_STRENGTH > DEFAULT_STRENGTH
    assert any("strength 0.3" in note for note in wished.notes)
    assert [warmup(value) for value in (0.0, 0.5, 0.99)] == [0, 7, 32]
    assert len({plan.digest() for plan in (by_itself, off, wished)}) == 3


def test_other_models_are_left_alone(clip: Path) -> None:
    assert plan_of(clip, model="bicubic-x4").model.strength is None
    with pytest.raises(ConfigError, match="--strength"):
        plan_of(clip, model="bicubic-x4", strength=0.5)


def test_who_runs(clip: Path) -> None:
    for strength, kind in ((0.4, Deflicker), (0.0, Once)):
        plan = plan_of(clip, strength=strength)
        runner = make_runner(plan, plan.segments[0])
        assert type(runner._rungs[0]._model) is kind


def test_equal_plans_give_equal_bytes_and_strength_others(clip: Path, tmp_path: Path) -> None:
    made = []
    for number, strength in enumerate((0.5, 0.5, 0.0)):
        folder = tmp_path / str(number)
        folder.mkdir()
        made.append(run_segment(plan_of(clip, strength=strength), 0, folder).path.read_bytes())
    assert made[0] == made[1] != made[2]
