"""What a check says: one row for each property of the film, and whether all hold."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class CheckRow(BaseModel):
    """One property of the film, in the source and in the result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    ok: bool
    source: str
    result: str
    note: str = ""


class CheckResult(BaseModel):
    """The proof: ok only if every row is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ok: bool
    rows: tuple[CheckRow, ...]

    @property
    def failures(self) -> tuple[CheckRow, ...]:
        return tuple(row for row in self.rows if not row.ok)


def row(name: str, ok: bool, source: object, result: object, note: str = "") -> CheckRow:
    """A row from anything that can be written."""
    return CheckRow(name=name, ok=bool(ok), source=str(source), result=str(result), note=note)


def verdict(rows: list[CheckRow]) -> CheckResult:
    """Ok if all rows are."""
    return CheckResult(ok=all(each.ok for each in rows), rows=tuple(rows))
