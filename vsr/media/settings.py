"""The encoder settings of one run: decided once, tried once, written into the plan.

Everything that can change a byte of the encoded video is in `EncoderSettings`, which is plain data:
whoever reads it back encodes the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import av
import av.error
from av.codec.context import Flags, ThreadType
from av.video.codeccontext import VideoCodecContext
from pydantic import BaseModel, ConfigDict

from vsr.errors import ConfigError, DeviceError
from vsr.frame import (
    ColorSpec,
    ContentLight,
    MasteringDisplay,
    Matrix,
    PlaneLayout,
    VideoInfo,
)
from vsr.media.codecs import (
    CODECS,
    DNXHR_MIN_SIZE,
    PROFILES,
    CodecTraits,
    check_container,
    choose_layout,
    color_for,
    find_codec,
    is_hdr,
    needs_card,
    pixel_format_name,
    size_multiple,
    validate_options,
)
from vsr.media.codecs import same_codec as codec_of_source
from vsr.media.encoder_options import encoder_options
from vsr.media.options import merge_options, try_options

_MAX_RATE = Fraction(240)
_FALLBACK_RATE = Fraction(25)


class EncoderSettings(BaseModel):
    """Everything that can change a byte of the encoded video."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    codec: str
    """FFmpeg's encoder name, e.g. `libx264`."""
    pixel_format: str
    """FFmpeg's name of `layout`."""
    layout: PlaneLayout
    """How the planes of the frames to encode must be laid out."""
    color: ColorSpec
    """What the code values of the frames to encode must mean; written as tags."""
    width: int
    height: int
    time_base: Fraction
    """Unit of every `Frame.pts` handed in: the source's, or VFR is lost."""
    frame_rate: Fraction
    """Average rate: rate control and the container's header; timing comes from the pts alone."""
    sample_aspect_ratio: Fraction = Fraction(1)
    gop: int
    """Most frames from one key frame to the next; every group of pictures is closed."""
    threads: int
    """At least 1: x264 and x265 write other bytes for other thread counts."""
    options: dict[str, str] = {}
    """Encoder options as FFmpeg names them."""
    mastering_display: MasteringDisplay | None = None
    content_light: ContentLight | None = None
    notes: tuple[str, ...] = ()
    """Choices made that a user should hear of; no loss."""
    losses: tuple[str, ...] = ()
    """What the source has and this encoder cannot hold."""


