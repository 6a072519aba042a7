"""What a training run is made of: the schema of `configs/train/*.toml`."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vsr.config import config_folder
from vsr.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSection(_Section):
    """The network to train."""

    id: str
    """Name of the result: stem of the weight file."""
    family: Literal[
        "flowprop",
        "flow",
        "features",
        "generator",
        "srcnn",
        "espcn",
        "fsrcnn",
        "edsr",
        "lapsrn",
        "srvgg",
        "srresnet",
        "msrresnet",
        "rrdb",
        "dbpn",
        "classsr",
    ]
    params: dict[str, Any] = {}
    """Keyword arguments of the network's class."""


class DataSection(_Section):
    """What is drawn."""

    scale: int = Field(default=4, ge=1, le=8)
    degradation: Literal["bi", "bd", "bd-corner", "mixed", "archive", "aniso"] = "bi"
    """See `training.degrade`."""
    crop_px: int = Field(default=48, ge=16)
    """Side of a source crop, pixels."""
    num_frames: tuple[int, ...] = (7,)
    """Frames per sequence, one entry for each equal part of the schedule."""
    batch: int = Field(default=4, ge=1)
    photo_share: Share = 0.5
    max_speed_px: float = Field(default=5.0, gt=0)
    """Largest pan of the synthetic camera, source pixels per frame."""
    carried_frames: int = Field(default=0, ge=0)
    """Frames more per sequence that only bring the state to where it is in a film's middle."""
    reset_share: Share = 0.5
    """Of the sequences, whose state starts afresh after those."""
    resident: bool | None = None
    """Keep the decoded store on the device and cut batches there; by default on a GPU with room
    for it."""
    degraded_copies: int = Field(default=0, ge=0)
    """How often every clip is degraded before the run, each time otherwise, and kept; 0 degrades
    crops while it runs. Codecs are too slow for a GPU's steps. Pairs that teach flow are shrunk
    as "bi" then."""


class LossSection(_Section):
    """What the pictures of a per-frame network are compared by; weights of 0 cost nothing."""

    pixel: Literal["l1", "mse", "charbonnier"] = "charbonnier"
    pixel_weight: Weight = 1.0
    frequency: Weight = 0.0
    """Of the L1 distance of Fourier transforms."""
    total_variation: Weight = 0.0
    content: Weight = 0.0
    """Of the L1 distance of features."""
    texture: Weight = 0.0
    """Of the L1 distance of the features' Gram matrices."""
    consistency: Weight = 0.0
    """Of the L1 distance of the result, made small bicubically, from the source: what a network
    makes up must shrink away. For sources that were made small that way."""
    features: Literal["own", "vgg19"] = "own"
    cleaning: Weight = 0.0
    """Of the distance of cleaned frames from the ground truth made small, for recurrent networks
    with a cleaning stage."""
    feature_weights: str | None = None
    """Weight file of the feature network; a relative path starts at the working directory."""


class AdversarialSection(_Section):
    """A discriminator that is trained along."""

    weight: Annotated[float, Field(gt=0)]
    kind: Literal["vanilla", "relativistic", "hinge"] = "relativistic"
    discriminator: Literal["vgg", "unet", "residual"] = "vgg"
    """`residual` is that of a generator."""
    num_channels: int = Field(default=64, ge=1)
    lr: float = Field(default=1e-4, gt=0)
    r1: Weight = 1.0
    """Of the penalty on the gradient at true pictures, with a generator."""
    r1_every: int = Field(default=8, ge=1)
    """Steps between two of them."""


class OptimizerSection(_Section):
    """Adam (0.9, 0.99), cosine in time."""

    lr: float = Field(default=1e-3, gt=0)
    flow_lr_ratio: Share = 0.25
    """Learning rate of the flow network over that of the rest."""
    flow_frozen: Share = 0.1
    """Part of the schedule before the flow network is trained along; 1 never trains it."""
    flow_loss_weight: Weight = 0.0
    """Of the flow's endpoint error on synthetic pairs, while it is trained along."""
    flow_pairs: int = Field(default=4, ge=1)
    """Such pairs per step."""
    warmup: Share = 0.02
    ema: float = Field(default=0.999, ge=0, lt=1)
    clip_norm: float = Field(default=0.5, gt=0)


