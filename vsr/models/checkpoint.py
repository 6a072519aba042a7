"""Weight files: written as float16 safetensors, read strictly, never executed.

A file holds the tensors and, in its header, one JSON document with the id and parameters of the
model, so that it can be rebuilt from the file alone. Shipped weights are read by the model's id,
after their SHA-256 has been compared with the one on their card. Public weights of other programs
are recognised by the names of their tensors.
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

from vsr.config import WEIGHT_SUFFIXES
from vsr.errors import CheckpointError, ModelError
from vsr.models import zoo
from vsr.models.card import Card, card_path, read_card
from vsr.models.catalog import get_spec, weights_path
from vsr.models.cost import count_gmac, count_params
from vsr.models.image import layouts as image_layouts
from vsr.models.pickled import SUFFIXES, parse_pickled, unwrap_tensors
from vsr.models.quantised import pack, unpack
from vsr.models.store import added_file, store_folder
from vsr.models.upscaler import ModelSpec, Upscaler
from vsr.models.video import layouts as video_layouts

_HEADER_KEY = "vsr"
_FORMAT = 1
_PUBLIC = {spec.id: spec for spec in (*video_layouts.SPECS.values(), *image_layouts.SPECS.values())}


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
    spec: ModelSpec | None = None
    """Of a network that no catalogue lists; its `build` gives it with these weights."""


def save_checkpoint(
    path: Path,
    module: nn.Module,
    *,
    spec_id: str,
    params: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
    int8: bool = False,
) -> str:
    """Write a network's weights; equal weights give equal bytes.

    Args:
        path: to write, replaced in one step when it exists.
        module: floating-point tensors are stored as float16.
        spec_id: id of the catalogue entry whose `build` makes this network.
        params: the arguments it was built with, plain JSON values.
        extra: facts about the training run, plain JSON values.
        int8: store matrices and kernels with eight bits; see `quantised.pack`.

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
    if int8:
        tensors = pack(tensors)
    header = {"format": _FORMAT, "model": spec_id, "params": dict(params), "training": extra or {}}
    # One header entry only: safetensors does not keep the order of several.
    text = json.dumps(header, sort_keys=True)
    data = serialize_tensors(tensors, metadata={_HEADER_KEY: text})
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(data)
    partial.replace(path)
    return hashlib.sha256(data).hexdigest()


def read_checkpoint(path: Path, *, sha256: str | None = None) -> Checkpoint:
    """Read a weight file.

    Args:
        path: a file written by `save_checkpoint`, or one of PyTorch with public weights.
        sha256: what the file must hash to, hexadecimal; compared before anything is parsed.

    Raises:
        CheckpointError: missing, of another digest, damaged, of no known network, or with weights
            that are not finite.
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
    if path.suffix in SUFFIXES:
        return _read_public(path, digest, data)
    try:
        tensors = parse_tensors(data)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is truncated or not a safetensors file ({error})",
            hint="of other programs, PyTorch files named .pth, .pt or .ckpt can be read",
        ) from error
    is_ours = _HEADER_KEY in _metadata(data)
    header = _parse_header(path, data) if is_ours else {}
    if is_ours:
        tensors = unpack(tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            if not bool(tensor.isfinite().all()):
                raise CheckpointError(f"The weight '{name}' in {path} is not a finite number")
            tensors[name] = tensor.to(torch.float32)
    if not is_ours:
        return _recognise(path, digest, unwrap_tensors(tensors))
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
            `.safetensors`, `.pth`, `.pt` or `.ckpt`).
        device: where it shall run.
        dtype: of its weights: float32 or bfloat16, and float16 on a GPU.

    Returns:
        The model in evaluation mode, its weights frozen.

    Raises:
        UnknownModelError: no such id.
        CheckpointError: the weights are missing, damaged, of another digest or of another network.
    """
    file = file_of(id_or_path)
    module = _by_id(str(id_or_path)) if file is None else _from_file(file)
    module.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return cast(Upscaler, module)


def resolve_spec(id_or_path: str | Path) -> ModelSpec:
    """The spec of what `load_upscaler` would load; for a file, with that file's parameters.

    Raises:
        UnknownModelError: no such id, or the file names an unknown one.
        CheckpointError: the file cannot be read.
    """
    file = file_of(id_or_path)
    if file is None:
        return get_spec(str(id_or_path))
    spec = spec_of_checkpoint(read_checkpoint(file, sha256=_expected(file)))
    is_added = file.parent == store_folder() and not is_file_name(id_or_path)
    return replace(spec, id=file.stem, weights=file.stem) if is_added else spec


def file_of(id_or_path: str | Path) -> Path | None:
    """The weight file of the user's that a path or the id of an added model means; else None."""
    path = Path(id_or_path) if is_file_name(id_or_path) else added_file(str(id_or_path))
    return None if path is None else path.absolute()


def is_file_name(id_or_path: str | Path) -> bool:
    """Whether this means a weight file rather than an id of the catalogue."""
    return isinstance(id_or_path, Path) or id_or_path.endswith(WEIGHT_SUFFIXES)


