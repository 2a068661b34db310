"""The command that shows a palette and exports it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kmdask.cli_set_up import plain_errors
from kmdask.units import several

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kmdask.saved_palette import SavedPalette


@click.command()
@click.argument("source", metavar="OUT")
@click.option("--to", metavar="FILE", help="Write it to FILE, whose ending says in which format.")
@click.option(
    "--format",
    "kind",
    metavar="hex|gpl|png|qml|clr|json",
    help="In this format; without --to it is printed.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is there already.")
def palette(source: str, to: str | None, kind: str | None, *, overwrite: bool) -> None:
    """Show the palette of OUT, or export it.

    OUT is a bundle or anything else that kmdask compress takes for --palette. Formats: hex is a
    colour a line, gpl a palette of GIMP, Inkscape and Krita, png a picture of it, json what kmdask
    fit writes. qml, a layer style, and clr, a colour map, have QGIS paint the indices of a bundle,
    in OUT/image.zarr and OUT/image.tif.
    """
    from kmdask import color_exports, palette_source
    from kmdask.free import check_files

    with plain_errors():
        if kind is not None:
            color_exports.format_of("", kind)
        if to is None and kind == "png":
            raise click.UsageError("A picture is not printed; give --to FILE.")
        if to is not None:
            check_files(to, source=source, overwrite=overwrite)
        saved = palette_source.as_saved(source)
        if to is not None:
            saved.export(to, kind, overwrite=overwrite)
            click.echo(f"{to}: {several(len(saved.palette), 'colour')}")
        elif kind is not None:
            click.echo(saved.exported(kind), nl=False)
        else:
            _show(saved, palette_source.shares_of(saved))


def _show(saved: SavedPalette, shares: Sequence[float] | None) -> None:
    """Print a line for each entry, with a swatch where there are colours to print in."""
    rows = zip(saved.rgb.tolist(), saved.labels, strict=True)
    told = [""] * len(saved.palette) if shares is None else [f"{share:7.2%}  " for share in shares]
    click.echo(f"{'index':>5}  {'':4}  colour   {'' if shares is None else 'share    '}values")
    for i, ((rgb, values), share) in enumerate(zip(rows, told, strict=True)):
        swatch = click.style("    ", bg=tuple(rgb))
        red, green, blue = rgb
        click.echo(f"{i:>5}  {swatch}  #{red:02x}{green:02x}{blue:02x}  {share}{values}")
