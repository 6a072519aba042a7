from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vsr.config import config_folder
from vsr.errors import CheckpointError, ConfigError, JobCancelledError
from vsr.models.catalog import get_spec
from vsr.models.flow import FlowNet
from vsr.training.config import TrainConfig, find_train_config, load_train_config, override
from vsr.training.data import FrameStore
from vsr.training.loop import CHECKPOINT, Progress, Trainer, train
from vsr.training.networks import build, full_params
from vsr.training.step import Ema

MakeStore = Callable[..., FrameStore]
MakeConfig = Callable[..., TrainConfig]

CPU = torch.device("cpu")
FLOW = {"model": {"id": "tiny-flow", "family": "flow", "params": {"num_channels": 4}}}


def curve(trainer: Trainer, num_steps: int) -> list[float]:
    """Loss of each step, not smoothed."""
    losses = []
    for _ in range(num_steps):
        kept, trainer.loss = trainer.loss, math.nan
        losses.append(trainer.train_step().loss)
        trainer.loss = kept
    return losses


def weights(network: nn.Module) -> list[Tensor]:
    return [value.clone() for value in network.state_dict().values()]


def equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_training_lowers_the_loss(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(optimizer={"lr": 5e-3}, schedule={"steps": 20})
    trainer = Trainer(config, make_store(), tmp_path, CPU)
    batch = trainer.sampler.draw(2, 3)
    monkeypatch.setattr(trainer.sampler, "draw", lambda *_: batch)
    losses = curve(trainer, 20)
    assert losses[-1] <= 0.8 * losses[0]
    assert trainer.fraction == 1.0


def test_flow_training_lowers_the_loss(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(**FLOW, optimizer={"lr": 5e-3}, schedule={"steps": 20}, data={"scale": 1})
    trainer = Trainer(config, make_store(), tmp_path, CPU)
    batch, pairs = trainer.sampler.draw(1, 2), trainer.sampler.draw_flow(2)
    monkeypatch.setattr(trainer.sampler, "draw", lambda *_: batch)
    monkeypatch.setattr(trainer.sampler, "draw_flow", lambda _: pairs)
    losses = curve(trainer, 20)
    assert losses[-1] <= 0.8 * losses[0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["flowprop", "flow"])
def test_equal_seeds_give_equal_curves(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path, family: str, precision: str
) -> None:
    sections: dict[str, Any] = FLOW if family == "flow" else {}
    store = make_store()
    config = make_config(**sections, precision=precision)
    one, two = (curve(Trainer(config, store, tmp_path, CPU), 4) for _ in range(2))
    assert one == two
    assert all(map(math.isfinite, one))
    other = curve(Trainer(override(config, seed=2), store, tmp_path, CPU), 4)
    assert one != other


RESIDENT = {"data": {"resident": True}}


@pytest.mark.parametrize(
    "sections",
    [{}, {"precision": "bf16"}, FLOW, RESIDENT, FLOW | RESIDENT],
    ids=["", "bf16", "flow", "resident", "resident-flow"],
)
def test_a_resumed_run_is_the_run_that_never_stopped(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path, sections: dict[str, Any]
) -> None:
    store, config = make_store(), make_config(**sections)
    whole = train(config, store, tmp_path / "whole", device=CPU)

    def stop(progress: Progress) -> None:
        if progress.step == 4:  # in the second part of the schedule, with more frames
            raise JobCancelledError("enough")

    with pytest.raises(JobCancelledError):
        train(config, store, tmp_path / "parts", device=CPU, progress=stop)
    torch.rand(7)  # what else the process draws must not matter
    steps: list[int] = []
    resumed = train(
        config,
        store,
        tmp_path / "parts",
        device=CPU,
        resume=True,
        progress=lambda progress: steps.append(progress.step),
    )
    assert steps == [5, 6]
    assert equal(weights(whole), weights(resumed))
    last = [
        torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("whole", "parts")
    ]
    assert last[0]["loss"] == last[1]["loss"]
    assert equal(list(last[0]["network"].values()), list(last[1]["network"].values()))
    assert not list((tmp_path / "parts").glob("*.part"))


def test_a_finished_run_resumes_to_its_result(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    store, config = make_store(), make_config(schedule={"steps": 2})
    done = train(config, store, tmp_path, device=CPU)
    again = train(config, store, tmp_path, device=CPU, resume=True)
    assert equal(weights(done), weights(again))


def test_what_cannot_be_resumed_is_refused(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    store, config = make_store(), make_config()
    trainer = Trainer(config, store, tmp_path, CPU)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        trainer.resume()
    trainer.save()
    params = {**config.model.params, "num_channels": 4}
    other = make_config(model={"params": params})
    with pytest.raises(CheckpointError, match="another network"):
        Trainer(other, store, tmp_path, CPU).resume()
    with pytest.raises(CheckpointError, match="another kind of device"):
        Trainer(make_config(**RESIDENT), store, tmp_path, CPU).resume()
    checkpoint = tmp_path / CHECKPOINT
    for content in (checkpoint.read_bytes()[:500], b"", b"no archive at all"):
        checkpoint.write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged or not ours"):
            trainer.resume()
    torch.save({"weights": 1}, checkpoint)
    with pytest.raises(CheckpointError, match="damaged or not ours"):
        trainer.resume()


def test_the_mean_starts_with_the_first_steps() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    ema = Ema(module, decay=0.5)
    expected = 0.0
    for step in range(1, 40):
        nn.init.constant_(module.weight, float(step))
        ema.update(module)
        decay = min(0.5, step / (step + 9))
        expected = decay * expected + (1 - decay) * step
        assert float(weights(ema.module)[0]) == pytest.approx(expected, rel=1e-5)
    assert not any(parameter.requires_grad for parameter in ema.module.parameters())


def test_the_mean_is_what_training_returns(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    mean = train(make_config(optimizer={"lr": 1e-2}), make_store(), tmp_path, device=CPU)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert equal(weights(mean), list(state["ema"].values()))
    assert not equal(weights(mean), list(state["network"].values()))
    assert state["ema_steps"] == 6


def test_the_flow_waits_and_then_learns(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    for ratio in (0.25, 1.0):
        config = make_config(optimizer={"flow_frozen": 0.5, "flow_lr_ratio": ratio, "lr": 1e-2})
        store = make_store(folder=f"store-{ratio}")
        trainer = Trainer(config, store, tmp_path, CPU)
        flow = trainer.network.get_submodule("flow")
        before, trunk = weights(flow), weights(trainer.network.get_submodule("tail"))
        curve(trainer, 3)
        assert equal(before, weights(flow))
        assert not equal(trunk, weights(trainer.network.get_submodule("tail")))
        curve(trainer, 1)
        assert not equal(before, weights(flow))


def test_the_schedule_ends_in_small_steps_and_long_clips(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(schedule={"steps": 6}, optimizer={"lr": 1e-2, "warmup": 0.2})
    trainer = Trainer(config, make_store(), tmp_path, CPU)
    rates, lengths, fractions = [], [], []
    while trainer.fraction < 1:
        lengths.append(trainer._num_frames())
        progress = trainer.train_step()
        rates.append(progress.lr)
        fractions.append(progress.fraction)
    assert lengths == [2, 2, 2, 3, 3, 3]
    assert fractions == pytest.approx([(n + 1) / 6 for n in range(6)])
    assert rates[0] == pytest.approx(1e-2 * 1e-3 / 0.2 + 1e-7)
    assert rates[3] == pytest.approx(0.5e-2 + 1e-7)
    assert rates[5] == pytest.approx(1e-2 * (0.5 + 0.5 * math.cos(math.pi * 5 / 6)) + 1e-7)


def test_time_ends_a_run(make_store: MakeStore, make_config: MakeConfig, tmp_path: Path) -> None:
    config = override(make_config(), minutes=1e-5)
    assert config.schedule.steps is None
    seen: list[Progress] = []
    train(config, make_store(), tmp_path, device=CPU, progress=seen.append)
    assert seen[-1].fraction == 1.0
    assert seen[-1].elapsed_s >= 6e-4
    assert all(progress.fraction < 1 for progress in seen[:-1])
    assert seen[-1].source_px_per_s > 0


def test_a_gradient_that_is_not_finite_leaves_the_step_out(
    make_store: MakeStore,
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trainer = Trainer(make_config(), make_store(), tmp_path, CPU)
    before = weights(trainer.network)
    batch = trainer.sampler.draw(2, 2)
    batch.target_BTCHW.fill_(math.inf)
    monkeypatch.setattr(trainer.sampler, "draw", lambda *_: batch)
    with caplog.at_level(logging.WARNING):
        trainer.train_step()
    assert "step 0: gradient is not finite" in caplog.text
    assert equal(before, weights(trainer.network))
    assert trainer.ema.steps == 0 and trainer.step == 1


def test_init_starts_from_given_weights(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    torch.manual_seed(99)
    flow = FlowNet(4, 2)
    save_file({k: v.contiguous() for k, v in flow.state_dict().items()}, tmp_path / "f.safetensors")
    whole = build(make_config())
    save_file({k: v.half() for k, v in whole.state_dict().items()}, tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)  # relative paths start there
    trainer = Trainer(make_config(init={"flow": "f.safetensors"}), store, tmp_path, CPU)
    assert equal(weights(trainer.network.get_submodule("flow")), weights(flow))
    trainer = Trainer(make_config(init={"weights": "w.safetensors"}), store, tmp_path, CPU)
    assert equal(weights(trainer.network), [value.half().float() for value in weights(whole)])


def test_a_smaller_network_is_grown(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    store, params = make_store(), make_config().model.params
    small = build(make_config())
    path = tmp_path / "small.safetensors"
    save_file({k: v.contiguous() for k, v in small.state_dict().items()}, path)
    wider = {"params": {**params, "num_channels": 2 * params["num_channels"]}}
    config = make_config(model=wider, init={"grown": str(path)})
    grown = Trainer(config, store, tmp_path, CPU).network.state_dict()
    count = params["num_channels"]
    assert torch.equal(grown["tail.weight"][:, :count], small.state_dict()["tail.weight"])
    assert not grown["tail.weight"][:, count:].any()
    with pytest.raises(ConfigError, match="family flowprop"):
        Trainer(make_config(**FLOW, init={"grown": str(path)}), store, tmp_path, CPU)
    narrower = {"params": {**params, "num_channels": count // 2}}
    with pytest.raises(CheckpointError, match="to grow to"):
        Trainer(make_config(model=narrower, init={"grown": str(path)}), store, tmp_path, CPU)


def test_a_trunk_serves_another_scale(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    torch.manual_seed(98)
    known = build(make_config())
    path = tmp_path / "x2.safetensors"
    save_file({k: v.contiguous() for k, v in known.state_dict().items()}, path)
    config = make_config(data={"scale": 3}, init={"trunk": str(path)})
    found = Trainer(config, make_store(), tmp_path, CPU).network.state_dict()
    assert found["tail.weight"].shape[0] == 3 * 3**2
    for name, value in known.state_dict().items():
        assert name.startswith("tail.") or torch.equal(found[name], value)


def test_init_that_does_not_fit_is_refused(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    store = make_store()
    wide, damaged = tmp_path / "wide.safetensors", tmp_path / "damaged.safetensors"
    save_file({k: v.contiguous() for k, v in FlowNet(8, 2).state_dict().items()}, wide)
    damaged.write_bytes(wide.read_bytes()[:100])
    for path, match in (
        (tmp_path / "none.safetensors", "there is no file .*none.safetensors"),
        (tmp_path, "there is no file"),
        (damaged, "cannot be read"),
        (wide, "another network"),
    ):
        with pytest.raises(CheckpointError, match=match):
            Trainer(make_config(init={"flow": str(path)}), store, tmp_path, CPU)
    with pytest.raises(ConfigError, match="the network has none"):
        Trainer(make_config(**FLOW, init={"flow": str(wide)}), store, tmp_path, CPU)


def test_unknown_network_parameters_are_refused(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"\[model.params\] do not fit flowprop"):
        build(make_config(model={"params": {"num_chanels": 3}}))


@pytest.mark.parametrize(
    "name",
    sorted(
        path.stem
        for path in config_folder("train").glob("fl*.toml")
        if path.stem not in ("flowprop-s-refit", "flowprop-s-still")  # means, not ends
    ),
)
def test_packaged_configurations_build(name: str) -> None:
    config = load_train_config(find_train_config(name))
    assert config.model.id == name
    if config.model.family == "flowprop":
        spec = get_spec(name)
        assert full_params(config) == {**spec.params, "scale": spec.scale}
    assert sum(parameter.numel() for parameter in build(config).parameters()) > 10_000


def test_names_and_keys_that_are_wrong_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'flow-16'"):
        find_train_config("flow-61")
    path = tmp_path / "c.toml"
    with pytest.raises(ConfigError, match="cannot read"):
        load_train_config(find_train_config(str(path)))
    path.write_text('[model]\nid = "a"\nfamily = "flow"\n[data]\ncrop = 4\n')
    with pytest.raises(ConfigError, match=r"data\.crop"):
        load_train_config(path)
