"""What in a report a person should look at, by stated limits, and the verdict in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from vsr.quality.report import Finding, FrameScore, Shot

# Limits lie between what clean results measure and what planted defects do. Clean were, by plain
# interpolation x2 and CRF 18: a drawn street with text, a cartoon, a still photograph, a lecture, a
# film on reels; the cartoon with noise of 8 codes, at an eighth of its light, and fading; and by
# the shipped network x4 the street.
MIN_PSNR_DB = 30.0
"""Reduced result against source; clean: 32.3 and more..."""
MAX_BELOW_PLAIN_DB = 4.0
"""...or so much below plain interpolation, where that has less; clean: 2.1, of noise."""
MAX_DROP_DB = 6.0
"""By which a frame may fall below the median of its shot; clean: 3."""
MAX_DELTA_E = 1.0
"""CIEDE2000 of a shot's mean colour: what is just noticed side by side; clean: 0.3."""
MAX_CODES = 1.5
"""Mean of R, G or B of a shot; clean: 0.7. Three codes of Cr are 4.7 of R."""
MIN_SHARPNESS = 0.7
"""Steepness of a shot over plain interpolation's; clean: 0.84, where the encoder took the noise of
the dark, 0.94 elsewhere, 1.2 by the network. A Gaussian
of 2 pixels of 640 makes it 0.4 to 0.5..."""
MIN_SHARPNESS_OF_FILM = 0.75
"""...or over the upper quartile of the film; clean: 0.89. A Gaussian of
1.2 pixels of 640 makes it 0.64, by the network."""
FLICKER_TIMES = 1.75
"""A frame flickers that has so many times what frames of its shot as restless have..."""
FLICKER_CODES = 0.5
"""...and so much more; clean: at most 0.6 of both together."""
MAX_JUMP_CODES = 1.2
"""By which brightness may jump against the source's from frame to frame; clean: 0.4."""
MAX_EXCESS_CODES = 9.0
"""Root mean square error of a block, beyond plain interpolation's; clean: 3.3, planted: 23."""
MAX_BLOCKINESS = 1.6
"""Clean: 1.3, of the dark; the cartoon again by MPEG-2 with steps of 12: 1.7, of 31: 2.2."""
MAX_CLIPPED_SHARE = 0.02
MIN_GRAIN_KEPT = 0.4
"""Of a shot's grain at the source's size; clean: 0.59, where the encoder took the noise of the
dark, and 0.7 of noise of 8 codes; 0.2 where a filter took it..."""
MIN_GRAIN_CODES = 1.5
"""...where the source has so much of it."""

_LEVELS = 8

_AS_A_TILE = "of the source's pixels through the whole film, as at the border of a tile."

Steps = Sequence[tuple[int, float]]


def find(
    frames: Sequence[FrameScore],
    shots: Sequence[Shot],
    seams: tuple[Steps, Steps],
    blockiness: float | None,
    sharp_seams: tuple[Steps, Steps] = ((), ()),
) -> list[Finding]:
    """Everything beyond a limit, worst kinds first.

    Args:
        frames: of the whole film.
        shots: of it, in order.
        seams: columns and rows where brightness steps, and by how many codes.
        blockiness: of the result over the source's.
        sharp_seams: columns and rows behind which the picture is sharper, and by what share.
    """
    found = [
        *_runs("frozen", ("stands", "stand"), "still while the source moves", frames, _is_frozen),
        *_runs("black", ("is", "are"), "black and the source is not", frames, _is_black),
    ]
    ratios = [_gain(shot) for shot in shots for _ in range(shot.num_frames)]
    # The upper quartile: half of a short film may be blurred.
    usual = float(np.quantile([ratio for ratio in ratios if ratio is not None] or [0.0], 0.75))
    for shot in shots:
        whole = frames[shot.first_frame : shot.first_frame + shot.num_frames]
        own = [f for f in whole if not (f.frozen or f.black)]
        named = _of_shot(shot, usual)
        found += named
        found += _unlike(own)
        # What is blurred is unlike its source everywhere.
        if not any(finding.kind == "blur" for finding in named):
            found += _patches(own)
        found += _flicker(own)
    # Of a film that is blurred here and there, what remains of a border is what is shown there.
    is_blurred = any(finding.kind == "blur" for finding in found)
    found += _seams(seams, ((), ()) if is_blurred else sharp_seams)
    if blockiness is not None and blockiness > MAX_BLOCKINESS:
        found.append(
            Finding(
                kind="blocks",
                sentence=f"Steps at every eighth pixel are {blockiness:.1f} times those of the "
                "source: the encoder's blocks show.",
            )
        )
    return [
        *found,
        *_runs(
            "clipped",
            ("has", "have"),
            f"{MAX_CLIPPED_SHARE:.0%} more pixels at black or white than the source",
            frames,
            lambda f: f.clipped_share > MAX_CLIPPED_SHARE and not f.black,
        ),
    ]


