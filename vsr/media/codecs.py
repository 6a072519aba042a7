"""Which encoders there are, what each can hold, and the settings of one run.

Everything that can change a byte of the encoded video is in `EncoderSettings`, which is plain data:
it goes into the plan file, and whoever reads it back encodes the same bytes.
"""

from __future__ import annotations

import io
import logging
import os
import struct
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

import av
import av.error
from av.codec.context import Flags, ThreadType
from av.video.codeccontext import VideoCodecContext
from pydantic import BaseModel, ConfigDict

from vsr.errors import ConfigError
from vsr.frame import (
    ChromaLocation,
    ColorSpec,
    Matrix,
    PlaneLayout,
    Primaries,
    SideData,
    Transfer,
    VideoInfo,
)

logger = logging.getLogger(__name__)

CONTAINER_FORMATS = {"mkv": "matroska", "mp4": "mp4", "mov": "mov"}
"""Containers a result can be written to, with FFmpeg's muxer names."""

_X26X_PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
)
_PRORES_PROFILES = ("proxy", "lt", "standard", "hq", "4444", "4444xq")
_MAX_RATE = Fraction(240)
_FALLBACK_RATE = Fraction(25)


@dataclass(frozen=True, slots=True)
class CodecTraits:
    """What a user may ask of one encoder."""

    user_name: str
    encoder: str
    crf: tuple[float, float, float] | None
    """Lowest, highest and default constant quality; None when the encoder has no such scale."""
    presets: tuple[str, ...]
    default_preset: str | None
    is_intra: bool = False


CODECS: dict[str, CodecTraits] = {
    t.user_name: t
    for t in (
        CodecTraits("h264", "libx264", (0.0, 51.0, 17.0), _X26X_PRESETS, "veryfast"),
        CodecTraits("hevc", "libx265", (0.0, 51.0, 18.0), _X26X_PRESETS, "veryfast"),
        # FFmpeg reads 0 as "not set", so the scale begins at 1.
        CodecTraits("av1", "libsvtav1", (1.0, 63.0, 24.0), tuple(map(str, range(14))), "8"),
        CodecTraits("ffv1", "ffv1", None, (), None, is_intra=True),
        CodecTraits("prores", "prores_ks", None, _PRORES_PROFILES, None, is_intra=True),
    )
}
"""User name -> traits. Encoder names are accepted too, see `find_codec`."""

PROFILES: dict[str, str | None] = {
    "access": None,
    "mezzanine": "prores",
    "preservation": "ffv1",
}
"""Purpose of the copy -> codec; None takes the default of the container and the source."""


class MasteringDisplay(BaseModel):
    """SMPTE ST 2086: the display the film was graded on.

    Chromaticities are integers in units of 0.00002, luminances in units of 0.0001 cd/m2, as HEVC
    writes them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    red: tuple[int, int]
    green: tuple[int, int]
    blue: tuple[int, int]
    white: tuple[int, int]
    max_luminance: int
    min_luminance: int

    @classmethod
    def from_side_data(cls, data: bytes) -> Self | None:
        """Read FFmpeg's `MASTERING_DISPLAY_METADATA`; None when it lacks one of its halves."""
        if len(data) < 88:
            return None
        values = struct.unpack("<22i", data[:88])
        if not (values[20] and values[21]) or any(d == 0 for d in values[1:20:2]):
            return None
        ratios = [Fraction(n, d) for n, d in zip(values[0:20:2], values[1:20:2], strict=True)]
        xy = [round(r * 50000) for r in ratios[:8]]
        return cls(
            red=(xy[0], xy[1]),
            green=(xy[2], xy[3]),
            blue=(xy[4], xy[5]),
            white=(xy[6], xy[7]),
            min_luminance=round(ratios[8] * 10000),
            max_luminance=round(ratios[9] * 10000),
        )

    def x265(self) -> str:
        """As x265 and x264 take it: integers."""
        corners = (("G", self.green), ("B", self.blue), ("R", self.red), ("WP", self.white))
        points = "".join(f"{name}({x},{y})" for name, (x, y) in corners)
        return f"{points}L({self.max_luminance},{self.min_luminance})"

    def svtav1(self) -> str:
        """As SVT-AV1 takes it: decimal fractions."""
        corners = (("G", self.green), ("B", self.blue), ("R", self.red), ("WP", self.white))
        points = "".join(f"{name}({x / 50000:.5f},{y / 50000:.5f})" for name, (x, y) in corners)
        return f"{points}L({self.max_luminance / 10000:.4f},{self.min_luminance / 10000:.4f})"


