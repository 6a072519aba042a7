"""What a score compares: the ground truth of each frame and the small picture made of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from vsr.errors import OpenError, ShapeError
from vsr.training.clips import Clip
from vsr.training.degrade import degrade_clip, draw_recipe


def degraded_pairs(
    clip: Clip, scale: int, multiple: int, degradation: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Ground truth, cropped to a multiple, and its small picture, made here.

    The recipe of a clip hangs on its name alone, so that everybody who has the clip has the same
    small pictures. Where frames hang together, as with codecs, all small ones of a clip are held
    and the clip is read twice.

    Args:
        clip: the ground truth.
        scale: by how much to shrink.
        multiple: of width and height.
        degradation: one of `degrade.DEGRADATIONS`.

    Yields:
        (3, H, W) and (3, H/s, W/s) float32 in [0, 1], whole 8-bit codes.
    """
    recipe = draw_recipe(degradation, torch.Generator().manual_seed(zlib.crc32(clip.name.encode())))
    pictures = (crop_to(picture, multiple) for picture in clip.pictures())
    if recipe.is_per_frame:
        for picture in pictures:
            yield picture, degrade_clip(iter((picture * 255,)), scale, recipe)[0] / 255
        return
    small_TCHW = degrade_clip((picture * 255 for picture in pictures), scale, recipe) / 255
    again = (crop_to(picture, multiple) for picture in clip.pictures())
    yield from zip(again, small_TCHW, strict=True)


def given_pairs(
    clip: Clip, small: Clip, scale: int, multiple: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Ground truth, cropped to what the small pictures show, and these.

    Raises:
        ShapeError: their number or their sizes do not fit together.
    """
    for reference, picture in zip_longest(clip.pictures(), small.pictures()):
        if reference is None or picture is None:
            raise ShapeError(f"'{clip.name}' has not as many small pictures as large ones")
        height, width = (scale * side for side in picture.shape[-2:])
        spare = (reference.shape[-2] - height, reference.shape[-1] - width)
        if not all(0 <= px < max(multiple, scale) for px in spare):
            raise ShapeError(
                f"In '{clip.name}' {picture.shape[-1]}x{picture.shape[-2]} times {scale} is not "
                f"{reference.shape[-1]}x{reference.shape[-2]}"
            )
        yield reference[:, :height, :width], picture


def crop_to(picture: Tensor, multiple: int) -> Tensor:
    """Cut rows and columns at the bottom and right until both sides divide by `multiple`.

    Raises:
        ShapeError: nothing is left.
    """
    height, width = (side - side % multiple for side in picture.shape[-2:])
    if not height or not width:
        raise ShapeError(f"{tuple(picture.shape[-2:])} is smaller than {multiple} pixels")
    return picture[..., :height, :width]


def by_name(clips: Sequence[Clip], small: Sequence[Clip], folder: Path) -> dict[str, Clip]:
    """The small clips by name.

    Raises:
        OpenError: one of the large ones has none.
    """
    found = {clip.name: clip for clip in small}
    missing = [clip.name for clip in clips if clip.name not in found]
    if missing:
        raise OpenError(f"{folder} has nothing called '{missing[0]}'", hint="name them as in --gt")
    return found
