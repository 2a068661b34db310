"""GDAL as kmdask uses it: its settings, what it raises, and how a file is opened."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import rasterio
from rasterio._env import get_gdal_config, set_gdal_config
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.session import DummySession

from kmdask.reading.gdal_remote import gdal_name, remote_options, tell_end_points

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CACHE = 1 << 24
"""Bytes of GDAL's cache of blocks, while anything is read.

Chunks are whole blocks, so hardly any block is asked for twice. Measured, more is slower (blocks in
fresh memory), and with less bands that lie apart travel in twice the requests. The default, 5 % of
the machine's memory, would be the footprint of each worker.
"""

LARGE = 1 << 26
"""Bytes of the largest block for which there is room besides: larger ones would be the footprint of
each worker. Threads that read such blocks still push out each other's bands."""

LIMIT = "GDAL_CACHEMAX"

OPTIONS = {
    # Dask's threads decode whole chunks side by side; threads within a read would fight them.
    "GDAL_NUM_THREADS": 1,
}

DESCRIBING_OPTIONS = OPTIONS | {
    # Large strips would be presented as rows, each of which decodes its strip from the beginning.
    "GDAL_ENABLE_TIFF_SPLIT": "NO",
}

ERRORS = (RasterioError, CPLE_BaseError)
"""What rasterio raises when GDAL cannot read; not all of it is turned into a `RasterioError`."""

DESCRIBING_ERRORS = (*ERRORS, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What rasterio raises on descriptions of damaged files: they hold text and numbers of any kind."""

_opening = threading.Lock()

_renewing = threading.Lock()

_versions: dict[str, str] = {}
"""Of remote files that GDAL has read in this process, what told them from later ones."""


@contextmanager
def settings(path: str, options: dict[str, Any] = OPTIONS) -> Iterator[None]:
    """Have GDAL's settings for reading a file, which may be remote, within a block."""
    tell_end_points(path)
    # Without a session of its own rasterio would find credentials if boto3 is there, and GDAL
    # would forget the headers of all remote files each time it is told of them.
    with rasterio.Env(DummySession(), **options, **remote_options(path)):
        yield


class _Cache:
    """GDAL's cache of blocks, of which this process has one, while any thread reads.

    It is not told by the `rasterio.Env` of each thread, which at its end has GDAL take what was
    told before its beginning, whoever reads then.
    """

    def __init__(self) -> None:
        self._telling = threading.Lock()
        self._blocks: list[int] = []
        self._before = CACHE

    @contextmanager
    def room_for(self, block: int) -> Iterator[None]:
        """Have room for so many bytes more within a block of code."""
        with self._telling:
            if not self._blocks:
                self._before = get_gdal_config(LIMIT, normalize=False)
            self._blocks.append(block)
            set_gdal_config(LIMIT, CACHE + sum(self._blocks))
        try:
            yield
        finally:
            with self._telling:
                self._blocks.remove(block)
                room = CACHE + sum(self._blocks) if self._blocks else self._before
                set_gdal_config(LIMIT, room)


_cache = _Cache()


@contextmanager
def reading(path: str, block: int) -> Iterator[None]:
    """Have GDAL's settings for reading pixels in blocks of so many bytes, all bands together.

    Into the cache, which all threads share, a block of interleaved bands goes band by band. If
    their blocks do not all fit, threads push out each other's bands before these are asked for, and
    a block is taken apart, or decoded, anew for every band: 100 bands of 16 bits in blocks of
    256 x 256 pixels took two threads ten times as long. So there is room for a block of each, up
    to `LARGE`.
    """
    with settings(path), _cache.room_for(block if block <= LARGE else 0):
        yield


def open_dataset(path: str | Path, *args: Any, **kwargs: Any) -> Any:
    """Call `rasterio.open`, without its warning that an image has no georeferencing."""
    # Warning filters are global to the process, so threads take turns at changing them.
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        name = gdal_name(path) if isinstance(path, str) else path
        return rasterio.open(name, *args, **kwargs)


def forget(path: str) -> None:
    """Have GDAL forget what it holds of a remote file, which may be half an answer."""
    with settings(path, OPTIONS | {"CPL_VSIL_CURL_NON_CACHED": gdal_name(path)}), suppress(*ERRORS):
        open_dataset(path).close()


def renew(path: str, version: str) -> None:
    """Have GDAL forget what it holds of a remote file if that is another version of it."""
    if not version:
        return
    with _renewing:
        if _versions.setdefault(path, version) != version:
            forget(path)
            _versions[path] = version
