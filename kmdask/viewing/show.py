"""A page about a bundle: served on this machine, or written into a folder for any web server."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmdask import places, storage
from kmdask.connecting.clusters import Local
from kmdask.errors import BundleError, KmdaskError, writing
from kmdask.image import CompressedImage
from kmdask.progress import Progress, chosen
from kmdask.viewing.original import Original
from kmdask.viewing.page import COMPRESSED, INDEX, ORIGINAL, OWN, page_files
from kmdask.viewing.served import View
from kmdask.writing import store
from kmdask.writing.deepzoom import tile_names
from kmdask.writing.publish import Kind, publishing

if TYPE_CHECKING:
    import os

    from kmdask.connecting.client import Connection
    from kmdask.places import Place

logger = logging.getLogger(__name__)

EXPORTED = Kind("exported view", lambda place: {INDEX, *OWN, COMPRESSED} <= storage.names(place))


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
    appear when they are complete. They are a tenth to a sixth of the raw pixels, in a temporary
    folder that `View.close` removes.

    Parameters
    ----------
    path : str, path-like or CompressedImage
        A bundle with tiles.
    original : str, path-like or array, optional
        The image that was compressed. By default the path in the report, if the image is still
        there, as large as it was; False for none.
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
) -> Place:
    """Write the page of `view` into a folder that any web server can serve as it is.

    With all tiles, those of the original too: the folder needs neither kmdask nor the bundle.

    Parameters
    ----------
    path : str, path-like or CompressedImage
        A bundle with tiles.
    folder : str or path-like
        What to write, a folder or a URL of an object store. It appears when it is complete.
    original : optional
        As for `view`.
    overwrite : bool, default False
        Whether to replace a view that was exported there before; nothing else is.
    client, progress : optional
        As for `view`.

    Returns
    -------
    Path or UPath
        The folder.

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
    >>> page = kmdask.export_view(result, "ramp-page", original=scene)
    >>> sorted(path.name for path in page.iterdir() if path.is_dir())
    ['compressed', 'original']
    """
    image = _with_tiles(path)
    found, reason = _original(image, original)
    out = places.output_place(folder)
    if reason:
        # Not on the page: who looks at it need not know where files lie here.
        logger.warning("%s is without the original: %s", out, reason)
    state = {"state": "none" if found is None else "ready", "reason": ""}
    with publishing(out, EXPORTED, overwrite=overwrite) as partial, writing(out):
        partial.mkdir(parents=True)
        _copy_tiles(image, partial / COMPRESSED)
        storage.write_files(partial, page_files(image, state))
        if found is not None:
            with tempfile.TemporaryDirectory(prefix="kmdask-view-") as scratch:
                there = partial / ORIGINAL
                found.write(there, Path(scratch), client or Local(), chosen(progress))
    return out


def _with_tiles(path: str | os.PathLike[str] | CompressedImage) -> CompressedImage:
    image = path if isinstance(path, CompressedImage) else CompressedImage.read(places.place(path))
    # A bundle behind a web server has files, and perhaps no folders.
    for part in (store.TILES, f"{store.TILES_FILES}/0/0_0.png"):
        if not storage.exists(image.path / part):
            raise BundleError(
                f"{str(image.path)!r} has no tiles to look at: there is no {part} in it; compress "
                'the image again with the format "tiles" (without --no-tiles)'
            )
    return image


def _copy_tiles(image: CompressedImage, folder: Path) -> None:
    """Copy the tiles of a bundle, so many at once as are read from an object store together."""
    tiles = image.path / store.TILES_FILES
    for level, names in tile_names(image.shape[:2]).items():
        storage.make_folder(folder / level)
        for i in range(0, len(names), storage.TOGETHER):
            try:
                read = storage.read_files(tiles / level, names[i : i + storage.TOGETHER])
            except FileNotFoundError as error:
                raise BundleError(
                    f"{str(image.path)!r} is damaged: a tile cannot be read: {error}; bring it "
                    "back from a copy, or compress the image again (kmdask verify finds all that "
                    "is wrong)"
                ) from error
            except OSError as error:
                raise BundleError(
                    f"tiles of {str(image.path)!r} cannot be read: {error}; check rights, "
                    "credentials and the way there"
                ) from error
            storage.write_files(folder / level, read)


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
