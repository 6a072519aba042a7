"""Run a model on tiles of the picture, each with a margin that is computed and cut off again.

Seams are not blended. A tile sees `halo_px` of its surroundings, and only its own part is kept: a
model whose receptive radius is not larger gives what it gives for the whole picture. Tiles begin at
multiples of 16 px, so that networks that halve the picture up to four times halve it alike.

A model with optical flow sees less in a tile than in the whole picture: motion is found from the
tile alone, and features that come in from farther than the halo are lost, since each tile keeps a
state of its own. Tiles are for pictures that do not fit the memory, and not exact for such models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from vsr.models.upscaler import FrameRenderer, ModelSpec, State, Upscaler

ALIGN_PX = 16


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis, in source pixels: what it keeps and what it sees."""

    start: int
    stop: int
    seen_start: int
    seen_stop: int


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of a picture."""

    y: Span
    x: Span

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of what it sees."""
        return self.y.seen_stop - self.y.seen_start, self.x.seen_stop - self.x.seen_start

    def cut(self, picture: Tensor) -> Tensor:
        """What the tile sees of (..., H, W)."""
        y, x = self.y, self.x
        return picture[..., y.seen_start : y.seen_stop, x.seen_start : x.seen_stop]

    def paste(self, piece: Tensor, picture: Tensor, scale: int = 1) -> None:
        """Write what it keeps of (..., s h, s w) into (..., s H, s W)."""
        y, x = self.y, self.x
        top, left = scale * (y.start - y.seen_start), scale * (x.start - x.seen_start)
        height, width = scale * (y.stop - y.start), scale * (x.stop - x.start)
        target = picture[..., scale * y.start : scale * y.stop, scale * x.start : scale * x.stop]
        target.copy_(piece[..., top : top + height, left : left + width])


def split_axis(length: int, tile_px: int, halo_px: int) -> tuple[Span, ...]:
    """Cover 0 .. length by spans of at most about `tile_px`, of even size, without overlap.

    Args:
        length: of the axis, pixels.
        tile_px: what a span keeps at most; rounded up to a multiple of 16.
        halo_px: what it sees at least on each side, as far as there is picture.
    """
    assert length >= 1 and tile_px >= 1 and halo_px >= 0, (length, tile_px, halo_px)
    step = _round_up(tile_px)
    count = -(-length // step)
    step = _round_up(-(-length // count))
    halo = _round_up(halo_px)
    return tuple(
        Span(
            start,
            min(start + step, length),
            max(0, start - halo),
            min(start + step + halo, length),
        )
        for start in range(0, length, step)
    )


def tile_grid(height: int, width: int, tile_px: int, halo_px: int) -> tuple[Tile, ...]:
    """Tiles that cover a picture, row by row; see `split_axis`."""
    rows = split_axis(height, tile_px, halo_px)
    columns = split_axis(width, tile_px, halo_px)
    return tuple(Tile(y, x) for y in rows for x in columns)


def tile_upscaler(model: Upscaler, spec: ModelSpec, tile_px: int) -> Upscaler:
    """The model on tiles, or the model itself where its spec does not allow that."""
    if not spec.tileable:
        return model
    kind = TiledRenderer if isinstance(model, FrameRenderer) else TiledUpscaler
    return kind(model, tile_px=max(tile_px, spec.min_size), halo_px=spec.halo_px)


class TiledUpscaler:
    """An `Upscaler` that runs another on tiles, one after the other.

    Its state is the states of all tiles, in the order of the grid.

    Args:
        model: to be run.
        tile_px: what a tile keeps at most, source pixels; see `split_axis`.
        halo_px: what it sees besides, on each side.
    """

    def __init__(self, model: Upscaler, *, tile_px: int, halo_px: int) -> None:
        self.scale = model.scale
        self._model = model
        self._tile_px = tile_px
        self._halo_px = halo_px

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        """See `Upscaler.init_state`."""
        states = [
            self._model.init_state(batch, *tile.size, seed) for tile in self._grid(height, width)
        ]
        return tuple(tensor for state in states for tensor in state)

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        """See `Upscaler.upscale`."""
        batch, length, channels, height, width = frames_BTCHW.shape
        scale = self.scale
        results = frames_BTCHW.new_empty(
            batch, length - num_context, channels, scale * height, scale * width
        )
        ends: list[Tensor] = []
        for tile, before in self._with_states(height, width, state):
            piece, after = self._model.upscale(tile.cut(frames_BTCHW), before, num_context)
            tile.paste(piece, results, scale)
            ends += after
        return results, tuple(ends)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the model."""
        self._model.to(*args, **kwargs)
        return self

    def eval(self) -> Self:
        """Ready the model for use."""
        self._model.eval()
        return self

    def _grid(self, height: int, width: int) -> tuple[Tile, ...]:
        return tile_grid(height, width, self._tile_px, self._halo_px)

    def _with_states(self, height: int, width: int, state: State) -> list[tuple[Tile, State]]:
        """Each tile with its part of the state."""
        grid = self._grid(height, width)
        count = len(state) // len(grid)
        assert count * len(grid) == len(state), (len(state), len(grid))
        return [(tile, state[i * count : (i + 1) * count]) for i, tile in enumerate(grid)]


class TiledRenderer(TiledUpscaler):
    """The same for models that keep the contract of `FrameRenderer`.

    Features are put together at the source's size and rendered from there, again tile by tile, so
    that what is written sees no seam but the one in the features.
    """

    def propagate(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Sequence[Tensor], State]:
        """See `FrameRenderer.propagate`."""
        model = self._renderer()
        batch, *_, height, width = frames_BTCHW.shape
        features: list[Tensor] = []
        ends: list[Tensor] = []
        for tile, before in self._with_states(height, width, state):
            pieces, after = model.propagate(tile.cut(frames_BTCHW), before, num_context)
            if not features:
                features = [
                    piece.new_empty(batch, piece.shape[1], height, width) for piece in pieces
                ]
            for piece, feature in zip(pieces, features, strict=True):
                tile.paste(piece, feature)
            ends += after
        return features, tuple(ends)

    def render(self, frame_BCHW: Tensor, feature_BCHW: Tensor) -> Tensor:
        """See `FrameRenderer.render`."""
        model = self._renderer()
        batch, channels, height, width = frame_BCHW.shape
        result = frame_BCHW.new_empty(batch, channels, self.scale * height, self.scale * width)
        for tile in self._grid(height, width):
            piece = model.render(tile.cut(frame_BCHW), tile.cut(feature_BCHW))
            tile.paste(piece, result, self.scale)
        return result

    def _renderer(self) -> FrameRenderer:
        assert isinstance(self._model, FrameRenderer)
        return self._model


def _round_up(length: int) -> int:
    return -(-length // ALIGN_PX) * ALIGN_PX
