"""Read an image lazily: a path in, chunks of pixels out."""

from __future__ import annotations

import atexit
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import zarr
from dask.delayed import delayed

from kmdask.chunks import SHARD, plan_reads, split
from kmdask.errors import writing
from kmdask.graphs import block_names
from kmdask.sources import find_source
from kmdask.zarr_source import ZarrSource

if TYPE_CHECKING:
    import numpy.typing as npt

    from kmdask.georef import Georef
    from kmdask.sources import Source


@dataclass(frozen=True)
class Raster:
    """An image in lazy chunks."""

    pixels: da.Array
    """uint8 array of shape (y, x, band), one chunk over all bands."""

    mask: da.Array | None
    """uint8 array of shape (y, x), 0 where a pixel is invalid; None if every pixel is valid."""

    georef: Georef
    """Where the image is on the map."""

    source: str
    """The path it is read from."""

    source_bytes: int
    """Size of what is at that path, in bytes; 0 if that is not known."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = self.pixels.shape[:2]
        return int(height), int(width)

    def with_valid(self, pixels: int) -> Raster:
        """Forget the mask if that many pixels are valid and these are all there are."""
        height, width = self.shape
        return replace(self, mask=None) if pixels == height * width else self


def open_raster(path: str | os.PathLike[str], *, scratch: Path | None = None) -> Raster:
    """Open an image for reading in chunks.

    The path is opened again by every task that reads, wherever it runs. Files that can only be
    decoded from the first row on (PNG, JPEG, TIFF in one large strip) are copied into a temporary
    zarr array first, in one pass by one task; that costs the size of the raw pixels on disk.

    Parameters
    ----------
    path : str or path-like
        A raster that GDAL reads, or a zarr array, of 8-bit grey or RGB pixels with or without
        alpha. Every worker must be able to read it under this path.
    scratch : Path, optional
        Directory for the temporary copy, which every worker can write to. By default one of the
        system's that is removed when Python exits.

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
    """
    source = find_source(_everywhere(os.fspath(path)))
    plan = plan_reads(source.shape, source.block)
    stored = source
    if plan.spool:
        stored = _spool(source, (scratch or _temporary()) / "spool.zarr")
    samples = _read(stored, plan.chunk)
    return Raster(
        pixels=samples[:, :, : source.bands] if source.masked else samples,
        mask=samples[:, :, source.bands] if source.masked else None,
        georef=source.georef,
        source=os.fspath(path),
        source_bytes=size_of(Path(source.path)),
    )


def _everywhere(path: str) -> str:
    """Name a file so that a worker finds it whatever its working directory is."""
    # Names that GDAL makes up, such as /vsizip/... and HDF5:..., are left alone.
    return os.path.abspath(path) if os.path.lexists(path) else path  # noqa: PTH100  keeps the name


def size_of(path: Path) -> int:
    """Size in bytes of a file, or of all files in a directory; 0 if it is not a local path."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else 0


def _read(source: Source, chunk: tuple[int, int]) -> da.Array:
    height, width = source.shape
    samples: da.Array = da.map_blocks(
        _read_block,
        source=source,
        chunks=(split(height, chunk[0]), split(width, chunk[1]), (source.bands + source.masked,)),
        dtype=np.uint8,
        meta=np.empty((0, 0, 0), np.uint8),
        # Named afresh each time: the file at a path may have changed since it was last read.
        name=f"read-{uuid4().hex}",
    )
    return samples


def _read_block(source: Source, block_info: Any = None) -> npt.NDArray[np.uint8]:
    (top, bottom), (left, right), _ = block_info[None]["array-location"]
    return source.read(slice(top, bottom), slice(left, right))


def _temporary() -> Path:
    path = tempfile.mkdtemp(prefix="kmdask-")
    atexit.register(rmtree, path, ignore_errors=True)
    return Path(path)


def _spool(source: Source, path: Path) -> ZarrSource:
    """Copy an image into a zarr array, in one task that reads forward."""
    (name,) = block_names("spool", (source, str(path)), 1)
    copy = delayed(_copy_forward, pure=True)(source, str(path), dask_key_name=name)
    return cast("ZarrSource", dask.compute(copy)[0])


def _copy_forward(source: Source, path: str) -> ZarrSource:
    height, width = source.shape
    samples = source.bands + source.masked
    array = None
    with writing(Path(path)):
        for rows, columns, block in source.forward():
            if array is None:
                array = zarr.create_array(
                    path,
                    shape=(height, width, samples),
                    chunks=(block.shape[0], min(block.shape[1], SHARD), samples),
                    dtype=np.uint8,
                    compressors=None,
                    fill_value=0,
                    # A task whose worker died halfway runs again.
                    overwrite=True,
                )
            array[rows, columns] = block
    return replace(ZarrSource.open(path), bands=source.bands, masked=source.masked)
