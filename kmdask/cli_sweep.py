"""The command that says what numbers of colours cost and give."""

from __future__ import annotations

from typing import Any

import click

from kmdask.cli_options import (
    CONNECTING,
    WORDS,
    chosen,
    coding,
    connecting,
    fixing,
    number_or,
    numbers,
    reading,
    seeding,
    spacing,
    telling,
)
from kmdask.cli_set_up import plain_errors, set_up
from kmdask.cli_show import show_sweep


@click.command()
@click.argument("src")
@click.option(
    "--ks",
    type=numbers(int),
    default="2,4,8,16,32,64,128,256",
    show_default=True,
    help="Numbers of colours to try.",
)
@click.option("--json", "as_json", metavar="FILE", help="Write the table to FILE as JSON.")
@click.option("--csv", "as_csv", metavar="FILE", help="Write the table to FILE as CSV.")
@click.option("--plot", metavar="FILE", help="Draw the curve: .png, .svg or .pdf.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@click.option(
    "--sample",
    type=int,
    help="Chunks of 1024 x 1024 pixels to measure stored bytes on; 0 for none.  "
    "[default: 64; with --against 8]",
)
@click.option(
    "--against",
    type=WORDS,
    default=(),
    help="Compare with other codecs on these chunks: jpeg, webp, jxl, avif, png.",
)
@click.option(
    "--entropy-constrained",
    is_flag=True,
    help="Compare with what --target-bpp gives at the entropy of each, on the same curve.",
)
@fixing
@reading
@spacing
@click.option(
    "--refine",
    type=number_or("passes", "converge"),
    default=0,
    show_default=True,
    help="Passes over all pixels of many or deep bands for each number of colours, or converge.",
)
@seeding
@coding
@connecting
@telling
def sweep(
    src: str,
    *,
    as_json: str | None,
    as_csv: str | None,
    plot: str | None,
    overwrite: bool,
    quiet: bool,
    verbose: int,
    **options: Any,
) -> None:
    """Say what numbers of colours cost and give for the image SRC.

    Reads SRC once; writes no bundle. Of each number of colours: the error, the entropy of the
    indices in bits per pixel, and the bytes of image.zarr, estimated from some chunks of indices as
    they are stored, with the standard error; without a sample by the entropy. With --against also
    the PSNR that other codecs reach on these chunks, in the same bytes.
    """
    from kmdask import sweeping
    from kmdask.free import check_files

    named = [path for path in (as_json, as_csv, plot) if path is not None]
    if len(set(named)) < len(named):
        raise click.UsageError("--json, --csv and --plot need a file each.")
    told = set_up(quiet=quiet, verbose=verbose)
    where = {name: options.pop(name) for name in CONNECTING}
    with plain_errors():
        check_files(as_json, as_csv, plot, source=src, overwrite=overwrite)
        if plot is not None:
            from kmdask.plotting.sheets import check_file

            check_file(plot, overwrite=overwrite)
        table = sweeping.sweep(src, client=chosen(**where), progress=told, **options)
        # First of all: what took long is not lost where a file cannot be written.
        show_sweep(table)
        table.write(json=as_json, csv=as_csv, plot=plot, overwrite=overwrite)
