"""FFmpeg's pixel formats as planes of ours.

Every format that stores whole samples is read by strides alone: the planes of a packed or
semi-planar picture are strided views of it, so not one sample is touched by a converter that might
have its own idea of matrix or range. Only formats with palettes or sub-byte samples pass through
swscale, into packed RGB or grey of the same meaning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vsr.errors import UnsupportedVideoError
from vsr.frame import (
    ChromaLocation,
    ColorSpec,
    Matrix,
    Plane,
    PlaneLayout,
    Primaries,
    Transfer,
)

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.reformatter import VideoReformatter

_AV_RANGE_LIMITED = 1
_AV_RANGE_FULL = 2

_SUBSAMPLING = {
    "444": (0, 0),
    "440": (0, 1),
    "422": (1, 0),
    "420": (1, 1),
    "411": (2, 0),
    "410": (2, 2),
}
_PLANAR_YUV = re.compile(
    r"yuv(?P<j>j?)(?P<a>a?)(?P<sub>4\d\d)p(?P<bits>\d*)(?P<msb>msb)?(?P<be>be)?"
)
_PLANAR_RGB = re.compile(r"gbr(?P<a>a?)p(?P<f>f?)(?P<bits>\d*)(?P<msb>msb)?(?P<be>be)?")
_GRAY = re.compile(r"gray(?P<f>f?)(?P<bits>\d*)(?P<be>be)?")

# Sample order inside one pixel group of a packed format: a letter per sample, `x` for padding.
# G, B, R, A for RGB; y, u, v, a for YUV. (order, bits, right shift of a 16-bit word)
_PACKED: dict[str, tuple[str, int, int]] = {
    "rgb24": ("RGB", 8, 0),
    "bgr24": ("BGR", 8, 0),
    "rgba": ("RGBA", 8, 0),
    "bgra": ("BGRA", 8, 0),
    "argb": ("ARGB", 8, 0),
    "abgr": ("ABGR", 8, 0),
    "rgb0": ("RGBx", 8, 0),
    "bgr0": ("BGRx", 8, 0),
    "0rgb": ("xRGB", 8, 0),
    "0bgr": ("xBGR", 8, 0),
    "rgb48": ("RGB", 16, 0),
    "bgr48": ("BGR", 16, 0),
    "rgba64": ("RGBA", 16, 0),
    "bgra64": ("BGRA", 16, 0),
    "yuyv422": ("yuyv", 8, 0),
    "yvyu422": ("yvyu", 8, 0),
    "uyvy422": ("uyvy", 8, 0),
    "y210": ("yuyv", 10, 6),
    "y212": ("yuyv", 12, 4),
    "y216": ("yuyv", 16, 0),
    "ayuv": ("ayuv", 8, 0),
    "vuya": ("vuya", 8, 0),
    "vuyx": ("vuyx", 8, 0),
    "uyva": ("uyva", 8, 0),
    "vyu444": ("vyu", 8, 0),
    "ayuv64": ("ayuv", 16, 0),
    "xv36": ("uyvx", 12, 4),
    "xv48": ("uyvx", 16, 0),
    "ya8": ("ya", 8, 0),
    "ya16": ("ya", 16, 0),
}
# Luma plane, then one plane of interleaved chroma: (subsampling, bits, right shift, chroma order).
_SEMI_PLANAR: dict[str, tuple[str, int, int, str]] = {
    "nv12": ("420", 8, 0, "uv"),
    "nv21": ("420", 8, 0, "vu"),
    "nv16": ("422", 8, 0, "uv"),
    "nv20": ("422", 10, 0, "uv"),
    "nv24": ("444", 8, 0, "uv"),
    "nv42": ("444", 8, 0, "vu"),
    **{
        f"p{code}{bits}": (sub, bits, 16 - bits, "uv")
        for code, sub in (("0", "420"), ("2", "422"), ("4", "444"))
        for bits in (10, 12, 16)
    },
}
# What swscale unpacks exactly, because neither matrix nor range takes part in it.
_VIA_SWSCALE = {
    "pal8": "rgb24",
    "rgb8": "rgb24",
    "bgr8": "rgb24",
    "rgb4": "rgb24",
    "bgr4": "rgb24",
    "rgb4_byte": "rgb24",
    "bgr4_byte": "rgb24",
    **{f"{order}{bits}": "rgb24" for order in ("rgb", "bgr") for bits in (444, 555, 565)},
    "monob": "gray",
    "monow": "gray",
    "uyyvyy411": "yuv411p",
}
_RGB_WORDS = {"x2rgb10": (20, 10, 0), "x2bgr10": (0, 10, 20)}
"""Bit positions of R, G and B in a 32-bit word."""

# Codecs whose standards say that an untagged picture is in limited range, grey or not.
_LIMITED_BY_STANDARD = frozenset(
    {"h264", "hevc", "vvc", "av1", "libdav1d", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4"}
)

# Codecs whose standards leave no choice of where the chroma of 4:2:0 sits.
_LOCATION_BY_STANDARD = {
    "mpeg1video": ChromaLocation.CENTER,
    "h261": ChromaLocation.CENTER,
    "h263": ChromaLocation.CENTER,
    "theora": ChromaLocation.CENTER,
    "mpeg2video": ChromaLocation.LEFT,
    "dvvideo": ChromaLocation.TOPLEFT,
}


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How to read one of FFmpeg's pixel formats as planes."""

    name: str
    """FFmpeg's name, as coded."""
    layout: PlaneLayout
    """What `read_planes` delivers."""
    picks: tuple[tuple[int, int, int], ...]
    """For every plane of ours: FFmpeg's plane, first sample in a row, step between samples."""
    shift: int = 0
    """Right shift that brings a sample's significant bits down."""
    is_big_endian: bool = False
    via: str | None = None
    """Format that swscale has to unpack to first; `picks` describe that one."""
    word_shifts: tuple[int, int, int] | None = None
    """G, B and R inside 32-bit words, for RGB with 10 bits a sample."""
    is_full_range: bool = False
    """The name alone says full range (`yuvj420p`)."""