def resolve_settings(
    *,
    codec: str | None,
    crf: float | None,
    encoder_preset: str | None,
    profile: str | None,
    info: VideoInfo,
    color: ColorSpec,
    width: int,
    height: int,
    threads: int,
    container: str,
    sample_aspect_ratio: Fraction | None = None,
    options: Mapping[str, str | int | float] | None = None,
    same_codec: bool = False,
) -> EncoderSettings:
    """Decide every encoder setting of a run and try the encoder with them.

    Without a wish the codec is H.264 (x264 `veryfast`, CRF 17) for 8-bit sources: it plays
    everywhere, is two to three times as fast as x265, and at CRF 17 the encoder's loss is far
    below what upscaling changes; `veryfast` because on a CPU the encoder must leave the cores to
    the model, and it costs bits, hardly quality, at constant quality. Sources above 8 bits and HDR
    get HEVC (x265 `veryfast`, CRF 18) in its main10 profile, since almost no player decodes H.264
    with 10 bits in hardware. `profile` picks a purpose instead: `access` is that default,
    `mezzanine` ProRes HQ or 4444 (or DNxHR, when `codec` says so), `preservation` lossless FFV1
    in Matroska.

    Args:
        codec: user or encoder name, or None.
        crf: constant quality on the encoder's own scale, or None for the default.
        encoder_preset: speed preset of x264/x265/SVT-AV1, or a ProRes profile.
        profile: `access`, `mezzanine` or `preservation`, or None.
        info: the source: layout, time base, rate, SAR and static HDR metadata are taken from it.
        color: colour of the result, complete.
        width: of the result, pixels.
        height: of the result, pixels.
        threads: encoder threads, at least 1.
        container: `mkv`, `mp4` or `mov`.
        sample_aspect_ratio: of the result; the source's when None.
        options: further encoder options by FFmpeg's names; they win over ours.
        same_codec: take the source's codec.

    Raises:
        ConfigError: a name or value that the encoder or the container does not take.
        DeviceError: an encoder was asked for that no video card here has.
    """
    if threads < 1:
        raise ConfigError(f"the encoder needs a fixed thread count of at least 1, not {threads}")
    if same_codec:
        if codec is not None:
            raise ConfigError(f"same-codec and codec {codec!r} contradict each other")
        codec = codec_of_source(info.codec).user_name
    traits = _choose_codec(codec, profile, info, color)
    if profile == "preservation" and container != "mkv":
        raise ConfigError(
            f"profile 'preservation' is FFV1 in Matroska, but {container} was asked for",
            hint="give the result a name that ends in .mkv",
        )
    check_container(traits, container)
    layout, pixel_format = choose_layout(traits.encoder, info.layout)
    _check_size(layout, traits, width, height)
    rate = info.frame_rate or _FALLBACK_RATE
    # An absurd average (a file of one frame, a 90 kHz guess) would mislead rate control.
    rate = rate if 1 <= rate <= _MAX_RATE else _FALLBACK_RATE
    notes, losses = _compare_layouts(traits, info.layout, layout)
    fitting = color_for(layout, color)
    if traits.encoder == "dnxhd" and not layout.is_rgb and fitting.matrix != Matrix.BT709:
        # Its header, which readers believe before the container's tag, says BT.709 whatever is set.
        notes.append(f"Matrix {fitting.matrix.name} becomes BT709: DNxHR is read with no other.")
        fitting = replace(fitting, matrix=Matrix.BT709)
    settings = EncoderSettings(
        codec=traits.encoder,
        pixel_format=pixel_format,
        layout=layout,
        color=fitting,
        width=width,
        height=height,
        time_base=info.time_base,
        frame_rate=rate.limit_denominator(1_000_000),
        sample_aspect_ratio=(
            info.sample_aspect_ratio if sample_aspect_ratio is None else sample_aspect_ratio
        ),
        gop=1 if traits.is_intra else max(24, min(250, round(rate * 4))),
        threads=threads,
        mastering_display=_whole(info.mastering_display, losses),
        content_light=info.content_light,
        notes=tuple(notes),
        losses=tuple(losses),
    )
    chosen = encoder_options(traits, settings, crf, encoder_preset)
    if options and needs_card(traits.encoder):
        # Whether there is a card comes before what it thinks of the options.
        _trial_open(settings.model_copy(update={"options": chosen}), traits)
    if options:
        chosen = merge_options(traits.encoder, chosen, options)
        try_options(traits.encoder, chosen, pixel_format, (width, height), threads)
    if (info.mastering_display or info.content_light) and traits.is_intra:
        losses.append(f"mastering display and content light ({traits.user_name} has no field)")
    settings = settings.model_copy(
        update={"options": dict(sorted(chosen.items())), "losses": tuple(losses)}
    )
    if needs_card(traits.encoder):
        own = f"{traits.encoder} writes other bytes on other cards and with other drivers."
        settings = settings.model_copy(update={"notes": (*settings.notes, own)})
    _trial_open(settings, traits)
    return settings


def frame_multiple(
    *,
    codec: str | None,
    profile: str | None,
    info: VideoInfo,
    color: ColorSpec,
    same_codec: bool = False,
) -> tuple[int, int]:
    """Width and height must be multiples of these in the codec that `resolve_settings` will take.

    Raises:
        ConfigError: no such codec or profile, or the two contradict each other.
    """
    if same_codec and codec is None:
        codec = codec_of_source(info.codec).user_name
    traits = _choose_codec(codec, profile, info, color)
    return (
        (1, 1) if traits.is_intra else size_multiple(choose_layout(traits.encoder, info.layout)[0])
    )


def _choose_codec(
    codec: str | None, profile: str | None, info: VideoInfo, color: ColorSpec
) -> CodecTraits:
    """The codec asked for by name or purpose, or the default for this source."""
    if profile is not None and profile not in PROFILES:
        raise ConfigError(
            f"profile {profile!r} is not known; expected one of {', '.join(PROFILES)}"
        )
    by_profile = PROFILES[profile] if profile is not None else None
    if codec is not None:
        traits = find_codec(codec)
        if by_profile is not None and traits.user_name not in by_profile:
            raise ConfigError(
                f"profile {profile!r} means codec {' or '.join(by_profile)}, "
                f"but codec {codec!r} was asked for",
                hint="give one of the two",
            )
        return traits
    if by_profile is not None and profile != "access":
        return CODECS[by_profile[0]]
    deep = info.layout.bits > 8 or info.layout.is_float
    return CODECS["hevc" if deep or is_hdr(color) else "h264"]


