"""Defects planted into films are found and named; clean films of many kinds raise no alarm.

Sources are drawn, results are interpolated and go through an encoder, so that limits are tried
against the noise that real results have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.media.film import BT709, YUV420
from vsr.frame import Frame, Plane
from vsr.pipeline.shots import CutDetector
from vsr.quality.findings import find, of_check, verdict, without_noise
from vsr.quality.measure import Film, Measured, measure
from vsr.quality.views import Viewer

Picture = NDArray[np.float32]
Planes = list[Picture]
Spoil = Callable[[int, Planes], None]

ROWS, COLUMNS, FRAMES, CUT = 96, 160, 30, 14
FACTOR = 2


@cache
def world(seed: int) -> Picture:
    """Texture of every size with hard edges and fine lines, larger than a frame; codes of luma."""
    random = np.random.default_rng(seed)
    picture = np.zeros((160, 320), np.float32)
    for octave in (2, 4, 8, 16, 32, 64):
        coarse = random.normal(0, 1, (160 // octave + 2, 320 // octave + 2)).astype(np.float32)
        wide = np.asarray(cv2.resize(coarse, (320, 160), interpolation=cv2.INTER_CUBIC))
        picture += wide * np.float32(octave**0.4)
    for _ in range(14):
        x, y = int(random.integers(0, 300)), int(random.integers(0, 140))
        picture[y : y + int(random.integers(4, 40)), x : x + int(random.integers(4, 40))] += (
            random.normal(0, 30)
        )
    picture -= picture.mean()
    return np.asarray(np.clip(126 + picture * (45 / picture.std()), 20, 230), np.float32)


def scene(seed: int, index: int) -> Planes:
    """A camera over a world of its own."""
    x, y = 2 * index, index // 2
    luma = world(seed)[y : y + ROWS, x : x + COLUMNS].copy()
    small = cv2.resize(luma, (COLUMNS // 2, ROWS // 2), interpolation=cv2.INTER_AREA)
    chroma = np.asarray(small, np.float32) - 126
    return [luma, 128 + np.float32(0.2) * chroma, 128 - np.float32(0.15) * chroma]


def cuts(index: int) -> Planes:
    return scene(1 if index < CUT else 2, index if index < CUT else index - CUT)


def static(_: int) -> Planes:
    return scene(1, 0)


def starting(index: int) -> Planes:
    """Still at first, then faster and faster."""
    return scene(6, max(0, index - 12) * (index - 12) // 8)


def noisy(index: int) -> Planes:
    planes = scene(3, index)
    planes[0] += np.random.default_rng(index).normal(0, 8, planes[0].shape).astype(np.float32)
    return planes


def fades(index: int) -> Planes:
    gain = np.float32(min(1.0, index / 10, (FRAMES - 1 - index) / 10))
    luma, *chroma = scene(4, index)
    return [16 + gain * (luma - 16), *(128 + gain * (plane - 128) for plane in chroma)]


def dark(index: int) -> Planes:
    luma, *chroma = scene(5, index)
    noise = np.random.default_rng(index).normal(0, 1.5, luma.shape).astype(np.float32)
    return [
        16 + np.float32(0.12) * (luma - 16) + noise,
        *(128 + np.float32(0.15) * (plane - 128) for plane in chroma),
    ]


def night(index: int) -> Planes:
    """A thirtieth of the light, so that movement is half a code, under noise of a code."""
    luma, *chroma = scene(5, index)
    noise = np.random.default_rng(index).normal(0, 1, luma.shape).astype(np.float32)
    return [
        16 + np.float32(0.03) * (luma - 16) + noise,
        *(128 + np.float32(0.03) * (plane - 128) for plane in chroma),
    ]


def drawn(index: int) -> Planes:
    """Flat colours and outlines, a new drawing every second frame."""
    luma = np.full((ROWS, COLUMNS), 180, np.float32)
    luma[ROWS // 2 :] = 90
    at = 20 + 4 * (index // 2)
    cv2.circle(luma, (at, 50), 22, 200, -1)
    cv2.circle(luma, (at, 50), 22, 25, 2)
    cv2.rectangle(luma, (90, 30), (130, 80), 140, -1)
    cv2.rectangle(luma, (90, 30), (130, 80), 25, 1)
    cv2.line(luma, (0, 90), (159, 70), 25, 1)
    small = np.asarray(cv2.resize(luma, (COLUMNS // 2, ROWS // 2), interpolation=cv2.INTER_AREA))
    return [luma, 128 + np.float32(0.3) * (small - 120), 128 - np.float32(0.2) * (small - 120)]


def bars(index: int) -> Planes:
    """A test card: hard edges from top to bottom, on the grid of blocks and off it."""
    luma = np.full((ROWS, COLUMNS), 180, np.float32)
    for left, code in ((0, 16), (16, 80), (39, 190), (56, 40), (80, 210), (103, 140), (128, 235)):
        luma[:, left:] = code
    luma[70:86] = np.linspace(40, 220, COLUMNS, dtype=np.float32)
    luma[20:36, 24 + index : 48 + index] = 120
    gray = np.full((ROWS // 2, COLUMNS // 2), 128, np.float32)
    return [luma, gray, gray + np.float32(20)]


def renewed(index: int) -> Planes:
    """Still at first, then in motion; a coder's errors are others from its key frame on."""
    luma, *chroma = scene(1, max(0, index - 10))
    errors = np.random.default_rng(index < 24).normal(0, 6, (160, 320)).astype(np.float32)
    at = 2 * max(0, index - 10)
    y = max(0, index - 10) // 2
    luma += np.asarray(cv2.GaussianBlur(errors, (0, 0), 0.8))[y : y + ROWS, at : at + COLUMNS] * 2
    return [luma, *chroma]