def card_of(spec: ModelSpec) -> Card | None:
    """The card of a model's shipped weights; None when it needs none or they are not here.

    Raises:
        CheckpointError: the card is there but wrong, or the weights are there without one.
    """
    path = weights_path(spec)
    if path is None or not (path.is_file() or card_path(path).is_file()):
        return None
    return read_card(card_path(path))


def card_of_file(path: Path) -> Card | None:
    """The card of a weight file of the user's: the one beside it, or of public weights a new one.

    Nothing in public weights says what they may be used for and what they were made from, and
    neither does such a card.

    Raises:
        CheckpointError: the weights or their card cannot be read.
    """
    if card_path(path).is_file():
        return read_card(card_path(path))
    checkpoint = read_checkpoint(path)
    if checkpoint.model_id not in _PUBLIC and checkpoint.spec is None:
        return None
    return describe_checkpoint(checkpoint)


def describe_checkpoint(checkpoint: Checkpoint) -> Card:
    """A card for weights of which nothing is known but what network they are for."""
    spec = spec_of_checkpoint(checkpoint)
    module = spec.build(**spec.params)
    if checkpoint.spec is None:
        # The cost depends on sizes alone, so nothing need be computed; and a short call in the same
        # proportion costs the same a frame, to within two hundredths.
        short = replace(spec, chunk=3, context=round(3 * spec.context / spec.chunk))
        gmac = count_gmac(cast(Upscaler, module.to("meta")), short)
    else:
        gmac = zoo.count_gmac_180p(module.eval(), spec)
    return Card(
        id=spec.id,
        sha256=checkpoint.sha256,
        licence="NOASSERTION",
        degradation="unknown",
        num_params=count_params(module),
        gmac_180p=round(gmac, 1),
    )


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
    checkpoint = read_checkpoint(path, sha256=_expected(path))
    spec = spec_of_checkpoint(checkpoint)
    module = spec.build(**spec.params)
    if checkpoint.spec is None:
        load_weights(module, checkpoint)
    return module


def _expected(path: Path) -> str | None:
    """The digest on the card beside a file, if there is one."""
    card = card_path(path)
    return read_card(card).sha256 if card.is_file() else None


def spec_of_checkpoint(checkpoint: Checkpoint) -> ModelSpec:
    """The catalogue's spec with the file's own parameters, once they have proved to build."""
    if checkpoint.spec is not None:
        return checkpoint.spec
    spec = _PUBLIC.get(checkpoint.model_id) or get_spec(checkpoint.model_id)
    if dict(checkpoint.params) == dict(spec.params):
        return spec
    own = replace(spec, params=dict(checkpoint.params))
    try:
        module = own.build(**own.params)
    except ModelError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"The parameters in {checkpoint.path} do not make a {spec.family} network ({error})"
        ) from error
    # What depends on the parameters: another depth has another receptive field.
    names = ("scale", "tileable", "halo_px")
    return replace(own, **{name: getattr(module, name, getattr(own, name)) for name in names})


def _read_public(path: Path, digest: str, data: bytes) -> Checkpoint:
    """A file of PyTorch whose network is known by the names of its tensors."""
    return _recognise(path, digest, parse_pickled(path, data))


def _recognise(path: Path, digest: str, tensors: dict[str, Tensor]) -> Checkpoint:
    """By our own key maps first, then by spandrel's."""
    if not tensors:
        raise CheckpointError(f"{path} holds no weights by name, and a state dict was expected")
    found = video_layouts.recognise(tensors) or image_layouts.recognise(tensors)
    # Names alone can belong to several networks; with all their shapes they belong to one.
    is_sure = found is not None and (not zoo.is_installed() or _fits(*found))
    other = None if is_sure else zoo.recognise(path, tensors)
    if other is not None:
        return Checkpoint(
            path=path,
            sha256=digest,
            model_id=other.id,
            params={},
            training={},
            tensors=tensors,
            spec=other,
        )
    if found is None:
        raise CheckpointError(
            f"{path} holds the weights of a network that is not known here; its first is "
            f"'{next(iter(tensors))}'",
            hint=f"known are {', '.join((*video_layouts.SPECS, *image_layouts.SPECS))}",
        )
    spec, ours = found
    return Checkpoint(
        path=path,
        sha256=digest,
        model_id=spec.id,
        params=spec.params,
        training={},
        tensors=ours,
    )


def _fits(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a network takes exactly these weights."""
    wanted = spec.build(**spec.params).state_dict()
    return {name: t.shape for name, t in wanted.items()} == {n: t.shape for n, t in tensors.items()}


def _metadata(data: bytes) -> dict[str, Any]:
    """What a safetensors file says beside its tensors."""
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, Any] = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    return metadata


def _parse_header(path: Path, data: bytes) -> dict[str, Any]:
    """Our JSON document out of the safetensors header."""
    metadata = _metadata(data)
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
