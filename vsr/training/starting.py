"""What a run starts from: weights, whole or in part, or a smaller network that works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vsr.errors import CheckpointError, ConfigError
from vsr.models.image.classsr import ClassSR
from vsr.models.image.srgan import MSRResNet
from vsr.models.video.flowprop import FlowProp
from vsr.training.config import TrainConfig
from vsr.training.sequences import shipped_or_file
from vsr.training.slimming import slim

TAIL = "tail."
"""Where the names of the layer begin that makes the phases of the result's pixels."""


def initialise(network: nn.Module, config: TrainConfig) -> None:
    """Load what `[init]` names.

    Raises:
        ConfigError: what is named does not fit the kind of network.
        CheckpointError: a file is missing, damaged or of another network.
    """
    flow = getattr(network, "flow", None)
    targets = (
        ("grown", network),
        ("trunk", network),
        ("branches", network),
        ("weights", network),
        ("flow", flow),
    )
    for name, target in targets:
        path = getattr(config.init, name)
        if path is None:
            continue
        if target is None:
            raise ConfigError(f"[init] {name} is set, but the network has none")
        if name == "grown" and not isinstance(target, FlowProp):
            raise ConfigError("[init] grown is for networks of the family flowprop")
        if name == "branches" and not isinstance(target, ClassSR):
            raise ConfigError("[init] branches is for networks of the family classsr")
        path = shipped_or_file(path)
        if not path.is_file():
            raise CheckpointError(
                f"[init] {name}: there is no file {path}",
                hint="a relative path starts at the working directory; train that network first",
            )
        try:
            given = {k: v.float() for k, v in load_file(path).items()}
            if name == "grown":
                grow(given, cast(FlowProp, target))
                continue
            if name == "branches":
                _narrow(given, cast(ClassSR, target))
                continue
            if name == "trunk":
                own = network.state_dict()
                given |= {key: own[key] for key in own if key.startswith(TAIL)}
            target.load_state_dict(given)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"[init] {name}: {path} cannot be read: {error}") from error
        except (CheckpointError, RuntimeError) as error:
            raise CheckpointError(
                f"[init] {name}: {path} holds another network than [model] describes: {error}"
            ) from error


def _narrow(given: Mapping[str, Tensor], network: ClassSR) -> None:
    """Begin each branch with an MSRResNet, as many of its channels as the branch is wide."""
    width = len(given["conv_first.weight"]) if "conv_first.weight" in given else 0
    for branch in network.branches:
        if not isinstance(branch, MSRResNet):
            raise ConfigError("[init] branches is for branches of the kind msrresnet")
        kept = branch.conv_first.out_channels
        branch.load_state_dict(given if kept == width else slim("msrresnet", given, width, kept))


@torch.no_grad()
def grow(small: Mapping[str, Tensor], network: FlowProp) -> None:
    """Give a network the function of a smaller one of its family.

    After Net2Net (Chen et al., 2016, arXiv 1511.05641): the larger network computes the smaller
    one's function at first, and its new channels and blocks learn what to add. What differs: new
    channels are not copies of old ones, which noise would have to tell apart; they begin at random,
    and nothing that was there before listens to them yet. What reads them starts at zero and has a
    gradient from the first step.

    It may have more channels, more residual blocks in each pass, and a cleaning stage; directions,
    rounds, scale and flow network are the same in both.

    Args:
        small: state dict of the smaller network.
        network: freshly built; changed in place.

    Raises:
        CheckpointError: the smaller one is no part of it.
    """
    large = network.state_dict()
    missing = sorted(set(small) - set(large))
    if missing:
        raise CheckpointError(f"it has a part that the larger network lacks: {missing[0]}")
    narrow, wide = small["tail.weight"].shape[1], network.num_channels
    if narrow > wide:
        raise CheckpointError(f"it has {narrow} channels, more than the {wide} to grow to")
    for name, weight in large.items():
        if name not in small:
            # A block more than the smaller one has: its second half is silent at first.
            if ".conv2." in name and not name.startswith("cleaning."):
                weight.zero_()
            continue
        old = small[name].to(weight.dtype)
        if old.shape == weight.shape:
            weight.copy_(old)
        elif old.ndim == 4:
            _embed(weight, old, narrow, wide, name)
        elif old.ndim == 1 and len(old) == narrow and len(weight) == wide:
            weight[:narrow] = old
        else:
            raise _unlike(name, old, weight)
    network.load_state_dict(large)


def _embed(weight: Tensor, old: Tensor, narrow: int, wide: int, name: str) -> None:
    """Write a convolution's weights into those of a wider one."""
    rows, before = old.shape[:2]
    # What comes with the features of `narrow` channels each, before all of them.
    fixed = before % narrow
    count = before // narrow
    if weight.shape[1] != fixed + count * wide or weight.shape[2:] != old.shape[2:]:
        raise _unlike(name, old, weight)
    weight[:rows].zero_()
    weight[:rows, :fixed] = old[:, :fixed]
    for index in range(count):
        start = fixed + index * wide
        weight[:rows, start : start + narrow] = old[:, fixed + index * narrow :][:, :narrow]


def _unlike(name: str, old: Tensor, weight: Tensor) -> CheckpointError:
    return CheckpointError(
        f"{name} has shape {tuple(old.shape)}, which cannot grow to {tuple(weight.shape)}"
    )
