"""The command that opens a page on a bundle."""

from __future__ import annotations

import signal
import threading
import webbrowser
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

from kmdask.cli_options import original_of, telling
from kmdask.cli_set_up import plain_errors, set_up
from kmdask.errors import KmdaskError

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command()
@click.argument("out")
@original_of
@click.option("--no-original", is_flag=True, help="Show the compressed image alone.")
@click.option("--port", default=0, help="Port to serve on.  [default: any that is free]")
@click.option("--no-browser", is_flag=True, help="Print the address and open no browser.")
@click.option(
    "--export",
    "folder",
    metavar="DIR",
    help="Write the page into the folder DIR, for any web server, and serve nothing.",
)
@click.option("--overwrite", is_flag=True, help="Replace an exported page that is there already.")
@telling
def view(
    out: str,
    *,
    original: str | None,
    no_original: bool,
    port: int,
    no_browser: bool,
    folder: str | None,
    overwrite: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Look at the bundle OUT beside its original, in the browser.

    Serves a page on this machine until Ctrl-C; nothing is loaded from the internet. The page is
    there at once, tiles of the original appear when they are made, in one pass over it.
    """
    if original is not None and no_original:
        raise click.UsageError("--original and --no-original exclude each other; give one of them.")
    from kmdask.viewing import show

    told = set_up(quiet=quiet, verbose=verbose)
    source = False if no_original else original
    with plain_errors(), ended_as_by_ctrl_c():
        if folder is not None:
            show.export_view(out, folder, source, overwrite=overwrite, progress=told)
            click.echo(folder)
            return
        with suppress(KeyboardInterrupt), show.view(out, source, port=port, progress=told) as page:
            click.echo(page.url)
            if not no_browser:
                webbrowser.open(page.url)
            with suppress(KmdaskError):
                page.wait()
            if reason := page.original["reason"]:
                click.echo(f"No original: {reason}", err=True)
            threading.Event().wait()


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Clear up as well when the process is ended in the ordinary way, or with its terminal."""
    names = {"SIGTERM", "SIGHUP"} & {*dir(signal)}  # Windows has no SIGHUP
    numbers = [getattr(signal, name) for name in names]
    # What is ignored stays so: nohup means it.
    mine = [each for each in numbers if signal.getsignal(each) is signal.SIG_DFL]
    for each in mine:
        signal.signal(each, signal.default_int_handler)
    try:
        yield
    finally:
        for each in mine:
            signal.signal(each, signal.SIG_DFL)
