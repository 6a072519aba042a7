"""Score models on clips and stills by the published protocols.

Video: the ground truth is cropped to a multiple of 12, every frame is made small (by MATLAB's
bicubic with rounding to 8 bits, "BI", unless told otherwise), the model sees whole clips in the
calls its spec states, the result is rounded to 8 bits, and the score is the mean over clips of each
clip's mean over frames, without cropping a border. Stills: the same with a crop to a multiple of
the scale and a border of `scale` pixels left out. Luma is BT.601 limited range.
"""

from __future__ import annotations

import platform
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vsr.errors import ConfigError
from vsr.models.checkpoint import card_of, card_of_file, is_file_name, load_upscaler, resolve_spec
from vsr.models.cost import count_gmac, count_params
from vsr.models.deflicker import steady
from vsr.models.image.classsr import ClassSR, Routing, mean_routing
from vsr.models.upscaler import ModelSpec, State, Upscaler
from vsr.quality.metrics import Channel, Psnr, Ssim, prepare, round_to_8_bit
from vsr.quality.temporal import Flicker
from vsr.training.clips import Clip, find_clips
from vsr.training.degrade import DEGRADATIONS
from vsr.training.eval_pairs import by_name, degraded_pairs, given_pairs
from vsr.training.perceptual import PerceptualMeter, SharedLpips, unavailable
from vsr.training.scores import ClipScore, Evaluation, Neighbours, Protocol, Row

Progress = Callable[[str, str], None]
"""Called with the model and the clip that begins."""

_VIDEO_MULTIPLE = 12
_NUM_COPIES = 7


