"""The plan is plain data that holds all that can change a byte, and nothing else changes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from vsr.config import UpscaleConfig, resolve_config
from vsr.errors import CheckpointError, ConfigError, DeviceError, UnknownModelError
from vsr.frame import Matrix
from vsr.models import catalog
from vsr.pipeline import planning
from vsr.pipeline.container import choose_container
from vsr.pipeline.plan import Plan
from vsr.pipeline.planning import make_plan

MakeClip = Callable[..., Path]
BICUBIC: dict[str, Any] = {"model": "bicubic-x2", "device": "cpu"}


def config(**flags: Any) -> UpscaleConfig:
    return resolve_config(flags={**BICUBIC, **flags})


@pytest.fixture(scope="module")
def clip(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "clip.mp4"
    return make_clip(path, bframes=2, audio=["aac"], chapters=2)


def plan_of(clip: Path, output: str = "out.mkv", **flags: Any) -> Plan:
    return make_plan(clip, Path(output), config(**flags))


def test_a_plan_round_trips_through_json(clip: Path) -> None:
    plan = plan_of(clip)
    again = Plan.model_validate_json(plan.model_dump_json())
    assert again == plan
    assert again.digest() == plan.digest()


def test_the_plan_says_what_will_be_made(clip: Path) -> None:
    plan = plan_of(clip)
    assert plan.num_frames == 12
    assert plan.segments[0].timeline.pts() == [512 * index for index in range(12)]
    assert plan.encoder.time_base == plan.video.time_base == Fraction(1, 12800)
    assert (plan.encoder.width, plan.encoder.height) == (128, 96)
    assert plan.color_in.matrix is Matrix.SMPTE170M
    assert plan.encoder.color == plan.color_in
    assert plan.model.id == "bicubic-x2"
    assert plan.model.weights_sha256 is None
    assert plan.compute.dtype == "float32"
    assert plan.encoder.threads >= 1
    assert any("Matrix is not tagged" in note for note in plan.notes)


def test_where_the_source_lies_and_its_date_change_nothing(clip: Path, tmp_path: Path) -> None:
    copy = tmp_path / "other name.mp4"
    shutil.copy(clip, copy)
    os.utime(copy, (1, 1))
    assert plan_of(copy).digest() == plan_of(clip).digest()
    assert plan_of(copy).source != plan_of(clip).source


def test_the_machine_has_no_say_in_thread_counts(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plan_of(clip).digest()
    monkeypatch.setattr(os, "cpu_count", lambda: 61)
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(61)))
    assert plan_of(clip).digest() == before


@pytest.mark.parametrize(
    "change",
    [{"crf": 30.0}, {"codec": "ffv1"}, {"encoder_preset": "medium"}, {"seed": 1}, {"threads": 7}],
)
def test_what_changes_a_byte_changes_the_digest(clip: Path, change: dict[str, Any]) -> None:
    assert plan_of(clip, **change).digest() != plan_of(clip).digest()


def test_another_model_and_container_change_the_digest(clip: Path) -> None:
    digests = {
        plan_of(clip).digest(),
        plan_of(clip, model="lanczos-x2").digest(),
        plan_of(clip, output="out.mp4").digest(),
    }
    assert len(digests) == 3


def test_waiting_room_changes_nothing(clip: Path) -> None:
    small = make_plan(
        clip, Path("out.mkv"), resolve_config(flags=BICUBIC, sets=["engine.queue_frames=2"])
    )
    assert small.queue_frames == 2
    assert small.digest() == plan_of(clip).digest()


@pytest.mark.parametrize("name", ["a.mkv", "A.MKV", "x.y.mp4", "b.mov"])
def test_the_container_follows_the_name(name: str) -> None:
    assert choose_container(Path(name), UpscaleConfig()) == name.lower().rpartition(".")[2]


@pytest.mark.parametrize("name", ["a.avi", "a", "a.mkv.part", ".mkv"])
def test_other_names_are_refused_with_the_list(name: str) -> None:
    with pytest.raises(ConfigError, match=r"\.mkv, \.mp4, \.mov") as caught:
        choose_container(Path(name), UpscaleConfig())
    assert caught.value.exit_code == 2


def test_a_container_that_is_named_wins_over_the_suffix() -> None:
    assert choose_container(Path("a.bin"), UpscaleConfig(container="mkv")) == "mkv"


def test_a_model_of_another_scale_comes_first_and_one_resampling_after(clip: Path) -> None:
    plan = plan_of(clip, scale=3)
    assert (plan.model.id, plan.model.scale, plan.scale) == ("bicubic-x2", 2, 3)
    assert (plan.encoder.width, plan.encoder.height) == (192, 144)
    assert any("resampled once to 3 times" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("scale", "model", "size"),
    [
        (1, 1, (64, 48)),
        (1.5, 2, (96, 72)),
        (2.5, 3, (160, 120)),
        (3.1, 4, (198, 148)),
        (6, 4, (384, 288)),
    ],
)
def test_the_smallest_model_that_reaches_the_scale(
    clip: Path, scale: float, model: int, size: tuple[int, int]
) -> None:
    plan = make_plan(clip, Path("o.mkv"), resolve_config(flags={"scale": scale, "device": "cpu"}))
    assert plan.model.scale == model
    assert (plan.encoder.width, plan.encoder.height) == size
    assert plan.scale == scale
    assert any("resampled once" in note for note in plan.notes) == (scale != model)


def test_an_unknown_model_is_refused(clip: Path) -> None:
    with pytest.raises(UnknownModelError, match="bicubic"):
        plan_of(clip, model="bicubik-x2")


def test_absent_weights_are_refused_before_the_scan(
    clip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("scanned")

    monkeypatch.setattr(catalog, "WEIGHTS_FOLDER", tmp_path)
    monkeypatch.setattr(planning, "scan_and_listen", fail)
    with pytest.raises(CheckpointError, match="not installed"):
        plan_of(clip, model="flowprop-xs-x4-bi")


def test_an_absent_device_is_refused(clip: Path) -> None:
    with pytest.raises(DeviceError):
        plan_of(clip, device="cuda:99")
