"""Rules: which settings a clip gets by what it is, and in which order clips are made."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time
from pathlib import Path
from typing import Any

import pytest

from vsr.batch.manifest import Clip, Manifest
from vsr.batch.opening import copy_manifest
from vsr.batch.policy import QuietHours, read_quiet_hours
from vsr.batch.rules import Asked, Rule, Traits, read_priorities, read_rules
from vsr.batch.settings import plan, refuse_other_wishes, stored_settings
from vsr.config import UpscaleConfig
from vsr.errors import ConfigError

MakeClip = Callable[..., Path]
SD = Traits(path="vhs/a b.mp4", height=576, is_interlaced=True, is_hdr=False)
UHD = Traits(path="new/a.mp4", height=2160, is_interlaced=False, is_hdr=True)
UNKNOWN = Traits(path="vhs/x.mp4", height=None, is_interlaced=False, is_hdr=False)
FILE = """
[[rule]]
path = "vhs/*"
preset = "archive"
settings = { crf = 9, codec = "h264", engine.segment_frames = 99 }

[[rule]]
min_height = 1080
settings = { height = 4320 }
priority = 3

[[rule]]
hdr = true
priority = -1
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "rules.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("rule", "which"),
    [
        ({}, (True, True, True)),
        ({"path": "vhs/*"}, (True, False, True)),
        ({"path": "a*"}, (True, True, False)),
        ({"min_height": 577}, (False, True, False)),
        ({"max_height": 576}, (True, False, False)),
        ({"interlaced": True}, (True, False, False)),
        ({"interlaced": False}, (False, True, True)),
        ({"hdr": True}, (False, True, False)),
        ({"path": "vhs/*", "hdr": True}, (False, False, False)),
    ],
)
def test_who_is_meant(rule: dict[str, Any], which: tuple[bool, ...]) -> None:
    assert tuple(Rule(**rule).applies_to(traits) for traits in (SD, UHD, UNKNOWN)) == which


def test_later_rules_overrule_earlier_ones_and_all_the_rest(tmp_path: Path) -> None:
    config = UpscaleConfig(scale=2, crf=30, audio="none")
    asked = Asked(config=config, rules=read_rules(written(tmp_path, FILE)))
    sd = asked.config_for(SD)
    assert (sd.model, sd.container) == ("flowprop-s-x4", "mkv")
    assert (sd.crf, sd.codec, sd.audio) == (9, "h264", "none")
    assert sd.engine.segment_frames == 99
    # A model that is named brings its own scale.
    assert sd.scale == 4
    uhd = asked.config_for(UHD)
    assert (uhd.height, uhd.crf) == (4320, 30)
    assert "scale" not in uhd.model_fields_set
    assert [asked.priority_of(traits) for traits in (SD, UHD, UNKNOWN)] == [0, -1, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[rule]]\nfolder = 'a'\npriority = 1", "unknown key 'rule.0.folder'"),
        ("[[rule]]\nsettings = { crff = 1 }", "unknown key 'crff' in rule 1 of rules.toml"),
        ("[[rule]]\nsettings = { crf = 99 }", "crf in rule 1 of rules.toml"),
        ("[[rule]]\npriority = 1\n[[rule]]\npath = 'a'", "rule 2 of rules.toml asks for nothing"),
        ("[[rule]]\npreset = 'none'", "none"),
        ("[[rule]", "is not TOML"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_rules(written(tmp_path, text))


def test_priorities_of_the_command_line() -> None:
    rules = read_priorities(["a=b/*=5", "*.avi=-2"])
    assert [(rule.path, rule.priority) for rule in rules] == [("a=b/*", 5), ("*.avi", -2)]
    for text in ("a", "a=", "=3", "a=x", "a=1.5"):
        with pytest.raises(ConfigError, match="no GLOB=N"):
            read_priorities([text])


def test_quiet_hours() -> None:
    day, night = read_quiet_hours("08:00-18:30"), read_quiet_hours("22:00 - 6:15")
    assert (day, night) == (
        QuietHours(time(8), time(18, 30)),
        QuietHours(time(22), time(6, 15)),
    )
    assert [day.hold(time(*now)) for now in ((7, 59), (8, 0), (18, 29), (18, 30))] == [
        False,
        True,
        True,
        False,
    ]
    assert [night.hold(time(*now)) for now in ((21, 59), (23, 0), (0, 0), (6, 15))] == [
        False,
        True,
        True,
        False,
    ]
    for text in ("8-18", "25:00-26:00", "08:00-08:00", "08:00", ""):
        with pytest.raises(ConfigError, match="quiet hours"):
            read_quiet_hours(text)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return copy_manifest(tmp_path / "out")


@pytest.fixture
def tree(tmp_path: Path, make_clip: MakeClip) -> Path:
    (tmp_path / "src" / "vhs").mkdir(parents=True)
    options = {"flags": "+ildct+ilme"}
    make_clip(
        tmp_path / "src" / "vhs" / "x.mpg", frames=3, codec="mpeg2video", codec_options=options
    )
    # BT.2020 primaries and matrix, PQ.
    make_clip(
        tmp_path / "src" / "hdr.mp4", frames=3, pixel_format="yuv420p10le", color=(9, 16, 9, 1)
    )
    make_clip(tmp_path / "src" / "plain.mp4", frames=3)
    return tmp_path / "src"


@pytest.mark.usefixtures("work_here")
def test_a_plan_knows_what_clips_are(
    manifest: Manifest, tree: Path, config: UpscaleConfig, tmp_path: Path
) -> None:
    rules = (Rule(path="vhs/*", settings={"container": "mov"}), Rule(hdr=True, priority=4))
    plan(manifest, tree, config, None, rules)
    clips: dict[str, Clip] = {clip.path: clip for clip in manifest.clips()}
    assert [clips[name].is_hdr for name in ("hdr.mp4", "plain.mp4")] == [True, False]
    assert clips["vhs/x.mpg"].is_interlaced
    assert not clips["hdr.mp4"].is_interlaced
    # Named by what the rule asks for.
    assert clips["vhs/x.mpg"].output == "vhs/x.mov"
    settings = stored_settings(manifest)
    assert settings is not None
    assert settings.rules == rules
    assert refuse_other_wishes(manifest, tree, None, None, rules) == settings
    with pytest.raises(ConfigError, match="planned otherwise: rules"):
        refuse_other_wishes(manifest, tree, None, None, ())
    # Another order changes no result.
    manifest.change(clips["plain.mp4"].id, frames_done=1)
    plan(manifest, tree, config, None, (rules[0],))
    with pytest.raises(ConfigError, match="begun otherwise: rules"):
        plan(manifest, tree, config, None, ())
