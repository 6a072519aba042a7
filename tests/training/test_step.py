"""Steps that leave the host out do what steps by hand do, wherever they are computed."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vsr.errors import JobCancelledError
from vsr.training.config import TrainConfig
from vsr.training.data import FrameStore
from vsr.training.loop import Progress, Trainer, train
from vsr.training.step import READ_EVERY, DeviceStep
from vsr.training.task import Drawn

MakeStore = Callable[..., FrameStore]
MakeConfig = Callable[..., TrainConfig]
CPU = torch.device("cpu")
ON_DEVICE = {"steps": 6, "graph": True}
BY_HAND = {"steps": 6, "graph": False}

FLOW = {"model": {"id": "f", "family": "flow", "params": {"num_channels": 4}}}
STILL = {
    "model": {
        "id": "e",
        "family": "edsr",
        "params": {"num_channels": 8, "num_blocks": 1},
    },
    "data": {"num_frames": [1]},
}
LEARNT = {
    "optimizer": {"flow_frozen": 0.5, "flow_loss_weight": 0.5, "lr": 1e-2, "flow_pairs": 2},
    "data": {"carried_frames": 2},
}


def weights(network: torch.nn.Module) -> list[Tensor]:
    return [value.clone() for value in network.state_dict().values()]


def of_step(trainer: Trainer) -> DeviceStep:
    assert trainer.device_step is not None
    return trainer.device_step


@pytest.mark.parametrize("sections", [{}, LEARNT, FLOW, STILL], ids=["", "learnt", "flow", "still"])
def test_the_device_does_what_the_host_does(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path, sections: dict[str, Any]
) -> None:
    store = make_store()
    made = []
    for schedule in (BY_HAND, ON_DEVICE):
        trainer = Trainer(make_config(**sections, schedule=schedule), store, tmp_path, CPU)
        assert (trainer.device_step is not None) == schedule["graph"]
        for _ in range(6):
            trainer.train_step()
        trainer.settle()
        made.append(trainer)
    hand, device = made
    assert device.loss == pytest.approx(hand.loss, rel=1e-4)
    assert device.ema.steps == hand.ema.steps == 6
    pairs = (hand.network, device.network), (hand.ema.module, device.ema.module)
    for one, two in pairs:
        for a, b in zip(weights(one), weights(two), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)


def test_by_default_a_cpu_waits_for_every_step(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    assert Trainer(make_config(), make_store(), tmp_path, CPU).device_step is None


def test_the_loss_is_read_now_and_then(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(schedule={"steps": 2 * READ_EVERY, "graph": True})
    trainer = Trainer(config, make_store(), tmp_path, CPU)
    reads: list[int] = []
    real = DeviceStep.read

    def read(self: DeviceStep) -> float:
        reads.append(trainer.step)
        return real(self)

    monkeypatch.setattr(DeviceStep, "read", read)
    seen = [trainer.train_step() for _ in range(2 * READ_EVERY)]
    assert reads == [0, READ_EVERY - 1, 2 * READ_EVERY - 1]
    assert len({progress.loss for progress in seen}) == 3
    assert all(progress.source_px_per_s > 0 for progress in seen)


def test_a_gradient_that_is_not_finite_leaves_the_step_out(
    make_store: MakeStore,
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = make_config(schedule=ON_DEVICE, optimizer={"flow_frozen": 1.0})
    trainer = Trainer(config, make_store(), tmp_path, CPU)
    trainer.train_step()
    before, mean = weights(trainer.network), weights(trainer.ema.module)
    moments = [
        {name: value.clone() for name, value in state.items()}
        for state in trainer.optimizer.state.values()
    ]
    batch = trainer.sampler.draw(2, 2)
    batch.target_BTCHW.fill_(math.inf)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(trainer.sampler, "draw", lambda *_: batch)
        trainer.train_step()
        trainer.settle()
    assert "1 of the last steps left out: gradient is not finite" in caplog.text
    for kept, now in ((before, trainer.network), (mean, trainer.ema.module)):
        assert all(torch.equal(a, b) for a, b in zip(kept, weights(now), strict=True))
    for old, state in zip(moments, trainer.optimizer.state.values(), strict=True):
        assert all(torch.equal(old[name], state[name]) for name in old)
    assert trainer.ema.steps == 1 and trainer.step == 2
    trainer.train_step()
    trainer.settle()
    assert trainer.ema.steps == 2
    assert not all(torch.equal(a, b) for a, b in zip(before, weights(trainer.network), strict=True))


@pytest.mark.parametrize("later", [ON_DEVICE, BY_HAND], ids=["likewise", "by hand"])
def test_a_run_goes_on_with_either_kind_of_step(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path, later: dict[str, Any]
) -> None:
    store = make_store()
    whole = train(make_config(schedule=ON_DEVICE), store, tmp_path / "whole", device=CPU)

    def stop(progress: Progress) -> None:
        if progress.step == 4:
            raise JobCancelledError("enough")

    with pytest.raises(JobCancelledError):
        config = make_config(schedule=ON_DEVICE)
        train(config, store, tmp_path / "parts", device=CPU, progress=stop)
    config = make_config(schedule=later)
    resumed = train(config, store, tmp_path / "parts", device=CPU, resume=True)
    for a, b in zip(weights(whole), weights(resumed), strict=True):
        if later is ON_DEVICE:
            assert torch.equal(a, b)
        else:
            torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)


def test_where_the_host_is_needed_it_is_said_and_asked(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(
        **STILL,
        adversarial={"weight": 0.1, "discriminator": "unet", "num_channels": 4},
        schedule=ON_DEVICE,
    )
    with caplog.at_level(logging.WARNING):
        trainer = Trainer(config, make_store(), tmp_path, CPU)
    assert trainer.device_step is None
    assert "one operation at a time: a discriminator learns by turns" in caplog.text
    assert math.isfinite(trainer.train_step().loss)


class Recorder:
    """Stands in for CUDA on a machine without: what is recorded is done when it is replayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: str | None = None) -> None:
        self.error, self.is_recording = error, False
        self.records: list[tuple[DeviceStep, Drawn]] = []
        self.replays = self.by_hand = 0
        self._body = DeviceStep._body
        recorder = self

        class Graph:
            def replay(self) -> None:
                step, drawn = recorder.records[-1]
                recorder.replays += 1
                step._optimizer.zero_grad(set_to_none=True)
                recorder._body(step, drawn)

        class Stream:
            def wait_stream(self, _: object) -> None: ...

        monkeypatch.setattr(DeviceStep, "_body", self._noted)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", self._recording)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Stream())
        monkeypatch.setattr(torch.cuda, "set_stream", lambda _: None)
        monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
        self.stream: Any = Stream()

    def _noted(self, step: DeviceStep, drawn: Drawn) -> None:
        if self.is_recording:
            self.records.append((step, drawn))
        else:
            self.by_hand += 1
            self._body(step, drawn)

    @contextmanager
    def _recording(self, _: object, **__: object) -> Iterator[None]:
        if self.error:
            raise RuntimeError(self.error)
        self.is_recording = True
        yield
        self.is_recording = False

    def watch(self, trainer: Trainer) -> None:
        step = of_step(trainer)
        step.captures, step._side = True, self.stream


