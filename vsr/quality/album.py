"""Frames to look at, kept as pictures while a film is measured."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vsr.frame import Frame
from vsr.quality.consistency import Pair, blocks
from vsr.quality.report import FrameScore, Still
from vsr.quality.views import Viewer

_STILL_PX = 1280
_JPEG_QUALITY = 88
_CROP_PX = (192, 108)
_EXAMPLES = ("worst", "typical", "best")
_GAIN_DB = 0.25
"""By which a frame must be the better example to be held in place of another."""


@dataclass(frozen=True, slots=True)
class _Page:
    """A frame held for showing, before and after."""

    score: FrameScore
    old: Frame
    new: Frame
    part: tuple[slice, slice]
    """Rows and columns of the result that are least like the source."""


class Album:
    """The worst, a typical and the best frame seen so far, and a small part of each."""

    def __init__(self, old_viewer: Viewer, new_viewer: Viewer) -> None:
        self._viewers = old_viewer, new_viewer
        self._held: dict[str, _Page] = {}
        self._sum = 0.0

    def offer(self, score: FrameScore, pair: Pair, old: Frame, new: Frame) -> None:
        """Take the frame if it is a better example than the one held."""
        self._sum += score.psnr_db
        usual = self._sum / (score.frame + 1)
        taken = [title for title in _EXAMPLES if self._is_better(title, score, usual)]
        if not taken:
            return
        # Compressed at the end: of a film that gets better, every frame is the best so far.
        page = _Page(score, _copied(old), _copied(new), _crop(pair, *pair.result.luma_HW.shape))
        for title in taken:
            self._held[title] = page

    def _is_better(self, title: str, score: FrameScore, usual: float) -> bool:
        if title not in self._held:
            return True
        if title != "worst" and (
            score.sharpness is None or self._held[title].score.sharpness is None
        ):
            # A black frame is always the best, and shows nothing.
            return score.sharpness is not None
        held = self._held[title].score.psnr_db
        gain = {
            "worst": held - score.psnr_db,
            # Of what is usual by now, not when the frame came: the first one would stay for ever.
            "typical": abs(held - usual) - abs(score.psnr_db - usual),
            "best": score.psnr_db - held,
        }
        # The worst is also shown as a map, which must be of the same frame.
        return gain[title] > (0 if title == "worst" else _GAIN_DB)

    def stills(self) -> tuple[Still, ...]:
        """Each frame once, the worst first."""
        titles: dict[int, list[str]] = {}
        for title, page in self._held.items():
            titles.setdefault(page.score.frame, []).append(title)
        return tuple(self._still(names) for names in titles.values())

    def _still(self, names: list[str]) -> Still:
        page = self._held[names[0]]
        after = self._viewers[1].rgb(page.new)
        height, width = after.shape[:2]
        before = _resized(self._viewers[0].rgb(page.old), (width, height))
        factor = min(1.0, _STILL_PX / width)
        size = max(1, round(width * factor)), max(1, round(height * factor))
        rows, columns = page.part
        return Still(
            title=" and ".join(names),
            frame=page.score.frame,
            time_s=page.score.time_s,
            psnr_db=page.score.psnr_db,
            before_jpeg=_jpeg(_resized(before, size)),
            after_jpeg=_jpeg(_resized(after, size)),
            crop_before_jpeg=_jpeg(before[rows, columns]),
            crop_after_jpeg=_jpeg(after[rows, columns]),
        )


def _copied(frame: Frame) -> Frame:
    """The same in memory of its own: a decoder wants its buffers back."""
    return replace(frame, planes=tuple(plane.copy() for plane in frame.planes))


def _crop(pair: Pair, height: int, width: int) -> tuple[slice, slice]:
    """The part of the result around the block that is least like its source."""
    squared = blocks(np.square(pair.error))
    row, column = np.unravel_index(int(np.argmax(squared)), squared.shape)
    size = min(_CROP_PX[1], height), min(_CROP_PX[0], width)
    starts = [
        min(max(0, round((at + 0.5) * whole / number) - part // 2), whole - part)
        for at, number, whole, part in zip(
            (row, column), squared.shape, (height, width), size, strict=True
        )
    ]
    return slice(starts[0], starts[0] + size[0]), slice(starts[1], starts[1] + size[1])


def _resized(rgb_HW3: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if rgb_HW3.shape[1::-1] == size:
        return rgb_HW3
    is_smaller = size[0] < rgb_HW3.shape[1]
    kind = cv2.INTER_AREA if is_smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb_HW3, size, interpolation=kind), np.uint8)


def _jpeg(rgb_HW3: NDArray[np.uint8]) -> str:
    """Base64 of a JPEG."""
    bgr = cv2.cvtColor(rgb_HW3, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert done, "a picture of 8 bits can be compressed"
    return base64.b64encode(bytes(data)).decode("ascii")
