"""Every packaged configuration of a per-frame network trains, in its own code path."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save_file

from vsr.config import config_folder
from vsr.models.card import read_card
from vsr.models.checkpoint import load_upscaler, resolve_spec
from vsr.models.image_catalog import NETWORKS, SPECS
from vsr.training import degrade
from vsr.training.config import LossSection, ModelSection, TrainConfig, load_train_config
from vsr.training.data import Batch, FrameStore
from vsr.training.export import export
from vsr.training.features import FeatureNet, load_features
from vsr.training.loop import Trainer
from vsr.training.networks import full_params

MakeStore = Callable[..., FrameStore]

CPU = torch.device("cpu")
PATHS = sorted(config_folder("train").glob("*.toml"))
CONFIGS = [config for config in map(load_train_config, PATHS) if config.model.family in NETWORKS]
FEATURES = load_train_config(config_folder("train") / "features.toml")
NAMES = [config.model.id for config in CONFIGS]


def smaller(config: TrainConfig, folder: Path) -> TrainConfig:
    """The same run with small crops, few of them, for twenty steps and from fresh weights."""
    document: dict[str, Any] = config.model_dump(exclude_none=True)
    if config.model.family == "classsr":  # its patches have one size
        document["data"]["batch"] = 3
    else:
        document["data"] |= {"crop_px": 16, "batch": 1}
    if config.model.params.get("num_blocks", 0) > 2:
        document["model"]["params"]["num_blocks"] = 2
    document["init"] = {}
    if config.loss.feature_weights is not None:
        torch.manual_seed(0)
        save_file(FeatureNet().state_dict(), folder / "features.safetensors")
        document["loss"]["feature_weights"] = str(folder / "features.safetensors")
    # The classifier's turn comes later, and its loss is another one.
    document["schedule"] = {"steps": 40 if config.model.family == "classsr" else 20}
    lr = max(5e-4, config.optimizer.lr)  # what goes on from trained weights goes slowly
    document["optimizer"] |= {"warmup": 0.0, "lr": lr}
    return TrainConfig.model_validate(document)


def waves(batch: int, scale: int, crop_px: int) -> Batch:
    """Stripes that interpolation blurs and that are still there to be restored."""
    generator = torch.Generator().manual_seed(4)
    side = scale * crop_px
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    target = torch.zeros(batch, 1, 3, side, side)
    for sample in range(batch):
        for _ in range(4):
            angle, period, phase = torch.rand(3, generator=generator).tolist()
            along = x * math.cos(math.pi * angle) + y * math.sin(math.pi * angle)
            wave = torch.sin(2 * math.pi * (along / (scale * (2.6 + period)) + phase))
            target[sample, 0] += 30 * wave * (0.5 + torch.rand(3, 1, 1, generator=generator))
    target = (128 + target).round().clamp(0, 255)
    return Batch(degrade.bicubic(target, scale) / 255, target / 255)


def curve(trainer: Trainer, num_steps: int) -> list[float]:
    """Loss of each step on one fixed batch, not smoothed."""
    data = trainer.config.data
    batch = waves(data.batch, data.scale, data.crop_px)
    trainer.sampler.draw = lambda *_: batch  # type: ignore[method-assign]
    losses = []
    for _ in range(num_steps):
        trainer.loss = math.nan
        losses.append(trainer.train_step().loss)
    return losses


@pytest.mark.parametrize("config", [*CONFIGS, FEATURES], ids=[*NAMES, "features"])
def test_twenty_steps_lower_the_loss(
    make_store: MakeStore, config: TrainConfig, tmp_path: Path
) -> None:
    store, small = make_store(((1, 160, 160),)), smaller(config, tmp_path)
    losses = curve(Trainer(small, store, tmp_path, CPU), 20)
    assert losses[-1] <= 0.8 * losses[0]
    assert curve(Trainer(small, store, tmp_path, CPU), 2) == losses[:2]


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_a_configuration_makes_the_catalogues_network(config: TrainConfig) -> None:
    spec = {spec.id: spec for spec in SPECS}[config.model.id]
    assert spec.family == config.model.family and spec.scale == config.data.scale
    networks = [spec.build(**params) for params in (spec.params, full_params(config))]
    one, other = ({k: v.shape for k, v in net.state_dict().items()} for net in networks)
    assert one == other


def test_each_network_of_the_catalogue_can_be_trained() -> None:
    assert {spec.id for spec in SPECS} == set(NAMES)
    families = get_args(ModelSection.model_fields["family"].annotation)
    assert set(families) == {"flowprop", "flow", "features", "generator", *NETWORKS}


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
@torch.no_grad()
def test_a_run_leaves_weights_that_can_be_used(
    make_store: MakeStore, config: TrainConfig, tmp_path: Path
) -> None:
    store = make_store(((1, 160, 160),))
    trainer = Trainer(smaller(config, tmp_path), store, tmp_path, CPU)
    network: Any = trainer.ema.module
    result = export(network, trainer, store)
    assert result.weights.name == f"{config.model.id}.safetensors"
    upscaler: Any = load_upscaler(result.weights)
    spec = resolve_spec(result.weights)
    assert spec.id == config.model.id and spec.scale == upscaler.scale == config.data.scale
    picture = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(1))
    difference = (upscaler.enlarge(picture) - network.eval().enlarge(picture)).abs()
    assert float(difference.max()) < 0.02  # stored as float16
    card = read_card(result.card)
    assert card.gmac_180p > 0 and card.num_params == result.num_params


def test_the_feature_network_is_left_as_plain_tensors(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store = make_store()
    trainer = Trainer(smaller(FEATURES, tmp_path), store, tmp_path, CPU)
    result = export(trainer.ema.module, trainer, store)
    again = load_features(LossSection(content=1.0, feature_weights=str(result.weights)))
    pairs = zip(again.parameters(), trainer.ema.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