def _planar_picks(count: int) -> tuple[tuple[int, int, int], ...]:
    return tuple((index, 0, 1) for index in range(count))


def _split_endian(name: str) -> tuple[str, bool]:
    if name.endswith("le"):
        return name[:-2], False
    if name.endswith("be"):
        return name[:-2], True
    return name, False


def _planar(name: str, base: str, big_endian: bool) -> PixelFormat | None:
    """Formats with a plane per component."""
    if match := _PLANAR_YUV.fullmatch(base):
        width, height = _SUBSAMPLING[match["sub"]]
        bits = int(match["bits"] or 8)
        layout = PlaneLayout(
            bits=bits, log2_chroma_w=width, log2_chroma_h=height, has_alpha=bool(match["a"])
        )
        full = bool(match["j"])
    elif match := _PLANAR_RGB.fullmatch(base):
        bits = int(match["bits"] or 8)
        layout = PlaneLayout(
            bits=bits, is_rgb=True, is_float=bool(match["f"]), has_alpha=bool(match["a"])
        )
        full = False
    elif match := _GRAY.fullmatch(base):
        bits = int(match["bits"] or 8)
        layout = PlaneLayout(bits=bits, is_gray=True, is_float=bool(match["f"]))
        full = False
    else:
        return None
    if bits > 16 and not layout.is_float:
        return None
    groups = match.groupdict()
    return PixelFormat(
        name,
        layout,
        _planar_picks(layout.num_planes),
        shift=16 - bits if groups.get("msb") else 0,
        is_big_endian=big_endian,
        is_full_range=full,
    )


