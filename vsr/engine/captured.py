"""Record what a recurrent model does with a chunk once, and have the GPU do it again by itself.

A small network on small pictures is limited by how fast its kernels are handed over, not by what
they compute. A CUDA graph hands all kernels of a chunk over in one go. It reads and writes the same
addresses every time, so what goes in is copied to a place of its own and what comes out is copied
from there before anybody sees it: a result never changes because a later one was made.

Only chunks of the usual length and size are recorded, before the threads of a run start: while one
thread records, what others ask of the GPU can spoil the record. All else is computed as ever, with
equal results.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vsr.engine.memory import is_out_of_memory
from vsr.models.upscaler import FrameRenderer, ModelSpec, State, Upscaler

logger = logging.getLogger(__name__)

MAX_RECORDINGS = 4
"""Each keeps the memory that its work takes. Two are what one size of picture needs."""
_NUM_WARMUPS = 2
"""First calls choose kernels, load them and fill caches, which a record cannot hold."""

Work = Callable[[], tuple[Tensor, ...]]


class Recording(Protocol):
    """Work that can be done again on what its inputs hold by then."""

    made: tuple[Tensor, ...]
    """What the work gives; overwritten by every `replay`, and meaningless before the first."""

    def replay(self) -> None:
        """Do it again, ordered like any other work on the current stream."""

    def release(self) -> None:
        """Give its memory back; no `replay` after this."""


Record = Callable[[Work], Recording]
"""Records work that was done at least once before and reads and writes no host memory."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """One recording with all that it reads."""

    inputs: tuple[Tensor, ...]
    held: tuple[Tensor, ...]
    """What it reads besides, as far as others might let go of it: tables in bounded caches."""
    recording: Recording

    def run(self, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        for place, tensor in zip(self.inputs, given, strict=True):
            place.copy_(tensor)
        self.recording.replay()
        return tuple(tensor.clone() for tensor in self.recording.made)


_Key = tuple[Any, ...]


class CapturedRenderer:
    """An upscaler that runs another from recordings where it has one; equal to it bit for bit.

    Keeps the contract of `FrameRenderer`. Use from one thread at a time.

    Args:
        model: on its device; its weights stay where they are from `prepare` on.
        spec: its description.
        device: where it is.
        record: how work is recorded.
    """

    def __init__(
        self, model: Upscaler, spec: ModelSpec, device: torch.device, record: Record
    ) -> None:
        assert isinstance(model, FrameRenderer), spec.id
        self.scale = model.scale
        self.note: str | None = None
        """Why nothing is recorded, one sentence; None where all went well."""
        self.num_replays = 0
        self._model = model
        self._renderer: FrameRenderer = model
        self._spec = spec
        self._device = device
        self._record = record
        self._kept: dict[_Key, _Kept] = {}
        self._placed: tuple[object, object] | None = None

    @property
    def num_recordings(self) -> int:
        return len(self._kept)

    def prepare(self, height: int, width: int) -> None:
        """Record a chunk of frames of that size, and how one of them is finished.

        Call it before other threads use the device. What cannot be recorded is said in `note`.

        Args:
            height: of the source's pictures as the model is given them, pixels.
            width: likewise.
        """
        if self.note is not None:
            return
        height, width = (max(n, self._spec.min_size) for n in (height, width))
        ran_out = False
        length, context = self._spec.chunk + self._spec.context, self._spec.context
        try:
            with torch.inference_mode():
                frames = torch.zeros(1, length, 3, height, width, device=self._device)
                fresh = self._model.init_state(1, height, width)
                state = tuple(tensor.to(self._device) for tensor in fresh)
                if self._key("propagate", context, (frames, *state)) in self._kept:
                    return
                # What a chunk leaves lies in memory as it will for all chunks but the first.
                features, state = self._renderer.propagate(frames, state, context)
                feature = features[0].clone()
                del features
                self._keep("propagate", context, (frames, *state))
                self._keep("render", 0, (frames[:, 0], feature))
                self.rest()
        except RuntimeError as error:
            # The chunk is then computed as ever, and whether it fits the memory is seen there.
            self.release()
            self.note = f"No CUDA graph is used: {_cause(error)}."
            logger.info("%s", self.note)
            ran_out = is_out_of_memory(error)
        # Not before here: an error holds all that was held where it was raised.
        if ran_out and self._device.type == "cuda":
            torch.cuda.empty_cache()

    def rest(self) -> None:
        """Wait for the device, so that another stream may go on with this model."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def release(self) -> None:
        """Forget all recordings, and give their memory back."""
        while self._kept:
            self._kept.popitem()[1].recording.release()

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        """See `Upscaler.init_state`."""
        return self._model.init_state(batch, height, width, seed)

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        """See `Upscaler.upscale`."""
        features, state = self.propagate(frames_BTCHW, state, num_context)
        results = [
            self.render(frames_BTCHW[:, t], feature_BCHW) for t, feature_BCHW in enumerate(features)
        ]
        return torch.stack(results, dim=1), state

    def propagate(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Sequence[Tensor], State]:
        """See `FrameRenderer.propagate`."""
        made = self._replayed("propagate", num_context, (frames_BTCHW, *state))
        if made is None:
            return self._renderer.propagate(frames_BTCHW, state, num_context)
        kept = frames_BTCHW.shape[1] - num_context
        return list(made[:kept]), made[kept:]

    def render(self, frame_BCHW: Tensor, feature_BCHW: Tensor) -> Tensor:
        """See `FrameRenderer.render`."""
        made = self._replayed("render", 0, (frame_BCHW, feature_BCHW))
        return self._renderer.render(frame_BCHW, feature_BCHW) if made is None else made[0]

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the model; recordings know its weights by their addresses, and go."""
        if self._placed != (args, kwargs):
            self.release()
            self._model.to(*args, **kwargs)
            self._placed = args, kwargs
        return self

    def eval(self) -> Self:
        """Ready the model for use."""
        self._model.eval()
        return self

    def _replayed(
        self, name: str, num_context: int, given: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...] | None:
        """What the recording for such inputs makes of them; None where there is none."""
        # A graph has numbers for its random draws that were made for inference, and writes them.
        if not torch.is_inference_mode_enabled():
            return None
        kept = self._kept.get(self._key(name, num_context, given))
        if kept is None:
            return None
        self.num_replays += 1
        return kept.run(given)

    def _key(self, name: str, num_context: int, given: tuple[Tensor, ...]) -> _Key:
        return name, num_context, *((tuple(t.shape), t.dtype, t.device) for t in given)

    def _keep(self, name: str, num_context: int, given: tuple[Tensor, ...]) -> None:
        """Record one method for inputs like these."""
        # Ordinary tensors, which may be written to whether or not that is for inference alone.
        with torch.inference_mode(False):
            inputs = tuple(torch.empty_like(t) for t in given)
        for place, tensor in zip(inputs, given, strict=True):
            place.copy_(tensor)

        def work() -> tuple[Tensor, ...]:
            if name == "render":
                return (self._renderer.render(*inputs),)
            features, state = self._renderer.propagate(inputs[0], inputs[1:], num_context)
            return (*features, *state)

        work()
        with _Foreign() as foreign:
            work()
        recording = self._record(work)
        while len(self._kept) >= MAX_RECORDINGS:
            self._kept.pop(next(iter(self._kept))).recording.release()
        self._kept[self._key(name, num_context, given)] = _Kept(inputs, foreign.found, recording)


class _Foreign(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the tensors that work reads and did not make."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made: set[int] = set()
        self._found: dict[int, Tensor] = {}

    @property
    def found(self) -> tuple[Tensor, ...]:
        return tuple(self._found.values())

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        for tensor in _tensors((args, kwargs)):
            place = _address(tensor)
            if place not in self._made:
                self._found.setdefault(place, tensor)
        result = func(*args, **(kwargs or {}))
        self._made |= {_address(t) for t in _tensors(result)} - self._found.keys()
        return result


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class CudaRecording:
    """Work as a CUDA graph, in memory of its own; see `Recording`.

    Args:
        device: the GPU.
        work: as for `Record`.

    Raises:
        RuntimeError: the work waits for the device or takes a path that a graph cannot hold, or the
            memory does not suffice.
    """

    def __init__(self, device: torch.device, work: Work) -> None:
        self._device = device
        self._graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(device)
        side: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(_NUM_WARMUPS):
                work()
            with _memory_of_its_own(device) as pool:
                # Calls of other threads that a recording does not bear do not spoil this one.
                mode = "thread_local"
                with torch.cuda.graph(self._graph, pool=pool, stream=side, capture_error_mode=mode):
                    self.made = work()
        current.wait_stream(side)

    def replay(self) -> None:
        self._graph.replay()

    def release(self) -> None:
        torch.cuda.synchronize(self._device)
        self.made = ()
        self._graph.reset()


@contextmanager
def _memory_of_its_own(device: torch.device) -> Iterator[Any]:
    """A graph's pool, left in order where recording fails.

    Some versions of torch then go on as if they still recorded, and never again free what was
    handed from stream to stream.
    """
    pool = torch.cuda.graph_pool_handle()
    try:
        yield pool
    except RuntimeError:
        # Refused where recording was ended in order, and the graph itself gives its memory back.
        with suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(device.index or 0, pool)
            torch._C._cuda_releasePool(device.index or 0, pool)
        raise


def capture_upscaler(model: Upscaler, spec: ModelSpec, device: torch.device) -> Upscaler:
    """The model with CUDA graphs, or itself where there are none: on a CPU, or of its kind."""
    fits = spec.capturable and spec.kind == "video" and isinstance(model, FrameRenderer)
    if device.type != "cuda" or not fits:
        return model
    return CapturedRenderer(model, spec, device, partial(CudaRecording, device))


def _cause(error: BaseException) -> str:
    """The first line of what began a failure."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    if is_out_of_memory(error):
        return "the memory does not hold one"
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
