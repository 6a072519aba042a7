"""How training and scoring make small pictures of large ones.

A recipe is drawn for each clip and holds for all of its frames: it makes every frame small on its
own (`shrink`), then spoils the clip of small frames (`spoil`). Both kinds of sampler and `vsr eval`
follow the same recipes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from vsr.models.image.interpolation import imresize
from vsr.training.degrade_archive import draw_archive
from vsr.training.degrade_blur import draw_blur
from vsr.training.degrade_mixed import Footage, draw_mixed

Degradation = Literal["bi", "bd", "bd-corner", "mixed", "archive", "aniso"]
"""MATLAB's bicubic; Gaussian and decimation in both phases; what ordinary footage went through;
what old film and tape look like; an unknown blur of any direction."""
DEGRADATIONS: tuple[str, ...] = get_args(Degradation)


class Recipe(Protocol):
    """What happens to one clip. The target of training stays what it is."""

    @property
    def is_per_frame(self) -> bool:
        """Whether frames could as well be of different clips."""
        ...

    def shrink(self, frames_TCHW: Tensor, scale: int) -> Tensor:
        """(T, 3, H, W) float32 in [0, 255] -> (T, 3, H/s, W/s), any part of the clip at a time."""
        ...

    def spoil(self, frames_TCHW: Tensor) -> Tensor:
        """All small frames of the clip, float32 -> whole codes in [0, 255]."""
        ...


_DRAW: Mapping[str, Callable[[torch.Generator], Recipe]] = {
    "bi": lambda _: Footage("bi"),
    "bd": lambda _: Footage("bd"),
    "bd-corner": lambda _: Footage("bd-corner"),
    "mixed": draw_mixed,
    "archive": draw_archive,
    "aniso": draw_blur,
}
_REACH_PX = {"bi": 0.0, "bd": 6.0, "bd-corner": 6.0, "mixed": 8.0, "archive": 8.0, "aniso": 12.0}
"""Pixels of the large picture, beyond the resampling's own, that a sample depends on."""
_BORDER_PX = {"mixed": 2, "archive": 4}
"""Small pixels at the border that a codec, or what moves the picture, has changed."""


def draw_recipe(name: str, generator: torch.Generator) -> Recipe:
    """A recipe for one clip.

    Args:
        name: one of `DEGRADATIONS`.
        generator: on the CPU; equal states draw equal recipes.
    """
    return _DRAW[name](generator)


def margin_px(name: str, scale: int) -> int:
    """Small pixels to cut off each side of a degraded crop, which its border has changed."""
    return max(2, math.ceil(_REACH_PX[name] / scale)) + _BORDER_PX.get(name, 0)


def degrade(frames_BTCHW: Tensor, scale: int, recipes: Sequence[Recipe]) -> Tensor:
    """Follow one recipe for each clip of a batch.

    Args:
        frames_BTCHW: (B, T, 3, H, W) float32 in [0, 255], on any device.
        scale: integer factor that divides H and W.
        recipes: B of them.

    Returns:
        (B, T, 3, H/s, W/s) float32, whole numbers in [0, 255].
    """
    batch = len(recipes)
    if all(recipe == recipes[0] and recipe.is_per_frame for recipe in recipes):
        # All alike, as with the field's own degradations: a GPU wants them in one go.
        flat_NCHW = recipes[0].spoil(recipes[0].shrink(frames_BTCHW.flatten(0, 1), scale))
        return flat_NCHW.view(batch, -1, *flat_NCHW.shape[1:])
    return torch.stack(
        [
            recipe.spoil(recipe.shrink(frames_TCHW, scale))
            for frames_TCHW, recipe in zip(frames_BTCHW, recipes, strict=True)
        ]
    )


def degrade_clip(frames: Iterator[Tensor], scale: int, recipe: Recipe) -> Tensor:
    """Follow a recipe for a clip that comes frame by frame.

    Args:
        frames: (3, H, W) float32 in [0, 255] each, held one at a time.
        scale: integer factor.
        recipe: of the clip.

    Returns:
        (T, 3, H/s, W/s) float32, whole numbers in [0, 255].
    """
    small = [recipe.shrink(frame[None], scale)[0] for frame in frames]
    return recipe.spoil(torch.stack(small))


def bicubic(frames: Tensor, scale: int) -> Tensor:
    """Shrink as MATLAB's imresize(x, 1/s) does and round to 8 bits: the field's "BI".

    Args:
        frames: (..., H, W) float32 in [0, 255]; H and W divide by `scale`.
        scale: integer factor.

    Returns:
        (..., H/s, W/s) float32, whole numbers in [0, 255].
    """
    return imresize(frames, scale=1 / scale).round_().clamp_(0, 255)
