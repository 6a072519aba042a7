"""Every row of the list has a test, and the page tells of every row."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults.table import LATER, PAGE, ROWS, Case, missing, render

FOLDER = Path(__file__).parent


def rows_with_a_test() -> set[int]:
    """Numbers in the marks of this folder's tests, read from their sources."""
    found = set()
    for path in FOLDER.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    values = {word.arg: word.value for word in mark.keywords}
                    assert set(values) == {"row", "injected"}, ast.unparse(mark)
                    number = values["row"]
                    assert isinstance(number, ast.Constant)
                    assert isinstance(number.value, int)
                    found.add(number.value)
    return found


def test_every_row_has_a_test() -> None:
    assert sorted(ROWS) == list(range(1, 41))
    assert rows_with_a_test() == set(ROWS)
    assert set(LATER) <= set(ROWS)


def test_nothing_is_ever_skipped() -> None:
    for path in FOLDER.glob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        for word in ("pytest.skip(", "mark.skip", "mark.xfail", "importorskip"):
            assert path.name == Path(__file__).name or word not in text, path.name


def test_the_page_has_every_row() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first_cells = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert [int(cell) for cell in first_cells if cell.isdigit()] == sorted(ROWS)


@pytest.mark.parametrize("result", ["failed", "skipped"])
def test_a_row_counts_only_if_all_its_tests_passed(result: str) -> None:
    def case(row: int, result: str = "passed") -> Case:
        return Case(row=row, injected="x", test="t", parameters="", outcomes=(), result=result)

    assert missing(map(case, ROWS)) == []
    assert missing([*map(case, ROWS), case(7, result)]) == [7]
    assert missing([case(row) for row in ROWS if row != 9]) == [9]


def test_the_page_holds_any_text() -> None:
    said = ("exit 3: 'a|b<script>`\n'", "exit 0")
    case = Case(row=1, injected="x", test="t", parameters="p", outcomes=said, result="passed")
    line = next(line for line in render([case]).splitlines() if line.startswith("| 1 |"))
    assert line.count("|") == 6
    assert "<script" not in line and "p: exit 0" in line
