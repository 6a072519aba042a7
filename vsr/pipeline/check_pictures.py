"""Prove that a sequence, or a film made of one, is the same film as its source, only larger.

Rows as in `check`, for what pictures are: how many, how they are called, how large, how deep, and
what they show. Both are compared as a display would show them, so that film densities and linear
light are judged by the eye's measure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch

from vsr.color import complete, planes_to_rgb
from vsr.engine.curves import to_display
from vsr.errors import MediaError
from vsr.frame import ColorSpec, Curve, Frame, Matrix, PlaneLayout
from vsr.media.probe import MediaInfo, probe
from vsr.media.reader import FrameReader
from vsr.media.stills import PictureSequence, PictureTarget, find_sequence
from vsr.media.stills_read import PictureReader, probe_sequence
from vsr.media.stills_write import picture_layout
from vsr.pipeline.declared import DeclaredPicture
from vsr.pipeline.likeness import (
    MAX_FIELD_CODES,
    MAX_FILM_CODES,
    MIN_PSNR_DB,
    Likeness,
    SourceWindow,
)
from vsr.pipeline.picture_names import expected_names
from vsr.pipeline.pictures import Pictures, add_curves
from vsr.pipeline.plan import Plan
from vsr.pipeline.sampling import make_samplers
from vsr.pipeline.verdict import CheckResult, CheckRow, row, verdict

_DISPLAYED = PlaneLayout(bits=32, is_float=True, is_rgb=True)
_THREADS = 2


@dataclass(frozen=True, slots=True)
class _Reel:
    """One of the two, opened."""

    info: MediaInfo
    sequence: PictureSequence | None
    color: ColorSpec
    curve: Curve
    is_clipped: bool
    """Whether what is beyond black and white is left out of the comparison."""

    def frames(self, stack: ExitStack, threads: int) -> Iterator[Frame]:
        """As displayed."""
        if self.sequence is not None:
            pictures = PictureReader(self.sequence, info=self.info.video, threads=threads)
            return map(self._displayed, stack.enter_context(pictures))
        film = FrameReader(self.info.path, info=self.info.video, threads=threads)
        return map(self._displayed, stack.enter_context(film))

    @property
    def display_color(self) -> ColorSpec:
        """Of what `frames` gives."""
        if not self.is_converted:
            return self.color
        return replace(self.color, matrix=Matrix.RGB, full_range=True)

    @property
    def is_converted(self) -> bool:
        layout = self.info.video.layout
        is_cut = self.is_clipped and not (layout.is_rgb or layout.is_gray)
        return self.curve != "none" or layout.is_float or is_cut

    def _displayed(self, frame: Frame) -> Frame:
        if not self.is_converted:
            return frame
        planes = [torch.from_numpy(plane.copy())[None] for plane in frame.planes]
        rgb = to_display(planes_to_rgb(planes, frame.layout, self.color), self.curve)
        if self.is_clipped:
            rgb = rgb.clamp(0, 1)
        red, green, blue = (plane.numpy() for plane in rgb[0])
        return replace(frame, planes=(green, blue, red), layout=_DISPLAYED)


def check_pictures(
    source: Path,
    result: Path,
    *,
    plan: Plan | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> CheckResult:
    """Compare a result with its source where at least one of them is a sequence.

    Args:
        source: a folder, a pattern or a film.
        result: the same.
        plan: of the run that made the result, if at hand.
        on_frame: called while reading with the number of frames of the result read so far.

    Raises:
        MediaError: the source cannot be read. A result that cannot be read is a failed row.
    """
    before, after = _info(source), None
    try:
        after = _info(result)
        pictures = _pictures(before, after, plan)
        reels = _reels(before, after, pictures, plan)
        rows = [
            *_check_count(before, after, plan),
            *_check_form(before, after, plan),
            *_check_look(*reels, plan, on_frame),
        ]
    except MediaError as error:
        if after is None or str(result) in str(error):
            return verdict([row("decodes", False, "yes", "no", str(error))])
        raise
    return verdict(rows)


_Found = tuple[MediaInfo, PictureSequence | None]


def _info(path: Path) -> _Found:
    sequence = find_sequence(path)
    return (probe(path) if sequence is None else probe_sequence(path, sequence)), sequence


def _pictures(before: _Found, after: _Found, plan: Plan | None) -> Pictures:
    """The sequences of the run that made the result, and its curves."""
    if plan is not None:
        return plan.pictures
    target = None
    if after[1] is not None:
        target = PictureTarget(
            folder=after[1].folder,
            names=after[1].names,
            first=after[1].first,
            follows_pts=before[1] is not None,
        )
    return add_curves(Pictures(source=before[1], target=target), before[0].video)[0]


def _reels(
    before: _Found, after: _Found, pictures: Pictures, plan: Plan | None
) -> tuple[_Reel, _Reel]:
    old, new = before[0].video, after[0].video
    color_in, _ = complete(old.color, old.width, old.height, old.layout)
    color_out, _ = complete(new.color, new.width, new.height, new.layout)
    # RGB and grey of integers hold nothing beyond black and white; films do.
    is_clipped = not new.layout.is_float and after[1] is not None
    is_clipped |= old.layout.is_float and not new.layout.is_float
    return (
        _Reel(*before, color_in, pictures.curve_in, is_clipped),
        _Reel(*after, color_out, pictures.curve_out, is_clipped),
    )


def _check_count(before: _Found, after: _Found, plan: Plan | None) -> list[CheckRow]:
    """How many pictures, and how they are called or when they are shown."""
    old, new = before[1], after[1]
    rows = []
    if new is not None:
        found = [path.name for path in new.paths()]
        if plan is not None:
            names = expected_names(plan)
        elif old is not None:
            names = [new.names.of(old.first + k) for k in range(old.count)]
        else:
            names = found
        rows.append(row("pictures", len(names) == len(found), len(names), len(found)))
        missing = sorted(set(names) - set(found))
        note = f"{missing[0]} is missing" if missing else ""
        rows.append(row("names", not missing, _ends(names), _ends(found), note))
        return rows
    assert old is not None
    expected = plan.num_frames if plan is not None else old.count
    base_out = after[0].video.time_base
    with FrameReader(after[0].path, info=after[0].video, threads=_THREADS) as reader:
        times = [frame.pts * base_out for frame in reader]
        trouble = reader.events[0].detail if reader.events else ""
    rows.append(row("decodes", not trouble, "yes", "no" if trouble else "yes", trouble))
    rows.append(row("frames", len(times) == expected, expected, len(times)))
    if plan is not None:
        base = plan.video.time_base
        wanted = [pts * base for part in plan.segments for pts in part.timeline.pts()]
    else:
        wanted = [rank / old.frame_rate for rank in range(old.count)]
    off = max(abs(a - b) for a, b in zip(times, wanted, strict=False))
    rows.append(
        row(
            "pts",
            off <= base_out / 2,
            f"{1 / before[0].video.time_base} a second",
            f"time base {base_out}, furthest off {float(off) * 1000:.3f} ms",
        )
    )
    return rows


def _ends(names: list[str]) -> str:
    return f"{names[0]} to {names[-1]}" if names else "none"


def _check_form(before: _Found, after: _Found, plan: Plan | None) -> list[CheckRow]:
    """Size, pixel shape and depth."""
    old, new = before[0].video, after[0].video
    if plan is not None:
        meant = plan.encoder.width, plan.encoder.height
        aspect = plan.encoder.sample_aspect_ratio
        fits = (new.width, new.height) == meant
    else:
        aspect = old.sample_aspect_ratio
        fits = new.width >= old.width and new.height >= old.height
    kept = abs(aspect - new.sample_aspect_ratio) <= Fraction(1, 1000) * aspect
    if after[1] is not None:
        layout, _ = picture_layout(after[1].kind, old.layout)
        depth = layout.bits if plan is None else plan.encoder.layout.bits
    else:
        depth = min(old.layout.bits, 10)
    is_deep = new.layout.bits >= depth
    rows = [
        row("size", fits, f"{old.width}x{old.height}", f"{new.width}x{new.height}"),
        row("sample depth", is_deep, old.pixel_format, new.pixel_format),
    ]
    if after[1] is None or after[1].kind != "tiff":
        # TIFF holds no shape of pixels but through its resolution, which is of paper.
        rows.append(row("pixel aspect ratio", kept, aspect, new.sample_aspect_ratio))
    return rows


def _check_look(
    before: _Reel, after: _Reel, plan: Plan | None, on_frame: Callable[[int], None] | None
) -> list[CheckRow]:
    """Every picture is nearest to its own source, like it, and of its colours."""
    old, new = before.info.video, after.info.video
    place = DeclaredPicture() if plan is None else plan.declared.picture
    samplers = make_samplers(
        (old.width, old.height, before.display_color),
        (new.width, new.height, after.display_color),
        place,
    )
    timeline = None if plan is None else plan.declared.timeline
    ranks = None if timeline is None else timeline.sources()
    likeness = Likeness()
    with ExitStack() as stack:
        window = SourceWindow(before.frames(stack, _THREADS), samplers[0])
        for rank, frame in enumerate(after.frames(stack, _THREADS)):
            own = rank if ranks is None else ranks[min(rank, len(ranks) - 1)]
            around = window.around(own)
            seen = samplers[1].view(frame)
            if own in around and seen is not None:
                likeness.add(rank, own, seen, around)
            if on_frame is not None:
                on_frame(rank + 1)
    film = max(abs(codes) for codes in likeness.film_codes)
    misplaced = [f"{a} shows {b}" for a, b in likeness.misplaced]
    colored = not likeness.num_discolored and film <= MAX_FILM_CODES
    return [
        row(
            "order",
            not likeness.num_misplaced,
            "each nearest to its own",
            f"{likeness.num_misplaced} not",
            ", ".join(misplaced),
        ),
        row(
            "likeness",
            not likeness.num_unlike,
            f"at least {MIN_PSNR_DB:g} dB",
            f"worst {likeness.worst_psnr_db:.1f} dB, frame {likeness.worst_frame}",
        ),
        row(
            "colour",
            colored,
            f"within {MAX_FIELD_CODES:g} codes, {MAX_FILM_CODES:g} over the film",
            f"{likeness.worst_field_codes:.2f}, {film:.2f} over the film",
        ),
    ]
