"""`--grain`: measured of the source, written in the plan, in the result, the same in each run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from vsr.config import resolve_config
from vsr.errors import ConfigError
from vsr.media.grain import measure_grain
from vsr.pipeline.planning import make_plan
from vsr.pipeline.segment import run_segment

MakeClip = Callable[..., Path]


def grainy(path: Path, codes: float, frames: int = 3) -> Path:
    """A grey ramp under grain, without loss."""
    generator = np.random.default_rng(2)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        ramp = np.linspace(60, 180, 160)[None, :]
        for _ in range(frames):
            picture = np.full((180, 160), 128.0)
            picture[:120] = ramp + codes * 219 / 255 * generator.standard_normal((120, 160))
            frame = av.VideoFrame.from_ndarray(np.rint(picture).astype(np.uint8), "yuv420p")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def lumas(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [
            (frame.to_ndarray()[: frame.height].astype(np.float32) - 16) / 219
            for frame in container.decode(video=0)
        ]


def test_the_result_has_the_sources_grain(tmp_path: Path) -> None:
    clip = grainy(tmp_path / "clip.mkv", codes=5)
    made = []
    for number, grain in enumerate((None, 1.0, 1.0, 2.0)):
        flags = {"model": "bicubic-x2", "device": "cpu", "grain": grain, "codec": "ffv1"}
        plan = make_plan(clip, tmp_path / "out.mkv", resolve_config(flags=flags))
        if grain is not None:
            assert plan.grain is not None and any("Grain of" in note for note in plan.notes)
        folder = tmp_path / str(number)
        folder.mkdir()
        made.append(run_segment(plan, 0, folder).path)
    assert made[1].read_bytes() == made[2].read_bytes()
    plain, once, _, twice = ([np.asarray(p) for p in lumas(path)] for path in made)
    added = [255 * float(np.std(one - none)) for one, none in zip(once, plain, strict=True)]
    assert np.mean(added) == pytest.approx(5, rel=0.2)
    assert 255 * float(np.std(twice[0] - plain[0])) == pytest.approx(10, rel=0.2)
    assert not np.allclose(once[0] - plain[0], once[1] - plain[1], atol=1e-3)
    found = measure_grain(once)
    assert found is not None and found.codes > 5


def test_too_small_to_tell(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=2, width=20, height=20)
    config = resolve_config(flags={"model": "bicubic-x2", "device": "cpu", "grain": 1.0})
    with pytest.raises(ConfigError, match="--grain"):
        make_plan(clip, tmp_path / "out.mkv", config)
