"""Run a model over the frames of a video, shot by shot, on one device.

Frames are pushed one at a time and come back, larger, as soon as a chunk of them is done. What is
held is one chunk of source frames, the model's state and the results of the last call, whatever the
length of the video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from vsr.color import complete, planes_to_rgb, rgb_to_planes
from vsr.engine.alpha import enlarge_alpha, read_alpha, write_alpha
from vsr.engine.chunks import Chunk, Chunker, ChunkGrid
from vsr.engine.curves import from_display, to_display
from vsr.engine.geometry import Geometry, fit_shape
from vsr.engine.grain import GrainSheet
from vsr.engine.guards import Alarm, GuardEvent, Judge, merge_events
from vsr.engine.ladder import Rung, Watch, open_window
from vsr.engine.lanes import Download, make_lane
from vsr.engine.memory import is_out_of_memory
from vsr.engine.placing import place, place_inside, turn
from vsr.errors import DeviceMemoryError, GuardError, ShapeError
from vsr.frame import ColorSpec, Curve, Frame, PlaneLayout, VideoInfo
from vsr.models.upscaler import ModelSpec, State, Upscaler


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A source frame whose result is not written yet."""

    frame: Frame
    """The source frame without its planes, which are freed as soon as they are converted."""
    rgb_3HW: Tensor
    alpha_11HW: Tensor | None = None
    """Where both source and result have it."""
    is_warmup: bool = False
    """Its result is not written at all."""


