"""Which Dask cluster a run uses: one that is given, one that is there, or one of its own."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import dask

from kmdask.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client, LocalCluster

Connection: TypeAlias = "Client | str | None"

LOOPBACK = "127.0.0.1"
DASHBOARD_PORT = 8787

PATIENCE = 10
"""Seconds that a scheduler may take to answer."""


@contextmanager
def connect(client: Connection = None) -> Iterator[Client]:
    """Connect to a Dask cluster for the length of a block.

    Parameters
    ----------
    client : distributed.Client or str, optional
        A client, the address of a scheduler ("tcp://host:8786"), or the path of a scheduler file
        (ending in ".json"). By default the current client, if there is one; else the scheduler
        that Dask is configured for (``DASK_SCHEDULER_ADDRESS``); else a cluster in this process
        with a thread for each core, which only this machine can reach and which is closed at the
        end. A cluster that was there before is never closed.

    Yields
    ------
    distributed.Client
        The current client within the block.

    Raises
    ------
    ClusterError
        If the cluster cannot be reached, or is lost within the block.
    """
    from distributed import CancelledError, Client, KilledWorker
    from distributed.comm.core import CommClosedError

    given = client if isinstance(client, Client) else None if client else _current_client()
    address = client or dask.config.get("scheduler-address", None)
    try:
        if given is not None:
            with _using(given):
                yield given
        elif address is None:
            with local_cluster() as cluster, _reach(cluster) as connected, _using(connected):
                yield connected
        else:
            with _reach(str(address)) as connected, _using(connected):
                yield connected
    except (CancelledError, CommClosedError, KilledWorker) as error:
        msg = f"the Dask cluster was lost while it worked: {error}; see its logs, then try again"
        raise ClusterError(msg) from error


@contextmanager
def local_cluster() -> Iterator[LocalCluster]:
    """Start a cluster in this process, with a thread for each core, on the loopback address."""
    from distributed import LocalCluster

    port = DASHBOARD_PORT if _is_free(DASHBOARD_PORT) else 0
    # The in-process scheduler names the machine in its link, where the dashboard does not listen.
    link = {"distributed.dashboard.link": f"http://{LOOPBACK}:{{port}}/status"}
    with (
        dask.config.set(link),
        LocalCluster(
            processes=False,
            n_workers=1,
            dashboard_address=f"{LOOPBACK}:{port}",
            worker_dashboard_address=f"{LOOPBACK}:0",
        ) as cluster,
    ):
        yield cluster


_entering = threading.Lock()
_entered = 0
_before: dict[str, str] = {}


@contextmanager
def _using(client: Client) -> Iterator[None]:
    """Make a client the current one of this thread, once its cluster has a worker."""
    global _entered  # noqa: PLW0603
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        msg = f"the cluster {client!r} has no workers; start some with `dask worker`"
        raise ClusterError(msg) from error
    # The setting that clients become current by is one for all threads. Blocks in several of them
    # do not end in the order that they began in, so what was set before waits for the last.
    with _entering:
        if not _entered:
            _before.update({"scheduler": dask.config.get("scheduler", None)})
        _entered += 1
    try:
        with client.as_current():
            yield
    finally:
        with _entering:
            _entered -= 1
            dask.config.set(_before if _entered == 0 else {"scheduler": "dask.distributed"})


def _current_client() -> Client | None:
    from distributed import default_client

    try:
        client: Client = default_client()
    except ValueError:
        return None
    return client


def _reach(where: LocalCluster | str) -> Client:
    from distributed import Client

    address = where
    if isinstance(where, str) and where.endswith(".json"):
        address = _scheduler_in(Path(where))
    try:
        if isinstance(address, str):
            _knock(address)
        # Were it the default, a client that fails here would stay so and be used by the next run.
        return Client(address, set_as_default=False, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        msg = (
            f"there is no Dask scheduler at {where!r}: {error}; start one with `dask scheduler`, "
            "or leave the address out to use this machine"
        )
        raise ClusterError(msg) from error


def _knock(address: str) -> None:
    """Raise an `OSError` or `ValueError` at once if nobody listens at an address.

    A client would wait for its time-out first, and one that fails then cannot be closed.
    """
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend

    scheme, location = parse_address(address)
    get_backend(scheme)
    if scheme in {"tcp", "tls"}:
        socket.create_connection(parse_host_port(location), timeout=PATIENCE).close()


def _scheduler_in(file: Path) -> str:
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        msg = (
            f"{str(file)!r} is no scheduler file: {error!r}; "
            f"start one with `dask scheduler --scheduler-file {file}` first"
        )
        raise ClusterError(msg) from error


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
