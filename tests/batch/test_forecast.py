"""What a plan says of time and disk: measured once per class of sizes, stretched to all clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.batch.conftest import ProcessesHere
from vsr.batch import forecast as forecast_module
from vsr.batch.forecast import forecast
from vsr.batch.manifest import Manifest
from vsr.batch.opening import copy_manifest
from vsr.batch.settings import Settings
from vsr.batch.walk import Filters
from vsr.batch.work import Cost
from vsr.config import UpscaleConfig
from vsr.errors import DecodeError, JobCancelledError


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    manifest = copy_manifest(tmp_path / "out")
    rows: tuple[tuple[str, int, int | None], ...] = (
        ("small-1", 180, 10),
        ("small-2", 180, 30),
        ("small-3", 180, 20),
        ("large", 1080, 10),
        ("endless", 1080, None),
        ("odd", 2160, 10),
    )
    for name, height, frames in rows:
        manifest.add(name, "waiting", output=f"{name}.mkv", width=100, height=height, frames=frames)
    manifest.add("over", "done", output="over.mkv", width=100, height=180, frames=9999)
    return manifest


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the clips that were sampled: half a second each and one per frame of
    100x180, and no `odd` one."""
    names: list[str] = []

    def sample(_job: Any, source: Path, *_: object) -> Cost:
        names.append(source.name)
        if source.name == "odd":
            raise DecodeError("no picture could be decoded")
        return Cost(start_seconds=0.5, seconds_per_pixel=1 / 18000, bytes_per_pixel=0.5)

    monkeypatch.setattr(forecast_module, "Processes", ProcessesHere)
    monkeypatch.setattr(forecast_module, "sample", sample)
    return names


def test_one_sample_for_each_class(manifest: Manifest, sampled: list[str], tmp_path: Path) -> None:
    settings = Settings(source=tmp_path, config=UpscaleConfig(), filters=Filters())
    guess = forecast(manifest, settings)
    assert sampled == ["large", "odd", "small-3"]
    assert guess.seconds == 3 * 0.5 + 60 + 0.5 + 60
    assert guess.result_bytes == 120 * 18000 // 2
    assert guess.num_unknown == 2
    assert guess.free_bytes


def test_it_can_be_stopped(manifest: Manifest, sampled: list[str], tmp_path: Path) -> None:
    settings = Settings(source=tmp_path, config=UpscaleConfig(), filters=Filters())
    with pytest.raises(JobCancelledError):
        forecast(manifest, settings, lambda: True)
    assert sampled == []