def _seams(bright: tuple[Steps, Steps], sharp: tuple[Steps, Steps]) -> list[Finding]:
    found = []
    for steps, shares, what in zip(bright, sharp, ("column", "row"), strict=True):
        for at, step in steps:
            seam = f"A step of {step:+.1f} codes runs along {what} {at}"
            found.append(Finding(kind="seam", sentence=f"{seam} {_AS_A_TILE}"))
        for at, share in shares:
            seam = "A border of sharpness runs along"
            seam = f"{seam} {what} {at}, {abs(share):.0%} {'more' if share > 0 else 'less'} beyond,"
            found.append(Finding(kind="seam", sentence=f"{seam} {_AS_A_TILE}"))
    return found


def without_noise(frames: Sequence[FrameScore]) -> list[FrameScore]:
    """The frames of a shot, none of them frozen where most of the shot is and nothing is missing.

    There a still scene's noise moved in the source and was taken away.
    """
    frozen = [f for f in frames if f.frozen]
    if 2 * len(frozen) <= len(frames) or min(f.psnr_db for f in frozen) < MIN_PSNR_DB:
        return list(frames)
    return [f.model_copy(update={"frozen": False}) for f in frames]


def of_check(check: Mapping[str, Any]) -> list[Finding]:
    """What a conformance check found unkept, row by row."""
    return [
        Finding(
            kind=str(row["name"]),
            sentence=f"Not as in the source: {row['source']}, but {row['result']}."
            + (f" {row['note']}" if row.get("note") else ""),
        )
        for row in check.get("rows", ())
        if not row["ok"]
    ]


def verdict(findings: Sequence[Finding], is_same_film: bool | None) -> str:
    """One or two sentences for somebody who reads nothing else."""
    film = {
        True: "The result is the same film as its source, only larger.",
        False: "The result is NOT the same film as its source: see the conformance table.",
        None: "Whether the result is the same film was not checked.",
    }[is_same_film]
    if not findings:
        return f"{film} Its pictures give their source back when reduced, and nothing stands out."
    kinds = dict.fromkeys(finding.kind for finding in findings)
    number = f"{len(findings)} places" if len(findings) > 1 else "one place"
    return f"{film} Look at {number}: {', '.join(kinds)}."


def _gain(shot: Shot) -> float | None:
    """How steep a shot is, over plain interpolation; None where it is flat."""
    if shot.sharpness is None or not shot.plain_sharpness:
        return None
    return shot.sharpness / shot.plain_sharpness


def _of_shot(shot: Shot, usual: float) -> list[Finding]:
    where = {"first_frame": shot.first_frame, "num_frames": shot.num_frames}
    found = []
    codes = max(shot.codes_rgb, key=abs)
    if abs(codes) > MAX_CODES or (shot.delta_e or 0) > MAX_DELTA_E:
        red, green, blue = shot.codes_rgb
        found.append(
            Finding(
                kind="colour",
                sentence=f"The colours of shot {shot.number} moved by {red:+.1f}, {green:+.1f}, "
                f"{blue:+.1f} codes of R, G, B (CIEDE2000 {shot.delta_e or 0:.1f}).",
                **where,
            )
        )
    gain = _gain(shot)
    if gain is not None and gain < max(MIN_SHARPNESS, MIN_SHARPNESS_OF_FILM * usual):
        found.append(
            Finding(
                kind="blur",
                sentence=f"Shot {shot.number} is blurred: its edges have {shot.sharpness:.0%} of "
                f"their steepness in the source, and would have {shot.plain_sharpness:.0%} by "
                "plain interpolation.",
                **where,
            )
        )
    if (
        shot.grain_kept is not None
        and shot.grain_kept < MIN_GRAIN_KEPT
        and (shot.grain_codes or 0) > MIN_GRAIN_CODES
    ):
        found.append(
            Finding(
                kind="grain",
                sentence=f"Shot {shot.number} lost its grain: {shot.grain_kept:.0%} of the "
                f"source's {shot.grain_codes:.1f} codes in flat places are left.",
                **where,
            )
        )
    return found


