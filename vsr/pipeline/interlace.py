"""Whether a film is interlaced, and what is done about it: decided once, kept in the plan."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from vsr.frame import Frame, VideoInfo
from vsr.media.fields import FieldReport, Parity
from vsr.media.filters import Deinterlacer, InverseTelecine
from vsr.pipeline.timeline import Runs, pack_runs, unpack_runs

if TYPE_CHECKING:
    from vsr.pipeline.declared import Declared

DeinterlaceMode = Literal["auto", "keep", "off", "bwdif", "bob", "ivtc"]
"""What may be asked for.

- `auto`: by flags and content, `bwdif` or nothing; never `bob` or `ivtc`.
- `keep`: pictures pass as they are, fields and all; what they look like is still said.
- `off`: the film is progressive, whatever its flags say; nothing is examined.
- `bwdif`: one progressive frame for each pair of fields.
- `bob`: one progressive frame for each field: twice as many pictures a second.
- `ivtc`: undo a 3:2 pulldown: four progressive frames for five.
"""

_BWDIF_PREROLL = 2
_FLAGGED_SHARE = 0.5
_COMBED_OF_FLAGGED = 0.2
_COMBED_OF_UNFLAGGED = 0.5
_MIN_MOVING = 5
"""Whole pictures in motion that it takes to call interlaced flags wrong."""
_NEAR = 2
"""Pictures on both sides of a combed one that are treated with it."""
_TELECINE = (0.12, 0.6)
"""Share of pictures with a repeated field in telecine: 2 of 5, less where nothing moves."""


class InterlacePlan(BaseModel):
    """What is done to the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: DeinterlaceMode = "auto"
    action: Literal["none", "bwdif", "bob", "ivtc"] = "none"
    parity: Parity = "tff"
    """Which field comes first."""
    frames: Runs = ()
    """1 for each frame that bwdif replaces, 0 for each that passes; empty: all are replaced.
    Counted after concealment."""
    reason: str = ""

    @property
    def time_base_divisor(self) -> int:
        """By how much the result's tick is shorter than the source's."""
        return {"bob": 2, "ivtc": InverseTelecine.CYCLE - 1}.get(self.action, 1)

    @property
    def preroll(self) -> int | None:
        """Pictures that the filter must have seen to go on as in the whole film; None: all."""
        return {"none": 0, "ivtc": None}.get(self.action, _BWDIF_PREROLL)


def decide(asked: DeinterlaceMode, report: FieldReport | None, info: VideoInfo) -> InterlacePlan:
    """What to do with the fields of a film.

    The rule of `auto`, in order:

    1. Combing counts where at least two of five neighbouring pictures are combed.
    2. A film with interlaced flags on half of its pictures or in its header is deinterlaced as a
       whole when a fifth or more of the pictures that tell are combed; only around the combed ones
       when fewer are; not at all when none is and at least `_MIN_MOVING` pictures move without
       combing (progressive pictures in interlaced frames); and as a whole when nothing moves, since
       then the flags are all there is to go by.
    3. A film without flags is deinterlaced as a whole when half of the pictures that tell are
       combed, only around the combed ones when fewer are, and not at all when none is.

    Pictures that tell are the combed ones and those that move without combing.

    Args:
        asked: what the user wants.
        report: of the whole film; None when it was not looked at.
        info: the film as probed.
    """
    parity = _parity(report, info)
    if asked in ("bwdif", "bob", "ivtc"):
        return InterlacePlan(asked=asked, action=asked, parity=parity, reason="asked for")
    if asked == "off":
        return InterlacePlan(asked=asked, parity=parity, reason="taken as progressive, as asked")
    if report is None:
        return InterlacePlan(asked=asked, parity=parity, reason="too tall to be interlaced")
    num = len(report.kinds)
    combed = _settled_combs(report)
    num_combed, num_whole = sum(combed), report.num_moving_whole
    share = num_combed / max(1, num_combed + num_whole)
    is_flagged = info.is_interlaced or report.num_flagged >= _FLAGGED_SHARE * num
    enough = share >= (_COMBED_OF_FLAGGED if is_flagged else _COMBED_OF_UNFLAGGED)
    what = f"flagged as {'interlaced' if is_flagged else 'progressive'}, {num_combed} of {num}"
    what += " pictures combed"
    if asked == "keep":
        return InterlacePlan(asked=asked, parity=parity, reason=f"{what}; kept as asked")
    if num_combed and enough:
        return InterlacePlan(action="bwdif", parity=parity, reason=what)
    if num_combed:
        near = pack_runs(int(flag) for flag in _widen(combed))
        reason = f"{what}, so only those and their neighbours"
        return InterlacePlan(action="bwdif", parity=parity, frames=near, reason=reason)
    if not is_flagged:
        return InterlacePlan(parity=parity, reason="")
    if num_whole >= _MIN_MOVING:
        reason = f"{what} though {num_whole} move: progressive pictures in interlaced frames"
        return InterlacePlan(parity=parity, reason=reason)
    reason = f"{what}, but so little moves that only the flags can tell"
    return InterlacePlan(action="bwdif", parity=parity, reason=reason)


