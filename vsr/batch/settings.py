"""What a batch is asked to do, as its manifest remembers it, and the scan that goes with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vsr.batch.manifest import Manifest
from vsr.batch.rules import Asked, Rule, absolute_model
from vsr.batch.scan import OnLooked, ScanReport, scan
from vsr.batch.storage import Bucket, Source, place
from vsr.batch.walk import Filters, refuse_folders
from vsr.config import UpscaleConfig
from vsr.errors import ConfigError
from vsr.pipeline.as_json import from_json, to_json

_NO_MATTER: dict[str, Any] = {
    "workers": True,
    "overwrite": True,
    "restart": True,
    "mixed_devices": True,
    "engine": {"queue_frames", "isolate", "graphs", "decoder"},
}
"""Wishes that change no result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is asked of all clips."""

    source: Source
    """Where the tree is, absolute."""
    config: UpscaleConfig
    filters: Filters
    rules: tuple[Rule, ...] = ()
    target: Bucket | None = None
    """Where results go in the end; None: they stay beside the manifest."""

    @property
    def asked(self) -> Asked:
        """Of which clip what is asked."""
        return Asked(config=self.config, rules=self.rules)


def stored_settings(manifest: Manifest) -> Settings | None:
    """What was asked when the manifest was made; None when nothing was."""
    text = manifest.note("settings")
    if text is None:
        return None
    data = json.loads(text)
    filters = data["filters"]
    target = data.get("target")
    for name in ("include", "exclude"):
        filters[name] = tuple(filters[name])
    return Settings(
        source=place(data["source"], manifest.out),
        config=from_json(UpscaleConfig, json.dumps(data["config"])),
        filters=Filters(**filters),
        rules=tuple(Rule(**rule) for rule in data.get("rules", ())),
        target=None if target is None else Bucket.at(target, manifest.out, is_written=True),
    )


def is_planned(manifest: Manifest) -> bool:
    """Whether a scan has ever come to its end."""
    return manifest.note("scanned_at") is not None


def refuse_other_wishes(
    manifest: Manifest,
    source: Source,
    config: UpscaleConfig | None,
    filters: Filters | None,
    rules: tuple[Rule, ...] | None = None,
) -> Settings:
    """What was planned, for a run that may only do that.

    Args:
        manifest: of a batch that was planned.
        source: folder of the tree, as it is called now.
        config: None when nothing was asked for.
        filters: as above.
        rules: as above.

    Raises:
        ConfigError: something else is asked for now; naming what.
    """
    settings = stored_settings(manifest)
    assert settings is not None, "a planned batch has settings"
    found = [] if config is None else _changes(settings.config, config)
    if filters is not None and filters != settings.filters:
        found.append("which files are clips")
    if rules is not None and rules != settings.rules:
        found.append("rules")
    if source.resolve() != settings.source.resolve():
        found.append(f"source: {settings.source} -> {source}")
    if found:
        raise ConfigError(
            f"the batch in {manifest.out} was planned otherwise: {'; '.join(found)}",
            hint="plan it again with these wishes first, or leave them out",
        )
    return settings


def plan(
    manifest: Manifest,
    source: Source,
    config: UpscaleConfig | None,
    filters: Filters | None,
    rules: tuple[Rule, ...] | None = None,
    *,
    target: Bucket | None = None,
    restart: bool = False,
    on_looked: OnLooked | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> ScanReport:
    """Plan a batch, or bring its plan up to date with the tree.

    Args:
        manifest: empty or of an earlier plan.
        source: folder of the tree.
        config: what is asked for; None: as before, or the defaults.
        filters: which files are clips; None: as before, or by the suffix.
        rules: what some clips get; None: as before, or none.
        target: where results are sent; None: as before, or nowhere.
        restart: make everything anew where something else is asked for.
        on_looked: as for `scan`.
        should_stop: as for `scan`.

    Raises:
        ConfigError: something else is asked for than what was begun.
        VsrError: as `scan`.
    """
    if isinstance(source, Path):
        refuse_folders(source, manifest.out)
    before = stored_settings(manifest)
    settings = Settings(
        source=source.absolute(),
        config=_with_absolute_model(config or (before.config if before else UpscaleConfig())),
        filters=filters or (before.filters if before else Filters()),
        rules=(before.rules if before else ()) if rules is None else rules,
        target=target or (before.target if before else None),
    )
    changes = [] if before is None else _changes(before.config, settings.config)
    if before is not None and _effects(before.rules) != _effects(settings.rules):
        changes.append("rules")
    if changes and not restart and _is_begun(manifest):
        raise ConfigError(
            f"the batch in {manifest.out} was begun otherwise: {'; '.join(changes)}",
            hint="go on with what it was begun with, or use --restart to make all clips anew",
        )
    with manifest.together():
        store(manifest, settings)
    return scan(
        manifest,
        settings.source,
        settings.asked,
        settings.filters,
        anew=bool(changes) or restart,
        on_looked=on_looked,
        should_stop=should_stop,
    )


def store(manifest: Manifest, settings: Settings) -> None:
    """Note what is asked."""
    document = {
        "source": str(settings.source),
        "target": None if settings.target is None else str(settings.target),
        "config": json.loads(to_json(settings.config, exclude_unset=True)),
        "filters": asdict(settings.filters),
        "rules": [rule.model_dump(mode="json", exclude_unset=True) for rule in settings.rules],
    }
    manifest.set_note("settings", json.dumps(document))


def _effects(rules: tuple[Rule, ...]) -> list[Rule]:
    """Rules without what changes no result."""
    return [rule.model_copy(update={"priority": None}) for rule in rules if rule.settings]


def _is_begun(manifest: Manifest) -> bool:
    return any(
        clip.state == "done" or clip.attempts or clip.frames_done for clip in manifest.clips()
    )


def _with_absolute_model(config: UpscaleConfig) -> UpscaleConfig:
    if config.model is None:
        return config
    return config.model_copy(update={"model": absolute_model(config.model)})


def _changes(old: UpscaleConfig, new: UpscaleConfig) -> list[str]:
    """What differs, old -> new."""
    before, after = (
        _with_absolute_model(config).model_dump(mode="json", exclude=_NO_MATTER)
        for config in (old, new)
    )
    return [
        f"{key.replace('_', '-')}: {before[key]} -> {after[key]}"
        for key in before
        if before[key] != after[key]
    ]
