"""Text subtitles as what they say and when, whatever dialect they are stored in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vsr.errors import OpenError
from vsr.media.opening import AV_ERRORS, open_input, reason
from vsr.media.probe import to_fraction

if TYPE_CHECKING:
    from av.subtitles.stream import SubtitleStream

_STYLE = re.compile(r"\{[^}]*\}")
_NUM_FIELDS_BEFORE_TEXT = 8
"""Of an event line: order, layer, style, name, three margins, effect."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle."""

    start_s: Fraction
    duration_s: Fraction
    text: str
    """Without styles; lines divided by a newline, no blanks around them."""


def read_cues(path: Path, index: int) -> list[Cue]:
    """Decode a text subtitle stream.

    Args:
        path: a media file.
        index: of a stream of text subtitles.

    Raises:
        OpenError: it cannot be read or decoded.
    """
    cues = []
    with open_input(path) as container:
        stream = cast("SubtitleStream", container.streams[index])
        time_base = to_fraction(stream.time_base) or Fraction(1, 1000)
        try:
            stream.codec_context.open(strict=False)
            for packet in container.demux(stream):
                if not packet.size or packet.pts is None:
                    continue
                decoded = stream.codec_context.decode2(packet)
                rects = list(decoded) if decoded is not None else []
                events = [getattr(rect, "ass", b"") or b"" for rect in rects]
                text = "\n".join(filter(None, map(plain_text, events)))
                if rects:
                    start, length = packet.pts * time_base, (packet.duration or 0) * time_base
                    cues.append(Cue(start, length, text))
        except AV_ERRORS as error:
            raise OpenError(f"stream {index} of {path} cannot be read: {reason(error)}.") from error
    return cues


def plain_text(event: bytes) -> str:
    """The words of one event line as FFmpeg's decoders give it."""
    fields = event.decode("utf-8", "replace").split(",", _NUM_FIELDS_BEFORE_TEXT)
    if len(fields) <= _NUM_FIELDS_BEFORE_TEXT:
        return ""
    text = _STYLE.sub("", fields[-1]).replace("\\N", "\n").replace("\\n", "\n")
    lines = (line.strip() for line in text.replace("\\h", " ").splitlines())
    return "\n".join(line for line in lines if line)
