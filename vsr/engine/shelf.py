"""What was costly to make, kept for whoever needs the same next."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shelf(Generic[T]):
    """Holds at most one thing, which is with one user at a time; safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._item: tuple[Hashable, T] | None = None

    def take(self, key: Hashable) -> T | None:
        """The thing under that key, which is then the caller's; None where there is none.

        A thing under another key is let go, for what is made instead may need its room.
        """
        with self._lock:
            item, self._item = self._item, None
        return item[1] if item is not None and item[0] == key else None

    def put(self, key: Hashable, thing: T) -> None:
        """Leave a thing for the next; what was there is let go."""
        with self._lock:
            self._item = key, thing

    def clear(self) -> None:
        """Let go of what is there."""
        with self._lock:
            self._item = None
