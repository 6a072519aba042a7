"""What of a run is done, safely on disk; and what it promised before it took its name.

The journal lies with the unfinished work in a folder beside the output, one file per fact:
`run.json` (what was asked), `plan.json`, `segment-000012.json` beside each finished segment,
`source.json`, `result.json`. Each is complete on disk before it gets its name, so that a run may be
killed, or the power fail, between any two instructions.

What is promised: whatever is trusted later was compared with a digest. A segment counts when its
entry names the digest of the plan and its file still has the size and sha256 of the entry; a plan
when `run.json` holds its digest; everything else is made again. What is not promised: that somebody
who may write into the folder could not forge all of it together.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from vsr.errors import ConfigError, JobCancelledError, OutputError, VsrError
from vsr.pipeline.as_json import from_json, to_json
from vsr.pipeline.output import JOURNAL_NAME, WorkFolder, sha256_of, sync, write_whole, writing
from vsr.pipeline.plan import Plan
from vsr.pipeline.request import Request
from vsr.pipeline.segment import SegmentResult, segment_name

logger = logging.getLogger(__name__)

JOURNAL_FORMAT = 1
_PLAN_NAME = "plan.json"
_SOURCE_NAME = "source.json"
_RESULT_NAME = "result.json"
_AT_WORK = "at-work-"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Header(_Frozen):
    """`run.json`: what was asked, and by which plan it is done."""

    journal_format: int = JOURNAL_FORMAT
    request: Request
    plan_digest: str
    """Of all in the plan that can change a byte."""
    plan_sha256: str
    """Of the file that holds it."""


class SourceNote(_Frozen):
    """`source.json`: the digest of all of the source, once somebody has read it."""

    sha256: str


class Promise(_Frozen):
    """`result.json`: the file that is about to take its name, and what is said of it then.

    It becomes the record that stays beside the result.
    """

    record_format: int = 1
    request: Request
    size_bytes: int
    mtime_ns: int
    sha256: str
    made_at: str
    """UTC, for people; nothing is decided by it."""
    result: dict[str, Any]
    """An `UpscaleResult`."""


class _Entry(BaseModel):
    """`segment-000012.json`."""

    model_config = ConfigDict(extra="forbid")

    journal_format: int
    plan_digest: str
    result: Any


Model = TypeVar("Model", bound=BaseModel)


class Journal:
    """The journal of one output; a context that holds its folder.

    Left by an error, the folder stays when work lies in it; otherwise it is removed. It also stays
    when a run with a plan was stopped from outside or could not write: the plan took time, too.

    Args:
        output: the result's name.

    Raises:
        OutputError: on entering: another run holds the folder, or it cannot be made.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._work = WorkFolder(output)
        self._plan_digest: str | None = None
        self._num_segments = 0
        self._is_over = False
        self.done: dict[int, SegmentResult] = {}
        """Segments that are finished and verified, by index."""

    @property
    def folder(self) -> Path:
        """Where unfinished files belong that concern nobody after this run."""
        return self._work.path

    @property
    def exists(self) -> bool:
        """Whether an earlier run left something."""
        return os.path.lexists(self.folder)

    def __enter__(self) -> Self:
        self._work.hold()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_over or not self._stays_after(error):
            self._work.remove()
        else:
            self._sweep()
            self._work.release()
            if error is not None and self._plan_digest is not None:
                self._say_how_far(error)

    def _stays_after(self, error: BaseException | None) -> bool:
        """Whether there is anything to go on from."""
        if self._plan_digest is None:
            # Not ours to remove: what lies there was never looked at, or was refused.
            return (self.folder / JOURNAL_NAME).exists() or self._entries() != []
        is_from_outside = not isinstance(error, Exception)
        is_from_outside |= isinstance(error, OutputError | JobCancelledError)
        return bool(self.done) or is_from_outside

    def _say_how_far(self, error: BaseException) -> None:
        done, total = len(self.done), self._num_segments
        text = f"{done} of {total} segments are done and kept; the same command goes on from there"
        if isinstance(error, VsrError):
            error.hint = f"{error.hint}; {text}" if error.hint else text
        else:
            error.add_note(text)

    def _sweep(self) -> None:
        """Remove what a stopped run leaves half done."""
        try:
            self._work.remove_but(self._names())
        except OSError as error:
            logger.debug("%s is not swept: %s", self.folder, error)

    def _names(self) -> frozenset[str]:
        """Of everything that another run may use."""
        kept = {JOURNAL_NAME, _PLAN_NAME, _SOURCE_NAME, _RESULT_NAME}
        for path in self._entries():
            kept |= {path.name, path.with_suffix(".mkv").name}
        return frozenset(kept)

    def _entries(self) -> list[Path]:
        return sorted(self.folder.glob("segment-*.json"))

    # What an earlier run left

    def header(self) -> Header | None:
        """What the unfinished run was asked; None when there is none, or it cannot be read.

        Raises:
            ConfigError: a newer version wrote it.
        """
        return self._read(JOURNAL_NAME, Header)

    def promise(self) -> Promise | None:
        """What an earlier run was about to give its name; None when it never came so far."""
        return self._read(_RESULT_NAME, Promise)

    def source_sha256(self) -> str | None:
        """Of all of the source as an earlier run read it."""
        note = self._read(_SOURCE_NAME, SourceNote)
        return None if note is None else note.sha256

    def plan(self, header: Header) -> Plan | None:
        """The stored plan; None when it is torn, and has to be made again."""
        try:
            data = (self.folder / _PLAN_NAME).read_bytes()
            if hashlib.sha256(data).hexdigest() == header.plan_sha256:
                return from_json(Plan, data)
        except (OSError, ValueError) as error:
            logger.debug("the stored plan cannot be used: %s", error)
        logger.warning("the stored plan is damaged and is made again")
        return None

    # What this run does

    def begin(self, request: Request, plan: Plan, *, anew: bool = False) -> None:
        """Store what is asked and planned, and take over the segments that belong to it.

        Args:
            request: complete.
            plan: of the whole run; a stored one must be equal but for where things lie.
            anew: forget everything that is done.

        Raises:
            ConfigError: there are segments of another plan, and nothing tells why.
            OutputError: the disk refuses.
        """
        digest = plan.digest()
        with writing(self._output):
            if anew:
                self._work.clear()
            done = self._verified(plan, digest)
            kept = self._names() if done else frozenset({_SOURCE_NAME})
            self._work.remove_but(kept - {_RESULT_NAME})
            data = to_json(plan).encode()
            header = Header(
                request=request,
                plan_digest=digest,
                plan_sha256=hashlib.sha256(data).hexdigest(),
            )
            write_whole(self.folder / _PLAN_NAME, data)
            write_whole(self.folder / JOURNAL_NAME, to_json(header).encode())
        self._plan_digest, self.done, self._num_segments = digest, done, len(plan.segments)

    def take_over(self, plan: Plan) -> None:
        """Enter segments for a run that another process has begun, and has let go of.

        Args:
            plan: that it has stored.

        Raises:
            OutputError: meanwhile somebody else has begun another.
        """
        digest, header = plan.digest(), self.header()
        if header is None or header.plan_digest != digest:
            raise OutputError(f"another run has begun anew on {self._output}")
        self._plan_digest, self._num_segments = digest, len(plan.segments)

    def desk(self) -> Path:
        """A new folder in which segments are made, so that no two runs ever write the same file."""
        with writing(self._output):
            return Path(tempfile.mkdtemp(prefix=_AT_WORK, dir=self.folder))

    def add(self, result: SegmentResult) -> SegmentResult:
        """Enter a finished segment, whose file is safely on disk; it moves to its place.

        Raises:
            OutputError: the disk refuses.
        """
        assert self._plan_digest is not None, "segments belong to a plan"
        placed = self.folder / segment_name(result.index)
        with writing(self._output):
            result.path.replace(placed)
            data = _results().dump_python(result, mode="json")
            data.pop("path")
            entry = _Entry(
                journal_format=JOURNAL_FORMAT, plan_digest=self._plan_digest, result=data
            )
            # Brings the segment's new name to disk as well, since both lie in one folder.
            write_whole(placed.with_suffix(".json"), to_json(entry).encode())
        self.done[result.index] = replace(result, path=placed)
        return self.done[result.index]

    def note_source(self, sha256: str) -> None:
        """Store the digest of all of the source, for the next run to compare."""
        with writing(self._output):
            note = SourceNote(sha256=sha256)
            write_whole(self.folder / _SOURCE_NAME, to_json(note).encode())

    def give(self, promise: Promise) -> None:
        """Store what is about to take its name, so that a later run knows it for its own.

        Raises:
            OutputError: the disk refuses.
        """
        with writing(self._output):
            write_whole(self.folder / _RESULT_NAME, to_json(promise).encode())

    def finish(self, record: Path) -> None:
        """Let the promise become the record beside the result; the folder is removed on leaving."""
        self._is_over = True
        try:
            (self.folder / _RESULT_NAME).replace(record)
            sync(record.parent)
        except OSError as error:
            logger.warning("no record is kept beside %s: %s", self._output, error)

    def discard(self) -> None:
        """Have the folder removed on leaving: what lies in it is of no use to anybody."""
        self._is_over = True

    def _verified(self, plan: Plan, digest: str) -> dict[int, SegmentResult]:
        """Segments whose entry and file are as they should be."""
        found: dict[int, SegmentResult] = {}
        for path in self._entries():
            entry = self._read(path.name, _Entry)
            if entry is None:
                continue
            if entry.plan_digest != digest:
                raise ConfigError(
                    f"the work beside {self._output} belongs to another plan, "
                    "and its journal is too damaged to tell what differs",
                    hint="use --restart to begin anew",
                )
            result = self._checked(entry, path.with_suffix(".mkv"), plan)
            if result is not None:
                found[result.index] = result
        return found

    def _checked(self, entry: _Entry, file: Path, plan: Plan) -> SegmentResult | None:
        try:
            result = _results().validate_python({**entry.result, "path": file}, strict=False)
            is_whole = (
                segment_name(result.index) == file.name
                and result.num_frames == plan.segments[result.index].num_frames
                and file.stat().st_size == result.num_bytes
                and sha256_of(file) == result.sha256
            )
        except (OSError, ValidationError, IndexError, TypeError) as error:
            logger.debug("%s cannot be used: %s", file.name, error)
            is_whole = False
        if not is_whole:
            logger.warning("%s is not as its journal says, and is made again", file.name)
            return None
        return result

    def _read(self, name: str, model: type[Model]) -> Model | None:
        """An entry; None when it is not there or cannot be understood.

        Raises:
            ConfigError: a newer version wrote it.
        """
        try:
            descriptor = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(
                f"{self.folder / name} cannot be read: {error.strerror}",
                hint="remove it if you know what it is",
            ) from error
        with writing(self._output), os.fdopen(descriptor, "rb") as file:
            data = file.read()
        return parse(data, model, name)


def parse(data: bytes, model: type[Model], name: str) -> Model | None:
    """Read one file of a journal, or a record; None when it is torn.

    Raises:
        ConfigError: a newer version wrote it.
    """
    try:
        document = json.loads(data)
        if not isinstance(document, dict):
            raise ValueError("no object")
        found = document.get("journal_format", document.get("record_format", JOURNAL_FORMAT))
        if isinstance(found, int) and found > JOURNAL_FORMAT:
            raise ConfigError(
                f"{name} was written by a newer version of vsr "
                f"(format {found}, known here is {JOURNAL_FORMAT})",
                hint="use that version, or --restart to begin anew",
            )
        return from_json(model, data)
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        logger.warning("%s is damaged; what it told is found out again", name)
        logger.debug("%s", error)
        return None


@cache
def _results() -> TypeAdapter[SegmentResult]:
    return TypeAdapter(SegmentResult)
