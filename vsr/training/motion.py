"""Synthetic camera motion over photographs, with exact optical flow.

Natural video of high quality is scarce. Moving a virtual camera over a photograph gives sharp
natural texture, any motion, and the flow and the occlusion of every pixel without an estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A photograph that moves as a plane, and the part of it that is opaque."""

    photo_3HW: Tensor
    """RGB in [0, 255], uint8 or float32."""
    homographies_T33: Tensor
    """float64: picture coordinates, from the centre, to photo coordinates, from the centre."""
    radii: tuple[float, float] | None = None
    """Semi-axes of the opaque ellipse in photo pixels; None for a background."""


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """One number, uniform in [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def random_trajectory(
    generator: torch.Generator,
    num_frames: int,
    *,
    max_speed_px: float,
    centre: tuple[float, float] = (0.0, 0.0),
    zoom: tuple[float, float] = (1.0, 1.6),
) -> Tensor:
    """A hand-held camera: steady pan, roll, zoom and tilt with a little jitter.

    Args:
        generator: source of randomness, on the CPU.
        num_frames: T.
        max_speed_px: largest speed of the pan in picture pixels per frame; log-uniform below it.
        centre: where the camera looks at first, photo pixels from the photo's centre.
        zoom: range of photo pixels per picture pixel at the first frame.

    Returns:
        (T, 3, 3) float64 homographies, picture to photo, both from their centres.
    """
    speed = max_speed_px * math.exp(uniform(generator, math.log(0.02), 0.0))
    heading = uniform(generator, 0.0, 2 * math.pi)
    step_zoom = math.exp(uniform(generator, math.log(zoom[0]), math.log(zoom[1])))
    gentle = 0.3 if uniform(generator, 0, 1) < 0.5 else 1.0
    roll_rate = math.radians(uniform(generator, -0.6, 0.6)) * gentle
    zoom_rate = uniform(generator, -0.008, 0.008) * gentle
    tilt = [uniform(generator, -1.5e-4, 1.5e-4) for _ in range(2)]
    tilt_rate = [uniform(generator, -1e-5, 1e-5) * gentle for _ in range(2)]
    jitter = uniform(generator, 0.0, 0.15) * speed
    roll = uniform(generator, -0.3, 0.3)
    x, y = centre
    matrices = []
    for t in range(num_frames):
        size = step_zoom * math.exp(zoom_rate * t)
        angle = roll + roll_rate * t
        cos, sin = size * math.cos(angle), size * math.sin(angle)
        matrices.append(
            [
                [cos, -sin, x],
                [sin, cos, y],
                [tilt[0] + tilt_rate[0] * t, tilt[1] + tilt_rate[1] * t, 1.0],
            ]
        )
        dx = speed * math.cos(heading) + jitter * uniform(generator, -1, 1)
        dy = speed * math.sin(heading) + jitter * uniform(generator, -1, 1)
        x, y = x + size * dx, y + size * dy
    return torch.tensor(matrices, dtype=torch.float64)


def _apply(homography_33: Tensor, points_N2: Tensor) -> Tensor:
    ones = points_N2.new_ones(points_N2.shape[0], 1)
    mapped = torch.cat((points_N2, ones), dim=1) @ homography_33.T
    return mapped[:, :2] / mapped[:, 2:]


def _grid(height: int, width: int, step: float = 1.0) -> Tensor:
    """(H*W, 2) float64: pixel centres as (x, y) from the picture's centre, `step` px apart."""
    xs = (torch.arange(width, dtype=torch.float64) - (width - 1) / 2) * step
    ys = (torch.arange(height, dtype=torch.float64) - (height - 1) / 2) * step
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1).reshape(-1, 2)


def _alpha(points_N2: Tensor, radii: tuple[float, float]) -> Tensor:
    """Opacity of an ellipse at photo points, with an edge about two pixels wide."""
    rx, ry = radii
    radius = torch.hypot(points_N2[:, 0] / rx, points_N2[:, 1] / ry)
    return ((1.0 - radius) * min(rx, ry) / 2 + 0.5).clamp(0.0, 1.0)


