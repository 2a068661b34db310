"""A page about a bundle: served on this machine, or written into a folder for any web server."""

from __future__ import annotations

import shutil
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmdask import places, storage
from kmdask.connecting.clusters import Local
from kmdask.errors import BundleError, KmdaskError, writing
from kmdask.image import CompressedImage
from kmdask.progress import Progress, chosen
from kmdask.viewing.original import Original
from kmdask.viewing.page import COMPRESSED, ORIGINAL, page_files
from kmdask.viewing.server import Server, Site
from kmdask.writing import store
from kmdask.writing.publish import Kind, publishing

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from kmdask.connecting.client import Connection
    from kmdask.places import Place

EXPORTED = Kind("exported view", lambda place: storage.is_file(place / "viewer.js"))


class View:
    """A page that is served on this machine until it is closed. Made by `kmdask.view`.

    Parameters
    ----------
    image : CompressedImage
    original : Original or None
    reason : str
        Why there is none, where that is not by wish.
    port : int
    client, progress
        See `view`.
    """

    def __init__(
        self,
        image: CompressedImage,
        original: Original | None,
        reason: str,
        *,
        port: int,
        client: Connection,
        progress: Progress,
    ) -> None:
        state = {"state": "none" if original is None else "making", "reason": reason}
        self._followed = _Followed(progress, state)
        folder = Path(tempfile.mkdtemp(prefix="kmdask-view-"))
        site = Site(
            page_files(image, state),
            {COMPRESSED: image.path / store.TILES_FILES, ORIGINAL: folder / ORIGINAL},
            lambda: self._followed.state,
        )
        self._folder, self._failure = folder, None
        try:
            self._server = Server(site, port)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._maker: threading.Thread | None = None
        if original is not None:
            self._maker = threading.Thread(target=self._make, args=(original, client), daemon=True)
            self._maker.start()

    _failure: BaseException | None

    @property
    def url(self) -> str:
        """The address of the page, on the loopback address of this machine."""
        return self._server.url

    @property
    def original(self) -> Mapping[str, Any]:
        """``state`` of the original's tiles ("none", "making", "ready" or "failed"), and why."""
        return dict(self._followed.state)

    def wait(self) -> None:
        """Wait until the tiles of the original are there, if any are to be.

        Raises
        ------
        KmdaskError
            If they cannot be made. The page is served all the same.
        """
        if self._maker is not None:
            self._maker.join()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Stop serving, give up what is still being made, and remove the original's tiles."""
        self._followed.closed.set()
        self._server.close()
        if self._maker is not None:
            self._maker.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<View {self.url}>"

    def _repr_html_(self) -> str:
        return f'<iframe src="{self.url}" style="width:100%;height:600px;border:0"></iframe>'

    def _make(self, original: Original, client: Connection) -> None:
        state = self._followed.state
        try:
            original.write(self._folder / ORIGINAL, self._folder, client, self._followed)
        except _ClosedError:
            pass
        except BaseException as error:  # noqa: BLE001  raised by wait
            self._failure = error
            state |= {"state": "failed", "reason": str(error)}
        else:
            state["state"] = "ready"


class _ClosedError(Exception):
    """Nobody looks any more."""


@dataclass
class _Followed:
    """Tells another progress, keeps how far it is, and ends the run when the page is closed."""

    told: Progress
    state: dict[str, Any]
    closed: threading.Event = field(default_factory=threading.Event)

    def connected(self, dashboard: str | None) -> None:
        self._go_on()
        self.told.connected(dashboard)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._go_on()
        with self.told.stage(name):
            yield

    def advance(self, done: int, total: int) -> None:
        self._go_on()
        self.state["share"] = done / total if total else 0.0
        self.told.advance(done, total)

    def note(self, text: str) -> None:
        self.told.note(text)

    def _go_on(self) -> None:
        if self.closed.is_set():
            raise _ClosedError


