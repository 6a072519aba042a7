"""A contact sheet: the same moment of several films side by side, whole and close up."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vsr.quality.consistency import blocks
from vsr.quality.montage import GAP_PX, label_strip

Pixels = NDArray[np.uint8]

MAX_FILMS = len(string.ascii_uppercase)
_TILE_PX = 640
_CROP_PX = (160, 90)


@dataclass(frozen=True, slots=True)
class Moment:
    """What the films show at one time."""

    title: str
    """ASCII, for the labels."""
    pictures: tuple[Pixels, ...]
    """RGB of each film, (height, width, 3), sizes as they are."""


def contact_sheet(moments: Sequence[Moment]) -> Pixels:
    """Two rows for each moment: whole pictures, and the part where they differ most.

    All are shown at the size of the largest picture of their moment: smaller ones are enlarged by
    bicubic interpolation. Close-ups repeat pixels, so that nothing is smoothed. Films are lettered
    from A in their order.

    Returns:
        RGB, (height, width, 3).
    """
    rows = [row for moment in moments for row in _rows(moment)]
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, GAP_PX), (0, width - row.shape[1]), (0, 0))) for row in rows]
    )


def _rows(moment: Moment) -> tuple[Pixels, Pixels]:
    height = max(picture.shape[0] for picture in moment.pictures)
    width = max(picture.shape[1] for picture in moment.pictures)
    large = [_resized(picture, (width, height), cv2.INTER_CUBIC) for picture in moment.pictures]
    tile_width = min(_TILE_PX, width)
    tile = tile_width, max(1, round(height * tile_width / width))
    x, y, crop = _where(large)
    factor = max(1, tile_width // crop[0])
    wholes, parts = [], []
    for letter, picture, own in zip(string.ascii_uppercase, large, moment.pictures, strict=False):
        small = _resized(picture, tile, cv2.INTER_AREA)
        label = f"{letter}  {own.shape[1]}x{own.shape[0]}  {moment.title}"
        wholes.append(np.concatenate([_label(label, tile_width), small]))
        part = picture[y : y + crop[1], x : x + crop[0]].repeat(factor, 0).repeat(factor, 1)
        part = part[:, :tile_width]
        parts.append(np.pad(part, ((0, 0), (0, tile_width - part.shape[1]), (0, 0))))
    return _beside(wholes), _beside(parts)


def _where(pictures: Sequence[Pixels]) -> tuple[int, int, tuple[int, int]]:
    """Left, top, and (width, height) of the part where the pictures differ most."""
    height, width = pictures[0].shape[:2]
    crop = min(_CROP_PX[0], width), min(_CROP_PX[1], height)
    greys = np.stack([picture.mean(axis=2, dtype=np.float32) for picture in pictures])
    spread = blocks(np.asarray(greys.var(axis=0), np.float32))
    row, column = np.unravel_index(int(np.argmax(spread)), spread.shape)
    x = round((column + 0.5) * width / spread.shape[1]) - crop[0] // 2
    y = round((row + 0.5) * height / spread.shape[0]) - crop[1] // 2
    return min(max(0, x), width - crop[0]), min(max(0, y), height - crop[1]), crop


def _label(text: str, width: int) -> Pixels:
    return label_strip(text, width)[..., None].repeat(3, 2)


def _beside(pictures: Sequence[Pixels]) -> Pixels:
    gapped = [np.pad(picture, ((0, 0), (0, GAP_PX), (0, 0))) for picture in pictures]
    return np.concatenate(gapped, axis=1)[:, :-GAP_PX]


def _resized(picture: Pixels, size: tuple[int, int], kind: int) -> Pixels:
    if picture.shape[1::-1] == size:
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=kind), np.uint8)
