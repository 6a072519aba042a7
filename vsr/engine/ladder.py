"""What is tried with a window of frames until a model makes pictures of it.

First the model of the run; then the same in float32, from the same state; then other models, which
start anew. Each is loaded when it is first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.engine.guards import BLOCK_PX, Alarm, Judge, band_means, sketch
from vsr.models.ahead import UsesHelper, ahead
from vsr.models.upscaler import FrameRenderer, ModelSpec, State, Upscaler


@dataclass(slots=True)
class Rung:
    """One model to try."""

    spec: ModelSpec
    load: Callable[[], Upscaler]
    """Gives the model with its weights; called once, when it is needed."""
    action: str = ""
    """What is said of frames that it made."""
    is_other: bool = False
    """Not the model of the run: it cannot go on from its state."""
    _model: Upscaler | None = field(default=None, init=False)

    def model(self, device: torch.device) -> Upscaler:
        """The model, on its device, its weights laid out channels last."""
        if self._model is None:
            self._model = self.load()
            self._model.to(device=device, memory_format=torch.channels_last)
            self._model.eval()
        return self._model


@dataclass(frozen=True, slots=True)
class Window:
    """One call of a model, before its pictures are made."""

    frames_BTCHW: Tensor
    """What the model was given: padded to its minimum size."""
    results: Iterator[Tensor]
    """(1, 3, sH, sW) of each frame to write, in order, made when it is asked for where it can."""
    state: State
    """After the call."""


def open_window(
    rung: Rung,
    rgbs_3HW: Sequence[Tensor],
    state: State | None,
    *,
    num_context: int,
    num_dropped: int,
    seed: int,
    device: torch.device,
) -> Window | Alarm:
    """Call a model.

    Args:
        rung: whose model.
        rgbs_3HW: the frames, of one size.
        state: before the call; None to begin with.
        num_context: of the last frames, so many are only looked at.
        num_dropped: of the first frames, so many are not written.
        seed: for a new state.
        device: where the frames are.
    """
    spec, model = rung.spec, rung.model(device)
    frames_BTCHW = _stack(rgbs_3HW, spec.min_size)
    if state is None or rung.is_other:
        fresh = model.init_state(1, frames_BTCHW.shape[-2], frames_BTCHW.shape[-1], seed)
        state = tuple(tensor.to(device) for tensor in fresh)
    num_written = frames_BTCHW.shape[1] - num_context
    if isinstance(model, FrameRenderer):
        features, after = model.propagate(frames_BTCHW, state, num_context)
        if len(features) != num_written:
            return _wrong_number(spec, len(features), num_written)
        pairs = islice(zip(frames_BTCHW.unbind(1), features, strict=False), num_dropped, None)
        works = (partial(model.render, *pair) for pair in pairs)
        helper = model.helper if isinstance(model, UsesHelper) else None
        # One ahead: it is made while the one before it is turned into codes.
        return Window(frames_BTCHW, ahead(works, helper, num_ahead=1), after)
    if rung.is_other and spec.kind == "image":
        # One by one: it was not chosen with a chunk of this length in mind.
        frames = frames_BTCHW[:, num_dropped:num_written].split(1, dim=1)  # type: ignore[no-untyped-call]
        return Window(frames_BTCHW, (model.upscale(f, state)[0][:, 0] for f in frames), state)
    result_BTCHW, after = model.upscale(frames_BTCHW, state, num_context)
    if result_BTCHW.ndim != 5 or result_BTCHW.shape[1] != num_written:
        return _wrong_number(spec, tuple(result_BTCHW.shape), num_written)
    return Window(frames_BTCHW, iter(result_BTCHW.unbind(1)[num_dropped:]), after)


def _wrong_number(spec: ModelSpec, given: object, expected: int) -> Alarm:
    return Alarm("shape", f"{spec.id} returned {given}, expected {expected} frames")


class Watch:
    """Looks at the results of one window as they are made.

    Args:
        window: whose.
        spec: of the model.
        num_dropped: of the window's first frames, so many are not written.
        only_finite: ask only whether results are numbers, not what they show.
    """

    def __init__(
        self, window: Window, spec: ModelSpec, num_dropped: int, *, only_finite: bool
    ) -> None:
        self._window = window
        self._spec = spec
        self._num_dropped = num_dropped
        self._only_finite = only_finite
        self._bands: list[Tensor] = []
        self._sums = _sums(window.state)

    def look(self, result_1CHW: Tensor) -> Alarm | None:
        """Note what a result shows; says at once when it cannot be written at all."""
        frames, scale = self._window.frames_BTCHW, self._spec.scale
        expected = (1, 3, scale * frames.shape[-2], scale * frames.shape[-1])
        if tuple(result_1CHW.shape) != expected or result_1CHW.dtype != frames.dtype:
            return Alarm(
                "shape",
                f"{self._spec.id} returned a frame of shape {tuple(result_1CHW.shape)} and type "
                f"{result_1CHW.dtype}, expected {expected} and {frames.dtype}",
            )
        if self._only_finite:
            self._sums.append(result_1CHW.sum(dtype=torch.float32))
        else:
            self._bands.append(band_means(result_1CHW, scale * BLOCK_PX))
        return None

    def finish(self, judge: Judge) -> Alarm | None:
        """What is wrong with the window, whose results have all been looked at.

        Waits for the device.
        """
        if self._sums and not bool(torch.stack(self._sums).isfinite().all()):
            return Alarm("nan", "results or what the model remembers hold what is not a number")
        if not self._bands:
            return None
        block_px, first = self._spec.scale * BLOCK_PX, self._num_dropped
        frames = self._window.frames_BTCHW[0, first : first + len(self._bands)]
        results = sketch(torch.cat(self._bands), block_px).cpu().numpy()
        sources = sketch(band_means(frames, BLOCK_PX), BLOCK_PX).cpu().numpy()
        alarm = judge.judge(sources, results)
        if alarm is None:
            judge.accept(sources, results)
        return alarm


def _sums(state: State) -> list[Tensor]:
    """Of all tensors in it: not finite where a sample is not."""
    return [tensor.sum(dtype=torch.float32) for tensor in state if tensor.is_floating_point()]


def _stack(rgbs_3HW: Sequence[Tensor], min_size: int) -> Tensor:
    """(1, T, 3, H, W), padded at the right and below by repetition up to `min_size` pixels."""
    alone = len(rgbs_3HW) == 1
    frames_BTCHW = rgbs_3HW[0][None, None] if alone else torch.stack(list(rgbs_3HW))[None]
    height, width = frames_BTCHW.shape[-2:]
    missing = (max(0, min_size - width), max(0, min_size - height))
    if not any(missing):
        return frames_BTCHW
    padded = F.pad(frames_BTCHW[0], (0, missing[0], 0, missing[1]), mode="replicate")
    return padded[None]
