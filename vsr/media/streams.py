"""The stream plan: what of the source is kept, converted or dropped, and why.

It is made before the first frame: every stream is muxed for trial into a container of the asked
kind in memory, because one stream that a container refuses costs the whole file.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from pydantic import BaseModel, ConfigDict

from vsr.errors import ConfigError
from vsr.media.codecs import CONTAINER_FORMATS
from vsr.media.dispositions import lost_dispositions
from vsr.media.probe import AV_ERRORS, MediaInfo, StreamInfo, open_input
from vsr.media.selection import Selection, wanted_streams
from vsr.media.tags import container_tags, stream_tags, timecode_of

logger = logging.getLogger(__name__)

TEXT_SUBTITLES = frozenset(
    {"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text", "ttml", "microdvd", "subviewer"}
)
"""Decoder names of subtitles that are text, and so can be written in another dialect of it."""
_MAX_TRIAL_PACKETS = 4000
_COVER_TYPES = {"png": "image/png", "mjpeg": "image/jpeg", "bmp": "image/bmp", "gif": "image/gif"}

Action = Literal["keep", "convert", "drop", "video"]


class StreamAction(BaseModel):
    """What becomes of one stream of the source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int
    kind: str
    codec: str
    action: Action
    target_codec: str | None = None
    """Codec of the result where it is converted; `attachment` for cover art kept as one."""
    reason: str = ""
    is_loss: bool = False
    """True when the result lacks something a viewer of the source could have had."""

    def __str__(self) -> str:
        what = f"{self.kind} {self.index} ({self.codec}): {self.action}"
        target = f" to {self.target_codec}" if self.target_codec else ""
        return f"{what}{target}{f' ({self.reason})' if self.reason else ''}"


class StreamPlan(BaseModel):
    """What becomes of everything in the source besides the pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    container: str
    actions: tuple[StreamAction, ...]
    """One for every stream of the source, in its order."""
    chapters: bool
    """Whether the source's chapters are written."""
    metadata: dict[str, str]
    """Tags of the whole file that are written."""
    stream_metadata: dict[int, dict[str, str]] = {}
    """Tags of each kept stream, by source index."""
    dropped_tags: tuple[str, ...] = ()
    """Tags the container has no place for."""
    dropped_dispositions: tuple[str, ...] = ()
    """Dispositions of kept streams that the container has no place for, such as
    `lyrics of audio 2`."""
    use_metadata_keys: bool = False
    """mp4 and mov: write tags of any name. Excludes cover art in mp4."""

    @property
    def losses(self) -> tuple[str, ...]:
        """What `--strict` would refuse, one line each."""
        lost = [str(action) for action in self.actions if action.is_loss]
        return (
            *lost,
            *(f"tag {tag}: {self.container} cannot hold it" for tag in self.dropped_tags),
            *(
                f"disposition {name}: {self.container} cannot hold it"
                for name in self.dropped_dispositions
            ),
        )

    def of(self, index: int) -> StreamAction:
        """The action for the stream of that index in the source."""
        return next(action for action in self.actions if action.index == index)


def plan_film_alone(
    info: MediaInfo,
    container: str,
    *,
    why: str,
    why_not: str,
    metadata: dict[str, str] | None = None,
    dropped_tags: tuple[str, ...] = (),
) -> StreamPlan:
    """The stream plan of a result that can hold nothing but the film.

    Args:
        info: the source, as probed.
        container: name of the result's kind.
        why: said of the film.
        why_not: said of every other stream.
        metadata: tags that are written; None for none.
        dropped_tags: tags that have no place.
    """
    film = info.video.stream_index
    return StreamPlan(
        container=container,
        actions=tuple(
            StreamAction(
                index=stream.index,
                kind="cover" if stream.is_cover_art else stream.kind,
                codec=stream.codec,
                action="video" if stream.index == film else "drop",
                reason=why if stream.index == film else why_not,
                is_loss=stream.index != film,
            )
            for stream in info.streams
        ),
        chapters=False,
        metadata=metadata or {},
        dropped_tags=dropped_tags,
    )


