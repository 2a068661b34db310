"""What a scheduler can tell of a run: the span of each stage, what runs just now, a report."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmdask import storage
from kmdask.errors import ParameterError
from kmdask.free import check_writable
from kmdask.writing.publish import Kind, check_free, publishing

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from distributed import Client, Scheduler

    from kmdask.places import Place

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Time between two questions of what runs; schedulers log each of them."""

LAST_ANSWER_SECONDS = 5.0
"""How long to wait, at the end, for an answer that is still to come."""

REPORT = Kind("performance report", storage.is_file)
ENDING = ".html"


@contextmanager
def looking(
    client: Client, span: str, *, wanted: Callable[[], bool], tell: Callable[[str], None]
) -> Iterator[None]:
    """Tell again and again which tasks of a span run, as the scheduler counts them.

    For stages whose tasks nobody knows beforehand: a fit submits its steps one by one, and an
    estimator of somebody else's does what it likes.

    Parameters
    ----------
    client : distributed.Client
    span : str
        The id of the span.
    wanted : callable
        Whether to ask at all at the moment.
    tell : callable
        Takes a line, from a thread of its own.
    """
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            if not wanted():
                continue
            try:
                text = client.run_on_scheduler(tasks_at_work, span=span)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                # Whatever it is, the run goes on without; if the cluster is lost, it says so.
                logger.debug("the scheduler does not say what runs: %r", error)
                return
            if text and wanted() and not over.is_set():
                tell(text)

    watcher = threading.Thread(target=look, name="kmdask-looking", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(LAST_ANSWER_SECONDS)


def tasks_at_work(dask_scheduler: Scheduler, span: str) -> str:
    """Say, on the scheduler, which tasks of a span run: "lloyd-step 7: 3 of 8 tasks".

    The first number is how many groups of that name there were, one for each step. Of a single task
    no number of tasks is told: "measure".
    """
    extension: Any = dask_scheduler.extensions.get("spans")
    known = extension and extension.spans.get(span)
    if not known:
        return ""
    groups = list(known.groups)
    running = [group for group in groups if group.states["processing"]]
    if not running:
        return ""
    group = max(running, key=lambda group: group.states["processing"])
    same = sum(other.prefix is group.prefix for other in groups)
    states = group.states
    done = states["memory"] + states["released"] + states["erred"] + states["forgotten"]
    name = group.prefix.name + (f" {same}" if same > 1 else "")
    total = sum(states.values())
    return f"{name}: {done} of {total} tasks" if total > 1 else name


@contextmanager
def performance_report(
    path: str | os.PathLike[str] | None, *, apart: Place, overwrite: bool
) -> Iterator[None]:
    """Write Dask's performance report of a block, on the current client, when it is over.

    The page needs no network to be looked at. It is written by this process, and stands at its
    path when the block ended well; a block that fails leaves none.

    Parameters
    ----------
    path : str or path-like, optional
        The page to write, ending in ``.html``. By default there is none.
    apart : Path or UPath
        A directory that the block replaces, so that the page cannot stand in it.
    overwrite : bool
        Whether a file that stands there may be replaced.

    Raises
    ------
    ParameterError
        If the path does not end so, or lies in `apart`.
    OutputExistsError
        If something stands there that may not be replaced.
    OutputError
        If nothing can be written there. All of this is found out before the block begins; what
        goes wrong with the report later is no reason to lose the run, and is logged.
    """
    if path is None:
        yield
        return
    out = Path(path).absolute()
    _check(out, apart)
    check_free(out, REPORT, overwrite=overwrite)
    check_writable(out)
    import distributed

    # By the page itself, for a browser may have no network where a cluster has none.
    report = distributed.performance_report(mode="inline")
    report.__enter__()
    yield
    # As a block, it would ask a cluster that was just lost, and hide that error with its own.
    try:
        with publishing(out, REPORT, overwrite=overwrite) as partial:
            report.filename = str(partial)
            report.__exit__(None, None, None)
    except Exception as error:  # noqa: BLE001  the scheduler's, bokeh's, the disk's: the run counts
        logger.warning("there is no performance report at %s: %r", out, error)


def _check(out: Path, apart: Place) -> None:
    if out.suffix.lower() != ENDING:
        msg = f"a performance report is a page, {ENDING}; got {str(out)!r}"
        raise ParameterError(msg)
    if apart in out.parents:
        msg = (
            f"the performance report {str(out)!r} lies in the output {str(apart)!r}, which is "
            "replaced as a whole; give another path"
        )
        raise ParameterError(msg)
