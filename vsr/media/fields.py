"""Look at the fields of a film while it is read: flags, combing, motion and which field is first.

`idet` tells combed pictures from whole ones by the way neighbouring fields differ. Where nothing
moves the two kinds look alike, and it calls them whole; and it calls drawn pictures with sharp
horizontal edges combed. So there is a second witness: where a picture moves, do its rows resemble
their neighbours less than the rows of their own field? Only pictures that move can tell anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import av.error
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

from vsr.frame import Frame, VideoInfo

if TYPE_CHECKING:
    from av import VideoFrame

Parity = Literal["tff", "bff"]

MAX_INTERLACED_HEIGHT = 1152
"""No system has interlaced pictures with more lines."""
_MIN_LINES = 8
_MOVING_CODES = 12
"""Of 8 bits: noise and the trembling of static pictures stay below."""
_MOVING_SHARE = 0.002
_COLUMN_STEP = 7
"""Every so many columns are looked at: odd, since drawn pictures repeat in powers of 2."""
_MAX_PARITY_SAMPLES = 8
_COMBED_RATIO, _WHOLE_RATIO = 1.1, 1.0
"""Real and drawn progressive material gives 0.35 to 1.0, fields that differ 1.3 and more."""


@dataclass(slots=True)
class FieldReport:
    """One entry for each picture, in order of display."""

    kinds: list[str] = field(default_factory=list)
    """By `idet`: `tff`, `bff`, `progressive` or `undetermined`."""
    ratios: list[float | None] = field(default_factory=list)
    """How rows differ from their neighbours, against how they differ from the rows of their own
    field, where the picture moves; None where too little does."""
    flagged: list[bool] = field(default_factory=list)
    """The decoder says interlaced."""
    num_repeated: int = 0
    """Pictures that repeat a field of the one before: the mark of telecine."""
    flag_parity: Parity | None = None
    """Which field comes first, as the decoder flags it; None where no flagged picture can tell."""

    def combed(self) -> list[bool]:
        """Pictures that both witnesses call combed."""
        pairs = zip(self.kinds, self.ratios, strict=True)
        return [
            kind in ("tff", "bff") and ratio is not None and ratio > _COMBED_RATIO
            for kind, ratio in pairs
        ]

    @property
    def num_moving_whole(self) -> int:
        """Pictures that move and are not combed."""
        return sum(ratio is not None and ratio < _WHOLE_RATIO for ratio in self.ratios)

    @property
    def num_flagged(self) -> int:
        return sum(self.flagged)


class FieldWatch:
    """Push every picture of a film in order, then take the report.

    Args:
        info: of the film.
        is_damaged: hold on to no picture of the decoder's: see `copy_planes` of `FrameReader`.
    """

    def __init__(self, info: VideoInfo, *, is_damaged: bool = False) -> None:
        self._info = info
        self._filters = ("copy", "idet") if is_damaged else ("idet",)
        self._report = FieldReport()
        self._graph: Graph | None = None
        self._last: NDArray[np.int16] | None = None
        self._votes = {"tff": 0, "bff": 0}

    @staticmethod
    def suits(info: VideoInfo) -> bool:
        """Whether a film of this size can be interlaced at all."""
        return _MIN_LINES <= info.height <= MAX_INTERLACED_HEIGHT and info.width >= _MIN_LINES

    def push(self, decoded: VideoFrame, frame: Frame) -> None:
        """Take the next picture, as the decoder gave it and as planes."""
        if self._graph is None:
            self._graph = _graph(decoded, self._info, *self._filters)
        self._report.ratios.append(self._ratio(frame))
        self._report.flagged.append(frame.is_interlaced)
        if frame.is_interlaced and sum(self._votes.values()) < _MAX_PARITY_SAMPLES:
            parity = _flag_parity(decoded, self._info)
            if parity is not None:
                self._votes[parity] += 1
        self._graph.vpush(decoded)
        self._collect(self._graph)

    def finish(self) -> FieldReport:
        """The report, after the last picture."""
        report = self._report
        if self._graph is not None:
            self._graph.vpush(None)
            self._collect(self._graph)
        # The filter may keep a picture to itself; nothing is known of that one.
        report.kinds += ["undetermined"] * (len(report.ratios) - len(report.kinds))
        if any(self._votes.values()):
            report.flag_parity = "bff" if self._votes["bff"] > self._votes["tff"] else "tff"
        return report

    def _collect(self, graph: Graph) -> None:
        for picture in _drain(graph):
            tags = dict(picture.metadata)
            self._report.kinds.append(tags.get("lavfi.idet.multiple.current_frame", ""))
            repeated = tags.get("lavfi.idet.repeated.current_frame", "neither")
            self._report.num_repeated += repeated != "neither"

    def _ratio(self, frame: Frame) -> float | None:
        luma = _sample(frame)
        last, self._last = self._last, luma
        if last is None or last.shape != luma.shape:
            return None
        moves = np.abs(luma[2:-2] - last[2:-2]) > _MOVING_CODES
        if np.count_nonzero(moves) < _MOVING_SHARE * moves.size:
            return None
        here = 2 * luma[2:-2]
        to_others = np.abs(here - luma[1:-3] - luma[3:-1])[moves].sum(dtype=np.int64)
        to_own = np.abs(here - luma[:-4] - luma[4:])[moves].sum(dtype=np.int64)
        return float(to_others) / max(1.0, float(to_own))


def _sample(frame: Frame) -> NDArray[np.int16]:
    """Some columns of luma, or of green where planes are RGB, as codes of 8 bits."""
    columns: Any = frame.planes[0][:, ::_COLUMN_STEP]
    if frame.layout.is_float:
        columns = np.clip(columns * 255, 0, 255)
    elif frame.layout.bits > 8:
        columns = columns >> (frame.layout.bits - 8)
    codes: NDArray[np.int16] = columns.astype(np.int16)
    return codes


def _graph(decoded: VideoFrame, info: VideoInfo, *filters: str) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=decoded.width,
        height=decoded.height,
        format=decoded.format,
        time_base=info.time_base,
    )
    chain = [graph.add(name) for name in filters]
    graph.link_nodes(source, *chain, graph.add("buffersink")).configure()
    return graph


def _drain(graph: Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def _flag_parity(decoded: VideoFrame, info: VideoInfo) -> Parity | None:
    """Which field the decoder says comes first.

    av does not tell, but `separatefields` obeys that flag: the field it gives out first is either
    the one of the even rows or the one of the odd rows.
    """
    graph = _graph(decoded, info, "separatefields")
    graph.vpush(decoded)
    first = next(_drain(graph), None)
    if first is None:
        return None
    whole, one = _bytes(decoded, 0), _bytes(first, 0)
    is_top = np.array_equal(whole[0::2][: len(one)], one[: len(whole[0::2])])
    is_bottom = np.array_equal(whole[1::2], one[: len(whole[1::2])])
    if is_top == is_bottom:
        return None
    return "tff" if is_top else "bff"


def _bytes(picture: VideoFrame, index: int) -> np.ndarray:
    """Plane `index` as (rows, bytes), without reading behind its last row."""
    plane = picture.planes[index]
    stride = plane.line_size
    width = min(abs(stride), plane.width)
    memory: Any = plane  # A buffer, though its stubs say so only from Python 3.12 on.
    flat = np.frombuffer(memory, np.uint8)[: (plane.height - 1) * stride + width]
    return np.lib.stride_tricks.as_strided(flat, (plane.height, width), (stride, 1))
