"""What a run changed on purpose, written into the result so that its check can hold it to that.

A result without a declaration has to be the whole film: every frame at its own time, every stream.
Whoever cuts, deinterlaces, conceals, turns or leaves out fills in `Plan.declared`; the run writes
it as the tag `VSR_DECLARED` (JSON, or its compressed form when long), and into a file
RESULT.vsr.json beside results that cannot hold tags of free names.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from vsr.media.fields import Parity
from vsr.pipeline.timeline import Runs, Timeline, pack_runs, unpack_runs

TAG = "VSR_DECLARED"
_MAX_PLAIN_CHARACTERS = 2000
_MAX_BYTES = 64 * 1024 * 1024
_PACKED = "zlib:"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DeclaredTimeline(_Frozen):
    """Which frame of the source each frame of the result shows, and when.

    Needed as soon as frames are dropped, doubled, concealed or cut away.
    """

    time_base: Fraction
    times: Timeline
    """pts and duration of each frame of the result, in `time_base`."""
    steps: Runs
    """From each frame's source to the next one's: ranks among the decoded frames of the source,
    from 0 in order of display; the first step is from 0."""

    @classmethod
    def of(
        cls,
        time_base: Fraction,
        pts: Sequence[int],
        durations: Sequence[int],
        sources: Sequence[int],
    ) -> Self:
        """From one entry per frame of the result, at least one."""
        assert len(pts) == len(sources)
        steps = pack_runs(after - before for before, after in pairwise([0, *sources]))
        return cls(time_base=time_base, times=Timeline.from_frames(pts, durations), steps=steps)

    def sources(self) -> list[int]:
        """Rank of the source frame of each frame of the result."""
        return list(accumulate(unpack_runs(self.steps)))


class DeclaredRange(_Frozen):
    """A stretch of the source that was taken, in seconds of its clock, end exclusive.

    A packet of sound or subtitles is taken when it begins in it.
    """

    start_s: Fraction
    end_s: Fraction
    at_s: Fraction
    """Where it begins on the result's clock."""


class DeclaredPicture(_Frozen):
    """What became of the picture's place and shape."""

    turn: int = 0
    """Degrees counter-clockwise by which the pictures were turned before enlarging: 0 to 270."""
    flip: bool = False
    """Whether they were mirrored left to right after that."""
    crop: tuple[Fraction, Fraction, Fraction, Fraction] | None = None
    """x, y, width, height of the part of the turned source that is shown; None for all of it. A
    result's pixel need not begin where one of the source does."""
    box: tuple[int, int, int, int] | None = None
    """x, y, width, height of where it lies in the result; None for all of it."""
    square_pixels: bool = False
    """Whether the shape of the pixels was worked into the size."""


class Declared(_Frozen):
    """Everything that a run changed on purpose."""

    version: int = 1
    video_stream: int | None = None
    """Index of the source's stream that was taken, where it is not the one taken by itself."""
    left_out: tuple[int, ...] = ()
    """Indices of the source's streams that were not asked for."""
    ranges: tuple[DeclaredRange, ...] = ()
    """What was cut out of the source; empty for all of it. Needs `timeline` too."""
    timeline: DeclaredTimeline | None = None
    picture: DeclaredPicture = DeclaredPicture()
    deinterlaced: str | None = None
    """By which method; its pictures need not resemble those with combs as closely."""
    parity: Parity | None = None
    """Which field came first, where it was deinterlaced."""
    combed: Runs = ()
    """1 for each frame that was deinterlaced, 0 for each that passed; empty: all were."""

    def to_tag(self) -> str:
        """The text of the tag."""
        text = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        if len(text) <= _MAX_PLAIN_CHARACTERS:
            return text
        return _PACKED + base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")

    @classmethod
    def from_tag(cls, text: str) -> Self:
        """Read a tag.

        Raises:
            ValueError: it is not one.
        """
        if text.startswith(_PACKED):
            try:
                engine = zlib.decompressobj()
                packed = base64.b64decode(text.removeprefix(_PACKED), validate=True)
                text = engine.decompress(packed, _MAX_BYTES).decode()
            except (binascii.Error, zlib.error, UnicodeDecodeError) as error:
                raise ValueError(f"the declaration cannot be unpacked ({error})") from error
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ValueError(f"the declaration is not understood ({first['msg']})") from error


def sidecar_path(result: Path) -> Path:
    """RESULT.vsr.json, by the whole name: x.mp4 and x.mov may lie in one folder."""
    return result.with_name(f"{result.name}.vsr.json")


def read_declared(result: Path, tags: Mapping[str, str]) -> Declared:
    """The declaration of a result: from its tag, else from the file beside it, else none.

    Args:
        result: the file.
        tags: of the whole file.

    Raises:
        ValueError: there is one, and it is not understood.
    """
    for key, value in tags.items():
        if key.upper() == TAG:
            return Declared.from_tag(value)
    beside = sidecar_path(result)
    if not beside.is_file():
        return Declared()
    try:
        with beside.open(encoding="utf-8") as file:
            document = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError) as error:
        raise ValueError(f"{beside.name} cannot be read ({error})") from error
    if not isinstance(document, dict) or TAG not in document:
        return Declared()
    return Declared.from_tag(str(document[TAG]))


def write_sidecar(result: Path, declared: Declared) -> Path:
    """Write RESULT.vsr.json beside a result that cannot hold the tag.

    Raises:
        OSError: it cannot be written.
    """
    path = sidecar_path(result)
    path.write_text(json.dumps({TAG: declared.to_tag()}, indent=2) + "\n", encoding="utf-8")
    return path
