"""VMAF against the ground truth: by FFmpeg's libvmaf, else by vmaf-torch where that is installed.

Li et al., Netflix, 2016; model v0.6.1. VMAF-NEG, which rewards no sharpening, comes from libvmaf
alone. Scores are known at the end of a film, for a frame's motion is that to either side.
"""

from __future__ import annotations

from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from vsr.frame import Frame
from vsr.media.measures import Vmaf, has_libvmaf
from vsr.quality.views import Picture

MIN_PX = 32
"""Below, the coarsest of four scales has nothing left."""
_MANY = 240
"""Frames of a film of which vmaf-torch scores all, which takes longer than all else together; of
longer ones every second, third and so on."""
_SAMPLED = "VMAF: of one frame in {}, for vmaf-torch is slow; libvmaf, with PyAV 19, takes all."
_NO_NEG = "it needs FFmpeg's libvmaf, which PyAV has from version 19 on, for Python 3.12 on"


class VmafMeter(Protocol):
    """Takes a film frame by frame."""

    missing: dict[str, str]
    """What it cannot measure, and why."""
    notes: tuple[str, ...]
    """What else is to be said of its scores."""

    def add(self, result: Frame, truth: Frame, luma: tuple[Picture, Picture]) -> None:
        """Take the next frame and its luma of result and truth, black 0 and white 1.

        Raises:
            ValueError: it cannot be measured.
        """

    def finish(self) -> list[tuple[float | None, float | None]]:
        """VMAF and VMAF-NEG of every frame; None where it was not taken.

        Raises:
            ValueError: nothing could be measured.
        """


def open_vmaf(result: Frame, truth: Frame, num_frames: int | None = None) -> VmafMeter:
    """A meter for films of such frames.

    Args:
        result: a frame of one.
        truth: a frame of the other.
        num_frames: how many there are, about; None: not known.

    Raises:
        ValueError: there is none, and why.
    """
    if min(result.height, result.width) < MIN_PX:
        raise ValueError(f"it needs pictures of {MIN_PX} pixels each way")
    is_alike = (result.layout, result.planes[0].shape) == (truth.layout, truth.planes[0].shape)
    if is_alike and has_libvmaf():
        layout = result.layout
        if not (layout.is_rgb or layout.is_gray or layout.is_float):
            return _Libvmaf(result)
    return _VmafTorch(every=max(1, (num_frames or 0) // _MANY))


class _Libvmaf:
    def __init__(self, like: Frame) -> None:
        self.missing: dict[str, str] = {}
        self.notes: tuple[str, ...] = ()
        self._filter = Vmaf(like.layout, like.width, like.height)

    def add(self, result: Frame, truth: Frame, luma: tuple[Picture, Picture]) -> None:
        del luma
        self._filter.add(result, truth)

    def finish(self) -> list[tuple[float | None, float | None]]:
        return [*self._filter.finish()]


class _VmafTorch:
    """The same model by vmaf-torch; holds one frame, and six numbers of each.

    Its features are those that libvmaf has in floating point (model vmaf_float_v0.6.1), and so are
    its scores: of 55 films of six frames, drawn ones and real ones of 320x180 to 1280x720, blurred,
    sharpened and noisy, within 0.013 of 100, half of them within 0.0006. Looking for motion,
    vmaf-torch mirrors the edges in another way than libvmaf does; here that is done as there.

    What FFmpeg computes unless told otherwise, vmaf_v0.6.1, has features in whole numbers. Those
    round off what is faint in flat parts, and differ from libvmaf's own in floating point by as
    much as from these: by up to 0.27 where the picture is small (0.12 at 640x360, 0.02 at
    1280x720), half of those films by 0.016.

    Args:
        every: of so many frames one is scored; of the others only the motion is looked at.
    """

    def __init__(self, *, every: int = 1) -> None:
        try:
            from vmaf_torch import VMAF
        except ImportError as error:
            raise ValueError(
                "neither libvmaf nor vmaf-torch is here; pip install 'vsr[metrics]' brings one"
            ) from error
        self.missing = {"VMAF-NEG": _NO_NEG}
        self.notes: tuple[str, ...] = () if every == 1 else (_SAMPLED.format(every),)
        self._every = every
        self._model: Any = VMAF(clip_score=True, enable_motion=False)
        self._before: Picture | None = None
        self._motion: list[float] = []
        self._rest: list[tuple[Tensor, Tensor]] = []

    def add(self, result: Frame, truth: Frame, luma: tuple[Picture, Picture]) -> None:
        del result, truth
        # Codes of 8 bits, which the model was made for, whatever the films have.
        shown, real = (16 + 219 * plane for plane in luma)
        seen = _blurred(real)
        self._motion.append(0.0 if self._before is None else _mean_step(seen, self._before))
        self._before = seen
        if (len(self._motion) - 1) % self._every == 0:
            one, two = (torch.from_numpy(codes)[None, None] for codes in (real, shown))
            with torch.no_grad():
                adm = self._model.compute_adm_score(one, two)[0]
                self._rest.append((adm, self._model.compute_vif_features(one, two)[0]))

    def finish(self) -> list[tuple[float | None, float | None]]:
        # The lesser of the motions to the frame before and to the one after.
        motion = torch.tensor(self._motion)[:, None]
        after = torch.cat((motion[1:], motion[-1:]))
        lesser = torch.minimum(motion, after)
        lesser[0] = 0
        adm, vif = (torch.stack(parts) for parts in zip(*self._rest, strict=True))
        with torch.no_grad():
            scores = self._model.predict(adm, lesser[:: self._every], vif).flatten().tolist()
        whole: list[tuple[float | None, float | None]] = [(None, None)] * len(motion)
        whole[:: self._every] = [(score, None) for score in scores]
        return whole


def _blurred(codes_HW: Picture) -> Picture:
    """As libvmaf looks for motion; vmaf-torch mirrors the far edges in another way."""
    taps = cv2.getGaussianKernel(5, 1.0, cv2.CV_32F)
    border = cv2.BORDER_REFLECT_101
    return np.asarray(cv2.sepFilter2D(codes_HW, -1, taps, taps, borderType=border), np.float32)


def _mean_step(one_HW: Picture, two_HW: Picture) -> float:
    return float(np.abs(one_HW - two_HW).mean(dtype=np.float64))