def plan_streams(
    info: MediaInfo,
    container: str,
    *,
    audio: str = "all",
    subs: str = "all",
    only: frozenset[int] | None = None,
    without: frozenset[int] = frozenset(),
) -> StreamPlan:
    """Decide what becomes of every stream, chapter, tag and attachment of a source.

    Args:
        info: the source, as probed.
        container: `mkv`, `mp4` or `mov`.
        audio: `all`, `none`, or a comma-separated choice of languages (`eng`) and of positions
            among the audio streams, from 0.
        subs: the same for subtitles.
        only: indices of the only streams to keep besides the film; None: no such limit.
        without: indices of streams to leave out.

    Raises:
        ConfigError: an unknown container, or a choice that matches no stream.
        OpenError: the source cannot be opened any more.
    """
    if container not in CONTAINER_FORMATS:
        raise ConfigError(
            f"container {container!r} is not known; expected one of {', '.join(CONTAINER_FORMATS)}"
        )
    selection = Selection(audio=audio, subs=subs, only=only, without=without)
    wanted = wanted_streams(info, selection)
    with open_input(info.path) as source:
        packets = _first_packets(source, info)
        actions = tuple(
            _plan_one(info, stream, source, packets.get(stream.index), container, wanted)
            for stream in info.streams
        )
    has_cover = container == "mp4" and any(
        a.kind == "cover" and a.action == "keep" for a in actions
    )
    timecode = timecode_of(info)
    tags, lost = container_tags(info.metadata, container, any_key=not has_cover)
    tags = {key: value for key, value in tags.items() if key.lower() != "timecode"}
    if timecode is not None:
        if _takes_timecode(info, container, timecode):
            tags["timecode"] = timecode
        else:
            lost.append("timecode")
    per_stream: dict[int, dict[str, str]] = {}
    unset: list[str] = []
    for action, stream in zip(actions, info.streams, strict=True):
        if action.action == "drop" or action.kind == "attachment":
            continue
        is_video = action.action == "video"
        per_stream[stream.index], dropped = stream_tags(
            stream.metadata, container, is_reencoded=is_video or action.action == "convert"
        )
        lost += [f"{name} of {action.kind} {stream.index}" for name in dropped]
        unset += [
            f"{name} of {action.kind} {stream.index}"
            for name in lost_dispositions(stream, container)
        ]
    return StreamPlan(
        container=container,
        actions=actions,
        chapters=bool(info.chapters),
        metadata=tags,
        stream_metadata=per_stream,
        dropped_tags=tuple(lost),
        dropped_dispositions=tuple(unset),
        use_metadata_keys=container != "mkv" and not has_cover,
    )


def _plan_one(
    info: MediaInfo,
    stream: StreamInfo,
    source: InputContainer,
    packet: Packet[Stream] | None,
    container: str,
    wanted: frozenset[int],
) -> StreamAction:
    """Decide about one stream."""

    def say(
        action: Action,
        reason: str = "",
        *,
        is_loss: bool = False,
        target: str | None = None,
        kind: str = stream.kind,
    ) -> StreamAction:
        return StreamAction(
            index=stream.index,
            kind=kind,
            codec=stream.codec,
            action=action,
            target_codec=target,
            reason=reason,
            is_loss=is_loss,
        )

    if stream.index == info.video.stream_index:
        return say("video", "upscaled and encoded again")
    if stream.index not in wanted:
        return say("drop", "not asked for")
    if stream.is_cover_art:
        return _plan_cover(stream, source, packet, container)
    if stream.kind == "video":
        return say("drop", "a result holds one film; another stream was chosen", is_loss=True)
    if stream.kind == "attachment":
        if container == "mkv":
            return say("keep")
        return say("drop", f"{container} cannot hold attachments", is_loss=True)
    if stream.kind not in ("audio", "subtitle"):
        if "timecode" in stream.metadata:
            return say("drop", "kept as the timecode tag")
        if info.chapters and stream.codec in ("bin_data", "text"):
            return say("drop", "the chapter track; chapters are written anew")
        return say("drop", f"{stream.kind} streams cannot be copied", is_loss=True)
    if not stream.has_decoder:
        return say("drop", "the codec is unknown", is_loss=True)
    refusal = _refusal(source.streams[stream.index], packet, container)
    if refusal is None:
        return say("keep")
    if stream.kind == "audio" and not (stream.channels and stream.sample_rate):
        return say("drop", "nothing tells how many channels it has, or its rate", is_loss=True)
    if stream.kind == "audio":
        return say("convert", f"{container} refuses {stream.codec}", is_loss=True, target="aac")
    if stream.codec in TEXT_SUBTITLES:
        target = "subrip" if container == "mkv" else "mov_text"
        why = f"{container} has no {stream.codec}"
        is_styled = stream.codec in ("ass", "ssa")
        why += "; fonts and places are lost" if is_styled else ""
        return say("convert", why, is_loss=is_styled, target=target)
    return say("drop", f"{container} cannot hold {stream.codec} ({refusal})", is_loss=True)