def _unlike(frames: Sequence[FrameScore]) -> list[Finding]:
    if not frames:
        return []
    usual = float(np.median([f.psnr_db for f in frames])) - MAX_DROP_DB
    # Differences that nobody can see are none, however unusual.
    usual = min(usual, 40.0)

    def is_found(f: FrameScore) -> bool:
        return f.psnr_db < max(usual, min(MIN_PSNR_DB, f.plain_psnr_db - MAX_BELOW_PLAIN_DB))

    return _runs("unlike", ("is", "are"), "unlike the source when reduced", frames, is_found)


def _patches(frames: Sequence[FrameScore]) -> list[Finding]:
    found = _runs(
        "patch",
        ("holds", "hold"),
        "something that the source has not",
        frames,
        lambda f: f.excess_codes > MAX_EXCESS_CODES,
    )
    by_number = {f.frame: f for f in frames}
    placed = []
    for one in found:
        assert one.first_frame is not None
        run = [by_number[n] for n in range(one.first_frame, one.first_frame + one.num_frames)]
        worst = max(run, key=lambda f: f.excess_codes)
        place = f"{worst.excess_x:.0%} from the left and {worst.excess_y:.0%} from the top"
        sentence = f"{one.sentence[:-1]}, most {place}: {worst.excess_codes:.0f} codes."
        placed.append(one.model_copy(update={"sentence": sentence}))
    return placed


def _flicker(frames: Sequence[FrameScore]) -> list[Finding]:
    usual = _usual_flicker(frames)
    # A frame after one that was left out, frozen or black, differs from it rightly.
    jumps = {
        b.frame: abs(b.offset_codes - a.offset_codes)
        for a, b in pairwise(frames)
        if b.frame - a.frame == 1
    }

    def is_found(f: FrameScore) -> bool:
        jump = jumps.get(f.frame)
        if jump is None or f.flicker_codes is None:
            return False
        most = FLICKER_TIMES * usual[_level(f)] * _restless(f) + FLICKER_CODES
        return f.flicker_codes > most or jump > MAX_JUMP_CODES

    return _runs(
        "flicker",
        ("differs", "differ"),
        "from the frame before as the source does not",
        frames,
        is_found,
    )


def _usual_flicker(frames: Sequence[FrameScore]) -> dict[int, float]:
    """Flicker over restlessness that is usual in a shot, for each level of restlessness.

    Fast motion, and a source that jumps at its own key frames, make any error change; plain
    interpolation's tells how much. A frame is held against those as restless, or little less:
    what stands still has no error that could change, and says nothing of what moves.
    """
    known = [f for f in frames if f.flicker_codes is not None]
    restless = np.array([_restless(f) for f in known])
    ratios = np.array([f.flicker_codes or 0.0 for f in known]) / restless
    levels = {_level(f) for f in known}
    # A low quantile: most of a short shot may flicker.
    return {
        level: float(np.quantile(ratios[restless >= 2.0 ** ((level - 2) / _LEVELS)], 0.15))
        for level in levels
    }


def _level(frame: FrameScore) -> int:
    """Restlessness in steps of an eighth of an octave, of which a shot has few."""
    return math.floor(_LEVELS * math.log2(_restless(frame)))


def _restless(frame: FrameScore) -> float:
    """Plain interpolation's flicker in codes, and a little that an encoder adds to all."""
    return (frame.plain_flicker_codes or 0.0) + 0.3


def _is_frozen(frame: FrameScore) -> bool:
    return frame.frozen


def _is_black(frame: FrameScore) -> bool:
    return frame.black


def _runs(
    kind: str,
    verbs: tuple[str, str],
    what: str,
    frames: Sequence[FrameScore],
    is_found: Callable[[FrameScore], bool],
) -> list[Finding]:
    """One finding for each stretch of frames, gaps of two frames bridged."""
    numbers = [f.frame for f in frames if is_found(f)]
    if not numbers:
        return []
    starts = [numbers[0], *(b for a, b in pairwise(numbers) if b - a > 3)]
    ends = [*(a for a, b in pairwise(numbers) if b - a > 3), numbers[-1]]
    times = {f.frame: f.time_s for f in frames}
    found = []
    for first, last in zip(starts, ends, strict=True):
        if first == last:
            sentence = f"Frame {first} ({times[first]:.2f} s) {verbs[0]} {what}."
        else:
            span = f"{times[first]:.2f} to {times[last]:.2f} s"
            sentence = f"Frames {first} to {last} ({span}), or some of them, {verbs[1]} {what}."
        found.append(
            Finding(kind=kind, sentence=sentence, first_frame=first, num_frames=last - first + 1)
        )
    return found
