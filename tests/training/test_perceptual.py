"""What `evaluate` adds for networks that make detail up."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from torch import Tensor

from vsr.cli.eval import command
from vsr.models.image.interpolation import Interpolation
from vsr.models.upscaler import State
from vsr.quality.metrics import PSNR_CEILING_DB
from vsr.training.clips import find_clips
from vsr.training.evaluate import evaluate
from vsr.training.perceptual import shrink
from vsr.training.scores import PerceptualScore

_KEYS = {"gradient_energy", "consistency_db", "texture_distance"}


class _Lpips:
    """Stands in for the network, which may not be shipped."""

    def score(self, result_3HW: NDArray[np.float32], truth_3HW: NDArray[np.float32]) -> float:
        if min(result_3HW.shape[1:]) < 40:
            raise ValueError("it needs pictures of 40 pixels each way")
        return float(np.abs(result_3HW - truth_3HW).mean())


def _absent() -> _Lpips:
    raise ValueError("AlexNet is not here")


@pytest.fixture(autouse=True)
def lpips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has."""
    monkeypatch.setattr("vsr.training.perceptual.Lpips", _Lpips)


def _write(path: Path, seed: int, size: tuple[int, int] = (61, 50)) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(90, 160, (6, 7, 3)).astype(np.float32)
    smooth = np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))
    picture = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(".png", picture)
    assert ok
    path.write_bytes(data.tobytes())


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips of 3 and 2 frames, 61x50."""
    for clip, num_frames in (("a", 3), ("b", 2)):
        for index in range(num_frames):
            _write(tmp_path / "gt" / clip / f"{index:03}.png", index)
    return tmp_path / "gt"


class _Spoiled(Interpolation):
    """Knows the truth, and writes it as `spoil` leaves it."""

    def __init__(self, folder: Path, spoil: Callable[[Tensor], Tensor]) -> None:
        super().__init__(4)
        self._truth = iter([p for clip in find_clips(folder) for p in clip.pictures()])
        self._spoil = spoil

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        height, width = (4 * side for side in frames_BTCHW.shape[-2:])
        count = frames_BTCHW.shape[1] - num_context
        frames = [next(self._truth)[:, :height, :width] for _ in range(count)]
        return self._spoil(torch.stack(frames))[None], state


@pytest.fixture
def scored(clips: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PerceptualScore]:
    """Scores of a result that is the truth, spoiled."""

    def score(spoil: Callable[[Tensor], Tensor], folder: Path = clips) -> PerceptualScore:
        monkeypatch.setattr("vsr.training.evaluate.load_upscaler", lambda _: _Spoiled(clips, spoil))
        monkeypatch.setattr("vsr.training.evaluate._cost", lambda *_: (0.0, 0))
        found = evaluate(["bicubic-x4"], folder, perceptual=True).rows[0].perceptual
        assert found is not None
        return found

    return score


def test_truth_noise_and_blur(scored: Callable[..., PerceptualScore]) -> None:
    generator = torch.Generator().manual_seed(5)
    truth = scored(lambda frames: frames)
    assert (truth.gradient_energy, truth.texture_distance, truth.lpips) == (1, 0, 0)
    assert truth.consistency_db > 70
    noise = scored(lambda f: f + 0.1 * torch.randn(f.shape, generator=generator))
    assert noise.gradient_energy > 1.3 and noise.lpips > 0.01
    blur = scored(lambda f: torch.nn.functional.avg_pool2d(f, 5, 1, 2, count_include_pad=False))
    assert blur.gradient_energy < 0.7
    for spoiled in (noise, blur):
        assert spoiled.texture_distance > 0.05
        assert spoiled.consistency_db < truth.consistency_db - 20


def test_a_shade_of_its_own_is_not_the_picture_that_went_in(
    scored: Callable[..., PerceptualScore],
) -> None:
    """Detail and texture cannot see it, and the figure is known: luma less by a tenth."""
    darker = scored(lambda frames: 0.9 * frames)
    truth = scored(lambda frames: frames)
    assert darker.consistency_db < 30 < truth.consistency_db
    assert darker.gradient_energy == pytest.approx(0.81, abs=0.01)


def test_stills_are_scored_without_their_border(clips: Path, tmp_path: Path) -> None:
    row = evaluate(["bicubic-x4"], clips / "a", perceptual=True).rows[0]
    found = row.perceptual
    assert found is not None and 0 < found.gradient_energy < 0.9
    assert found.texture_distance > 0.05 and 20 < found.consistency_db < PSNR_CEILING_DB
    whole = evaluate(["bicubic-x4"], clips / "a", perceptual=True, crop_px=0).rows[0].perceptual
    assert whole is not None
    assert whole.texture_distance != found.texture_distance
    assert whole.consistency_db == found.consistency_db
    # Frames that are not scored do not count.
    first = evaluate(["bicubic-x4"], clips, perceptual=True, every=3).rows[0].clips
    assert first["a"].perceptual == first["b"].perceptual


def test_consistency_is_with_the_picture_given_not_with_the_truth(
    clips: Path, tmp_path: Path
) -> None:
    """Small pictures that are darker than the truth's own."""
    for clip in find_clips(clips):
        for file, picture in zip(clip.files, clip.pictures(), strict=True):
            small = shrink(picture[:, :48, :60] * 0.8, 4).permute(1, 2, 0).numpy()[..., ::-1]
            target = tmp_path / "lr" / clip.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(target), (small * 255).round().astype(np.uint8))
    given = evaluate(["bicubic-x4"], clips, lr=tmp_path / "lr", perceptual=True).rows[0]
    made = evaluate(["bicubic-x4"], clips, perceptual=True).rows[0]
    assert given.perceptual is not None and made.perceptual is not None
    assert given.psnr < made.psnr - 5
    assert given.perceptual.consistency_db > made.perceptual.consistency_db - 1


