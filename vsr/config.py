"""What a run is asked to do: presets, files and flags become one frozen value.

Order, weakest first: the defaults below, a preset (a packaged name or a TOML file), `--set a.b=1`,
flags. There is no inheritance between files and nothing is evaluated. An unknown key, a value of
the wrong type or one out of range is refused with the key, where it was written and, for a
misspelt key, the nearest name.

Keys that have a flag stand at the top; groups such as `engine` hold what is tuned rarely.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vsr.errors import ConfigError
from vsr.notation import parse_sample, parse_time

ContainerName = Literal["auto", "mkv", "mp4", "mov"]
CodecName = Literal["h264", "hevc", "av1", "ffv1", "prores", "dnxhr", "h264_nvenc", "hevc_nvenc"]
ProfileName = Literal["access", "mezzanine", "preservation"]
Precision = Literal["auto", "fp32", "bf16"]

_SIZE = r"^[1-9]\d{0,5}x[1-9]\d{0,5}$"
_SIZE_KEYS = ("scale", "height", "size")
"""Each says how large the result is; the strongest source of wishes that gives one decides."""
_BARE_WORD = re.compile(r"[\w./~][\w./:+~-]*")
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
"""How the name of a weight file ends; any other name of a model is an id, or has a slash in it."""
_SCALE_IN_ID = re.compile(r"-x(\d+)(?:-|$)")


class FrozenConfig(BaseModel):
    """Base of every configuration: frozen, strictly typed, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


Config = TypeVar("Config", bound=FrozenConfig)


class EngineConfig(FrozenConfig):
    """How the model is run. None of these changes what is computed, but for rounding."""

    precision: Precision = "auto"
    """`auto` takes the fastest type that costs no visible quality, and writes it in the plan."""
    queue_frames: int = Field(default=8, ge=1, le=256)
    """Frames that may wait between two stages; memory grows with it."""
    segment_frames: int = Field(default=480, ge=1, le=1_000_000)
    """About the most frames that are encoded in one go and lost with a crash. At each border the
    encoder starts anew and, inside a shot, the model too, after some frames of warm-up."""
    graphs: bool = True
    """On a GPU, hand over a chunk's kernels as one recording where the model allows it."""
    decoder: Literal["auto", "software", "hardware"] = "auto"
    """On a GPU, `auto` lets its decoder read films from 1080p on where it gives the same pictures
    in less time; `hardware` wherever it gives the same. What fails is decoded by software."""
    isolate: bool = True
    """Work in processes of their own, so that a crash of decoder or driver costs one segment."""


