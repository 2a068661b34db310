"""Temporary copies: of files that cannot be read at random, and of arrays in memory."""

from __future__ import annotations

import atexit
import tempfile
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, cast
from uuid import uuid4

import dask
import numpy as np
import zarr
from dask.delayed import delayed

from kmdask import chunks
from kmdask.errors import writing
from kmdask.graphs import block_names
from kmdask.places import place, zarr_store
from kmdask.reading.gdal import forget
from kmdask.reading.layout import Layout
from kmdask.reading.npy_source import NpySource
from kmdask.reading.remote import persistent
from kmdask.reading.zarr_source import ZarrSource

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    from kmdask.georef import Georef
    from kmdask.places import Place
    from kmdask.reading.sources import Source


def copied(source: Source, scratch: Place | None) -> ZarrSource:
    """Copy an image into a zarr array, in one task that reads forward."""
    path = str((scratch or _temporary()) / "spool.zarr")
    (name,) = block_names("spool", (source, path), 1)
    copy = delayed(_copy, pure=True)(source, path, dask_key_name=name)
    return cast("ZarrSource", dask.compute(copy)[0])


def saved(
    array: npt.NDArray[Any], name: str, layout: Layout, georef: Georef, scratch: Place | None
) -> NpySource | ZarrSource:
    """Save an array of this process where workers can read it: NumPy's format needs a file."""
    folder = scratch or _temporary()
    if isinstance(folder, Path):
        path = folder / f"array-{uuid4().hex[:8]}.npy"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, array, allow_pickle=False)
        return NpySource(name, str(path), layout, georef)
    there = folder / f"array-{uuid4().hex[:8]}.zarr"
    block = tuple(min(size, chunks.CHUNK) for size in array.shape)
    with writing(there):
        zarr.create_array(zarr_store(there), data=array, chunks=block, zarr_format=3)
    return ZarrSource(name, str(there), layout, layout.per_axis(block), georef, 3)


def _temporary() -> Path:
    path = tempfile.mkdtemp(prefix="kmdask-")
    atexit.register(rmtree, path, ignore_errors=True)
    return Path(path)


def _copy(source: Source, path: str) -> ZarrSource:
    # What has to be decoded from the first row on is begun again where it failed.
    return persistent(source.location, lambda: _copy_forward(source, path), forget=forget)


def _copy_forward(source: Source, path: str) -> ZarrSource:
    height, width = source.shape
    samples = len(source.bands) + source.masked
    array = None
    there = place(path)
    with writing(there):
        for rows, columns, block in source.forward():
            if array is None:
                array = zarr.create_array(
                    zarr_store(there),
                    shape=(height, width, samples),
                    chunks=(
                        min(block.shape[0], chunks.SHARD),
                        min(block.shape[1], chunks.SHARD),
                        samples,
                    ),
                    dtype=source.dtype,
                    compressors=None,
                    zarr_format=3,
                    fill_value=0,
                    # A task whose worker died halfway runs again.
                    overwrite=True,
                )
            array[rows, columns] = block
    if array is None:
        raise ValueError(f"{source.path!r} gave no pixels")
    return _as_it_was(source, path, array.chunks, samples)


def _as_it_was(source: Source, path: str, stored: tuple[int, ...], samples: int) -> ZarrSource:
    """Describe a copy by what it was copied from: its last sample is the mask, if there is one."""
    layout = Layout(
        axes="yxs",
        shape=source.shape,
        dtype=source.dtype,
        samples=samples,
        bands=tuple(replace(band, number=n) for n, band in enumerate(source.bands, start=1)),
        alpha=source.masked,
        values_tell=False,
    )
    return ZarrSource(source.path, path, layout, (stored[0], stored[1]), source.georef, 3)
