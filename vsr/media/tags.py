"""Tags: which of the source's are carried over, and which a container can hold."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from functools import cache

import av

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
        *("gapless_playback", "encoding_tool", "media_type", "hd_video", "track", "disc"),
    }
)
"""Tags that mp4 holds without the list of free keys."""

_MOV_STREAM = frozenset({"language", "title", "name", "handler_name", "creation_time", "timecode"})
"""All that a track of mp4 or mov holds."""

_TERMINOLOGIC = "bod ces cym deu ell eus fas fra hye isl kat mkd mri msa mya nld ron slk sqi zho"
_BIBLIOGRAPHIC = "tib cze wel ger gre baq per fre arm ice geo mac mao may bur dut rum slo alb chi"
_OTHER_CODE = {
    code: other
    for one, two in zip(_TERMINOLOGIC.split(), _BIBLIOGRAPHIC.split(), strict=True)
    for code, other in ((one, two), (two, one))
}
"""ISO 639-2: the two codes of one language. mov knows one of them at most."""


def is_about_the_file(name: str) -> bool:
    """Whether a tag describes the source file, not the film: such a tag is never carried over."""
    return _ABOUT_THE_FILE.fullmatch(name) is not None


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
        if is_about_the_file(key):
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
        if is_about_the_file(key) or key.lower() in ("filename", "mimetype"):
            continue
        # A tag of how the source was coded is no longer true of what we encode.
        if is_reencoded and key.lower() in ("alpha_mode",):
            continue
        name = "title" if key == "name" else _spelling(key, container)
        if container != "mkv" and name.lower() not in _MOV_STREAM:
            lost.append(key)
            continue
        if container == "mov" and name.lower() == "language":
            language = mov_language(value)
            if language is None:
                lost.append(f"{key} {value}")
                continue
            value = language
        if name.lower() != "timecode":
            kept.setdefault(name, value)
    return kept, lost


@cache
def mov_language(language: str) -> str | None:
    """How mov spells a language, or None when it has no number for it.

    QuickTime numbers its languages, and FFmpeg writes an unknown one as none at all, so this is
    found out by writing it.
    """
    if language in ("", "und"):
        return language
    for candidate in filter(None, (language, _OTHER_CODE.get(language))):
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mov") as trial:
            stream = trial.add_stream("pcm_s16le", rate=8000)
            stream.metadata["language"] = candidate
            silence = av.Packet(bytes(4))
            silence.pts = silence.dts = 0
            silence.stream = stream
            trial.mux_one(silence)
        buffer.seek(0)
        with av.open(buffer, format="mov") as written:
            if any(s.language == candidate for s in written.streams):
                return candidate
    return None


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
