"""Two painted scenes and the camera that films them.

A scene is painted once on a large canvas and filmed by a camera that pans, zooms and turns by
fractions of a pixel. Each frame is sampled at 2560x1440 and averaged down to 1280x720.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from textures import Grid, Image, brick_wall, cloth, cobbles, foliage, noise, tint, wood

WIDTH, HEIGHT = 1280, 720
SUPERSAMPLE = 2
FRAME_RATE = 24
NUM_FRAMES = 120
CUT_FRAME = 76
FONT = cv2.FONT_HERSHEY_DUPLEX
PRINT = cv2.FONT_HERSHEY_SIMPLEX
SERIF = cv2.FONT_HERSHEY_TRIPLEX
WORDS = (
    "the river slow under seven bridges past old mills and gardens where boats wait for rain and "
    "every street leads down to water again by way of small stairs"
)


def write(
    image: Image,
    text: str,
    at: tuple[int, int],
    size: float,
    bgr: tuple[float, float, float],
    weight: int = 2,
    font: int = FONT,
) -> None:
    """Text with its baseline's left end at `at`; `size` 1 is about 22 pixels tall."""
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.putText(mask, text, at, font, size, 255, weight, cv2.LINE_AA)
    left, top, wide, tall = cv2.boundingRect(mask)
    part = np.s_[top : top + tall, left : left + wide]
    cover = mask[part].astype(np.float32)[..., None] / 255
    image[part] += cover * (np.array(bgr, np.float32) - image[part])


def box(image: Image, x: int, y: int, w: int, h: int, color: tuple[float, float, float]) -> None:
    """A filled rectangle."""
    cv2.rectangle(image, (x, y), (x + w, y + h), color, -1)


