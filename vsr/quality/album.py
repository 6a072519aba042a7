"""Frames to look at, kept as pictures while a film is measured."""

from __future__ import annotations

import base64

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
"""By which a frame must be the better example to be compressed anew."""


class Album:
    """The worst, a typical and the best frame seen so far, and a small part of each."""

    def __init__(self, old_viewer: Viewer, new_viewer: Viewer) -> None:
        self._viewers = old_viewer, new_viewer
        self._held: dict[str, tuple[FrameScore, tuple[str, ...]]] = {}
        self._sum = 0.0

    def offer(self, score: FrameScore, pair: Pair, old: Frame, new: Frame) -> None:
        """Take the frame if it is a better example than the one held."""
        self._sum += score.psnr_db
        usual = self._sum / (score.frame + 1)
        taken = [title for title in _EXAMPLES if self._is_better(title, score, usual)]
        if not taken:
            return
        jpegs = self._jpegs(pair, old, new)
        for title in taken:
            self._held[title] = score, jpegs

    def _is_better(self, title: str, score: FrameScore, usual: float) -> bool:
        if title not in self._held:
            return True
        held = self._held[title][0].psnr_db
        gain = {
            "worst": held - score.psnr_db,
            # Of what is usual by now, not when the frame came: the first one would stay for ever.
            "typical": abs(held - usual) - abs(score.psnr_db - usual),
            "best": score.psnr_db - held,
        }
        # The worst is also shown as a map, which must be of the same frame.
        return gain[title] > (0 if title == "worst" else _GAIN_DB)

    def _jpegs(self, pair: Pair, old: Frame, new: Frame) -> tuple[str, ...]:
        after = self._viewers[1].rgb(new)
        height, width = after.shape[:2]
        before = _resized(self._viewers[0].rgb(old), (width, height))
        factor = min(1.0, _STILL_PX / width)
        size = max(1, round(width * factor)), max(1, round(height * factor))
        rows, columns = _crop(pair, height, width)
        return tuple(
            _jpeg(picture)
            for picture in (
                _resized(before, size),
                _resized(after, size),
                before[rows, columns],
                after[rows, columns],
            )
        )

    def stills(self) -> tuple[Still, ...]:
        """Each frame once, the worst first."""
        titles: dict[int, list[str]] = {}
        for title, (score, _) in self._held.items():
            titles.setdefault(score.frame, []).append(title)
        made = []
        for names in titles.values():
            score, (before, after, crop_before, crop_after) = self._held[names[0]]
            made.append(
                Still(
                    title=" and ".join(names),
                    frame=score.frame,
                    time_s=score.time_s,
                    psnr_db=score.psnr_db,
                    before_jpeg=before,
                    after_jpeg=after,
                    crop_before_jpeg=crop_before,
                    crop_after_jpeg=crop_after,
                )
            )
        return tuple(made)


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
