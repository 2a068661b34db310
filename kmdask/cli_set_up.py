"""What every command begins with: logging, progress, and errors in one line."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from kmdask.errors import KmdaskError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmdask.progress import Progress

LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


class Plain(logging.Formatter):
    """What is logged as a sentence, as click shows errors; loggers are for those who ask more."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the sentence."""
        return f"{record.levelname.capitalize()}: {super().format(record)}"


@contextmanager
def plain_errors() -> Iterator[None]:
    """Show what kmdask says against a request in one line, without a traceback."""
    try:
        yield
    except KmdaskError as error:
        raise click.ClickException(str(error)) from error


def set_up(*, quiet: bool, verbose: int) -> Progress:
    """Set the logging level; return whom to tell of progress."""
    from kmdask import progress

    level = LEVELS[-1 if quiet else min(verbose, 2)]
    named = logging.Formatter("%(levelname)s %(name)s: %(message)s")
    handler = logging.StreamHandler()
    handler.setFormatter(named if verbose else Plain())
    logging.basicConfig(level=level, handlers=[handler])
    if not verbose:
        # What a failed task logs on its worker is told once already, by the error.
        for name in ("distributed", "distributed.client"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    return progress.Silent() if quiet else progress.Terminal()
