"""Which video encoders there are, and what each of them can hold."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import av

from vsr.errors import ConfigError
from vsr.frame import ChromaLocation, ColorSpec, Matrix, PlaneLayout, Primaries, Transfer

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
_NVENC_PRESETS = ("p1", "p2", "p3", "p4", "p5", "p6", "p7")
_PRORES_PROFILES = ("proxy", "lt", "standard", "hq", "4444", "4444xq")
_DNXHR_PROFILES = ("dnxhr_lb", "dnxhr_sq", "dnxhr_hq", "dnxhr_hqx", "dnxhr_444")
DNXHR_MIN_SIZE = (256, 120)
"""Width and height of the smallest picture DNxHR holds."""


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
        CodecTraits("dnxhr", "dnxhd", None, _DNXHR_PROFILES, None, is_intra=True),
        # FFmpeg reads 0 as "choose one" here, too.
        CodecTraits("h264_nvenc", "h264_nvenc", (1.0, 51.0, 19.0), _NVENC_PRESETS, "p5"),
        CodecTraits("hevc_nvenc", "hevc_nvenc", (1.0, 51.0, 20.0), _NVENC_PRESETS, "p5"),
    )
}
"""User name -> traits. Encoder names are accepted too, see `find_codec`."""

_ON_CARDS = {
    "h264_nvenc": frozenset({"yuv420p", "yuv444p"}),
    "hevc_nvenc": frozenset({"yuv420p", "yuv444p", "p010le"}),
}
"""Encoders that need a video card -> the pixel formats used of those they take: others are other
spellings of these, or are read with fewer bits than they have."""

PROFILES: dict[str, tuple[str, ...]] = {
    "access": ("h264", "hevc", "av1", "h264_nvenc", "hevc_nvenc"),
    "mezzanine": ("prores", "dnxhr"),
    "preservation": ("ffv1",),
}
"""Purpose of the copy -> the codecs that serve it; the first is taken unless another is named,
but for `access`, where the source's depth decides."""

_SAME_CODEC = {
    "h264": "h264",
    "hevc": "hevc",
    "av1": "av1",
    "ffv1": "ffv1",
    "prores": "prores",
    "dnxhd": "dnxhr",
}
"""FFmpeg's name of a source's codec -> what to encode with under `--same-codec`."""


def same_codec(name: str) -> CodecTraits:
    """The codec of a source, if there is an encoder for it.

    Args:
        name: FFmpeg's name of the source's codec.

    Raises:
        ConfigError: there is none.
    """
    if name not in _SAME_CODEC:
        raise ConfigError(
            f"same-codec was asked for, but {name} cannot be encoded; {', '.join(CODECS)} can",
            hint="name one of them with --codec",
        )
    return CODECS[_SAME_CODEC[name]]


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


def needs_card(encoder: str) -> bool:
    """Whether an encoder is a video card's."""
    return encoder in _ON_CARDS


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
    supported &= _ON_CARDS.get(encoder, supported)
    if encoder == "dnxhd" and not source.is_rgb and source.log2_chroma_w:
        # A picture of half the colour would otherwise be stored with four times of it.
        supported -= {"yuv444p10le", "gbrp10le"}
    bits = min(source.bits, 16) if not source.is_float else 16
    depths = [*range(bits, 17), *range(bits - 1, 7, -1)]
    exact = replace(source, is_float=False, has_alpha=False)
    yuv = replace(exact, is_rgb=False, is_gray=False)
    by_chroma = [
        replace(yuv, log2_chroma_w=w, log2_chroma_h=h) for w, h in ((1, 1), (1, 0), (0, 0))
    ]
    shapes = [exact, *(reversed(by_chroma) if source.is_rgb else by_chroma)]
    if source.is_gray and (encoder in ("libx264", "libx265") or needs_card(encoder)):
        shapes = by_chroma
    for shape in shapes:
        for depth in depths:
            candidate = replace(shape, bits=depth)
            name = pixel_format_name(candidate)
            # ffv1 keeps 8-bit RGB only interleaved.
            if name == "gbrp" and name not in supported:
                name = "bgr0"
            # Cards keep 10 bits only with their chroma interleaved.
            if name == "yuv420p10le" and name not in supported:
                name = "p010le"
            if name in supported:
                return candidate, name
    raise AssertionError(f"{encoder} takes no planar format at all")


def is_hdr(color: ColorSpec) -> bool:
    """Whether the transfer is PQ or HLG."""
    return color.transfer in (Transfer.PQ, Transfer.HLG)


def color_for(layout: PlaneLayout, color: ColorSpec) -> ColorSpec:
    """The colour frames of `layout` can be in, nearest to `color`.

    RGB planes are full range with the identity matrix; planes of luma and chroma are not. Where the
    source has no chroma location, as with 4:4:4, the one is taken that a reader without tags
    expects: top left for BT.2020, the centre for full range, left otherwise.
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
        wide = color.primaries == Primaries.BT2020 or color.matrix == Matrix.BT2020_NCL
        usual = ChromaLocation.CENTER if color.full_range else ChromaLocation.LEFT
        return replace(color, chroma_location=ChromaLocation.TOPLEFT if wide else usual)
    return color


def check_container(traits: CodecTraits, container: str) -> None:
    """Refuse a codec that the container cannot hold.

    Raises:
        ConfigError: that, or no such container.
    """
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
