"""`vsr eval --blur`: blurs that are known against blurs that are estimated."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.models.test_blur import natural
from vsr.cli.main import run
from vsr.training.degrade_blur import draw_blur


def test_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        picture = (255 * natural(256, seed)[0, 0]).clamp(0, 255).byte().numpy()
        assert cv2.imwrite(str(tmp_path / f"{seed}.png"), np.repeat(picture[..., None], 3, 2))
    assert cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((24, 24, 3), np.uint8))
    argv = ["eval", "--blur", "--gt", str(tmp_path), "--scale", "2"]
    assert run([*argv, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["name"] for row in rows] == ["0", "1", "2", "tiny"]
    assert all(row["error"] < 0.1 for row in rows[:3]) and rows[3]["found"] is None
    assert run(argv) == 0
    assert "within 0.1: 3 of 4" in capsys.readouterr().out
    assert run(["eval", "--gt", str(tmp_path)]) == 2, "scores need a model"


def test_each_clip_has_a_blur_of_its_own() -> None:
    blurs = [draw_blur(torch.Generator().manual_seed(seed)).blur for seed in (1, 2, 1)]
    assert blurs[0] == blurs[2] != blurs[1]
    assert all(0.3 <= blur.minor <= blur.major <= 0.95 for blur in blurs)
