"""Which container the result gets, under which name, and whether its losses are accepted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from vsr.config import UpscaleConfig
from vsr.errors import ConfigError, LossRefusedError
from vsr.frame import ColorSpec, VideoInfo
from vsr.media.codecs import CONTAINER_FORMATS, PROFILES, check_container, find_codec
from vsr.media.codecs import same_codec as codec_of_source
from vsr.media.probe import MediaInfo, probe
from vsr.media.selection import Selection, film_index, parse_map
from vsr.media.settings import EncoderSettings, resolve_settings
from vsr.media.stills import KINDS
from vsr.media.stills_write import picture_settings
from vsr.media.streams import StreamPlan, plan_streams
from vsr.media.y4m import CONTAINER, y4m_settings, y4m_streams

RAW = CONTAINER
"""What raw pictures are called where a container is named."""
STDOUT = "-"
_REFUSED = {
    ".mxf": "MXF is not written: it takes only 48 kHz PCM sound and a few frame rates, and loses "
    "subtitles, chapters and tags",
    ".webm": "WebM is not written: it takes no other sound than Opus and Vorbis",
    ".avi": "AVI is not written: it holds no timestamps",
    ".ts": "MPEG-TS is not written: it loses chapters, tags and text subtitles",
}
"""Suffixes that mean a container one might expect, and why it is not offered."""
_INSTEAD = {".mxf": "for DNxHR with timecode use a name that ends in .mov and --codec dnxhr"}


@dataclass(frozen=True, slots=True)
class Settled:
    """Where the result goes."""

    output: Path
    container: str
    note: str | None = None
    """What was changed of the name asked for, and why."""


def choose_container(output: Path, config: UpscaleConfig) -> str:
    """`mkv`, `mp4`, `mov` or `y4m`, by the configuration or else by the output's name.

    Raises:
        ConfigError: the name tells none of them.
    """
    if str(output) == STDOUT:
        if config.container not in (None, "auto"):
            raise ConfigError(
                f"only raw pictures (y4m) can be written to stdout, not {config.container}",
                hint="name a file",
            )
        return RAW
    if config.container not in (None, "auto"):
        return str(config.container)
    container = container_of(output)
    if container is not None:
        return container
    if config.container == "auto":
        return "mkv"
    known = ", ".join(f".{name}" for name in (*CONTAINER_FORMATS, RAW))
    suffix = output.suffix.lower()
    raise ConfigError(
        _REFUSED.get(suffix, f"cannot tell the container from the output name {output.name!r}"),
        hint=_INSTEAD.get(suffix, f"use a name that ends in one of {known}"),
    )


def container_of(output: Path) -> str | None:
    """The container that a name's suffix says, if any."""
    suffix = output.suffix.lower().removeprefix(".")
    return suffix if suffix in (*CONTAINER_FORMATS, RAW) else None


def streams_for(info: MediaInfo, container: str, config: UpscaleConfig) -> StreamPlan:
    """The stream plan for a container, narrowed as the configuration says.

    Raises:
        ConfigError: a choice that matches no stream.
        OpenError: the source cannot be opened any more.
    """
    if container == RAW:
        return y4m_streams(info)
    only, without = parse_map(config.map)
    return plan_streams(
        info,
        container,
        audio=str(config.audio),
        subs=str(config.subs),
        only=only,
        without=without,
    )


def probe_film(source: Path, config: UpscaleConfig) -> MediaInfo:
    """Describe a source; its film is the video stream that `map` names, if it names one.

    Raises:
        MediaError: the source cannot be used.
        ConfigError: `map` names two video streams.
    """
    info = probe(source)
    only, without = parse_map(config.map)
    named = film_index(info, Selection(only=only, without=without))
    if named is None or named == info.video.stream_index:
        return info
    return probe(source, stream_index=named)


