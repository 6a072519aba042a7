"""The contract every model keeps, and the description of a model.

Not `nn.Module.forward`, because one model optimises (PULSE), one routes patches (ClassSR) and the
recurrent ones carry state. Shape suffixes used below and in all of `models` and `engine`:
B batch, T frames in time, C channels, H W source size in pixels, s scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

State = tuple[Tensor, ...]
"""What a recurrent model remembers: tensors, batch first. Per-frame models have `()`.

Everything a later call depends on is in here, including the last input frames a model needs, so
that the call is pure and one sample of a batch can be reset without the others.
"""


class Upscaler(Protocol):
    """Enlarge a run of frames of one shot.

    Frames are RGB, nominally in [0, 1] and clamped neither on the way in nor out, so that codes
    outside the nominal range survive. A call never spans a cut: at a cut, start again from
    `init_state`.
    """

    scale: int

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        """State before the first frame of a shot.

        Args:
            batch: number of samples B.
            height: H of the source frames, pixels.
            width: W of the source frames, pixels.
            seed: for models that draw random numbers; equal seeds give equal pictures.
        """
        ...

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        """Enlarge the first T - num_context frames.

        Args:
            frames_BTCHW: (B, T, 3, H, W), float32, bfloat16 or float16, any device.
            state: from `init_state` or from the previous call on the same shot.
            num_context: the last so many frames are only looked at; they come again, as the
                first frames, in the next call. Fewer than `ModelSpec.context` only in a shot's
                last call.

        Returns:
            (B, T - num_context, 3, s*H, s*W), dtype and device of the input, and the new state.
        """
        ...

    def to(self, *args: Any, **kwargs: Any) -> Any: ...

    def eval(self) -> Any: ...


@runtime_checkable
class FrameRenderer(Protocol):
    """An upscaler whose last step, the one to full size, works on one frame at a time.

    `upscale` is then `propagate` followed by `render` of each frame. Whoever writes frames one by
    one calls these two, so that a chunk of full-size pictures in float never exists.
    """

    def propagate(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Sequence[Tensor], State]:
        """As `Upscaler.upscale`, but gives (B, C, H, W) features of each frame to write."""
        ...

    def render(self, frame_BCHW: Tensor, feature_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) and its features -> (B, 3, s*H, s*W), dtype of the frame."""
        ...


@runtime_checkable
class Explains(Protocol):
    """An upscaler that has something to say of each picture."""

    def explain(self) -> str:
        """What was found of the picture made last, in one clause."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What must be known of a model without building it."""

    id: str
    """NAME-xN, e.g. `flowprop-s-x4`."""
    family: str
    scale: int
    kind: Literal["video", "image"]
    """`video` looks at neighbouring frames, `image` at one frame at a time."""
    build: Callable[..., nn.Module]
    """Called with `params`; gives an Upscaler with random weights."""
    params: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    """Stem of the file and card in `vsr/weights`; None for models without weights."""
    paper: str = ""
    chunk: int = 1
    """Frames written per call, T - num_context, in every call but a shot's last."""
    context: int = 0
    """Look-ahead frames per call."""
    warmup: int = 0
    """Frames to run and discard when a shot is entered in its middle."""
    causal: bool = True
    """Chunked equals whole exactly; False: within 0.1 dB against ground truth."""
    tileable: bool = True
    """May be run on tiles of the picture with a halo of `halo_px`."""
    halo_px: int = 0
    """Receptive radius in source pixels; meaningful where `tileable`."""
    capturable: bool = True
    """Fixed shapes and no host synchronisation: fit for a CUDA graph."""
    bf16: bool = True
    """bfloat16 costs no visible quality."""
    min_size: int = 1
    """Smallest width and height of a source frame, pixels; the engine pads smaller ones."""
    invents_detail: bool = False
    """Trained to look plausible rather than to be right; barred by `--fidelity`."""
    stills_only: bool = False
    """Takes seconds to minutes for one picture, or does not know what a film is."""
    draws: bool = False
    """Another seed gives another picture, each as good as the other."""
    parent: str | None = None
    """Of a model that invents detail: id of the one of equal shape, trained to be right, that its
    training began with."""