def view(
    path: str | os.PathLike[str] | CompressedImage,
    original: str | os.PathLike[str] | Any = None,
    *,
    port: int = 0,
    client: Connection = None,
    progress: Progress | bool | None = None,
) -> View:
    """Serve a page that shows a bundle beside its original, down to the pixel.

    The page needs no internet and is on the loopback address: other machines cannot reach it. It
    is there at once; tiles of the original are made in the background, in one pass over it, and
    appear when they are complete. They are some tenth of the raw pixels, in a temporary folder
    that `View.close` removes.

    Parameters
    ----------
    path : str, path-like or CompressedImage
        A bundle with tiles.
    original : str, path-like or array, optional
        The image that was compressed. By default the path in the report, if the image is still
        there; False for none.
    port : int, default 0
        The port to serve on; 0 for any that is free.
    client : optional
        The cluster that makes the tiles of the original, as for `kmdask.compress`; its workers
        must see the temporary files of this machine. By default one of this machine's.
    progress : optional
        As for `kmdask.compress`; told from another thread.

    Returns
    -------
    View
        Its `url` is what a browser is to open; a notebook shows it as it is. It serves until
        `close`, or the end of a ``with``.

    Raises
    ------
    BundleError
        If there is no bundle at the path, or none with tiles.
    KmdaskError
        If the original that is given cannot be opened, or is of another size; if the port is taken.

    Examples
    --------
    >>> import numpy as np
    >>> import kmdask
    >>> from urllib.request import urlopen
    >>> scene = np.tile(np.arange(256, dtype=np.uint8), (100, 1))
    >>> result = kmdask.compress(scene, k=4, out="steps.kmdask")
    >>> with kmdask.view(result, original=scene) as shown:
    ...     page = urlopen(shown.url).read()
    >>> b"steps.kmdask" in page
    True
    """
    image = _with_tiles(path)
    found, reason = _original(image, original)
    return View(
        image,
        found,
        reason,
        port=port,
        client=client or Local(),
        progress=chosen(progress),
    )


def export_view(
    path: str | os.PathLike[str] | CompressedImage,
    folder: str | os.PathLike[str],
    original: str | os.PathLike[str] | Any = None,
    *,
    overwrite: bool = False,
    client: Connection = None,
    progress: Progress | bool | None = None,
) -> None:
    """Write the page of `view` into a folder that any web server can serve as it is.

    With all tiles, those of the original too: the folder needs neither kmdask nor the bundle.

    Parameters
    ----------
    path : str, path-like or CompressedImage
        A bundle with tiles.
    folder : str or path-like
        What to write, a folder or a URL of an object store. It appears when it is complete.
    original, client, progress : optional
        As for `view`.
    overwrite : bool, default False
        Whether to replace a view that was exported there before; nothing else is.

    Raises
    ------
    KmdaskError
        As for `view`; an `OutputExistsError` if something is there, an `OutputError` if the folder
        cannot be written.

    Examples
    --------
    >>> import numpy as np
    >>> import kmdask
    >>> scene = np.tile(np.arange(256, dtype=np.uint8), (100, 1))
    >>> result = kmdask.compress(scene, k=4, out="ramp.kmdask")
    >>> kmdask.export_view(result, "ramp-page", original=scene)
    >>> import os
    >>> sorted(name for name in os.listdir("ramp-page") if "." not in name)
    ['compressed', 'original']
    """
    image = _with_tiles(path)
    found, reason = _original(image, original)
    state = {"state": "none" if found is None else "ready", "reason": reason}
    out = places.output_place(folder)
    with publishing(out, EXPORTED, overwrite=overwrite) as partial, writing(out):
        partial.mkdir(parents=True)
        storage.download(image.path / store.TILES_FILES, partial / COMPRESSED)
        storage.write_files(partial, page_files(image, state))
        if found is not None:
            with tempfile.TemporaryDirectory(prefix="kmdask-view-") as scratch:
                there = partial / ORIGINAL
                found.write(there, Path(scratch), client or Local(), chosen(progress))


def _with_tiles(path: str | os.PathLike[str] | CompressedImage) -> CompressedImage:
    image = path if isinstance(path, CompressedImage) else CompressedImage.read(places.place(path))
    there: Place = image.path / store.TILES
    if not storage.exists(there):
        raise BundleError(
            f"{str(image.path)!r} has no tiles to look at; compress the image again with the "
            'format "tiles" (without --no-tiles)'
        )
    return image


def _original(image: CompressedImage, original: Any) -> tuple[Original | None, str]:
    """Find the original that is asked for, or the one there is; else say why there is none."""
    if original is False:
        return None, ""
    if original is not None:
        return Original.of(image, original), ""
    try:
        return Original.of(image), ""
    except KmdaskError as error:
        return None, str(error)
