"""Options that a user hands to the encoder: refused before the run, or obeyed to the letter.

FFmpeg ignores an option it does not know, and x264, x265 and SVT-AV1 merely warn of a parameter
they do not know. Here both end the run before its first frame.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping

from vsr.errors import ConfigError
from vsr.media.codecs import validate_options

PARAMS = {"libx264": "x264-params", "libx265": "x265-params", "libsvtav1": "svtav1-params"}
"""Encoder -> its option that holds a list of the library's own parameters."""

_CONSTANT = (
    "segments are encoded one by one, so that a run can resume and be shared out, "
    "and a rate that is to be met over the whole film cannot be: only constant quality can"
)
_RATE = frozenset(
    {
        *("b", "ab", "bt", "minrate", "maxrate", "bufsize", "rc", "abr", "cbr"),
        *("bitrate", "vbv-maxrate", "vbv-bufsize", "strict-cbr", "tbr", "mbr", "nal-hrd"),
        *("bit-rate", "target-bitrate", "max-bitrate", "rc_init_occupancy", "vbv-init"),
    }
)
_TWO_PASS = frozenset({"pass", "passes", "stats", "passlogfile", "multi-pass-opt-rps"})
_OURS = {
    "threads": "use --set threads=N",
    "thread_type": "use --set threads=N",
    "pools": "use --set threads=N",
    "frame-threads": "use --set threads=N",
    "lookahead-threads": "it follows the thread count",
    "sliced-threads": "it would change with the thread count",
    "lp": "use --set threads=N",
    "slices-threads": "use --set threads=N",
    "cpu-independent": "other processors would write other bytes",
    "asm": "other processors would write other bytes",
    "open-gop": "every segment has to be closed",
    "flags": "every segment has to be closed and repeatable",
    "time_base": "the source's timestamps are kept",
    "pkt_timebase": "the source's timestamps are kept",
    "colorspace": "colour is tagged as it is converted",
    "color_primaries": "colour is tagged as it is converted",
    "color_trc": "colour is tagged as it is converted",
    "color_range": "colour is tagged as it is converted",
    "colorprim": "colour is tagged as it is converted",
    "transfer": "colour is tagged as it is converted",
    "colormatrix": "colour is tagged as it is converted",
    "range": "colour is tagged as it is converted",
    "fullrange": "colour is tagged as it is converted",
    "chroma_sample_location": "chroma is placed as it is converted",
    "chromaloc": "chroma is placed as it is converted",
    "sar": "the pixel shape follows the source",
    "fps": "the source's timestamps are kept",
    "timebase": "the source's timestamps are kept",
    "crf": "use --crf",
    "preset": "use --encoder-preset",
    "profile": "it follows from the pixel format and --encoder-preset",
    "info": "it names the processor, so bytes would differ",
}
"""Options that are decided elsewhere, and where or why."""

_COMPLAINT = re.compile(
    r"Error parsing option|Unknown option|Invalid value|Cannot parse|bad option"
)
# Spelled out and run by another process: messages of the libraries appear on stderr alone, and
# FFmpeg's log callback must not be touched in a process that decodes with threads.
_TRIAL = """
import json, sys
from fractions import Fraction
import av, av.logging
av.logging.restore_default_callback()
given = json.loads(sys.argv[1])
context = av.CodecContext.create(given["codec"], "w")
context.width, context.height = given["size"]
context.pix_fmt = given["pixel_format"]
context.time_base = Fraction(1, 25)
context.thread_count = given["threads"]
context.options = given["options"]
context.open()
for pts in range(3):
    frame = av.VideoFrame(context.width, context.height, context.pix_fmt)
    # Codes that are legal in 8 and in 10 bits, and no two blocks alike.
    codes = bytes(value for k in range(997) for value in (k * 37 % 256, k * (pts + 3) % 4))
    for plane in frame.planes:
        plane.update((codes * (plane.buffer_size // len(codes) + 1))[: plane.buffer_size])
    frame.pts = pts
    context.encode(frame)
context.encode(None)
"""
_TRIAL_SECONDS = 60


