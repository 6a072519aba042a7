"""Raw pictures for another program: YUV4MPEG2, on stdout or in a file.

The format holds pictures of one size at one constant rate, and nothing else: no timestamps, no
sound, no colour matrix. Depths above 8 bits are spelled as FFmpeg spells them (`C420p10`), samples
in two bytes, the lower one first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from vsr.errors import EncodeError, OutputError, UnsupportedVideoError
from vsr.frame import ChromaLocation, ColorSpec, Frame, PlaneLayout, VideoInfo
from vsr.media.codecs import color_for, pixel_format_name
from vsr.media.encoder import SegmentSummary
from vsr.media.probe import MediaInfo
from vsr.media.settings import EncoderSettings
from vsr.media.streams import StreamPlan, plan_film_alone
from vsr.media.tags import is_about_the_file

CONTAINER = "y4m"
_DEPTHS = (8, 9, 10, 12, 14, 16)
_GRAY_DEPTHS = (8, 9, 10, 12, 16)
_CHROMA = {(1, 1): "420", (1, 0): "422", (0, 0): "444", (2, 0): "411"}
_SITING = {ChromaLocation.CENTER: "420jpeg", ChromaLocation.TOPLEFT: "420paldv"}
_COMMON_RATES = tuple(
    Fraction(rate)
    for rate in (
        *("24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60"),
        *("12", "12.5", "15", "15000/1001", "100", "120000/1001", "120"),
    )
)


def y4m_settings(
    info: VideoInfo,
    color: ColorSpec,
    width: int,
    height: int,
    sample_aspect_ratio: Fraction | None = None,
) -> EncoderSettings:
    """How pictures are laid out for y4m: as the source where the format can, else nearest to it.

    Args:
        info: the source.
        color: of the result, complete.
        width: of the result, pixels.
        height: of the result, pixels.
        sample_aspect_ratio: of the result; the source's when None.
    """
    layout = _layout(info.layout)
    name = pixel_format_name(layout)
    assert name is not None
    losses = ["colour tags: y4m holds none but the range"]
    if info.layout.has_alpha:
        losses.append("alpha channel (the picture is made opaque)")
    if info.layout.is_float or layout.bits < info.layout.bits:
        losses.append(f"sample depth: becomes {layout.bits} bits")
    losses += ["HDR metadata"] if info.mastering_display or info.content_light else []
    losses += (
        ["display matrix: y4m holds none, but the pictures can be turned: --rotate bake"]
        if info.display_matrix
        else []
    )
    if info.layout.is_rgb:
        losses.append(f"RGB becomes {name}")
    aspect = info.sample_aspect_ratio if sample_aspect_ratio is None else sample_aspect_ratio
    return EncoderSettings(
        codec="rawvideo",
        pixel_format=name,
        layout=layout,
        color=_color(layout, color),
        width=width,
        height=height,
        time_base=info.time_base,
        frame_rate=info.frame_rate or Fraction(25),
        sample_aspect_ratio=aspect,
        gop=1,
        threads=1,
        losses=tuple(losses),
    )


def y4m_streams(info: MediaInfo) -> StreamPlan:
    """The stream plan of raw pictures: nothing but the film."""
    return plan_film_alone(
        info,
        CONTAINER,
        why="upscaled, raw",
        why_not="y4m holds pictures alone",
        dropped_tags=tuple(name for name in info.metadata if not is_about_the_file(name)),
    )


def constant_rate(
    pts: Sequence[int], time_base: Fraction, declared: Fraction | None = None
) -> Fraction:
    """The rate of a film whose frames come evenly, to one tick of its clock.

    Args:
        pts: of every frame, rising.
        time_base: their unit.
        declared: by the container, tried first.

    Raises:
        UnsupportedVideoError: they do not come evenly.
    """
    if len(pts) < 2:
        return declared or Fraction(25)
    measured = Fraction(len(pts) - 1) / ((pts[-1] - pts[0]) * time_base)
    candidates = [declared] if declared else []
    candidates += sorted(_COMMON_RATES, key=lambda rate: abs(rate - measured))
    candidates.append(measured.limit_denominator(1001))
    for rate in candidates:
        ticks = 1 / (rate * time_base)
        if rate > 0 and all(abs(p - pts[0] - k * ticks) <= 1 for k, p in enumerate(pts)):
            return rate
    raise UnsupportedVideoError(
        "y4m holds no timestamps, and the frames of this film do not come evenly.",
        hint="write mkv, mp4 or mov, which keep every frame's time",
    )


def y4m_header(settings: EncoderSettings) -> bytes:
    """The line a stream begins with.

    `Ip` because what leaves the model is taken for progressive: fields are never woven anew.
    """
    layout, aspect = settings.layout, settings.sample_aspect_ratio
    rate = settings.frame_rate
    color_range = "FULL" if settings.color.full_range else "LIMITED"
    words = [
        "YUV4MPEG2",
        f"W{settings.width}",
        f"H{settings.height}",
        f"F{rate.numerator}:{rate.denominator}",
        "Ip",
        f"A{aspect.numerator}:{aspect.denominator}",
        f"C{_chroma_name(layout, settings.color.chroma_location)}",
        f"XCOLORRANGE={color_range}",
    ]
    return " ".join(words).encode("ascii") + b"\n"


class Y4mWriter:
    """Write frames as y4m; stands in for `SegmentEncoder`, any number of segments in one stream.

    Args:
        file: written in order, never sought; stays open.
        settings: see `y4m_settings`; `frame_rate` is the constant one.
    """

    def __init__(self, file: BinaryIO, settings: EncoderSettings) -> None:
        self._file = file
        self._settings = settings
        self._has_header = False
        self.num_frames = 0
        self.num_bytes = 0

    def encode(self, frame: Frame) -> None:
        """Write the next frame, of exactly the settings' size and layout.

        Raises:
            BrokenPipeError: whoever reads has ended.
            OutputError: the disk refused.
        """
        settings = self._settings
        assert frame.layout == settings.layout, f"frame is {frame.layout}"
        assert (frame.width, frame.height) == (settings.width, settings.height)
        if not self._has_header:
            self._write(y4m_header(settings))
            self._has_header = True
        self._write(b"FRAME\n")
        for index, plane in enumerate(frame.planes):
            assert plane.shape == settings.layout.plane_size(index, frame.width, frame.height)
            assert plane.dtype == settings.layout.dtype, f"plane {index} is {plane.dtype}"
            self._write(plane.astype(plane.dtype.newbyteorder("<"), copy=False).tobytes())
        self.num_frames += 1

    def close(self) -> SegmentSummary:
        """Hand on what is still buffered."""
        if not self.num_frames:
            raise EncodeError("a segment needs at least one frame")
        try:
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"the pictures cannot be written: {error.strerror}") from error
        return SegmentSummary(num_frames=self.num_frames, num_bytes=self.num_bytes)

    def for_segment(self, _path: Path, _settings: EncoderSettings) -> Self:
        """Itself: all segments go into one stream."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing: the file is the caller's."""

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"the pictures cannot be written: {error.strerror}") from error
        self.num_bytes += len(data)


