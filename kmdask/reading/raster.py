"""Read an image lazily: a path or an array in, chunks of pixels out."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dask.array as da
import numpy as np

from kmdask.chunks import UNKNOWN, Workers, split
from kmdask.errors import ParameterError
from kmdask.reading.arrays import cut, lay_out_array, recognise
from kmdask.reading.plans import plan_array, plan_source, size_of
from kmdask.reading.sources import find_source
from kmdask.reading.spool import copied, saved
from kmdask.reading.window import cropped, windowed

__all__ = ["Raster", "open_raster", "size_of"]

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from kmdask.bands import Band
    from kmdask.chunks import ReadPlan
    from kmdask.georef import Georef
    from kmdask.places import Place
    from kmdask.reading.sources import Source


@dataclass(frozen=True)
class Raster:
    """An image in lazy chunks."""

    pixels: da.Array
    """Array of shape (y, x, band), one chunk over all bands."""

    mask: da.Array | None
    """uint8 array of shape (y, x), 0 where a pixel is invalid; None if every pixel is valid."""

    georef: Georef
    """Where the image is on the map."""

    bands: tuple[Band, ...]
    """What is known of the bands, in the order of `pixels`."""

    source: str
    """The path it is read from."""

    source_bytes: int
    """Size of what is at that path, in bytes; 0 if that is not known."""

    reader: Source | None = None
    """What reads windows without decoding whole chunks; None for Dask arrays."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = self.pixels.shape[:2]
        return int(height), int(width)

    @property
    def chunks(self) -> list[da.Array]:
        """What there is to read: the pixels, and the mask if there is one."""
        return [self.pixels] if self.mask is None else [self.pixels, self.mask]

    def with_chunks(self, chunks: Iterator[da.Array]) -> Raster:
        """Take other arrays, of the same content, in place of `chunks`."""
        return replace(self, pixels=next(chunks), mask=None if self.mask is None else next(chunks))

    def with_valid(self, pixels: int) -> Raster:
        """Forget the mask if that many pixels are valid and these are all there are."""
        height, width = self.shape
        return replace(self, mask=None) if pixels == height * width else self

    def window(self, rows: slice, columns: slice) -> tuple[da.Array, da.Array | None]:
        """Return the pixels and the mask of one small window, lazily, in one chunk.

        Parameters
        ----------
        rows, columns : slice
            Start and stop, inside the image.

        Returns
        -------
        pixels : dask array of shape (y, x, band)
        mask : dask array of shape (y, x) or None

        Examples
        --------
        >>> raster = open_raster(np.zeros((3000, 2000), np.uint8))
        >>> raster.window(slice(100, 150), slice(0, 40))[0].compute().shape
        (50, 40, 1)
        """
        if self.reader is None:
            pixels = self.pixels[rows, columns].rechunk(-1)
            return pixels, None if self.mask is None else self.mask[rows, columns].rechunk(-1)
        pixels, mask = _apart(
            _samples(
                self.reader,
                ((rows.stop - rows.start,), (columns.stop - columns.start,)),
                origin=(rows.start, columns.start),
            ),
            self.reader,
        )
        return pixels, None if self.mask is None else mask


def open_raster(
    source: str | os.PathLike[str] | Any,
    *,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    scratch: Place | None = None,
    chunk: tuple[int, int] | None = None,
    workers: Workers = UNKNOWN,
    window: Sequence[int] | None = None,
) -> Raster:
    """Open an image for reading in chunks.

    A path is opened again by every task that reads, wherever it runs. Files that can only be
    decoded from the first row on (PNG, JPEG, TIFF in one large strip) are copied into a temporary
    zarr array first, in one pass by one task; that costs the size of the raw pixels on disk. So
    are NumPy arrays, which would travel with the graph otherwise.

    Parameters
    ----------
    source : path, NumPy array, Dask array or xarray.DataArray
        What `kmdask.reading.sources.find_source` finds at a path that every worker can read, or
        an array of shape (y, x), (y, x, band) or (band, y, x).
    bands : sequence of int, optional
        Numbers of the bands to take, from 1, in any order. By default red, green and blue of an
        8-bit colour image, else every band but alpha.
    nodata : float, optional
        The value that stands for missing pixels, in place of the one the file names. A pixel is
        missing if all bands have it.
    scratch : Path, optional
        Directory for temporary copies, which every worker can write to. By default one of the
        system's that is removed when Python exits.
    chunk : tuple of int, optional
        Rows and columns of the chunks. By default chosen to suit the file.
    workers : Workers, optional
        Who is going to read it: how many threads there are, and what memory each has. By default
        chunks are chosen without.
    window : sequence of int or rasterio.windows.Window, optional
        The region to take, as first column, first row, width and height in pixels. By default all.

    Returns
    -------
    Raster

    Raises
    ------
    SourceNotFoundError
        If there is nothing at the path.
    SourceError
        If it cannot be read as an image.
    UnsupportedImageError
        If its data type or its bands are not supported.
    ParameterError
        If a band is asked for that is not there, `nodata` cannot occur, the window is not inside,
        or the source is nothing that can be opened.

    Examples
    --------
    >>> scene = np.arange(6 * 7 * 4, dtype=np.uint16).reshape(4, 6, 7)
    >>> raster = open_raster(scene, bands=(4, 1), nodata=0)
    >>> raster.pixels.shape, raster.mask.shape
    ((6, 7, 2), (6, 7))
    """
    found = found_at(source, bands=bands, nodata=nodata, window=window)
    if found is not None:
        raster = _from_source(found, os.fspath(source), scratch, _planned(found, chunk, workers))
        # How many bytes of a file a region of it takes is not known.
        return raster if window is None else replace(raster, source_bytes=0)
    given = recognise(source)
    given, layout = cropped(given, lay_out_array(given, bands=bands, nodata=nodata), window)
    if isinstance(given.data, da.Array):
        plan = plan_array(given.name, layout, workers)
        plan = plan if chunk is None else replace(plan, chunk=chunk)
        pixels, mask = cut(given, layout, plan)
        return Raster(pixels, mask, given.georef, layout.bands, given.name, 0)
    stored = saved(np.asarray(given.data), given.name, layout, given.georef, scratch)
    raster = _from_source(stored, given.name, scratch, _planned(stored, chunk, workers))
    return replace(raster, source_bytes=0)