class ContentLight(BaseModel):
    """CTA-861.3: brightest pixel and brightest frame average, in cd/m2."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_cll: int
    max_fall: int

    @classmethod
    def from_side_data(cls, data: bytes) -> Self | None:
        """Read FFmpeg's `CONTENT_LIGHT_LEVEL`."""
        if len(data) < 8:
            return None
        max_cll, max_fall = struct.unpack("<2I", data[:8])
        return cls(max_cll=max_cll, max_fall=max_fall)


def hdr_metadata(
    side_data: tuple[SideData, ...],
) -> tuple[MasteringDisplay | None, ContentLight | None]:
    """Find static HDR metadata among the side data of a decoded frame (the first one will do)."""
    mastering: MasteringDisplay | None = None
    light: ContentLight | None = None
    for datum in side_data:
        if datum.kind == "MASTERING_DISPLAY_METADATA":
            mastering = MasteringDisplay.from_side_data(datum.data)
        elif datum.kind == "CONTENT_LIGHT_LEVEL":
            light = ContentLight.from_side_data(datum.data)
    return mastering, light


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


def pixel_format_name(layout: PlaneLayout) -> str | None:
    """FFmpeg's planar little-endian name of a layout, or None when it has none."""
    if layout.is_float:
        if not layout.is_rgb:
            return f"grayf{layout.bits}le" if layout.is_gray and not layout.has_alpha else None
        return f"gbr{'a' * layout.has_alpha}pf{layout.bits}le"
    depth = "" if layout.bits == 8 else f"{layout.bits}le"
    if layout.is_gray:
        return None if layout.has_alpha else f"gray{depth}"
    if layout.is_rgb:
        return f"gbr{'a' * layout.has_alpha}p{depth}"
    ratio = {
        (0, 0): "444",
        (1, 0): "422",
        (1, 1): "420",
        (2, 0): "411",
        (0, 1): "440",
        (2, 2): "410",
    }.get((layout.log2_chroma_w, layout.log2_chroma_h))
    return None if ratio is None else f"yuv{'a' * layout.has_alpha}{ratio}p{depth}"


def find_codec(name: str) -> CodecTraits:
    """Look a codec up by user name (`hevc`) or encoder name (`libx265`).

    Raises:
        ConfigError: no such codec.
    """
    for traits in CODECS.values():
        if name in (traits.user_name, traits.encoder):
            return traits
    raise ConfigError(
        f"codec {name!r} is not known; expected one of {', '.join(CODECS)}",
    )


def size_multiple(layout: PlaneLayout) -> tuple[int, int]:
    """Width and height must be multiples of these: lossy codecs hold whole chroma samples only."""
    return 1 << layout.log2_chroma_w, 1 << layout.log2_chroma_h