def _layout(source: PlaneLayout) -> PlaneLayout:
    """The layout of y4m that keeps most of `source`."""
    bits = 16 if source.is_float else source.bits
    if source.is_gray:
        depth = next(d for d in _GRAY_DEPTHS if d >= bits)
        return PlaneLayout(bits=depth, is_gray=True)
    depth = next(d for d in _DEPTHS if d >= bits)
    plain = replace(source, bits=depth, is_rgb=False, is_float=False, has_alpha=False)
    chroma = (plain.log2_chroma_w, plain.log2_chroma_h)
    if chroma not in _CHROMA or (chroma == (2, 0) and depth > 8):
        plain = replace(plain, log2_chroma_w=1, log2_chroma_h=1)
    return plain


def _color(layout: PlaneLayout, color: ColorSpec) -> ColorSpec:
    """Colour that the header can tell: chroma sits left where it has no name for another place."""
    fitting = color_for(layout, color)
    if layout.is_gray or not layout.log2_chroma_w:
        return fitting
    is_named = layout.bits == 8 and layout.log2_chroma_h == 1 and fitting.chroma_location in _SITING
    return fitting if is_named else replace(fitting, chroma_location=ChromaLocation.LEFT)


def _chroma_name(layout: PlaneLayout, location: ChromaLocation) -> str:
    if layout.is_gray:
        return "mono" if layout.bits == 8 else f"mono{layout.bits}"
    name = _CHROMA[layout.log2_chroma_w, layout.log2_chroma_h]
    if layout.bits > 8:
        # The siting has no name at these depths; the format's readers take it for left.
        return f"{name}p{layout.bits} XYSCSS={name}P{layout.bits}"
    return _SITING.get(location, "420mpeg2") if name == "420" else name
