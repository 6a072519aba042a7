"""Read source and result side by side once, and measure every frame; memory stays flat.

Kept for each frame are a dozen numbers; kept of pictures are the worst, the best and a typical one.
"""

from __future__ import annotations

import ctypes
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vsr.errors import MediaError
from vsr.frame import Frame
from vsr.quality.album import Album
from vsr.quality.colors import ColorDrift
from vsr.quality.consistency import (
    Clipping,
    Detail,
    Fidelity,
    Histogram,
    Overshoot,
    Pair,
    Sharpness,
)
from vsr.quality.defects import Blockiness, Seams, Standstill
from vsr.quality.findings import find, without_noise
from vsr.quality.grain import Grain
from vsr.quality.naturalness import Naturalness
from vsr.quality.reference import GroundTruth, TruthScore
from vsr.quality.report import Finding, FrameScore, Shot, Still, Summary
from vsr.quality.sharp_seams import SharpSeams
from vsr.quality.shimmer import Shimmer
from vsr.quality.views import Viewer

logger = logging.getLogger(__name__)

_TRIM_FRAMES = 100
"""Frames between two times that what lies free between kept numbers is given back: of 720p some
25 kB stay behind with every frame."""
_MEANS = (
    "flicker_codes",
    "plain_psnr_db",
    "plain_sharpness",
    "reference_psnr_db",
    "reference_ssim",
    "reference_ms_ssim",
    "reference_xpsnr_db",
    "reference_vmaf",
    "reference_vmaf_neg",
    "reference_lpips",
)
"""Of a film: means over those frames of which they are known."""


class ShotFinder(Protocol):
    """Says where shots begin; see `pipeline.shots.CutDetector`."""

    def push_frame(self, frame: Frame) -> None:
        """Take the next frame."""

    def finish(self) -> tuple[int, ...]:
        """First frames of all shots but the first."""


@dataclass(frozen=True, slots=True)
class Film:
    """Frames in order, and how to look at them."""

    frames: Iterable[Frame]
    viewer: Viewer
    time_base: Fraction
    num_frames: int | None = None
    """About how many there are; None: not known."""


@dataclass(slots=True)
class Measured:
    """What was found in a pair of films."""

    summary: Summary
    frames: tuple[FrameScore, ...]
    shots: tuple[Shot, ...]
    findings: tuple[Finding, ...]
    stills: tuple[Still, ...]
    detail_map: tuple[tuple[float, ...], ...]
    worst_map: tuple[tuple[float, ...], ...]
    histogram: tuple[tuple[float, ...], ...]
    unavailable: tuple[str, ...]
    """Measures against the ground truth that could not be taken, and why."""
    seconds: float