def notes(plan: InterlacePlan, report: FieldReport | None, info: VideoInfo) -> tuple[str, ...]:
    """What was decided and why, one sentence each."""
    said: list[str] = []
    first = "top" if plan.parity == "tff" else "bottom"
    if plan.action == "none":
        if plan.reason and (info.is_interlaced or plan.asked == "keep"):
            said.append(f"Fields are left as they are: {plan.reason}.")
    else:
        how = {
            "bwdif": "made progressive with bwdif",
            "bob": "made progressive with bwdif, one picture for each field",
            "ivtc": "freed of its 3:2 pulldown with fieldmatch and decimate",
        }[plan.action]
        said.append(f"The film is {how}, {first} field first: {plan.reason}.")
    if plan.action == "bwdif" and info.frame_rate is not None:
        rate = round(float(2 * info.frame_rate), 2)
        said.append(f"--deinterlace bob would keep {rate:g} pictures a second.")
    if report is not None and plan.action in ("none", "bwdif") and plan.asked == "auto":
        low, high = _TELECINE
        share = report.num_repeated / max(1, len(report.kinds))
        if any(report.combed()) and low <= share <= high:
            said.append("It looks like film with 3:2 pulldown: see --deinterlace ivtc.")
    return tuple(said)


def deinterlaced(
    frames: Iterator[Frame],
    plan: InterlacePlan,
    info: VideoInfo,
    ranks: list[int] | None = None,
    *,
    first_rank: int = 0,
) -> Iterator[Frame]:
    """The frames of the declared timeline; pts count `time_base_divisor`ths of the source's tick.

    Args:
        frames: as decoded, filled where pictures are lost.
        plan: what is to be done.
        info: of the video.
        ranks: filled under `ivtc` with the place, among `frames`, that each result shows.
        first_rank: place in the film of the first of `frames`.

    Raises:
        UnsupportedVideoError, DecodeError: the filter cannot treat this film.
    """
    if plan.action == "none":
        yield from frames
        return
    if plan.action == "ivtc":
        film = InverseTelecine(info, parity=plan.parity)
        for frame in frames:
            yield from film.push(frame)
        yield from film.flush()
        if ranks is not None:
            ranks += film.ranks
        return
    mask = islice(unpack_runs(plan.frames), first_rank, None) if plan.frames else None
    filter_ = Deinterlacer(info, parity=plan.parity, bob=plan.action == "bob")
    for frame in frames:
        is_combed = True if mask is None else bool(next(mask, 1))
        yield from filter_.push(frame, is_combed=is_combed)
    yield from filter_.flush()


def as_enlarged(
    frames: Iterator[Frame], declared: Declared, info: VideoInfo
) -> tuple[Iterator[Frame], list[int] | None]:
    """The source's frames as the run that made a result enlarged them: progressive.

    Args:
        frames: of the whole source, as decoded.
        declared: what the result says of itself.
        info: of the source's video.

    Returns:
        Frames, and the place among them of the one that each frame of the result shows; None:
        each shows its own. Combs stay where the result does not say which field came first, and in
        excerpts freed of a pulldown.
    """
    ranks = None if declared.timeline is None else declared.timeline.sources()
    action, parity = declared.deinterlaced, declared.parity
    is_excerpt_of_telecine = action == "ivtc" and bool(declared.ranges)
    if action not in ("bwdif", "bob", "ivtc") or parity is None or is_excerpt_of_telecine:
        return frames, ranks
    plan = InterlacePlan.model_validate(
        {"action": action, "parity": parity, "frames": declared.combed}
    )
    if ranks is not None and action == "bob":
        ranks = [2 * rank + (rank == before) for before, rank in pairwise([-1, *ranks])]
    return deinterlaced(frames, plan, info), None if action == "ivtc" else ranks


def _parity(report: FieldReport | None, info: VideoInfo) -> Parity:
    """By content, else by a header that is clear, the flags of the pictures, or by custom.

    A header is clear when the field that is stored first is the one that is shown first: where they
    differ, as MOV has it, writers disagree on which is meant. Flags of the pictures come after,
    since in H.264 without timing messages FFmpeg sets them to bottom first whatever was meant.
    """
    if report is not None:
        sure = [k for k, is_combed in zip(report.kinds, report.combed(), strict=True) if is_combed]
        num_tff, num_bff = sure.count("tff"), sure.count("bff")
        if max(num_tff, num_bff) > 2 * min(num_tff, num_bff):
            return "tff" if num_tff > num_bff else "bff"
    if info.field_order in ("tt", "bb"):
        return "tff" if info.field_order == "tt" else "bff"
    if report is not None and report.flag_parity is not None:
        return report.flag_parity
    if info.field_order == "bt" and info.codec != "dvvideo":
        return "tff"
    if info.field_order == "tb" or info.codec == "dvvideo":
        return "bff"
    return (
        "bff" if info.height in (480, 486) and info.frame_rate == Fraction(30000, 1001) else "tff"
    )


def _settled_combs(report: FieldReport) -> list[bool]:
    """Combed pictures that are not alone among their neighbours."""
    combed = report.combed()
    return [
        flag and sum(combed[max(0, k - _NEAR) : k + _NEAR + 1]) >= 2
        for k, flag in enumerate(combed)
    ]


def _widen(flags: list[bool]) -> list[bool]:
    return [any(flags[max(0, k - _NEAR) : k + _NEAR + 1]) for k in range(len(flags))]
