"""Which settings a clip gets by what it is: rules of a TOML file, in order, the later the stronger.

    [[rule]]
    path = "vhs/*"
    max_height = 576
    interlaced = true
    preset = "archive"
    settings = { crf = 14, engine = { segment_frames = 240 } }
    priority = 5

A rule applies where all that it says of a clip holds; it overrules what is asked for all clips.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vsr.batch.walk import matches
from vsr.config import (
    WEIGHT_SUFFIXES,
    FrozenConfig,
    UpscaleConfig,
    build,
    find_preset,
    overlay,
    read_toml,
)
from vsr.errors import ConfigError

if TYPE_CHECKING:
    from vsr.batch.manifest import Clip


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What rules look at."""

    path: str
    """Relative to the tree."""
    height: int | None
    """Rows of the source; None where nobody has looked."""
    is_interlaced: bool
    """As its flags say."""
    is_hdr: bool


class Rule(FrozenConfig):
    """What some clips get."""

    path: str | None = None
    """A pattern: without a slash for names, with one for paths from the tree's root."""
    min_height: int | None = Field(default=None, ge=1)
    """Fewest rows of the source's pictures."""
    max_height: int | None = Field(default=None, ge=1)
    """Most rows."""
    interlaced: bool | None = None
    hdr: bool | None = None
    """Whether the transfer curve is PQ or HLG."""
    preset: str | None = None
    """A packaged name or a TOML file; weaker than `settings`."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Any keys of a preset."""
    priority: int | None = None
    """Clips of a higher one are made first; 0 where no rule says."""

    def applies_to(self, traits: Traits) -> bool:
        """Whether a clip is meant."""
        rows = traits.height
        return (
            (self.path is None or matches(traits.path, (self.path,)))
            and (self.min_height is None or (rows is not None and rows >= self.min_height))
            and (self.max_height is None or (rows is not None and rows <= self.max_height))
            and (self.interlaced is None or self.interlaced == traits.is_interlaced)
            and (self.hdr is None or self.hdr == traits.is_hdr)
        )


class _RuleFile(FrozenConfig):
    rule: list[Rule] = Field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for: of all clips, and of some."""

    config: UpscaleConfig
    rules: tuple[Rule, ...] = ()

    def config_for(self, traits: Traits) -> UpscaleConfig:
        """What is asked for one clip.

        Raises:
            ConfigError: rules contradict what is asked for all clips.
        """
        config = self.config
        for rule in self._of(traits):
            if rule.settings:
                config = overlay(config, rule.settings, "a rule")
        return config

    def priority_of(self, traits: Traits) -> int:
        """The greater, the earlier a clip is made."""
        found = [rule.priority for rule in self._of(traits) if rule.priority is not None]
        return found[-1] if found else 0

    def _of(self, traits: Traits) -> Iterator[Rule]:
        return (rule for rule in self.rules if rule.applies_to(traits))


def traits_of(clip: Clip) -> Traits:
    """As the manifest knows a clip."""
    return Traits(
        path=clip.path,
        height=clip.height,
        is_interlaced=clip.is_interlaced,
        is_hdr=clip.is_hdr,
    )


def read_rules(file: Path) -> tuple[Rule, ...]:
    """Read a file of rules; presets are read now, and hold as they were.

    Raises:
        ConfigError: the file, a preset or a key is refused.
    """
    rules: list[Rule] = []
    for number, rule in enumerate(build(_RuleFile, read_toml(file), {}).rule, start=1):
        origin = f"rule {number} of {file.name}"
        layers = [rule.settings]
        if rule.preset is not None:
            layers.insert(0, read_toml(find_preset(rule.preset)))
        for wishes in layers:
            # Alone, so that a wrong key is refused now and not at the first clip it is meant for.
            overlay(UpscaleConfig(), wishes, origin)
            if isinstance(model := wishes.get("model"), str):
                wishes = {**wishes, "model": absolute_model(model)}
            rules.append(rule.model_copy(update={"preset": None, "settings": wishes}))
        if rule.preset is None and not rule.settings and rule.priority is None:
            raise ConfigError(
                f"{origin} asks for nothing", hint="give it a preset, settings or a priority"
            )
    return tuple(rules)


def read_priorities(texts: Sequence[str]) -> tuple[Rule, ...]:
    """Read `GLOB=N` each: rules that change nothing but the order.

    Raises:
        ConfigError: a text is something else.
    """
    rules = []
    for text in texts:
        path, _, number = text.rpartition("=")
        if not path or not re.fullmatch(r"[+-]?\d{1,9}", number):
            raise ConfigError(f"{text!r} is no GLOB=N", hint="e.g. --priority 'news/*=5'")
        rules.append(Rule(path=path, priority=int(number)))
    return tuple(rules)


def absolute_model(name: str) -> str:
    """A model as it is called from any folder: an id stays, the name of a file becomes absolute."""
    is_file = "/" in name or name.endswith(WEIGHT_SUFFIXES)
    return str(Path(name).absolute()) if is_file else name