def render(layers: Sequence[Layer], height: int, width: int) -> Tensor:
    """Frames that the camera sees: (T, 3, height, width) float32 in [0, 255].

    Layers are drawn in order, the background first. Outside of a photograph its picture is
    mirrored.
    """
    points = _grid(height, width)
    frames: Tensor | None = None
    for layer in layers:
        photo = layer.photo_3HW
        photo_height, photo_width = photo.shape[-2:]
        mapped_TN2 = torch.stack([_apply(h, points) for h in layer.homographies_T33])
        half = mapped_TN2.new_tensor([photo_width / 2, photo_height / 2])
        grid = (mapped_TN2 / half).float().view(-1, height, width, 2)
        source = photo.float().expand(len(grid), -1, -1, -1)
        drawn = F.grid_sample(
            source, grid, mode="bicubic", padding_mode="reflection", align_corners=False
        ).clamp_(0, 255)
        if frames is None or layer.radii is None:
            frames = drawn
            continue
        alpha = torch.stack([_alpha(m, layer.radii) for m in mapped_TN2]).float()
        frames = torch.lerp(frames, drawn, alpha.view(-1, 1, height, width))
    assert frames is not None
    return frames


def exact_flow(
    layers: Sequence[Layer], a: int, b: int, height: int, width: int, *, step: int = 1
) -> tuple[Tensor, Tensor]:
    """Flow from frame a to frame b, and where it can be seen in b.

    Args:
        layers: as rendered, the background first.
        a: index of the frame on whose grid the flow lives.
        b: index of the frame to sample.
        height: of the flow, pixels.
        width: of the flow, pixels.
        step: picture pixels per flow pixel (the scale, for flow at source resolution).

    Returns:
        (2, height, width) float32 in flow pixels, and (1, height, width) bool: True where the
        point is inside b and not covered there by another layer.
    """
    points = _grid(height, width, step)
    flow = torch.zeros_like(points)
    owner = torch.zeros(len(points), dtype=torch.long)
    for index, layer in enumerate(layers):
        mapped = _apply(layer.homographies_T33[a], points)
        moved = _apply(torch.linalg.inv(layer.homographies_T33[b]), mapped)
        if layer.radii is None:
            seen = torch.ones(len(points), dtype=torch.bool)
        else:
            seen = _alpha(mapped, layer.radii) > 0.5
        flow = torch.where(seen[:, None], moved - points, flow)
        owner = torch.where(seen, index, owner)
    target = points + flow
    bound = target.new_tensor([(width - 1) / 2 * step, (height - 1) / 2 * step])
    visible = (target.abs() <= bound).all(dim=1)
    for index, layer in enumerate(layers):
        if layer.radii is not None:
            covered = _alpha(_apply(layer.homographies_T33[b], target), layer.radii) > 0.5
            visible &= ~(covered & (owner < index))
    flow_2HW = (flow / step).T.reshape(2, height, width).float()
    return flow_2HW, visible.view(1, height, width)


def random_scene(
    generator: torch.Generator,
    photos: Sequence[Tensor],
    num_frames: int,
    *,
    size_px: int,
    max_speed_px: float,
    zoom: tuple[float, float] = (1.0, 1.6),
    object_share: float = 0.6,
) -> list[Layer]:
    """A background and, in `object_share` of all scenes, up to two objects of their own motion.

    Args:
        generator: source of randomness.
        photos: (3, H, W) pictures, uint8 or float32 in [0, 255]; the first is the background.
        num_frames: T.
        size_px: side of the picture that will be rendered, pixels.
        max_speed_px: see `random_trajectory`.
        zoom: see `random_trajectory`.
        object_share: probability of objects.
    """
    background = photos[0]
    slack = [
        max(0.0, n / 2 - size_px * zoom[1] / 2) for n in (background.shape[2], background.shape[1])
    ]
    centre = (uniform(generator, -slack[0], slack[0]), uniform(generator, -slack[1], slack[1]))
    camera = random_trajectory(
        generator, num_frames, max_speed_px=max_speed_px, centre=centre, zoom=zoom
    )
    layers = [Layer(photo_3HW=background, homographies_T33=camera)]
    if uniform(generator, 0, 1) >= object_share:
        return layers
    for photo in photos[1:]:
        path = random_trajectory(generator, num_frames, max_speed_px=max_speed_px, zoom=zoom)
        # The object's own plane is moved so that it starts somewhere in the picture.
        place = torch.eye(3, dtype=torch.float64)
        place[0, 2] = uniform(generator, -0.5, 0.5) * size_px
        place[1, 2] = uniform(generator, -0.5, 0.5) * size_px
        limit = min(photo.shape[1:]) / 2
        radii = tuple(min(limit, size_px * uniform(generator, 0.12, 0.4)) for _ in range(2))
        layers.append(
            Layer(
                photo_3HW=photo,
                homographies_T33=path @ torch.linalg.inv(place),
                radii=(radii[0], radii[1]),
            )
        )
    return layers