def measure(
    source: Film,
    result: Film,
    finder: ShotFinder,
    *,
    reference: Film | None = None,
    sources: Sequence[int] | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> Measured:
    """Measure a whole film.

    Args:
        source: the film as it was.
        result: the film enlarged, shown the same way round.
        finder: of shots, fresh; it is given the result.
        reference: the ground truth, of the size of the result.
        sources: rank of the source's frame that each frame of the result shows, never falling; None
            where each shows its own.
        on_frame: called with the number of frames done.

    Raises:
        MediaError: a film cannot be read, or the result has no frames.
        ShapeError: the reference has another size.
    """
    started = time.perf_counter()
    meter = _Meter(source.viewer, result.viewer, result.time_base)
    truth = None
    if reference is not None:
        truth = GroundTruth(
            reference.frames, reference.viewer, result.viewer, num_frames=result.num_frames
        )
    for rank, (old, new) in enumerate(_pairs(source.frames, result.frames, sources)):
        finder.push_frame(new)
        meter.add(rank, old, new, truth)
        if rank % _TRIM_FRAMES == 0:
            _give_back()
        if on_frame is not None:
            on_frame(rank + 1)
    if not meter.scores:
        raise MediaError("The result has no frame to measure.")
    if truth is not None:
        meter.add_vmaf(truth.vmaf())
    unavailable = () if truth is None else truth.unavailable()
    return meter.close(finder.finish(), unavailable, time.perf_counter() - started)


def _give_back() -> None:
    """Ask the C library for the pages that nobody uses; glibc alone has a word for it."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError) as error:
        logger.debug("free memory is kept: %s", error)
        return
    trim(0)


def _pairs(
    source: Iterable[Frame], result: Iterable[Frame], sources: Sequence[int] | None
) -> Iterator[tuple[Frame, Frame]]:
    """Frames of the source with those of the result; ends with the shorter."""
    old, at = iter(source), -1
    held: Frame | None = None
    for rank, new in enumerate(result):
        wanted = rank if sources is None else sources[min(rank, len(sources) - 1)]
        while at < wanted:
            held = next(old, None)
            if held is None:
                return
            at += 1
        assert held is not None
        yield held, new


@dataclass
class _Meter:
    """All measures, frame by frame."""

    old_viewer: Viewer
    new_viewer: Viewer
    time_base: Fraction
    scores: list[FrameScore] = field(default_factory=list)
    colors: list[NDArray[np.float64]] = field(default_factory=list)
    """Mean RGB of source and result of each frame, (2, 3)."""

    def __post_init__(self) -> None:
        self.fidelity, self.detail, self.sharpness = Fidelity(), Detail(), Sharpness()
        self.overshoot, self.clipping = Overshoot(), Clipping()
        self.still, self.blocks = Standstill(), Blockiness()
        self.seams, self.sharp_seams = Seams(), SharpSeams()
        self.drift, self.histogram = ColorDrift(), Histogram()
        self.grain, self.naturalness = Grain(), Naturalness()
        self.flicker = Shimmer()
        self.measures = (
            self.fidelity,
            self.detail,
            self.sharpness,
            self.overshoot,
            self.clipping,
            self.still,
            self.seams,
            self.sharp_seams,
            self.blocks,
            self.drift,
            self.flicker,
            self.histogram,
            self.grain,
            self.naturalness,
        )
        self.album = Album(self.old_viewer, self.new_viewer)

    def add(self, rank: int, old: Frame, new: Frame, truth: GroundTruth | None) -> None:
        """Measure the next frame of the result, `rank`, against the one of the source it shows."""
        pair = Pair.of(self.old_viewer.view(old), self.new_viewer.view(new))
        for each in self.measures:
            each.update(pair)
        self.colors.append(self.drift.means)
        red, green, blue = (float(v) for v in self.drift.codes)
        against = TruthScore() if truth is None else truth.score(new, pair.result.luma_HW)
        score = FrameScore(
            frame=rank,
            time_s=round(float(new.pts * self.time_base), 6),
            psnr_db=self.fidelity.psnr_db,
            plain_psnr_db=self.fidelity.plain_psnr_db,
            offset_codes=self.fidelity.offset_codes,
            excess_codes=self.fidelity.excess_codes,
            excess_x=self.fidelity.excess_at[0],
            excess_y=self.fidelity.excess_at[1],
            ssim=_known(self.fidelity.ssim),
            flicker_codes=_known(self.flicker.codes),
            plain_flicker_codes=_known(self.flicker.plain_codes),
            detail_codes=self.detail.codes,
            sharpness=_known(self.sharpness.ratio),
            plain_sharpness=_known(self.sharpness.plain_ratio),
            overshoot_codes=self.overshoot.codes,
            clipped_share=self.clipping.share,
            grain_codes=_known(self.grain.codes),
            grain_kept=_known(self.grain.kept),
            plain_grain_kept=_known(self.grain.plain_kept),
            red_codes=red,
            green_codes=green,
            blue_codes=blue,
            frozen=self.still.is_frozen,
            black=self.still.is_black,
            reference_psnr_db=against.psnr_db,
            reference_ssim=against.ssim,
            reference_ms_ssim=against.ms_ssim,
            reference_xpsnr_db=against.xpsnr_db,
            reference_lpips=against.lpips,
        )
        self.scores.append(score)
        self.album.offer(score, pair, old, new)

    def add_vmaf(self, scores: Sequence[tuple[float | None, float | None]]) -> None:
        """Note of the first frames what is known at the end alone: VMAF and VMAF-NEG."""
        for rank, (plain, without_gain) in enumerate(scores):
            known = {"reference_vmaf": plain, "reference_vmaf_neg": without_gain}
            self.scores[rank] = self.scores[rank].model_copy(update=known)

    def close(
        self, cuts: tuple[int, ...], unavailable: tuple[str, ...], seconds: float
    ) -> Measured:
        """What was found; ask once, at the end."""
        # What changes at a cut is no flicker.
        first = {0, *cuts}
        frames = tuple(
            f.model_copy(update={"flicker_codes": None, "plain_flicker_codes": None})
            if f.frame in first
            else f
            for f in self.scores
        )
        starts = sorted(cut for cut in first if cut < len(frames))
        spans = list(pairwise([*starts, len(frames)]))
        frames = tuple(f for a, b in spans for f in without_noise(frames[a:b]))
        shots = tuple(
            _shot(number, frames[a:b], self.colors[a:b])
            for number, (a, b) in enumerate(spans, start=1)
        )
        summary = self._summary(frames, shots)
        seams, sharp_seams = self.seams.compute(), self.sharp_seams.compute()
        return Measured(
            summary=summary,
            frames=frames,
            shots=shots,
            findings=tuple(find(frames, shots, seams, summary.blockiness, sharp_seams)),
            stills=self.album.stills(),
            detail_map=_rows(self.detail.map_codes()),
            worst_map=_rows(self.fidelity.worst_map),
            histogram=tuple(tuple(np.round(line, 5).tolist()) for line in self.histogram.compute()),
            unavailable=unavailable,
            seconds=round(seconds, 3),
        )

    def _summary(self, frames: Sequence[FrameScore], shots: Sequence[Shot]) -> Summary:
        psnr_db, ssim = (_known(value) for value in self.fidelity.compute())
        grain, kept, plain_kept = (_known(value) for value in self.grain.compute())
        naturalness, plain_naturalness = (_known(v) for v in self.naturalness.compute())
        means = {name: _mean(getattr(f, name) for f in frames) for name in _MEANS}
        return Summary(
            psnr_db=psnr_db,
            ssim=ssim,
            detail_codes=_known(self.detail.compute()),
            sharpness=_known(self.sharpness.compute()),
            overshoot_codes=_known(self.overshoot.compute()),
            clipped_share=_known(self.clipping.compute()),
            blockiness=_known(self.blocks.compute()),
            grain_codes=grain,
            grain_kept=kept,
            plain_grain_kept=plain_kept,
            naturalness=naturalness,
            plain_naturalness=plain_naturalness,
            delta_e=max((s.delta_e for s in shots if s.delta_e is not None), default=None),
            num_frozen=sum(f.frozen for f in frames),
            num_black=sum(f.black for f in frames),
            **means,
        )


def _shot(number: int, frames: Sequence[FrameScore], colors: Sequence[NDArray[np.float64]]) -> Shot:
    drift = ColorDrift()
    # A black frame is named as such, and its shot not as dark.
    for frame, means in zip(frames, colors, strict=True):
        if not frame.black:
            drift.add(means)
    difference, codes = drift.compute()
    start, last = frames[0].time_s, frames[-1].time_s
    step = (last - start) / (len(frames) - 1) if len(frames) > 1 else 0.0
    grain, kept = _grain(frames)
    return Shot(
        number=number,
        first_frame=frames[0].frame,
        num_frames=len(frames),
        start_s=start,
        end_s=round(last + step, 6),
        psnr_db=float(np.mean([f.psnr_db for f in frames])),
        delta_e=_known(difference),
        codes_rgb=codes if all(map(math.isfinite, codes)) else (0.0, 0.0, 0.0),
        sharpness=_mean(f.sharpness for f in frames),
        plain_sharpness=_mean(f.plain_sharpness for f in frames),
        flicker_codes=_mean(f.flicker_codes for f in frames),
        detail_codes=float(np.mean([f.detail_codes for f in frames])),
        grain_codes=grain,
        grain_kept=kept,
    )


def _grain(frames: Sequence[FrameScore]) -> tuple[float | None, float | None]:
    """The source's grain in codes and the share kept, of a shot; frames with more count more."""
    known = [(f.grain_codes, f.grain_kept) for f in frames]
    pairs = [(codes, kept) for codes, kept in known if codes is not None and kept is not None]
    if not pairs:
        return None, None
    source = sum(codes**2 for codes, _ in pairs)
    kept = math.sqrt(sum((codes * share) ** 2 for codes, share in pairs) / source)
    return math.sqrt(source / len(pairs)), kept


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _rows(picture: Any) -> tuple[tuple[float, ...], ...]:
    if picture is None:
        return ()
    return tuple(tuple(round(float(value), 3) for value in row) for row in picture)