def choose_layout(encoder: str, source: PlaneLayout) -> tuple[PlaneLayout, str]:
    """The layout of this encoder that keeps most of `source`, and its FFmpeg name.

    Chroma sampling stays where the encoder has it; otherwise 4:2:0, then 4:2:2, then 4:4:4 (RGB
    prefers 4:4:4). Grey stays grey in ffv1 only: H.264 and HEVC without chroma play almost
    nowhere. Bits stay, or grow, or as a last resort shrink. Alpha never fits: no model enlarges it.
    """
    supported = {f.name for f in av.Codec(encoder, "w").video_formats or ()}
    bits = min(source.bits, 16) if not source.is_float else 16
    depths = [*range(bits, 17), *range(bits - 1, 7, -1)]
    exact = replace(source, is_float=False, has_alpha=False)
    yuv = replace(exact, is_rgb=False, is_gray=False)
    by_chroma = [
        replace(yuv, log2_chroma_w=w, log2_chroma_h=h) for w, h in ((1, 1), (1, 0), (0, 0))
    ]
    shapes = [exact, *(reversed(by_chroma) if source.is_rgb else by_chroma)]
    if source.is_gray and encoder in ("libx264", "libx265"):
        shapes = by_chroma
    for shape in shapes:
        for depth in depths:
            candidate = replace(shape, bits=depth)
            name = pixel_format_name(candidate)
            # ffv1 keeps 8-bit RGB only interleaved.
            if name == "gbrp" and name not in supported:
                name = "bgr0"
            if name in supported:
                return candidate, name
    raise AssertionError(f"{encoder} takes no planar format at all")


def is_hdr(color: ColorSpec) -> bool:
    """Whether the transfer is PQ or HLG."""
    return color.transfer in (Transfer.PQ, Transfer.HLG)


def color_for(layout: PlaneLayout, color: ColorSpec) -> ColorSpec:
    """The colour frames of `layout` can be in, nearest to `color`.

    RGB planes are full range with the identity matrix; planes of luma and chroma are not. Chroma
    of a subsampled picture sits left where nothing is known, as H.264 and HEVC assume.
    """
    if layout.is_rgb:
        return replace(
            color,
            matrix=Matrix.RGB,
            full_range=True,
            chroma_location=ChromaLocation.UNSPECIFIED,
        )
    if color.matrix == Matrix.RGB:
        wide = color.primaries == Primaries.BT2020
        color = replace(color, matrix=Matrix.BT2020_NCL if wide else Matrix.BT709, full_range=False)
    subsampled = layout.log2_chroma_w or layout.log2_chroma_h
    if layout.is_gray or not subsampled:
        return replace(color, chroma_location=ChromaLocation.UNSPECIFIED)
    if color.chroma_location == ChromaLocation.UNSPECIFIED:
        return replace(color, chroma_location=ChromaLocation.LEFT)
    return color


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
    mastering_display: MasteringDisplay | None = None,
    content_light: ContentLight | None = None,
    sample_aspect_ratio: Fraction | None = None,
    options: dict[str, str] | None = None,
) -> EncoderSettings:
    """Decide every encoder setting of a run and try the encoder with them.

    Without a wish the codec is H.264 (x264 `veryfast`, CRF 17) for 8-bit sources: it plays
    everywhere, is two to three times as fast as x265, and at CRF 17 the encoder's loss is far
    below what upscaling changes; `veryfast` because on a CPU the encoder must leave the cores to
    the model, and it costs bits, hardly quality, at constant quality. Sources above 8 bits and HDR
    get HEVC (x265 `veryfast`, CRF 18) in its main10 profile, since almost no player decodes H.264
    with 10 bits in hardware. `profile` picks a purpose instead: `access` is that default,
    `mezzanine` ProRes HQ or 4444, `preservation` lossless FFV1.

    Args:
        codec: user or encoder name, or None.
        crf: constant quality on the encoder's own scale, or None for the default.
        encoder_preset: speed preset of x264/x265/SVT-AV1, or a ProRes profile.
        profile: `access`, `mezzanine` or `preservation`, or None.
        info: the source: layout, time base, rate and SAR are taken from it.
        color: colour of the result, complete.
        width: of the result, pixels.
        height: of the result, pixels.
        threads: encoder threads, at least 1.
        container: `mkv`, `mp4` or `mov`.
        mastering_display: static HDR metadata to write, see `hdr_metadata`.
        content_light: the same.
        sample_aspect_ratio: of the result; the source's when None.
        options: further encoder options by FFmpeg's names; they win over ours.

    Raises:
        ConfigError: a name or value that the encoder or the container does not take.
    """
    if threads < 1:
        raise ConfigError(f"the encoder needs a fixed thread count of at least 1, not {threads}")
    traits = _choose_codec(codec, profile, info, color)
    _check_container(traits, container)
    layout, pixel_format = choose_layout(traits.encoder, info.layout)
    _check_size(layout, traits, width, height)
    rate = info.frame_rate or _FALLBACK_RATE
    # An absurd average (a file of one frame, a 90 kHz guess) would mislead rate control.
    rate = rate if 1 <= rate <= _MAX_RATE else _FALLBACK_RATE
    notes, losses = _compare_layouts(traits, info.layout, layout)
    settings = EncoderSettings(
        codec=traits.encoder,
        pixel_format=pixel_format,
        layout=layout,
        color=color_for(layout, color),
        width=width,
        height=height,
        time_base=info.time_base,
        frame_rate=rate.limit_denominator(1_000_000),
        sample_aspect_ratio=(
            info.sample_aspect_ratio if sample_aspect_ratio is None else sample_aspect_ratio
        ),
        gop=1 if traits.is_intra else max(24, min(250, round(rate * 4))),
        threads=threads,
        mastering_display=mastering_display,
        content_light=content_light,
        notes=tuple(notes),
        losses=tuple(losses),
    )
    chosen = _encoder_options(traits, settings, crf, encoder_preset)
    if options:
        validate_options(traits.encoder, options)
        chosen.update(options)
    if (mastering_display or content_light) and traits.encoder in ("ffv1", "prores_ks"):
        losses.append(f"mastering display and content light ({traits.user_name} has no field)")
    settings = settings.model_copy(
        update={"options": dict(sorted(chosen.items())), "losses": tuple(losses)}
    )
    _trial_open(settings, traits)
    return settings


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
        if by_profile is not None and traits.user_name != by_profile:
            raise ConfigError(
                f"profile {profile!r} means codec {by_profile}, but codec {codec!r} was asked for",
                hint="give one of the two",
            )
        return traits
    if by_profile is not None:
        return CODECS[by_profile]
    deep = info.layout.bits > 8 or info.layout.is_float
    return CODECS["hevc" if deep or is_hdr(color) else "h264"]


