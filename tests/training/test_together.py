"""Networks trained side by side are those that are trained alone."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vsr.cli import main
from vsr.errors import JobCancelledError, OutputError
from vsr.training.config import TrainConfig
from vsr.training.data import FrameStore
from vsr.training.loop import CHECKPOINT, Progress, Trainer, train
from vsr.training.together import run_together

MakeStore = Callable[..., FrameStore]
MakeConfig = Callable[..., TrainConfig]
MakeClip = Callable[..., Path]
CPU = torch.device("cpu")
STILL = {
    "model": {"id": "still", "family": "edsr", "params": {"num_channels": 8, "num_blocks": 1}},
    "data": {"num_frames": [1]},
}


def nothing(_: Progress) -> None: ...


def same(one: nn.Module, other: object) -> bool:
    assert isinstance(other, nn.Module)
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_each_is_as_it_would_be_alone(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    store = make_store()
    configs = [make_config(), make_config(**STILL), make_config(schedule={"graph": True})]
    alone = [
        train(config, store, tmp_path / f"alone{number}", device=CPU)
        for number, config in enumerate(configs)
    ]
    trainers = [
        Trainer(config, store, tmp_path / f"beside{number}", CPU)
        for number, config in enumerate(configs)
    ]
    steps: list[list[int]] = [[], [], []]

    def noting(number: int) -> Callable[[Progress], None]:
        return lambda progress: steps[number].append(progress.step)

    torch.set_num_threads(3)  # one for each, as they have alone
    beside = run_together(trainers, [noting(number) for number in range(3)])
    assert torch.get_num_threads() == 3
    assert steps == [[1, 2, 3, 4, 5, 6]] * 3
    assert all(same(one, other) for one, other in zip(alone, beside, strict=True))
    assert all((tmp_path / f"beside{number}" / CHECKPOINT).exists() for number in range(3))


def test_what_ends_one_does_not_end_the_other(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    store = make_store()
    trainers = [Trainer(make_config(), store, tmp_path / name, CPU) for name in "abc"]

    def failing(_: Progress) -> None:
        raise OutputError("the disk is full")

    def stopping(progress: Progress) -> None:
        if progress.step == 2:
            raise JobCancelledError("enough")

    failed, stopped, done = run_together(trainers, [failing, stopping, nothing])
    assert isinstance(failed, OutputError) and isinstance(stopped, JobCancelledError)
    assert isinstance(done, nn.Module)
    assert torch.load(tmp_path / "b" / CHECKPOINT, weights_only=True)["step"] == 2


CONFIG = """
precision = "fp32"
[model]
id = "{name}"
family = "{family}"
params = {params}
[data]
scale = 2
crop_px = 16
num_frames = [{num_frames}]
batch = 1
[schedule]
steps = 5
"""


@pytest.fixture
def folder(tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a clip and two configurations."""
    for name in ("VSR_DATA", "VSR_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VSR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    make_clip(tmp_path / "data/a.mkv", codec="ffv1", width=64, height=64, frames=4)
    params = '{ num_channels = 4, num_blocks = 1, direction = "forward", flow_channels = 4 }'
    still = "{ num_channels = 4, num_blocks = 1 }"
    for name, family, given, num_frames in (
        ("one", "flowprop", params, 2),
        ("two", "edsr", still, 1),
    ):
        text = CONFIG.format(name=name, family=family, params=given, num_frames=num_frames)
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path


def vsr_train(*arguments: str) -> int:
    configs = ("one.toml", "two.toml")
    return main.run(["train", *configs, "--data", "data", "--device", "cpu", *arguments])


def test_two_configurations_make_two_networks(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vsr_train("--json", "--out", "both") == 0
    captured = capsys.readouterr()
    runs: list[dict[str, Any]] = json.loads(captured.out)["runs"]
    assert [run["weights"] for run in runs] == [
        "both/one/one.safetensors",
        "both/two/two.safetensors",
    ]
    assert all((folder / run["weights"]).is_file() and run["steps"] == 5 for run in runs)
    assert "one: 100 %  step 5" in captured.err and "two: 100 %  step 5" in captured.err
    assert captured.err.count("decoding") == 1


def test_one_interrupt_saves_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Trainer.train_step
    is_sent = False

    def interrupted(self: Trainer) -> Progress:
        nonlocal is_sent
        if self.step == 1 and not is_sent:
            is_sent = True
            signal.raise_signal(signal.SIGINT)
        # Handlers run in the main thread, which must get its turn before the last step.
        result = step(self)
        waiting.wait(0.3)
        return result

    waiting = threading.Event()
    monkeypatch.setattr(Trainer, "train_step", interrupted)
    assert vsr_train() == 130
    assert "checkpoint saved (go on with --resume)" in capsys.readouterr().err
    for name in ("one", "two"):
        state = torch.load(folder / "runs" / name / CHECKPOINT, weights_only=True)
        assert 1 <= state["step"] < 5
        assert not (folder / "runs" / name / f"{name}.safetensors").exists()
    monkeypatch.setattr(Trainer, "train_step", step)
    assert vsr_train("--resume") == 0


def test_two_of_one_name_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["train", "one.toml", "one.toml", "--data", "data"]) == 2
    assert "two of the configurations train one" in capsys.readouterr().err
    assert main.run(["train", "--data", "data"]) == 2


@pytest.mark.usefixtures("needs_cuda")
def test_recorded_steps_share_a_gpu(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    store, device = make_store(), torch.device("cuda", 0)
    configs = [make_config(schedule={"steps": 40}), make_config(**STILL, schedule={"steps": 40})]
    trainers = [
        Trainer(config, store, tmp_path / str(number), device)
        for number, config in enumerate(configs * 2)
    ]
    results = run_together(trainers, [nothing] * 4)
    assert all(isinstance(result, nn.Module) for result in results), results
    for trainer in trainers:
        assert trainer.device_step is not None and trainer.device_step.captures
        assert trainer.ema.steps == 40
    # Equal seeds, but sums in another order.
    assert trainers[0].loss == pytest.approx(trainers[2].loss, rel=2e-2)
