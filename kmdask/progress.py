"""Progress on standard error."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress as RichProgress

logger = logging.getLogger(__name__)

QUIET_SECONDS = 5.0
"""Time between two lines where nobody can see a bar move."""


class Progress(Protocol):
    """Is told what a run is doing."""

    def connected(self, dashboard: str) -> None:
        """A cluster is there, and this is the link of its dashboard."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage of the run, from the beginning of the block to its end."""

    def advance(self, done: int, total: int) -> None:
        """So many of the tasks of this stage are done."""


class Silent:
    """Tells the log alone."""

    def connected(self, dashboard: str) -> None:
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


class Terminal:
    """A bar for each stage on a terminal, a line every few seconds elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: RichProgress | None = None
        self._name = ""
        self._printed = 0.0

    def connected(self, dashboard: str) -> None:
        """Show the link."""
        self.console.print(f"{'dashboard':<10} {dashboard}")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show that a stage is going, and at its end how long it took."""
        self._name = name
        start = self._printed = time.perf_counter()
        if self.console.is_terminal:
            with self._new_bar() as self._bar:
                self._bar.add_task(name, total=None)
                yield
        else:
            self.console.print(f"{name:<10} ...")
            yield
        self.console.print(f"{name:<10} {time.perf_counter() - start:.1f} s")

    def advance(self, done: int, total: int) -> None:
        """Move the bar, or print a line if it is time for one."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[-1], completed=done, total=total)
        elif time.perf_counter() - self._printed >= QUIET_SECONDS:
            self._printed = time.perf_counter()
            self.console.print(f"{self._name:<10} {done / total:.0%}")

    def _new_bar(self) -> RichProgress:
        from rich import progress

        return progress.Progress(
            progress.TextColumn("{task.description:<10}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
