"""What a place is, and which one a path or a URL names.

A place is a `pathlib.Path` or, of a URL, a `upath.UPath`, which has the same methods; fsspec and
the file system it finds for the protocol (s3fs, gcsfs, adlfs) do the work. Nothing else in kmdask
knows protocols, but for what GDAL has to be told of them in `kmdask.reading.gdal_remote`.

File systems take credentials and end points from where their users expect them: environment
variables such as ``AWS_ENDPOINT_URL``, configuration files, the role of the machine; every worker
needs them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from kmdask.errors import ParameterError, how_to_install

if TYPE_CHECKING:
    from upath import UPath
    from zarr.abc.store import Store

Place: TypeAlias = "Path | UPath"

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "abfs": "az",
    "http": "http",
    "https": "http",
}
"""The extra of kmdask that brings the file system of a protocol."""

READ_ONLY = frozenset({"http", "https"})

OPTIONS: dict[str, Any] = {
    # What another machine has written since has to be seen.
    "use_listings_cache": False,
}

UNSIGNED = "AWS_NO_SIGN_REQUEST"
"""The environment variable by which GDAL, too, is told to ask without credentials."""

SILENCE = 30
"""Seconds that a web server may say nothing."""


def is_url(name: str) -> bool:
    """Whether a name is a URL, and none of this machine's.

    Examples
    --------
    >>> [is_url(name) for name in ("s3://bucket/scene.tif", "file:///scene.tif", "scene.tif")]
    [True, False, False]
    """
    return URL.match(name) is not None and not name.startswith("file://")


def place(path: str | os.PathLike[str] | UPath) -> Place:
    """Return the place that a path or URL names.

    Parameters
    ----------
    path : str, path-like or UPath
        A path of this machine, absolute or not, or a URL.

    Returns
    -------
    Path or UPath
        Absolute.

    Raises
    ------
    ParameterError
        If nothing that is installed knows the protocol of the URL.

    Examples
    --------
    >>> place("memory://scenes/scene.kmdask").name
    'scene.kmdask'
    """
    name = os.fspath(path) if isinstance(path, os.PathLike) else str(path)
    if name.startswith("file://"):
        name = name.removeprefix("file://")
    if not is_url(name):
        return Path(name).absolute()
    protocol, _, rest = name.partition("://")
    protocol = protocol.lower()
    if not rest.strip("/"):
        raise ParameterError(f"{name!r} names no bucket; give one, as {protocol}://bucket/name")
    if protocol not in READ_ONLY and "@" in rest.partition("/")[0]:
        raise ParameterError(
            f"{name!r} has credentials in it, which would be told to everyone who sees it; leave "
            "them to the environment"
        )
    from upath import UPath

    options = dict(OPTIONS) if protocol not in READ_ONLY else _web_options()
    if EXTRAS.get(protocol) == "s3" and os.environ.get(UNSIGNED, "").upper() in {"YES", "TRUE"}:
        options["anon"] = True
    try:
        found: UPath = UPath(name.rstrip("/"), **options)
        found.fs  # noqa: B018  imports the file system
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        advice = how_to_install(extra) if extra else f"install it: {error}"
        msg = f"{name!r} needs a package that is not installed, here or on a worker; {advice}"
        raise ParameterError(msg) from error
    except Exception as error:
        # Each file system has errors of its own for what it does not like.
        msg = (
            f"{name!r} cannot be opened: {error}; give a path, or a URL of a protocol that fsspec "
            "knows and of which the environment has the credentials"
        )
        raise ParameterError(msg) from error
    return found


def output_place(path: str | os.PathLike[str]) -> Place:
    """Return the place that is to be written to.

    Raises
    ------
    ParameterError
        If it is a URL where nothing can be written, or of a bucket as a whole.

    Examples
    --------
    >>> output_place("memory://scenes/scene.kmdask").name
    'scene.kmdask'
    >>> output_place("https://example.org/scene.kmdask")
    Traceback (most recent call last):
    kmdask.errors.ParameterError: 'https://example.org/scene.kmdask' can be read and not written...
    """
    name = os.fspath(path)
    found = place(path)
    if isinstance(found, Path):
        return found
    protocol, _, rest = name.partition("://")
    if protocol.lower() in READ_ONLY:
        msg = f"{name!r} can be read and not written; give a path, or a URL of an object store"
        raise ParameterError(msg)
    if "/" not in rest.strip("/") or "//" in rest:
        msg = f"{name!r} is no name in a bucket; give one, as {protocol}://bucket/name"
        raise ParameterError(msg)
    return found


def is_remote(place: Place) -> bool:
    """Whether a place is in an object store, where nothing can be renamed."""
    return not isinstance(place, Path)


def is_there(name: str) -> bool:
    """Whether a name is one of a file or a folder, here or, for all that is known, at a URL."""
    return is_url(name) or os.path.exists(name)  # noqa: PTH110  does not raise


def zarr_store(place: Place) -> Store:
    """Return the zarr store that reads and writes at a place.

    Examples
    --------
    >>> zarr_store(place("memory://scene.zarr"))
    <FsspecStore(...scene.zarr)>
    """
    from zarr.storage import FsspecStore, LocalStore

    if isinstance(place, Path):
        return LocalStore(place)
    options = dict(place.storage_options)
    if EXTRAS.get(place.protocol) == "s3":
        # Else s3fs asks for the size of each chunk before it asks for the chunk, so as to read
        # large ones piece by piece.
        options["max_concurrency"] = 1
    return FsspecStore.from_url(str(place), storage_options=options)


def _web_options() -> dict[str, Any]:
    try:
        from aiohttp import ClientTimeout
    except ImportError:
        return {}
    # By default a server that says nothing is waited for five minutes, each time it is asked.
    return {"client_kwargs": {"timeout": ClientTimeout(total=None, connect=15, sock_read=SILENCE)}}
