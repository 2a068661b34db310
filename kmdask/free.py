"""Whether files may be written where they are asked for, before there is anything to write."""

from __future__ import annotations

import logging
import os
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmdask import storage
from kmdask.errors import OutputError, OutputExistsError, ParameterError, writing
from kmdask.places import is_url, output_place, place

if TYPE_CHECKING:
    from kmdask.places import Place

logger = logging.getLogger(__name__)


def check_free(path: Place, *, overwrite: bool) -> None:
    """Raise an `OutputError` if a file cannot be there.

    Its folder is not there or cannot be written to, or something else is in its place.
    """
    with writing(path):
        there, folder = path.exists(), path.is_dir()
        lost = isinstance(path, Path) and not path.parent.is_dir()
    if lost:
        msg = f"{str(path)!r} cannot be written: there is no folder {str(path.parent)!r}; make it"
        raise OutputError(msg)
    if there and (folder or not overwrite):
        advice = "" if folder else ", or overwrite=True (--overwrite)"
        raise OutputExistsError(f"{str(path)!r} exists already; give another{advice}")
    check_writable(path)


def check_writable(path: Place) -> None:
    """Raise an `OutputError` if nothing can be written beside a path; what is at it stays.

    Nothing else tells: rights say little of network shares, full disks and buckets.

    Examples
    --------
    >>> from kmdask.places import place
    >>> check_writable(place("memory://rates/a.csv"))
    >>> storage.names(place("memory://rates"))
    set()
    """
    with writing(path):
        if isinstance(path, Path):
            with tempfile.TemporaryFile(dir=path.parent):
                return
        probe = path.with_name(f".{path.name}.probe-{uuid.uuid4().hex}")
        storage.write_file(probe, b"kmdask")
    try:
        storage.remove_file(probe)
    except OSError as error:
        # Some may write and not remove: that is enough for a file that is new.
        logger.warning("%r cannot be removed: %s; it was written to see if one can", probe, error)


def check_files(
    *paths: str | os.PathLike[str] | None, source: Any = None, overwrite: bool = False
) -> None:
    """Raise an error if files cannot be written because of others.

    Parameters
    ----------
    *paths : str or path-like or None
        What is to be written; None is left out.
    source : path or array, optional
        What is read: nothing may take its place.
    overwrite : bool, default False
        Whether to replace files that are there.

    Raises
    ------
    ParameterError
        If two are the same, or one is what is read.
    OutputExistsError
        If there is something that is not to be replaced.
    OutputError
        If a file cannot be written there.
    """
    named = isinstance(source, str | os.PathLike)
    taken = [place(source)] if named and not is_url(os.fspath(source)) else []
    for path in paths:
        if path is None:
            continue
        asked = output_place(path)
        if asked in taken:
            msg = f"{str(path)!r} is the source, or the other file to write; give another"
            raise ParameterError(msg)
        check_free(asked, overwrite=overwrite)
        taken.append(asked)
