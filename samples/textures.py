"""Procedural surfaces: brick, cobbles, leaves, wood, cloth, each from a fixed seed."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
"""(rows, columns, 3) BGR, 0 to 255; a layer has alpha from 0 to 1 as fourth channel."""
Grid = NDArray[np.float32]
"""(rows, columns), or (channels, samples) of sound."""


def noise(seed: int, rows: int, cols: int, cell: float, octaves: int = 5) -> Grid:
    """Sum of octaves of smooth noise, about -1 to 1; the largest blobs are `cell` pixels wide."""
    rng = np.random.default_rng(seed)
    total = np.zeros((rows, cols), np.float32)
    gain = 1.0
    for _ in range(octaves):
        small_rows, small_cols = int(rows / cell) + 4, int(cols / cell) + 4
        small = rng.standard_normal((small_rows, small_cols)).astype(np.float32)
        size = (max(cols, int(small_cols * cell)), max(rows, int(small_rows * cell)))
        total += gain * cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)[:rows, :cols]
        gain *= 0.55
        cell = max(1.0, cell / 2)
    return total * 0.6


def tint(rows: int, cols: int, bgr: tuple[float, float, float]) -> Image:
    """A plain area of one colour."""
    return np.broadcast_to(np.array(bgr, np.float32), (rows, cols, 3)).copy()


def brick_wall(seed: int, rows: int, cols: int, bgr: tuple[float, float, float]) -> Image:
    """Running bond with a colour of its own for each brick, lit from above left."""
    brick_w, brick_h, mortar = 76, 28, 4
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :cols].astype(np.float32)
    wobble = 1.5 * noise(seed + 1, rows, cols, 60, 2)
    course = ((y + wobble) // brick_h).astype(int)
    shifted = x + wobble + (course % 2) * brick_w / 2 + 5 * np.sin(course * 12.9)
    column = (shifted // brick_w).astype(int)
    u, v = shifted % brick_w, (y + wobble) % brick_h
    shade = rng.normal(1.0, 0.13, (course.max() + 2, column.max() + 2)).astype(np.float32)
    warm = rng.normal(0.0, 7.0, shade.shape).astype(np.float32)
    wall = tint(rows, cols, bgr) * shade[course, column][..., None]
    wall[..., 2] += warm[course, column]
    wall += (7 * noise(seed + 2, rows, cols, 9, 3) + 9 * noise(seed + 3, rows, cols, 400, 4))[
        ..., None
    ]
    wall += (16 * (v < mortar + 3) - 14 * (v > brick_h - 4))[..., None]
    joint = (u < mortar) | (v < mortar)
    wall[joint] = (
        tint(rows, cols, (150, 158, 164)) + 10 * noise(seed + 4, rows, cols, 5, 2)[..., None]
    )[joint]
    return np.asarray(wall, np.float32)


def cobbles(seed: int, rows: int, cols: int) -> Image:
    """Round stones in rows that widen towards the viewer."""
    rng = np.random.default_rng(seed)
    ground = tint(rows, cols, (58, 62, 66))
    y, size = -10.0, 26.0
    while y < rows + size:
        x = -rng.uniform(0, 60)
        while x < cols + 80:
            w = size * rng.uniform(1.3, 2.0)
            tone = rng.normal(128, 17)
            color = (tone * 0.98, tone, tone * rng.uniform(1.0, 1.07))
            center, half = (int(x + w / 2), int(y + size / 2)), (int(w / 2) - 2, int(size / 2) - 2)
            cv2.ellipse(ground, center, half, 0, 0, 360, [0.72 * c for c in color], -1)
            lit = (center[0] - 1, center[1] - 2)
            cv2.ellipse(ground, lit, (half[0] - 3, max(2, half[1] - 4)), 0, 0, 360, color, -1)
            x += w
        y += size
        size *= 1.07
    return (ground + 9 * noise(seed + 1, rows, cols, 6, 3)[..., None]).astype(np.float32)


def foliage(seed: int, rows: int, cols: int, num_leaves: int) -> Image:
    """A crown of leaves, darker inside, as a layer with alpha."""
    rng = np.random.default_rng(seed)
    layer = np.zeros((rows, cols, 4), np.float32)
    density = noise(seed + 1, rows, cols, 170, 4)
    for index in range(num_leaves):
        angle, radius = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform(0, 1))
        x = cols * (0.5 + 0.47 * radius * math.cos(angle))
        y = rows * (0.5 + 0.47 * radius * math.sin(angle))
        if density[int(y), int(x)] < -0.25:
            continue
        light = 0.35 + 0.65 * index / num_leaves + 0.25 * (0.5 - y / rows) + rng.normal(0, 0.1)
        color = np.array([38 + rng.uniform(0, 26), 118 + rng.uniform(-16, 34), 84]) * light
        axes = (int(rng.uniform(7, 15)), int(rng.uniform(3, 6)))
        turn = rng.uniform(0, 180)
        center = (int(x), int(y))
        cv2.ellipse(layer, center, axes, turn, 0, 360, (*color.tolist(), 1.0), -1)
        tip = (
            int(x + axes[0] * math.cos(math.radians(turn))),
            int(y + axes[0] * math.sin(math.radians(turn))),
        )
        vein = (*(color * 1.35).tolist(), 1.0)
        cv2.line(layer, center, tip, vein, 1)
    return layer


def wood(seed: int, rows: int, cols: int) -> Image:
    """Upright planks with grain and knots."""
    rng = np.random.default_rng(seed)
    plank_w = 210
    y, x = np.mgrid[:rows, :cols].astype(np.float32)
    plank = (x // plank_w).astype(int)
    offset = rng.uniform(0, 900, plank.max() + 1).astype(np.float32)[plank]
    stretched = cv2.resize(noise(seed + 1, rows // 12 + 2, cols, 46, 4), (cols, rows))
    grain = np.sin(0.16 * (x + offset) + 9 * stretched + 0.002 * y)
    fine = cv2.resize(noise(seed + 2, rows // 16 + 2, cols, 4, 2), (cols, rows))
    tone = rng.normal(1.0, 0.08, plank.max() + 1).astype(np.float32)[plank]
    board = tint(rows, cols, (74, 112, 146)) * tone[..., None]
    board += (13 * grain + 10 * fine)[..., None]
    board[(x % plank_w) < 6] *= 0.35
    return np.asarray(board, np.float32)


def cloth(seed: int, rows: int, cols: int) -> Image:
    """Checked cloth with a visible weave, hanging in folds."""
    y, x = np.mgrid[:rows, :cols].astype(np.float32)
    fold = np.sin(x / 58 + 0.6 * np.sin(y / 260)) + 0.4 * np.sin(x / 23 + y / 500)
    u = x + 16 * np.cos(x / 58)
    cloth_bgr = tint(rows, cols, (196, 204, 210))
    for period, width, color in ((120, 34, (120, 52, 40)), (120, 8, (48, 48, 190))):
        shift = 0 if width > 10 else 60
        band = (((u + shift) % period) < width) * 0.5 + (((y + shift) % period) < width) * 0.5
        cloth_bgr += band[..., None] * (np.array(color, np.float32) - cloth_bgr)
    weave = np.sin(u * math.pi / 3) * np.sin(y * math.pi / 3)
    cloth_bgr += (16 * weave + 6 * noise(seed, rows, cols, 7, 2))[..., None]
    return np.asarray(cloth_bgr * (0.86 + 0.16 * fold)[..., None], np.float32)
