"""Progress on standard error, or in a notebook."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import Task

logger = logging.getLogger(__name__)

QUIET_SECONDS = 5.0
"""Time between two lines where nobody can see a bar move."""


class Progress(Protocol):
    """Is told what a run is doing, in the order in which it happens.

    `note` may come from another thread than the others.
    """

    def connected(self, dashboard: str | None) -> None:
        """A cluster is there, and this is the link of its dashboard, if it has one."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage of the run, from the beginning of the block to its end."""

    def advance(self, done: int, total: int) -> None:
        """So many pixels of the image, of so many, are done: from none to all, in every pass.

        Never fewer than before, but where a stage begins another pass over the image.
        """

    def note(self, text: str) -> None:
        """What else there is to say of the stage: passes, tasks, the compiler, work that was lost.

        Whoever calls waits for it, which may be a thread that compiles kernels.
        """


class Silent:
    """Tells the log alone."""

    def connected(self, dashboard: str | None) -> None:
        """Log the link."""
        logger.info("dashboard: %s", dashboard)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Log the time a stage took."""
        start = time.perf_counter()
        yield
        logger.info("%s: %.2f s", name, time.perf_counter() - start)

    def advance(self, done: int, total: int) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Log it, where everything is logged."""
        logger.debug("%s", text)


class Terminal:
    """A bar for each stage on a terminal and in a notebook, a line every few seconds elsewhere.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to show it. By default standard error or, in a notebook, below its cell; for a bar
        there ipywidgets must be installed.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._drawn = self.console.is_terminal or (
            self.console.is_jupyter and find_spec("ipywidgets") is not None
        )
        self._bar = self._new_bar()
        self._printed = 0.0
        self._noted = False

    def connected(self, dashboard: str | None) -> None:
        """Show the link."""
        self.console.print(f"{'dashboard':<10} {dashboard or 'none'}")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show that a stage is going, and at its end how long it took."""
        start = self._printed = time.perf_counter()
        self._noted = False
        with self._new_bar() as self._bar:
            self._bar.add_task(name, total=None, rate="", note="")
            if not self._drawn:
                self.console.print(f"{name:<10} ...")
            yield
        self.console.print(f"{name:<10} {time.perf_counter() - start:.1f} s")

    def advance(self, done: int, total: int) -> None:
        """Move the bar, or print a line if it is time for one."""
        for task in self._bar.tasks:
            if done < task.completed:
                self._bar.reset(task.id, **task.fields)
            self._bar.update(task.id, completed=done, total=total)
            self._bar.update(task.id, rate=_rate(task))
        self._print()

    def note(self, text: str) -> None:
        """Say it behind the bar and in the lines that follow."""
        for task in self._bar.tasks:
            self._bar.update(task.id, note=text)
        # The first of a stage at once: when it is time for a line it may be over.
        self._print(now=bool(text) and not self._noted)
        self._noted = self._noted or bool(text)

    def _print(self, *, now: bool = False) -> None:
        quiet = time.perf_counter() - self._printed < QUIET_SECONDS
        if not self._drawn and (now or not quiet):
            self._printed = time.perf_counter()
            for line in filter(None, map(_line, self._bar.tasks)):
                self.console.print(line)

    def _new_bar(self) -> RichProgress:
        from rich import progress

        return progress.Progress(
            progress.TextColumn("{task.description:<10}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
            # Not drawn, it still reckons speeds and the time that is left.
            disable=not self._drawn,
        )


def chosen(progress: Progress | bool | None) -> Progress:  # noqa: FBT001  as users give it
    """Whom to tell: True is for `Terminal`, False and None are for `Silent`."""
    if isinstance(progress, bool) or progress is None:
        return Terminal() if progress else Silent()
    return progress


def _line(task: Task) -> str:
    # Rounded down: 100 % is all of it.
    share = "" if task.total is None else f"{int(task.percentage):3} %"
    parts = share, task.fields["rate"], _left(task), task.fields["note"]
    said = "  ".join(filter(None, parts))
    return said and f"{task.description:<10} {said}"


def _rate(task: Task) -> str:
    millions = (task.speed or 0) / 1e6
    # A pass over a sample of the chunks has next to none.
    return f"{millions:.{0 if millions >= 10 else 2}f} Mpx/s" if millions >= 0.01 else ""


def _left(task: Task) -> str:
    seconds = task.time_remaining
    if task.total is None or seconds is None:
        return ""
    return f"{seconds:.0f} s left" if seconds < 100 else f"{timedelta(seconds=seconds)} left"