def _check_size(layout: PlaneLayout, traits: CodecTraits, width: int, height: int) -> None:
    if traits.encoder == "dnxhd" and (width < DNXHR_MIN_SIZE[0] or height < DNXHR_MIN_SIZE[1]):
        raise ConfigError(
            f"DNxHR holds pictures from {DNXHR_MIN_SIZE[0]}x{DNXHR_MIN_SIZE[1]} on, "
            f"not {width}x{height}",
            hint="use another codec",
        )
    if traits.is_intra:
        return
    step_w, step_h = size_multiple(layout)
    if width < 1 or height < 1 or width % step_w or height % step_h:
        raise ConfigError(
            f"{traits.user_name} in this chroma format needs a size divisible by "
            f"{step_w}x{step_h}, not {width}x{height}",
            hint="choose an even size",
        )


def _compare_layouts(
    traits: CodecTraits, source: PlaneLayout, chosen: PlaneLayout
) -> tuple[list[str], list[str]]:
    """What changes from the source's layout to the encoder's: (notes, losses)."""
    notes: list[str] = []
    losses: list[str] = []
    before = pixel_format_name(source) or "the source's layout"
    after = pixel_format_name(chosen)
    if source.has_alpha:
        losses.append("alpha channel (the picture is made opaque)")
    if source.is_float or chosen.bits < source.bits:
        losses.append(f"sample depth: {before} becomes {after} in {traits.user_name}")
    elif replace(chosen, has_alpha=False) != replace(source, has_alpha=False):
        notes.append(f"{before} becomes {after}: what {traits.user_name} has nearest to it")
    return notes, losses


def _whole(display: MasteringDisplay | None, losses: list[str]) -> MasteringDisplay | None:
    """Mastering display metadata, or None when a half is missing: encoders take all or nothing."""
    if display is None:
        return None
    if None in (display.red, display.green, display.blue, display.white):
        losses.append("mastering display (the source gives no chromaticities)")
        return None
    if display.min_luminance is None or display.max_luminance is None:
        losses.append("mastering display (the source gives no luminances)")
        return None
    return display


def configure(context: VideoCodecContext, settings: EncoderSettings) -> None:
    """Put the settings on a codec context that is not open yet."""
    context.width = settings.width
    context.height = settings.height
    context.pix_fmt = settings.pixel_format
    context.time_base = settings.time_base
    context.framerate = settings.frame_rate
    context.sample_aspect_ratio = settings.sample_aspect_ratio
    context.gop_size = settings.gop
    context.color_primaries = int(settings.color.primaries)
    context.color_trc = int(settings.color.transfer)
    context.colorspace = int(settings.color.matrix)
    context.color_range = 2 if settings.color.full_range else 1
    context.flags |= Flags.closed_gop | Flags.bitexact
    context.thread_count = settings.threads
    # PyAV's own default is slices, which cost 7 to 15 % of file size in x264; ffv1 has no other.
    context.thread_type = ThreadType.SLICE if settings.codec == "ffv1" else ThreadType.FRAME
    context.options = dict(settings.options)
    if settings.codec == "libsvtav1":
        # The library greets on stderr from C; only its environment variable can quiet it.
        os.environ.setdefault("SVT_LOG", "1")


def _trial_open(settings: EncoderSettings, traits: CodecTraits) -> None:
    """Open the encoder once, so that what it refuses ends the run before the first frame."""
    validate_options(settings.codec, settings.options)
    context = av.CodecContext.create(settings.codec, "w")
    assert isinstance(context, VideoCodecContext)
    configure(context, settings)
    try:
        context.open()
    except (av.error.FFmpegError, ValueError, OSError) as error:
        if needs_card(settings.codec):
            raise DeviceError(
                f"{settings.codec} was asked for, and no NVIDIA card here encodes "
                f"{settings.width}x{settings.height} {settings.pixel_format} with it "
                f"({getattr(error, 'strerror', None) or error})",
                hint=f"use --codec {settings.codec.partition('_')[0]}, which every machine has",
            ) from error
        raise ConfigError(
            f"the {traits.user_name} encoder refused {settings.width}x{settings.height} "
            f"{settings.pixel_format} with these options ({error})",
            hint="see crf, encoder preset and size, and whether memory holds such pictures",
        ) from error
