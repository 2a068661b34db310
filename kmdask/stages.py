"""The stages of a run: timed, shown, waited for, and cleared up after when one fails."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dask
from distributed import CancelledError, as_completed, futures_of, span

from kmdask.chunks import ceil_div
from kmdask.compiling import when_compiling
from kmdask.watching import looking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client, Future

    from kmdask.progress import Progress

SETTLING_SECONDS = 0.05

COMPILING = "compiling kernels, once on this machine"
"""What there is to say while that goes on, whatever else there is."""

PATIENCE = 60
"""Seconds to wait, after a failure, for tasks that run already."""


OPEN = "open"
"""The stage that has no span of its own: the lazy pixels that it makes belong to the whole run."""


@dataclass
class Stages:
    """Runs the stages of a compression: times them, shows them, waits for their tasks."""

    progress: Progress

    pixels: int = 0
    """What a pass over the image has to do; 0 until it is known."""

    dashboard: str | None = None
    """The link of the cluster's dashboard, once there is a cluster that has one."""

    seconds: dict[str, float] = field(default_factory=dict)

    _client: Client | None = field(default=None, init=False)
    _span: str = field(default="", init=False)
    _passes: int = field(default=0, init=False)
    _counting: bool = field(default=False, init=False)
    _note: str = field(default="", init=False)
    _compiling: bool = field(default=False, init=False)
    _telling: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @contextmanager
    def on(self, client: Client, name: str) -> Iterator[None]:
        """Work on a cluster: what is computed in the block is grouped there under a name."""
        self._client, self.dashboard = client, client.dashboard_link or None
        self.progress.connected(self.dashboard)
        with span("kmdask", name) as self._span:
            yield

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time, show and group one stage."""
        start = time.perf_counter()
        self._passes, self._note, self._compiling = 0, "", False
        with self.progress.stage(name), self._watched(name):
            yield
        self.seconds[name] = round(time.perf_counter() - start, 3)

    def run(self, client: Client, *collections: Any) -> tuple[Any, ...]:
        """Persist collections and wait until they are computed; raise what their tasks raise."""
        # Optimized, a Delayed and an array go apart and read every chunk for each of them.
        persisted = dask.persist(*collections, optimize_graph=False)
        futures = futures_of(persisted)
        self._counting = True
        self._passes += 1
        try:
            self._wait(futures)
        except BaseException:
            _settle(client, futures, collections)
            raise
        finally:
            self._counting = False
        return tuple(persisted)

    def _wait(self, futures: list[Future[Any]]) -> None:
        """Wait for all, and tell of each once: what is lost later is made again, not undone."""
        total = self.pixels or len(futures)
        self.progress.advance(0, total)
        self._tell(f"pass {self._passes}" if self._passes > 1 else "")
        for done, future in enumerate(as_completed(futures), start=1):
            _require_finished(future)
            self.progress.advance(ceil_div(done * total, len(futures)), total)
        while lost := [future for future in futures if future.status == "lost"]:
            self._tell(f"{len(lost)} results were lost with a worker and are made again")
            for future in as_completed(lost):
                _require_finished(future)

    @contextmanager
    def _watched(self, name: str) -> Iterator[None]:
        """Group the tasks of a block, and tell which run where no pass over the image does."""
        if self._client is None:
            yield
            return
        group = nullcontext(self._span) if name == OPEN else span(name)
        with (
            group as key,
            when_compiling(self._compile),
            looking(self._client, key, wanted=self._uncounted, tell=self._tell),
        ):
            yield

    def _tell(self, note: str) -> None:
        # Several threads do: what is said last has to be what is so.
        with self._telling:
            self._note = note
            self._say()

    def _compile(self, going: bool) -> None:  # noqa: FBT001  as `when_compiling` gives it
        with self._telling:
            self._compiling = going
            self._say()

    def _say(self) -> None:
        self.progress.note(COMPILING if self._compiling else self._note)

    def _uncounted(self) -> bool:
        return not self._counting


def _require_finished(future: Future[Any]) -> None:
    if future.status not in {"finished", "lost"}:
        future.result()


def _settle(client: Client, futures: list[Future[Any]], collections: tuple[Any, ...]) -> None:
    """Give tasks up, and wait for those that run: late writes would bring back what is removed.

    Tasks that write may also be on the way to what is wanted.
    """
    groups = {_group(key) for each in collections for key in each.__dask_graph__()}
    # Not Client.cancel: the scheduler fails to cancel what others, wanted by nobody, depend on.
    for future in futures:
        future.release()
    with suppress(OSError, CancelledError):
        until, quiet = time.monotonic() + PATIENCE, 0
        # Twice: a task may be just between waiting and running.
        while time.monotonic() < until and quiet < 2:
            running = {_group(key) for keys in client.call_stack().values() for key in keys}
            quiet = 0 if running & groups else quiet + 1
            time.sleep(SETTLING_SECONDS)


def _group(key: Any) -> str:
    return str(key[0] if isinstance(key, tuple) else key)