class UpscaleConfig(FrozenConfig):
    """Everything `vsr upscale` may be asked for."""

    scale: float = Field(default=4, ge=1, le=100)
    """Enlargement of width and height; what the model does not reach, or passes, is resampled once.
    1 cleans or encodes anew. Left out, it follows the model, else 4."""
    height: int | None = Field(default=None, ge=1)
    """Height of the result as displayed, instead of a scale; the width follows."""
    size: str | None = Field(default=None, pattern=_SIZE)
    """`WIDTHxHEIGHT` of the result as displayed, instead of a scale; see `fit`."""
    fit: Literal["contain", "cover", "stretch"] = "contain"
    """Into `size`: stay inside and keep the shape; fill and crop; or fill and change the pixels."""
    par: Literal["keep", "square"] = "keep"
    """Shape of pixels: as in the source, or square by resampling the width."""
    rotate: Literal["keep", "bake"] = "keep"
    """A turned film: leave that to the player, as in the source, or turn the pictures."""
    start: str | int | float | None = Field(default=None)
    """Where to begin: seconds or `[HH:]MM:SS.mmm`, from the first picture."""
    duration: str | int | float | None = Field(default=None)
    """How much to take, written the same way."""
    sample: str | None = Field(default=None, pattern=r"^\d{1,4}x[\d:.]+s?$")
    """`3x10s`: so many stretches of that length, spread evenly over the film, one after another."""
    deinterlace: Literal["auto", "keep", "off", "bwdif", "bob", "ivtc"] = "auto"
    """Interlaced film: `auto` makes it progressive (`bwdif`) where flags and pictures say so;
    `keep` passes fields as they are, `off` does so unexamined; `bob` makes a frame of each field;
    `ivtc` undoes a 3:2 pulldown."""
    frame_rate: str | None = Field(default=None, pattern=r"^[\d./]+$")
    """Of an image sequence, whose pictures do not say how fast they follow: `24`, `23.976`,
    `24000/1001`. None: 24."""
    max_damage: str | int | float = "100%"
    """Damaged pictures that are borne, as a count (`12`) or a share (`0.05`, `5%`); with more, the
    result is rejected. Without a limit, damage is reported and nothing else."""
    model: str | None = None
    """An id of the catalogue or a weight file; None: the catalogue's default for the scale."""
    detail: float | None = Field(default=None, ge=0, le=1)
    """How much detail a model with a parent may invent: 0 is its parent, 1 the model itself."""
    fidelity: bool = False
    """Refuse models that invent detail."""
    strength: float | None = Field(default=None, ge=0, lt=1)
    """How far the detail that a network of single frames adds to a film is steadied along the
    motion; 0 leaves it as it is. None: 0.7, and 0.9 for networks that invent detail."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """`auto`, `cpu`, `mps`, `cuda` or `cuda:N`."""
    mixed_devices: bool = False
    """Go on with a run that another kind of device began. Segments made on this one are then not
    exact: the plan alone does not say their bytes."""
    container: ContainerName | None = None
    """None goes by the output's suffix; `auto` also, but takes mkv where that would lose less."""
    strict: bool = False
    """Refuse to run when the result would lack anything of the source."""
    audio: str | int = "all"
    """`all`, `none`, or languages and positions among the audio streams: `eng,0`."""
    subs: str | int = "all"
    """The same for subtitles."""
    map: str | int | None = None
    """Streams by index: `0,2` keeps only those, `-3` leaves one out; a video stream is the film."""
    provenance: bool = True
    """Write tags that say how the result was made."""
    profile: ProfileName | None = None
    """What the result is for: `access` (H.264, HEVC), `mezzanine` (ProRes, DNxHR), `preservation`
    (FFV1 and untouched sound in mkv)."""
    same_codec: bool = False
    """Encode with the codec of the source."""
    encoder_options: dict[str, str | int | float] = {}
    """Further options of the encoder, by FFmpeg's names."""
    codec: CodecName | None = None
    """None: what suits the container and the source's bit depth."""
    crf: float | None = Field(default=None, ge=0, le=63)
    """Constant quality, lower is better; None: the codec's default here. Not for ffv1, prores."""
    encoder_preset: str | None = Field(default=None, min_length=1)
    """Speed against size, in the encoder's own words: `medium` for h264, `6` for av1."""
    threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads for decoding and encoding; 0: as many as the machine offers."""
    grain: float | None = Field(default=None, gt=0, le=4)
    """Measure the grain of a film and lay it over the result again, so many times as strong."""
    samples: int = Field(default=1, ge=1, le=100)
    """Of a still, so many pictures from following seeds, by models of which each is another."""
    generator: tuple[str, str] | None = None
    """Mapping and synthesis of a StyleGAN, for `pulse` to explore in place of its own."""
    blind: bool = False
    """Estimate the blur of the source for a model that undoes it; without, it is taken to be that
    of bicubic shrinking."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """For models that draw random numbers; equal seeds give equal pictures."""
    overwrite: bool = False
    """Replace a file that stands at the output name."""
    workers: int = Field(default=1, ge=0, le=256)
    """Segments made at a time, each with its own model in memory; 0: one for every four cores. The
    result is the same."""
    restart: bool = False
    """Forget what an unfinished run has done, or make a finished result of ours anew."""
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="before")
    @classmethod
    def _scale_from_model(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("scale") is None:
            named = _scale_of(data.get("model"))
            if named is not None:
                return {**data, "scale": named}
        return data

    @model_validator(mode="after")
    def _wishes_agree(self) -> Self:
        if self.height is not None and self.size is not None:
            raise ValueError("height and size were both asked for: give one of them")
        if self.sample is not None and (self.start is not None or self.duration is not None):
            raise ValueError("sample spreads itself over the film: leave start and duration out")
        if self.start is not None:
            parse_time(self.start)
        if self.duration is not None and parse_time(self.duration) <= 0:
            raise ValueError(f"duration must be a time after 0, not {self.duration}")
        if self.sample is not None:
            parse_sample(self.sample)
        return self


def resolve_config(
    preset: str | None = None,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
) -> UpscaleConfig:
    """Build the configuration of a run.

    Args:
        preset: a packaged name (`list_presets`) or the path of a TOML file.
        flags: values by key, the strongest; a value of None means the flag was not given.
        sets: `a.b=1` each; the value is TOML, and a bare word needs no quotes.

    Raises:
        ConfigError: the preset is missing or unreadable, or a key or value is refused.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if preset is not None:
        path = find_preset(preset)
        _merge(merged, read_toml(path), origins, path.name)
    for text in sets:
        wish = parse_set(text)
        _drop_weaker_sizes(merged, wish)
        _merge(merged, wish, origins, f"--set {text}")
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    _drop_weaker_sizes(merged, given)
    for key, value in given.items():
        _merge(merged, {key: value}, origins, f"--{key.replace('_', '-')}")
    return build(UpscaleConfig, merged, origins)


def overlay(config: UpscaleConfig, wishes: Mapping[str, Any], origin: str) -> UpscaleConfig:
    """A configuration with stronger wishes; what they leave out stays.

    Args:
        config: the weaker.
        wishes: nested values by key.
        origin: where the wishes were written, for the message.

    Raises:
        ConfigError: a key or value is refused.
    """
    merged = config.model_dump(exclude_unset=True)
    origins: dict[str, str] = {}
    _drop_weaker_sizes(merged, wishes)
    _merge(merged, wishes, origins, origin)
    return build(UpscaleConfig, merged, origins)


