"""What a run would do, without doing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from vsr.config import UpscaleConfig
from vsr.errors import VsrError
from vsr.media.inventory import all_losses, inventory
from vsr.media.probe import MediaInfo
from vsr.media.settings import EncoderSettings
from vsr.media.streams import StreamPlan
from vsr.media.y4m import CONTAINER as RAW
from vsr.pipeline.container import Settled, choose_container, probe_film, settle
from vsr.pipeline.estimate import Estimate, estimate
from vsr.pipeline.output import refuse_output, refuse_same_file
from vsr.pipeline.picture_names import refuse_existing
from vsr.pipeline.pictures import find_pictures, probe_pictures
from vsr.pipeline.planning import make_plan, outline
from vsr.pipeline.upscale import OnProgress, Progress


class Preview(BaseModel):
    """A run as planned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    result: str
    container: str
    width: int
    height: int
    frames: int | None
    """Counted if the source was read, else as its container says; None when it does not."""
    is_counted: bool
    codec: str
    pixel_format: str
    encoder_options: dict[str, str]
    model: str
    device: str
    streams: tuple[str, ...]
    """What becomes of each stream, one line each."""
    items: tuple[str, ...]
    """What becomes of chapters, tags, dispositions and side data, one line each."""
    losses: tuple[str, ...]
    notes: tuple[str, ...]
    plan: list[dict[str, Any]]
    """All that again, as the result of the run will say it."""
    estimate: Estimate | None = None
    """Of time and disk space; None when it was not asked for or could not be made."""


def preview(
    source: Path,
    output: Path,
    config: UpscaleConfig,
    *,
    read_source: bool,
    progress: OnProgress | None = None,
) -> Preview:
    """Plan a run and write nothing, but for a piece of it that is measured and thrown away.

    Args:
        source: the film.
        output: name of the result.
        config: what is asked for.
        read_source: decode the whole film, as the run would: counts frames, finds damage and looks
            at fields. Otherwise only its first frames are read, and time and space estimated.
        progress: as for `upscale`.

    Raises:
        VsrError: as `upscale` does before it starts.
    """
    pictures = find_pictures(source, output, config)
    container = pictures.container or choose_container(output, config)
    is_stdout = str(output) == "-"
    if not is_stdout:
        refuse_same_file(source, output)
    sequence, target = pictures.source, pictures.target
    info = probe_film(source, config) if sequence is None else probe_pictures(source, pictures)
    is_film = not pictures.is_used
    settled = settle(output, config, info) if is_film else Settled(output, container)
    if target is not None:
        count = None if sequence is None else sequence.count
        refuse_existing(target, overwrite=config.overwrite, count=count)
    elif not is_stdout:
        refuse_same_file(source, settled.output)
        refuse_output(settled.output, overwrite=config.overwrite)
    extra = (settled.note,) if settled.note is not None and container != RAW else ()
    tell = progress or (lambda _: None)
    if read_source:
        num_declared = info.video.num_frames
        plan = make_plan(
            source,
            settled.output,
            config,
            info=info,
            pictures=pictures,
            on_frame=lambda done: tell(Progress("scan", done, num_declared)),
        )
        decided = _parts(info, plan.streams, plan.encoder, (*extra, *plan.notes))
        return Preview(
            source=str(source),
            result=str(settled.output),
            frames=plan.num_frames,
            is_counted=True,
            model=plan.model.id,
            device=plan.compute.device,
            **decided,
        )
    known = outline(info, settled.output, config, pictures)
    guess = None
    try:
        if is_film:
            guess = estimate(source, settled.output, info, known)
    except VsrError as error:
        extra = (*extra, f"Time and space could not be estimated: {error}")
    return Preview(
        source=str(source),
        result=str(settled.output),
        frames=info.video.num_frames,
        is_counted=False,
        model=known.model.id,
        device=known.compute.device,
        estimate=guess,
        **_parts(info, known.streams, known.encoder, (*extra, *known.notes)),
    )


def _parts(
    info: MediaInfo, streams: StreamPlan, encoder: EncoderSettings, notes: tuple[str, ...]
) -> dict[str, Any]:
    """What both kinds of preview say the same way."""
    items = inventory(info, streams, encoder)
    return {
        "container": streams.container,
        "width": encoder.width,
        "height": encoder.height,
        "codec": encoder.codec,
        "pixel_format": encoder.pixel_format,
        "encoder_options": encoder.options,
        "streams": tuple(str(action) for action in streams.actions),
        "items": tuple(str(item) for item in items),
        "losses": all_losses(info, streams, encoder),
        "notes": notes,
        "plan": [
            *(action.model_dump() for action in streams.actions),
            *(item.model_dump() for item in items),
            *({"note": note} for note in notes),
        ],
    }
