"""Image sequences in a run: what is particular about them before and while it runs.

A source of pictures is planned and read here instead of by probe, scan and `FrameReader`; a result
of pictures is written by `PictureWriter` into a folder of the work folder, needs no join, and takes
its names at the end (`picture_names`). In between a run of pictures is like any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from vsr.errors import ConfigError, DecodeError, OpenError
from vsr.frame import ColorSpec, Curve, Frame, Transfer, VideoInfo
from vsr.media.damage import DamageEvent
from vsr.media.probe import MediaInfo
from vsr.media.stills import (
    CONTAINER,
    KINDS,
    PictureSequence,
    PictureTarget,
    find_sequence,
    find_target,
    parse_rate,
)
from vsr.media.stills_read import PictureReader, probe_sequence, read_still
from vsr.media.streams import StreamAction, StreamPlan, plan_film_alone
from vsr.pipeline.scan import Scan
from vsr.pipeline.shots import CutDetector, thumbnail
from vsr.pipeline.timeline import Timeline

if TYPE_CHECKING:
    from vsr.config import UpscaleConfig
    from vsr.pipeline.plan import Plan, Segment, SourceDigest

WORK_NAME = "pictures"
"""Folder of a result's pictures in the work folder."""
_DIGEST_BYTES = 1 << 20
_CURVE_NOTES: dict[Curve, str] = {
    "none": "",
    "linear": "Linear light passes the sRGB curve, continued by a logarithm above 1, before the "
    "model",
    "density": "Film densities pass Cineon's curve (black 95, white 685, gamma 0.6) and the sRGB "
    "curve before the model",
}


class Pictures(BaseModel):
    """What of a run is pictures; nothing when source and result are video files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: PictureSequence | None = None
    target: PictureTarget | None = None
    curve_in: Curve = "none"
    """From the source's codes to what the model sees."""
    curve_out: Curve = "none"
    """Its inverse is laid on what the model makes."""

    @property
    def is_used(self) -> bool:
        return self.source is not None or self.target is not None

    @property
    def container(self) -> str | None:
        """Kind of the result's pictures, in place of a container; None for a film."""
        return None if self.target is None else self.target.kind

    def color_out(self, color: ColorSpec) -> ColorSpec:
        """What the codes of the result mean, from what the source's do."""
        if self.curve_in == "density" and self.curve_out == "density":
            # No tag says printing density, and any other would make players show it wrong.
            return replace(color, transfer=Transfer.UNSPECIFIED)
        if self.curve_in != self.curve_out and self.curve_out == "none":
            return replace(color, transfer=Transfer.SRGB)
        return color

    def result_path(self, folder: Path) -> Path:
        """Where in the work folder the pictures are made."""
        return folder / WORK_NAME


def find_pictures(source: Path, output: Path, config: UpscaleConfig) -> Pictures:
    """Whether source and result are sequences, and which; opens no file.

    Raises:
        ConfigError: a frame rate for a video, or an output folder that does not say what to write.
        OpenError, UnsupportedVideoError: the sequence has gaps or names of several forms.
    """
    rate = parse_rate(config.frame_rate)
    sequence = find_sequence(source, frame_rate=rate)
    if sequence is None and rate is not None:
        raise ConfigError(
            "--frame-rate is for image sequences: a video has times of its own",
            hint="leave it out",
        )
    target = find_target(output, sequence)
    if target is not None and sequence is not None:
        same_folder = target.folder.resolve() == sequence.folder.resolve()
        if same_folder and target.names == sequence.names:
            raise ConfigError(
                f"the output {str(output)!r} is the source itself", hint="choose another name"
            )
    return Pictures(source=sequence, target=target)


def probe_pictures(source: Path, pictures: Pictures) -> MediaInfo:
    """Describe a sequence as `probe` does a video."""
    assert pictures.source is not None
    return probe_sequence(source, pictures.source)


def add_curves(pictures: Pictures, info: VideoInfo) -> tuple[Pictures, tuple[str, ...]]:
    """Choose the curves around the model; with one sentence on each.

    The result of pictures of densities stays in densities, whatever it is written to: they are
    codes like others. Linear light stays linear in OpenEXR alone; every other kind and video holds
    codes for display, so there the curve stays on.
    """
    curve_in: Curve = "none"
    if pictures.source is not None and read_still(pictures.source.path(0)).is_log:
        curve_in = "density"
    elif info.color.transfer is Transfer.LINEAR:
        curve_in = "linear"
    target = pictures.target
    is_linear_out = target is not None and target.kind == "exr"
    curve_out: Curve = "linear" if is_linear_out else "none"
    if curve_in == "density" and not is_linear_out:
        curve_out = "density"
    same_kind = pictures.source is not None and target is not None
    if curve_in == "linear" and same_kind and not info.layout.is_float and not is_linear_out:
        curve_out = "linear"
    notes = []
    if curve_in != "none":
        after = ", and its inverse after" if curve_out == curve_in else ""
        notes.append(f"{_CURVE_NOTES[curve_in]}{after}.")
    if curve_out != curve_in:
        notes.append(
            "The result is made linear light by the inverse of the sRGB curve."
            if curve_out == "linear"
            else "The result stays coded for display: sRGB."
        )
    return pictures.model_copy(update={"curve_in": curve_in, "curve_out": curve_out}), tuple(notes)


