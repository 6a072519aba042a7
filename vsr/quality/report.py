"""A quality report as plain data, and as JSON, CSV and an edit list.

What a run did (its check, streams, events, settings) comes in as plain data: this room measures and
shows, and knows nothing of plans.
"""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
from fractions import Fraction
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With these a spreadsheet begins a formula."""
_EDL_MAX_EVENTS = 999_999


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FrameScore(_Frozen):
    """One frame of the result. Codes are of 8 bits of luma unless said otherwise; None: unknown."""

    frame: int
    time_s: float
    psnr_db: float
    """Reduced result against source."""
    plain_psnr_db: float
    """What plain interpolation would have."""
    ssim: float | None
    offset_codes: float
    """Mean of the reduced result less that of the source, luma."""
    excess_codes: float
    """Root mean square error, beyond plain interpolation's, of the block where that is most..."""
    excess_x: float
    """...and its middle, as a share of the width..."""
    excess_y: float
    """...and of the height."""
    flicker_codes: float | None
    """Change of the error along the motion; None in the first frame of a shot."""
    plain_flicker_codes: float | None
    """What plain interpolation would have."""
    detail_codes: float
    sharpness: float | None
    """Steepness of the reduced result over the source's."""
    plain_sharpness: float | None
    """What plain interpolation would have."""
    overshoot_codes: float
    clipped_share: float
    """Pixels at black or white, less the source's."""
    grain_codes: float | None = None
    """Of the source's flat places, at its size..."""
    grain_kept: float | None = None
    """...and the share that the reduced result has of it..."""
    plain_grain_kept: float | None = None
    """...and plain interpolation would have."""
    red_codes: float
    green_codes: float
    blue_codes: float
    """Mean of the result less that of the source."""
    frozen: bool = False
    black: bool = False
    reference_psnr_db: float | None = None
    """Luma against the ground truth at full size, where one was given."""
    reference_ssim: float | None = None
    reference_ms_ssim: float | None = None
    reference_xpsnr_db: float | None = None
    """Of luma, as FFmpeg's filter says it."""
    reference_vmaf: float | None = None
    """0 to 100, model v0.6.1."""
    reference_vmaf_neg: float | None = None
    """The same without reward for sharpening."""
    reference_lpips: float | None = None
    """0 is alike."""


class Shot(_Frozen):
    """A shot of the result."""

    number: int
    """From 1."""
    first_frame: int
    num_frames: int
    start_s: float
    end_s: float
    psnr_db: float
    delta_e: float | None
    """CIEDE2000 between the mean colours of result and source."""
    codes_rgb: tuple[float, float, float]
    sharpness: float | None
    plain_sharpness: float | None
    flicker_codes: float | None
    detail_codes: float
    grain_codes: float | None = None
    """Of the source's flat places..."""
    grain_kept: float | None = None
    """...and the share that the result has of it."""


class Finding(_Frozen):
    """Something that a person should look at."""

    kind: str
    sentence: str
    first_frame: int | None = None
    num_frames: int = 0


class Still(_Frozen):
    """A frame before and after, as pictures."""

    title: str
    frame: int
    time_s: float
    psnr_db: float
    before_jpeg: str = Field(repr=False)
    """Base64."""
    after_jpeg: str = Field(repr=False)
    crop_before_jpeg: str = Field(default="", repr=False)
    """A small part of it, where it differs most from its source; pixel for pixel."""
    crop_after_jpeg: str = Field(default="", repr=False)


class Summary(_Frozen):
    """Over all frames; units as of `FrameScore`."""

    psnr_db: float | None
    ssim: float | None
    flicker_codes: float | None
    detail_codes: float | None
    sharpness: float | None
    plain_psnr_db: float | None
    plain_sharpness: float | None
    overshoot_codes: float | None
    clipped_share: float | None
    blockiness: float | None
    """Steps at every eighth pixel over those between; the result's over the source's."""
    grain_codes: float | None = None
    grain_kept: float | None = None
    plain_grain_kept: float | None = None
    naturalness: float | None = None
    """Distance of the result from photographs, by our own fit; 0 is alike."""
    plain_naturalness: float | None = None
    """Of the source plainly enlarged."""
    delta_e: float | None
    """Worst shot."""
    num_frozen: int
    num_black: int
    reference_psnr_db: float | None = None
    reference_ssim: float | None = None
    reference_ms_ssim: float | None = None
    reference_xpsnr_db: float | None = None
    reference_vmaf: float | None = None
    reference_vmaf_neg: float | None = None
    reference_lpips: float | None = None


