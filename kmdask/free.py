"""Whether files may be written where they are asked for, before there is anything to write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmdask.errors import OutputError, OutputExistsError, ParameterError, writing
from kmdask.places import is_url, output_place, place

if TYPE_CHECKING:
    from kmdask.places import Place


def check_free(path: Place, *, overwrite: bool) -> None:
    """Raise an `OutputError` if a file cannot be there: its folder is not, or something else is."""
    with writing(path):
        there, folder = path.exists(), path.is_dir()
        lost = isinstance(path, Path) and not path.parent.is_dir()
    if lost:
        msg = f"{str(path)!r} cannot be written: there is no folder {str(path.parent)!r}; make it"
        raise OutputError(msg)
    if there and (folder or not overwrite):
        advice = "" if folder else ", or overwrite=True (--overwrite)"
        raise OutputExistsError(f"{str(path)!r} exists already; give another{advice}")


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
