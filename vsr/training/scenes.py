"""Batches of synthetic scenes on one device: `training.motion`, for all samples at once.

The distribution is that of `motion.random_scene`; only the order of the draws differs, because a
GPU that waits for one random number at a time does nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

OBJECT_SHARE = 0.6
ZOOM = (1.0, 1.6)
NUM_OBJECTS = 2
"""Layers besides the background; each is there or not."""


@dataclass(frozen=True, slots=True)
class Scenes:
    """B scenes of a background and up to `NUM_OBJECTS` elliptic objects, background first."""

    photos: tuple[Tensor, ...]
    """Of each layer: (B, 3, P, P) uint8 or float32 in [0, 255]."""
    homographies_LBT33: Tensor
    """float64: picture coordinates, from the centre, to photo coordinates, from the centre."""
    radii_LB2: Tensor
    """float64, semi-axes in photo pixels; the background's are not used, an absent object's 0."""

    @property
    def num_frames(self) -> int:
        return self.homographies_LBT33.shape[2]


class Dice:
    """Random numbers of one generator, on its device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.device = generator.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """float64, uniform in [low, high)."""
        drawn = torch.rand(shape, generator=self.generator, device=self.device, dtype=torch.float64)
        return low + (high - low) * drawn

    def chance(self, share: float, *shape: int) -> Tensor:
        """bool, True with probability `share`."""
        return self.uniform(0, 1, *shape) < share

    def below(self, limit_N: Tensor) -> Tensor:
        """int64, each uniform in [0, its limit)."""
        drawn = self.uniform(0, 1, *limit_N.shape) * limit_N
        return torch.minimum(drawn.long(), limit_N.long() - 1)