class Stopwatch:
    """Time spent in a model's calls; a context manager entered once for each call."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []
        self.num_frames: list[int] = []
        self._start = 0.0

    def __enter__(self) -> None:
        self._wait()
        self._start = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self._wait()
        self.seconds.append(time.perf_counter() - self._start)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def ms_per_frame(self) -> float:
        """Per written frame; the first call, which warms up, does not count if there are more."""
        first = 1 if len(self.seconds) > 1 else 0
        return 1000 * sum(self.seconds[first:]) / sum(self.num_frames[first:])


def evaluate(
    models: Sequence[str | Path],
    gt: Path,
    *,
    lr: Path | None = None,
    degradation: str = "bi",
    scale: int = 4,
    channel: Channel = "y",
    crop_px: int | None = None,
    every: int = 1,
    neighbours: Neighbours = "real",
    chunk: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    strength: float = 0.0,
    perceptual: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Score models on a folder.

    Args:
        models: ids of the catalogue, or weight files.
        gt: ground truth: a folder of folders of frames, a folder of video files, a video file, or
            a folder of stills.
        lr: small pictures to enlarge, laid out as `gt`; made from `gt` when None.
        degradation: how they are made.
        scale: enlargement; every model must have it.
        channel: score luma or all of RGB.
        crop_px: border left out of the score; None: 0 for video, `scale` for stills.
        every: score every so many frames.
        neighbours: `copies` feeds each frame among copies of itself.
        chunk: frames written per call; None: as each model's spec says.
        device: where the models run.
        dtype: of their weights; frames are float32.
        strength: on clips, how far what models of single frames add is steadied along the motion,
            as `vsr upscale` does; 0 scores each frame as it is.
        perceptual: measure what PSNR does not see as well; see `training.perceptual`.
        progress: told what begins.

    Raises:
        ConfigError: a model has another scale, or an argument makes no sense.
        OpenError: there is nothing to score, or a picture cannot be read.
        ShapeError: small and large pictures do not fit together, or a clip is too small.
    """
    if degradation not in DEGRADATIONS:
        known = ", ".join(DEGRADATIONS)
        raise ConfigError(f"Unknown degradation '{degradation}'", hint=f"use {known}, or give --lr")
    if not models or every < 1 or (chunk is not None and chunk < 1):
        raise ConfigError("An evaluation needs a model, and steps and chunks of 1 frame or more")
    specs = [_spec(model, scale) for model in models]
    if chunk is not None:
        specs = [replace(spec, chunk=chunk) for spec in specs]
    clips = find_clips(gt)
    small = None if lr is None else by_name(clips, find_clips(lr), lr)
    is_video = clips[0].is_video
    protocol = Protocol(
        kind="video" if is_video else "image",
        scale=scale,
        degradation=degradation if lr is None else "given",
        channel=channel,
        crop_px=(0 if is_video else scale) if crop_px is None else crop_px,
        every=every,
        neighbours=neighbours,
        dtype=str(dtype).removeprefix("torch."),
        strength=strength if is_video else 0.0,
    )
    lpips = SharedLpips.load() if perceptual else None
    rows = []
    for model, spec in zip(models, specs, strict=True):
        upscaler = load_upscaler(model)
        gmac, params = _cost(model, upscaler, spec)
        upscaler.to(device=device, dtype=dtype)
        if protocol.strength and spec.kind == "image":
            upscaler = steady(upscaler, protocol.strength)
        stopwatch = Stopwatch(torch.device(device))
        scores: dict[str, ClipScore] = {}
        routes: list[Routing] = []
        for clip in clips:
            if progress is not None:
                progress(str(model), clip.name)
            scores[clip.name] = score_clip(
                upscaler,
                spec,
                clip,
                small[clip.name] if small else None,
                protocol,
                stopwatch,
                routes,
                None if lpips is None else PerceptualMeter(protocol, lpips),
            )
        rows.append(
            Row(
                model=str(model),
                clips=scores,
                ms_per_frame=stopwatch.ms_per_frame,
                gmac=gmac,
                params=params,
                routing=mean_routing(routes) if routes else None,
            )
        )
    machine = describe_machine(torch.device(device))
    notes = None if lpips is None else unavailable(protocol, lpips)
    return Evaluation(protocol=protocol, machine=machine, rows=tuple(rows), notes=notes)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the times were measured on."""
    is_cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else "cpu",
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def upscale_clip(
    model: Upscaler, spec: ModelSpec, frames: Iterable[Tensor], stopwatch: Stopwatch | None = None
) -> Iterator[Tensor]:
    """Enlarge the frames of one shot in the calls that a spec states.

    Args:
        model: on any device.
        spec: says how many frames a call writes and looks ahead at.
        frames: (3, H, W) each, in order, dtype and device as the model wants them.
        stopwatch: measures the calls.

    Yields:
        (3, sH, sW) for each frame that went in, in order.
    """
    held: list[Tensor] = []
    state: State | None = None

    def call(num_context: int) -> Iterator[Tensor]:
        nonlocal state
        height, width = held[0].shape[-2:]
        before = model.init_state(1, height, width) if state is None else state
        batch = torch.stack(held)[None]
        with torch.no_grad(), stopwatch or nullcontext():
            written, state = model.upscale(batch, before, num_context)
        if stopwatch is not None:
            stopwatch.num_frames.append(written.shape[1])
        yield from written[0]

    for frame in frames:
        held.append(frame)
        if len(held) == spec.chunk + spec.context:
            yield from call(spec.context)
            del held[: spec.chunk]
    if held:
        yield from call(0)


def _upscale_among_copies(
    model: Upscaler, frames: Iterable[Tensor], stopwatch: Stopwatch
) -> Iterator[Tensor]:
    """Enlarge each frame as the middle one of a shot of copies of it."""
    for frame in frames:
        state = model.init_state(1, *frame.shape[-2:])
        with torch.no_grad(), stopwatch:
            written, _ = model.upscale(frame.expand(1, _NUM_COPIES, -1, -1, -1), state)
        stopwatch.num_frames.append(_NUM_COPIES)
        yield written[0, _NUM_COPIES // 2]


def score_clip(
    model: Upscaler,
    spec: ModelSpec,
    clip: Clip,
    small: Clip | None,
    protocol: Protocol,
    stopwatch: Stopwatch,
    routes: list[Routing] | None = None,
    perceptual: PerceptualMeter | None = None,
) -> ClipScore:
    """Run one model over one clip; holds no more frames than a call needs.

    A model that parts pictures between networks is asked how, beside the clock.
    """
    waiting: deque[tuple[Tensor, Tensor]] = deque()
    parts = model if isinstance(model, ClassSR) else None

    def inputs() -> Iterator[Tensor]:
        multiple = _VIDEO_MULTIPLE if protocol.kind == "video" else protocol.scale
        pairs = (
            degraded_pairs(clip, protocol.scale, multiple, protocol.degradation)
            if small is None
            else given_pairs(clip, small, protocol.scale, multiple)
        )
        for reference, picture in pairs:
            given = picture.to(stopwatch.device)
            waiting.append((reference, given))
            if routes is not None and parts is not None:
                routes.append(parts.routing(given[None].to(parts.classifier.last.weight.dtype)))
            yield given

    psnr, ssim, flicker = Psnr(), Ssim(), Flicker()
    num_scored = 0
    if protocol.neighbours == "copies":
        results = _upscale_among_copies(model, inputs(), stopwatch)
    else:
        results = upscale_clip(model, spec, inputs(), stopwatch)
    for index, result in enumerate(results):
        is_scored = index % protocol.every == 0
        reference, given = waiting.popleft()
        pictures = [round_to_8_bit(image) for image in (result, reference.to(result.device))]
        if protocol.kind == "video":
            flicker.update(*pictures, is_scored=is_scored)
        if not is_scored:
            continue
        result_BCHW, reference_BCHW = (
            prepare(picture[None], protocol.channel, protocol.crop_px) for picture in pictures
        )
        psnr.update(result_BCHW, reference_BCHW)
        ssim.update(result_BCHW, reference_BCHW)
        if perceptual is not None:
            perceptual.update(pictures[0], pictures[1], given.to(result.device))
        num_scored += 1
    return ClipScore(
        psnr=psnr.compute(),
        ssim=ssim.compute(),
        flicker=flicker.compute(),
        frames=num_scored,
        perceptual=None if perceptual is None else perceptual.compute(),
    )


def _spec(model: str | Path, scale: int) -> ModelSpec:
    spec = resolve_spec(model)
    own_scale = spec.params.get("scale", spec.scale)
    if own_scale != scale:
        raise ConfigError(f"{model} enlarges by {own_scale}, not by {scale}", hint="see --scale")
    return spec


def _cost(model: str | Path, upscaler: Upscaler, spec: ModelSpec) -> tuple[float, int]:
    card = card_of_file(Path(model)) if is_file_name(model) else card_of(spec)
    if card is not None:
        return card.gmac_180p, card.num_params
    return count_gmac(upscaler, spec), count_params(cast(nn.Module, upscaler))
