"""The command that fits a palette to images and compresses nothing."""

from __future__ import annotations

import json
import shlex
from typing import Any

import click

from kmdask.cli_options import (
    CONNECTING,
    chosen,
    connecting,
    fitting,
    fixing,
    reading,
    seeding,
    talking,
)
from kmdask.cli_set_up import plain_errors, set_up
from kmdask.units import several


@click.command()
@click.argument("paths", metavar="SRC... OUT", nargs=-1, required=True)
@click.option("-k", "k", type=int, required=True, help="Number of colours, 1 to 65536.")
@fixing
@reading
@fitting
@seeding
@click.option("--overwrite", is_flag=True, help="Replace a palette that is there already.")
@connecting
@talking
def fit(
    paths: tuple[str, ...],
    *,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **options: Any,
) -> None:
    """Fit one palette to the images SRC and write it to the file OUT, which ends in .json.

    Nothing is compressed; kmdask compress SRC --palette OUT does that, of these images, of regions
    of them or of others of the same bands.
    """
    from kmdask import palette_fit

    # As one argument: of two, click would say of a lone path that SRC is missing, not OUT.
    *sources, out = paths
    if not sources:
        usage = f"kmdask fit {shlex.quote(out)} OUT.json -k K"
        raise click.UsageError(f"the palette needs a file of its own, last: {usage}")
    told = set_up(quiet=quiet, verbose=verbose)
    where = {name: options.pop(name) for name in CONNECTING}
    with plain_errors():
        cluster = chosen(**where)
        saved = palette_fit.fit(sources, out=out, client=cluster, progress=told, **options)
    entries = len(saved.palette)
    result = {"path": saved.path, "sources": saved.sources, "k": saved.k, "k_used": entries}
    click.echo(json.dumps(result) if as_json else f"{saved.path}: {several(entries, 'colour')}")
