"""A network that ages is told from one that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vsr.cli.main import run
from vsr.errors import ConfigError
from vsr.models.image.interpolation import imresize
from vsr.models.upscaler import State
from vsr.training import drift
from vsr.training.drift import drifts


class Ageing(nn.Module):
    """Bicubic, and a pattern that is stronger with every frame."""

    scale = 2

    def __init__(self, growth: float) -> None:
        super().__init__()
        self.growth = growth

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        return (torch.zeros(1),)

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        age = state[0]
        results = []
        for frame in frames_BTCHW.unbind(1)[: frames_BTCHW.shape[1] - num_context]:
            large = imresize(frame, scale=2)
            large[..., ::2] += self.growth * age
            results.append(large)
            age = age + 1
        return torch.stack(results, dim=1), (age,)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    folder = tmp_path / "clips" / "one"
    folder.mkdir(parents=True)
    dice = np.random.default_rng(1)
    for index in range(4):
        small = dice.uniform(60, 190, (9, 12, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(small, (48, 36)))
    return folder.parent


def test_who_keeps_nothing_loses_nothing(clip: Path) -> None:
    (row,) = drifts(["bicubic-x2"], clip, num_frames=13, scale=2)
    assert row == {
        "model": "bicubic-x2",
        "clip": "one",
        "frames": 13,
        "mean_loss": 0.0,
        "worst_loss": 0.0,
    }


def test_age_shows(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(growth: float, num_frames: int) -> Any:
        monkeypatch.setattr(drift, "load_upscaler", lambda _: Ageing(growth))
        (row,) = drifts(["bicubic-x2"], clip, num_frames=num_frames, scale=2)
        return row

    slow, fast, long = measured(0.001, 13), measured(0.003, 13), measured(0.001, 31)
    assert 0.05 < slow["mean_loss"] <= slow["worst_loss"]
    assert fast["mean_loss"] > slow["mean_loss"]
    assert long["mean_loss"] > slow["mean_loss"]


def test_four_passes_are_needed(clip: Path) -> None:
    with pytest.raises(ConfigError, match="one has 4 frames, which 12 do not play through"):
        drifts(["bicubic-x2"], clip, num_frames=12, scale=2)


def test_the_command(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["eval", "--drift", "13", "--model", "bicubic-x2", "--scale", "2", "--gt"]
    assert run([*arguments, str(clip)]) == 0
    assert "| bicubic-x2 | one | 13 | 0.000 | 0.000 |" in capsys.readouterr().out
