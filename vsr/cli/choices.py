"""Options that say what a result is to be, the same for every command that makes or plans one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from vsr.config import UpscaleConfig
    from vsr.pipeline.estimate import Estimate
    from vsr.pipeline.preview import Preview

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--height", type=int, help="Height of the result as displayed, instead of --scale."
    ),
    click.option(
        "--size", metavar="WxH", help="Size of the result as displayed, instead of --scale."
    ),
    click.option(
        "--fit",
        type=click.Choice(["contain", "cover", "stretch"]),
        help="Into --size: stay inside, fill and crop, or stretch.  [default: contain]",
    ),
    click.option(
        "--par",
        type=click.Choice(["keep", "square"]),
        help="Keep the shape of pixels, or make them square.  [default: keep]",
    ),
    click.option(
        "--rotate",
        type=click.Choice(["keep", "bake"]),
        help="Leave a turn to the player, or turn the pictures.  [default: keep]",
    ),
    click.option(
        "--detail",
        type=float,
        metavar="0..1",
        help="How much a model that invents detail may: 0 is the one it was trained from.",
    ),
    click.option("--fidelity", is_flag=True, help="Refuse models that invent detail."),
    click.option(
        "--strength",
        type=float,
        metavar="0..1",
        help="Steady what networks of single frames add; 0 does not.  [default: 0.7, "
        "and 0.9 of those that invent detail]",
    ),
    click.option(
        "--grain",
        type=float,
        metavar="0..4",
        help="Lay grain like that of IN over the result; 1 is as strong as there.",
    ),
    click.option(
        "--blind",
        is_flag=True,
        help="Estimate the blur of IN, for a model that undoes it (reconstruction).",
    ),
    click.option("--start", metavar="TIME", help="Where to begin: seconds or [HH:]MM:SS.mmm."),
    click.option("--duration", metavar="TIME", help="How much to take."),
    click.option("--sample", metavar="3x10s", help="So many stretches, spread over the film."),
    click.option("--profile", help="access, mezzanine or preservation: what the result is for."),
    click.option("--same-codec", is_flag=True, help="Encode with the codec of the source."),
    click.option(
        "--encoder-option",
        "encoder_options",
        metavar="NAME=VALUE",
        multiple=True,
        help="Any option of the encoder, as FFmpeg names it; not bit rates or passes.",
    ),
    click.option(
        "--container",
        help="mkv, mp4, mov, or auto: as OUT is named, but mkv where that loses less.",
    ),
    click.option("--audio", metavar="WHICH", help="all, none, languages (eng) or positions (0)."),
    click.option("--subs", metavar="WHICH", help="all, none, languages (eng) or positions (0)."),
    click.option("--map", metavar="LIST", help="Streams by index: 0,2 keeps only those, -3 not 3."),
    click.option("--strict", is_flag=True, help="Refuse to run if anything would be lost."),
    click.option(
        "--no-provenance", is_flag=True, help="Write no tags that say how the result was made."
    ),
)


_FILM_OPTIONS = (
    click.option("--scale", type=float, help="Enlarge so many times, from 1.  [default: 4]"),
    click.option("--model", metavar="ID|FILE", help="Network to use; see `vsr models list`."),
    click.option(
        "--device", envvar="VSR_DEVICE", help="auto, cpu, cuda or cuda:N.  [default: auto]"
    ),
    click.option(
        "--mixed-devices",
        is_flag=True,
        help="Go on with what another kind of device began; such parts are told as not exact.",
    ),
    click.option(
        "--codec",
        help="h264, hevc, av1, ffv1, prores or dnxhr; h264_nvenc or hevc_nvenc on an NVIDIA card.  "
        "[default: by the source's depth]",
    ),
    click.option("--crf", type=float, help="Constant quality: lower is better and larger."),
    click.option(
        "--encoder-preset", metavar="WORD", help="Speed against size, as the encoder says it."
    ),
    click.option(
        "--preset", metavar="NAME|FILE.toml", help="A packaged set of choices, or your own."
    ),
    click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any key of a preset."),
    click.option(
        "--deinterlace",
        type=click.Choice(["auto", "keep", "off", "bwdif", "bob", "ivtc"]),
        help="What becomes of interlaced pictures.  [default: auto]",
    ),
    click.option(
        "--max-damage",
        metavar="SHARE|COUNT",
        help="Damaged pictures that are borne: 12, 0.05 or 5%.  [default: 100%]",
    ),
)


def film_options(function: AnyFunction) -> AnyFunction:
    """Give a command that makes films the options of this file that say how."""
    for option in reversed(_FILM_OPTIONS):
        function = option(function)
    return function


def result_options(function: AnyFunction) -> AnyFunction:
    """Give a command the options of this file."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def resolve(preset: str | None, sets: Sequence[str], flags: dict[str, Any]) -> UpscaleConfig:
    """The configuration of a command line; flags that were not given are None, False or ().

    Raises:
        ConfigError: something in it is refused.
    """
    from vsr.config import resolve_config

    given = dict(flags)
    options = given.pop("encoder_options", ())
    if options:
        from vsr.media.options import parse_option

        given["encoder_options"] = dict(parse_option(text) for text in options)
    # A flag that is absent must not overrule a preset.
    for name in ("same_codec", "strict", "overwrite", "restart", "fidelity", "blind"):
        given[name] = given.get(name) or None
    if given.pop("no_provenance", False):
        given["provenance"] = False
    return resolve_config(preset, given, sets)


def preview_lines(planned: Preview) -> list[str]:
    """A planned run, for people."""
    if planned.frames is None:
        frames = "an unknown number of frames"
    else:
        frames = f"{planned.frames} frames{'' if planned.is_counted else ' as declared'}"
    lines = [
        f"{planned.result}: {planned.container}, {planned.width}x{planned.height}, {frames}",
        f"  {planned.model} on {planned.device}; {planned.codec} {planned.pixel_format}",
    ]
    lines += [f"  {line}" for line in (*planned.streams, *planned.items)]
    lines += [f"  note: {note}" for note in planned.notes if not note.startswith("Lost: ")]
    count = len(planned.losses)
    lines.append(f"  lost: {count if count else 'nothing'}")
    lines += [f"    {loss}" for loss in planned.losses]
    return lines + (_estimate_lines(planned.estimate) if planned.estimate else [])


def _estimate_lines(guess: Estimate) -> list[str]:
    lines = []
    if guess.seconds is not None and guess.result_bytes is not None:
        lines.append(
            f"  estimate: {span(guess.seconds)}, a result of {size(guess.result_bytes)}, "
            f"{size(guess.disk_bytes or 0)} of disk meanwhile"
        )
    if guess.free_bytes is not None:
        is_short = guess.disk_bytes is not None and guess.disk_bytes > guess.free_bytes
        short = ": NOT ENOUGH" if is_short else ""
        lines.append(f"  free on that disk: {size(guess.free_bytes)}{short}")
    return [*lines, f"  estimated from {guess.how}"]


def span(seconds: float) -> str:
    """A length of time, for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def size(num_bytes: int) -> str:
    """An amount of data, for people."""
    amount = float(num_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def is_stdout(output: Path) -> bool:
    """Whether the pictures go to stdout, where then nothing else may go."""
    return str(output) == "-"
