"""A bundle while it is being written: where, by which run, how far, and how it comes to be whole.

``run.json`` says which run it is and what it was asked. The directory ``scratch/`` holds what a
later one needs to go on from there: the fit (`kmdask.writing.earlier`), and receipts of the chunks
that are written. All that is gone when the bundle is finished. In an object store ``report.json``
says that it is: written last, removed first.

Processes may be killed at any moment. A machine that loses its power may also lose files that were
written just before; what is noticed of that is begun anew.
"""

from __future__ import annotations

import json
import logging
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmdask import storage
from kmdask.errors import ClusterError, KmdaskError, OutputError, OutputExistsError, writing
from kmdask.writing import publish, store
from kmdask.writing.earlier import FITTED, Earlier, checksum, read_fields, write_fields
from kmdask.writing.receipts import DamagedReceiptError, Receipts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmdask.fitted import Fitted
    from kmdask.places import Place
    from kmdask.reading.raster import Raster
    from kmdask.report import Report

logger = logging.getLogger(__name__)

RECEIPTS = "receipts"
"""Begins the name of the folder of its receipts, in the scratch directory of a run."""

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

    earlier: Earlier | None = None
    """What an earlier run has left."""

    replaces: bool = False
    """Whether a finished bundle stands here that has to go before anything is written."""

    safe: bool = field(init=False)
    """Whether there is something to go on from."""

    finished: bool = False
    """Whether the bundle is complete."""

    def __post_init__(self) -> None:
        self.safe = self.earlier is not None

    @property
    def name(self) -> Place:
        """What to call it in messages: the target."""
        if not isinstance(self.path, Path):
            return self.path
        return self.path.with_name(self.path.name.removeprefix(".").rsplit(".partial-", 1)[0])

    @property
    def scratch(self) -> Place:
        """Temporary files of the run."""
        return self.path / store.SCRATCH

    @property
    def chunk(self) -> tuple[int, int] | None:
        """Rows and columns of the chunks to read, if that is settled."""
        return None if self.earlier is None else self.earlier.chunk

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time of the stages of the earlier run that led to its palette."""
        return {} if self.earlier is None else self.earlier.seconds

    @property
    def receipts(self) -> Receipts:
        """What the earlier run has written, and where this one keeps what it has."""
        # A task of a run that was asked something else may still be going, and keeps its own.
        folder = self.scratch / f"{RECEIPTS}-{checksum(self.asked):08x}"
        return Receipts(folder) if self.earlier is None else Receipts.found(folder)

    def start(self) -> None:
        """Say that the directory is taken."""
        with writing(self.name):
            if isinstance(self.path, Path):
                # Not the directory that it is to be in: the disk that belongs there may be absent.
                self.path.mkdir(exist_ok=True)
            if self.earlier is None:
                # Of what was asked before. First what it could be gone on from, and what tells that
                # a bundle was begun here is never gone: this run, too, may be cut off anywhere.
                storage.remove(self.scratch / FITTED)
                storage.remove(self.scratch)
                if not self.replaces:
                    self.clear()
            storage.make_folder(self.receipts.folder)
            write_fields(self.path / store.RUN, {"run": self.run, "asked": self.asked})

    def load(self) -> Fitted | None:
        """Return the fit of the earlier run, if there is one."""
        return None if self.earlier is None else self.earlier.fitted

    def save(
        self,
        fitted: Fitted,
        header: store.Header,
        raster: Raster,
        seconds: dict[str, float],
        codec: str = "zstd",
    ) -> None:
        """Begin the bundle with its palette; from now on a run that is cut off can be resumed."""
        if self.earlier is None:
            if self.replaces:
                self.clear()
            store.create_image(self.path, raster.shape, fitted.palette, header, codec)
            rows, columns, _ = raster.pixels.chunksize
            Earlier(fitted, (int(rows), int(columns)), seconds).leave(self.path)
        self.safe = True

    def clear(self) -> None:
        """Remove a bundle that stands here already, first of all what says that it is finished."""
        with writing(self.path):
            for name in sorted(storage.names(self.path), key=lambda name: name != store.REPORT):
                if name not in {store.RUN, store.SCRATCH}:
                    storage.remove(self.path / name)
                    self.replaces = False

    def finish(self, report: Report) -> None:
        """Finish the bundle; its report is what says that it is."""
        with writing(self.path):
            if read_fields(self.path / store.RUN).get("run") != self.run:
                msg = f"another run began to write {str(self.path)!r} meanwhile; run again alone"
                raise OutputError(msg)
            # A worker that was given up for lost may still be writing there.
            publish.remove(self.scratch)
            storage.write_file(self.path / store.REPORT, report.to_json())
            storage.remove(self.path / store.RUN)
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
        kept = resume or isinstance(error, ClusterError)
        if not staging.safe or not kept or isinstance(error, DamagedReceiptError):
            _remove(staging)
            raise
        if isinstance(error, KmdaskError):
            raise type(error)(f"{error}; {KEPT}") from error
        logger.warning("%s: %s", staging.path, KEPT)
        raise


def _beside(out: Path, asked: dict[str, Any], *, overwrite: bool, resume: bool) -> Staging:
    """Choose a directory beside the target: that of a run to go on from, or a new one."""
    publish.check_free(out, BUNDLE, overwrite=overwrite)
    left = publish.partials(out)
    for path in left if resume else []:
        earlier = Earlier.found(path, asked)
        if earlier is not None:
            return Staging(path, asked, earlier=earlier)
    publish.warn_of(left)
    if resume:
        logger.warning("nothing is there to go on from that was asked the same: beginning anew")
    return Staging(publish.new_partial(out), asked)


def _in_place(out: Place, asked: dict[str, Any], *, overwrite: bool, resume: bool) -> Staging:
    """Take the target itself, in an object store where nothing can be renamed."""
    with writing(out):
        # What a late task of a run that is over has left there is no bundle, and nothing else.
        there = storage.names(out) - {store.SCRATCH, "", out.name}
        if storage.is_file(out):
            raise OutputExistsError(publish.not_replaced(out, BUNDLE))
        begun = read_fields(out / store.RUN) if store.RUN in there else {}
    finished = store.REPORT in there
    if begun and not finished:
        again = resume and begun.get("asked") == asked
        if not again and not overwrite:
            raise OutputExistsError(
                f"{str(out)!r} is half written, by a run that is still going or was cut off: "
                "resume=True (--resume) goes on if the same is asked, overwrite=True (--overwrite) "
                "begins anew; be sure that the other run has ended"
            )
        earlier = Earlier.found(out, asked) if again else None
        if resume and earlier is None:
            logger.warning("nothing is there to go on from that was asked the same: beginning anew")
        return Staging(out, asked, earlier=earlier)
    if there and not (finished and store.IMAGE in there):
        raise OutputExistsError(publish.not_replaced(out, BUNDLE))
    if finished and not overwrite:
        raise OutputExistsError(publish.exists_already(out))
    return Staging(out, asked, replaces=finished)


def _remove(staging: Staging) -> None:
    """Remove what a run that failed has written, unless another one goes on from that."""
    remote = not isinstance(staging.path, Path)
    if remote and staging.finished:
        return
    try:
        run = read_fields(staging.path / store.RUN).get("run")
    except OSError:
        run = None
    # In its place nothing is this run's that does not say so; a hidden directory is, as a rule.
    if run != staging.run and (remote or run is not None):
        return
    if staging.replaces:
        # The finished bundle that was to be replaced in its place is still whole.
        publish.remove(staging.scratch)
        publish.remove(staging.path / store.RUN)
    elif isinstance(staging.path, Path):
        publish.remove(staging.path)
    else:
        # Last what says whose this is: the removal, too, may be cut off.
        with suppress(OSError):
            for name in storage.names(staging.path) - {store.RUN}:
                publish.remove(staging.path / name)
        publish.remove(staging.path / store.RUN)
