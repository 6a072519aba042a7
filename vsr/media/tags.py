"""Tags: which of the source's are carried over, and which a container can hold (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vsr.media.probe import MediaInfo

_ABOUT_THE_FILE = re.compile(
    r"(duration|encoder|major_brand|minor_version|compatible_brands|vendor_id|bps|number_of_frames"
    r"|number_of_bytes|_statistics_\w+)(-\w+)?",
    re.IGNORECASE,
)
"""Tags that describe the source file, not the film: muxers write their own."""

_ITUNES = frozenset(
    {
        *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre"),
        *("copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id"),
        *("network", "keywords", "creation_time", "location", "timecode", "compilation"),
        *("gapless_playback", "media_type", "hd_video", "track", "disc"),
    }
)
"""Tags that mp4 holds without the list of free keys."""

_MOV_STREAM = frozenset({"language", "title", "name", "handler_name", "creation_time", "timecode"})
"""All that a track of mp4 or mov holds."""


def container_tags(
    tags: Mapping[str, str], container: str, *, any_key: bool = True
) -> tuple[dict[str, str], list[str]]:
    """Tags of the whole file: those to write, and the names of those the container cannot hold.

    Args:
        tags: of the source.
        container: `mkv`, `mp4` or `mov`.
        any_key: whether mp4 or mov may use free keys.
    """
    kept: dict[str, str] = {}
    lost: list[str] = []
    for key, value in tags.items():
        if _ABOUT_THE_FILE.fullmatch(key):
            continue
        name = _spelling(key, container)
        base = name.partition("-")[0]
        if container != "mkv" and not any_key and base.lower() not in _ITUNES:
            lost.append(key)
            continue
        kept.setdefault(name, value)
    return kept, lost


def stream_tags(
    tags: Mapping[str, str], container: str, *, is_reencoded: bool
) -> tuple[dict[str, str], list[str]]:
    """Tags of one stream: those to write, and the names of those the container cannot hold.

    mp4 and mov call a stream's title `name` when read, yet take it as `title`.
    """
    kept: dict[str, str] = {}
    lost: list[str] = []
    for key, value in tags.items():
        if _ABOUT_THE_FILE.fullmatch(key) or key.lower() in ("filename", "mimetype"):
            continue
        # A tag of how the source was coded is no longer true of what we encode.
        if is_reencoded and key.lower() in ("alpha_mode",):
            continue
        name = "title" if key == "name" else _spelling(key, container)
        if container != "mkv" and name.lower() not in _MOV_STREAM:
            lost.append(key)
            continue
        if name.lower() != "timecode":
            kept.setdefault(name, value)
    return kept, lost


def timecode_of(info: MediaInfo) -> str | None:
    """The start timecode: of the file, of the film's stream or of a timecode track."""
    places = [info.metadata, info.video.metadata, *(s.metadata for s in info.streams)]
    for tags in places:
        for key, value in tags.items():
            if key.lower() == "timecode":
                return value
    return None


def _spelling(key: str, container: str) -> str:
    """Matroska spells tags in capitals, mp4 and mov in small letters."""
    if container != "mkv" and key == key.upper():
        return key.lower()
    return key
