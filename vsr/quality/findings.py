"""What in a report a person should look at, by stated limits, and the verdict in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from vsr.quality.report import Finding, FrameScore, Shot

MIN_PSNR_DB = 30.0
"""Reduced result against source. Encoders and grain keep plain results above 34 dB."""
MAX_DROP_DB = 6.0
"""By which a frame may fall below the median of its shot."""
MAX_DELTA_E = 1.0
"""CIEDE2000 of a shot's mean colour: what is just noticed side by side."""
MAX_CODES = 1.5
"""Mean of R, G or B of a shot."""
MIN_SHARPNESS = 0.8
"""Steepness of a shot over its source's."""
FLICKER_TIMES = 3.0
"""A frame flickers that has so many times its shot's median..."""
FLICKER_CODES = 1.0
"""...and so much more than it."""
MAX_BLOCKINESS = 1.5
MAX_CLIPPED_SHARE = 0.02

Steps = Sequence[tuple[int, float]]


def find(
    frames: Sequence[FrameScore],
    shots: Sequence[Shot],
    seams: tuple[Steps, Steps],
    blockiness: float | None,
) -> list[Finding]:
    """Everything beyond a limit, worst kinds first."""
    found = [
        *_runs("frozen", "stands still while the source moves", frames, lambda f: f.frozen),
        *_runs("black", "is black and the source is not", frames, lambda f: f.black),
    ]
    for shot in shots:
        own = [
            f
            for f in frames[shot.first_frame : shot.first_frame + shot.num_frames]
            if not (f.frozen or f.black)
        ]
        found += _of_shot(shot)
        found += _unlike(own)
        found += _flicker(own)
    for steps, what in zip(seams, ("column", "row"), strict=True):
        found += [
            Finding(
                kind="seam",
                sentence=f"A step of {step:+.1f} codes runs along {what} {at} of the source's "
                "pixels through the whole film, as at the border of a tile.",
            )
            for at, step in steps
        ]
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
            f"has {MAX_CLIPPED_SHARE:.0%} more pixels at black or white than the source",
            frames,
            lambda f: f.clipped_share > MAX_CLIPPED_SHARE,
        ),
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


def _of_shot(shot: Shot) -> list[Finding]:
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
    if shot.sharpness is not None and shot.sharpness < MIN_SHARPNESS:
        found.append(
            Finding(
                kind="blur",
                sentence=f"Shot {shot.number} is blurred: its edges have {shot.sharpness:.0%} of "
                "their steepness in the source.",
                **where,
            )
        )
    return found


def _unlike(frames: Sequence[FrameScore]) -> list[Finding]:
    if not frames:
        return []
    least = max(MIN_PSNR_DB, float(np.median([f.psnr_db for f in frames])) - MAX_DROP_DB)
    # Differences that nobody can see are none, however unusual.
    least = min(least, 40.0)
    return _runs(
        "unlike",
        f"is unlike its source when reduced: below {least:.1f} dB",
        frames,
        lambda f: f.psnr_db < least,
    )


def _flicker(frames: Sequence[FrameScore]) -> list[Finding]:
    values = [f.flicker_codes for f in frames if f.flicker_codes is not None]
    if not values:
        return []
    # The lower quartile: half of a short shot may flicker.
    usual = float(np.quantile(values, 0.25))
    most = max(FLICKER_TIMES * usual, usual + FLICKER_CODES)
    return _runs(
        "flicker",
        f"flickers: its error changed by more than {most:.1f} codes",
        frames,
        lambda f: (f.flicker_codes or 0) > most,
    )


def _runs(
    kind: str,
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
        who = f"Frame {first}" if first == last else f"Frames {first} to {last}:"
        verb = what if first == last else f"some or all {what}"
        sentence = f"{who} ({times[first]:.2f} s) {verb}."
        found.append(
            Finding(kind=kind, sentence=sentence, first_frame=first, num_frames=last - first + 1)
        )
    return found
