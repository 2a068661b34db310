"""What is right and what is wrong with a cluster, a source and an output, before a run."""

from __future__ import annotations

import http.client
import os
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from kmdask import __version__, places, storage
from kmdask.connecting.checks import (
    ask_workers,
    different,
    in_process,
    new_mark,
    told_of,
    versions_amiss,
)
from kmdask.connecting.client import connect
from kmdask.connecting.clusters import address_of
from kmdask.connecting.machines import check_disk, check_libraries, check_memory
from kmdask.connecting.probes import Room
from kmdask.errors import KmdaskError, writing
from kmdask.reading.raster import found_at
from kmdask.units import several
from kmdask.writing.store import is_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

    from kmdask.connecting.client import Connection
    from kmdask.connecting.probes import Seen
    from kmdask.places import Place
    from kmdask.reading.sources import Source

PATIENCE = 5
"""Seconds that a dashboard's machine may take to be reached."""

IMPORTING = 30
"""Seconds that a dashboard may be silent: the first request may have to import all of Bokeh, beside
whatever else the machine does."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "warn", "fail"]
    """Whether it is right, is to be thought of, or would make a run fail."""

    text: str


def examine(
    source: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    client: Connection = None,
) -> list[Check]:
    """Look at all that a run needs, from this machine and from every worker.

    Parameters
    ----------
    source : str or path-like, optional
        The image that is to be compressed. By default none is looked at.
    out : str or path-like, optional
        The bundle that is to be written. Beside it every worker writes a small file, which is
        removed again.
    client : distributed.Client, Local, Remote or str, optional
        The cluster, as in `kmdask.connect`.

    Returns
    -------
    list of Check
        A run would fail if one of them does.

    Examples
    --------
    >>> import numpy as np
    >>> np.save("scene.npy", np.zeros((30, 40, 3), np.uint8))
    >>> for check in examine("scene.npy", "scene.kmdask"):
    ...     print(check.state, check.name)
    ok source
    ok output
    ok cluster
    ok encryption
    ok dashboard
    ok kmdask
    ok libraries
    ok source, from workers
    ok output, from workers
    ...
    """
    checks: list[Check] = []
    image = _here(checks, source)
    target = _free_place(checks, out)
    try:
        with connect(client) as connected:
            checks += _cluster(connected)
            amiss = versions_amiss(connected)
            checks.append(_kmdask(amiss))
            checks.append(Check("libraries", *check_libraries(connected)))
            if not amiss:
                checks += _from_workers(connected, image, target)
    except KmdaskError as error:
        checks.append(Check("cluster", "fail", str(error)))
    return checks


def _here(checks: list[Check], source: Any) -> Source | None:
    """Find the source from this machine."""
    if source is None:
        return None
    try:
        found = found_at(source)
    except KmdaskError as error:
        checks.append(Check("source", "fail", str(error)))
        return None
    if found is not None:
        height, width = found.shape
        text = f"{width} x {height}, {several(len(found.bands), 'band')} of {found.dtype}"
        checks.append(Check("source", "ok", text))
    return found


def _free_place(checks: list[Check], out: Any) -> Place | None:
    """See whether something stands there already."""
    if out is None:
        return None
    try:
        target = places.output_place(out)
        with storage.reaching(target):
            there = os.path.lexists(target) if isinstance(target, Path) else target.exists()
    except (KmdaskError, OSError) as error:
        checks.append(Check("output", "fail", str(error)))
        return None
    if there and not is_bundle(target):
        text = f"{str(target)!r} is no kmdask bundle and never overwritten; give another output"
        checks.append(Check("output", "fail", text))
        return None
    if isinstance(target, Path) and not target.parent.is_dir():
        text = f"there is no directory {str(target.parent)!r}; make it, on storage that all see"
        checks.append(Check("output", "fail", text))
        return None
    text = f"{str(target)!r} " + ("exists already: a run needs --overwrite" if there else "is free")
    checks.append(Check("output", "warn" if there else "ok", text))
    return target


def _cluster(client: Client) -> list[Check]:
    workers = client.nthreads()
    threads = sum(workers.values())
    there = f"{several(len(workers), 'worker')}, {several(threads, 'thread')} in all"
    text = f"{address_of(client)}: {there}"
    return [Check("cluster", "ok", text), _encryption(client), _dashboard(client.dashboard_link)]


def _encryption(client: Client) -> Check:
    where = urlsplit(address_of(client))
    if where.scheme == "tls":
        return Check("encryption", "ok", "all that goes over the network is encrypted")
    if in_process(client) or where.hostname in {"127.0.0.1", "::1", "localhost"}:
        return Check("encryption", "ok", "none, and none needed: it stays on this machine")
    text = (
        "none: whoever reaches the scheduler can read the pixels and run code on the workers; "
        "use tls:// on a network that is not your own"
    )
    return Check("encryption", "warn", text)


def _dashboard(link: str) -> Check:
    where = urlsplit(link)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    try:
        line = kinds[where.scheme](where.hostname or "", where.port, timeout=PATIENCE)
        try:
            line.connect()
            line.sock.settimeout(IMPORTING)
            line.request("GET", where.path)
            status = line.getresponse().status
        finally:
            line.close()
    except (OSError, ValueError, LookupError, http.client.HTTPException) as error:
        text = f"{link} cannot be reached from here ({error}); a run goes without it"
        return Check("dashboard", "warn", text)
    if status != http.HTTPStatus.OK:
        text = f"{link} answers {status}; is bokeh installed on the scheduler's machine?"
        return Check("dashboard", "warn", text)
    return Check("dashboard", "ok", link)


def _kmdask(amiss: dict[str, str]) -> Check:
    if not amiss:
        return Check("kmdask", "ok", f"{__version__} on every machine")
    return Check("kmdask", "fail", str(different(amiss)))


def _from_workers(client: Client, image: Source | None, out: Place | None) -> list[Check]:
    """Look at the source and the output from every worker, and at what room there is for them."""
    checks: list[Check] = []
    try:
        with _beside(out) as folder:
            room = None if folder is None else Room(folder, str(out), new_mark())
            seen = ask_workers(client, image, room)
    except KmdaskError as error:
        checks.append(Check("output, from here", "fail", str(error)))
        seen, out = ask_workers(client, image), None
    if told_of(failed := {who: each.failed for who, each in seen.items()}):
        return [*checks, _all_see("workers", failed, "")]
    if image is not None:
        told = {who: each.source for who, each in seen.items()}
        checks.append(_all_see("source, from workers", told, "every worker reads it"))
    if out is not None:
        told = {who: each.output for who, each in seen.items()}
        checks.append(_all_see("output, from workers", told, "every worker writes there"))
    if image is not None and out is not None:
        checks.append(Check("disk", *check_disk(image, seen)))
    if image is not None:
        checks.append(Check("memory", *check_memory(client, image)))
    checks.extend(_gdal(seen))
    return checks


@contextmanager
def _beside(out: Place | None) -> Iterator[Place | None]:
    """Make a directory beside an output for the length of a block."""
    if out is None:
        yield None
        return
    name = f".{out.name}.doctor-{uuid.uuid4().hex[:8]}"
    # Where a run writes: credentials for an object store may be for the name of the output alone.
    folder = out.parent / name if isinstance(out, Path) else out / name
    with writing(out):
        if isinstance(folder, Path):
            folder.mkdir()
    try:
        yield folder
    finally:
        with writing(out):
            storage.remove(folder)


def _all_see(name: str, troubles: dict[str, str], well: str) -> Check:
    told = told_of(troubles)
    return Check(name, "fail" if told else "ok", told or well)


def _gdal(seen: dict[str, Seen]) -> list[Check]:
    import rasterio

    here = str(rasterio.__gdal_version__)
    other = {
        who: f"has GDAL {each.gdal}, and this machine {here}"
        for who, each in seen.items()
        if each.gdal not in {"", here}
    }
    text = f"{told_of(other)}; pixels may be decoded differently"
    return [Check("GDAL", "warn", text) if other else Check("GDAL", "ok", f"{here} everywhere")]