_Made = list[tuple[Frame, Download]]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What a model makes of a chunk, as long as nobody has looked whether it is good."""

    rung: Rung
    made: _Made
    watch: Watch
    state: State
    """Of the model, after the chunk."""


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
        first_index: place in the video of the first frame that is written; where bits are lost, the
            pattern that hides it differs from frame to frame by this count.
        geometry: how pictures are turned, resampled and cropped; None leaves them as the model
            makes them.
        source: the video, whose frames may then change size, layout and colour from shot to shot;
            None refuses that. Needs `geometry`.
        curve_in: from the source's codes to what the model sees.
        curve_out: what the model makes passes its inverse.
        grain: laid over results; None for none.
        rungs: what is tried, in this order, with a window of frames that the model fails at.
            Whether its pictures show what they should is asked only where another model could do
            better; that they are numbers, of the right shape, always.
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
        grain: GrainSheet | None = None,
        rungs: Sequence[Rung] = (),
    ) -> None:
        assert source is None or geometry is not None, "changes need a geometry to be fitted into"
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
        self._grain = grain
        self._kind: _Kind | None = None
        self._first_index = first_index
        self._next_index = first_index
        self._lane = make_lane(device)
        self._chunker: Chunker[_Waiting] = Chunker(ChunkGrid(spec.chunk, spec.context))
        self._state: State | None = None
        self._on_the_way: deque[tuple[Frame, Download]] = deque()
        self._unseen: tuple[Chunk[_Waiting], _Attempt] | None = None
        """A chunk that the device may still be at: whoever waited for it at once would let the
        device idle until the next one has been handed over."""
        self._rungs = (Rung(spec, lambda: model), *rungs)
        self._rungs[0].model(device)
        self._has_others = any(rung.is_other for rung in rungs)
        self._judge = Judge()
        self._events: list[GuardEvent] = []

    @property
    def model(self) -> Upscaler:
        """The model of the run, on its device."""
        return self._rungs[0].model(self._device)

    @property
    def events(self) -> tuple[GuardEvent, ...]:
        """What the model did wrong so far; frames counted from the first that was written."""
        return merge_events(self._events)

    def start_shot(self) -> None:
        """Forget the shot before: the next frame is the first that the model ever saw.

        The shot before must have been finished.
        """
        assert self._chunker.is_empty, "start_shot() before finish_shot()"
        self._state = None
        self._judge.start_shot()
        if self._source is not None:
            self._kind = None

    def push(self, frame: Frame, *, is_warmup: bool = False) -> list[Frame]:
        """Take the shot's next frame; return the results that are ready, in order.

        Args:
            frame: of the same kind as the shot's others.
            is_warmup: the model sees it, and what it makes of it is dropped: for a shot that is
                entered in its middle.

        Raises:
            ShapeError: the frame's layout is not the one announced, or its size changed.
            GuardError: no model made pictures of the frames.
            DeviceMemoryError: they did not fit the memory.
        """
        kind = self._check(frame)
        with torch.inference_mode():
            planes = self._lane.upload(frame.planes)
            with self._lane.compute():
                rgb_13HW = planes_to_rgb(planes, kind.layout, kind.color, dtype=self._dtype)
                if self._geometry is not None:
                    rgb_13HW = turn(rgb_13HW, self._geometry.orientation)
                rgb_13HW = to_display(rgb_13HW, self._curves[0])
                alpha_11HW = None if is_warmup else self._read_alpha(planes, kind)
            waiting = _Waiting(replace(frame, planes=()), rgb_13HW[0], alpha_11HW, is_warmup)
            call = self._chunker.push(waiting)
            if call is not None:
                self._run(call)
        return list(self._take(self._lane.num_in_flight * self._spec.chunk))

    def finish_shot(self, num_lookahead: int = 0) -> list[Frame]:
        """End the shot: run what is left and return all results still due, in order.

        Args:
            num_lookahead: of the last frames pushed, so many are only looked at: for a shot that
                is left in its middle. At most the model's context.
        """
        with torch.inference_mode():
            call = self._chunker.finish(num_lookahead)
            if call is not None:
                self._run(call)
            self._settle()
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
        """Enlarge one chunk and start its way back to the host.

        Where the device works by itself, whether the result is good is asked when the next chunk
        is there, or at the end of the shot.
        """
        self._settle()
        begun = self._begin(self._rungs[0], call)
        if isinstance(begun, _Attempt) and self._lane.num_in_flight:
            self._unseen = call, begun
        else:
            self._complete(call, begun)

    def _settle(self) -> None:
        """See to the chunk that nobody has looked at."""
        if self._unseen is not None:
            (call, begun), self._unseen = self._unseen, None
            self._complete(call, begun)

    def _complete(self, call: Chunk[_Waiting], begun: _Attempt | Alarm) -> None:
        """Take what the first model made of a chunk, or else whatever it takes."""
        alarms: list[Alarm] = []
        others = iter(self._rungs[1:])
        while isinstance(made := self._end(begun, call), Alarm):
            alarms.append(made)
            rung = next(others, None)
            if rung is None:
                raise self._failed(alarms, call)
            begun = self._begin(rung, call)
        first = self._next_index
        self._next_index += len(made)
        self._on_the_way.extend(made)
        if alarms and made:
            assert isinstance(begun, _Attempt)
            alarm, place = alarms[0], first - self._first_index
            event = GuardEvent(alarm.kind, place, len(made), begun.rung.action, alarm.detail)
            self._events.append(event)

    def _failed(self, alarms: Sequence[Alarm], call: Chunk[_Waiting]) -> GuardError:
        num_frames = sum(not item.is_warmup for item in call.items[: call.num_written])
        return GuardError(
            f"Model {self._spec.id} made no picture of frames {self._next_index} to "
            f"{self._next_index + num_frames - 1}, nor did anything after it: {alarms[-1].detail}.",
            hint="the weights or the device may be at fault; try another of them",
        )

    def _begin(self, rung: Rung, call: Chunk[_Waiting]) -> _Attempt | Alarm:
        """Have a model make pictures of a chunk; or what is wrong with them, as far as known."""
        with self._memory_for(rung, call):
            return self._attempt(rung, call)

    def _end(self, begun: _Attempt | Alarm, call: Chunk[_Waiting]) -> _Made | Alarm:
        """What was made of a chunk, on its way to the host; or what is wrong with it.

        Waits for the device.
        """
        if isinstance(begun, Alarm):
            return begun
        with self._memory_for(begun.rung, call), self._lane.compute():
            alarm = begun.watch.finish(self._judge)
        if alarm is not None:
            return alarm
        self._state = None if begun.rung.is_other else begun.state
        return begun.made

    @contextmanager
    def _memory_for(self, rung: Rung, call: Chunk[_Waiting]) -> Iterator[None]:
        """Say what did not fit into the memory, if that is what goes wrong."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            height, width = call.items[0].rgb_3HW.shape[-2:]
            raise DeviceMemoryError(
                f"The memory of {self._device} did not hold what {rung.spec.id} makes of "
                f"{len(call.items)} frames of {width}x{height}.",
                hint="use a smaller model, or give it more memory",
            ) from error

    def _attempt(self, rung: Rung, call: Chunk[_Waiting]) -> _Attempt | Alarm:
        num_dropped = sum(item.is_warmup for item in call.items[: call.num_written])
        with self._lane.compute():
            window = open_window(
                rung,
                [item.rgb_3HW for item in call.items],
                self._state,
                num_context=call.num_context,
                num_dropped=num_dropped,
                seed=self._seed,
                device=self._device,
            )
        if isinstance(window, Alarm):
            return window
        only_finite = rung.is_other or not self._has_others
        with self._lane.compute():
            watch = Watch(window, rung.spec, num_dropped, only_finite=only_finite)
        made: _Made = []
        for item in call.items[num_dropped : call.num_written]:
            with self._lane.compute():
                # One frame at a time: a chunk of full-size pictures in float would be the largest
                # thing in memory.
                result_1CHW = next(window.results)
                alarm = watch.look(result_1CHW)
                if alarm is not None:
                    return alarm
                planes = self._finish_picture(result_1CHW, item, self._next_index + len(made))
            made.append((item.frame, self._lane.download(planes)))
        return _Attempt(rung, made, watch, window.state)

    def _finish_picture(
        self, result_1CHW: Tensor, item: _Waiting, index: int
    ) -> tuple[Tensor, ...]:
        """From what the model made of a frame to the planes to encode."""
        assert self._kind is not None
        kind = self._kind
        dithers = self._layout_out.bits < kind.layout.bits and not kind.layout.is_float
        height, width = (self._spec.scale * n for n in item.rgb_3HW.shape[-2:])
        placed = self._place(result_1CHW[..., :height, :width], kind)
        if self._grain is not None:
            placed = self._grain.lay_over(placed, index)
        planes = rgb_to_planes(
            from_display(placed, self._curves[1]),
            self._layout_out,
            self._color_out,
            dither=index if dithers else None,
        )
        if item.alpha_11HW is not None:
            alpha_13HW = self._place(enlarge_alpha(item.alpha_11HW, self._spec.scale), kind)
            planes += write_alpha(alpha_13HW, self._layout_out)
        return planes

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
