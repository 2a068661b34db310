"""Which Dask cluster a run uses: one that is given, one that is there, or one of its own."""

from __future__ import annotations

import warnings
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
        If the cluster cannot be reached.
    """
    from distributed import Client

    given = client if isinstance(client, Client) else None if client else _current_client()
    if given is not None:
        with given.as_current():
            yield given
        return
    address = client or dask.config.get("scheduler-address", None)
    if address is None:
        with local_cluster() as cluster, Client(cluster) as connected:
            yield connected
        return
    with _reach(str(address)) as connected:
        yield connected


@contextmanager
def local_cluster() -> Iterator[LocalCluster]:
    """Start a cluster in this process, with a thread for each core, on the loopback address."""
    from distributed import LocalCluster

    # The in-process scheduler names the machine in its link, where the dashboard does not listen.
    link = {"distributed.dashboard.link": f"http://{LOOPBACK}:{{port}}/status"}
    with dask.config.set(link):
        with warnings.catch_warnings():
            # Where the port is taken Dask takes another one, and the link says which.
            warnings.filterwarnings("ignore", f"Port {DASHBOARD_PORT} is already in use")
            cluster = LocalCluster(
                processes=False,
                n_workers=1,
                dashboard_address=f"{LOOPBACK}:{DASHBOARD_PORT}",
                worker_dashboard_address=f"{LOOPBACK}:0",
            )
        with cluster:
            yield cluster


def _current_client() -> Client | None:
    from distributed import default_client

    try:
        client: Client = default_client()
    except ValueError:
        return None
    return client


def _reach(address: str) -> Client:
    from distributed import Client

    try:
        if address.endswith(".json"):
            if not Path(address).is_file():
                msg = f"there is no scheduler file {address!r}; start dask-scheduler with it first"
                raise ClusterError(msg)
            return Client(scheduler_file=address)
        return Client(address)
    except (OSError, ValueError) as error:
        if isinstance(error, ClusterError):
            raise
        msg = (
            f"there is no Dask scheduler at {address!r}: {error}; start one with `dask scheduler`, "
            "or leave the address out to use this machine"
        )
        raise ClusterError(msg) from error
