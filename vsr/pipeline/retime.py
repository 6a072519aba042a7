"""What a scan means for the plan: the result's clock, and what of its timeline is declared."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from vsr.errors import ConfigError
from vsr.frame import VideoInfo
from vsr.media.settings import EncoderSettings
from vsr.pipeline.declared import Declared, DeclaredTimeline
from vsr.pipeline.scan import Scan
from vsr.pipeline.timeline import Timeline
from vsr.pipeline.verdict import CheckResult, row, verdict

_SHARE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(%?)")


def retimed(encoder: EncoderSettings, found: Scan) -> EncoderSettings:
    """The encoder's settings with the clock and the rate of the declared timeline."""
    factor = {"bob": Fraction(2), "ivtc": Fraction(4, 5)}.get(found.interlace.action, Fraction(1))
    if factor == 1:
        return encoder
    return encoder.model_copy(
        update={
            "time_base": encoder.time_base / found.interlace.time_base_divisor,
            "frame_rate": encoder.frame_rate * factor,
        }
    )


def declare(declared: Declared, found: Scan, video: VideoInfo) -> Declared:
    """Add what the result changes on purpose in time, for its check to know."""
    action = found.interlace.action
    update: dict[str, object] = {}
    if action != "none":
        update |= {
            "deinterlaced": action,
            "parity": found.interlace.parity,
            "combed": found.interlace.frames,
        }
    if not found.is_as_decoded:
        update["timeline"] = DeclaredTimeline.of(
            video.time_base / found.interlace.time_base_divisor,
            found.timeline.pts(),
            found.timeline.durations(),
            found.sources,
        )
    return declared.model_copy(update=update) if update else declared


def refuse_coarse_clock(container: str, timeline: Timeline, time_base: Fraction) -> None:
    """Raise where two pictures would get one time in the result.

    Raises:
        ConfigError: two of them lie within one of Matroska's milliseconds.
    """
    if container != "mkv" or time_base >= Fraction(1, 1000):
        return
    ticks_per_ms = 1 / (1000 * time_base)
    times = [round(pts / ticks_per_ms) for pts in timeline.pts()]
    num_same = sum(after <= before for before, after in pairwise(times))
    if num_same:
        raise ConfigError(
            f"{num_same} pictures are nearer to the one before than mkv can tell apart, which "
            "counts milliseconds",
            hint="choose a name that ends in .mp4 or .mov",
        )


def damage_limit(text: str | float, num_frames: int) -> int:
    """How many damaged pictures a film of `num_frames` may have.

    Args:
        text: a count (`12`), or a share as a decimal fraction (`0.05`) or in percent (`5%`).
        num_frames: pictures of the film.

    Raises:
        ConfigError: it is neither.
    """
    given = str(text).strip()
    found = _SHARE.fullmatch(given)
    if found is None:
        raise ConfigError(
            f"max-damage {given!r} is no amount of damage",
            hint="give a count of pictures such as 12, or a share such as 0.05 or 5%",
        )
    number = float(found[1])
    if not found[2] and "." not in found[1]:
        return int(number)
    share = number / 100 if found[2] else number
    if share > 1:
        raise ConfigError(f"max-damage {given!r} is more than the whole film")
    return int(share * num_frames)


def judge_damage(
    proof: CheckResult, num_damaged: int, max_damage: str | float, num_frames: int
) -> CheckResult:
    """The proof with a row on the damage of the source, if it has any."""
    if not num_damaged:
        return proof
    limit = damage_limit(max_damage, num_frames)
    what = row(
        "damage",
        # A film may have lost more pictures than it shows.
        num_damaged <= limit or limit >= num_frames,
        f"at most {limit} of {num_frames} pictures",
        f"{num_damaged} pictures",
        f"max-damage {max_damage}",
    )
    return verdict([*proof.rows, what])
