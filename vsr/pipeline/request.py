"""What a run is asked to do to which file: by what it is known again when it is to go on.

Only what can change the result counts. Where the source lies, how many processes work and how long
their queues are can all be different the next time.
"""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

import vsr
from vsr.config import WEIGHT_SUFFIXES, UpscaleConfig
from vsr.errors import ConfigError
from vsr.media.packets import index_packets
from vsr.pipeline.as_json import to_json
from vsr.pipeline.plan import Plan, SourceDigest, digest_source

_NO_MATTER: dict[str, Any] = {
    "workers": True,
    "overwrite": True,
    "restart": True,
    "mixed_devices": True,
    "engine": {"queue_frames", "isolate", "graphs", "decoder"},
}
_OF_DEVICE = ("torch", "machine")
"""Versions that belong to the kind of device."""
_SHIPPED = Path(__file__).resolve().parent.parent / "weights"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WeightFile(_Frozen):
    """The weights that a run computes with."""

    file: str
    """Absolute, or a name among the shipped ones."""
    sha256: str

    def differs_now(self) -> str | None:
        """What of the file is not as it was; None when it is the same."""
        path = _SHIPPED / self.file
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            return f"weights {path.name}: {self.sha256[:12]} -> {error.strerror}"
        if found == self.sha256:
            return None
        return f"weights {path.name}: {self.sha256[:12]} -> {found[:12]}"


class Request(_Frozen):
    """What was asked for, as far as it decides the bytes of the result."""

    settings: dict[str, Any]
    versions: dict[str, str]
    source: SourceDigest
    weights: WeightFile | None = None
    """None for models without, and as long as there is no plan."""

    @classmethod
    def of(cls, source: Path, config: UpscaleConfig) -> Request:
        """As it is known at the start of a run.

        Raises:
            OpenError: the source cannot be read.
        """
        return cls(
            settings=_settings(config), versions=installed_versions(), source=digest_source(source)
        )

    def planned(self, plan: Plan) -> Request:
        """With what making the plan has added."""
        digest = plan.model.weights_sha256
        weights = None
        if digest is not None:
            weights = WeightFile(file=_weight_file(plan), sha256=digest)
        return self.model_copy(update={"source": plan.source, "weights": weights})

    def begun_on(self, before: Request) -> Request:
        """The same, asked for on the device of a run that was begun before."""
        settings = {**self.settings, "device": before.settings.get("device")}
        versions = {
            name: before.versions.get(name, version) if name in _OF_DEVICE else version
            for name, version in self.versions.items()
        }
        return self.model_copy(update={"settings": settings, "versions": versions})

    def digest(self) -> str:
        """SHA-256 of it, the source's date left out."""
        text = to_json(self, exclude={"source": {"mtime_ns"}})
        return hashlib.sha256(text.encode()).hexdigest()

    def changes(self, now: Request, source: Path, stream_index: int) -> list[str]:
        """What is not as it was, old -> new; a source with another date only is read for that.

        Args:
            now: as made by `of`.
            source: where the source is now.
            stream_index: of its film.

        Raises:
            OpenError: the source cannot be read.
        """
        found = [
            f"{key.replace('_', '-')}: {_word(old)} -> {_word(new)}"
            for key, old, new in _pairs(self.settings, now.settings)
        ]
        found += [f"{key} {old} -> {new}" for key, old, new in _pairs(self.versions, now.versions)]
        weights = None if self.weights is None else self.weights.differs_now()
        if weights is not None:
            found.append(weights)
        return found + _source_changes(self.source, now.source, source, stream_index)


def installed_versions() -> dict[str, str]:
    """Of everything that may change a byte: programs, and the machine's kind."""
    return {
        "vsr": vsr.__version__,
        "av": version("av"),
        "torch": version("torch"),
        "machine": platform.machine(),
    }


def refuse_changes(changes: list[str], output: Path) -> None:
    """Raise when there are any.

    Raises:
        ConfigError: naming them all, old -> new.
    """
    if changes:
        raise ConfigError(
            f"the unfinished run beside {output} was begun otherwise: {'; '.join(changes)}",
            hint="go on with what it was begun with, or use --restart to begin anew",
        )


def _settings(config: UpscaleConfig) -> dict[str, Any]:
    """All that is asked for, as plain data; groups become dotted keys."""
    data = config.model_dump(mode="json", exclude=_NO_MATTER)
    if "scale" not in config.model_fields_set:
        # Then a model file has its own say.
        data["scale"] = None
    model = config.model
    if model is not None and ("/" in model or model.endswith(WEIGHT_SUFFIXES)):
        data["model"] = str(Path(model).absolute())
    engine = data.pop("engine")
    return {**data, **{f"engine.{key}": value for key, value in engine.items()}}


def _weight_file(plan: Plan) -> str:
    if plan.model.file is not None:
        return str(plan.model.file)
    # Here, because it takes torch, which made the plan but is not needed to take it up again.
    from vsr.models.catalog import get_spec, weights_path

    path = weights_path(get_spec(plan.model.id))
    assert path is not None
    return path.name


def _pairs(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    keys = dict.fromkeys([*old, *new])
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _word(value: object) -> str:
    return "default" if value is None else str(value)


def _source_changes(
    old: SourceDigest, new: SourceDigest, source: Path, stream_index: int
) -> list[str]:
    if old.size_bytes != new.size_bytes:
        return [f"source: {old.size_bytes} bytes -> {new.size_bytes} bytes"]
    if old.head_sha256 != new.head_sha256:
        return [f"source: its head {old.head_sha256[:12]} -> {new.head_sha256[:12]}"]
    if old.tail_sha256 != new.tail_sha256:
        return [f"source: its tail {old.tail_sha256[:12]} -> {new.tail_sha256[:12]}"]
    if old.mtime_ns == new.mtime_ns or old.packets is None:
        return []
    packets = index_packets(source, stream_index, old.packets.num_packets)
    if packets != old.packets:
        return [f"source: its packets {old.packets.sha256[:12]} -> {packets.sha256[:12]}"]
    return []