def patched(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Recorder:
    recorder = Recorder(monkeypatch, **options)
    # A method, and no function that would be handed the recorder.
    monkeypatch.setattr(DeviceStep, "_body", lambda step, drawn: recorder._noted(step, drawn))
    return recorder


def test_steps_are_recorded_once_for_every_length(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = {"steps": 14, "graph": True}
    store, config = make_store(), make_config(schedule=schedule, optimizer={"flow_frozen": 1.0})
    plain = Trainer(config, store, tmp_path, CPU)
    for _ in range(14):
        plain.train_step()
    recorder = patched(monkeypatch)
    trainer = Trainer(config, store, tmp_path, CPU)
    recorder.watch(trainer)
    for _ in range(14):
        trainer.train_step()
    # Two lengths; three steps of each go before.
    assert len(recorder.records) == 2
    assert (recorder.by_hand, recorder.replays) == (6, 8)
    for a, b in zip(weights(plain.network), weights(trainer.network), strict=True):
        assert torch.equal(a, b)


def test_what_cannot_be_recorded_is_done_by_hand(
    make_store: MakeStore,
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = patched(monkeypatch, error="operation not permitted\nmuch more")
    trainer = Trainer(
        make_config(schedule={"steps": 12, "graph": True}), make_store(), tmp_path, CPU
    )
    recorder.watch(trainer)
    with caplog.at_level(logging.WARNING):
        for _ in range(12):
            trainer.train_step()
        trainer.settle()
    told = [record.message for record in caplog.records]
    assert len(told) == 1 and told[0].endswith("(operation not permitted)")
    assert not of_step(trainer).captures and math.isfinite(trainer.loss)
    assert (recorder.by_hand, recorder.replays) == (12, 0)


@pytest.mark.usefixtures("needs_cuda")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("sections", [{}, LEARNT, FLOW, STILL], ids=["", "learnt", "flow", "still"])
def test_a_recorded_step_is_the_step(
    make_store: MakeStore,
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sections: dict[str, Any],
    precision: str,
) -> None:
    store, device = make_store(), torch.device("cuda")
    replays = 0
    real = torch.cuda.CUDAGraph.replay

    def counted(graph: torch.cuda.CUDAGraph) -> None:
        nonlocal replays
        replays += 1
        real(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    losses = []
    for graph in (False, True):
        config = make_config(
            **sections, precision=precision, schedule={"steps": 24, "graph": graph}
        )
        trainer = Trainer(config, store, tmp_path, device)
        for _ in range(24):
            trainer.train_step()
        trainer.settle()
        losses.append(trainer.loss)
    assert of_step(trainer).captures and replays >= 12
    assert trainer.ema.steps == 24
    tolerance = 1e-2 if precision == "fp32" else 5e-2
    assert losses[1] == pytest.approx(losses[0], rel=tolerance)
