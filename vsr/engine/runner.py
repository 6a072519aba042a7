"""Run a model over the frames of a video, shot by shot, on one device.

Frames are pushed one at a time and come back, larger, as soon as a chunk of them is done. What is
held is one chunk of source frames, the model's state and the results of the last call, whatever the
length of the video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.color import complete, planes_to_rgb, rgb_to_planes
from vsr.engine.alpha import enlarge_alpha, read_alpha, write_alpha
from vsr.engine.chunks import Chunk, Chunker, ChunkGrid
from vsr.engine.curves import from_display, to_display
from vsr.engine.geometry import Geometry, fit_shape
from vsr.engine.lanes import Download, make_lane
from vsr.engine.placing import place, place_inside, turn
from vsr.errors import ShapeError
from vsr.frame import ColorSpec, Curve, Frame, PlaneLayout, VideoInfo
from vsr.models.upscaler import FrameRenderer, ModelSpec, State, Upscaler


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A source frame whose result is not written yet."""

    frame: Frame
    """The source frame without its planes, which are freed as soon as they are converted."""
    rgb_3HW: Tensor
    alpha_11HW: Tensor | None = None
    """Where both source and result have it."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What all frames of one shot are."""

    width: int
    height: int
    layout: PlaneLayout
    color: ColorSpec
    inside: tuple[int, int] | None
    """(width, height) at which pictures of another size than the film's are shown in it."""


def _shape(size: tuple[int, int], aspect: Fraction, geometry: Geometry) -> Fraction:
    """Width by height of a turned picture as displayed."""
    width, height = geometry.orientation.size(*size)
    return Fraction(width, height) * geometry.orientation.aspect(aspect)


