"""Which Dask cluster a run uses: one that is given, one that is there, or one of its own."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

import dask

from kmdask.connecting import clusters
from kmdask.connecting.clusters import Local, Remote, address_of
from kmdask.errors import ClusterError, KmdaskError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

logger = logging.getLogger(__name__)

__all__ = ["Connection", "Local", "Remote", "connect"]

Connection: TypeAlias = "Client | Local | Remote | str | None"


@contextmanager
def connect(client: Connection = None) -> Iterator[Client]:
    """Connect to a Dask cluster for the length of a block.

    Parameters
    ----------
    client : distributed.Client, Local, Remote or str, optional
        A client; the address of a scheduler ("tcp://host:8786", "tls://host:8786") or the path of
        a scheduler file (ending in ".json"), in a `Remote` if certificates are to be named; or a
        `Local` cluster to start. By default the current client, if there is one; else the
        scheduler that Dask is configured for (``DASK_SCHEDULER_ADDRESS``); else ``Local()``, a
        cluster in this process with a thread for each core. A cluster that was there before is
        never closed.

    Yields
    ------
    distributed.Client
        The current client within the block.

    Raises
    ------
    ClusterError
        If the cluster cannot be reached, or is lost within the block, or cannot work because its
        machines have not all the same kmdask.

    Examples
    --------
    >>> with connect(Local(threads=1)) as client:
    ...     client.submit(sum, [1, 2]).result()
    3
    """
    where, gone = "", False
    try:
        with _opened(client) as connected:
            where = address_of(connected)
            try:
                with _using(connected), _blaming(connected):
                    yield connected
            finally:
                # A client that has given up on its scheduler fails in many ways.
                gone = connected.status != "running"
    except KmdaskError:
        raise
    except Exception as error:
        told = _told_of_loss(error, gone=gone)
        if told is None:
            raise
        msg = (
            f"the Dask cluster at {where} was lost while it worked: {told}; see the logs of its "
            "scheduler and workers, then try again"
        )
        raise ClusterError(msg) from error


@contextmanager
def _opened(client: Connection) -> Iterator[Client]:
    """Give a client of what is asked for; close it at the end if it was opened here."""
    from distributed import Client

    given = client or _current_client() or dask.config.get("scheduler-address", None) or Local()
    if isinstance(given, Client):
        if given.status not in {"running", "connecting"}:
            raise ClusterError(f"the client {given!r} is {given.status}; give one that is not")
        yield given
    elif isinstance(given, Local):
        with given.started() as cluster, clusters.client_of(cluster) as opened:
            yield opened
    else:
        remote = given if isinstance(given, Remote) else Remote(str(given))
        with remote.reached() as opened:
            yield opened


@contextmanager
def _blaming(client: Client) -> Iterator[None]:
    """Where something fails that could be for different versions, look whether there are some.

    Workers may join while a run is going, after the first look at them.
    """
    from pickle import PickleError

    from distributed import KilledWorker

    try:
        yield
    except (KmdaskError, ArithmeticError, OSError):
        raise
    except (
        ImportError,
        AttributeError,
        TypeError,
        RuntimeError,
        PickleError,
        KilledWorker,
    ) as error:
        from kmdask.connecting.checks import different, versions_amiss

        amiss: dict[str, str] = {}
        # If the cluster is lost at this very moment, what was raised first says more.
        with suppress(OSError, RuntimeError):
            amiss = versions_amiss(client) if client.status == "running" else amiss
        if amiss:
            raise different(amiss) from error
        raise


def _told_of_loss(error: Exception, *, gone: bool) -> str | None:
    """What to say of an error that means that a cluster is lost; None of another one."""
    from distributed import CancelledError, KilledWorker
    from distributed.client import ClosedClientError
    from distributed.comm.core import CommClosedError
    from distributed.core import RPCClosed

    if isinstance(error, KilledWorker):
        last = getattr(error.last_worker, "address", error.last_worker)
        return (
            f"{error.allowed_failures + 1} workers ended, one after the other, at the same task, "
            f"the last one at {last}; mostly they have too little memory, which `kmdask doctor` "
            "can tell"
        )
    lost = (CancelledError, ClosedClientError, CommClosedError, RPCClosed)
    late = isinstance(error, TimeoutError) and _is_of_dask(error)
    if gone:
        return "its scheduler does not answer any more"
    if isinstance(error, lost) or late:
        return " ".join(str(error).split()) or type(error).__name__
    return None


def _is_of_dask(error: Exception) -> bool:
    """Whether an error was raised by Dask's own waiting and not by what is run on it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    return module.partition(".")[0] in {"distributed", "asyncio", "tornado"}


_entering = threading.Lock()
_entered: list[Client] = []
_before: dict[str, str] = {}


@contextmanager
def _using(client: Client) -> Iterator[None]:
    """Make a client the current one of this thread, once its cluster has a worker."""
    _wait_for_a_worker(client)
    # The setting that clients become current by is one for all threads. Blocks in several of them
    # do not end in the order that they began in, so what was set before waits for the last.
    with _entering:
        if not _entered:
            _before.update({"scheduler": dask.config.get("scheduler", None)})
        _entered.append(client)
    try:
        with client.as_current():
            yield
    finally:
        with _entering:
            _entered.remove(client)
            dask.config.set({"scheduler": "dask.distributed"} if _entered else _before)


def _wait_for_a_worker(client: Client) -> None:
    if client.nthreads():
        return
    # Something to do: clusters that adapt start no worker for nothing.
    waiting = client.submit(int, pure=False)
    try:
        client.wait_for_workers(1, timeout=clusters.PATIENCE)
    except TimeoutError:
        logger.warning("%s has no workers yet: waiting for one", address_of(client))
        try:
            client.wait_for_workers(1, timeout=clusters.QUEUEING)
        except TimeoutError as error:
            msg = f"the cluster {client!r} has no workers; start some with `dask worker`"
            raise ClusterError(msg) from error
    finally:
        waiting.release()


def _current_client() -> Client | None:
    from distributed import default_client

    try:
        client: Client = default_client()
    except ValueError:
        return None
    return client
