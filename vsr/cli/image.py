"""`vsr image IN OUT`: a still or a folder of stills."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.choices import resolve
from vsr.cli.console import is_interactive, print_json, print_line

if TYPE_CHECKING:
    from vsr.pipeline.image import ImageResult, OnImage

EXIT_SOME_FAILED = 7


@click.command("image", short_help="Make stills larger.")
@click.argument("source", metavar="IN", type=click.Path(readable=False, path_type=Path))
@click.argument("output", metavar="OUT", type=click.Path(readable=False, path_type=Path))
@click.option("--scale", type=float, help="Enlarge so many times, from 1.  [default: 4]")
@click.option("--model", metavar="ID|FILE", help="Network to use; see `vsr models list`.")
@click.option("--device", envvar="VSR_DEVICE", help="auto, cpu, cuda or cuda:N.  [default: auto]")
@click.option(
    "--detail",
    type=float,
    metavar="0..1",
    help="How much a model that invents detail may: 0 is the one it was trained from.",
)
@click.option("--fidelity", is_flag=True, help="Refuse models that invent detail.")
@click.option("--seed", type=int, help="Of models that draw at random.  [default: 0]")
@click.option(
    "--samples", type=int, help="Pictures of each still, by models such as pulse.  [default: 1]"
)
@click.option(
    "--generator",
    nargs=2,
    metavar="MAPPING SYNTHESIS",
    help="Files of a StyleGAN for pulse to explore.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["png", "jpeg", "tiff", "webp"]),
    help="Kind of every result.  [default: as its source, or as OUT is named]",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    help="Of JPEG and WebP.  [default: 95 for JPEG, lossless for WebP]",
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(
    source: Path,
    output: Path,
    kind: Any,
    quality: int | None,
    as_json: bool,
    **flags: Any,
) -> int:
    """Make a still larger, or all stills in a folder with its subfolders.

    PNG, JPEG, TIFF and WebP, of 8 or 16 bits. Alpha, colour profile, EXIF, XMP and resolution are
    kept where the kind has a place for them; what is lost is said.
    """
    config = resolve(None, (), flags)
    # After the flags are known to be right: these imports are the slow ones.
    from vsr.pipeline.image import enlarge_images

    with _progress() as progress:
        result = enlarge_images(
            source, output, config, kind=kind, quality=quality, progress=progress
        )
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        for image in result.images:
            _print(image)
        if len(result.images) > 1:
            print_line(f"{result.done} done, {result.failed} failed, {result.seconds:.1f} s")
    return EXIT_SOME_FAILED if result.failed else 0


def _print(image: ImageResult) -> None:
    """What a person wants to know of one."""
    if not image.ok:
        print_line(f"{image.source}: failed: {image.error}")
        return
    tiles = f" in tiles of {image.tile_px} px" if image.tile_px else ""
    print_line(
        f"{image.result}: {image.width}x{image.height} by {image.model}{tiles}, "
        f"{image.seconds:.1f} s"
    )
    if image.invents_detail:
        print_line("  INVENTED DETAIL: what it shows is plausible and need not have been there")
    if image.seed is not None:
        print_line(f"  seed {image.seed}; {image.notes[-1]}")
    for loss in image.losses:
        print_line(f"  lost: {loss}")


@contextmanager
def _progress() -> Iterator[OnImage | None]:
    """A bar on a terminal; elsewhere each still is named at the end."""
    if not is_interactive():
        yield None
        return
    from tqdm import tqdm

    bar = tqdm(unit=" stills", leave=False)

    def show(num_done: int, num_all: int) -> None:
        bar.total = num_all
        bar.update(num_done - bar.n)

    try:
        yield show
    finally:
        bar.close()