def random_trajectories(
    dice: Dice, num_frames: int, centre_N2: Tensor, *, max_speed_px: float
) -> Tensor:
    """`motion.random_trajectory` for N cameras: (N, T, 3, 3) float64 homographies.

    Args:
        dice: source of randomness.
        num_frames: T.
        centre_N2: where each camera looks at first, photo pixels from the photo's centre.
        max_speed_px: see there.
    """
    count = len(centre_N2)
    speed = max_speed_px * dice.uniform(math.log(0.02), 0.0, count, 1).exp()
    heading = dice.uniform(0.0, 2 * math.pi, count, 1)
    step_zoom = dice.uniform(math.log(ZOOM[0]), math.log(ZOOM[1]), count, 1).exp()
    gentle = torch.where(dice.chance(0.5, count, 1), 0.3, 1.0)
    roll_rate = dice.uniform(math.radians(-0.6), math.radians(0.6), count, 1) * gentle
    zoom_rate = dice.uniform(-0.008, 0.008, count, 1) * gentle
    tilt_N2 = dice.uniform(-1.5e-4, 1.5e-4, count, 2)
    tilt_rate_N2 = dice.uniform(-1e-5, 1e-5, count, 2) * gentle
    jitter = dice.uniform(0.0, 0.15, count, 1) * speed
    roll = dice.uniform(-0.3, 0.3, count, 1)
    t = torch.arange(num_frames, device=dice.device, dtype=torch.float64)
    size_NT = step_zoom * (zoom_rate * t).exp()
    angle_NT = roll + roll_rate * t
    steps_N2T = torch.stack(
        [
            size_NT * (speed * part + jitter * dice.uniform(-1, 1, count, num_frames))
            for part in (heading.cos(), heading.sin())
        ],
        dim=1,
    )
    # Where the camera is before each step.
    place_N2T = centre_N2[:, :, None] + steps_N2T.cumsum(dim=2) - steps_N2T
    cos, sin = size_NT * angle_NT.cos(), size_NT * angle_NT.sin()
    tilt_N2T = tilt_N2[:, :, None] + tilt_rate_N2[:, :, None] * t
    rows = (
        (cos, -sin, place_N2T[:, 0]),
        (sin, cos, place_N2T[:, 1]),
        (tilt_N2T[:, 0], tilt_N2T[:, 1], torch.ones_like(cos)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def random_scenes(
    dice: Dice,
    photos: tuple[Tensor, ...],
    num_frames: int,
    *,
    size_px: int,
    max_speed_px: float,
) -> Scenes:
    """B backgrounds and, in `OBJECT_SHARE` of the scenes, up to two objects of their own motion.

    Args:
        dice: source of randomness.
        photos: (B, 3, P, P) each: the background and `NUM_OBJECTS` objects.
        num_frames: T.
        size_px: side of the picture that will be rendered, pixels.
        max_speed_px: see `motion.random_trajectory`.
    """
    count = len(photos[0])
    slack = max(0.0, photos[0].shape[-1] / 2 - size_px * ZOOM[1] / 2)
    centre = dice.uniform(-slack, slack, count, 2)
    paths = [random_trajectories(dice, num_frames, centre, max_speed_px=max_speed_px)]
    radii = [torch.zeros(count, 2, device=dice.device, dtype=torch.float64)]
    wanted = dice.below(torch.full((count,), NUM_OBJECTS + 1, device=dice.device))
    has_objects = dice.chance(OBJECT_SHARE, count)
    for number, photo in enumerate(photos[1:]):
        path = random_trajectories(dice, num_frames, centre * 0, max_speed_px=max_speed_px)
        place_N33 = torch.eye(3, device=dice.device, dtype=torch.float64).repeat(count, 1, 1)
        place_N33[:, :2, 2] = -dice.uniform(-0.5, 0.5, count, 2) * size_px
        paths.append(path @ place_N33[:, None])
        drawn = dice.uniform(0.12, 0.4, count, 2) * size_px
        is_there = has_objects & (wanted > number)
        radii.append(drawn.clamp(max=photo.shape[-1] / 2) * is_there[:, None])
    return Scenes(photos, torch.stack(paths), torch.stack(radii))


def render(scenes: Scenes, size_px: int) -> Tensor:
    """Frames that the cameras see: (B, T, 3, size, size) float32 in [0, 255].

    Layers are drawn in order. Outside of a photograph its picture is mirrored.
    """
    points_N2 = _grid(size_px, 1.0, scenes.homographies_LBT33.device).float()
    frames: Tensor | None = None
    for index, photo in enumerate(scenes.photos):
        homography_BT33 = scenes.homographies_LBT33[index].float()
        mapped_BTN2 = _apply(homography_BT33, points_N2)
        count, length = mapped_BTN2.shape[:2]
        half = photo.shape[-1] / 2
        # Frames one below the other, so that every photograph is held once and not T times.
        grid = (mapped_BTN2 / half).view(count, length * size_px, size_px, 2)
        drawn = F.grid_sample(
            photo.float(), grid, mode="bicubic", padding_mode="reflection", align_corners=False
        ).clamp_(0, 255)
        drawn = drawn.view(count, 3, length, size_px, size_px).transpose(1, 2)
        if frames is None:
            frames = drawn
            continue
        alpha_BTN = _alpha(mapped_BTN2, scenes.radii_LB2[index][:, None, None].float())
        frames = torch.lerp(frames, drawn, alpha_BTN.view(count, length, 1, size_px, size_px))
    assert frames is not None
    return frames


def exact_flows(scenes: Scenes, a: int, b: int, size: int, *, step: int) -> tuple[Tensor, Tensor]:
    """Flow from frame a to frame b, and where it can be seen in b.

    Args:
        scenes: as rendered.
        a: index of the frame on whose grid the flow lives.
        b: index of the frame to sample.
        size: side of the flow, in its own pixels.
        step: picture pixels per flow pixel.

    Returns:
        (B, 2, size, size) float32 in flow pixels, and (B, 1, size, size) bool: True where the
        point is inside b and not covered there by another layer.
    """
    homographies = scenes.homographies_LBT33
    count = homographies.shape[1]
    points_N2 = _grid(size, step, homographies.device)
    flow_BN2 = torch.zeros(count, len(points_N2), 2, device=points_N2.device).double()
    owner_BN = torch.zeros(count, len(points_N2), dtype=torch.long, device=points_N2.device)
    # `inv` would wait for the device to say whether it could.
    inverses_LB33 = torch.linalg.inv_ex(homographies[:, :, b]).inverse
    for index in range(len(homographies)):
        mapped_BN2 = _apply(homographies[index, :, a], points_N2)
        moved_BN2 = _apply(inverses_LB33[index], mapped_BN2)
        if index == 0:
            flow_BN2 = moved_BN2 - points_N2
            continue
        seen_BN = _alpha(mapped_BN2, scenes.radii_LB2[index][:, None]) > 0.5
        flow_BN2 = torch.where(seen_BN[..., None], moved_BN2 - points_N2, flow_BN2)
        owner_BN = torch.where(seen_BN, index, owner_BN)
    target_BN2 = points_N2 + flow_BN2
    visible_BN = (target_BN2.abs() <= (size - 1) / 2 * step).all(dim=-1)
    for index in range(1, len(homographies)):
        there_BN2 = _apply(homographies[index, :, b], target_BN2)
        covered_BN = _alpha(there_BN2, scenes.radii_LB2[index][:, None]) > 0.5
        visible_BN &= ~(covered_BN & (owner_BN < index))
    flow_B2HW = (flow_BN2 / step).transpose(1, 2).reshape(count, 2, size, size).float()
    return flow_B2HW, visible_BN.view(count, 1, size, size)


def _grid(size: int, step: float, device: torch.device) -> Tensor:
    """(size*size, 2) float64: pixel centres as (x, y) from the picture's centre, `step` apart."""
    line = (torch.arange(size, dtype=torch.float64, device=device) - (size - 1) / 2) * step
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).reshape(-1, 2)


def _apply(homography_X33: Tensor, points_N2: Tensor) -> Tensor:
    """Map points by homographies with any leading dimensions X: (X, N, 2)."""
    turned = points_N2 @ homography_X33[..., :2].transpose(-1, -2)
    mapped = turned + homography_X33[..., None, :, 2]
    return mapped[..., :2] / mapped[..., 2:]


def _alpha(points_XN2: Tensor, radii_X2: Tensor) -> Tensor:
    """Opacity of ellipses at photo points, with an edge about two pixels wide; 0 for radius 0."""
    radii = radii_X2.clamp(min=1e-3)
    radius = torch.hypot(points_XN2[..., 0] / radii[..., 0], points_XN2[..., 1] / radii[..., 1])
    inside = ((1.0 - radius) * radii.amin(dim=-1) / 2 + 0.5).clamp(0.0, 1.0)
    return inside * (radii_X2.amin(dim=-1) > 0)
