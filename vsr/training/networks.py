"""The networks that a configuration can name, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from vsr.errors import ConfigError
from vsr.models import image_catalog
from vsr.models.flow import FlowNet
from vsr.models.image.stylegan import SmallGenerator
from vsr.models.video.flowprop import FlowProp
from vsr.training.config import TrainConfig
from vsr.training.features import FeatureNet


def full_params(config: TrainConfig) -> dict[str, Any]:
    """Keyword arguments of the network's class, the scale of the data included."""
    params = dict(config.model.params)
    if config.model.family not in ("flow", "features", "generator"):
        params["scale"] = config.data.scale
    return params


def build(config: TrainConfig) -> nn.Module:
    """The network of a configuration, with random weights.

    Raises:
        ConfigError: its class knows no such parameter.
    """
    classes: dict[str, Callable[..., nn.Module]] = {
        "flowprop": FlowProp,
        "flow": FlowNet,
        "features": FeatureNet,
        "generator": SmallGenerator,
    }
    make = classes.get(config.model.family) or image_catalog.builder(config.model.family)
    try:
        return make(**full_params(config))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"[model.params] do not fit {config.model.family}: {error}") from error
