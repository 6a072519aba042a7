"""Value types that every room shares: planes, colour, what a video is.

Nothing here decodes, converts or computes. Planes are numpy arrays, so that a process which only
moves media never imports torch; `engine` wraps them as tensors without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float16] | NDArray[np.float32]


class Primaries(IntEnum):
    """Colour primaries, ISO/IEC 23091-2 (H.273) table 2. Values equal FFmpeg's."""

    BT709 = 1
    UNSPECIFIED = 2
    BT470M = 4
    BT470BG = 5
    SMPTE170M = 6
    SMPTE240M = 7
    FILM = 8
    BT2020 = 9
    SMPTE428 = 10
    SMPTE431 = 11
    SMPTE432 = 12
    EBU3213 = 22


class Transfer(IntEnum):
    """Transfer characteristics, H.273 table 3. Values equal FFmpeg's."""

    BT709 = 1
    UNSPECIFIED = 2
    GAMMA22 = 4
    GAMMA28 = 5
    SMPTE170M = 6
    SMPTE240M = 7
    LINEAR = 8
    LOG100 = 9
    LOG316 = 10
    IEC61966_2_4 = 11
    BT1361 = 12
    SRGB = 13
    BT2020_10 = 14
    BT2020_12 = 15
    PQ = 16
    SMPTE428 = 17
    HLG = 18


class Matrix(IntEnum):
    """Matrix coefficients, H.273 table 4. Values equal FFmpeg's."""

    RGB = 0
    BT709 = 1
    UNSPECIFIED = 2
    FCC = 4
    BT470BG = 5
    SMPTE170M = 6
    SMPTE240M = 7
    YCGCO = 8
    BT2020_NCL = 9
    BT2020_CL = 10
    SMPTE2085 = 11
    CHROMA_NCL = 12
    CHROMA_CL = 13
    ICTCP = 14


class ChromaLocation(IntEnum):
    """Where chroma samples sit among luma samples. Values equal FFmpeg's AVChromaLocation."""

    UNSPECIFIED = 0
    LEFT = 1
    CENTER = 2
    TOPLEFT = 3
    TOP = 4
    BOTTOMLEFT = 5
    BOTTOM = 6


Curve = Literal["none", "linear", "density"]
"""Curve between a source's codes and what a model sees; see `engine.curves`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorSpec:
    """How code values mean colour."""

    primaries: Primaries = Primaries.UNSPECIFIED
    transfer: Transfer = Transfer.UNSPECIFIED
    matrix: Matrix = Matrix.UNSPECIFIED
    full_range: bool = False
    chroma_location: ChromaLocation = ChromaLocation.UNSPECIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneLayout:
    """How planes hold samples: a planar pixel format without FFmpeg's name for it.

    Planes are ordered Y, U, V (, A) or G, B, R (, A) or Y (, A) for grey, as FFmpeg orders them.
    """

    bits: int
    """Significant bits of an integer sample, 8 to 16; 16 or 32 for floats."""
    log2_chroma_w: int = 0
    """0 for 4:4:4, 1 for 4:2:2 and 4:2:0, 2 for 4:1:1 and 4:1:0."""
    log2_chroma_h: int = 0
    """0 for 4:4:4, 4:2:2 and 4:1:1, 1 for 4:2:0 and 4:4:0, 2 for 4:1:0."""
    is_rgb: bool = False
    is_gray: bool = False
    is_float: bool = False
    has_alpha: bool = False

    @property
    def num_planes(self) -> int:
        return (1 if self.is_gray else 3) + self.has_alpha

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """dtype of every plane: uint8 up to 8 bits, uint16 above, or a float."""
        if self.is_float:
            return np.dtype(np.float16 if self.bits == 16 else np.float32)
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16)

    def plane_size(self, index: int, width: int, height: int) -> tuple[int, int]:
        """(height, width) of plane `index` of a picture of width x height; chroma rounds up."""
        if self.is_rgb or self.is_gray or index not in (1, 2):
            return height, width
        return -(-height >> self.log2_chroma_h), -(-width >> self.log2_chroma_w)


@dataclass(frozen=True, slots=True)
class SideData:
    """One side datum of a frame, as FFmpeg names it, e.g. `A53_CC`."""

    kind: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture as decoded: planes and what belongs to them."""

    planes: tuple[Plane, ...]
    """2-D arrays, each (rows, columns) as `layout.plane_size` says; may be read-only views."""
    layout: PlaneLayout
    color: ColorSpec
    pts: int
    """Presentation time in units of the stream's time base."""
    duration: int = 0
    """In units of the stream's time base; 0 when unknown."""
    side_data: tuple[SideData, ...] = ()
    is_corrupt: bool = False
    """The decoder said so, or its packet was damaged."""
    is_concealed: bool = False
    """Not decoded but repeated, to fill a gap."""
    is_interlaced: bool = False
    is_key: bool = False
    sample_aspect_ratio: Fraction | None = None
    """Shape of a pixel where it is no longer the stream's; None: the stream's."""

    @property
    def height(self) -> int:
        return int(self.planes[0].shape[0])

    @property
    def width(self) -> int:
        return int(self.planes[0].shape[1])

    def __repr__(self) -> str:
        return f"Frame({self.width}x{self.height}, {self.layout.bits} bit, pts={self.pts})"


@dataclass(frozen=True, slots=True, kw_only=True)
class MasteringDisplay:
    """The display a picture was graded on, SMPTE ST 2086, exactly as stored."""

    red: tuple[Fraction, Fraction] | None = None
    """CIE 1931 (x, y); None when the source gives no chromaticities."""
    green: tuple[Fraction, Fraction] | None = None
    blue: tuple[Fraction, Fraction] | None = None
    white: tuple[Fraction, Fraction] | None = None
    min_luminance: Fraction | None = None
    """In cd/m2; None when the source gives no luminance."""
    max_luminance: Fraction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentLight:
    """Content light level, CTA-861.3, in cd/m2."""

    max_cll: int
    max_fall: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """What a video stream is, from its header and its first decoded frame."""

    stream_index: int
    codec: str
    width: int
    height: int
    pixel_format: str
    """FFmpeg's name, as coded (`yuvj420p`, `nv12`, `pal8`); the reader delivers `layout`."""
    layout: PlaneLayout
    color: ColorSpec
    """As tagged, gaps left UNSPECIFIED; `color.complete` fills them by stated rules."""
    time_base: Fraction
    frame_rate: Fraction | None
    """Average rate; None when the container does not know it."""
    num_frames: int | None
    """As declared by the container; None when it does not say. Never trusted."""
    start_pts: int | None
    duration_s: float | None
    sample_aspect_ratio: Fraction = Fraction(1)
    rotation: int = 0
    """Degrees counter-clockwise by which the picture is to be turned for display."""
    display_matrix: tuple[int, ...] | None = None
    """Nine 16.16/2.30 fixed-point values; None when the stream has none."""
    is_interlaced: bool = False
    """By flags alone; see `media.filters` for a look at the content."""
    bit_rate: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    field_order: str = "unknown"
    """`progressive`, `tt`, `bb`, `tb`, `bt` (coded, displayed first: top, bottom) or `unknown`."""
    mastering_display: MasteringDisplay | None = None
    content_light: ContentLight | None = None
    codec_tag: str = ""
    """Four characters by which the container names the codec, `hvc1` for one."""
    side_data_kinds: tuple[str, ...] = ()
    """Kinds of side data on the first frame, as FFmpeg names them."""
