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


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSection(_Section):
    """The network to train."""

    id: str
    """Name of the result: stem of the weight file."""
    family: Literal["flowprop", "flow"]
    params: dict[str, Any] = {}
    """Keyword arguments of the network's class."""


class DataSection(_Section):
    """What is drawn."""

    scale: int = Field(default=4, ge=1, le=8)
    degradation: Literal["bi"] = "bi"
    crop_px: int = Field(default=48, ge=16)
    """Side of a source crop, pixels."""
    num_frames: tuple[int, ...] = (7,)
    """Frames per sequence, one entry for each equal part of the schedule."""
    batch: int = Field(default=4, ge=1)
    photo_share: Share = 0.5
    max_speed_px: float = Field(default=5.0, gt=0)
    """Largest pan of the synthetic camera, source pixels per frame."""


class OptimizerSection(_Section):
    """Adam (0.9, 0.99), cosine in time."""

    lr: float = Field(default=1e-3, gt=0)
    flow_lr_ratio: Share = 0.25
    """Learning rate of the flow network over that of the rest."""
    flow_frozen: Share = 0.1
    """Part of the schedule before the flow network is trained along."""
    warmup: Share = 0.02
    ema: float = Field(default=0.999, ge=0, lt=1)
    clip_norm: float = Field(default=0.5, gt=0)


class ScheduleSection(_Section):
    """How long: by the clock, or by steps where a run must repeat exactly."""

    minutes: float = Field(default=30.0, gt=0)
    steps: int | None = Field(default=None, ge=1)
    checkpoint_minutes: float = Field(default=5.0, gt=0)


class InitSection(_Section):
    """What to start from."""

    weights: str | None = None
    """Weight file of the same network; a relative path starts at the working directory."""
    flow: str | None = None
    """Weight file of a flow network of the same size, likewise."""


class TrainConfig(_Section):
    """One training run."""

    model: ModelSection
    data: DataSection = Field(default_factory=DataSection)
    optimizer: OptimizerSection = Field(default_factory=OptimizerSection)
    schedule: ScheduleSection = Field(default_factory=ScheduleSection)
    init: InitSection = Field(default_factory=InitSection)
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
    config: TrainConfig, *, minutes: float | None = None, seed: int | None = None
) -> TrainConfig:
    """The same run with another length or seed; minutes also take the place of steps."""
    changes: dict[str, Any] = {}
    if minutes is not None:
        schedule = {"minutes": minutes, "steps": None}
        changes["schedule"] = config.schedule.model_copy(update=schedule)
    if seed is not None:
        changes["seed"] = seed
    return config.model_copy(update=changes)
