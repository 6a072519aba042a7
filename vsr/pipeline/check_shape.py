"""Shape and colour of the picture as the files describe them."""

from __future__ import annotations

import math
from fractions import Fraction

from vsr.color import complete
from vsr.frame import ColorSpec, MasteringDisplay, Matrix, VideoInfo
from vsr.media.probe import MediaInfo
from vsr.pipeline.declared import Declared
from vsr.pipeline.plan import Plan
from vsr.pipeline.verdict import CheckRow, row

_CHROMATICITY_STEP = Fraction(1, 50_000)
_LUMINANCE_STEP = Fraction(1, 10_000)
"""Of ST 2086 as H.264 and HEVC store it; other codecs store other fractions."""
_WITHOUT_HDR = frozenset({"ffv1", "prores", "dnxhd"})
"""Codecs that have no field for HDR metadata."""
_UNTAGGED = 2


def check_shape(
    before: MediaInfo,
    after: MediaInfo,
    film_tags: tuple[int, int, int, int],
    declared: Declared,
    plan: Plan | None,
) -> list[CheckRow]:
    """Rows on geometry, colour tags, sample depth and HDR metadata.

    Args:
        before: the source.
        after: the result.
        film_tags: colour of the result as its container or codec header states it.
        declared: what was changed on purpose.
        plan: of the run, if at hand: says which size was meant.
    """
    old, new = before.video, after.video
    return [
        *_check_geometry(old, new, declared, plan),
        _check_color(old, new, film_tags),
        _check_depth(old, new),
        *_check_hdr(old, new),
    ]


def _shown(video: VideoInfo, declared: Declared) -> tuple[Fraction, Fraction, Fraction]:
    """Width, height and pixel aspect of the source after declared turns and crops."""
    width, height = Fraction(video.width), Fraction(video.height)
    aspect = video.sample_aspect_ratio
    if declared.picture.turn % 180:
        width, height, aspect = height, width, 1 / aspect
    if declared.picture.crop is not None:
        width, height = Fraction(declared.picture.crop[2]), Fraction(declared.picture.crop[3])
    return width, height, aspect


def _check_geometry(
    old: VideoInfo, new: VideoInfo, declared: Declared, plan: Plan | None
) -> list[CheckRow]:
    width, height, aspect = _shown(old, declared)
    if plan is not None:
        fits = (new.width, new.height) == (plan.encoder.width, plan.encoder.height)
        wanted = f"{old.width}x{old.height}, meant {plan.encoder.width}x{plan.encoder.height}"
    else:
        fits = new.width * new.height >= width * height
        wanted = f"{old.width}x{old.height}"
    box = declared.picture.box or (0, 0, new.width, new.height)
    shapes = width * aspect / height, box[2] * new.sample_aspect_ratio / box[3]
    # One pixel of rounding each way.
    allowed = Fraction(1, box[2]) + Fraction(1, box[3])
    is_square = declared.picture.square_pixels
    keeps_aspect = new.sample_aspect_ratio == (1 if is_square else aspect)
    note = "made square, as declared" if is_square else ""
    is_stretched = abs(box[2] * height / (box[3] * width) - 1) > allowed
    is_near = abs(new.sample_aspect_ratio / (1 if is_square else aspect) - 1) <= allowed
    if not keeps_aspect and (is_stretched or is_near):
        # Sides enlarged differently, be it by rounding, need pixels of another shape for the same
        # display, which has a row of its own.
        keeps_aspect, note = True, "width and height were enlarged differently"
    turned = declared.picture.turn or declared.picture.flip
    matrices = old.display_matrix, new.display_matrix
    plain = (None, _IDENTITY)
    same_turn = matrices[1] in plain if turned else _same_matrix(*matrices)
    return [
        row("size", fits, wanted, f"{new.width}x{new.height}"),
        row(
            "display aspect ratio",
            abs(shapes[1] / shapes[0] - 1) <= allowed,
            f"{float(shapes[0]):.4f}",
            f"{float(shapes[1]):.4f}",
        ),
        row("pixel aspect ratio", keeps_aspect, aspect, new.sample_aspect_ratio, note),
        row(
            "rotation",
            same_turn,
            _say_matrix(old),
            _say_matrix(new),
            "turned in the picture, as declared" if turned else "",
        ),
    ]


_ONE = 1 << 16
_MAX_TURN = 4 / _ONE
_IDENTITY = (_ONE, 0, 0, 0, _ONE, 0, 0, 0, 1 << 30)


