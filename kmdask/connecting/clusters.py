"""The clusters that can be asked for: one of this machine's, started; another one, reached."""

from __future__ import annotations

import json
import socket
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask

from kmdask.errors import ClusterError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client, LocalCluster, Security

LOOPBACK = "127.0.0.1"

NO_PROFILE = {"distributed.worker.profile.enabled": False} if sys.version_info < (3, 12) else {}
"""Python 3.11 may stop for ever if garbage is collected while somebody asks what all threads do, as
Dask's profiler does a hundred times a second (CPython issue 106883)."""

SELDOM = {"distributed.admin.tick.interval": "500ms"}
"""How often Dask looks whether its loops are late: fifty times a second, as it does otherwise, take
a fiftieth of a core from the work."""

DASHBOARD_PORT = 8787

QUEUEING = 600
"""Seconds that a cluster without workers may take to start one: batch systems let jobs wait."""

PATIENCE = 10
"""Seconds that a scheduler may take to answer."""


@dataclass(frozen=True)
class Local:
    """A cluster of this machine, for the length of a run; nobody else can reach it.

    With `workers` or a `memory_limit` it has processes, else it is within this one. In a program
    that is run from a file, what starts processes has to stand under
    ``if __name__ == "__main__":``.

    Parameters
    ----------
    workers : int, optional
        Number of worker processes. By default Dask chooses, if it is to be processes at all.
    threads : int, optional
        Threads of each worker. By default the cores, shared out among the workers.
    memory_limit : str or int, optional
        Memory of each worker process, as Dask takes it: "2GB", "auto" for its share of this
        machine's, or a number of bytes. Dask ends a process that takes more, and starts another.

    Raises
    ------
    ParameterError
        If one of them is out of its range.

    Examples
    --------
    >>> Local(workers=2, threads=4, memory_limit="3GB").processes
    True
    >>> Local(threads=4).processes
    False
    """

    workers: int | None = None
    threads: int | None = None
    memory_limit: str | int | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ParameterError(f"{name} is an integer, 1 or greater; got {value!r}")
        if self.memory_limit is not None and not _is_size(self.memory_limit):
            msg = (
                "memory_limit is a number of bytes such as '2GB' or '1.5GiB', or 'auto'; "
                f"got {self.memory_limit!r}"
            )
            raise ParameterError(msg)

    @property
    def processes(self) -> bool:
        """Whether workers are processes of their own."""
        return self.workers is not None or self.memory_limit is not None

    @contextmanager
    def started(self) -> Iterator[LocalCluster]:
        """Start it, and close it at the end.

        Raises
        ------
        ClusterError
            If it cannot be started.
        """
        from distributed import LocalCluster

        from kmdask.connecting.dashboards import on_demand

        port = DASHBOARD_PORT if _is_free(DASHBOARD_PORT) else 0
        # The in-process scheduler names the machine in its link, where the dashboard is not.
        link = {"distributed.dashboard.link": f"http://{LOOPBACK}:{{port}}/status"}
        with dask.config.set(link | NO_PROFILE | SELDOM):
            try:
                cluster = LocalCluster(
                    dashboard_address=f"{LOOPBACK}:{port}",
                    worker_dashboard_address=f"{LOOPBACK}:0",
                    scheduler_kwargs={"dashboard": False},
                    **self._options(),
                )
            except (OSError, RuntimeError) as error:
                msg = f"a cluster cannot be started on this machine as {self}: {error}"
                raise ClusterError(msg) from error
            with cluster:
                on_demand(cluster)
                yield cluster

    def _options(self) -> dict[str, Any]:
        if not self.processes:
            from kmdask.connecting.dashboards import Worker

            return {
                "processes": False,
                "n_workers": 1,
                "threads_per_worker": self.threads,
                "worker_class": Worker,
            }
        return {
            "processes": True,
            "host": LOOPBACK,
            "n_workers": self.workers,
            "threads_per_worker": self.threads,
            "memory_limit": "auto" if self.memory_limit is None else self.memory_limit,
        }


