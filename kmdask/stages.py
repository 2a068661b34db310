"""The stages of a run: timed, shown, waited for, and cleared up after when one fails."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dask
from distributed import CancelledError, as_completed, futures_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client, Future

    from kmdask.progress import Progress

SETTLING_SECONDS = 0.05

PATIENCE = 60
"""Seconds to wait, after a failure, for tasks that run already."""


@dataclass
class Stages:
    """Runs the stages of a compression: times them, shows them, waits for their tasks."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time and show one stage."""
        start = time.perf_counter()
        with self.progress.stage(name):
            yield
        self.seconds[name] = round(time.perf_counter() - start, 3)

    def run(self, client: Client, *collections: Any) -> tuple[Any, ...]:
        """Persist collections and wait until they are computed; raise what their tasks raise."""
        # Optimized, a Delayed and an array go apart and read every chunk for each of them.
        persisted = dask.persist(*collections, optimize_graph=False)
        futures = futures_of(persisted)
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                if future.status != "finished":
                    future.result()
                self.progress.advance(done, len(futures))
        except BaseException:
            _settle(client, futures)
            raise
        return tuple(persisted)


def _settle(client: Client, futures: list[Future[Any]]) -> None:
    """Cancel tasks, and wait for those that run: late writes would bring back what is removed."""
    groups = {_group(future.key) for future in futures}
    with suppress(OSError, CancelledError):
        client.cancel(futures)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and any(
            _group(key) in groups for running in client.call_stack().values() for key in running
        ):
            time.sleep(SETTLING_SECONDS)


def _group(key: Any) -> str:
    return str(key[0] if isinstance(key, tuple) else key)
