"""How sizes and times are written by people: in flags, presets and configurations."""

from __future__ import annotations

import re
from fractions import Fraction


def parse_size(text: str) -> tuple[int, int]:
    """Read `WIDTHxHEIGHT`, already known to be one."""
    width, _, height = text.partition("x")
    return int(width), int(height)


def parse_time(value: str | int | float) -> Fraction:
    """Read a time: seconds, or `[HH:]MM:SS[.mmm]`; exact as written.

    Raises:
        ValueError: it is neither.
    """
    parts = str(value).removesuffix("s").split(":")
    if len(parts) > 3 or not all(re.fullmatch(r"\d+(\.\d*)?|\.\d+", part) for part in parts):
        raise ValueError(f"{str(value)!r} is no time: expected seconds or [HH:]MM:SS.mmm")
    if any("." in part for part in parts[:-1]):
        raise ValueError(f"{str(value)!r} is no time: only its seconds may have decimals")
    seconds = Fraction(0)
    for part in parts:
        seconds = 60 * seconds + Fraction(part)
    return seconds


def parse_sample(text: str) -> tuple[int, Fraction]:
    """Read `3x10s`: how many stretches, and how long each is.

    Raises:
        ValueError: it is not that, or either is 0.
    """
    count, _, length = text.partition("x")
    number, seconds = int(count), parse_time(length)
    if number < 1 or seconds <= 0:
        raise ValueError(f"{text!r} takes nothing: expected e.g. 3x10s")
    return number, seconds
