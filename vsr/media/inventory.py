"""Everything a source holds, and what becomes of each thing: the stream plan as a list.

Streams, attachments, chapters, tags, dispositions and side data each get a line, so that a reader
of the plan never has to conclude from silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from vsr.media.captions import CODECS_WITH_CAPTIONS
from vsr.media.dispositions import lost_dispositions
from vsr.media.probe import MediaInfo, StreamInfo
from vsr.media.settings import EncoderSettings
from vsr.media.streams import StreamPlan
from vsr.media.tags import is_about_the_file, timecode_of

What = Literal["stream", "attachment", "chapters", "tag", "disposition", "side data", "picture"]
Fate = Literal["keep", "convert", "drop"]

_SIDE_DATA: dict[str, tuple[Fate, str, bool]] = {
    "DISPLAYMATRIX": ("keep", "as a matrix, or by turning the pictures: --rotate", False),
    "SEI_UNREGISTERED": ("drop", "an encoder's message about itself", False),
    "GOP_TIMECODE": ("convert", "the start is kept as the timecode tag", False),
    "S12M_TIMECODE": ("convert", "the start is kept as the timecode tag", False),
    "MATRIXENCODING": ("drop", "belongs to sound", False),
    "MOTION_VECTORS": ("drop", "of the source's encoding", False),
    "VIDEO_ENC_PARAMS": ("drop", "of the source's encoding", False),
    "FILM_GRAIN_PARAMS": ("convert", "the decoder has drawn the grain", False),
    "AMBIENT_VIEWING_ENVIRONMENT": ("drop", "no encoder here can write it", True),
}
"""FFmpeg's name: what is done, why, and whether that is a loss. Others are dropped, as a loss."""