def _check_container(traits: CodecTraits, container: str) -> None:
    if container not in CONTAINER_FORMATS:
        raise ConfigError(
            f"container {container!r} is not known; expected one of {', '.join(CONTAINER_FORMATS)}"
        )
    with av.open(io.BytesIO(), "w", format=CONTAINER_FORMATS[container]) as trial:
        try:
            trial.add_stream(traits.encoder)
        except ValueError:
            raise ConfigError(
                f"{container} cannot hold {traits.user_name}", hint="choose mkv, or another codec"
            ) from None


def _check_size(layout: PlaneLayout, traits: CodecTraits, width: int, height: int) -> None:
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


def _encoder_options(
    traits: CodecTraits, settings: EncoderSettings, crf: float | None, preset: str | None
) -> dict[str, str]:
    """Options of the chosen encoder, deterministic by construction.

    x264 is told to be `cpu-independent` and x265 to leave out its settings message, which names
    the processor. x265 gets explicit pools and frame threads, SVT-AV1 its level of parallelism.
    """
    options: dict[str, str] = {}
    if traits.crf is None:
        if crf is not None:
            raise ConfigError(f"{traits.user_name} has no constant quality scale; leave crf out")
    else:
        low, high, default = traits.crf
        value = default if crf is None else crf
        if not low <= value <= high:
            raise ConfigError(f"crf of {traits.user_name} goes from {low:g} to {high:g}, not {crf}")
        options["crf"] = f"{value:g}"
    if preset is not None and preset not in traits.presets:
        names = ", ".join(traits.presets) or "none at all"
        raise ConfigError(f"{traits.user_name} has no preset {preset!r}; it knows {names}")
    preset = preset or traits.default_preset
    location = settings.color.chroma_location
    if location != ChromaLocation.UNSPECIFIED and settings.layout.log2_chroma_h == 1:
        options["chroma_sample_location"] = location.name.lower()
    if traits.encoder == "libx264":
        options |= {"preset": preset or "", "a53cc": "0", "x264-params": _x264_params(settings)}
    elif traits.encoder == "libx265":
        options |= {"preset": preset or "", "a53cc": "0", "x265-params": _x265_params(settings)}
    elif traits.encoder == "libsvtav1":
        options |= {"preset": preset or "", "svtav1-params": _svtav1_params(settings)}
    elif traits.encoder == "ffv1":
        slices = "4" if settings.width * settings.height <= 1280 * 720 else "16"
        options |= {"level": "3", "slices": slices, "slicecrc": "1", "context": "0"}
        options |= {"coder": "range_tab" if settings.layout.bits > 8 else "range_def"}
    else:
        has_full_chroma = settings.layout.log2_chroma_w == 0
        name = preset or ("4444" if has_full_chroma else "hq")
        if name.startswith("4444") != has_full_chroma:
            raise ConfigError(f"ProRes {name} does not hold {settings.pixel_format}")
        options |= {"profile": name, "vendor": "apl0"}
    return options


