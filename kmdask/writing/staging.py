"""A bundle while it is being written: where, by which run, how far, and how it comes to be whole.

Its directory ``scratch/`` holds what a later run needs to go on from there: what was asked
(``run.json``), the fit (``fitted.json``, with the palette in ``image.zarr``), and receipts of the
chunks that are written. It is gone when the bundle is finished, and only then is ``report.json``
there.
"""

from __future__ import annotations

import json
import logging
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmdask import storage
from kmdask.display import Display
from kmdask.errors import ClusterError, KmdaskError, OutputError, OutputExistsError, writing
from kmdask.fitted import Fitted
from kmdask.palette import Palette
from kmdask.writing import publish, store
from kmdask.writing.receipts import Receipts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmdask.reading.raster import Raster
    from kmdask.report import Report
    from kmdask.storage import Place

logger = logging.getLogger(__name__)

RUN, FITTED, RECEIPTS = "run.json", "fitted.json", "receipts"
"""Files of a run, in its scratch directory."""

BUNDLE = publish.Kind("kmdask bundle", store.is_bundle)

KEPT = "what is written is kept: resume=True (--resume) goes on from there"


@dataclass
class Staging:
    """The directory that a run writes a bundle in."""

    path: Place
    """A hidden directory beside the target, or in an object store the target."""

    asked: dict[str, Any]
    """What the run was asked for, ready for JSON: only a run that is asked the same goes on."""

    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Tells this run from others."""

    earlier: dict[str, Any] | None = None
    """What an earlier run has left to go on from."""

    replaces: bool = False
    """Whether a finished bundle stands here that has to go before anything is written."""

    safe: bool = False
    """Whether there is something to go on from."""

    finished: bool = False
    """Whether the bundle is complete."""

    @property
    def scratch(self) -> Place:
        """Temporary files of the run."""
        return self.path / store.SCRATCH

    @property
    def chunk(self) -> tuple[int, int] | None:
        """Rows and columns of the chunks that the earlier run read, which have to stay the same."""
        if self.earlier is None:
            return None
        rows, columns = self.earlier["chunk"]
        return int(rows), int(columns)

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time of the stages of the earlier run that led to its palette."""
        return {} if self.earlier is None else self.earlier["seconds"]

    @property
    def receipts(self) -> Receipts:
        """What the earlier run has written, and where this one keeps what it has."""
        return Receipts.found(self.scratch / RECEIPTS)

    def start(self) -> None:
        """Say that the directory is taken."""
        with writing(self.path):
            if isinstance(self.path, Path):
                # Not the directory that it is to be in: the disk that belongs there may be absent.
                self.path.mkdir(exist_ok=True)
            storage.make_folder(self.scratch / RECEIPTS)
            _dump(self.scratch / RUN, {"run": self.run, "asked": self.asked})

    def load(self) -> Fitted | None:
        """Return the fit of the earlier run, if there is one."""
        if self.earlier is None:
            return None
        _, colors, header = store.read_arrays(self.path)
        display = Display.from_dict(header.display)
        return Fitted.from_dict(self.earlier["fitted"], Palette(colors), display)

    def save(
        self, fitted: Fitted, header: store.Header, raster: Raster, seconds: dict[str, float]
    ) -> None:
        """Begin the bundle with its palette; from now on a run that is cut off can be resumed."""
        if self.earlier is None:
            if self.replaces:
                self.clear()
            store.create_image(self.path, raster.shape, fitted.palette, header)
            kept = {
                "fitted": fitted.to_dict(),
                "chunk": raster.pixels.chunksize[:2],
                "seconds": seconds,
            }
            with writing(self.path):
                _dump(self.scratch / FITTED, kept)
        self.safe = True

    def clear(self) -> None:
        """Remove a bundle that stands here already, first of all what says that it is finished."""
        with writing(self.path):
            for name in sorted(storage.names(self.path), key=lambda name: name != store.REPORT):
                if name != store.SCRATCH:
                    storage.remove(self.path / name)
        self.replaces = False

    def finish(self, report: Report) -> None:
        """Finish the bundle; its report is the last file that is written."""
        with writing(self.path):
            if _load(self.scratch / RUN).get("run") != self.run:
                msg = f"another run began to write {str(self.path)!r} meanwhile; run again alone"
                raise OutputError(msg)
            storage.remove(self.scratch)
            storage.write_file(self.path / store.REPORT, report.to_json())
        self.finished, self.safe = True, False


