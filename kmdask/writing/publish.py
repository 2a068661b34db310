"""How an output comes to stand in its place: whole, or not at all.

On disk it is written under another name beside its target and renamed when all of it is there. In
an object store nothing can be renamed: there it is written in its place, and its last small object
says that it is complete.
"""

from __future__ import annotations

import glob
import logging
import os
import tempfile
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kmdask import storage
from kmdask.errors import OutputExistsError, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kmdask.places import Place

logger = logging.getLogger(__name__)


ATTEMPTS, PAUSE = 20, 0.05
"""How often, and after how many seconds again, what is left of a failure is removed."""


@dataclass(frozen=True)
class Kind:
    """What may be replaced when replacing is asked for."""

    name: str
    """What to call it in messages."""

    found_at: Callable[[Place], bool]
    """Whether one stands at a path. Anything else there is never replaced."""


@contextmanager
def publishing(out: Place, kind: Kind, *, overwrite: bool) -> Iterator[Path]:
    """Give a new path to write at, and put what is there in its place if all goes well.

    Parameters
    ----------
    out : Path or UPath
        Where the output is to stand.
    kind : Kind
    overwrite : bool
        Whether one of this kind that stands there may be replaced.

    Yields
    ------
    Path
        A hidden path beside `out`, where nothing is yet; a temporary one if that is a URL.

    Raises
    ------
    OutputExistsError
        If something stands at `out` that may not be replaced.
    OutputError
        If the output cannot be put there.
    """
    if not isinstance(out, Path):
        with _uploading(out, kind, overwrite=overwrite) as partial:
            yield partial
        return
    check_free(out, kind, overwrite=overwrite)
    partial = new_partial(out)
    try:
        yield partial
        put_in_place(partial, out, kind, overwrite=overwrite)
    finally:
        remove(partial)


@contextmanager
def _uploading(out: Place, kind: Kind, *, overwrite: bool) -> Iterator[Path]:
    with writing(out):
        check_free(out, kind, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix="kmdask-") as folder:
        partial = Path(folder) / out.name
        yield partial
        with writing(out):
            before = storage.files(out) if partial.is_dir() else set()
            storage.upload(partial, out)
            # What the old one had and the new one has not.
            for name in before - storage.files(partial):
                storage.remove(out / name)


def exists_already(out: Place) -> str:
    """Say that something stands at a place."""
    return f"{str(out)!r} exists already; give another output, or overwrite=True (--overwrite)"


def not_replaced(out: Place, kind: Kind) -> str:
    """Say that something stands at a place that is none of a kind."""
    return f"{str(out)!r} is no {kind.name} and is not overwritten; give another output"


def new_partial(out: Path) -> Path:
    """Name a hidden path beside an output, where nothing is yet."""
    return out.with_name(f".{out.name}.partial-{uuid.uuid4().hex[:8]}")


def partials(out: Path) -> list[Path]:
    """List what runs that were cut off, or are still going, have beside an output, newest first."""
    ages = {}
    for path in out.parent.glob(f".{glob.escape(out.name)}.partial-*"):
        with suppress(FileNotFoundError):  # a run that has just ended
            ages[path] = path.stat().st_mtime_ns
    return sorted(ages, key=lambda path: ages[path], reverse=True)


def warn_of(left: list[Path]) -> None:
    """Log what other runs have left beside an output."""
    for path in left:
        logger.warning("%s was left by a run that is still going or was cut off; "
                       "remove it if none is going", path)  # fmt: skip


def check_free(out: Place, kind: Kind, *, overwrite: bool) -> None:
    """Raise an `OutputExistsError` if something stands at a path that may not be replaced."""
    if not (os.path.lexists(out) if isinstance(out, Path) else storage.exists(out)):
        return
    if not overwrite:
        raise OutputExistsError(exists_already(out))
    if not kind.found_at(out):
        raise OutputExistsError(not_replaced(out, kind))


def put_in_place(partial: Path, out: Path, kind: Kind, *, overwrite: bool) -> None:
    """Rename a finished output to its place, an old directory out of the way first."""
    with writing(out):
        check_free(out, kind, overwrite=overwrite)
        if partial.is_file() or not (overwrite and out.exists()):
            partial.replace(out)
            return
        old = partial.with_name(partial.name.replace(".partial-", ".old-"))
        out.rename(old)
        try:
            partial.rename(out)
        except OSError:
            old.rename(out)
            raise
    remove(old)


def remove(path: Place) -> None:
    """Remove what is left of a failure, as far as that can be done."""
    # When one chunk cannot be written, zarr goes on with others for a moment.
    for _ in range(ATTEMPTS):
        with suppress(OSError):
            storage.remove(path)
        if not isinstance(path, Path) or not os.path.lexists(path):
            return
        time.sleep(PAUSE)
