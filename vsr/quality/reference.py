"""A result against the ground truth: measures of the whole reference, frame by frame."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from vsr.errors import ShapeError
from vsr.frame import Frame
from vsr.media.measures import Xpsnr, has_libvmaf
from vsr.quality.metrics import PSNR_CEILING_DB, ms_ssim, psnr_db, ssim
from vsr.quality.views import Picture, Viewer

_SSIM_MIN_PX = 11
_MS_SSIM_MIN_PX = 176


@dataclass(frozen=True, slots=True)
class TruthScore:
    """Luma of a frame against the ground truth; None: not known."""

    psnr_db: float | None = None
    ssim: float | None = None
    ms_ssim: float | None = None
    xpsnr_db: float | None = None


class GroundTruth:
    """Frames of the reference in step with those of the result.

    Args:
        frames: of the reference, one for each of the result; missing ones are not scored.
        viewer: how to look at them.
    """

    def __init__(self, frames: Iterable[Frame], viewer: Viewer) -> None:
        self._frames, self._viewer = iter(frames), viewer
        self._xpsnr: Xpsnr | None = None
        self._num_scored = 0
        self._missing: dict[str, str] = {}

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
        if smallest < _MS_SSIM_MIN_PX:
            self._missing["MS-SSIM"] = f"it needs pictures of {_MS_SSIM_MIN_PX} pixels each way"
        xpsnr = self._xpsnr_db(result, shown)
        self._num_scored += 1
        return TruthScore(
            psnr_db=float(psnr_db(one, two)[0]),
            ssim=float(ssim(one, two)[0]) if smallest >= _SSIM_MIN_PX else None,
            ms_ssim=float(ms_ssim(one, two)[0]) if smallest >= _MS_SSIM_MIN_PX else None,
            xpsnr_db=xpsnr,
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

    def unavailable(self) -> tuple[str, ...]:
        """What could not be measured, each in a sentence."""
        vmaf = (
            "vsr does not run FFmpeg's libvmaf filter yet; it can be run on the two films"
            if has_libvmaf()
            else "the FFmpeg inside of this PyAV has no libvmaf; PyAV 19 has, on Python 3.12"
        )
        told = {
            **self._missing,
            "VMAF": vmaf,
            "LPIPS": "the weights of its network may not be shipped with vsr",
        }
        return tuple(f"{name}: not available, because {why}." for name, why in told.items())
