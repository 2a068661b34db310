"""What a run is asked for: what decides its bundle, where that goes, and that it harms nothing."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import dask

from kmdask import places, storage
from kmdask.errors import KmdaskError, ParameterError
from kmdask.reading import gdal, gdal_remote
from kmdask.reading.raster import everywhere
from kmdask.report import versions
from kmdask.writing import receipts, store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sklearn.base import BaseEstimator

    from kmdask.options import Options
    from kmdask.places import Place


def request(source: Any, options: Options, estimator: BaseEstimator | None) -> dict[str, Any]:
    """Return what decides a bundle, ready for JSON: a run goes on only with the same.

    Of files their names, sizes and times, of objects their tags; of an array what it is computed
    from. What cannot be told apart from what it may become is like nothing else, ever.
    """
    if isinstance(source, str | os.PathLike):
        name = everywhere(os.fspath(source))
        # A name may be a signed URL, and what is asked stands in a file.
        of = [hashlib.sha256(name.encode()).hexdigest(), *map(_version, _files_of(name))]
    else:
        of = [dask.base.tokenize(source)]
    return {
        "source": of,
        "options": repr(options),
        "palette": None if options.palette is None else options.palette.to_json().decode(),
        "estimator": None if estimator is None else dask.base.tokenize(estimator),
        "format": store.FORMAT_VERSION,
        "receipts": receipts.VERSION,
        "versions": versions(),
    }


def _files_of(name: str) -> list[str]:
    """Name the files of this machine that an image is made of: masks beside it, parts of a mosaic.

    GDAL knows, also for names that it makes up; a URL has but its own.
    """
    there = name.partition("::")[0]
    if gdal_remote.is_remote(there) or os.path.isdir(there):  # noqa: PTH112  does not raise
        return [there]
    with suppress(*gdal.ERRORS, *gdal.DESCRIBING_ERRORS), gdal.open_dataset(name) as dataset:
        return sorted(dataset.files) or [there]
    return [there]


def _version(name: str) -> str:
    version = ""
    if gdal_remote.is_remote(name) or os.path.exists(name):  # noqa: PTH110  does not raise
        with suppress(KmdaskError):
            version = storage.version_of(places.place(name))
    return version or uuid4().hex


def default_output(source: Any) -> Path:
    """Name the bundle of a source: beside it with another ending; of a URL, in this directory.

    Examples
    --------
    >>> default_output("https://example.org/scenes/scene.tif?signature=f00").name
    'scene.kmdask'
    """
    if not isinstance(source, str | os.PathLike):
        raise ParameterError(
            f"an array has no name to call the output by; give out= (got {type(source).__name__})"
        )
    # The name of an array in a group comes after "::" and is none of a file.
    name = os.fspath(source).partition("::")[0]
    path = Path(name)
    if not _is_local(name):
        path = Path(PurePosixPath(urlsplit(name).path if places.is_url(name) else name).name)
    if not path.name:
        raise ParameterError(f"{name!r} has no name to call the output by; give one")
    return path.with_suffix(".kmdask")


def check_apart(source: Any, target: Place) -> None:
    """Raise a `ParameterError` if a source is the bundle that is to be written, or lies in it."""
    if not isinstance(source, str | os.PathLike):
        return
    name = os.fspath(source).partition("::")[0]
    if not (_is_local(name) or gdal_remote.is_remote(name)):
        return
    path = places.place(name)
    if target == path and path.is_dir():
        msg = (
            f"{name!r} would be its own output: give another or, if it is a compressed image, make "
            "a source of it by `kmdask decompress`"
        )
        raise ParameterError(msg)
    if target in path.parents:
        msg = f"the source {name!r} lies in the output {str(target)!r}; give another"
        raise ParameterError(msg)


def _is_local(name: str) -> bool:
    return ":" not in name and not name.startswith("/vsi")


@contextmanager
def bands_explained(options: Options) -> Iterator[None]:
    """Say where bands come from that nobody asked for."""
    try:
        yield
    except ParameterError as error:
        if options.bands is not None or options.palette is None or "bands" not in str(error):
            raise
        msg = f"{error} (by default the bands of the palette are taken; choose others by bands=)"
        raise ParameterError(msg) from error