def parse_option(text: str) -> tuple[str, str]:
    """Split `name=value`.

    Raises:
        ConfigError: there is no name or no value.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise ConfigError(
            f"encoder option {text!r} is not of the form name=value", hint="e.g. bf=2"
        )
    return name.strip(), value.strip()


def merge_options(
    encoder: str, ours: Mapping[str, str], given: Mapping[str, str | int | float]
) -> dict[str, str]:
    """Our options with the user's laid over them; parameter lists are merged key by key.

    Args:
        encoder: FFmpeg's name.
        ours: what vsr sets.
        given: what the user asks for.

    Raises:
        ConfigError: an option that is unknown, out of range, not constant quality, or decided
            elsewhere.
    """
    params_name = PARAMS.get(encoder)
    merged = dict(ours)
    plain = {name: _text(value) for name, value in given.items()}
    validate_options(encoder, {n: v for n, v in plain.items() if n not in (*_RATE, *_TWO_PASS)})
    for name, value in plain.items():
        _refuse(encoder, name, value)
        if name != params_name:
            merged[name] = value
            if name == "qp":
                merged.pop("crf", None)
                if merged.pop("cq", None) is not None:
                    merged["rc"] = "constqp"
            continue
        theirs = _split(encoder, value)
        for key, inner in theirs.items():
            _refuse(encoder, key, inner)
        mine = _split(encoder, merged.get(name, ""))
        merged[name] = ":".join(f"{k}={v}" for k, v in {**mine, **theirs}.items())
    return merged


def try_options(
    encoder: str,
    options: Mapping[str, str],
    pixel_format: str,
    size: tuple[int, int],
    threads: int,
) -> None:
    """Let the encoder work with these options once, where a crash of its library does no harm.

    Args:
        encoder: FFmpeg's name.
        options: all of them.
        pixel_format: FFmpeg's name.
        size: width and height of the pictures.
        threads: of the encoder.

    Raises:
        ConfigError: the library does not know a parameter, refuses its value or ends with it.
    """
    given = {
        "codec": encoder,
        "options": dict(options),
        "pixel_format": pixel_format,
        "size": size,
        "threads": threads,
    }
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL, json.dumps(given)],
            capture_output=True,
            check=False,
            timeout=_TRIAL_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"the options of {encoder} could not be tried: {error}") from error
    lines = trial.stderr.decode("utf-8", "replace").splitlines()
    for line in lines:
        if _COMPLAINT.search(line):
            said = line.partition("] ")[2] or line
            raise ConfigError(f"{encoder} refuses its parameters: {said.rstrip('.')}")
    if trial.returncode < 0:
        raise ConfigError(
            f"{encoder} crashes with these options (signal {-trial.returncode})",
            hint="leave out the one that it cannot bear",
        )
    if trial.returncode != 0:
        words = [line.partition("] ")[2] for line in lines if line.startswith("[")]
        said = words[-1].rstrip(".") if words else "it did not say why"
        raise ConfigError(
            f"{encoder} refused {pixel_format} of {size[0]}x{size[1]} with these options: {said}",
            hint="see crf, encoder preset, encoder options and size",
        )


def _refuse(encoder: str, name: str, value: str) -> None:
    """Raise for what would break a promise."""
    key = name.lower()
    if key in _RATE:
        raise ConfigError(f"{name}={value} asks for a bit rate, but {_CONSTANT}", hint="use --crf")
    if key in _TWO_PASS:
        raise ConfigError(
            f"{name}={value} asks for several passes, but {_CONSTANT}", hint="use --crf"
        )
    if key in _OURS:
        raise ConfigError(f"option {name} of {encoder} is decided by vsr: {_OURS[key]}")


def _split(encoder: str, text: str) -> dict[str, str]:
    """`a=1:b` into {"a": "1", "b": "1"}."""
    pairs: dict[str, str] = {}
    for part in filter(None, text.split(":")):
        key, equals, value = part.partition("=")
        if not key.strip():
            raise ConfigError(f"the parameters {text!r} of {encoder} are not of the form a=1:b=2")
        pairs[key.strip()] = value.strip() if equals else "1"
    return pairs


def _text(value: str | int | float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
