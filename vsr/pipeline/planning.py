"""Making a plan: what is known before a frame is read, and what reading them all adds.

Everything that depends on the machine, the source or what is asked for is settled here, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vsr.config import UpscaleConfig
from vsr.errors import ConfigError
from vsr.frame import ColorSpec, VideoInfo
from vsr.media.dolby import refuse_dolby_vision
from vsr.media.hardware import DecoderName
from vsr.media.inventory import all_losses
from vsr.media.probe import MediaInfo, probe
from vsr.media.settings import EncoderSettings, frame_multiple
from vsr.media.stills import KINDS
from vsr.media.streams import StreamPlan
from vsr.pipeline.chosen import plain_scale, plan_model
from vsr.pipeline.container import (
    RAW,
    choose_container,
    encoder_settings,
    refuse_losses,
    streams_for,
)
from vsr.pipeline.declared import Declared
from vsr.pipeline.decoder import plan_decoder
from vsr.pipeline.excerpt import last_end, take, wishes
from vsr.pipeline.geometry import GeometryPlan, change_notes, plan_geometry
from vsr.pipeline.isolate import WorkerPool
from vsr.pipeline.listen import scan_and_listen
from vsr.pipeline.pictures import (
    Pictures,
    add_curves,
    digest_pictures,
    picture_losses,
    picture_streams,
    scan_pictures,
)
from vsr.pipeline.plan import ComputePlan, GrainPlan, ModelPlan, Plan, digest_source, make_segments
from vsr.pipeline.request import installed_versions
from vsr.pipeline.retime import damage_limit, declare, refuse_coarse_clock, retimed
from vsr.pipeline.scan import Scan
from vsr.pipeline.split import Division


def make_plan(
    source: Path,
    output: Path,
    config: UpscaleConfig,
    *,
    info: MediaInfo | None = None,
    on_frame: Callable[[int], None] | None = None,
    pictures: Pictures | None = None,
    pool: WorkerPool | None = None,
) -> Plan:
    """Decide everything about a run; reads the whole source once, to find shots and times.

    Args:
        source: the film.
        output: name of the result; only its suffix matters here.
        config: what is asked for.
        info: the source, if it was probed already.
        on_frame: called while scanning with the number of frames read so far.
        pictures: image sequences among source and result, if any.
        pool: whose child reads the source; None starts one for it.

    Raises:
        LossRefusedError: `strict` was asked for, and the result would lack something.
        ConfigError: what is asked for contradicts itself or the source.
        MediaError: the source cannot be used.
        ModelError: the model cannot be used.
        DeviceError: the device is not there.
    """
    info = info or probe(source)
    video = info.video
    decided = outline(info, output, config, pictures)
    sequence = decided.pictures.source
    damage_limit(config.max_damage, 1)
    asked = wishes(config, info)
    decode_threads = config.threads or decoder_threads(video.height)
    if sequence is not None:
        found = scan_pictures(sequence, video, decode_threads=decode_threads, on_frame=on_frame)
    else:
        found = scan_and_listen(
            source,
            video,
            decode_threads=decode_threads,
            deinterlace=config.deinterlace,
            on_frame=on_frame,
            end_pts=last_end(asked, info),
            pool=pool,
            asked=asked,
            division=_division(decided, config),
        )
    decoder, decoder_notes = _decoder(source, video, found, decided, config, pool)
    model, blur_notes = _with_blur(decided.model, source, config)
    grain, grain_notes = _grain(source, config)
    encoder = retimed(decided.encoder, found)
    declared = declare(Declared(picture=decided.shape.declared), found, video)
    taken = take(asked, found, declared, info)
    refuse_coarse_clock(decided.container, taken.timeline, encoder.time_base)
    return Plan(
        versions=installed_versions(),
        source_path=source.absolute(),
        source=digest_source(source, found.packets)
        if sequence is None
        else digest_pictures(sequence),
        video=video,
        decode_threads=found.decode_threads,
        decoder=decoder,
        layout_in=video.layout,
        color_in=decided.color_in,
        model=model,
        scale=decided.scale,
        geometry=decided.shape.geometry,
        compute=decided.compute,
        encoder=encoder,
        container=decided.container,
        streams=decided.streams,
        provenance=config.provenance,
        declared=taken.declared,
        segments=make_segments(taken.timeline, taken.cuts, found.pieces),
        fallbacks=_fallbacks(decided.model),
        parts=taken.parts,
        queue_frames=config.engine.queue_frames,
        notes=(
            *decided.notes,
            *blur_notes,
            *grain_notes,
            *found.notes,
            *decoder_notes,
            *change_notes(found.events),
            *taken.notes,
        ),
        damage=found.events,
        num_damaged=found.num_damaged,
        interlace=found.interlace,
        concealed=found.concealed,
        grain=grain,
        pictures=decided.pictures,
    )


def _decoder(
    source: Path,
    video: VideoInfo,
    found: Scan,
    decided: Outline,
    config: UpscaleConfig,
    pool: WorkerPool | None,
) -> tuple[DecoderName, tuple[str, ...]]:
    """Which decoder reads the film, and what is to be said of it."""
    # Results of other kinds than segments cannot be begun again where a decoder fails.
    if decided.container == RAW or decided.pictures.is_used:
        return "software", ()
    return plan_decoder(
        source,
        video,
        found,
        device=decided.compute.device,
        wish=config.engine.decoder,
        pool=pool,
    )


def _with_blur(
    model: ModelPlan, source: Path, config: UpscaleConfig
) -> tuple[ModelPlan, tuple[str, ...]]:
    """The model told how the source was made small, where that is asked for.

    Raises:
        ConfigError: the model does not undo a blur, or nothing tells which.
    """
    if not config.blind:
        return model, ()
    # Here, because a process that only joins never needs torch.
    from vsr.pipeline.degradation import film_blur

    found = film_blur(source, model.scale) if source.is_file() else None
    if found is None:
        raise ConfigError(
            f"{source} does not tell by what blur it was made small", hint="leave --blind out"
        )
    note = f"The source was made small with a blur of {found.describe()}, as far as it tells."
    return model.model_copy(update={"blur": (found.major, found.minor, found.angle)}), (note,)


def _grain(source: Path, config: UpscaleConfig) -> tuple[GrainPlan | None, tuple[str, ...]]:
    """The grain to lay over the result, where that is asked for, and what is to be said of it.

    Raises:
        ConfigError: the source is not a file, or it is too small to show any.
    """
    if config.grain is None:
        return None, ()
    from vsr.pipeline.degradation import film_grain

    found = film_grain(source) if source.is_file() else None
    if found is None:
        raise ConfigError(f"{source} does not tell what grain it has", hint="leave --grain out")
    note = (
        f"Grain of {config.grain * found.codes:.1f} codes of 255 is laid over the result; the "
        f"source's was measured at {found.codes:.1f}."
    )
    sigmas = tuple(config.grain * sigma for sigma in found.sigmas)
    return GrainPlan(sigmas=sigmas, correlation=found.correlation), (note,)


def _division(decided: Outline, config: UpscaleConfig) -> Division | None:
    """How to split the film; None where it goes in one piece through whoever takes it."""
    if decided.container == RAW or decided.pictures.is_used:
        return None
    model = decided.model
    return Division(config.engine.segment_frames, warmup=model.warmup, context=model.context)


def _fallbacks(model: ModelPlan) -> tuple[str, ...]:
    """What makes the frames that the model fails at: always at hand, and never wrong."""
    # Here, because a bad source should be refused before torch has been loaded.
    from vsr.models.catalog import DEFAULTS

    last = f"bicubic-x{model.scale}"
    return (last,) if model.scale in DEFAULTS and model.id != last else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What of a plan is known before the source's frames have been read."""

    container: str
    model: ModelPlan
    compute: ComputePlan
    color_in: ColorSpec
    shape: GeometryPlan
    encoder: EncoderSettings
    streams: StreamPlan
    losses: tuple[str, ...]
    """What the result will lack of the source."""
    notes: tuple[str, ...]
    """As in the plan."""
    pictures: Pictures

    @property
    def scale(self) -> int | float:
        """As in the plan."""
        return plain_scale(self.shape.scale)