def test_consistency_is_told_only_where_bicubic_made_the_small_picture(clips: Path) -> None:
    result = evaluate(["bicubic-x4"], clips, perceptual=True, degradation="bd")
    assert result.describe()["rows"][0]["consistency_db"] is None
    assert result.notes == (
        "Consistency: not available, because the small pictures were made by 'bd', "
        "not by bicubic alone.",
    )


def test_without_the_network_the_rest_is_scored_and_it_is_said_why(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsr.training.perceptual.Lpips", _absent)
    result = evaluate(["bicubic-x4"], clips, perceptual=True)
    (row,) = result.describe()["rows"]
    assert row["lpips"] is None and row["texture_distance"] > 0
    assert result.notes == ("LPIPS: not available, because AlexNet is not here.",)


def test_no_mean_stands_for_a_part_of_the_stills(clips: Path) -> None:
    _write(clips / "a" / "small.png", 7, (44, 44))
    result = evaluate(["bicubic-x4"], clips / "a", perceptual=True)
    (row,) = result.describe()["rows"]
    assert row["lpips"] is None and row["clips"]["small"]["lpips"] is None
    assert row["clips"]["000"]["lpips"] > 0
    assert result.notes is not None and "40 pixels" in result.notes[0]


def test_command_adds_keys_and_columns_only_when_asked(clips: Path) -> None:
    arguments = ["--model", "bicubic-x4", "--gt", str(clips), "--device", "cpu"]

    def run(*more: str) -> str:
        done = CliRunner().invoke(command, [*arguments, *more])
        assert done.exit_code == 0, done.output
        return done.stdout

    plain, asked = (json.loads(run("--json", *flags)) for flags in ((), ("--perceptual",)))
    assert set(asked) - set(plain) == {"notes"} and asked["notes"] == []
    (row,), (more,) = plain["rows"], asked["rows"]
    assert set(more) - set(row) == _KEYS
    assert set(more["clips"]["a"]) - set(row["clips"]["a"]) == {*_KEYS, "lpips"}
    assert row["lpips"] is None and more["lpips"] > 0
    for key in _KEYS:
        assert more[key] == pytest.approx(
            (more["clips"]["a"][key] + more["clips"]["b"][key]) / 2, rel=1e-9
        )
    table = run("--perceptual")
    cells = f"| {more['gradient_energy']:.3f} | {more['consistency_db']:.2f} |"
    assert "| flicker | gradients | consistency dB | texture | LPIPS | a | b |" in table
    assert cells in table
    widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
    assert len(widths) == 1
    assert "gradients" not in run()


def test_a_flat_clip_has_no_gradient_energy_and_takes_none(clips: Path) -> None:
    for index in range(2):
        ok, data = cv2.imencode(".png", np.full((50, 61, 3), 90, np.uint8))
        assert ok
        (clips / "b" / f"{index:03}.png").write_bytes(data.tobytes())
    row = evaluate(["bicubic-x4"], clips, perceptual=True).rows[0]
    flat, other = row.clips["b"].perceptual, row.clips["a"].perceptual
    assert flat is not None and other is not None and row.perceptual is not None
    assert math.isnan(flat.gradient_energy) and flat.consistency_db == PSNR_CEILING_DB
    assert row.perceptual.gradient_energy == other.gradient_energy
    assert row.describe()["clips"]["b"]["gradient_energy"] is None


def test_shrinking_is_the_protocols_own() -> None:
    picture = torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(2))
    small = shrink(picture, 4)
    assert small.shape == (3, 4, 6)
    assert torch.equal(small, (small * 255).round() / 255)
