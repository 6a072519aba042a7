"""What `evaluate` measures beside PSNR and SSIM when a network may make detail up.

A result is judged three ways: is it the picture that went in (consistency), has it as much detail
as the truth (gradient energy), and is that detail of the right kind (texture distance, and LPIPS
where the user has the network for it). None of these uses the feature network that trainings here
are steered by: a network looks good to the judge it was trained to please.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from vsr.errors import ShapeError
from vsr.models.image.interpolation import imresize
from vsr.quality.metrics import Psnr, prepare, round_to_8_bit
from vsr.quality.perceptual import Lpips
from vsr.quality.texture import GradientEnergy, TextureDistance
from vsr.training.scores import PerceptualScore, Protocol

_SHRUNK_ALIKE = ("bi", "given")
"""Degradations that bicubic stands for. After others the truth itself would not be consistent."""


@dataclass(slots=True)
class SharedLpips:
    """LPIPS for all models and clips of one evaluation: its network is loaded once."""

    network: Lpips | None
    why_not: str | None
    """The first reason why some picture has no LPIPS."""

    @classmethod
    def load(cls) -> SharedLpips:
        """With the user's own copy of the network, if there is one; nothing is fetched."""
        try:
            return cls(Lpips(), None)
        except ValueError as error:
            return cls(None, str(error))

    def score(self, result_3HW: Tensor, reference_3HW: Tensor) -> float:
        """Of one picture, RGB in [0, 1]; NaN where it cannot be told."""
        if self.network is None:
            return math.nan
        try:
            pictures = (image.float().cpu().numpy() for image in (result_3HW, reference_3HW))
            return self.network.score(*pictures)
        except ValueError as error:
            self.why_not = self.why_not or str(error)
            return math.nan


def unavailable(protocol: Protocol, lpips: SharedLpips) -> tuple[str, ...]:
    """What could not be measured, or not of all, in sentences; complete after the last clip."""
    missing = {}
    if protocol.degradation not in _SHRUNK_ALIKE:
        missing["Consistency"] = (
            f"the small pictures were made by '{protocol.degradation}', not by bicubic alone"
        )
    if lpips.why_not is not None:
        missing["LPIPS"] = lpips.why_not
    return tuple(f"{name}: not available, because {why}." for name, why in missing.items())


def shrink(image: Tensor, scale: int) -> Tensor:
    """Make a picture small as the protocol makes its inputs.

    Args:
        image: (..., H, W) in [0, 1]; H and W divide by `scale`.
        scale: integer factor.

    Returns:
        (..., H/s, W/s), whole 8-bit codes in [0, 1].
    """
    return round_to_8_bit(imresize(image.float(), scale=1 / scale))


class PerceptualMeter:
    """Of one model on one clip.

    Args:
        protocol: says what is cropped, and how small pictures were made.
        lpips: shared by all clips.
    """

    def __init__(self, protocol: Protocol, lpips: SharedLpips) -> None:
        self._protocol, self._lpips = protocol, lpips
        self._energy, self._texture, self._consistency = GradientEnergy(), TextureDistance(), Psnr()
        self._lpips_sum, self._count = 0.0, 0

    def update(self, result_3HW: Tensor, reference_3HW: Tensor, small_3hw: Tensor) -> None:
        """Take the next scored frame; all on one device.

        Args:
            result_3HW: RGB in [0, 1], whole 8-bit codes.
            reference_3HW: the ground truth, the same shape.
            small_3hw: what the model was given, 1/scale of the size.

        Raises:
            ShapeError: shapes do not fit together, or less than 32x32 pixels are left to score.
        """
        protocol = self._protocol
        pictures = (result_3HW[None], reference_3HW[None])
        result_B1HW, reference_B1HW = (prepare(p, "y", protocol.crop_px) for p in pictures)
        self._energy.update(result_B1HW, reference_B1HW)
        self._texture.update(result_B1HW, reference_B1HW)
        if protocol.degradation in _SHRUNK_ALIKE:
            shrunk, given = shrink(result_3HW, protocol.scale), small_3hw.float()
            if shrunk.shape != given.shape:
                raise ShapeError(
                    f"a result of {tuple(result_3HW.shape[-2:])} is not {protocol.scale} times "
                    f"{tuple(given.shape[-2:])}"
                )
            # The whole picture: how far its border hangs together is the result's own doing.
            both = (prepare(image[None], protocol.channel, 0) for image in (shrunk, given))
            self._consistency.update(*both)
        cropped = (prepare(p, "rgb", protocol.crop_px)[0] for p in pictures)
        self._lpips_sum += self._lpips.score(*cropped)
        self._count += 1

    def compute(self) -> PerceptualScore:
        """Over all frames taken; NaN where nothing is known."""
        return PerceptualScore(
            gradient_energy=self._energy.compute(),
            consistency_db=self._consistency.compute(),
            texture_distance=self._texture.compute(),
            lpips=self._lpips_sum / self._count if self._count else math.nan,
        )