def frames(film: Callable[[int], Planes]) -> list[Frame]:
    return [
        Frame(
            planes=tuple(np.rint(np.clip(plane, 0, 255)).astype(np.uint8) for plane in film(k)),
            layout=YUV420,
            color=BT709,
            pts=40 * k,
        )
        for k in range(FRAMES)
    ]


def enlarged(source: Sequence[Frame]) -> list[Frame]:
    """Plainly interpolated, encoded by x264 as a run would do it, and decoded."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = FACTOR * COLUMNS, FACTOR * ROWS
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.options, encoder.thread_count = {"crf": "18"}, 1
    packets = []
    for index, frame in enumerate(source):
        large = [
            cv2.resize(p, None, fx=FACTOR, fy=FACTOR, interpolation=cv2.INTER_CUBIC)
            for p in frame.planes
        ]
        packed = np.concatenate([np.asarray(plane).ravel() for plane in large])
        shape = (3 * encoder.height // 2, encoder.width)
        picture = av.VideoFrame.from_ndarray(packed.reshape(shape), "yuv420p")
        picture.pts = index
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create("h264", "r")
    decoder.extradata = encoder.extradata
    pictures = [f for packet in [*packets, None] for f in decoder.decode(packet)]
    assert len(pictures) == len(source)
    return [
        replace(frame, planes=tuple(plane_of(picture, k) for k in range(3)))
        for frame, picture in zip(source, pictures, strict=True)
    ]


def plane_of(picture: av.VideoFrame, index: int) -> NDArray[np.uint8]:
    plane = picture.planes[index]
    rows = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width].copy()


@cache
def film(kind: Callable[[int], Planes]) -> tuple[list[Frame], list[Frame]]:
    source = frames(kind)
    return source, enlarged(source)


def measured(source: Sequence[Frame], result: Sequence[Frame]) -> Measured:
    base = Fraction(1, 1000)
    one, two = (Film(frames, Viewer(BT709), base) for frames in (source, result))
    return measure(one, two, CutDetector())


def spoiled(spoil: Spoil) -> Measured:
    """The film with a cut, and what the defect makes of its result."""
    source, result = film(cuts)
    changed = []
    for index, frame in enumerate(result):
        planes = [np.asarray(plane, np.float32) for plane in frame.planes]
        spoil(index, planes)
        codes = tuple(np.rint(np.clip(plane, 0, 255)).astype(np.uint8) for plane in planes)
        changed.append(replace(frame, planes=codes))
    return measured(source, changed)


@pytest.mark.parametrize(
    "kind", [static, starting, noisy, cuts, fades, dark, night, drawn, bars, renewed]
)
def test_a_clean_result_of_any_kind_raises_no_alarm(kind: Callable[[int], Planes]) -> None:
    found = measured(*film(kind))
    assert found.findings == ()
    assert len(found.shots) == (2 if kind is cuts else 1)


def frozen(index: int, planes: Planes) -> None:
    if index == 6:
        for plane, before in zip(planes, film(cuts)[1][5].planes, strict=True):
            plane[:] = before


def black(index: int, planes: Planes) -> None:
    if index == 7:
        planes[0][:] = 16
        planes[1][:] = planes[2][:] = 128


def discolored(index: int, planes: Planes) -> None:
    if index >= CUT:
        planes[2] += 3


def brightened(index: int, planes: Planes) -> None:
    if index >= CUT:
        planes[0] += 3


def seamed(_: int, planes: Planes) -> None:
    planes[0][:, COLUMNS:] += 2


def seamed_below(_: int, planes: Planes) -> None:
    """The border of a tile that does not reach to the edge."""
    planes[0][60:, 120:] += 2


def softer(_: int, planes: Planes) -> None:
    """A tile that another way of computing made: as bright, less sharp."""
    planes[0][:, COLUMNS:] = cv2.GaussianBlur(planes[0], (0, 0), 0.9)[:, COLUMNS:]


def sharper_below(_: int, planes: Planes) -> None:
    soft = cv2.GaussianBlur(planes[0], (0, 0), 1.5)
    planes[0][120:] = (1.6 * planes[0] - 0.6 * soft)[120:]


def pumping(index: int, planes: Planes) -> None:
    if 16 <= index < 26:
        planes[0] += 3 * (index % 2)


def shimmering(index: int, planes: Planes) -> None:
    if 16 <= index < 26:
        noise = np.random.default_rng(index).normal(0, 1, planes[0].shape).astype(np.float32)
        planes[0] += 50 * np.asarray(cv2.GaussianBlur(noise, (0, 0), 3))


def blurred(index: int, planes: Planes) -> None:
    if index >= CUT:
        planes[0][:] = cv2.GaussianBlur(planes[0], (0, 0), 1.5)


def invented(index: int, planes: Planes) -> None:
    if index == 9:
        planes[0][60:84, 80:104] += (
            np.kron(np.indices((6, 6)).sum(0) % 2, np.ones((4, 4))) * 50 - 25
        )


def invented_for_long(index: int, planes: Planes) -> None:
    planes[0][60:84, 80:104] += np.kron(np.indices((6, 6)).sum(0) % 2, np.ones((4, 4))) * 50 - 25


@pytest.mark.parametrize(
    ("spoil", "kind", "where", "besides"),
    [
        (frozen, "frozen", (6, 1), set()),
        (black, "black", (7, 1), set()),
        (discolored, "colour", (CUT, FRAMES - CUT), set()),
        (brightened, "colour", (CUT, FRAMES - CUT), set()),
        # Half of the picture is brighter too.
        (seamed, "seam", (None, 0), {"colour"}),
        (seamed_below, "seam", (None, 0), {"colour"}),
        (softer, "seam", (None, 0), {"patch"}),
        (sharper_below, "seam", (None, 0), set()),
        (pumping, "flicker", (17, 10), {"unlike"}),
        (shimmering, "flicker", (16, 11), {"unlike", "patch"}),
        (blurred, "blur", (CUT, FRAMES - CUT), {"unlike"}),
        (invented, "patch", (9, 1), {"unlike"}),
        (invented_for_long, "patch", (0, CUT), {"unlike"}),
    ],
)
def test_a_planted_defect_is_found_and_named(
    spoil: Spoil, kind: str, where: tuple[int | None, int], besides: set[str]
) -> None:
    found = spoiled(spoil).findings
    named = [f for f in found if f.kind == kind]
    assert named, found
    assert (named[0].first_frame, named[0].num_frames) == where
    assert {f.kind for f in found} <= {kind, *besides}
    assert kind in verdict(found, True)


def test_a_frame_that_stands_in_the_dark_is_found() -> None:
    source, result = film(night)
    held = [*result]
    for index, shown in ((6, 5), (12, 11), (13, 11), (14, 11)):
        held[index] = replace(result[index], planes=result[shown].planes)
    found = [f for f in measured(source, held).findings if f.kind == "frozen"]
    assert [(f.first_frame, f.num_frames) for f in found] == [(6, 1), (12, 3)]


def test_where_a_patch_and_a_seam_lie_is_said() -> None:
    patch = next(f for f in spoiled(invented).findings if f.kind == "patch")
    x, y = (int(word.rstrip("%")) for word in patch.sentence.split() if word.endswith("%"))
    assert 80 / 320 <= x / 100 <= 104 / 320
    assert 60 / 192 <= y / 100 <= 84 / 192
    seams = [f.sentence for f in spoiled(seamed).findings if f.kind == "seam"]
    assert len(seams) == 1
    assert f"column {COLUMNS // 2} " in seams[0]
    for spoil, line, at in ((softer, "column", COLUMNS // 2), (sharper_below, "row", 60)):
        seams = [f.sentence for f in spoiled(spoil).findings if f.kind == "seam"]
        assert len(seams) == 1
        found = re.search(
            rf"sharpness runs along {line} (\d+), (\d+)% (less|more) beyond", seams[0]
        )
        assert found is not None
        assert abs(int(found[1]) - at) <= 2
        assert found[3] == ("less" if spoil is softer else "more")


def test_noise_taken_from_a_still_scene_is_no_standstill() -> None:
    source = frames(static)
    random = np.random.default_rng(1)
    grainy = [
        replace(
            frame,
            planes=(
                np.clip(frame.planes[0] + random.normal(0, 6, (ROWS, COLUMNS)), 0, 255).astype(
                    np.uint8
                ),
                *frame.planes[1:],
            ),
        )
        for frame in source
    ]
    found = measured(grainy, film(static)[1])
    assert not [f for f in found.findings if f.kind == "frozen"]
    # The same flags in a shot that lost its picture stay.
    lost = [f.model_copy(update={"frozen": True, "psnr_db": 20.0}) for f in found.frames]
    assert all(f.frozen for f in without_noise(lost))
    assert [f.kind for f in find(lost, (), ([], []), None)] == ["frozen"]


def without_noise_of_8(luma: Plane) -> NDArray[np.uint8]:
    codes = np.asarray(luma, np.uint8)
    return np.asarray(cv2.fastNlMeansDenoising(codes, None, 12, 5, 11), np.uint8)


def test_a_film_whose_noise_was_taken_is_named() -> None:
    source, result = film(noisy)
    cleaned = [
        replace(
            frame,
            planes=(without_noise_of_8(frame.planes[0]), *frame.planes[1:]),
        )
        for frame in result
    ]
    lost = [f for f in measured(source, cleaned).findings if f.kind == "grain"]
    assert [(f.first_frame, f.num_frames) for f in lost] == [(0, FRAMES)]


def test_what_a_check_found_is_named_first() -> None:
    rows = [
        {"name": "frames", "ok": True, "source": "24", "result": "24", "note": ""},
        {"name": "pts", "ok": False, "source": "exact", "result": "frame 5: +2", "note": "ticks"},
    ]
    found = of_check({"ok": False, "rows": rows})
    assert [(f.kind, f.sentence) for f in found] == [
        ("pts", "Not as in the source: exact, but frame 5: +2. ticks")
    ]
    assert verdict(found, False).endswith("Look at one place: pts.")
    assert of_check({}) == []
