"""What is estimated of a source, on the command line and in a plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from tests.models.test_blur import natural
from vsr.cli.main import run
from vsr.config import resolve_config
from vsr.errors import ConfigError
from vsr.models.blur import GaussianBlur, shrink, taps
from vsr.models.image.interpolation import imresize
from vsr.models.video.reconstruction import Reconstruction
from vsr.pipeline.degradation import estimate_degradation
from vsr.pipeline.planning import make_plan
from vsr.pipeline.segment import make_runner

MakeClip = Callable[..., Path]


def save(path: Path, small: torch.Tensor, noise_codes: float = 0.0, quality: int = 90) -> Path:
    generator = np.random.default_rng(1)
    codes = 255 * small[0, 0].numpy() + noise_codes * generator.standard_normal(small.shape[-2:])
    Pillow.fromarray(np.rint(codes).clip(0, 255).astype(np.uint8)).convert("RGB").save(
        path, quality=quality
    )
    return path


def test_three_kinds_of_source(tmp_path: Path) -> None:
    truth = natural(512)
    truth[..., 294:] = torch.linspace(0.3, 0.6, 512)[:, None]  # a sky, where noise is seen
    clean = save(tmp_path / "bi.png", imresize(truth, scale=0.5))
    soft = save(tmp_path / "soft.png", shrink(truth, taps(GaussianBlur(0.9, 0.5), 2), 2))
    noisy = save(tmp_path / "noisy.png", imresize(truth, scale=0.5), noise_codes=12)
    blocky = save(tmp_path / "blocky.jpg", imresize(truth, scale=0.5), quality=4)
    found = [estimate_degradation(path, scale=2) for path in (clean, soft, noisy, blocky)]
    assert [each.weights for each in found] == ["-bi", "default", "-archive", "-archive"]
    assert found[1].blur_major_px == pytest.approx(0.9, abs=0.12)
    assert found[2].noise_codes == pytest.approx(12, rel=0.25)


def test_probe_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = save(tmp_path / "bi.png", imresize(natural(256), scale=0.5))
    assert run(["probe", "--degradation", "--scale", "2", str(clean)]) == 0
    assert "weights that fit: " in capsys.readouterr().out
    assert run(["probe", "--degradation", "--json", str(clean)]) == 0
    assert json.loads(capsys.readouterr().out)["degradation"]["frames"] == 1


def test_a_film_is_looked_at_and_the_plan_says_so(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=14, width=96, height=64)
    assert estimate_degradation(clip).frames == 2
    flags = {"model": "reconstruction-x2", "device": "cpu", "blind": True}
    plan = make_plan(clip, tmp_path / "out.mkv", resolve_config(flags=flags))
    assert plan.model.blur is not None
    assert any("blur of" in note for note in plan.notes)
    model = make_runner(plan, plan.segments[0])._rungs[0]._model
    assert isinstance(model, Reconstruction)
    plain = make_plan(clip, tmp_path / "out.mkv", resolve_config(flags={**flags, "blind": False}))
    assert plain.model.blur is None and plain.digest() != plan.digest()


def test_who_may_be_told_a_blur(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=2, width=32, height=32)
    for model, wanted in (("bicubic-x2", "--blind"), ("zssr-x2", "stills")):
        config = resolve_config(
            flags={"model": model, "device": "cpu", "blind": wanted != "stills"}
        )
        with pytest.raises(ConfigError, match=wanted):
            make_plan(clip, tmp_path / "out.mkv", config)


def test_reconstruction_of_a_known_blur_does_better_when_told() -> None:
    blur = GaussianBlur(0.8, 0.5, 0.4)
    wide = natural(256)
    frames = [wide[..., 16 : 16 + 96, 3 * t : 3 * t + 96].expand(1, 3, -1, -1) for t in range(5)]
    small = torch.stack([shrink(frame, taps(blur, 2), 2) for frame in frames], dim=1)
    errors = []
    for told in (None, blur):
        model = Reconstruction(2, blur=told)
        result, _ = model.upscale(small, model.init_state(1, 48, 48))
        errors.append(float((result[:, 2] - frames[2])[..., 8:-8, 8:-8].square().mean()))
    assert errors[1] < 0.8 * errors[0]