class Report(_Frozen):
    """Everything on the page."""

    version: int = 1
    source: str
    result: str
    reference: str | None = None
    source_size: tuple[int, int]
    result_size: tuple[int, int]
    frame_rate: str
    """A fraction, frames a second, such as 24000/1001; for timecodes alone."""
    num_frames: int
    ok: bool
    """Whether nothing was found."""
    verdict: str
    findings: tuple[Finding, ...]
    summary: Summary
    frames: tuple[FrameScore, ...]
    shots: tuple[Shot, ...]
    stills: tuple[Still, ...] = ()
    detail_map: tuple[tuple[float, ...], ...] = ()
    """Rows of blocks, root mean square codes of detail added, over the film."""
    worst_map: tuple[tuple[float, ...], ...] = ()
    """Rows of blocks, mean squared codes between source and reduced result, of the worst frame."""
    histogram: tuple[tuple[float, ...], ...] = ()
    """Of source and of result: the share of pixels in each of equal steps of luma, black to white,
    those beyond counted with the outermost."""
    check: dict[str, Any] = {}
    """Conformance: `ok` and `rows`, as `vsr check` says it."""
    run: dict[str, Any] = {}
    """What the run that made the result told of itself: model, plan, events, timings, digests."""
    tags: dict[str, str] = {}
    """Of the result's container."""
    unavailable: tuple[str, ...] = ()
    """Measures that could not be taken, and why."""
    measured_s: float = 0.0
    """How long measuring took."""

    @field_validator("source", "result", "reference", "check", "run", "tags", mode="before")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        return _shown_within(value)

    def to_json(self) -> str:
        """One document without the stills; what is not a number is null."""
        return json.dumps(
            finite(self.model_dump(mode="json", exclude={"stills"})), indent=2, allow_nan=False
        )


def finite(value: Any) -> Any:
    """The same with null for NaN and infinities, which JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def shown(text: str) -> str:
    """Text from outside with nothing in it that moves a cursor or turns the line around.

    Bytes of a name that are not UTF-8 become U+FFFD.
    """
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c
        for c in text
    )


def file_name(path: str) -> str:
    """The last part of a path of any system, as text."""
    return shown(path).rsplit("/", 1)[-1].rsplit("\\", 1)[-1]


def _shown_within(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {_shown_within(key): _shown_within(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shown_within(inner) for inner in value]
    return value


def cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    if isinstance(value, str):
        text = shown(value)
        return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return "" if value is None else value


def to_csv(report: Report) -> str:
    """One line for each frame; times in seconds, other columns as of `FrameScore`."""
    file = io.StringIO()
    names = list(FrameScore.model_fields)
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(names)
    for score in report.frames:
        writer.writerow([cell(getattr(score, name)) for name in names])
    return file.getvalue()


def timecode(frame: int, frame_rate: Fraction) -> str:
    """hh:mm:ss:ff without dropped numbers, counted at the nearest whole rate."""
    whole = max(1, round(frame_rate))
    seconds, rest = divmod(frame, whole)
    digits = max(2, len(str(whole - 1)))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours:02d}:{minutes:02d}:{seconds % 60:02d}:{rest:0{digits}d}"


def to_edl(report: Report) -> str:
    """The shots as a CMX 3600 list, so that an editor can cut by them."""
    rate = Fraction(report.frame_rate)
    lines = [f"TITLE: {file_name(report.result)}", "FCM: NON-DROP FRAME"]
    for shot in report.shots[:_EDL_MAX_EVENTS]:
        start = timecode(shot.first_frame, rate)
        end = timecode(shot.first_frame + shot.num_frames, rate)
        lines.append(f"{shot.number:03d}  AX       V     C        {start} {end} {start} {end}")
    return "\n".join(lines) + "\n"