def picture_streams(info: MediaInfo, container: str) -> StreamPlan | None:
    """The stream plan where source or result is a sequence, of nothing but the film; else None."""
    if info.container == CONTAINER and container not in KINDS:
        return _film_streams(info, container)
    if container not in KINDS:
        return None
    return plan_film_alone(
        info,
        container,
        why="upscaled",
        why_not="pictures hold nothing else",
        # A header's timecode travels with its picture.
        metadata=dict(info.video.metadata) if container == info.video.codec else None,
        dropped_tags=tuple(info.metadata),
    )


def _film_streams(info: MediaInfo, container: str) -> StreamPlan:
    """The stream plan of a video made of pictures: there is nothing but the film."""
    timecode = info.video.metadata.get("timecode")
    return StreamPlan(
        container=container,
        actions=(
            StreamAction(
                index=0, kind="video", codec=info.video.codec, action="video", reason="upscaled"
            ),
        ),
        chapters=False,
        metadata={} if timecode is None else {"timecode": timecode},
    )


def picture_losses(info: MediaInfo, pictures: Pictures) -> tuple[str, ...]:
    """What pictures cannot hold of a source, and a result not of its pictures' headers."""
    losses: list[str] = []
    if pictures.source is not None:
        header = read_still(pictures.source.path(0)).header
        losses += header.losses
        target = pictures.target
        if header.carried and (target is None or target.kind != pictures.source.kind):
            losses.append(f"what the {pictures.source.kind} headers say besides the picture")
    elif pictures.target is not None:
        losses.append("the time of each frame (pictures are only counted)")
        losses += [f"{len(info.chapters)} chapters"] if info.chapters else []
        if info.video.rotation:
            losses.append("the display matrix")
    return tuple(losses)


def scan_pictures(
    sequence: PictureSequence,
    info: VideoInfo,
    *,
    decode_threads: int,
    on_frame: Callable[[int], None] | None = None,
) -> Scan:
    """Read the whole sequence once: its timeline and the first frames of its shots.

    Raises:
        MediaError: a picture cannot be read or is of another size or format; it is named.
    """
    detector = CutDetector()
    num_read = 0
    with PictureReader(sequence, info=info, threads=decode_threads) as reader:
        for frame in reader:
            detector.push(thumbnail(frame))
            num_read += 1
            if on_frame is not None:
                on_frame(num_read)
    return Scan(
        timeline=Timeline.from_frames(range(num_read), [1] * num_read),
        sources=tuple(range(num_read)),
        cuts=detector.finish(),
        decode_threads=decode_threads,
        events=(),
        num_decoded=num_read,
    )


class PictureSource:
    """The frames of a segment of a sequence."""

    damage: tuple[DamageEvent, ...] = ()

    def __init__(self, plan: Plan, segment: Segment) -> None:
        self._plan = plan
        self._pts = plan.read_pts(segment.index)

    def frames(self) -> Iterator[Frame]:
        """Read in the thread that iterates, ahead of it in others."""
        plan, sequence = self._plan, self._plan.pictures.source
        assert sequence is not None
        with PictureReader(
            sequence,
            info=plan.video,
            threads=plan.decode_threads,
            start_pts=self._pts[0],
            end_pts=self._pts[-1] + 1,
        ) as reader:
            wanted = iter(self._pts)
            pts = next(wanted, None)
            for frame in reader:
                if frame.layout != plan.layout_in:
                    raise _changed(sequence.path(frame.pts))
                if frame.pts == pts:
                    yield frame
                    pts = next(wanted, None)


def _changed(path: Path) -> DecodeError:
    return DecodeError(
        f"{path} is another picture than when the run was planned.",
        hint="it has changed since; start again",
    )


def digest_pictures(sequence: PictureSequence) -> SourceDigest:
    """Read what identifies a sequence: names, sizes, and the first and last picture.

    Raises:
        OpenError: a file is gone.
    """
    from vsr.pipeline.plan import SourceDigest

    digest = hashlib.sha256()
    size, newest = 0, 0
    try:
        for path in sequence.paths():
            status = path.stat()
            size += status.st_size
            newest = max(newest, status.st_mtime_ns)
            digest.update(f"{path.name}\0{status.st_size}\0".encode("utf-8", "surrogateescape"))
        with sequence.path(0).open("rb") as file:
            digest.update(file.read(_DIGEST_BYTES))
        with sequence.path(sequence.count - 1).open("rb") as file:
            last = hashlib.sha256(file.read(_DIGEST_BYTES))
    except OSError as error:
        raise OpenError(f"{sequence.folder} cannot be read: {error.strerror}.") from error
    return SourceDigest(
        size_bytes=size,
        mtime_ns=newest,
        head_sha256=digest.hexdigest(),
        tail_sha256=last.hexdigest(),
    )