class PlanItem(BaseModel):
    """One thing of the source and what becomes of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: What
    name: str
    """Of the tag, disposition or side datum; kind and index of a stream."""
    action: Fate
    of: str = ""
    """What it belongs to: `file`, or a stream such as `audio 1`."""
    reason: str = ""
    is_loss: bool = False
    """`--strict` refuses it."""

    def __str__(self) -> str:
        owner = f" of {self.of}" if self.of not in ("", "file") else ""
        mark = " LOST" if self.is_loss and self.action == "drop" else ""
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.what} {self.name}{owner}: {self.action}{mark}{reason}"


def inventory(
    info: MediaInfo, plan: StreamPlan, settings: EncoderSettings | None = None
) -> tuple[PlanItem, ...]:
    """List everything besides the streams' packets, which `plan.actions` tells of.

    Args:
        info: the source.
        plan: what becomes of it.
        settings: of the encoder, if they are known: they say which side data survive.
    """
    return (
        *_chapters(info, plan),
        *_file_tags(info, plan),
        *(
            item
            for stream in info.streams
            if plan.of(stream.index).action != "drop" and stream.kind != "attachment"
            for item in (*_stream_tags(stream, plan), *_dispositions(stream, plan))
        ),
        *_side_data(info, plan, settings),
        *(
            PlanItem(what="picture", name=loss, action="drop", is_loss=True)
            for loss in (settings.losses if settings else ())
            # Told as side data already.
            if not loss.startswith("mastering display")
        ),
    )


def all_losses(
    info: MediaInfo, plan: StreamPlan, settings: EncoderSettings | None = None
) -> tuple[str, ...]:
    """What the result would lack of the source, one line each: what `--strict` refuses."""
    return (
        *(str(action) for action in plan.actions if action.is_loss),
        *(str(item) for item in inventory(info, plan, settings) if item.is_loss),
    )


def _chapters(info: MediaInfo, plan: StreamPlan) -> Iterator[PlanItem]:
    if info.chapters:
        yield PlanItem(
            what="chapters",
            name=str(len(info.chapters)),
            of="file",
            action="keep" if plan.chapters else "drop",
            is_loss=not plan.chapters,
        )


def _tag(name: str, of: str, written: Mapping[str, str], container: str) -> PlanItem:
    """One tag, looked up among those that are written."""
    if is_about_the_file(name):
        return PlanItem(
            what="tag", name=name, of=of, action="drop", reason="describes the source file itself"
        )
    if name in written:
        return PlanItem(what="tag", name=name, of=of, action="keep")
    renamed = next((key for key in written if key.lower() == name.lower()), None)
    if name == "name" and "title" in written:
        renamed = "title"
    if renamed is not None:
        reason = f"{container} spells it {renamed}"
        return PlanItem(what="tag", name=name, of=of, action="convert", reason=reason)
    return PlanItem(
        what="tag",
        name=name,
        of=of,
        action="drop",
        reason=f"{container} cannot hold it",
        is_loss=True,
    )


def _file_tags(info: MediaInfo, plan: StreamPlan) -> Iterator[PlanItem]:
    for name in info.metadata:
        yield _tag(name, "file", plan.metadata, plan.container)
    has_own = any(name.lower() == "timecode" for name in info.metadata)
    if timecode_of(info) is not None and not has_own:
        yield _tag("timecode", "file", plan.metadata, plan.container)


def _stream_tags(stream: StreamInfo, plan: StreamPlan) -> Iterator[PlanItem]:
    of = f"{plan.of(stream.index).kind} {stream.index}"
    written = plan.stream_metadata.get(stream.index, {})
    lost = {line.partition(" of ")[0].partition(" ")[0] for line in plan.dropped_tags}
    for name in stream.metadata:
        lower = name.lower()
        if lower in ("filename", "mimetype"):
            reason = "as the attachment's"
            yield PlanItem(what="tag", name=name, of=of, action="keep", reason=reason)
        elif lower == "timecode":
            yield _tag(name, of, plan.metadata, plan.container)
        elif lower == "alpha_mode" and name not in written and name not in lost:
            yield PlanItem(
                what="tag", name=name, of=of, action="drop", reason="of the source's encoding"
            )
        else:
            yield _tag(name, of, written, plan.container)


def _dispositions(stream: StreamInfo, plan: StreamPlan) -> Iterator[PlanItem]:
    of = f"{plan.of(stream.index).kind} {stream.index}"
    lost = lost_dispositions(stream, plan.container)
    for name in sorted(stream.disposition):
        is_lost = name in lost
        yield PlanItem(
            what="disposition",
            name=name,
            of=of,
            action="drop" if is_lost else "keep",
            reason=f"{plan.container} cannot hold it" if is_lost else "",
            is_loss=is_lost,
        )


def _side_data(
    info: MediaInfo, plan: StreamPlan, settings: EncoderSettings | None
) -> Iterator[PlanItem]:
    for kind in info.video.side_data_kinds:
        action, reason, is_loss = side_data_fate(kind, plan, settings)
        yield PlanItem(
            what="side data",
            name=kind,
            of=f"video {info.video.stream_index}",
            action=action,
            reason=reason,
            is_loss=is_loss,
        )


def side_data_fate(
    kind: str, plan: StreamPlan, settings: EncoderSettings | None
) -> tuple[Fate, str, bool]:
    """What becomes of a side datum of the film: action, reason, and whether that is a loss.

    Args:
        kind: FFmpeg's name, such as `A53_CC`.
        plan: of the other streams.
        settings: of the encoder; None while nobody knows.
    """
    codec = settings.codec if settings else "the encoder"
    if kind == "A53_CC":
        if settings is None or settings.codec in CODECS_WITH_CAPTIONS:
            return "keep", "closed captions, written into every picture", False
        return "drop", f"closed captions have no place in {codec}; h264 and hevc have one", True
    if kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"):
        is_mastering = kind.startswith("MASTERING")
        held = settings and (settings.mastering_display if is_mastering else settings.content_light)
        if settings is None or (held and settings.codec in _CODECS_WITH_HDR):
            return "keep", "static HDR metadata, written by the encoder", False
        return "drop", f"{codec} has no field for it", True
    if kind == "DISPLAYMATRIX" and plan.container == "y4m":
        is_lost = settings is not None and any("display matrix" in loss for loss in settings.losses)
        if is_lost:
            return "drop", "see the picture", False
        return "convert", "the pictures are turned", False
    if kind.endswith("_TIMECODE") and "timecode" not in plan.metadata:
        return "drop", "its timecode is not among the tags", True
    return _SIDE_DATA.get(kind, ("drop", f"nothing here can write it into {codec}", True))


_CODECS_WITH_HDR = frozenset({"libx264", "libx265", "libsvtav1"})