def window(image: Image, seed: int, x: int, y: int, w: int, h: int) -> None:
    """A sash window: stone frame, sky in the panes, a blind drawn part of the way."""
    rng = np.random.default_rng(seed)
    image[y + h + 26 : y + h + 60, x - 18 : x + w + 18] *= 0.62
    box(image, x - 22, y - 46, w + 44, 40, (172, 184, 190))
    for joint in range(x - 22, x + w + 22, 38):
        cv2.line(image, (joint, y - 46), (joint, y - 6), (120, 132, 138), 2)
    box(image, x - 22, y + h, w + 44, 24, (186, 196, 202))
    box(image, x - 10, y - 10, w + 20, h + 20, (206, 214, 216))
    pane = tint(h, w, (92, 78, 62))
    sky = noise(seed, h, w, 130, 5)
    pane += np.clip(sky + np.linspace(0.9, -0.9, h, dtype=np.float32)[:, None], 0, 2)[..., None] * (
        np.array([92, 88, 80], np.float32)
    )
    blind = int(h * rng.uniform(0.15, 0.75))
    slat = np.arange(blind)[:, None] % 10
    pane[:blind] = np.where(slat < 7, 204.0 - 5 * slat, 96.0)[..., None]
    image[y : y + h, x : x + w] = pane
    for fraction in (1 / 3, 2 / 3):
        box(image, x + int(w * fraction) - 4, y, 8, h, (214, 220, 222))
    box(image, x, y + h // 2 - 6, w, 12, (214, 220, 222))
    cv2.rectangle(image, (x, y), (x + w, y + h), (80, 84, 88), 2)


def printed_page(seed: int, w: int, h: int, title: str) -> Image:
    """A sheet of paper: title, a picture of contour lines, columns of legible small print."""
    rng = np.random.default_rng(seed)
    page = tint(h, w, (214, 226, 232)) + 4 * noise(seed, h, w, 90, 4)[..., None]
    write(page, title, (26, 76), w / 330, (30, 30, 40), weight=4, font=SERIF)
    cv2.line(page, (24, 98), (w - 24, 98), (40, 40, 46), 4)
    top, tall = 122, int(h * 0.36)
    relief = noise(seed + 1, tall, w - 48, 190, 4)
    lines = np.abs((relief * 6) % 1 - 0.5) < 0.06
    land = np.where(relief[..., None] > 0, (150, 196, 178), (206, 178, 136)).astype(np.float32)
    land *= (0.9 + 0.16 * relief)[..., None]
    land[lines] = (70, 84, 96)
    page[top : top + tall, 24 : w - 24] = land
    cv2.rectangle(page, (24, top), (w - 24, top + tall), (40, 40, 46), 2)
    words = WORDS.split()
    y = top + tall + 44
    size, step = 0.86, 38
    while y < h - 24:
        for left in (26, w // 2 + 14):
            text = ""
            while len(text) < (w // 2 - 60) / (size * 18):
                text += str(rng.choice(words)) + " "
            write(page, text.strip(), (left, y), size, (44, 44, 50), weight=2, font=PRINT)
        y += step
    return page.astype(np.float32)


def shop(image: Image, x: int, y: int, w: int, h: int, name: str) -> None:
    """A bookshop's front below y: sign, striped awning, posters behind glass, a door."""
    box(image, x, y, w, h, (52, 66, 40))
    box(image, x + 24, y + 20, w - 48, 150, (40, 52, 30))
    write(image, name, (x + 70, y + 112), 3.1, (150, 206, 232), weight=7, font=SERIF)
    write(image, "maps - prints - since 1907", (x + w - 560, y + 150), 1.0, (196, 214, 220))
    glass_y, glass_h = y + 306, h - 336
    for left, wide in ((x + 50, 620), (x + w - 670, 620)):
        box(image, left, glass_y, wide, glass_h, (60, 54, 46))
        shine = noise(left, glass_h, wide, 260, 4)[..., None]
        image[glass_y : glass_y + glass_h, left : left + wide] += np.clip(shine, 0, 1) * 46
        for index, title in enumerate(("Harbour", "Atlas")):
            page = printed_page(left + index, 500, 520, title)
            poster = np.asarray(cv2.resize(page, (250, 260), interpolation=cv2.INTER_AREA))
            px = left + 36 + index * 300
            image[glass_y + 24 : glass_y + 24 + 260, px : px + 250] = poster * 0.94
        cv2.rectangle(
            image, (left, glass_y), (left + wide, glass_y + glass_h), (120, 140, 96), 8, cv2.LINE_AA
        )
    door = x + 710
    box(image, door, y + 260, w - 1420, h - 262, (70, 88, 52))
    box(image, door + 30, y + 300, w - 1480, 300, (76, 70, 60))
    write(image, "OPEN", (door + 46, y + 430), 1.5, (90, 220, 240), weight=4)
    write(image, "Mon-Sat 9-18", (door + 40, y + 490), 0.8, (220, 226, 228))
    stripes = (np.arange(w + 40) // 44) % 2
    awning = np.where(stripes[None, :, None] == 1, (216, 222, 226), (58, 62, 156)).astype(
        np.float32
    )
    for row in range(110):
        squeeze = 1 - row / 900
        image[y + 180 + row, x - 20 : x + w + 20] = awning[0] * (squeeze + 0.05)
    image[y + 290 : y + 350, x : x + w] *= 0.55


def street() -> Image:
    """The first scene's canvas: two houses, a shop, a street."""
    rows, cols = 1900, 4000
    image = np.empty((rows, cols, 3), np.float32)
    image[:, :2300] = brick_wall(11, rows, 2300, (74, 92, 158))
    image[:, 2300:] = brick_wall(21, rows, cols - 2300, (128, 150, 170))
    image[:, 2286:2300] *= 0.5
    for column, x in enumerate((170, 640, 1110, 1580, 2000, 2470, 2910, 3340)):
        for row, y in enumerate((70, 520)):
            window(image, 100 + 10 * column + row, x, y, 230, 330)
    box(image, 0, 925, cols, 34, (150, 160, 166))
    for x in range(0, cols, 46):
        box(image, x, 959, 22, 16, (132, 142, 148))
    shop(image, 260, 985, 1900, 640, "MERIDIAN BOOKS")
    shop(image, 2420, 985, 1500, 640, "COPPER & SONS")
    image[1625:] = cobbles(31, rows - 1625, cols)
    box(image, 0, 1612, cols, 22, (142, 148, 150))
    image[1634:1660] *= 0.6
    light = 1.06 - 0.22 * np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
    return np.clip(image * light + 8 * noise(41, rows, cols, 900, 2)[..., None], 0, 255)


def as_layer(picture: Image, alpha: Grid) -> Image:
    """Join colour and coverage; colour is stored multiplied by coverage."""
    return np.dstack([picture * alpha[..., None], alpha])


def tram() -> Image:
    """The thing that moves by itself in the first scene, as a layer with alpha."""
    rows, cols = 470, 1150
    body, alpha = tint(rows, cols, (46, 60, 170)), np.zeros((rows, cols), np.float32)
    cv2.rectangle(alpha, (20, 40), (cols - 20, 400), 1.0, -1)
    body += 5 * noise(499, rows, cols, 240, 4)[..., None]
    box(body, 20, 40, cols - 40, 36, (206, 214, 216))
    box(body, 20, 245, cols - 40, 7, (196, 210, 220))
    for index, x in enumerate(range(60, cols - 160, 176)):
        box(body, x, 100, 150, 118, (70, 62, 50))
        body[100:218, x : x + 150] += np.clip(noise(500 + index, 118, 150, 70, 4) + 0.4, 0, 2)[
            ..., None
        ] * np.float32(52)
        head = x + 50 + 9 * (index % 4)
        cv2.circle(body, (head, 172), 19, (70, 96, 140), -1)
        cv2.ellipse(body, (head, 218), (34, 28), 0, 180, 360, (90, 60, 50), -1)
        cv2.rectangle(body, (x, 100), (x + 150, 218), (206, 214, 216), 4)
    write(body, "7  HARBOUR - OLD TOWN", (70, 318), 1.7, (226, 232, 236), weight=4)
    write(body, "city tramways   car 2041", (72, 366), 0.9, (214, 222, 228))
    for x in range(840, 1080, 8):
        cv2.line(body, (x, 276), (x, 376), (24, 30, 84), 3)
    for x in (180, 330, cols - 330, cols - 180):
        cv2.circle(alpha, (x, 412), 46, 1.0, -1)
        cv2.circle(body, (x, 412), 46, (40, 40, 42), -1)
        cv2.circle(body, (x, 412), 30, (120, 124, 128), 5)
        cv2.circle(body, (x, 412), 9, (150, 154, 156), -1)
    return as_layer(body, alpha)


def notice_board() -> Image:
    """The second scene's canvas: planks, pages, a cloth, a grille."""
    rows, cols = 1900, 3200
    image = wood(61, rows, cols)
    for seed, x, y, w, h, title in (
        (71, 420, 210, 760, 1040, "THE LEDGER"),
        (81, 1290, 300, 560, 760, "Walks"),
        (91, 460, 1330, 640, 420, "Lost cat"),
        (95, 1270, 1150, 600, 600, "Concert"),
    ):
        image[y + 16 : y + h + 16, x + 14 : x + w + 14] *= 0.5
        image[y : y + h, x : x + w] = printed_page(seed, w, h, title)
        cv2.circle(image, (x + w // 2, y + 22), 13, (50, 50, 190), -1)
    image[160:1500, 2000:2640] = cloth(97, 1340, 640)
    image[160:1500, 2640:2670] *= 0.55
    box(image, 2000, 1560, 900, 260, (36, 40, 42))
    for x in range(2000, 2900, 14):
        cv2.line(image, (x, 1560), (x + 60, 1820), (150, 160, 166), 3)
    light = 1.1 - 0.3 * np.linspace(0, 1, cols, dtype=np.float32)[None, :, None]
    return np.clip(image * light, 0, 255).astype(np.float32)


def hanging_sign() -> Image:
    """What swings in the second scene, hung at (320, 12), as a layer with alpha."""
    face, alpha = tint(720, 640, (60, 110, 60)), np.zeros((720, 640), np.float32)
    face += 6 * noise(98, 720, 640, 120, 5)[..., None]
    for x in (180, 460):
        for target, color in ((face, (60, 66, 70)), (alpha, 1.0)):
            cv2.line(target, (320, 12), (x, 250), color, 6)
    cv2.circle(alpha, (320, 440), 242, 1.0, -1)
    cv2.circle(face, (320, 440), 236, (150, 206, 232), 12)
    cv2.circle(face, (320, 440), 206, (150, 206, 232), 3)
    for index in range(72):
        angle = math.radians(5 * index)
        ends = [
            (int(320 + r * math.cos(angle)), int(440 + r * math.sin(angle))) for r in (210, 226)
        ]
        cv2.line(face, ends[0], ends[1], (190, 220, 236), 3)
    write(face, "THE OLD", (222, 380), 1.5, (206, 226, 236), weight=4, font=SERIF)
    write(face, "COMPASS", (186, 462), 2.0, (206, 226, 236), weight=5, font=SERIF)
    write(face, "coffee - tea - cake", (192, 520), 0.95, (214, 226, 230))
    write(face, "No. 12", (280, 574), 0.9, (214, 226, 230))
    return as_layer(face, alpha)


@dataclass(frozen=True)
class View:
    """Where the camera looks: the canvas point at the picture's centre, zoom, roll in degrees."""

    x: float
    y: float
    zoom: float
    roll: float

    def matrix(self, depth: float = 1.0) -> NDArray[np.float64]:
        """2x3 map from canvas to supersampled picture; nearer layers (`depth` > 1) move more."""
        angle, zoom = math.radians(self.roll), self.zoom * depth
        cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
        to_x, to_y = WIDTH * SUPERSAMPLE / 2, HEIGHT * SUPERSAMPLE / 2
        return np.array(
            [
                [cos, -sin, to_x - cos * self.x + sin * self.y],
                [sin, cos, to_y - sin * self.x - cos * self.y],
            ]
        )


def shot(canvas: Image, matrix: NDArray[np.float64]) -> Image:
    """What the camera sees of a canvas or layer, supersampled."""
    size = (WIDTH * SUPERSAMPLE, HEIGHT * SUPERSAMPLE)
    warped = cv2.warpAffine(
        canvas, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    return np.asarray(warped, np.float32)


def lay(picture: Image, layer: Image, matrix: NDArray[np.float64]) -> None:
    """Composite a layer; its colours are already multiplied by alpha where it is antialiased."""
    warped = shot(layer, matrix)
    picture *= 1 - warped[..., 3:]
    picture += warped[..., :3]


def placed(
    view: View, x: float, y: float, turn: float = 0.0, depth: float = 1.0
) -> NDArray[np.float64]:
    """Matrix of a layer whose origin lies at (x, y) of the canvas, turned by `turn` degrees."""
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    local = np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1]])
    return np.asarray(view.matrix(depth) @ local, np.float64)


def frames() -> Iterator[NDArray[np.uint8]]:
    """The 120 pictures, (720, 1280, 3) BGR."""
    canvas, car, leaves = street(), tram(), foliage(51, 760, 900, 5200)
    for index in range(CUT_FRAME):
        t = index / FRAME_RATE
        view = View(
            1420 + 88 * t + 3.1 * math.sin(2.3 * t),
            1060 - 16 * t + 2.2 * math.sin(3.1 * t + 1),
            0.97 + 0.016 * t,
            0.55 * math.sin(0.9 * t),
        )
        picture = shot(canvas, view.matrix())
        lay(picture, car, placed(view, -140 + 365 * t, 1330 + 1.2 * math.sin(19 * t)))
        sway = 0.5 * math.sin(1.7 * t)
        lay(picture, leaves, placed(view, 2060 - 40 * t, 60, sway, 1.12))
        yield developed(picture)
    canvas, sign = notice_board(), hanging_sign()
    for index in range(NUM_FRAMES - CUT_FRAME):
        t = index / FRAME_RATE
        view = View(
            1500 - 70 * t + 2.5 * math.sin(2.9 * t),
            900 + 46 * t,
            1.0 + 0.05 * t,
            -1.1 + 0.9 * t,
        )
        picture = shot(canvas, view.matrix())
        swing = 9 * math.sin(2.2 * t + 0.4)
        angle = math.radians(swing)
        pivot_x, pivot_y = 2120.0, 330.0
        x = pivot_x - 320 * math.cos(angle) + 12 * math.sin(angle)
        y = pivot_y - 320 * math.sin(angle) - 12 * math.cos(angle)
        shadow = np.zeros_like(sign)
        shadow[..., 3] = 0.4 * cv2.GaussianBlur(sign[..., 3], (0, 0), 9)
        lay(picture, shadow, placed(view, x + 22, y + 26, swing))
        lay(picture, sign, placed(view, x, y, swing))
        yield developed(picture)


def developed(picture: Image) -> NDArray[np.uint8]:
    """Average down to the final size and round."""
    small = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)
