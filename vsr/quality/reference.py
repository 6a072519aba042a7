"""A result against the ground truth: measures of the whole reference, frame by frame."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from vsr.errors import ShapeError
from vsr.frame import Frame
from vsr.media.measures import Xpsnr
from vsr.quality.metrics import (
    MS_SSIM_MIN_PX,
    PSNR_CEILING_DB,
    SSIM_MIN_PX,
    ms_ssim,
    psnr_db,
    ssim,
)
from vsr.quality.perceptual import Lpips
from vsr.quality.views import Picture, Viewer
from vsr.quality.vmaf import VmafMeter, open_vmaf


@dataclass(frozen=True, slots=True)
class TruthScore:
    """Luma of a frame against the ground truth; None: not known."""

    psnr_db: float | None = None
    ssim: float | None = None
    ms_ssim: float | None = None
    xpsnr_db: float | None = None
    lpips: float | None = None
    """Of RGB; 0 is alike."""


class GroundTruth:
    """Frames of the reference in step with those of the result.

    Args:
        frames: of the reference, one for each of the result; missing ones are not scored.
        viewer: how to look at them.
        result_viewer: how to look at the result.
        num_frames: how many there are, about; None: not known.
    """

    def __init__(
        self,
        frames: Iterable[Frame],
        viewer: Viewer,
        result_viewer: Viewer,
        *,
        num_frames: int | None = None,
    ) -> None:
        self._frames, self._viewer, self._result_viewer = iter(frames), viewer, result_viewer
        self._xpsnr: Xpsnr | None = None
        self._vmaf: VmafMeter | None = None
        self._lpips: Lpips | None = None
        self._num_scored = 0
        self._num_frames = num_frames
        self._missing: dict[str, str] = {}
        self._notes: tuple[str, ...] = ()

    def score(self, result: Frame, luma_HW: Picture) -> TruthScore:
        """Take the next frame of the result, and its luma from black 0 to white 1.

        Raises:
            ShapeError: the reference has another size.
        """
        shown = next(self._frames, None)
        if shown is None:
            self._missing.setdefault("The rest", f"it has only {self._num_scored} frames")
            return TruthScore()
        truth = self._viewer.view(shown).luma_HW
        if luma_HW.shape != truth.shape:
            raise ShapeError(
                f"the reference is {truth.shape[1]}x{truth.shape[0]}, the result "
                f"{luma_HW.shape[1]}x{luma_HW.shape[0]}: they must be of one size"
            )
        one, two = (torch.from_numpy(p).clamp(0, 1)[None, None] for p in (luma_HW, truth))
        smallest = min(truth.shape)
        if smallest < MS_SSIM_MIN_PX:
            self._missing["MS-SSIM"] = f"it needs pictures of {MS_SSIM_MIN_PX} pixels each way"
        xpsnr = self._xpsnr_db(result, shown)
        self._add_vmaf(result, shown, (luma_HW, truth))
        self._num_scored += 1
        return TruthScore(
            psnr_db=float(psnr_db(one, two)[0]),
            ssim=float(ssim(one, two)[0]) if smallest >= SSIM_MIN_PX else None,
            ms_ssim=float(ms_ssim(one, two)[0]) if smallest >= MS_SSIM_MIN_PX else None,
            xpsnr_db=xpsnr,
            lpips=self._lpips_of(result, shown),
        )

    def _xpsnr_db(self, result: Frame, truth: Frame) -> float | None:
        if "XPSNR" in self._missing:
            return None
        try:
            if (result.layout, result.planes[0].shape) != (truth.layout, truth.planes[0].shape):
                raise ValueError("result and reference hold their samples differently")
            if self._xpsnr is None:
                self._xpsnr = Xpsnr(result.layout, result.width, result.height)
            value = self._xpsnr.score(result, truth)
        except ValueError as error:
            self._missing["XPSNR"] = str(error)
            return None
        return None if math.isnan(value) else min(value, PSNR_CEILING_DB)

    def _lpips_of(self, result: Frame, truth: Frame) -> float | None:
        if "LPIPS" in self._missing:
            return None
        try:
            if self._lpips is None:
                self._lpips = Lpips()
            pictures = self._result_viewer.full_rgb(result), self._viewer.full_rgb(truth)
            return self._lpips.score(*pictures)
        except ValueError as error:
            self._missing["LPIPS"] = str(error)
            return None

    def _add_vmaf(self, result: Frame, truth: Frame, luma: tuple[Picture, Picture]) -> None:
        if "VMAF" in self._missing:
            return
        try:
            if self._vmaf is None:
                self._vmaf = open_vmaf(result, truth, self._num_frames)
            self._vmaf.add(result, truth, luma)
        except ValueError as error:
            self._vmaf = None
            self._missing["VMAF"] = str(error)

    def vmaf(self) -> list[tuple[float | None, float | None]]:
        """VMAF and VMAF-NEG of every frame scored; empty where there is none. Ask once, at the end.

        Frames may be fewer than were scored, when the meter failed.
        """
        if self._vmaf is None:
            return []
        meter, self._vmaf = self._vmaf, None
        self._missing |= meter.missing
        self._notes = meter.notes
        try:
            return meter.finish()
        except ValueError as error:
            self._missing["VMAF"] = str(error)
            return []

    def unavailable(self) -> tuple[str, ...]:
        """What could not be measured, or not of all, in sentences; complete after `vmaf`."""
        missing = (f"{name}: not available, because {why}." for name, why in self._missing.items())
        return (*missing, *self._notes)
