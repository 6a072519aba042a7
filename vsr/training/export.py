"""What a finished run leaves behind: weights and the card that says how they came about."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save as serialize_tensors
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vsr.errors import OutputError
from vsr.models.card import Card, DataSource, Fact, card_path, write_card
from vsr.models.catalog import list_models
from vsr.models.checkpoint import save_checkpoint
from vsr.models.cost import count_gmac, count_params
from vsr.models.flow import FlowNet
from vsr.models.image.per_frame import PerFrame
from vsr.models.image.pulse import PULSE
from vsr.models.image.stylegan import SmallGenerator
from vsr.models.upscaler import ModelSpec, Upscaler
from vsr.training.config import TrainConfig
from vsr.training.data import FrameStore
from vsr.training.features import FeatureNet
from vsr.training.loop import Trainer
from vsr.training.networks import full_params

LICENCE_UNSTATED = "NOASSERTION"
"""SPDX's word for a licence that nobody has chosen yet: that of fresh weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The result of a run."""

    id: str
    weights: Path
    card: Path
    sha256: str
    steps: int
    minutes: float
    loss: float
    device: str
    num_params: int
    num_clips: int
    num_photos: int

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        document: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return document | {"weights": str(self.weights), "card": str(self.card)}


def export(network: nn.Module, trainer: Trainer, store: FrameStore) -> Trained:
    """Write `ID.safetensors` and `ID.toml` into the run's folder.

    Upscalers are stored as float16 with what `load_upscaler` needs to rebuild them; flow networks
    as plain float32 tensors, for `[init] flow`.

    Args:
        network: the mean weights, on any device; left on the CPU.
        trainer: the run they come from.
        store: what it was trained on.

    Raises:
        CheckpointError: a weight is not finite, or too large for float16.
        OutputError: the files cannot be written.
    """
    config = trainer.config
    network = network.to("cpu", torch.float32).eval()
    path = trainer.folder / f"{config.model.id}.safetensors"
    facts = _facts(trainer)
    try:
        if isinstance(network, FlowNet):
            sha256 = _save_plain(path, network)
            gmac, degradation = _count_flow_gmac(network), "none"
        elif isinstance(network, FeatureNet):
            sha256 = _save_plain(path, network)
            gmac, degradation = 0.0, "none"  # compares pictures in training, makes none
        else:
            spec = nearest_spec(config)
            params = full_params(config)
            if isinstance(network, SmallGenerator):
                # It is used within the search, which has to know where its latents lie.
                network = PULSE(spec.scale, generator=network)
                params = {"scale": spec.scale, "generator": config.model.params}
            extra = {"config": config.model_dump(mode="json", exclude_none=True), **facts}
            sha256 = save_checkpoint(path, network, spec_id=spec.id, params=params, extra=extra)
            gmac, degradation = _count_gmac(network, spec, config), config.data.degradation
        card = Card(
            id=config.model.id,
            sha256=sha256,
            licence=LICENCE_UNSTATED,
            degradation=degradation,
            num_params=count_params(network),
            gmac_180p=round(gmac, 4),
            trained_with=facts,
            data=tuple(DataSource(origin=who, licence=terms) for who, terms in store.sources),
        )
        write_card(card_path(path), card)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    return Trained(
        id=config.model.id,
        weights=path,
        card=card_path(path),
        sha256=sha256,
        steps=trainer.step,
        minutes=trainer.elapsed_s / 60,
        loss=trainer.loss,
        device=str(facts["device"]),
        num_params=card.num_params,
        num_clips=len(store.videos),
        num_photos=len(store.photos),
    )


def nearest_spec(config: TrainConfig) -> ModelSpec:
    """The catalogue's entry of the same id, else the one that runs in the same way.

    A network under a name of one's own borrows chunk, look-ahead and family from an entry that is
    causal or not as it is itself.
    """
    family = "pulse" if config.model.family == "generator" else config.model.family
    specs = [spec for spec in list_models() if spec.family == family]
    is_causal = full_params(config).get("direction", "both") != "both"

    def fit(spec: ModelSpec) -> tuple[bool, bool, bool]:
        same_scale = spec.scale == config.data.scale
        return spec.id == config.model.id, spec.causal == is_causal, same_scale

    return max(specs, key=fit)


def _facts(trainer: Trainer) -> dict[str, Fact]:
    """Free facts about a run, for card and file alike."""
    is_cuda = trainer.device.type == "cuda"
    capability = torch.backends.cpu.get_cpu_capability()
    config = trainer.config
    return {
        "configuration": config.model.id,
        "device": torch.cuda.get_device_name(trainer.device) if is_cuda else f"CPU {capability}",
        "minutes": round(trainer.elapsed_s / 60, 1),
        "steps": trainer.step,
        "batch": config.data.batch,
        "precision": config.precision,
        "seed": config.seed,
        "torch": str(torch.__version__),
    }


def _save_plain(path: Path, network: nn.Module) -> str:
    data = serialize_tensors({k: v.contiguous() for k, v in network.state_dict().items()})
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(data)
    partial.replace(path)
    return hashlib.sha256(data).hexdigest()


def _count_gmac(network: nn.Module, spec: ModelSpec, config: TrainConfig) -> float:
    if full_params(config).get("direction") == "none":
        # Looking ahead would be counted, and is never needed.
        spec = replace(spec, chunk=1, context=0)
    if isinstance(network, PULSE):
        return _count_search_gmac(network)
    if isinstance(network, PerFrame):
        # Costs nothing there, and of a network that routes patches gives the most it can cost.
        network = deepcopy(network).to("meta")
    return count_gmac(cast(Upscaler, network), spec)


def _count_search_gmac(search: PULSE) -> float:
    """10^9 multiply-adds for one picture, whatever its source: of each step there and back."""
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        search = PULSE(search.scale, generator=search.generator, num_steps=1)
        counted = counter.get_total_flops()
        search.search(torch.zeros(3, search.source_px, search.source_px))
    return 100 * float(counter.get_total_flops() - counted) / 2 / 1e9


def _count_flow_gmac(network: FlowNet, height: int = 180, width: int = 320) -> float:
    """10^9 multiply-adds per pair of frames."""
    frame = torch.zeros(1, 3, height, width)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(frame, frame)
    # The counter knows two floating-point operations in each multiply-add.
    return float(counter.get_total_flops()) / 2 / 1e9