def _interleaved(name: str, base: str, big_endian: bool) -> PixelFormat | None:
    """Packed and semi-planar formats."""
    if packed := _PACKED.get(base):
        order, bits, shift = packed
        if "R" in order:
            layout = PlaneLayout(bits=bits, is_rgb=True, has_alpha="A" in order)
            wanted = "GBRA"
        elif "u" in order:
            layout = PlaneLayout(
                bits=bits, log2_chroma_w=int(order.count("y") == 2), has_alpha="a" in order
            )
            wanted = "yuva"
        else:
            layout = PlaneLayout(bits=bits, is_gray=True, has_alpha=True)
            wanted = "ya"
        picks = tuple(
            (0, order.index(letter), len(order) // order.count(letter))
            for letter in wanted
            if letter in order
        )
    elif semi := _SEMI_PLANAR.get(base):
        sub, bits, shift, chroma = semi
        width, height = _SUBSAMPLING[sub]
        layout = PlaneLayout(bits=bits, log2_chroma_w=width, log2_chroma_h=height)
        picks = ((0, 0, 1), (1, chroma.index("u"), 2), (1, chroma.index("v"), 2))
    else:
        return None
    return PixelFormat(name, layout, picks, shift=shift, is_big_endian=big_endian)


@cache
def pixel_format(name: str) -> PixelFormat:
    """Look up how a pixel format is read.

    Args:
        name: FFmpeg's name, such as `yuv420p10le`, `nv12` or `pal8`.

    Raises:
        UnsupportedVideoError: for formats whose samples have no exact place in planes of YUV, RGB
            or grey (XYZ, Bayer, more than 16 bits, frames that live on a device).
    """
    base, big_endian = _split_endian(name)
    if base in _RGB_WORDS:
        red, green, blue = _RGB_WORDS[base]
        return PixelFormat(
            name,
            PlaneLayout(bits=10, is_rgb=True),
            _planar_picks(1),
            is_big_endian=big_endian,
            word_shifts=(green, blue, red),
        )
    if base in _VIA_SWSCALE:
        target = pixel_format(_VIA_SWSCALE[base])
        return replace(target, name=name, via=target.name)
    found = _planar(name, base, big_endian) or _interleaved(name, base, big_endian)
    if found is None:
        raise UnsupportedVideoError(
            f"The pixel format {name} cannot be read without changing its samples.",
            hint="convert the file to yuv444p16 or gbrp16 with a tool you trust first",
        )
    return found


def format_name(layout: PlaneLayout) -> str:
    """FFmpeg's planar little-endian format that holds planes of `layout` as they are.

    Raises:
        UnsupportedVideoError: FFmpeg has no such format (grey with alpha, 4:1:1 above 8 bits).
    """
    bits = "" if layout.bits == 8 else f"{layout.bits}le"
    alpha = "a" if layout.has_alpha else ""
    floating = "f" if layout.is_float else ""
    if layout.is_rgb:
        return f"gbr{alpha}p{floating}{bits}"
    subsampling = {value: key for key, value in _SUBSAMPLING.items()}
    sub = subsampling.get((layout.log2_chroma_w, layout.log2_chroma_h))
    if layout.is_gray and not layout.has_alpha:
        return f"gray{floating}{bits}"
    if layout.is_gray or layout.is_float or sub is None or (sub in ("411", "410") and bits):
        raise UnsupportedVideoError(f"FFmpeg has no planar pixel format for {layout}.")
    return f"yuv{alpha}{sub}p{bits}"


def _rows(frame: VideoFrame, index: int, dtype: np.dtype[np.generic]) -> np.ndarray:
    """FFmpeg's plane `index` as (rows, samples per line with padding), top row first."""
    plane = frame.planes[index]
    line_size = plane.line_size
    memory: Any = plane  # A buffer, though its stubs say so only from Python 3.12 on.
    rows: np.ndarray = (
        np.frombuffer(memory, np.uint8).reshape(plane.height, abs(line_size)).view(dtype)
    )
    # Bottom-up pictures are turned round by a copy, because tensors know no negative strides.
    return rows if line_size > 0 else np.ascontiguousarray(rows[::-1])


def _unpack_words(frame: VideoFrame, plan: PixelFormat) -> tuple[Plane, ...]:
    words = _rows(frame, 0, np.dtype(">u4" if plan.is_big_endian else "<u4"))[:, : frame.width]
    assert plan.word_shifts is not None
    return tuple(((words >> shift) & 0x3FF).astype(np.uint16) for shift in plan.word_shifts)


def read_planes(
    frame: VideoFrame, plan: PixelFormat, reformatter: VideoReformatter
) -> tuple[Plane, ...]:
    """The samples of a decoded frame, one array per plane.

    Args:
        frame: decoded picture in the format that `plan` describes.
        plan: from `pixel_format(frame.format.name)`.
        reformatter: one per thread; each new one would keep megabytes (facts of swscale).

    Returns:
        Arrays of `plan.layout`: views into the frame's memory, which they keep alive, wherever the
        samples are stored whole, in native byte order and with their significant bits at the
        bottom; copies otherwise.
    """
    if plan.via is not None:
        # Same range named on both sides: a conversion between ranges must not happen here.
        frame = reformatter.reformat(
            frame,
            format=plan.via,
            src_color_range=_AV_RANGE_FULL,
            dst_color_range=_AV_RANGE_FULL,
            threads=1,
        )
    if plan.word_shifts is not None:
        return _unpack_words(frame, plan)
    dtype = plan.layout.dtype
    stored = dtype.newbyteorder(">") if plan.is_big_endian else dtype
    planes = []
    for index, (source, first, step) in enumerate(plan.picks):
        height, width = plan.layout.plane_size(index, frame.width, frame.height)
        samples = _rows(frame, source, stored)[:height, first::step][:, :width]
        if plan.is_big_endian:
            samples = samples.astype(dtype)
        if plan.shift:
            samples = samples >> plan.shift
        planes.append(samples)
    return tuple(planes)


def _known(
    kind: type[Primaries] | type[Transfer] | type[Matrix] | type[ChromaLocation], value: int
) -> int:
    """`value` if H.273 gives it a meaning, else UNSPECIFIED."""
    fallback = 0 if kind is ChromaLocation else 2
    return value if value in set(kind) else fallback


def read_color(frame: VideoFrame, plan: PixelFormat, codec: str) -> ColorSpec:
    """The colour tags of a decoded frame, gaps left UNSPECIFIED.

    RGB counts as full range unless tagged as limited. Untagged grey counts as full range, as
    FFmpeg has it, unless the codec's standard says that untagged means limited.

    Raises:
        UnsupportedVideoError: the matrix is a newer one that we would get wrong.
    """
    matrix = int(frame.colorspace)
    if matrix > max(Matrix):
        raise UnsupportedVideoError(
            f"The matrix coefficients {matrix} (H.273 table 4) are not supported.",
            hint="convert the video to BT.709 or BT.2020 first",
        )
    layout = plan.layout
    if layout.is_rgb:
        matrix = Matrix.RGB
    # An identity matrix where planes hold luma and chroma is passed on as well: whoever fills the
    # gaps says that it cannot be meant.
    tagged = int(frame.color_range)
    if tagged == _AV_RANGE_FULL or plan.is_full_range:
        full = True
    elif tagged == _AV_RANGE_LIMITED:
        full = False
    else:
        full = layout.is_rgb or (layout.is_gray and codec not in _LIMITED_BY_STANDARD)
    return ColorSpec(
        primaries=Primaries(_known(Primaries, int(frame.color_primaries))),
        transfer=Transfer(_known(Transfer, int(frame.color_trc))),
        matrix=Matrix(_known(Matrix, matrix)),
        full_range=full,
        chroma_location=_chroma_location(frame, layout, codec),
    )


def _chroma_location(frame: VideoFrame, layout: PlaneLayout, codec: str) -> ChromaLocation:
    """Where chroma sits: as the frame says, which only newer versions of av tell, or its codec."""
    told = ChromaLocation(_known(ChromaLocation, int(getattr(frame, "chroma_location", 0))))
    if told is not ChromaLocation.UNSPECIFIED or layout.is_rgb or layout.is_gray:
        return told
    is_420 = (layout.log2_chroma_w, layout.log2_chroma_h) == (1, 1)
    return _LOCATION_BY_STANDARD.get(codec, told) if is_420 else told
