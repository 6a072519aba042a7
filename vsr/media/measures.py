"""FFmpeg's filters that compare two videos."""

from __future__ import annotations

import gc
import json
import math
import tempfile
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.filter import Graph

from vsr.frame import Frame, PlaneLayout
from vsr.media.formats import format_name, pixel_format
from vsr.media.opening import AV_ERRORS, reason

_TIME_BASE = Fraction(1, 25)
"""Times do not matter here: frames are compared by their rank."""
_VMAF = {"vmaf": "vmaf_v0.6.1", "vmaf_neg": "vmaf_v0.6.1neg"}
"""Name in the log: model."""


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
        blank = av.VideoFrame(width, height, format_name(layout))
        if layout.bits > 8 and blank.planes[0].line_size != 2 * width:
            # FFmpeg 8.1 takes the padding at the end of such rows for the picture: 27 dB too low.
            raise ValueError(f"FFmpeg's xpsnr filter misreads deep pictures {width} pixels wide")
        self._pair = _PairGraph("xpsnr", "", layout, width, height)

    def score(self, result: Frame, reference: Frame) -> float:
        """The next frame's figure in dB; infinite for equal pictures.

        Raises:
            ValueError: the filter gave none.
        """
        # The reference comes first: its activity weighs the errors.
        said = self._pair.push(reference, result).get("lavfi.xpsnr.xpsnr.y")
        return math.nan if said is None else float(said)


class Vmaf:
    """VMAF and VMAF-NEG of luma by FFmpeg's `libvmaf` filter; what it says comes at the end.

    Models v0.6.1 and v0.6.1neg, which are built into the library. Motion between frames counts, so
    every frame must come, in order.

    Args:
        layout: of both videos; luma and chroma of whole codes.
        width: of both, in pixels.
        height: likewise.

    Raises:
        ValueError: the filter does not take such pictures, or this FFmpeg has none.
    """

    def __init__(self, layout: PlaneLayout, width: int, height: int) -> None:
        if not has_libvmaf():
            raise ValueError("this FFmpeg has no libvmaf")
        if layout.is_rgb or layout.is_float or layout.is_gray:
            raise ValueError("FFmpeg's libvmaf filter takes whole codes of luma and chroma")
        self._folder = tempfile.TemporaryDirectory(prefix="vsr-vmaf-")
        self._log = Path(self._folder.name) / "scores.json"
        models = "|".join(f"version={version}:name={name}" for name, version in _VMAF.items())
        options = f"log_fmt=json:log_path='{self._log}':model='{models}'"
        try:
            self._pair: _PairGraph | None = _PairGraph("libvmaf", options, layout, width, height)
        except ValueError:
            self._folder.cleanup()
            raise

    def add(self, result: Frame, reference: Frame) -> None:
        """Take the next frame.

        Raises:
            ValueError: the filter failed.
        """
        assert self._pair is not None, "finished"
        self._pair.push(result, reference)

    def finish(self) -> list[tuple[float, float]]:
        """VMAF and VMAF-NEG of every frame, 0 to 100.

        Raises:
            ValueError: the filter left none.
        """
        assert self._pair is not None, "finished"
        self._pair.drain()
        # The filter writes when it is freed.
        self._pair = None
        gc.collect()
        try:
            frames = json.loads(self._log.read_text(encoding="utf-8"))["frames"]
            scores = [tuple(float(f["metrics"][name]) for name in _VMAF) for f in frames]
        except (OSError, ValueError, KeyError) as error:
            raise ValueError("FFmpeg's libvmaf filter left no scores") from error
        finally:
            self._folder.cleanup()
        return [(one, two) for one, two in scores]


class _PairGraph:
    """A filter of two videos, whatever it does.

    Raises:
        ValueError: the filter refuses the pictures or its options.
    """

    def __init__(
        self, name: str, options: str, layout: PlaneLayout, width: int, height: int
    ) -> None:
        self._name, self._layout, self._num_pushed = name, layout, 0
        self._format = pixel_format(format_name(layout))
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
            compare, sink = self._graph.add(name, options), self._graph.add("buffersink")
            for index, source in enumerate(sources):
                source.link_to(compare, 0, index)
            compare.link_to(sink)
            self._graph.configure()
        except AV_ERRORS as error:
            raise ValueError(f"FFmpeg's {name} filter refuses: {reason(error)}") from error

    def push(self, first: Frame, second: Frame) -> dict[str, str]:
        """Hand in a pair; what the filter says of it.

        Raises:
            ValueError: the filter failed.
        """
        for index, frame in enumerate((first, second)):
            self._graph.push(self._picture(frame), at=index)
        self._num_pushed += 1
        try:
            return self._graph.vpull().metadata
        except AV_ERRORS as error:
            raise ValueError(f"FFmpeg's {self._name} filter failed: {reason(error)}") from error

    def drain(self) -> None:
        """Say that no more frames come."""
        with suppress(*AV_ERRORS):
            for index in range(2):
                self._graph.push(None, at=index)
            # Until the end, which is an error to PyAV.
            while True:
                self._graph.vpull()

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