def _x264_params(settings: EncoderSettings) -> str:
    params = {"cpu-independent": "1"}
    if settings.mastering_display:
        params["mastering-display"] = settings.mastering_display.x265()
    if settings.content_light:
        params["cll"] = f"{settings.content_light.max_cll},{settings.content_light.max_fall}"
    return _join_params(params)


def _x265_params(settings: EncoderSettings) -> str:
    params = {
        "log-level": "error",
        "info": "0",
        "open-gop": "0",
        "pools": str(settings.threads),
        "frame-threads": str(min(4, settings.threads)),
    }
    if settings.mastering_display or settings.content_light:
        params["hdr10"] = "1"
    if settings.mastering_display:
        params["master-display"] = settings.mastering_display.x265()
    if settings.content_light:
        params["max-cll"] = f"{settings.content_light.max_cll},{settings.content_light.max_fall}"
    return _join_params(params)


def _svtav1_params(settings: EncoderSettings) -> str:
    params = {"lp": str(settings.threads)}
    if settings.mastering_display:
        params["mastering-display"] = settings.mastering_display.svtav1()
    if settings.content_light:
        light = settings.content_light
        params["content-light"] = f"{light.max_cll},{light.max_fall}"
    return _join_params(params)


def _join_params(params: dict[str, str]) -> str:
    return ":".join(f"{key}={value}" for key, value in params.items())


def validate_options(encoder: str, options: dict[str, str]) -> None:
    """Refuse options the encoder does not know: FFmpeg would ignore them without a word.

    Raises:
        ConfigError: an unknown name, or a number outside the encoder's range.
    """
    context = av.CodecContext.create(encoder, "w")
    supported = context.supported_options
    known = {o.name: o for o in (*supported.generic, *supported.private)}
    for name, value in options.items():
        option = known.get(name)
        if option is None:
            raise ConfigError(f"{encoder} has no option {name!r}")
        if value in {choice.name for choice in option.choices}:
            continue
        try:
            number = float(value)
        except ValueError:
            continue
        if option.max > option.min and not option.min <= number <= option.max:
            raise ConfigError(
                f"option {name} of {encoder} goes from {option.min:g} to {option.max:g}, "
                f"not {value}"
            )


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
        raise ConfigError(
            f"the {traits.user_name} encoder refused {settings.width}x{settings.height} "
            f"{settings.pixel_format} with these options ({error})",
            hint="see crf, encoder preset and size",
        ) from error