def outline(
    info: MediaInfo, output: Path, config: UpscaleConfig, pictures: Pictures | None = None
) -> Outline:
    """Decide what can be decided without reading frames: a matter of a second.

    Raises:
        LossRefusedError: `strict` was asked for, and the result would lack something.
        ConfigError: what is asked for contradicts itself or the source.
        ModelError: the model cannot be used.
        DeviceError: the device is not there.
    """
    pictures, curve_notes = add_curves(pictures or Pictures(), info.video)
    container = pictures.container or choose_container(output, config)
    video = info.video
    # Here, because a bad source should be refused before torch has been loaded.
    from vsr.color import check_convertible, complete

    refuse_dolby_vision(video)
    color_in, guesses = complete(video.color, video.width, video.height, video.layout)
    check_convertible(color_in, video.layout)
    shape = _plan_geometry(config, video, color_in, container)
    model, compute, notes = plan_model(config, shape)
    width, height = shape.geometry.width, shape.geometry.height
    encoder = encoder_settings(
        config,
        info=video,
        color=pictures.color_out(color_in),
        width=width,
        height=height,
        threads=config.threads or encoder_threads(height),
        container=container,
        sample_aspect_ratio=shape.geometry.sample_aspect_ratio,
    )
    streams = picture_streams(info, container) or streams_for(info, container, config)
    losses = (*all_losses(info, streams, encoder), *picture_losses(info, pictures))
    if config.strict:
        refuse_losses(losses, container)
    return Outline(
        container=container,
        model=model,
        compute=compute,
        color_in=color_in,
        shape=shape,
        encoder=encoder,
        streams=streams,
        losses=losses,
        notes=(
            *info.warnings,
            *guesses,
            *curve_notes,
            *shape.notes,
            *encoder.notes,
            *(f"Lost: {loss}." for loss in losses),
            *notes,
        ),
        pictures=pictures,
    )


def encoder_threads(height: int) -> int:
    """Encoder threads for a picture height: more for larger pictures, whatever the machine.

    Encoders write other bytes for other thread counts, so the machine must have no say.
    """
    return max(2, min(16, height // 180))


def decoder_threads(height: int) -> int:
    """Decoder threads for a picture height; small pictures decode fastest without handing over."""
    return max(1, min(8, height // 360))


def _plan_geometry(
    config: UpscaleConfig, video: VideoInfo, color: ColorSpec, container: str
) -> GeometryPlan:
    """Size, shape and orientation of the result."""
    from vsr.models.catalog import DEFAULTS
    from vsr.models.checkpoint import file_of, resolve_spec

    default_scale: float = config.scale
    is_open = "scale" not in config.model_fields_set
    if config.model is not None and is_open and file_of(config.model) is not None:
        # The name of a file does not say what it holds.
        default_scale = resolve_spec(config.model).scale
    multiple = (1, 1)
    if container != "y4m" and container not in KINDS:
        multiple = frame_multiple(
            codec=config.codec,
            profile=config.profile,
            info=video,
            color=color,
            same_codec=config.same_codec,
        )
    return plan_geometry(
        config,
        video,
        scale=Fraction(str(default_scale)),
        model_scales=sorted(DEFAULTS),
        multiple=multiple,
    )
