"""The command that draws a bundle beside its original."""

from __future__ import annotations

import json

import click

from kmdask.cli_options import original_of, talking
from kmdask.cli_set_up import plain_errors, set_up


@click.command()
@click.argument("out")
@original_of
@click.option(
    "--to",
    "file",
    metavar="FILE",
    help="Write to FILE, which ends in .png, .svg or .pdf.  [default: OUT with the ending .png]",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is there already.")
@talking
def plot(
    out: str,
    *,
    original: str | None,
    file: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Draw the bundle OUT beside its original.

    Overviews, the windows with the largest errors, the palette, and a cloud of pixels. However
    large the image is, a few windows and overviews are all that is read.
    """
    from kmdask import places
    from kmdask.image import CompressedImage

    set_up(quiet=quiet, verbose=verbose)
    with plain_errors():
        image = CompressedImage.read(places.place(out))
        # Of "." there is no name to put an ending to.
        bundle = out.rstrip("/") if places.is_url(out) else image.path
        written = f"{bundle}.png" if file is None else file
        image.plot(original, written, overwrite=overwrite)
    click.echo(json.dumps({"path": written}) if as_json else written)