def settle(output: Path, config: UpscaleConfig, info: MediaInfo) -> Settled:
    """Decide container and name of the result.

    Without `container` the name decides, and is taken as it is; so it is when a container is named.
    Under `auto` the name only says what is asked for: when that container would lose something of
    the source that mkv keeps, or cannot hold the codec asked for, the result is mkv, and its name
    ends in .mkv instead (behind the name, when that ends in no container's suffix).

    Args:
        output: name asked for.
        config: what is asked for.
        info: the source.

    Raises:
        ConfigError: the name tells no container.
    """
    container = choose_container(output, config)
    if config.container != "auto" or container == RAW:
        return Settled(output, container)
    why = None if container == "mkv" else _why_mkv(container, config, info)
    if why is not None:
        container = "mkv"
    named = container_of(output)
    if named == container:
        return Settled(output, container)
    if named is None:
        renamed = output.with_name(f"{output.name}.{container}")
        return Settled(renamed, container, f"The result is {container}: {renamed.name}.")
    renamed = output.with_suffix(f".{container}")
    return Settled(
        renamed, container, f"The result is mkv and named {renamed.name}: {named} {why}."
    )


def refuse_losses(losses: tuple[str, ...], container: str) -> None:
    """Raise when there are any.

    Raises:
        LossRefusedError: naming them all.
    """
    if losses:
        hint = "leave out --strict to accept that"
        if container != "mkv":
            hint = f"mkv holds most; or {hint}"
        raise LossRefusedError(f"the result would lack: {'; '.join(losses)}", hint=hint)


def _why_mkv(container: str, config: UpscaleConfig, info: MediaInfo) -> str | None:
    """Why mkv is to be preferred, or None."""
    codec = _codec_name(config, info)
    if config.profile == "preservation":
        return "is not for preservation"
    if codec is not None:
        try:
            check_container(find_codec(codec), container)
        except ConfigError:
            return f"cannot hold {codec}"
    asked = streams_for(info, container, config).losses
    kept = set(streams_for(info, "mkv", config).losses)
    lost = [loss for loss in asked if loss not in kept]
    return f"would lose {'; '.join(lost)}" if lost and len(asked) > len(kept) else None


def _codec_name(config: UpscaleConfig, info: MediaInfo) -> str | None:
    """The codec that is asked for, as far as it is known now."""
    if config.same_codec:
        return codec_of_source(info.video.codec).user_name
    if config.codec is not None:
        return config.codec
    if config.profile in (None, "access"):
        return None
    return PROFILES[str(config.profile)][0]


def encoder_settings(
    config: UpscaleConfig,
    *,
    info: VideoInfo,
    color: ColorSpec,
    width: int,
    height: int,
    threads: int,
    container: str,
    sample_aspect_ratio: Fraction | None = None,
) -> EncoderSettings:
    """The encoder's settings as the configuration asks for; arguments as `resolve_settings`.

    Raises:
        ConfigError: a name, value or option that the encoder or the container does not take.
    """
    if container in KINDS:
        _refuse_codec_wishes(config, f"{container} pictures leave nothing to choose")
        return picture_settings(
            KINDS[container],
            info=info,
            color=color,
            width=width,
            height=height,
            threads=threads,
            sample_aspect_ratio=sample_aspect_ratio,
        )
    if container != RAW:
        return resolve_settings(
            codec=config.codec,
            crf=config.crf,
            encoder_preset=config.encoder_preset,
            profile=config.profile,
            info=info,
            color=color,
            width=width,
            height=height,
            threads=threads,
            container=container,
            sample_aspect_ratio=sample_aspect_ratio,
            options=config.encoder_options,
            same_codec=config.same_codec,
        )
    _refuse_codec_wishes(config, "y4m holds raw pictures")
    if config.rotate == "bake":
        info = replace(info, display_matrix=None)
    return y4m_settings(info, color, width, height, sample_aspect_ratio)


def _refuse_codec_wishes(config: UpscaleConfig, why: str) -> None:
    given = {
        "codec": config.codec,
        "profile": config.profile,
        "crf": config.crf,
        "encoder preset": config.encoder_preset,
        "same-codec": config.same_codec or None,
        "encoder option": config.encoder_options or None,
    }
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"{why}, so {name} {value} has no meaning")