def found_at(
    source: str | os.PathLike[str] | Any,
    *,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    window: Sequence[int] | None = None,
) -> Source | None:
    """Find what `open_raster` would open at a path, and read nothing; None of an array."""
    if not isinstance(source, str | os.PathLike):
        return None
    name = os.fspath(source)
    if not isinstance(name, str):
        raise ParameterError(f"source is a path as str; got {name!r}")
    return windowed(find_source(everywhere(name), bands=bands, nodata=nodata), window)


def _planned(source: Source, chunk: tuple[int, int] | None, workers: Workers) -> ReadPlan:
    if chunk is None:
        return plan_source(source, workers)
    return replace(plan_source(source), chunk=chunk)


def _from_source(source: Source, name: str, scratch: Place | None, plan: ReadPlan) -> Raster:
    stored: Source = copied(source, scratch) if plan.spool else source
    height, width = source.shape
    chunks = split(height, plan.chunk[0]), split(width, plan.chunk[1])
    pixels, mask = _apart(_samples(stored, chunks), source)
    return Raster(
        pixels=pixels,
        mask=mask,
        georef=source.georef,
        bands=source.bands,
        source=name,
        source_bytes=size_of(source.location),
        reader=stored,
    )


def everywhere(path: str) -> str:
    """Name a file so that a worker finds it whatever its working directory is."""
    # Names that GDAL makes up, such as /vsizip/... and HDF5:..., are left alone.
    directory, mark, array = path.partition("::")
    there = os.path.abspath(directory) + mark + array  # noqa: PTH100  keeps the name
    return there if os.path.lexists(directory) else path


def _samples(
    source: Source, chunks: tuple[tuple[int, ...], ...], origin: tuple[int, int] = (0, 0)
) -> da.Array:
    samples: da.Array = da.map_blocks(
        _read_block,
        source=source,
        origin=origin,
        chunks=(*chunks, (len(source.bands) + source.masked,)),
        dtype=source.dtype,
        meta=np.empty((0, 0, 0), source.dtype),
        # Named afresh each time: the file at a path may have changed since it was last read.
        name=f"read-{uuid4().hex}",
    )
    return samples


def _read_block(
    source: Source, origin: tuple[int, int], block_info: Any = None
) -> npt.NDArray[Any]:
    (top, bottom), (left, right), _ = block_info[None]["array-location"]
    y, x = origin
    return source.read(slice(y + top, y + bottom), slice(x + left, x + right))


def _apart(samples: da.Array, source: Source) -> tuple[da.Array, da.Array | None]:
    """Take the mask off samples that have one."""
    if not source.masked:
        return samples, None
    rows, columns, (bands,) = samples.chunks
    pixels = da.map_blocks(
        _without_mask,
        samples,
        chunks=(rows, columns, (bands - 1,)),
        dtype=source.dtype,
        meta=np.empty((0, 0, 0), source.dtype),
        token="pixels",
    )
    # Not map_blocks: to drop the axis of bands it would copy every block.
    mask = da.blockwise(
        _mask_alone,
        "yx",
        samples,
        "yxb",
        concatenate=False,
        dtype=np.uint8,
        meta=np.empty((0, 0), np.uint8),
        token="mask",
    )
    return pixels, mask


def _without_mask(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return block[:, :, :-1]


def _mask_alone(blocks: list[npt.NDArray[Any]]) -> npt.NDArray[np.uint8]:
    (block,) = blocks
    last = block[:, :, -1]
    return last if last.dtype == np.uint8 else (last != 0).astype(np.uint8)
