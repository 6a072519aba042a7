"""A generator and its discriminator: both learn, a run resumes, and what it leaves is PULSE's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import MakeConfig, MakeStore
from vsr.errors import ConfigError
from vsr.models.catalog import GENERATOR, get_spec
from vsr.models.checkpoint import load_upscaler
from vsr.models.image.pulse import PULSE
from vsr.training.config import TrainConfig, find_train_config, load_train_config
from vsr.training.discriminators import ResidualDiscriminator
from vsr.training.export import export
from vsr.training.generative import GenerativeObjective
from vsr.training.loop import Trainer, run

CPU = torch.device("cpu")


def generator_config(make_config: MakeConfig, **sections: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "model": {
            "id": "pulse-x4",
            "family": "generator",
            "params": {"latent_dim": 8, "mapping_layers": 2, "channels": [8, 8, 8]},
        },
        "data": {"scale": 2, "crop_px": 16, "num_frames": [1], "batch": 4},
        "adversarial": {"weight": 1.0, "kind": "vanilla", "discriminator": "residual", "lr": 2e-3},
        "optimizer": {"lr": 2e-3, "clip_norm": 100.0},
        "schedule": {"steps": 3},
    }
    return make_config(**{**base, **sections})


def test_both_learn(make_store: MakeStore, make_config: MakeConfig, tmp_path: Path) -> None:
    trainer = Trainer(generator_config(make_config), make_store(), tmp_path, CPU)
    objective = trainer.objective
    assert isinstance(objective, GenerativeObjective)
    players = (trainer.network, objective.network)
    before = [[p.detach().clone() for p in player.parameters()] for player in players]
    trainer.train_step()
    for player, old in zip(players, before, strict=True):
        pairs = zip(player.parameters(), old, strict=True)
        assert any(not torch.equal(new, was) for new, was in pairs)


def test_the_discriminator_comes_to_tell_noise_from_pictures(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    section = {"weight": 1.0, "discriminator": "residual", "lr": 5e-3, "r1": 0.1}
    config = generator_config(make_config, adversarial=section)
    trainer = Trainer(config, make_store(), tmp_path, CPU)
    objective = trainer.objective
    assert isinstance(objective, GenerativeObjective)
    true = trainer.sampler.draw(8, 1).source_BTCHW[:, 0]
    fresh = torch.rand_like(true)
    for _ in range(40):
        objective._pair = fresh * 2 - 1, true * 2 - 1
        objective.after_step()
    with torch.no_grad():
        told = objective.network(true * 2 - 1).mean() - objective.network(fresh * 2 - 1).mean()
    assert float(told) > 0.5


def test_resumed_is_as_if_never_stopped(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    store, config = make_store(), generator_config(make_config, schedule={"steps": 4})
    whole = run(Trainer(config, store, tmp_path / "whole", CPU))
    first = Trainer(config, store, tmp_path / "parts", CPU)
    for _ in range(2):
        first.train_step()
    first.save()
    second = Trainer(config, store, tmp_path / "parts", CPU)
    second.resume()
    parts = run(second)
    for one, two in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, two)


def test_what_it_leaves_is_searched_in(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    store = make_store()
    trainer = Trainer(generator_config(make_config), store, tmp_path, CPU)
    result = export(run(trainer), trainer, store)
    model = load_upscaler(result.weights)
    assert isinstance(model, PULSE)
    assert (model.scale, model.source_px) == (4, 4)
    assert float(model.latent_deviation.min()) > 0 and float(model.latent_mean.abs().max()) > 0
    model.num_steps = 2
    assert model.search(torch.full((3, 4, 4), 0.4)).picture_3HW.shape == (3, 16, 16)


def test_crops_must_be_of_the_generators_size(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = generator_config(make_config, data={"crop_px": 24, "num_frames": [1]})
    with pytest.raises(ConfigError, match="crop_px"):
        Trainer(config, make_store(), tmp_path, CPU).train_step()
    with pytest.raises(ConfigError, match="residual"):
        Trainer(
            generator_config(make_config, adversarial={"weight": 1.0}),
            make_store(folder="other"), tmp_path, CPU,
        )  # fmt: skip


def test_the_packaged_configuration_is_the_catalogues() -> None:
    config = load_train_config(find_train_config("generator"))
    assert config.model.params == GENERATOR == get_spec("pulse-x4").params["generator"]
    assert config.model.id == get_spec("pulse-x4").weights
    network = ResidualDiscriminator(config.model.params["channels"])
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 1)
