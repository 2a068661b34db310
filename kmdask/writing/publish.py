"""How an output comes to stand in its place: whole, or not at all.

It is written under another name beside its target and renamed when all of it is there.
"""

from __future__ import annotations

import glob
import logging
import os
import shutil
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kmdask.errors import OutputExistsError, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)


ATTEMPTS, PAUSE = 20, 0.05
"""How often, and after how many seconds again, what is left of a failure is removed."""


@dataclass(frozen=True)
class Kind:
    """What may be replaced when replacing is asked for."""

    name: str
    """What to call it in messages."""

    found_at: Callable[[Path], bool]
    """Whether one stands at a path. Anything else there is never replaced."""


@contextmanager
def publishing(out: Path, kind: Kind, *, overwrite: bool) -> Iterator[Path]:
    """Give a new path to write at, and put what is there in its place if all goes well.

    Parameters
    ----------
    out : Path
        Where the output is to stand.
    kind : Kind
    overwrite : bool
        Whether one that stands there may be replaced.

    Yields
    ------
    Path
        A name beside `out` that nothing has. What stands there is removed when an exception leaves
        the block, and then what stood at `out` stands there still.

    Raises
    ------
    OutputExistsError
        If something stands at `out` that may not be replaced.
    OutputError
        If the output cannot be put there.
    """
    check_free(out, kind, overwrite=overwrite)
    partial = out.with_name(f".{out.name}.partial-{uuid.uuid4().hex[:8]}")
    for left in sorted(out.parent.glob(f".{glob.escape(out.name)}.partial-*")):
        logger.warning("%s was left by a run that is still going or was cut off; "
                       "remove it if none is going", left)  # fmt: skip
    try:
        yield partial
        with writing(out):
            check_free(out, kind, overwrite=overwrite)
            _replace(partial, out, overwrite=overwrite)
    finally:
        _remove(partial)


def check_free(out: Path, kind: Kind, *, overwrite: bool) -> None:
    """Raise an `OutputExistsError` if something stands at a path that may not be replaced."""
    if not os.path.lexists(out):
        return
    if not overwrite:
        msg = f"{str(out)!r} exists already; give another output, or overwrite=True (--overwrite)"
        raise OutputExistsError(msg)
    if not kind.found_at(out):
        msg = f"{str(out)!r} is no {kind.name} and is not overwritten; give another output"
        raise OutputExistsError(msg)


def _replace(partial: Path, out: Path, *, overwrite: bool) -> None:
    """Rename the finished output to its place, an old directory out of the way first."""
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
    _remove(old)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
    # When one chunk cannot be written, zarr goes on with others for a moment.
    for _ in range(ATTEMPTS):
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.lexists(path):
            return
        time.sleep(PAUSE)
