"""One thing at a time, with one user at a time."""

from __future__ import annotations

from vsr.engine.shelf import Shelf


def test_what_is_taken_is_gone_until_it_is_put_back() -> None:
    shelf: Shelf[str] = Shelf()
    assert shelf.take("a") is None
    shelf.put("a", "thing")
    assert shelf.take("a") == "thing"
    assert shelf.take("a") is None


def test_only_the_last_is_kept_and_another_wish_lets_it_go() -> None:
    shelf: Shelf[str] = Shelf()
    shelf.put("a", "old")
    shelf.put("b", "new")
    assert shelf.take("a") is None
    assert shelf.take("b") is None
    shelf.put("b", "new")
    shelf.clear()
    assert shelf.take("b") is None
