"""FFmpeg's filters that compare two videos."""

from __future__ import annotations

import math
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph

from vsr.frame import Frame, PlaneLayout
from vsr.media.formats import format_name, pixel_format
from vsr.media.opening import AV_ERRORS, reason

_TIME_BASE = Fraction(1, 25)
"""Times do not matter here: frames are compared by their rank."""


class Xpsnr:
    """Perceptually weighted PSNR of luma by FFmpeg's `xpsnr` filter, frame by frame.

    Helmrich et al., 2020: errors where eyes notice them weigh more; motion between frames counts,
    so every frame must come, in order.

    Args:
        layout: of both videos; luma and chroma or grey, not float.
        width: of both, in pixels.
        height: likewise.

    Raises:
        ValueError: the filter does not take such pictures, or this FFmpeg has none.
    """

    def __init__(self, layout: PlaneLayout, width: int, height: int) -> None:
        if layout.is_rgb or layout.is_float:
            # For others the graph would quietly convert.
            raise ValueError("FFmpeg's xpsnr filter takes whole codes of luma and chroma")
        if "xpsnr" not in av.filter.filters_available:
            raise ValueError("this FFmpeg has no xpsnr filter")
        self._layout, self._num_pushed = layout, 0
        self._format = pixel_format(format_name(layout))
        blank = av.VideoFrame(width, height, self._format.name)
        if layout.bits > 8 and blank.planes[0].line_size != 2 * width:
            # FFmpeg 8.1 takes the padding at the end of such rows for the picture: 27 dB too low.
            raise ValueError(f"FFmpeg's xpsnr filter misreads deep pictures {width} pixels wide")
        self._graph = Graph()
        try:
            sources = [
                self._graph.add(
                    "buffer",
                    f"video_size={width}x{height}:pix_fmt={self._format.name}"
                    f":time_base={_TIME_BASE}",
                )
                for _ in range(2)
            ]
            compare, sink = self._graph.add("xpsnr"), self._graph.add("buffersink")
            # The reference comes first: its activity weighs the errors.
            for index, source in enumerate(sources):
                source.link_to(compare, 0, index)
            compare.link_to(sink)
            self._graph.configure()
        except AV_ERRORS as error:
            raise ValueError(f"FFmpeg's xpsnr filter refuses: {reason(error)}") from error

    def score(self, result: Frame, reference: Frame) -> float:
        """The next frame's figure in dB; infinite for equal pictures.

        Raises:
            ValueError: the filter gave none.
        """
        for index, frame in enumerate((reference, result)):
            self._graph.push(self._picture(frame), at=index)
        self._num_pushed += 1
        try:
            said = self._graph.vpull().metadata.get("lavfi.xpsnr.xpsnr.y")
        except AV_ERRORS as error:
            raise ValueError(f"FFmpeg's xpsnr filter failed: {reason(error)}") from error
        return math.nan if said is None else float(said)

    def _picture(self, frame: Frame) -> av.VideoFrame:
        assert frame.layout == self._layout, f"{frame.layout} is not {self._layout}"
        picture = av.VideoFrame(frame.width, frame.height, self._format.name)
        for target, plane in zip(picture.planes, frame.planes, strict=True):
            rows, columns = plane.shape
            padded = np.zeros((rows, target.line_size // plane.itemsize), plane.dtype)
            padded[:, :columns] = plane
            target.update(padded.tobytes())
        picture.pts, picture.time_base = self._num_pushed, _TIME_BASE
        return picture


def has_libvmaf() -> bool:
    """Whether this FFmpeg can compute VMAF."""
    return "libvmaf" in av.filter.filters_available