def _plan_cover(
    stream: StreamInfo, source: InputContainer, packet: Packet[Stream] | None, container: str
) -> StreamAction:
    """Cover art: an attachment in mkv, a tag in mp4, nothing in mov."""
    action: Action = "keep"
    target: str | None = None
    reason = ""
    if packet is None:
        action, reason = "drop", "the picture is empty"
    elif container == "mkv":
        target = "attachment"
        if stream.codec not in _COVER_TYPES and "mimetype" not in stream.metadata:
            action, reason, target = "drop", f"no media type for {stream.codec}", None
    elif container == "mov":
        action, reason = "drop", "mov loses cover art"
    else:
        refusal = _refusal(source.streams[stream.index], packet, container)
        if refusal is not None:
            action, reason = "drop", f"mp4 cannot hold {stream.codec} as cover ({refusal})"
    return StreamAction(
        index=stream.index,
        kind="cover",
        codec=stream.codec,
        action=action,
        target_codec=target,
        reason=reason,
        is_loss=action == "drop",
    )


def cover_name(stream: StreamInfo) -> tuple[str, str]:
    """File name and media type of cover art as an attachment."""
    default = _COVER_TYPES.get(stream.codec, "application/octet-stream")
    mimetype = stream.metadata.get("mimetype", default)
    extension = {"image/jpeg": "jpg"}.get(mimetype, mimetype.rpartition("/")[2])
    return stream.metadata.get("filename", f"cover.{extension}"), mimetype


def _first_packets(source: InputContainer, info: MediaInfo) -> dict[int, Packet[Stream]]:
    """The first packet of each stream that is to be tried; the film's own are skipped."""
    wanted = [
        s
        for s in source.streams
        if s.type in ("audio", "subtitle", "video") and s.index != info.video.stream_index
    ]
    missing = {s.index for s in wanted}
    found: dict[int, Packet[Stream]] = {}
    if not wanted:
        return found
    try:
        for number, packet in enumerate(source.demux(wanted)):
            if number >= _MAX_TRIAL_PACKETS or not missing:
                break
            if packet.size and packet.stream_index in missing:
                missing.discard(packet.stream_index)
                found[packet.stream_index] = packet
    except AV_ERRORS as error:
        logger.warning("the source could not be read far enough to try its streams: %s", error)
    return found


def _refusal(stream: Stream, packet: Packet[Stream] | None, container: str) -> str | None:
    """Why the container does not take this stream; None when it does."""
    try:
        with trial_container(container) as trial:
            target = trial.add_stream_from_template(stream, opaque=True)
            target.disposition = stream.disposition
            trial.start_encoding()
            if packet is not None:
                packet.stream = target
                trial.mux_one(packet)
    except AV_ERRORS as error:
        return str(error) or type(error).__name__
    return None


def _takes_timecode(info: MediaInfo, container: str, timecode: str) -> bool:
    """Whether the container can count this timecode at the film's rate: mp4 and mov keep frames."""
    if container == "mkv":
        return True
    try:
        with trial_container(container) as trial:
            stream = trial.add_stream("libx264", rate=info.video.frame_rate or 25)
            stream.width = stream.height = 64
            trial.metadata["timecode"] = timecode
            trial.start_encoding()
    except AV_ERRORS as error:
        logger.debug("timecode %s refused: %s", timecode, error)
        return False
    return True


@contextmanager
def trial_container(container: str) -> Iterator[OutputContainer]:
    """An output container of the asked kind, in memory."""
    trial = av.open(io.BytesIO(), "w", format=CONTAINER_FORMATS[container])
    try:
        yield trial
    except BaseException:
        # A container whose header failed raises again on closing; the first error is the one.
        try:
            trial.close()
        except AV_ERRORS as error:
            logger.debug("closing a refused trial container: %s", error)
        raise
    trial.close()