class Runner:
    """Enlarge the frames of one video with one model on one device.

    Every result carries the pts, duration, side data and flags of its source frame. Use from one
    thread at a time.

    Args:
        model: with its weights, in the number format that the plan states.
        spec: its description.
        device: where to run; the model is moved there, its weights laid out channels last.
        dtype: of the frames handed to the model. float32 keeps every code of a 16-bit source, and
            suits bfloat16 weights too: models convert where they convolve.
        layout_in: of the source frames.
        color_in: how to read them; complete, nothing UNSPECIFIED.
        layout_out: of the results.
        color_out: how to write them; complete.
        seed: for models that draw random numbers.
        first_index: place of the first frame in the video; where bits are lost, the pattern that
            hides it differs from frame to frame by this count.
        geometry: how pictures are turned, resampled and cropped; None leaves them as the model
            makes them.
        source: the video, whose frames may then change size, layout and colour from shot to shot;
            None refuses that. Needs `geometry`.
        curve_in: from the source's codes to what the model sees.
        curve_out: what the model makes passes its inverse.
    """

    def __init__(
        self,
        model: Upscaler,
        spec: ModelSpec,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        layout_in: PlaneLayout,
        color_in: ColorSpec,
        layout_out: PlaneLayout,
        color_out: ColorSpec,
        seed: int = 0,
        first_index: int = 0,
        geometry: Geometry | None = None,
        source: VideoInfo | None = None,
        curve_in: Curve = "none",
        curve_out: Curve = "none",
    ) -> None:
        assert source is None or geometry is not None, "changes need a geometry to be fitted into"
        self._model = model
        self._spec = spec
        self._device = device
        self._dtype = dtype
        self._layout_in = layout_in
        self._color_in = color_in
        self._layout_out = layout_out
        self._color_out = color_out
        self._seed = seed
        self._geometry = geometry
        self._source = source
        self._curves = curve_in, curve_out
        self._kind: _Kind | None = None
        self._next_index = first_index
        self._lane = make_lane(device)
        self._chunker: Chunker[_Waiting] = Chunker(ChunkGrid(spec.chunk, spec.context))
        self._state: State | None = None
        self._on_the_way: deque[tuple[Frame, Download]] = deque()
        model.to(device=device, memory_format=torch.channels_last)
        model.eval()

    def start_shot(self) -> None:
        """Forget the shot before: the next frame is the first that the model ever saw.

        The shot before must have been finished.
        """
        assert self._chunker.is_empty, "start_shot() before finish_shot()"
        self._state = None
        if self._source is not None:
            self._kind = None

    def push(self, frame: Frame) -> list[Frame]:
        """Take the shot's next frame; return the results that are ready, in order.

        Raises:
            ShapeError: the frame's layout is not the one announced, or its size changed.
        """
        kind = self._check(frame)
        with torch.inference_mode():
            planes = self._lane.upload(frame.planes)
            with self._lane.compute():
                rgb_13HW = planes_to_rgb(planes, kind.layout, kind.color, dtype=self._dtype)
                if self._geometry is not None:
                    rgb_13HW = turn(rgb_13HW, self._geometry.orientation)
                rgb_13HW = to_display(rgb_13HW, self._curves[0])
                alpha_11HW = self._read_alpha(planes, kind)
            waiting = _Waiting(replace(frame, planes=()), rgb_13HW[0], alpha_11HW)
            call = self._chunker.push(waiting)
            if call is not None:
                self._run(call)
        return list(self._take(self._lane.num_in_flight * self._spec.chunk))

    def finish_shot(self) -> list[Frame]:
        """End the shot: run what is left and return all results still due, in order."""
        with torch.inference_mode():
            call = self._chunker.finish()
            if call is not None:
                self._run(call)
        self._state = None
        return list(self._take(0))

    def _check(self, frame: Frame) -> _Kind:
        """What the frame is, which must be what the shot's frames before it were."""
        kind = self._kind
        if kind is None:
            kind = self._kind = self._kind_of(frame)
        if frame.layout != kind.layout:
            raise ShapeError(f"a frame of layout {frame.layout}, expected {kind.layout}")
        if (frame.width, frame.height) != (kind.width, kind.height):
            raise ShapeError(
                f"a frame of {(frame.height, frame.width)}, expected "
                f"{(kind.height, kind.width)} (height, width)"
            )
        return kind

    def _kind_of(self, frame: Frame) -> _Kind:
        """How to read a shot that begins with this frame, and where to lay it."""
        size, layout, color, inside = (frame.width, frame.height), frame.layout, frame.color, None
        source, geometry = self._source, self._geometry
        if source is None or geometry is None:
            layout, color = self._layout_in, self._color_in
        elif color == source.color and layout == source.layout:
            color = self._color_in
        else:
            color, _ = complete(color, *size, layout)
        if source is not None and geometry is not None:
            film_aspect = source.sample_aspect_ratio
            aspect = frame.sample_aspect_ratio or film_aspect
            if size != (source.width, source.height) or aspect != film_aspect:
                inside = fit_shape(
                    _shape(size, aspect, geometry),
                    (geometry.picture_width, geometry.picture_height),
                    _shape((source.width, source.height), film_aspect, geometry),
                )
        return _Kind(*size, layout, color, inside)

    def _run(self, call: Chunk[_Waiting]) -> None:
        """Enlarge one chunk and start its way back to the host."""
        with self._lane.compute():
            frames_BTCHW = _stack([item.rgb_3HW for item in call.items], self._spec.min_size)
            if self._state is None:
                self._state = self._model.init_state(
                    1, frames_BTCHW.shape[-2], frames_BTCHW.shape[-1], self._seed
                )
                self._state = tuple(tensor.to(self._device) for tensor in self._state)
            results = self._enlarge(frames_BTCHW, call.num_context)
        height, width = (self._spec.scale * n for n in call.items[0].rgb_3HW.shape[-2:])
        assert self._kind is not None
        kind = self._kind
        dithers = self._layout_out.bits < kind.layout.bits and not kind.layout.is_float
        for index in range(call.num_written):
            with self._lane.compute():
                # One frame at a time: a chunk of full-size pictures in float would be the largest
                # thing in memory.
                result_1CHW = next(results)
                self._check_result(result_1CHW, frames_BTCHW)
                placed = self._place(result_1CHW[..., :height, :width], kind)
                planes = rgb_to_planes(
                    from_display(placed, self._curves[1]),
                    self._layout_out,
                    self._color_out,
                    dither=self._next_index if dithers else None,
                )
                alpha_11HW = call.items[index].alpha_11HW
                if alpha_11HW is not None:
                    alpha_13HW = self._place(enlarge_alpha(alpha_11HW, self._spec.scale), kind)
                    planes += write_alpha(alpha_13HW, self._layout_out)
            self._next_index += 1
            self._on_the_way.append((call.items[index].frame, self._lane.download(planes)))

    def _read_alpha(self, planes: tuple[Tensor, ...], kind: _Kind) -> Tensor | None:
        if not (kind.layout.has_alpha and self._layout_out.has_alpha):
            return None
        alpha_11HW = read_alpha(planes, kind.layout)
        if self._geometry is None:
            return alpha_11HW
        return turn(alpha_11HW, self._geometry.orientation)

    def _place(self, picture_BCHW: Tensor, kind: _Kind) -> Tensor:
        """From what the model made to what is encoded."""
        if self._geometry is None:
            return picture_BCHW
        if kind.inside is None:
            return place(picture_BCHW, self._geometry)
        return place_inside(picture_BCHW, kind.inside, self._geometry)

    def _enlarge(self, frames_BTCHW: Tensor, num_context: int) -> Iterator[Tensor]:
        """Results (1, 3, sH, sW) in order, each made when it is asked for where the model can."""
        assert self._state is not None
        model = self._model
        if isinstance(model, FrameRenderer):
            features, self._state = model.propagate(frames_BTCHW, self._state, num_context)
            pairs = zip(frames_BTCHW.unbind(1), features, strict=False)
            return (model.render(frame, feature) for frame, feature in pairs)
        result_BTCHW, self._state = model.upscale(frames_BTCHW, self._state, num_context)
        num_written = frames_BTCHW.shape[1] - num_context
        if result_BTCHW.shape[1] != num_written:
            raise ShapeError(
                f"model {self._spec.id} returned {result_BTCHW.shape[1]} frames, "
                f"expected {num_written}"
            )
        return iter(result_BTCHW.unbind(1))

    def _check_result(self, result_1CHW: Tensor, frames_BTCHW: Tensor) -> None:
        height, width = frames_BTCHW.shape[-2:]
        expected = (1, 3, self._spec.scale * height, self._spec.scale * width)
        if tuple(result_1CHW.shape) != expected:
            raise ShapeError(
                f"model {self._spec.id} returned a frame of shape {tuple(result_1CHW.shape)}, "
                f"expected {expected}"
            )

    def _take(self, num_left: int) -> Iterator[Frame]:
        """Results that have arrived; waits for those in excess of `num_left`."""
        while self._on_the_way and (
            len(self._on_the_way) > num_left or self._on_the_way[0][1].is_ready()
        ):
            source, download = self._on_the_way.popleft()
            yield replace(
                source,
                planes=download.wait(),
                layout=self._layout_out,
                color=self._color_out,
            )


def _stack(rgbs_3HW: list[Tensor], min_size: int) -> Tensor:
    """(1, T, 3, H, W), padded at the right and below by repetition up to `min_size` pixels."""
    alone = len(rgbs_3HW) == 1
    frames_BTCHW = rgbs_3HW[0][None, None] if alone else torch.stack(rgbs_3HW)[None]
    height, width = frames_BTCHW.shape[-2:]
    missing = (max(0, min_size - width), max(0, min_size - height))
    if not any(missing):
        return frames_BTCHW
    padded = F.pad(frames_BTCHW[0], (0, missing[0], 0, missing[1]), mode="replicate")
    return padded[None]
