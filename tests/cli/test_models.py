"""`vsr models`: what it lists is the catalogue, under the promised keys."""

from __future__ import annotations

import json

import pytest

from vsr.cli.main import run
from vsr.models import card, checkpoint
from vsr.models.catalog import SPECS

KEYS = {
    "id",
    "family",
    "scale",
    "kind",
    "params",
    "gmac_180p",
    "licence",
    "sha256",
    "data",
    "psnr",
    "shipped",
}


def test_list_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows] == [spec.id for spec in SPECS]
    assert all(set(row) == KEYS for row in rows)
    bicubic = next(row for row in rows if row["id"] == "bicubic-x2")
    assert bicubic == {
        "id": "bicubic-x2",
        "family": "bicubic",
        "scale": 2,
        "kind": "image",
        "params": 0,
        "gmac_180p": None,
        "licence": "Apache-2.0",
        "sha256": None,
        "data": [],
        "psnr": {},
        "shipped": True,
    }


def test_list_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["id", "kind"]
    assert [line.split()[0] for line in lines[1:]] == [spec.id for spec in SPECS]


def test_card_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown = card.Card(
        id="flowprop-s-x4-bi",
        sha256="0" * 64,
        licence="Apache-2.0",
        degradation="bi",
        num_params=1_234_567,
        gmac_180p=12.5,
        trained_with={"hours": 2},
        data=(card.DataSource(origin="somewhere", licence="CC0-1.0"),),
        scores={"set": card.Score(psnr_db=29.5)},
    )
    monkeypatch.setattr(checkpoint, "card_of", lambda _spec: shown)
    assert run(["models", "show", "flowprop-s-x4", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["params"], facts["gmac_180p"], facts["psnr"]) == (1_234_567, 12.5, {"set": 29.5})
    assert (facts["sha256"], facts["degradation"]) == ("0" * 64, "bi")
    assert run(["models", "show", "flowprop-s-x4"]) == 0
    text = capsys.readouterr().out
    assert "somewhere; CC0-1.0" in text
    assert run(["models", "list"]) == 0
    (line,) = [li for li in capsys.readouterr().out.splitlines() if li.startswith("flowprop-s-x4 ")]
    for told in ("1.23 M", "Apache-2.0", "0" * 12, "1 source ", "29.50 set"):
        assert told in line


def test_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show", "bicubix-x2"]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "bicubic-x2" in captured.err