def _drop_weaker_sizes(merged: dict[str, Any], stronger: Mapping[str, Any]) -> None:
    """Forget sizes of weaker wishes when stronger ones say how large, or name a model."""
    given = [key for key in _SIZE_KEYS if stronger.get(key) is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} were asked for at once", hint="give one of them")
    if given or stronger.get("model") is not None:
        for key in _SIZE_KEYS if given else ("scale",):
            merged.pop(key, None)


def build(cls: type[Config], data: Mapping[str, Any], origins: Mapping[str, str]) -> Config:
    """Validate `data` as a `cls`, or say in one sentence what is wrong with it.

    Args:
        cls: the configuration class.
        data: nested values by key.
        origins: where each dotted key was written, for the message.

    Raises:
        ConfigError: naming the first refused key.
    """
    try:
        return cls.model_validate(dict(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        parts = [str(part) for part in first["loc"]]
        key = ".".join(parts)
        where = next(
            (f" in {origins[k]}" for k in (key, *_parents(parts)) if k in origins),
            "",
        )
        if first["type"] == "extra_forbidden":
            near = _near(parts[-1], _field_names(cls, parts[:-1]))
            hint = f"did you mean {near!r}?" if near else "see the README for the keys there are"
            raise ConfigError(f"unknown key {key!r}{where}", hint=hint) from error
        what = first["msg"].removeprefix("Value error, ")
        subject = f"{key}{where}: " if key else ""
        seen = f", got {first['input']!r}" if key else ""
        raise ConfigError(f"{subject}{what}{seen}") from error


def parse_set(text: str) -> dict[str, Any]:
    """Turn `a.b=1` into `{"a": {"b": 1}}`.

    Raises:
        ConfigError: there is no `=`, a part of the key is empty, or the value is not TOML.
    """
    key, equals, value_text = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(re.fullmatch(r"[A-Za-z_]\w*", part) for part in parts):
        raise ConfigError(f"--set {text!r} is not of the form key=value", hint="e.g. crf=18")
    value_text = value_text.strip()
    try:
        value: Any = tomllib.loads(f"v = {value_text}\n")["v"]
    except tomllib.TOMLDecodeError as error:
        if not _BARE_WORD.fullmatch(value_text):
            raise ConfigError(
                f"--set {text!r}: {value_text!r} is neither a word nor a TOML value",
                hint="put text with spaces in double quotes inside single ones",
            ) from error
        value = value_text
    for part in reversed(parts):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: it is missing, unreadable or not TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"cannot read configuration {str(path)!r}: {reason}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{str(path)!r} is not TOML: {error}") from error


def config_folder(kind: Literal["presets", "train"]) -> Path:
    """Folder of the packaged TOML files: inside the wheel, or beside the package in a clone."""
    package = Path(__file__).resolve().parent
    packaged = package / "configs" / kind
    return packaged if packaged.is_dir() else package.parent / "configs" / kind


def list_presets() -> tuple[str, ...]:
    """Names that `--preset` knows without a path, sorted."""
    return tuple(sorted(path.stem for path in config_folder("presets").glob("*.toml")))


def find_preset(name: str) -> Path:
    """Path of a preset by its packaged name, or of a TOML file of the user's.

    Raises:
        ConfigError: no preset has that name.
    """
    if name.endswith(".toml") or "/" in name:
        return Path(name)
    names = list_presets()
    if name in names:
        return config_folder("presets") / f"{name}.toml"
    near = _near(name, names)
    hint = f"did you mean {near!r}?" if near else f"there are {', '.join(names)}, or a FILE.toml"
    raise ConfigError(f"no preset is named {name!r}", hint=hint)


def _scale_of(model: object) -> int | None:
    """Scale in an id such as `flowprop-s-x4-bi`; None for files and other names."""
    if not isinstance(model, str) or "/" in model or model.endswith(WEIGHT_SUFFIXES):
        return None
    found = _SCALE_IN_ID.search(model)
    return int(found[1]) if found else None


def _merge(
    into: dict[str, Any], new: Mapping[str, Any], origins: dict[str, str], origin: str, at: str = ""
) -> None:
    """Lay `new` over `into`, group by group, and note where each leaf came from."""
    for key, value in new.items():
        dotted = f"{at}{key}"
        if isinstance(value, Mapping):
            group = into.get(key)
            if not isinstance(group, dict):
                group = into[key] = {}
            origins.setdefault(dotted, origin)
            _merge(group, value, origins, origin, f"{dotted}.")
        else:
            into[key] = value
            origins[dotted] = origin


def _parents(parts: Sequence[str]) -> list[str]:
    return [".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1)]


def _field_names(cls: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Names of the fields of the group at `path`."""
    for part in path:
        field = cls.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type):
            return []
        if not issubclass(field.annotation, BaseModel):
            return []
        cls = field.annotation
    return list(cls.model_fields)


def _near(name: str, names: Sequence[str]) -> str | None:
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.55)
    return found[0] if found else None
