"""`bench` measures what it says: rates of real work, on a clip that moves and is cut."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vsr.cli.bench import _lines
from vsr.config import UpscaleConfig
from vsr.media.reader import FrameReader
from vsr.pipeline.bench import BenchResult, bench
from vsr.pipeline.bench_clip import write_bench_clip
from vsr.pipeline.shots import CutDetector


@pytest.fixture(scope="module")
def measured() -> BenchResult:
    steps: list[str] = []
    config = UpscaleConfig(model="bicubic-x2", scale=2.0)
    result = bench(
        config,
        size=(64, 48),
        num_frames=8,
        repeats=2,
        naive=True,
        trace=True,
        on_step=steps.append,
    )
    assert steps[0] == "render the clip"
    assert "run as a whole (2 of 2)" in steps
    return result


def test_rates_belong_together(measured: BenchResult) -> None:
    stages = measured.stages
    slowest = min(stages.decode_fps, stages.infer_fps, stages.encode_fps)
    assert measured.efficiency == pytest.approx(measured.end_to_end_fps / slowest, abs=1e-3)
    assert measured.naive_fps is not None
    expected = measured.end_to_end_fps / measured.naive_fps
    assert measured.speedup == pytest.approx(expected, abs=1e-3)
    for rate in measured.spread.values():
        assert 0 < rate.lowest <= rate.median <= rate.highest


def test_it_says_what_was_measured(measured: BenchResult) -> None:
    assert (measured.size, measured.result_size, measured.frames) == ("64x48", "128x96", 8)
    assert measured.model == "bicubic-x2"
    assert measured.encoder.startswith("libx264 ")
    assert measured.machine["cores"] >= 1
    # One code for each sample of 4:2:0.
    assert measured.bytes_per_frame == {"in": 64 * 48 * 3 // 2, "out": 128 * 96 * 3 // 2}
    assert 20 < measured.peak_rss_mb < 4000
    assert measured.peak_vram_mb is None
    assert (measured.gpu_busy, measured.gpu_busy_upscale) == (None, None)
    assert (measured.decoder, measured.graphs) == ("software", False)


def test_it_shows_where_the_models_time_goes(measured: BenchResult) -> None:
    assert measured.trace is not None
    assert measured.trace.device == "cpu"
    assert any(row.name.startswith("aten::") for row in measured.trace.rows)
    lines = _lines(measured)
    assert any(line.startswith("moved ") and "0.00 MB in" in line for line in lines)
    assert any("aten::" in line for line in lines)
    assert BenchResult.model_validate(measured.model_dump()) == measured


def test_the_clip_moves_and_is_cut_once(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    write_bench_clip(path, 96, 64, 24)
    detector = CutDetector()
    lumas = []
    with FrameReader(path) as reader:
        for frame in reader:
            detector.push_frame(frame)
            lumas.append(np.asarray(frame.planes[0], np.float64))
    assert detector.finish() == (12,)
    steps = [np.abs(b - a).mean() for a, b in pairwise(lumas)]
    assert min(steps) > 1.0
    assert lumas[0].std() > 25
