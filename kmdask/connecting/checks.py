"""What a run needs of workers on other machines, looked at before it starts.

Each of these would otherwise end in an error that says neither what is wrong nor where: a worker
without kmdask in none at all, for it is taken down by its first task.
"""

from __future__ import annotations

import pkgutil
import socket
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from kmdask import __version__, storage
from kmdask.connecting.clusters import address_of
from kmdask.connecting.probes import (
    SHARED,
    Room,
    Seen,
    look_around,
    name_of,
    stored_bytes,
    take_away,
)
from kmdask.errors import ClusterError, OutputError, SourceError, writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from distributed import Client

    from kmdask.places import Place
    from kmdask.reading.sources import Source

VERSION = "kmdask:__version__"

SHOWN = 3
"""Workers that a message names, of all that have the same trouble."""

PATIENCE = 30
"""Seconds that a worker may take to look at a source and at a directory."""


def check_workers(client: Client, source: Source | None, folder: Place, output: Place) -> None:
    """Raise if a worker cannot take part in a run, and say which and why.

    Workers within this process need no look.

    Parameters
    ----------
    client : distributed.Client
    source : Source or None
        The image, if it is at a path, as this machine found it.
    folder : Path or UPath
        A directory that is there, on the storage that is to be written to. Small files are put
        there and taken away again.
    output : Path or UPath
        What is to be written in the end.

    Raises
    ------
    ClusterError
        If kmdask is missing on a machine, or is of another version there, or something else that
        a worker needs to look at all; or a file system does not answer.
    SourceError
        If a worker cannot read the source, or finds another image there.
    OutputError
        If a worker cannot write into the folder, or does not see what others write there.
    """
    if in_process(client):
        return
    check_versions(client)
    _refuse(ask_workers(client, source, Room(folder, str(output), new_mark())))


def check_readers(client: Client, sources: Iterable[Source | None]) -> None:
    """Raise if a worker cannot take part in reading; see `check_workers`."""
    if in_process(client):
        return
    check_versions(client)
    for source in sources:
        _refuse(ask_workers(client, source))


def _refuse(seen: Mapping[str, Seen]) -> None:
    if told := told_of({who: each.failed for who, each in seen.items()}):
        raise ClusterError(told)
    if told := told_of({who: each.source for who, each in seen.items()}):
        raise SourceError(told)
    if told := told_of({who: each.output for who, each in seen.items()}):
        raise OutputError(told)


def in_process(client: Client) -> bool:
    """Whether the scheduler, and so its workers, are within this process."""
    return address_of(client).startswith("inproc://")


def check_versions(client: Client) -> None:
    """Raise a `ClusterError` if the scheduler or a worker has not this version of kmdask."""
    if amiss := versions_amiss(client):
        raise different(amiss)


def different(amiss: Mapping[str, str]) -> ClusterError:
    """Say what `versions_amiss` found."""
    return ClusterError(f"{told_of(amiss)}; install kmdask {__version__} on every machine")


def versions_amiss(client: Client) -> dict[str, str]:
    """What is wrong with kmdask on the machines of a cluster, for those where something is.

    Asked by nothing but Python's own functions: others could not be sent where kmdask is missing.
    """
    if in_process(client):
        return {}
    found: dict[str, Any] = client.run(pkgutil.resolve_name, VERSION, on_error="return")
    hosts: dict[str, Any] = client.run(socket.gethostname, on_error="return")
    told = {
        f"worker {who} (host {hosts.get(who, 'unknown')})": _version_told(version)
        for who, version in found.items()
    }
    try:
        version: object = client.run_on_scheduler(pkgutil.resolve_name, VERSION)
    except (ImportError, AttributeError) as error:
        version = error
    except ValueError:
        # It takes nothing that it would have to unpickle.
        version = __version__
    told[f"scheduler {address_of(client)}"] = _version_told(version)
    return {who: text for who, text in told.items() if text}


def _version_told(version: object) -> str:
    if version == __version__:
        return ""
    if isinstance(version, ImportError):
        return f"has no kmdask ({version})"
    if isinstance(version, Exception):
        return f"cannot say its version of kmdask ({version!r})"
    return f"has kmdask {version}, and this machine {__version__}"


def ask_workers(
    client: Client, source: Source | None = None, room: Room | None = None
) -> dict[str, Seen]:
    """Have every worker look at the source and at the folder.

    Parameters
    ----------
    client : distributed.Client
        Of a cluster whose workers have this version of kmdask.
    source : Source, optional
        As in `check_workers`; None is not looked at.
    room : Room, optional
        Where the output is to be; None is not looked at.

    Returns
    -------
    dict of str to Seen
        What each worker saw. The keys call it by its address and its host.

    Raises
    ------
    OutputError
        If this machine itself cannot write into the folder.
    """
    stored = 0 if source is None else stored_bytes(source)
    with _marked(room):
        answers: dict[str, Any] = client.run(
            look_around, (source, stored), room, patience=PATIENCE, on_error="return"
        )
        seen = {
            who: each if isinstance(each, Seen) else Seen.nothing(f"cannot look: {each!r}")
            for who, each in answers.items()
        }
        for who, each in seen.items():
            well = not (each.output or each.failed)
            if room is not None and well and not _took_away(room, who):
                client.run(take_away, room.folder, name_of(room.mark, who), workers=[who])
                text = f"writes {room.output!r} where this machine does not see it; {SHARED}"
                seen[who] = replace(each, output=text)
    return {f"worker {who} (host {each.host})": each for who, each in seen.items()}


def new_mark() -> str:
    """Name a file that nobody has."""
    return f".probe-{uuid4().hex}"


@contextmanager
def _marked(room: Room | None) -> Iterator[None]:
    """Put the mark of a room into it for the length of a block."""
    if room is None:
        yield
        return
    with writing(room.folder):
        storage.write_file(room.folder / room.mark, room.mark.encode())
    try:
        yield
    finally:
        with writing(room.folder):
            storage.remove(room.folder / room.mark)


def _took_away(room: Room, who: str) -> bool:
    """Remove what a worker wrote; return whether it was there to be seen."""
    file = room.folder / name_of(room.mark, who)
    with writing(room.folder):
        try:
            storage.read_file(file)
        except FileNotFoundError:
            return False
        storage.remove(file)
    return True


def told_of(troubles: Mapping[str, str]) -> str:
    """Put the troubles of workers into one line that names the first of them; "" if none has any.

    Examples
    --------
    >>> told_of({"worker 1": "has no kmdask", "worker 2": "", "worker 3": "has no kmdask"})
    'worker 1 has no kmdask; so worker 3'
    """
    texts: dict[str, list[str]] = {}
    for who, text in troubles.items():
        if text:
            texts.setdefault(text, []).append(who)
    return "; ".join(f"{who} {text}{_others(more)}" for text, (who, *more) in texts.items())


def _others(more: list[str]) -> str:
    if not more:
        return ""
    named = ", ".join(more[: SHOWN - 1])
    left = len(more) - (SHOWN - 1)
    return f"; so {named}" + (f" and {left} more" if left > 0 else "")
