"""Several pictures in one: side by side, or two with a border that wipes from one to the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vsr.errors import ShapeError

LABEL_PX = 28
GAP_PX = 4
_WIPE_S = 8.0
"""In which the border goes all the way across and back."""
_IN_ONE_ROW = 3


class Montage:
    """Where each picture goes; all are shown at the size of the largest.

    Args:
        sizes: (width, height) of each film as shown.
        wipe: show two films as one picture, A left of a border and B right of it; otherwise side
            by side, more than three in rows.
        ink: value of the letters and of the border, white for the films' transfer.

    Raises:
        ShapeError: a wipe of other than two films.
    """

    def __init__(
        self, sizes: Sequence[tuple[int, int]], *, wipe: bool = False, ink: float = 1.0
    ) -> None:
        if wipe and len(sizes) != 2:
            raise ShapeError(f"a wipe goes between two films, not {len(sizes)}")
        self._wipe, self._ink = wipe, ink
        self.tile = max(width for width, _ in sizes), max(height for _, height in sizes)
        """Width and height of a film in the montage."""
        number = len(sizes)
        self._columns = number if number <= _IN_ONE_ROW else math.ceil(math.sqrt(number))
        self._columns = 1 if wipe else self._columns
        rows = 1 if wipe else math.ceil(number / self._columns)
        width = self._columns * (self.tile[0] + GAP_PX) - GAP_PX
        height = rows * (self.tile[1] + LABEL_PX + GAP_PX) - GAP_PX
        # Encoders that halve the colour want even sizes.
        self.size = width + width % 2, height + height % 2
        """Width and height of the montage, both even."""

    def draw(
        self, pictures: Sequence[NDArray[np.float32]], labels: Sequence[str], time_s: float
    ) -> Tensor:
        """Put pictures of one moment together.

        Args:
            pictures: R, G, B of each film, (3, height, width), nominally [0, 1]; smaller ones are
                enlarged by bicubic interpolation.
            labels: ASCII, one for each film.
            time_s: since the montage began; where the border of a wipe stands follows from it.

        Returns:
            (3, H, W) of `size`, not clamped.
        """
        large = [self._enlarged(picture) for picture in pictures]
        canvas = torch.zeros((3, *self.size[::-1]))
        if self._wipe:
            self._draw_wipe(canvas, large, labels, time_s)
            return canvas
        width, height = self.tile
        for index, (picture, label) in enumerate(zip(large, labels, strict=True)):
            row, column = divmod(index, self._columns)
            x, y = column * (width + GAP_PX), row * (height + LABEL_PX + GAP_PX)
            canvas[:, y : y + LABEL_PX, x : x + width] = self._strip(label, width)
            canvas[:, y + LABEL_PX : y + LABEL_PX + height, x : x + width] = picture
        return canvas

    def border_px(self, time_s: float) -> int:
        """Column at which a wipe goes over to the second film: from the middle to the right."""
        share = 0.5 + 0.5 * math.sin(2 * math.pi * time_s / _WIPE_S)
        return round(share * self.tile[0])

    def _draw_wipe(
        self, canvas: Tensor, pictures: Sequence[Tensor], labels: Sequence[str], time_s: float
    ) -> None:
        (width, height), at = self.tile, self.border_px(time_s)
        shown = canvas[:, LABEL_PX : LABEL_PX + height, :width]
        shown[:, :, :at] = pictures[0][:, :, :at]
        shown[:, :, at:] = pictures[1][:, :, at:]
        # White between black lines is seen on any picture.
        shown[:, :, max(0, at - 2) : at + 2] = 0
        shown[:, :, max(0, at - 1) : at + 1] = self._ink
        canvas[:, :LABEL_PX, : width // 2] = self._strip(labels[0], width // 2)
        right = self._strip(labels[1], width - width // 2, is_right=True)
        canvas[:, :LABEL_PX, width // 2 : width] = right

    def _enlarged(self, picture_3HW: NDArray[np.float32]) -> Tensor:
        picture = torch.from_numpy(picture_3HW)
        if picture.shape[:0:-1] == self.tile:
            return picture
        resized = F.interpolate(
            picture[None],
            size=self.tile[::-1],
            mode="bicubic",
            # Without it torch takes a = -0.75, also for enlarging.
            antialias=True,
            align_corners=False,
        )
        return resized[0]

    def _strip(self, text: str, width: int, *, is_right: bool = False) -> Tensor:
        """(LABEL_PX, width)."""
        return torch.from_numpy(label_strip(text, width, is_right=is_right)) * (self._ink / 255)


def label_strip(text: str, width: int, *, is_right: bool = False) -> NDArray[np.uint8]:
    """One line of ASCII in white on black, cut off where it does not fit.

    Returns:
        (LABEL_PX, width).
    """
    strip = np.zeros((LABEL_PX, width), np.uint8)
    face, size = cv2.FONT_HERSHEY_SIMPLEX, 0.55
    (wide, _), _ = cv2.getTextSize(text, face, size, 1)
    x = max(6, width - wide - 6) if is_right else 6
    cv2.putText(strip, text, (x, 20), face, size, (255,), 1, cv2.LINE_AA)
    return strip