@dataclass(frozen=True)
class Remote:
    """A cluster that is there already.

    Parameters
    ----------
    address : str, optional
        The address of its scheduler ("tcp://host:8786", "tls://host:8786"), or the path of its
        scheduler file (ending in ".json"). By default what Dask is configured for.
    tls_ca_file, tls_cert, tls_key : str, optional
        For ``tls://``: files in PEM format with the certificate that signed those of the cluster,
        a certificate for the client, and its key (which may be in the file of the certificate).
        By default what Dask is configured for, ``distributed.comm.tls``.

    Raises
    ------
    ParameterError
        If one of the files is not there.

    Examples
    --------
    >>> Remote("tls://head:8786", tls_ca_file="ca.pem")
    Traceback (most recent call last):
    kmdask.errors.ParameterError: tls_ca_file is the path of a file in PEM format; there is no
    file 'ca.pem'
    """

    address: str | None = None
    tls_ca_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    def __post_init__(self) -> None:
        for name in ("tls_ca_file", "tls_cert", "tls_key"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                msg = f"{name} is the path of a file in PEM format; there is no file {path!r}"
                raise ParameterError(msg)

    def reached(self) -> Client:
        """Connect to it.

        Returns
        -------
        distributed.Client
            One that is to be closed, and that is not made the default one.

        Raises
        ------
        ClusterError
            If nobody answers there, or the two do not trust each other.
        """
        where = self.address or dask.config.get("scheduler-address", None)
        if not where:
            raise ParameterError("there are TLS files but no address of a scheduler; give one")
        where = str(where)
        address = _scheduler_in(Path(where)) if where.endswith(".json") else where
        try:
            security = self._security()
            _knock(address, security)
            return client_of(address, security)
        # RuntimeError: Dask is configured to insist on encryption.
        except (OSError, ValueError, RuntimeError) as error:
            msg = (
                f"there is no Dask scheduler to talk to at {where!r}: {error}; start one with "
                "`dask scheduler`, or leave the address out to use this machine"
            )
            raise ClusterError(msg) from error

    def _security(self) -> Security:
        from distributed import Security

        given = {
            "tls_ca_file": self.tls_ca_file,
            "tls_client_cert": self.tls_cert,
            "tls_client_key": self.tls_key,
        }
        return Security(**{name: path for name, path in given.items() if path is not None})


def client_of(where: LocalCluster | str, security: Security | None = None) -> Client:
    """Return a client that is not the default one.

    Were it that, a client that fails would stay so and be used by the next run.
    """
    from distributed import Client

    return Client(where, security=security, set_as_default=False, timeout=PATIENCE)


def address_of(client: Client) -> str:
    """Address of the scheduler of a client; "" if that has lost it."""
    return "" if client.scheduler is None else str(client.scheduler.address)


def _knock(address: str, security: Security) -> None:
    """Raise an `OSError` or `ValueError` soon if no scheduler answers at an address.

    A client would try again until its time-out, and one that fails then cannot be closed.
    """
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend

    scheme, location = parse_address(address)
    get_backend(scheme)
    if scheme not in {"tcp", "tls"}:
        return
    secrets = security.get_connection_args("client")["ssl_context"] if scheme == "tls" else None
    if scheme == "tls" and secrets is None:
        raise ValueError(
            "it is encrypted, and there is no certificate to show it: give tls_ca_file, tls_cert "
            "and tls_key (--tls-ca-file, --tls-cert, --tls-key), or configure distributed.comm.tls"
        )
    with socket.create_connection(parse_host_port(location), timeout=PATIENCE) as plain:
        line = plain if secrets is None else secrets.wrap_socket(plain)
        # The scheduler speaks first. Only here does one show that refuses our certificate.
        try:
            answered = line.recv(1)
        except TimeoutError as error:
            hint = "" if secrets else "; it may be encrypted, then its address begins with tls://"
            raise TimeoutError(f"it does not speak as a scheduler does{hint}") from error
        finally:
            line.close()
    if not answered:
        raise ConnectionError("it closes the connection at once, as no scheduler does")


def _scheduler_in(file: Path) -> str:
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        msg = (
            f"{str(file)!r} is no scheduler file: {error!r}; "
            f"start one with `dask scheduler --scheduler-file {file}` first"
        )
        raise ClusterError(msg) from error


def _is_size(size: object) -> bool:
    """Whether Dask takes something for a limit of memory, and one that is a limit."""
    from dask.utils import parse_bytes

    if isinstance(size, bool) or not isinstance(size, str | int):
        return False
    try:
        return size == "auto" or parse_bytes(size) >= 1
    except ValueError:
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