@contextmanager
def publishing(
    out: Place, *, overwrite: bool, asked: dict[str, Any] | None = None, resume: bool = False
) -> Iterator[Staging]:
    """Give a directory to write a bundle in, and put it in its place if all goes well.

    Parameters
    ----------
    out : Path or UPath
        Where the bundle is to stand.
    overwrite : bool
        Whether a bundle that stands there may be replaced. Anything else is never replaced.
    asked : dict, optional
        What decides the bundle, ready for JSON.
    resume : bool, default False
        Whether to go on from what a run that was asked the same has left, if there is such; and
        to leave what can be gone on from, whatever may happen.

    Yields
    ------
    Staging
        After a failure it is removed with all that is in it; but not if the cluster was lost once
        the palette was there, which is nobody's fault and worth going on from.

    Raises
    ------
    OutputExistsError
        If something stands at `out` that may not be replaced.
    OutputError
        If the bundle cannot be put there.
    """
    # As it is read again.
    asked = json.loads(json.dumps(asked or {}))
    if isinstance(out, Path):
        staging = _beside(out, asked, overwrite=overwrite, resume=resume)
    else:
        staging = _in_place(out, asked, overwrite=overwrite, resume=resume)
    try:
        staging.start()
        yield staging
        if isinstance(out, Path) and isinstance(staging.path, Path):
            publish.put_in_place(staging.path, out, BUNDLE, overwrite=overwrite)
    except BaseException as error:
        if not (staging.safe and (resume or isinstance(error, ClusterError))):
            _remove(staging)
            raise
        logger.warning("%s: %s", staging.path, KEPT)
        if isinstance(error, KmdaskError):
            raise type(error)(f"{error}; {KEPT}") from error
        raise


def _beside(out: Path, asked: dict[str, Any], *, overwrite: bool, resume: bool) -> Staging:
    """Choose a directory beside the target: that of a run to go on from, or a new one."""
    publish.check_free(out, BUNDLE, overwrite=overwrite)
    left = publish.partials(out)
    for path in sorted(left, key=lambda path: path.stat().st_mtime, reverse=True):
        earlier = _earlier(path, asked) if resume else None
        if earlier is not None:
            return Staging(path, asked, earlier=earlier)
    publish.warn_of(left)
    return Staging(publish.new_partial(out), asked)


def _in_place(out: Place, asked: dict[str, Any], *, overwrite: bool, resume: bool) -> Staging:
    """Take the target itself, in an object store where nothing can be renamed."""
    with writing(out):
        there = storage.names(out)
        begun = store.SCRATCH in there and _load(out / store.SCRATCH / RUN)
    finished = store.REPORT in there
    if begun and not finished:
        earlier = _earlier(out, asked) if resume else None
        if earlier is None and not overwrite:
            raise OutputExistsError(
                f"{str(out)!r} is half written, by a run that is still going or was cut off: "
                "resume=True (--resume) goes on if the same is asked, overwrite=True (--overwrite) "
                "begins anew"
            )
        return Staging(out, asked, earlier=earlier, replaces=earlier is None)
    if there and not (finished and store.IMAGE in there):
        msg = f"{str(out)!r} is no {BUNDLE.name} and is not overwritten; give another output"
        raise OutputExistsError(msg)
    if finished and not overwrite:
        raise OutputExistsError(publish.exists_already(out))
    return Staging(out, asked, replaces=finished)


def _earlier(path: Place, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a run has left to go on from, if it was asked the same."""
    if _load(path / store.SCRATCH / RUN).get("asked") != asked:
        return None
    return _load(path / store.SCRATCH / FITTED) or None


def _remove(staging: Staging) -> None:
    if staging.finished and not isinstance(staging.path, Path):
        return
    # A finished bundle that was to be replaced in its place is still whole.
    publish.remove(staging.scratch if staging.replaces else staging.path)


def _dump(path: Place, fields: dict[str, Any]) -> None:
    storage.write_file(path, json.dumps(fields).encode())


def _load(path: Place) -> dict[str, Any]:
    """Read a file of a run; empty if there is none, or none that says anything."""
    try:
        fields = json.loads(storage.read_file(path))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}
