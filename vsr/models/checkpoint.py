"""Weight files: written as float16 safetensors, read strictly, never executed.

A file holds the tensors and, in its header, one JSON document with the id and parameters of the
model, so that it can be rebuilt from the file alone. Shipped weights are read by the model's id,
after their SHA-256 has been compared with the one on their card.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as serialize_tensors
from torch import Tensor, nn

from vsr.errors import CheckpointError, ModelError
from vsr.models.card import Card, card_path, read_card
from vsr.models.catalog import get_spec, weights_path
from vsr.models.upscaler import ModelSpec, Upscaler

_HEADER_KEY = "vsr"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A weight file, read but not yet in a network."""

    path: Path
    sha256: str
    model_id: str
    """Id of the catalogue entry whose network this is."""
    params: Mapping[str, Any]
    """Arguments of that entry's `build`."""
    training: Mapping[str, Any]
    """Facts about the training run, as `save_checkpoint` was given them."""
    tensors: Mapping[str, Tensor]
    """float32 where they were stored as float16."""


def save_checkpoint(
    path: Path,
    module: nn.Module,
    *,
    spec_id: str,
    params: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> str:
    """Write a network's weights; equal weights give equal bytes.

    Args:
        path: to write, replaced in one step when it exists.
        module: floating-point tensors are stored as float16.
        spec_id: id of the catalogue entry whose `build` makes this network.
        params: the arguments it was built with, plain JSON values.
        extra: facts about the training run, plain JSON values.

    Returns:
        SHA-256 of the file, hexadecimal, for its card.

    Raises:
        CheckpointError: a weight is not finite, or too large for float16.
    """
    tensors = {}
    for name, tensor in module.state_dict().items():
        stored = tensor.detach().to("cpu")
        if stored.is_floating_point():
            stored = stored.to(torch.float16)
            if not bool(stored.isfinite().all()):
                raise CheckpointError(f"The weight '{name}' is not finite in float16")
        tensors[name] = stored.contiguous()
    header = {"format": _FORMAT, "model": spec_id, "params": dict(params), "training": extra or {}}
    # One header entry only: safetensors does not keep the order of several.
    text = json.dumps(header, sort_keys=True)
    data = serialize_tensors(tensors, metadata={_HEADER_KEY: text})
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(data)
    partial.replace(path)
    return hashlib.sha256(data).hexdigest()


def read_checkpoint(path: Path, *, sha256: str | None = None) -> Checkpoint:
    """Read a weight file of ours.

    Args:
        path: a file written by `save_checkpoint`.
        sha256: what the file must hash to, hexadecimal; compared before anything is parsed.

    Raises:
        CheckpointError: missing, of another digest, damaged, not ours, or with weights that are
            not finite.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"The weights {path} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise CheckpointError(
            f"The weights {path} have the SHA-256 {digest[:12]}..., their card says "
            f"{sha256[:12]}...",
            hint="the file is damaged or not the one the card describes; install it again",
        )
    try:
        tensors = parse_tensors(data)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is truncated or not a safetensors file ({error})",
            hint="only safetensors files written by this program can be read",
        ) from error
    header = _parse_header(path, data)
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            if not bool(tensor.isfinite().all()):
                raise CheckpointError(f"The weight '{name}' in {path} is not a finite number")
            tensors[name] = tensor.to(torch.float32)
    return Checkpoint(
        path=path,
        sha256=digest,
        model_id=header["model"],
        params=header["params"],
        training=header["training"],
        tensors=tensors,
    )


def load_weights(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint's tensors into a network, all of them and nothing else.

    Raises:
        CheckpointError: a tensor is missing, unexpected or of another shape.
    """
    wanted = module.state_dict()
    given = checkpoint.tensors
    faults = {
        "lack": [name for name in wanted if name not in given],
        "hold the unexpected": [name for name in given if name not in wanted],
        "hold the wrongly shaped": [
            f"{name} {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
            for name in wanted
            if name in given and given[name].shape != wanted[name].shape
        ],
    }
    for verb, names in faults.items():
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(
                f"The weights {checkpoint.path} {verb} {names[0]}{more}",
                hint=f"they are not those of {checkpoint.model_id} as built here",
            )
    module.load_state_dict(dict(given), strict=True)


def load_upscaler(
    id_or_path: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Upscaler:
    """Build a model, load its weights strictly, and make it ready to run.

    Args:
        id_or_path: an id of the catalogue, or a weight file (a `Path`, or a name that ends in
            `.safetensors`).
        device: where it shall run.
        dtype: of its weights: float32 or bfloat16, and float16 on a GPU.

    Returns:
        The model in evaluation mode, its weights frozen.

    Raises:
        UnknownModelError: no such id.
        CheckpointError: the weights are missing, damaged, of another digest or of another network.
    """
    module = _from_file(Path(id_or_path)) if is_file_name(id_or_path) else _by_id(str(id_or_path))
    module.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return cast(Upscaler, module)


def resolve_spec(id_or_path: str | Path) -> ModelSpec:
    """The spec of what `load_upscaler` would load; for a file, with that file's parameters.

    Raises:
        UnknownModelError: no such id, or the file names an unknown one.
        CheckpointError: the file cannot be read.
    """
    if not is_file_name(id_or_path):
        return get_spec(str(id_or_path))
    checkpoint = read_checkpoint(Path(id_or_path))
    return _spec_of_file(checkpoint)


def is_file_name(id_or_path: str | Path) -> bool:
    """Whether this means a weight file rather than an id of the catalogue."""
    return isinstance(id_or_path, Path) or id_or_path.endswith(".safetensors")


def card_of(spec: ModelSpec) -> Card | None:
    """The card of a model's shipped weights; None when it needs none or they are not here.

    Raises:
        CheckpointError: the card is there but wrong, or the weights are there without one.
    """
    path = weights_path(spec)
    if path is None or not (path.is_file() or card_path(path).is_file()):
        return None
    return read_card(card_path(path))


def _by_id(model_id: str) -> nn.Module:
    spec = get_spec(model_id)
    path = weights_path(spec)
    if path is None:
        return spec.build(**spec.params)
    if not path.is_file():
        raise CheckpointError(
            f"The weights of {spec.id} are not installed: there is no {path.name} in {path.parent}",
            hint="train them with `vsr train`, or name another model",
        )
    card = read_card(card_path(path))
    checkpoint = read_checkpoint(path, sha256=card.sha256)
    if checkpoint.model_id != card.id:
        raise CheckpointError(f"The weights {path} are of {checkpoint.model_id}, not of {card.id}")
    module = spec.build(**spec.params)
    load_weights(module, checkpoint)
    return module


def _from_file(path: Path) -> nn.Module:
    card = card_path(path)
    checkpoint = read_checkpoint(path, sha256=read_card(card).sha256 if card.is_file() else None)
    spec = _spec_of_file(checkpoint)
    module = spec.build(**spec.params)
    load_weights(module, checkpoint)
    return module


def _spec_of_file(checkpoint: Checkpoint) -> ModelSpec:
    """The catalogue's spec with the file's own parameters, once they have proved to build."""
    spec = get_spec(checkpoint.model_id)
    if dict(checkpoint.params) == dict(spec.params):
        return spec
    own = replace(spec, params=dict(checkpoint.params))
    try:
        own.build(**own.params)
    except ModelError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"The parameters in {checkpoint.path} do not make a {spec.family} network ({error})"
        ) from error
    return own


def _parse_header(path: Path, data: bytes) -> dict[str, Any]:
    """Our JSON document out of the safetensors header."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    try:
        header = json.loads(metadata[_HEADER_KEY])
        known = (
            header["format"] == _FORMAT
            and isinstance(header["model"], str)
            and isinstance(header["params"], dict)
            and isinstance(header["training"], dict)
        )
    except (KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise CheckpointError(
            f"{path} does not say which model it belongs to",
            hint="only weight files written by this program, of this version, can be read",
        )
    return cast(dict[str, Any], header)