def _same_matrix(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> bool:
    """Whether the pictures are turned alike; no matrix is the one that does nothing."""
    pairs = zip(_directions(a or _IDENTITY), _directions(b or _IDENTITY), strict=True)
    return all(abs(one - other) <= _MAX_TURN for one, other in pairs)


def _directions(matrix: tuple[int, ...]) -> list[float]:
    """Where a matrix turns both sides of a picture; how much it enlarges Matroska cannot tell.

    The other places hold a perspective that nobody uses and an offset in pixels of the picture.
    """
    found = []
    for x, y in ((matrix[0], matrix[1]), (matrix[3], matrix[4])):
        length = math.hypot(x, y) or 1.0
        found += [x / length, y / length]
    return found


def _say_matrix(video: VideoInfo) -> str:
    mirrored = ""
    matrix = video.display_matrix
    if matrix is not None and matrix[0] * matrix[4] - matrix[1] * matrix[3] < 0:
        mirrored = ", mirrored"
    return f"{video.rotation} degrees{mirrored}"


def _say_color(color: ColorSpec) -> str:
    how = "full" if color.full_range else "limited"
    return f"{color.matrix.name} {color.primaries.name} {color.transfer.name} {how}"


def _check_color(old: VideoInfo, new: VideoInfo, film_tags: tuple[int, int, int, int]) -> CheckRow:
    """The result says of its colours what the source says, or what was guessed for it."""
    wanted, guesses = complete(old.color, old.width, old.height, old.layout)
    # What a player takes an untagged picture for goes by its size, which has grown.
    found, _ = complete(new.color, new.width, new.height, new.layout)
    notes = [guess for guess in guesses if "location" not in guess]
    problems = [
        name
        for name in ("primaries", "transfer")
        if getattr(found, name) is not getattr(wanted, name)
    ]
    is_repacked = (old.layout.is_rgb or old.layout.is_gray) and not (
        new.layout.is_rgb or new.layout.is_gray
    )
    if old.layout.is_rgb and is_repacked:
        notes.append("RGB became YUV")
        problems += ["matrix"] if found.matrix in (Matrix.RGB, Matrix.UNSPECIFIED) else []
    else:
        is_dnxhr = new.codec == "dnxhd" and found.matrix is Matrix.BT709
        if is_dnxhr and wanted.matrix is not Matrix.BT709:
            notes.append("DNxHR is read with no other matrix")
        elif found.matrix is not wanted.matrix:
            problems.append("matrix")
        problems += ["range"] if found.full_range is not wanted.full_range else []
    problems += _contradictions(found, film_tags)
    if problems:
        notes.insert(0, f"differs in {', '.join(dict.fromkeys(problems))}")
    return row(
        "colour tags", not problems, _say_color(wanted), _say_color(new.color), " ".join(notes)
    )


def _contradictions(found: ColorSpec, film_tags: tuple[int, int, int, int]) -> list[str]:
    """Where the container says otherwise than the pictures, so that players would disagree."""
    said = dict(zip(("primaries", "transfer", "matrix"), film_tags, strict=False))
    problems = [
        f"{name} of the container"
        for name, value in said.items()
        if value not in (0, _UNTAGGED) and value != int(getattr(found, name))
    ]
    full = {1: False, 2: True}.get(film_tags[3])
    if full is not None and full is not found.full_range:
        problems.append("range of the container")
    return problems


def _check_depth(old: VideoInfo, new: VideoInfo) -> CheckRow:
    """No fewer bits, save that above 10 a codec may have no more to give."""
    a, b = old.layout, new.layout
    notes = []
    if b.bits < a.bits:
        notes.append(f"{a.bits} bits became {b.bits}")
    if a.has_alpha and not b.has_alpha:
        notes.append("alpha lost")
    chroma = (b.log2_chroma_w, b.log2_chroma_h)
    if not a.is_gray and chroma > (a.log2_chroma_w, a.log2_chroma_h):
        notes.append("chroma at lower resolution in proportion")
    enough = min(a.bits, 10)
    return row(
        "sample depth", b.bits >= enough, old.pixel_format, new.pixel_format, "; ".join(notes)
    )


def _check_hdr(old: VideoInfo, new: VideoInfo) -> list[CheckRow]:
    """Mastering display and content light level, where the source has them."""
    lost = f"lost: {new.codec} has no field for it" if new.codec in _WITHOUT_HDR else ""
    rows = []
    if old.mastering_display is not None:
        same = _same_display(old.mastering_display, new.mastering_display)
        whole = old.mastering_display.red is not None
        whole &= old.mastering_display.max_luminance is not None
        note = "" if same else lost or ("" if whole else "lost: incomplete in the source")
        rows.append(
            row(
                "mastering display",
                same or bool(note),
                _say_display(old.mastering_display),
                _say_display(new.mastering_display),
                note,
            )
        )
    if old.content_light is not None:
        a, b = (
            "none" if c is None else f"MaxCLL {c.max_cll}, MaxFALL {c.max_fall}"
            for c in (old.content_light, new.content_light)
        )
        rows.append(row("content light", a == b or bool(lost), a, b, "" if a == b else lost))
    return rows


def _same_display(a: MasteringDisplay, b: MasteringDisplay | None) -> bool:
    if b is None:
        return False
    for name in ("red", "green", "blue", "white"):
        p, q = getattr(a, name), getattr(b, name)
        if (p is None) != (q is None):
            return False
        if p and any(abs(x - y) > _CHROMATICITY_STEP for x, y in zip(p, q, strict=True)):
            return False
    for name in ("min_luminance", "max_luminance"):
        p, q = getattr(a, name), getattr(b, name)
        if (p is None) != (q is None) or (p is not None and abs(p - q) > _LUMINANCE_STEP):
            return False
    return True


def _say_display(display: MasteringDisplay | None) -> str:
    if display is None:
        return "none"
    points = [
        f"{float(p[0]):.4f},{float(p[1]):.4f}"
        for p in (display.red, display.green, display.blue, display.white)
        if p is not None
    ]
    low, high = display.min_luminance, display.max_luminance
    light = "" if low is None or high is None else f" {float(low):g}-{float(high):g} cd/m2"
    return " ".join(points) + light