class ScheduleSection(_Section):
    """How long: by the clock, or by steps where a run must repeat exactly."""

    minutes: float = Field(default=30.0, gt=0)
    steps: int | None = Field(default=None, ge=1)
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    graph: bool | None = None
    """Leave steps to the device, on a GPU as one recorded CUDA graph; by default on a GPU. Off, the
    host names every operation and waits for every loss."""


class InitSection(_Section):
    """What to start from."""

    weights: str | None = None
    """Weight file of the same network, or the id of a shipped one; a relative path starts at the
    working directory."""
    flow: str | None = None
    """Weight file of a flow network of the same size, likewise."""
    branches: str | None = None
    """Weight file of an MSRResNet as wide as the largest branch of a ClassSR, likewise; the others
    begin with its strongest channels."""
    trunk: str | None = None
    """Weight file of the same network for another scale, likewise: all but its last layer, which
    alone depends on the scale."""
    grown: str | None = None
    """Weight file or id, likewise, of a smaller network of the same family, whose function the
    larger one starts with."""


class DistillSection(_Section):
    """A larger network to learn from, beside the ground truth."""

    teacher: str
    """Weight file or id of an upscaler of the same scale."""
    weight: Share = 0.5
    """Of the distance to the teacher's pictures; the ground truth has the rest."""


class ValidationSection(_Section):
    """Clips that are kept from training, scored before, early on and after."""

    share: Share = 0.0
    """Of the clips; 0 keeps none."""
    early: Share = 0.1
    """Part of the schedule after which the first score tells whether it goes the right way."""


class TrainConfig(_Section):
    """One training run."""

    model: ModelSection
    data: DataSection = Field(default_factory=DataSection)
    loss: LossSection = Field(default_factory=LossSection)
    adversarial: AdversarialSection | None = None
    optimizer: OptimizerSection = Field(default_factory=OptimizerSection)
    schedule: ScheduleSection = Field(default_factory=ScheduleSection)
    init: InitSection = Field(default_factory=InitSection)
    distill: DistillSection | None = None
    validation: ValidationSection = Field(default_factory=ValidationSection)
    seed: int = 0
    precision: Literal["bf16", "fp32"] = "bf16"


def load_train_config(path: Path) -> TrainConfig:
    """Read and validate a training configuration.

    Raises:
        ConfigError: the file is missing, no TOML, or holds an unknown key or a value out of range.
    """
    try:
        return TrainConfig.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the training configuration {path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path.name}: {key}: {first['msg']}") from error


def find_train_config(name: str) -> Path:
    """Path of a packaged training configuration by its name, or of a TOML file of the user's.

    Raises:
        ConfigError: none has that name.
    """
    if name.endswith(".toml") or "/" in name:
        return Path(name)
    folder = config_folder("train")
    names = sorted(path.stem for path in folder.glob("*.toml"))
    if name in names:
        return folder / f"{name}.toml"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.55)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}, or a FILE.toml"
    raise ConfigError(f"no training configuration is named {name!r}", hint=hint)


def override(
    config: TrainConfig,
    *,
    minutes: float | None = None,
    seed: int | None = None,
    degraded_copies: int | None = None,
) -> TrainConfig:
    """The same run with another length, seed or number of degraded copies.

    Minutes also take the place of steps.
    """
    changes: dict[str, Any] = {}
    if minutes is not None:
        schedule = {"minutes": minutes, "steps": None}
        changes["schedule"] = config.schedule.model_copy(update=schedule)
    if seed is not None:
        changes["seed"] = seed
    if degraded_copies is not None:
        copies = {"degraded_copies": degraded_copies}
        changes["data"] = config.data.model_copy(update=copies)
    return config.model_copy(update=changes)
