"""What a worker does to tell whether it can take part in a run; it never raises, it tells."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmdask import storage
from kmdask.errors import KmdaskError

if TYPE_CHECKING:
    from kmdask.places import Place
    from kmdask.reading.sources import Source


SHARED = "give an output on storage that all machines share"


@dataclass(frozen=True)
class Room:
    """A directory to try in whether an output can be written."""

    folder: Place
    """It is there, and nobody else uses it."""

    output: str
    """What to call the output in messages."""

    mark: str
    """The name and the content of a file that the client has put there."""


@dataclass(frozen=True)
class Seen:
    """What a worker saw."""

    host: str
    """The name of its machine."""

    source: str = ""
    """What is wrong with the source, as it sees it; empty if nothing is."""

    output: str = ""
    """What is wrong with the directory of the output."""

    free: int | None = None
    """Bytes that are free on the file system of the output, if that is known."""

    gdal: str = ""
    """The version of GDAL that it reads with."""

    failed: str = ""
    """Why it could not look at all."""

    @classmethod
    def nothing(cls, why: str) -> Seen:
        """Of a worker that could not look."""
        return cls("unknown", failed=why)


async def look_around(
    image: tuple[Source | None, int],
    room: Room | None,
    patience: float,
    dask_worker: Any = None,
) -> Seen:
    """Look at a source and at a directory, from a worker.

    Parameters
    ----------
    image : tuple of Source or None, and int
        The image, as the client found it, and what `stored_bytes` of it is there.
    room : Room or None
    patience : float
        Seconds after which a file system is taken not to answer.
    dask_worker : distributed.Worker
        Dask fills it in.

    Returns
    -------
    Seen
        If nothing is wrong with the output, there is a file in it that `name_of` names.
    """
    # In a thread: a file system that does not answer must not keep the worker from doing so.
    looking = asyncio.to_thread(_look, image, room, dask_worker.address)
    try:
        return await asyncio.wait_for(looking, patience)
    except TimeoutError:
        return Seen.nothing(f"got no answer from a file system in {patience:g} s")
    except Exception as error:  # noqa: BLE001  Dask cannot send all of them
        return Seen.nothing(f"cannot look: {error!r}")


def _look(image: tuple[Source | None, int], room: Room | None, address: str) -> Seen:
    import rasterio

    source, stored = image
    return Seen(
        host=socket.gethostname(),
        source="" if source is None else _source_told(source, stored),
        output="" if room is None else _room_told(room, address),
        free=None if room is None else _free(room.folder),
        gdal=str(rasterio.__gdal_version__),
    )


def name_of(mark: str, address: str) -> str:
    """Name the file that a worker writes beside a mark.

    Examples
    --------
    >>> name_of(".probe-1", "tcp://127.0.0.1:4711")
    '.probe-1-tcp-127-0-0-1-4711'
    """
    return "-".join([mark, *re.findall(r"\w+", address)])


def take_away(folder: Place, name: str) -> None:
    """Remove a file that only this worker sees."""
    storage.remove(folder / name)


def _source_told(source: Source, stored: int) -> str:
    from kmdask.reading.plans import plan_source

    try:
        found = stored_bytes(source)
        if found != stored:
            return f"finds another {source.path!r}, of {found} bytes, not {stored} as this machine"
        # What is copied first is read by one task, and may be slow to read at all.
        if not plan_source(source).spool:
            height, width = source.shape
            source.read(slice(height - 1, height), slice(width - 1, width))
    except FileNotFoundError:
        return f"does not see {source.path!r}; put it where every machine finds it by this path"
    except (KmdaskError, OSError) as error:
        return f"cannot read the source: {error}"
    return ""


def stored_bytes(source: Source) -> int:
    """Size of the file of a source; 0 if it is none of a file system, or a directory.

    Raises
    ------
    FileNotFoundError
        If there is nothing at a path that is one of a file system beyond doubt.
    """
    path = Path(source.location)
    if path.is_file():
        return path.stat().st_size
    if path.is_absolute() and not path.exists() and not source.location.startswith("/vsi"):
        raise FileNotFoundError(source.location)
    return 0


def _room_told(room: Room, address: str) -> str:
    try:
        content = storage.read_file(room.folder / room.mark)
    except (FileNotFoundError, NotADirectoryError):
        return f"does not see what this machine writes for {room.output!r}; {SHARED}"
    except OSError as error:
        return f"cannot read what is written for {room.output!r}: {error.strerror or error}"
    if content != room.mark.encode():
        return f"reads something else for {room.output!r} than this machine writes; {SHARED}"
    try:
        storage.write_file(room.folder / name_of(room.mark, address), content)
    except OSError as error:
        return f"cannot write {room.output!r}: {error.strerror or error}"
    return ""


def _free(folder: Place) -> int | None:
    # The nearest directory that is there: a worker may see none of the others.
    if not isinstance(folder, Path):
        return None
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), None)
    try:
        return None if there is None else shutil.disk_usage(there).free
    except OSError:
        return None
