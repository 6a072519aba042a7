"""The list of models. To add one, add a line to `SPECS`, or to those of `image_catalog`.

Reading the list builds nothing and opens no weights; each `build` imports its network when called.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from vsr.errors import ConfigError, UnknownModelError
from vsr.models import image_catalog
from vsr.models.upscaler import ModelSpec

WEIGHTS_FOLDER = Path(__file__).resolve().parent.parent / "weights"
"""Where shipped weights lie: STEM.safetensors and its card STEM.toml."""


def _interpolation(**params: Any) -> nn.Module:
    from vsr.models.image.interpolation import Interpolation

    return Interpolation(**params)


def _flowprop(**params: Any) -> nn.Module:
    from vsr.models.video.flowprop import FlowProp

    return FlowProp(**params)


def _reconstruction(**params: Any) -> nn.Module:
    from vsr.models.video.reconstruction import Reconstruction

    return Reconstruction(**params)


def _reconstruction_spec(scale: int) -> ModelSpec:
    return ModelSpec(
        id=f"reconstruction-x{scale}",
        family="reconstruction",
        scale=scale,
        kind="video",
        build=_reconstruction,
        params={"scale": scale},
        paper="Irani and Peleg, 1991; Farsiu et al., 2004",
        chunk=8,
        context=2,
        warmup=2,
        halo_px=32,
        bf16=False,
        min_size=4,
    )


def _zssr(**params: Any) -> nn.Module:
    from vsr.models.image.zssr import ZSSR

    return ZSSR(**params)


def _zssr_spec(scale: int) -> ModelSpec:
    return ModelSpec(
        id=f"zssr-x{scale}",
        family="zssr",
        scale=scale,
        kind="image",
        build=_zssr,
        params={"scale": scale},
        paper="arXiv 1712.06087",
        tileable=False,
        capturable=False,
        bf16=False,
        stills_only=True,
    )


def _pulse(**params: Any) -> nn.Module:
    from vsr.models.image.pulse import PULSE

    return PULSE(**params)


GENERATOR = {"latent_dim": 128, "mapping_layers": 4, "channels": [128, 128, 128, 64, 32]}
"""Of `pulse`: pictures of 64x64."""


def _pulse_spec(scale: int) -> ModelSpec:
    return ModelSpec(
        id=f"pulse-x{scale}",
        family="pulse",
        scale=scale,
        kind="image",
        build=_pulse,
        params={"scale": scale, "generator": GENERATOR},
        weights="pulse-x4",
        paper="arXiv 2003.03808",
        tileable=False,
        capturable=False,
        bf16=False,
        invents_detail=True,
        stills_only=True,
        draws=True,
    )


def _interpolation_spec(name: str, kernel: str, scale: int, halo_px: int) -> ModelSpec:
    return ModelSpec(
        id=f"{name}-x{scale}",
        family=name,
        scale=scale,
        kind="image",
        build=_interpolation,
        params={"scale": scale, "kernel": kernel},
        halo_px=halo_px,
        bf16=False,  # 8 bits of mantissa cannot hold the weights of 8-bit pictures
    )


def _flowprop_spec(
    name: str,
    weights: str,
    params: Mapping[str, Any],
    *,
    chunk: int,
    context: int,
    warmup: int,
    halo_px: int = 32,
) -> ModelSpec:
    return ModelSpec(
        id=name,
        family="flowprop",
        scale=params["scale"],
        kind="video",
        build=_flowprop,
        params=params,
        weights=weights,
        paper="after BasicVSR, arXiv 2012.02181",
        chunk=chunk,
        context=context,
        warmup=warmup,
        causal=params["direction"] == "forward",
        halo_px=halo_px,
    )


FLOWPROP_XS_X4 = {
    "scale": 4,
    "num_channels": 16,
    "num_blocks": 5,
    "direction": "forward",
    "flow_channels": 16,
}
FLOWPROP_S_X4 = {
    "scale": 4,
    "num_channels": 32,
    "num_blocks": 5,
    "direction": "both",
    "flow_channels": 32,
}
FLOWPROP_M_X4 = FLOWPROP_S_X4 | {"num_channels": 48, "num_blocks": 8}
FLOWPROP_L_X4 = FLOWPROP_S_X4 | {
    "num_channels": 64,
    "num_blocks": 12,
    "num_groups": 8,
    "tail_blocks": 1,
}
FLOWPROP_XL_X4 = FLOWPROP_S_X4 | {
    "num_channels": 96,
    "num_blocks": 10,
    "num_groups": 8,
    "num_rounds": 2,
    "tail_blocks": 2,
}
FLOWPROP_S_X2 = FLOWPROP_S_X4 | {"scale": 2}
FLOWPROP_S_X3 = FLOWPROP_S_X4 | {"scale": 3}
FLOWPROP_S_X4_ARCHIVE = FLOWPROP_S_X4 | {"cleaning_blocks": 4}
_XS_RUN = {"chunk": 8, "context": 1, "warmup": 16}
_S_RUN = {"chunk": 24, "context": 6, "warmup": 16}

SPECS: tuple[ModelSpec, ...] = (
    # Changes nothing: for films that are only cleaned, cut or encoded anew.
    _interpolation_spec("bicubic", "bicubic", 1, 2),
    _interpolation_spec("bicubic", "bicubic", 2, 2),
    _interpolation_spec("bicubic", "bicubic", 3, 2),
    _interpolation_spec("bicubic", "bicubic", 4, 2),
    _interpolation_spec("lanczos", "lanczos3", 2, 3),
    _interpolation_spec("lanczos", "lanczos3", 3, 3),
    _interpolation_spec("lanczos", "lanczos3", 4, 3),
    # Neighbours without training.
    *(_reconstruction_spec(scale) for scale in (2, 3, 4)),
    # One still, learnt from itself.
    *(_zssr_spec(scale) for scale in (2, 3, 4)),
    # Explores what a generator can make; never a default.
    *(_pulse_spec(scale) for scale in (4, 8, 16, 32, 64)),
    _flowprop_spec("flowprop-xs-x4-bi", "flowprop-xs-x4-bi", FLOWPROP_XS_X4, **_XS_RUN),
    _flowprop_spec("flowprop-s-x4-bi", "flowprop-s-x4-bi", FLOWPROP_S_X4, **_S_RUN),
    _flowprop_spec("flowprop-m-x4-bi", "flowprop-m-x4-bi", FLOWPROP_M_X4, **_S_RUN, halo_px=40),
    _flowprop_spec("flowprop-l-x4-bi", "flowprop-l-x4-bi", FLOWPROP_L_X4, **_S_RUN, halo_px=48),
    _flowprop_spec("flowprop-xl-x4-bi", "flowprop-xl-x4-bi", FLOWPROP_XL_X4, **_S_RUN, halo_px=48),
    _flowprop_spec("flowprop-s-x2-bi", "flowprop-s-x2-bi", FLOWPROP_S_X2, **_S_RUN),
    _flowprop_spec("flowprop-s-x3-bi", "flowprop-s-x3-bi", FLOWPROP_S_X3, **_S_RUN),
    # Film and tape.
    _flowprop_spec(
        "flowprop-s-x4-archive",
        "flowprop-s-x4-archive",
        FLOWPROP_S_X4_ARCHIVE,
        **_S_RUN,
        halo_px=44,
    ),
    # The ids people type, for footage as it is.
    _flowprop_spec("flowprop-xs-x4", "flowprop-xs-x4", FLOWPROP_XS_X4, **_XS_RUN),
    _flowprop_spec("flowprop-s-x4", "flowprop-s-x4", FLOWPROP_S_X4, **_S_RUN),
    _flowprop_spec("flowprop-m-x4", "flowprop-m-x4-bi", FLOWPROP_M_X4, **_S_RUN, halo_px=40),
    _flowprop_spec("flowprop-s-x2", "flowprop-s-x2-bi", FLOWPROP_S_X2, **_S_RUN),
    _flowprop_spec("flowprop-s-x3", "flowprop-s-x3", FLOWPROP_S_X3, **_S_RUN),
    *image_catalog.SPECS,
)

DEFAULTS: Mapping[int, tuple[str, ...]] = {
    1: ("bicubic-x1",),
    2: ("flowprop-s-x2", "bicubic-x2"),
    3: ("flowprop-s-x3", "bicubic-x3"),
    4: ("flowprop-s-x4", "bicubic-x4"),
}
"""Scale -> ids in order of preference; the first whose weights are at hand is the default."""

STILL_DEFAULTS: Mapping[int, tuple[str, ...]] = {2: ("edsr-x2",), 4: ("edsr-x4",)}
"""The same for stills, tried before those: a picture alone has no neighbours to gain from."""


def index_specs(specs: Iterable[ModelSpec]) -> dict[str, ModelSpec]:
    """Specs by id.

    Raises:
        ConfigError: two specs have the same id, or an id does not end in its scale.
    """
    by_id: dict[str, ModelSpec] = {}
    for spec in specs:
        if spec.id in by_id:
            raise ConfigError(f"Two models in the catalogue are called '{spec.id}'")
        if f"x{spec.scale}" not in spec.id.split("-"):
            raise ConfigError(f"The id '{spec.id}' does not say its scale, x{spec.scale}")
        by_id[spec.id] = spec
    return by_id


_BY_ID = index_specs(SPECS)


def list_models() -> tuple[ModelSpec, ...]:
    """Every model, in the order of the catalogue."""
    return SPECS


def get_spec(model_id: str) -> ModelSpec:
    """The spec of a model.

    Raises:
        UnknownModelError: no model has that id; the hint names near ones.
    """
    spec = _BY_ID.get(model_id)
    if spec is not None:
        return spec
    near = difflib.get_close_matches(model_id.lower(), _BY_ID, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(_BY_ID)}"
    raise UnknownModelError(f"There is no model '{model_id}'", hint=hint)


def weights_path(spec: ModelSpec) -> Path | None:
    """Where the shipped weights of a model lie or would lie; None for one that needs none."""
    return None if spec.weights is None else WEIGHTS_FOLDER / f"{spec.weights}.safetensors"


def is_shipped(spec: ModelSpec) -> bool:
    """Whether a model can be run with what is installed: it needs no weights, or they are here."""
    path = weights_path(spec)
    return path is None or path.is_file()


def default_model(scale: int, *, stills: bool = False) -> str:
    """Id of the model that enlarges by `scale` when the user names none.

    Args:
        scale: of the model.
        stills: whether single pictures are enlarged, and not a film.

    Raises:
        UnknownModelError: nothing in the catalogue has that scale.
    """
    first = STILL_DEFAULTS.get(scale, ()) if stills else ()
    for model_id in (*first, *DEFAULTS.get(scale, ())):
        if is_shipped(get_spec(model_id)):
            return model_id
    scales = ", ".join(str(known) for known in sorted(DEFAULTS))
    raise UnknownModelError(f"There is no model for scale {scale}", hint=f"use one of {scales}")
