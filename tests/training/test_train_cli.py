"""`vsr train` from a folder of clips to weights that load."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vsr.cli import main
from vsr.models.card import DataSource, read_card
from vsr.models.checkpoint import load_upscaler, read_checkpoint
from vsr.training.loop import Progress, Trainer

MakeClip = Callable[..., Path]

CONFIG = """
precision = "fp32"
[model]
id = "{id}"
family = "{family}"
params = {params}
[data]
scale = {scale}
crop_px = 16
num_frames = [2]
batch = 1
[schedule]
steps = 5
"""
UPSCALER = {
    "id": "tiny",
    "family": "flowprop",
    "scale": 2,
    "params": '{ num_channels = 4, num_blocks = 1, direction = "forward", flow_channels = 4 }',
}
FLOW = {"id": "tiny-flow", "family": "flow", "scale": 1, "params": "{ num_channels = 4 }"}


@pytest.fixture
def folder(tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two clips, a picture-less test set beside them, and no settings."""
    for name in ("VSR_DATA", "VSR_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VSR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("data/train/a_1.mkv", "data/train/a_2.mkv", "data/val/never.mkv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        make_clip(tmp_path / name, codec="ffv1", width=64, height=64, frames=4)
    (tmp_path / "c.toml").write_text(CONFIG.format(**UPSCALER))
    return tmp_path


def train(*arguments: str) -> int:
    return main.run(["train", "c.toml", "--device", "cpu", *arguments])


def test_from_clips_to_an_upscaler(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--data", "data", "--seed", "7", "--json") == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    weights = folder / "runs" / "tiny" / "tiny.safetensors"
    assert result["weights"] == "runs/tiny/tiny.safetensors"
    assert (result["steps"], result["num_clips"], result["num_photos"]) == (5, 2, 0)
    assert "100 %  step 5" in captured.err
    assert "kpx/s" in captured.err and "TFLOP/s" in captured.err and "left" in captured.err
    assert 0 < result["tflops"] < result["matmul_tflops"]
    upscaler: Any = load_upscaler(weights)
    assert upscaler.scale == 2
    pictures, _ = upscaler.upscale(torch.rand(1, 2, 3, 20, 24), upscaler.init_state(1, 20, 24))
    assert pictures.shape == (1, 2, 3, 40, 48)
    card = read_card(weights.with_suffix(".toml"))
    assert card.id == "tiny" and card.sha256 == result["sha256"]
    assert card.degradation == "bi" and card.gmac_180p > 0
    assert card.num_params == sum(p.numel() for p in upscaler.parameters()) == result["num_params"]
    assert card.data == (DataSource(origin="train", licence="unknown"),)
    assert card.trained_with["steps"] == 5 and card.trained_with["seed"] == 7
    stored = read_checkpoint(weights)
    assert stored.params["scale"] == 2
    assert stored.training["config"]["seed"] == 7
    assert [path.parent.name for path in (folder / "home").rglob("frames.u8")]


def test_a_flow_network_and_an_upscaler_on_it(folder: Path, make_clip: MakeClip) -> None:
    import cv2
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)
    (folder / "data/train/p.png").write_bytes(cv2.imencode(".png", noise)[1].tobytes())
    (folder / "f.toml").write_text(CONFIG.format(**FLOW))
    assert main.run(["train", "f.toml", "--data", "data", "--device", "cpu"]) == 0
    card = read_card(folder / "runs/tiny-flow/tiny-flow.toml")
    assert card.id == "tiny-flow" and card.degradation == "none" and card.gmac_180p > 0
    init = '[init]\nflow = "runs/tiny-flow/tiny-flow.safetensors"\n'
    (folder / "c.toml").write_text(CONFIG.format(**UPSCALER) + init)
    assert train("--data", "data") == 0


def test_interrupt_saves_and_resume_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--data", "data", "--out", "whole") == 0
    step = Trainer.train_step
    handler = signal.getsignal(signal.SIGINT)

    def interrupted(self: Trainer) -> Progress:
        if self.step == 1:
            signal.raise_signal(signal.SIGINT)
        return step(self)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    assert train("--data", "data", "--out", "parts") == 130
    assert "stopped after step 2, checkpoint saved (go on with --resume)" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) == handler
    assert not (folder / "parts" / "tiny.safetensors").exists()
    monkeypatch.setattr(Trainer, "train_step", step)
    assert train("--data", "data", "--out", "parts", "--resume") == 0
    whole, parts = (read_checkpoint(folder / n / "tiny.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(whole.tensors[name], parts.tensors[name]) for name in whole.tensors)


def test_termination_saves_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer.train_step

    def terminated(self: Trainer) -> Progress:
        signal.raise_signal(signal.SIGTERM)
        return step(self)

    monkeypatch.setattr(Trainer, "train_step", terminated)
    with pytest.raises(SystemExit) as caught:
        train("--data", "data")
    assert caught.value.code == 143
    assert torch.load(folder / "runs/tiny/checkpoint.pt", weights_only=True)["step"] == 1


def test_a_run_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--data", "data") == 0
    assert train("--data", "data") == 6
    assert "runs/tiny holds a run already" in capsys.readouterr().err
    assert train("--data", "data", "--overwrite") == 0


def test_the_data_comes_from_the_environment_or_a_store(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train() == 2
    assert "no training data was named" in capsys.readouterr().err
    monkeypatch.setenv("VSR_DATA", "data")
    assert train("--store", "kept", "--out", "one") == 0
    assert (folder / "kept" / "frames.u8").is_file()
    monkeypatch.delenv("VSR_DATA")
    assert train("--store", "kept", "--out", "two", "--plan-minutes", "0.001") == 0
    config = read_checkpoint(folder / "two" / "tiny.safetensors").training["config"]
    assert config["schedule"] == {"minutes": 0.001, "checkpoint_minutes": 5.0}


def test_data_is_degraded_ahead_and_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CONFIG.format(**UPSCALER).replace("[data]", '[data]\ndegradation = "mixed"')
    (folder / "c.toml").write_text(text)
    ready = ("--data", "data", "--store", "kept", "--degraded-copies", "3")
    assert train(*ready, "--prepare-only") == 0
    captured = capsys.readouterr()
    assert "degrading 6 clips into kept" in captured.err
    assert "kept: 2 clips and pictures, ready" in captured.out
    assert not (folder / "runs").exists()
    assert train(*ready, "--json") == 0
    captured = capsys.readouterr()
    assert "degrading" not in captured.err and json.loads(captured.out)["steps"] == 5
    config = read_checkpoint(folder / "runs/tiny/tiny.safetensors").training["config"]
    assert config["data"]["degraded_copies"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["flow-61", "--data", "data"], 2, "did you mean 'flow-16'"),
        (["c.toml", "--data", "nowhere"], 2, "there is no folder of training data"),
        (["c.toml", "--data", "data", "--device", "abacus"], 5, "not the name of a device"),
        (["c.toml", "--data", "data", "--resume"], 4, "there is no checkpoint"),
        (["c.toml", "--data", "data", "--out", "c.toml"], 6, "cannot make the folder"),
    ],
)
def test_one_sentence_and_a_code(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    text: str,
) -> None:
    assert main.run(["train", *arguments]) == code
    errors = capsys.readouterr().err
    assert text in errors
    assert "Traceback" not in errors
