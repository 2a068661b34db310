"""What can be opened for reading: rasters through GDAL, zarr arrays and .npy files.

A source is an address with a description. It pickles, it holds no open file, and every worker
opens the path for itself, for as long as it reads one window.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kmdask.errors import SourceError, SourceNotFoundError
from kmdask.reading.gdal import open_dataset
from kmdask.reading.gdal_source import RasterioSource
from kmdask.reading.npy_source import NpySource
from kmdask.reading.orientation import OrientedSource, oriented
from kmdask.reading.remote import is_remote, is_zarr
from kmdask.reading.zarr_source import ZarrSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from kmdask.bands import Band
    from kmdask.georef import Georef

__all__ = [
    "NpySource",
    "OrientedSource",
    "RasterioSource",
    "Source",
    "ZarrSource",
    "find_source",
    "open_dataset",
]


class Source(Protocol):
    """An image that can be read window by window, from any process that can reach its path."""

    @property
    def path(self) -> str:
        """What to call the image in messages."""

    @property
    def location(self) -> str:
        """The file or directory that holds its pixels."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the samples."""

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands that are read, in the order in which they are."""

    @property
    def masked(self) -> bool:
        """Whether `read` returns a further sample, 0 where the pixel is invalid."""

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns that are decoded together."""

    @property
    def georef(self) -> Georef:
        """Where the image is on the map."""

    def read(self, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Read a window of shape (y, x, sample): the bands, and the mask if there is one."""

    def forward(self) -> Iterator[tuple[slice, slice, npt.NDArray[Any]]]:
        """Read everything once, in the order that is cheapest: rows, columns and samples."""


def find_source(
    path: str, *, bands: Sequence[int] | None = None, nodata: float | None = None
) -> Source:
    """Recognise what is at a path and check that it is supported.

    Parameters
    ----------
    path : str
        A raster that GDAL reads, a zarr array or group, ``GROUP::ARRAY`` for an array of a group,
        or a .npy file; all but the latter may be behind URLs, ``s3://``, ``gs://``, ``az://`` or
        ``https://``.
    bands : sequence of int, optional
        Numbers of the bands to take, from 1, in any order. By default red, green and blue of an
        8-bit colour image, else every band but alpha.
    nodata : float, optional
        The value that stands for missing pixels, in place of the one the file names.

    Raises
    ------
    SourceNotFoundError
        If there is nothing at the path.
    SourceError
        If it is not an image, or is damaged where the description is.
    UnsupportedImageError
        If it is an image of a data type or with bands that are not supported.
    ParameterError
        If a band is asked for that is not there, or `nodata` cannot occur.

    Examples
    --------
    >>> import numpy as np
    >>> np.save("scene.npy", np.zeros((4, 200, 300), np.uint16))
    >>> source = find_source("scene.npy", bands=(4, 3, 2), nodata=0)
    >>> source.shape, source.dtype.name, source.masked
    ((200, 300), 'uint16', True)
    """
    if is_remote(path):
        return _find_remote(path, bands, nodata)
    directory, _, array = path.partition("::")
    try:
        exists, is_directory = Path(path).exists(), Path(path).is_dir()
        inside = bool(array) and Path(directory).is_dir()
        is_npy = exists and _starts_like_npy(path)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path!r} cannot be opened: {_told(error)}") from None
    if is_directory or inside:
        return ZarrSource.open(path, bands=bands, nodata=nodata)
    # GDAL knows names that are no files: https://..., /vsizip/..., HDF5:file.h5://array
    if not (exists or ":" in path or path.startswith("/vsi")):
        msg = f"there is no file {path!r}; check the path, and that every worker can see it"
        raise SourceNotFoundError(msg)
    if is_npy:
        return NpySource.open(path, bands=bands, nodata=nodata)
    return oriented(RasterioSource.open(path, bands=bands, nodata=nodata))


def _find_remote(path: str, bands: Sequence[int] | None, nodata: float | None) -> Source:
    if path.partition("?")[0].lower().endswith(".npy"):
        msg = (
            f"{path!r} is a .npy file behind a URL, and kmdask maps those into memory; copy it to "
            "where every worker sees it, or write the array as zarr"
        )
        raise SourceError(msg)
    if is_zarr(path):
        return ZarrSource.open(path, bands=bands, nodata=nodata)
    return oriented(RasterioSource.open(path, bands=bands, nodata=nodata))


def _starts_like_npy(path: str) -> bool:
    if not Path(path).is_file():
        return False
    with Path(path).open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


def _told(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
