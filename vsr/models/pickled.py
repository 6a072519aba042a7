"""Weight files of other programs: what `torch.save` wrote, read without running any of it."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsr.config import WEIGHT_SUFFIXES
from vsr.errors import CheckpointError

SUFFIXES = tuple(suffix for suffix in WEIGHT_SUFFIXES if suffix != ".safetensors")

# Averaged weights first: they are the ones their authors publish results of.
_BOXES = ("params_ema", "params", "state_dict")
_NETWORKS = ("generator_ema.", "generator.", "netG.")
_WRAPPERS = ("module.", "_orig_mod.")
_FOREIGN = ("discriminator.", "perceptual_loss.", "data_preprocessor.", "loss_percep.")
_COUNTERS = ("step_counter", "steps")


def parse_pickled(path: Path, data: bytes) -> dict[str, Tensor]:
    """The tensors of a PyTorch file, by their names in the network.

    Out of the boxes and prefixes that BasicSR (`params`, `params_ema`) and MMagic (`state_dict`,
    `generator.`) put around them; without counters and networks that only training uses.

    Args:
        path: for messages.
        data: the file's bytes.

    Returns:
        Floating-point tensors as float32.

    Raises:
        CheckpointError: damaged, holding more than plain data, without tensors, or with a weight
            that is not finite.
    """
    if _is_program(data):
        raise CheckpointError(
            f"{path} is a TorchScript program, and a state dict was expected",
            hint="save the network's state dict; programs are never run",
        )
    try:
        document = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than plain weights, or is damaged, and is not opened",
            hint="a file that runs code when it is read is refused; save its state dict alone",
        ) from error
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} is truncated or not a file of PyTorch",
            hint="download it again; a page saved in its place is a common cause",
        ) from error
    tensors = {
        name: tensor.to(torch.float32) if tensor.is_floating_point() else tensor
        for name, tensor in unwrap_tensors(document).items()
    }
    if not tensors:
        raise CheckpointError(f"{path} holds no weights by name, and a state dict was expected")
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"The weight '{name}' in {path} is not a finite number")
    return tensors


def _is_program(data: bytes) -> bool:
    """Whether this is an archive of TorchScript, which `torch.load` warns of before it fails."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def unwrap_tensors(document: Any) -> dict[str, Tensor]:
    """The tensors of a network out of the boxes and prefixes that other programs put around."""
    for box in _BOXES:
        if isinstance(document, Mapping) and isinstance(document.get(box), Mapping):
            document = document[box]
    if not isinstance(document, Mapping):
        return {}
    tensors = {
        name: value
        for name, value in document.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    for network in _NETWORKS:
        if any(name.startswith(network) for name in tensors):
            tensors = _under(tensors, network)
            break
    for wrapper in _WRAPPERS:
        if tensors and all(name.startswith(wrapper) or name in _COUNTERS for name in tensors):
            tensors = _under(tensors, wrapper)
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name not in _COUNTERS and not name.startswith(_FOREIGN)
    }


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
