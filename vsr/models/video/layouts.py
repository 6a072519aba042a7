"""Public weights of the BasicVSR family: which network a state dict is of, and its keys in ours.

The layouts of BasicSR and of MMagic (before: MMEditing) differ only in names. Such weights are
never shipped and stand in no list of models; they carry their authors' licences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from vsr.errors import CheckpointError
from vsr.models.upscaler import ModelSpec


def _basicvsr(**params: Any) -> nn.Module:
    from vsr.models.video.basicvsr import BasicVSR

    return BasicVSR(**params)


def _basicvsrpp(**params: Any) -> nn.Module:
    from vsr.models.video.basicvsrpp import BasicVSRPlusPlus

    return BasicVSRPlusPlus(**params)


def _realbasicvsr(**params: Any) -> nn.Module:
    from vsr.models.video.realbasicvsr import RealBasicVSR

    return RealBasicVSR(**params)


_COMMON: Mapping[str, Any] = {
    "scale": 4,
    "kind": "video",
    "warmup": 16,
    "causal": False,
    # Beyond it the recurrence still reaches, but little of it arrives.
    "halo_px": 64,
    # Those who name a public network want its published pictures.
    "bf16": False,
}

SPECS: Mapping[str, ModelSpec] = {
    spec.family: spec
    for spec in (
        ModelSpec(
            id="basicvsr-x4",
            family="basicvsr",
            build=_basicvsr,
            params={"num_channels": 64, "num_blocks": 30},
            weights="basicvsr-x4",
            paper="arXiv 2012.02181",
            chunk=30,
            context=10,
            **_COMMON,
        ),
        ModelSpec(
            id="basicvsrpp-x4",
            family="basicvsrpp",
            build=_basicvsrpp,
            params={"num_channels": 64, "num_blocks": 7, "num_groups": 16},
            weights="basicvsrpp-x4",
            paper="arXiv 2104.13371",
            # Five features are held for every frame of a call, so calls are shorter.
            chunk=24,
            context=8,
            **_COMMON,
        ),
        ModelSpec(
            id="realbasicvsr-x4",
            family="realbasicvsr",
            build=_realbasicvsr,
            params={"num_channels": 64, "num_blocks": 20, "num_cleaning_blocks": 20},
            weights="realbasicvsr-x4",
            paper="arXiv 2111.12704",
            chunk=30,
            context=10,
            invents_detail=True,
            # How often it cleans depends on the pictures.
            capturable=False,
            **_COMMON,
        ),
    )
}
"""Family -> spec, with the published sizes. The files say their own."""

_RENAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # MMagic's names first become BasicSR's.
        (r"^(backward|forward)_resblocks\.", r"\1_trunk."),
        (r"^upsample([12])\.upsample_conv\.", r"upconv\1."),
        # Then BasicSR's become ours.
        (r"^(upconv1|upconv2|conv_hr|conv_last)\.", r"tail.\1."),
        (r"^image_cleaning\.", "cleaning."),
        (r"\bmain\.0\.", "0."),
    )
)
_SPYNET = re.compile(r"^spynet\.basic_module\.(\d+)\.basic_module\.(\d+)\.(conv\.)?")
_BLOCK = re.compile(r"\bmain\.2\.(\d+)\.")


def recognise(tensors: Mapping[str, Tensor]) -> tuple[ModelSpec, dict[str, Tensor]] | None:
    """The network that a state dict of BasicSR or MMagic belongs to.

    Args:
        tensors: out of their file's boxes and prefixes, see `pickled`.

    Returns:
        Its spec, with the sizes read off the tensors, and the tensors under our names; None when it
        is none of these networks. Whether all are there is left to `checkpoint.load_weights`.

    Raises:
        CheckpointError: of this family, but a variant that is not supported.
    """
    family = _family(tensors)
    if family is None:
        return None
    ours: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        inner = name.removeprefix("basicvsr.") if family == "realbasicvsr" else name
        renamed = _rename(inner)
        if inner != name:
            renamed = f"basicvsr.{renamed}"
        if renamed in ours:
            raise CheckpointError(f"The weight '{name}' is in the file under two names")
        ours[renamed] = tensor
    spec = SPECS[family]
    return _sized(spec, ours), ours


def _family(names: Mapping[str, Tensor]) -> str | None:
    tops = {name.split(".", maxsplit=1)[0] for name in names}
    if "image_cleaning" in tops and "basicvsr" in tops:
        return "realbasicvsr"
    if "deform_align" in tops:
        if "feat_extract.0.weight" in names:
            raise CheckpointError(
                "The weights are of BasicVSR++ for pictures that keep their size, which is not "
                "supported, only the one that enlarges by 4",
            )
        return "basicvsrpp"
    if "fusion" in tops and ("forward_trunk" in tops or "forward_resblocks" in tops):
        if "edvr" in tops or "backward_fusion" in tops:
            raise CheckpointError(
                "The weights are of IconVSR, which is not supported",
                hint="of its family BasicVSR, BasicVSR++ and RealBasicVSR are",
            )
        return "basicvsr"
    return None


def _rename(name: str) -> str:
    found = _SPYNET.match(name)
    if found:
        level, layer = int(found[1]), int(found[2])
        # MMagic counts convolutions, BasicSR also the activations between them.
        return f"spynet.levels.{level}.{layer * 2 if found[3] else layer}.{name[found.end() :]}"
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return _BLOCK.sub(lambda block: f"{int(block[1]) + 2}.", name)


def _sized(spec: ModelSpec, ours: Mapping[str, Tensor]) -> ModelSpec:
    """The spec with what can be read off the tensors; what is missing stays as published."""
    trunks = {
        "basicvsr": {"num_blocks": "forward_trunk"},
        "realbasicvsr": {
            "num_blocks": "basicvsr.forward_trunk",
            "num_cleaning_blocks": "cleaning.0",
        },
        "basicvsrpp": {"num_blocks": "backbone.backward_1"},
    }[spec.family]
    params = dict(spec.params)
    for param, trunk in trunks.items():
        block = re.compile(rf"{re.escape(trunk)}\.(\d+)\.conv1\.weight")
        found = [int(match[1]) for match in map(block.fullmatch, ours) if match]
        params[param] = max(found, default=1) - 1
    first = ours.get(f"{trunks['num_blocks']}.0.weight")
    if first is not None and first.ndim == 4 and len(first):
        params["num_channels"] = len(first)
    offset = ours.get("deform_align.backward_1.conv_offset.6.weight")
    if offset is not None and len(offset) >= 27:
        params["num_groups"] = len(offset) // 27
    return replace(spec, params=params)
