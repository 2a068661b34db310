"""Options that several commands take, and what those that name a cluster mean together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmdask.connecting.clusters import Local, Remote

CONNECTING = (
    "scheduler",
    "scheduler_file",
    "tls_ca_file",
    "tls_cert",
    "tls_key",
    "workers",
    "threads",
    "memory_limit",
)
"""The options that `chosen` takes."""


def options(*added: Callable[..., Any]) -> Callable[..., Any]:
    """Add several options to a command."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(added):
            command = option(command)
        return command

    return add


connecting = options(
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Dask scheduler to use: tcp://host:8786, tls://host:8786, or its scheduler file.  "
        "[default: the configured one, else this machine]",
    ),
    click.option("--scheduler-file", metavar="FILE", help="The file a scheduler wrote."),
    click.option("--tls-ca-file", metavar="FILE", help="For tls://: who signs for the cluster."),
    click.option("--tls-cert", metavar="FILE", help="For tls://: certificate to show."),
    click.option("--tls-key", metavar="FILE", help="For tls://: its key."),
    click.option("--workers", type=int, help="On this machine: number of worker processes."),
    click.option("--threads", type=int, help="On this machine: threads of each worker."),
    click.option(
        "--memory-limit", metavar="SIZE", help="On this machine: memory of each worker, as 2GB."
    ),
)


def chosen(
    *,
    scheduler: str | None,
    scheduler_file: str | None,
    workers: int | None,
    threads: int | None,
    memory_limit: str | None,
    **tls: str | None,
) -> Local | Remote | None:
    """Which cluster the options ask for; None if it is left to Dask's configuration."""
    local = {"workers": workers, "threads": threads, "memory_limit": memory_limit}
    there = {"scheduler": scheduler, "scheduler_file": scheduler_file, **tls}
    asked_local, asked_there = (
        [f"--{name.replace('_', '-')}" for name, value in asked.items() if value is not None]
        for asked in (local, there)
    )
    if asked_local and asked_there:
        raise click.UsageError(
            f"{asked_there[0]} is for a cluster that is there, {asked_local[0]} for one of this "
            "machine; give one of them"
        )
    if scheduler is not None and scheduler_file is not None:
        raise click.UsageError("--scheduler and --scheduler-file name one thing; give one of them")
    from kmdask.connecting.clusters import Local, Remote

    if asked_there:
        return Remote(scheduler_file if scheduler is None else scheduler, **tls)
    if asked_local:
        return Local(workers, threads, memory_limit)
    return None
