"""Sources behind URLs: what is there, what is wrong, and reading again what failed for a moment."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kmdask import places, storage
from kmdask.errors import KmdaskError, SourceError, SourceNotFoundError
from kmdask.reading.gdal_remote import ALONE, is_remote

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "check",
    "check_zarr",
    "is_file",
    "is_remote",
    "is_zarr",
    "look",
    "persistent",
    "size_of",
    "version_of",
]

logger = logging.getLogger(__name__)

Read = TypeVar("Read")

ATTEMPTS = 3
"""How often a window is read before it is given up; the libraries below repeat single requests."""

DELAY = 2.0
"""Seconds before the second attempt; twice as many before the third."""

ZARR = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
"""Files of which every zarr array or group has one."""

RASTERS = ALONE | {"vrt"}
"""Endings of names behind which nobody keeps a zarr group."""

ADVICE = (
    "check the name; that here and on every worker there are credentials that may read it (of "
    "s3:// such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, of public data "
    "AWS_NO_SIGN_REQUEST=YES); and AWS_ENDPOINT_URL if another store than Amazon's has it"
)


def is_file(path: str) -> bool:
    """Whether a name that GDAL has opened is one that others can open: it has names of its own."""
    return is_remote(path) or Path(path).is_file()


def look(path: str) -> dict[str, Any]:
    """Ask for the name, size and version of the object at a URL.

    Raises
    ------
    SourceNotFoundError
        If there is none, or not even the bucket.
    SourceError
        If it may not be read, or nobody answers.
    ParameterError
        If the package for the protocol is not installed.
    """
    there = places.place(path)
    try:
        return _told(there)
    except FileNotFoundError as error:
        told = f" ({error})" if " " in str(error) else ""
        msg = f"there is nothing at {path!r}{told}; check the bucket, or host, and the name"
        raise SourceNotFoundError(msg) from None
    except PermissionError as error:
        raise SourceError(f"{path!r} may not be read: {error}; {ADVICE}") from None
    except OSError as error:
        raise SourceError(f"{path!r} cannot be reached: {error}; {ADVICE}") from None


def _told(there: places.Place) -> dict[str, Any]:
    with storage.reaching(there):
        if isinstance(there, Path):
            return {"name": str(there), "size": there.stat().st_size}
        try:
            return dict(there.fs.info(str(there)))
        except FileNotFoundError as error:
            # Of web servers fsspec says so whatever is wrong.
            cause = error.__cause__
            gone = getattr(cause, "status", 404) in {404, 410} and not isinstance(cause, OSError)
            if there.protocol not in places.READ_ONLY or gone:
                raise
            raise OSError(str(cause)) from error


def check(path: str) -> None:
    """Raise what `look` does, if that is of any help: after GDAL has failed with less to say."""
    try:
        look(path)
    except SourceError:
        raise
    except KmdaskError:
        # Without the package nobody else can be asked.
        return


def version_of(path: str) -> str:
    """Return what changes when the object at a URL does; "" if that is not known."""
    with suppress(KmdaskError):
        told = look(path)
        changed = (told.get("ETag"), told.get("LastModified"), told.get("Last-Modified"))
        return " ".join(str(fact) for fact in (*changed, told.get("size")) if fact is not None)
    return ""


def size_of(path: str) -> int:
    """Size in bytes of an object, or of all below a name; 0 if that is not known."""
    with suppress(KmdaskError, OSError):
        told = look(path)
        if told.get("type") != "directory":
            return int(told.get("size") or 0)
        return storage.size_of(places.place(path))
    return 0


def is_zarr(path: str) -> bool:
    """Whether there is a zarr array or group at a URL: by its name, else by what is there."""
    name = path.partition("?")[0].rstrip("/")
    if "::" in path or name.endswith(".zarr") or ".zarr/" in name:
        return True
    return name.rpartition(".")[2].lower() not in RASTERS and _has_zarr(name)


def check_zarr(path: str) -> None:
    """Raise a `SourceError` if there is no zarr array or group at a URL, or none may be read."""
    if is_remote(path) and not _has_zarr(path):
        look(f"{path}/{ZARR[0]}")


def _has_zarr(path: str) -> bool:
    for file in ZARR:
        with suppress(SourceNotFoundError):
            look(f"{path}/{file}")
            return True
    return False


def persistent(
    path: str,
    read: Callable[[], Read],
    *,
    forget: Callable[[str], None] | None = None,
    check: Callable[[str], None] = check,
) -> Read:
    """Read; at a URL again if that fails, up to `ATTEMPTS` times.

    Parameters
    ----------
    path : str
        What is read.
    read : callable
        Reads, and raises a `SourceError` where that fails.
    forget : callable, optional
        Is called with the path before anything is read again.
    check : callable, optional
        Is called with it at the end, and raises what is wrong if more is known than `read` said.

    Raises
    ------
    SourceError
        If it fails each time.

    Examples
    --------
    >>> persistent("scene.tif", lambda: "pixels")
    'pixels'
    """
    if not is_remote(path):
        return read()
    for attempt in range(1, ATTEMPTS):
        try:
            return read()
        except SourceError as error:
            wait = DELAY * 2 ** (attempt - 1)
            logger.warning("%s; attempt %d of %d, the next in %g s", error, attempt, ATTEMPTS, wait)
        time.sleep(wait)
        if forget:
            forget(path)
    try:
        return read()
    except SourceError as error:
        failure = SourceError(f"{error}; it was tried {ATTEMPTS} times")
    check(path)
    raise failure
