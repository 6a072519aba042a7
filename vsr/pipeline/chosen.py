"""The model of a run: chosen once, written in the plan, loaded as the plan says."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vsr.config import UpscaleConfig
from vsr.errors import CheckpointError, ConfigError
from vsr.pipeline.geometry import GeometryPlan
from vsr.pipeline.plan import ComputePlan, ModelPlan

if TYPE_CHECKING:
    import torch

    from vsr.models.blur import GaussianBlur
    from vsr.models.upscaler import ModelSpec, Upscaler


BLUR_FAMILY = "reconstruction"
"""Of models for films whose `build` takes the blur that they are to undo."""


def plan_model(
    config: UpscaleConfig, shape: GeometryPlan, *, stills: bool = False
) -> tuple[ModelPlan, ComputePlan, tuple[str, ...]]:
    """Choose network, device and number format; no weights are loaded yet.

    Args:
        config: what is asked for.
        shape: of the result.
        stills: whether single pictures are enlarged.

    Returns:
        Both, and one sentence on each thing that was chosen.

    Raises:
        ConfigError: the model invents detail and that was barred, or cannot and it was asked for.
        ModelError: it cannot be used.
        DeviceError: the device is not there.
    """
    # Here, because a bad source should be refused before torch has been loaded.
    import torch

    from vsr.engine.device import device_class, resolve_device
    from vsr.engine.precision import choose_dtype
    from vsr.models.catalog import default_model, get_spec
    from vsr.models.checkpoint import file_of, resolve_spec
    from vsr.models.deflicker import warmup

    name = config.model or default_model(shape.model_scale, stills=stills)
    spec, parent = resolve_spec(name), None
    if config.detail is not None:
        spec, parent = _family(spec, is_file=file_of(name) is not None)
        name = spec.id
    _refuse_invention(config, spec)
    _refuse_blind(config, spec)
    if spec.stills_only and not stills:
        raise ConfigError(
            f"{spec.id} is for stills, and not for films", hint="use it with `vsr image`"
        )
    generator = _generator(config, spec)
    device = resolve_device(config.device)
    if config.engine.precision == "auto":
        dtype, reason = choose_dtype(spec, device)
    else:
        wanted = {"fp32": torch.float32, "bf16": torch.bfloat16}
        dtype, reason = wanted[config.engine.precision], "asked for"
        if spec.weights is None:
            dtype, reason = torch.float32, "no weights"
    dtype_name = str(dtype).removeprefix("torch.")
    strength = None if stills else _strength(config, spec, file_of(name))
    model = ModelPlan(
        id=spec.id,
        file=file_of(name),
        scale=spec.scale,
        chunk=spec.chunk,
        context=spec.context,
        warmup=warmup(strength) if strength else spec.warmup,
        weights_sha256=_weights_sha256(generator[1] if generator else file_of(name), spec),
        generator=generator,
        detail=config.detail,
        parent=parent,
        parent_sha256=None if parent is None else _weights_sha256(None, get_spec(parent)),
        fidelity=config.fidelity,
        strength=strength,
        seed=config.seed,
    )
    graphs = config.engine.graphs and device.type == "cuda" and not stills
    graphs = graphs and spec.capturable and spec.kind == "video"
    compute = ComputePlan(
        device=str(device),
        device_class=device_class(device),
        dtype=dtype_name,
        mixed=config.mixed_devices,
        graphs=graphs,
    )
    notes = [f"Convolutions run in {dtype_name}: {reason}."]
    if graphs:
        notes.append("Chunks of the usual size are replayed as CUDA graphs.")
    if parent is not None:
        notes.append(
            f"The weights are {config.detail:g} of {spec.id}, which invents detail, and the rest "
            f"of {parent}, which does not."
        )
    elif spec.invents_detail:
        notes.append(f"{spec.id} invents detail: what it shows is plausible and need not be true.")
    if strength:
        notes.append(
            f"{spec.id} sees one frame at a time: the detail that it adds is steadied along the "
            f"motion, with strength {strength:g}."
        )
    if spec.scale != shape.scale:
        notes.append(
            f"{spec.id} enlarges by {spec.scale}; its pictures are then resampled once "
            f"to {plain_scale(shape.scale)} times the source."
        )
    return model, compute, tuple(notes)


def _generator(config: UpscaleConfig, spec: ModelSpec) -> tuple[Path, Path] | None:
    """The user's generator.

    Raises:
        ConfigError: the model explores none, or draws nothing and samples were asked for.
    """
    if config.samples > 1 and not spec.draws:
        raise ConfigError(
            f"{spec.id} makes one picture of a still, and {config.samples} samples were asked for",
            hint="--samples is for models such as pulse",
        )
    if config.generator is None:
        return None
    if spec.family != "pulse":
        raise ConfigError(f"--generator is for pulse, and {spec.id} explores none")
    mapping, synthesis = (Path(name).absolute() for name in config.generator)
    return mapping, synthesis


def _refuse_blind(config: UpscaleConfig, spec: ModelSpec) -> None:
    if config.blind and spec.family != BLUR_FAMILY:
        raise ConfigError(
            f"--blind is for models that undo a blur, and {spec.id} was trained for its own",
            hint=f"use {BLUR_FAMILY}-x{spec.scale}",
        )


def plain_scale(scale: Fraction) -> int | float:
    """A scale as people write it."""
    return scale.numerator if scale.denominator == 1 else round(float(scale), 6)


def _family(spec: ModelSpec, *, is_file: bool) -> tuple[ModelSpec, str]:
    """The model that invents detail, and its parent, of which either may have been named."""
    from vsr.models.catalog import list_models

    found = [s for s in list_models() if s.parent and spec.id in (s.id, s.parent)]
    if is_file or not found:
        known = ", ".join(s.id for s in list_models() if s.parent)
        raise ConfigError(
            f"--detail mixes a model with the one that it was trained from, and {spec.id} has none",
            hint=f"it is for {known}",
        )
    child = found[0]
    assert child.parent is not None
    return child, child.parent


def _refuse_invention(config: UpscaleConfig, spec: ModelSpec) -> None:
    if not (config.fidelity and spec.invents_detail) or config.detail == 0:
        return
    instead = f"use {spec.parent}" if spec.parent else "use a model that was trained to be right"
    raise ConfigError(
        f"--fidelity bars {spec.id}, which was trained to invent plausible detail", hint=instead
    )


def _strength(config: UpscaleConfig, spec: ModelSpec, file: Path | None) -> float | None:
    """How far to steady the frames of a film; None where there is nothing to steady.

    Raises:
        ConfigError: that was asked for of a model which is steady by itself.
    """
    from vsr.models.deflicker import DEFAULT_STRENGTH, INVENTED_STRENGTH

    is_network = spec.weights is not None or file is not None
    if spec.kind == "image" and is_network:
        if config.strength is not None:
            return config.strength
        return INVENTED_STRENGTH if spec.invents_detail else DEFAULT_STRENGTH
    if config.strength:
        raise ConfigError(
            f"--strength steadies networks that see one frame at a time, and {spec.id} is none",
            hint="leave it out",
        )
    return None


def _weights_sha256(file: Path | None, spec: ModelSpec) -> str | None:
    """Of the weight file that will be loaded; None for models without.

    Raises:
        CheckpointError: it is not there.
    """
    from vsr.models.catalog import weights_path

    path = file or weights_path(spec)
    if path is None:
        return None
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"The weights of {spec.id} are not installed: there is no {path.name} in {path.parent}",
            hint="train them with `vsr train`, or name another model",
        ) from error


def load_chosen(model: ModelPlan, *, device: torch.device, dtype: torch.dtype) -> Upscaler:
    """The model of a plan with its weights, in that number format.

    Raises:
        ModelError: its weights are gone or changed.
    """
    from vsr.models.blend import load_blend
    from vsr.models.blur import GaussianBlur
    from vsr.models.checkpoint import load_upscaler

    if model.generator is not None:
        return _exploring(model.scale, model.generator, device)
    if model.blur is not None:
        return _undoing(model.id, GaussianBlur(*model.blur), device)
    if model.parent is None or model.detail is None:
        return load_upscaler(model.file or model.id, device=device, dtype=dtype)
    return load_blend(model.parent, model.id, model.detail, device=device, dtype=dtype)


def _undoing(model_id: str, blur: GaussianBlur, device: torch.device) -> Upscaler:
    """A model without weights that undoes this blur."""
    from vsr.models.catalog import get_spec

    spec = get_spec(model_id)
    module = spec.build(**spec.params, blur=blur).to(device).eval()
    return cast("Upscaler", module)


def _exploring(scale: int, files: tuple[Path, Path], device: torch.device) -> Upscaler:
    """PULSE with the user's generator."""
    from vsr.models.image.pulse import PULSE
    from vsr.models.image.stylegan import load_stylegan1

    generator = load_stylegan1(*files).to(device)
    if generator.resolution % scale:
        raise ConfigError(f"a generator of {generator.resolution} px does not divide by {scale}")
    module = PULSE(scale, generator=generator).to(device).eval().requires_grad_(False)
    return cast("Upscaler", module)
