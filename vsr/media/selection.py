"""Which streams of a source are wanted: `--map`, `--audio` and `--subs`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vsr.errors import ConfigError
from vsr.media.probe import MediaInfo

_ENTRY = re.compile(r"(-?)(?:0:)?(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the user narrowed the source down to; the default keeps everything."""

    audio: str = "all"
    """`all`, `none`, or a comma-separated choice of languages (`eng`) and of positions among the
    audio streams, from 0."""
    subs: str = "all"
    """The same for subtitles."""
    only: frozenset[int] | None = None
    """Indices of the only streams to keep besides the film; None: no such limit."""
    without: frozenset[int] = frozenset()
    """Indices of streams to leave out."""

    def __post_init__(self) -> None:
        assert self.only is None or not self.only & self.without


def parse_map(text: str | int | None) -> tuple[frozenset[int] | None, frozenset[int]]:
    """Read `0,2` (only these) or `-3` (all but this); FFmpeg's spelling `0:2` is the same as `2`.

    Returns:
        Indices to keep (None for all) and indices to leave out.

    Raises:
        ConfigError: anything else, or a stream both kept and left out.
    """
    if text is None:
        return None, frozenset()
    only: set[int] = set()
    without: set[int] = set()
    for word in (part.strip() for part in str(text).split(",")):
        found = _ENTRY.fullmatch(word)
        if found is None:
            raise ConfigError(
                f"map {word!r} is not the index of a stream",
                hint="0,2 keeps only streams 0 and 2, -3 leaves stream 3 out; see `vsr probe`",
            )
        (without if found[1] else only).add(int(found[2]))
    if only & without:
        raise ConfigError(f"map {text!r} both keeps and leaves out {sorted(only & without)}")
    return frozenset(only) if only else None, frozenset(without)


def wanted_streams(info: MediaInfo, selection: Selection) -> frozenset[int]:
    """Indices of all streams the user wants, the film included.

    Raises:
        ConfigError: a choice that matches no stream, or the film left out.
    """
    indices = {stream.index for stream in info.streams}
    unknown = ((selection.only or frozenset()) | selection.without) - indices
    if unknown:
        raise ConfigError(
            f"the source has no stream {min(unknown)}; its streams are 0 to {max(indices)}",
            hint="see `vsr probe`",
        )
    film = info.video.stream_index
    if film in selection.without:
        raise ConfigError(
            f"stream {film} is the film and cannot be left out",
            hint="name another video stream in map to make that one the film",
        )
    kept = indices if selection.only is None else set(selection.only) & indices
    kept -= selection.without
    for kind, choice in (("audio", selection.audio), ("subtitle", selection.subs)):
        all_of_kind = {s.index for s in info.streams if s.kind == kind}
        kept -= all_of_kind - _chosen(info, kind, choice)
    return frozenset(kept | {film})


def film_index(info: MediaInfo, selection: Selection) -> int | None:
    """The video stream that the selection names as the film; None when it names none.

    Raises:
        ConfigError: it names two.
    """
    if selection.only is None:
        return None
    films = [
        s.index
        for s in info.streams
        if s.index in selection.only and s.kind == "video" and not s.is_cover_art
    ]
    if len(films) > 1:
        raise ConfigError(
            f"map names the video streams {films}, but a result holds one film",
            hint="name one of them",
        )
    return films[0] if films else None


def _chosen(info: MediaInfo, kind: str, choice: str) -> set[int]:
    """Indices of the streams of a kind that the user wants."""
    streams = [s for s in info.streams if s.kind == kind]
    if choice == "all":
        return {s.index for s in streams}
    if choice == "none":
        return set()
    chosen: set[int] = set()
    for word in (w.strip() for w in choice.split(",")):
        found = {
            s.index
            for position, s in enumerate(streams)
            if word == str(position) or word == (s.language or "und")
        }
        if not found:
            known = ", ".join(f"{n}:{s.language or 'und'}" for n, s in enumerate(streams))
            raise ConfigError(
                f"no {kind} stream matches {word!r}; the source has {known or 'none'}"
            )
        chosen |= found
    return chosen
