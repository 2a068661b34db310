"""The bundle on disk: its layout, how it is written, and how it comes to stand there whole.

A bundle is a directory::

    scene.kmdask/
      image.zarr/     zarr v3 group: `indices` (y, x), `palette` (index, band), attributes
      tiles.dzi       Deep Zoom description of
      tiles_files/    the tiles, LEVEL/COLUMN_ROW.png
      preview.jpg     the level whose longest side is at most 2048 pixels
      report.json     sizes, quality, timings

It is written under another name beside its target and renamed when all of it is there.
"""

from __future__ import annotations

import glob
import logging
import os
import shutil
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from kmdask.chunks import CHUNK, shard_shape
from kmdask.errors import BundleError, OutputExistsError, writing
from kmdask.georef import Georef
from kmdask.graphs import write_blocks
from kmdask.palette import Palette
from kmdask.zarr_source import OPENING_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
"""Raised when a bundle could no longer be read by the version before."""

IMAGE, TILES, TILES_FILES = "image.zarr", "tiles.dzi", "tiles_files"
PREVIEW, REPORT = "preview.jpg", "report.json"
SCRATCH = "scratch"
"""Temporary files of a run, inside the directory it writes; gone when the bundle is published."""

ATTRIBUTES = "kmdask"
"""The attribute of ``image.zarr`` that tells a bundle."""

ZSTD_LEVEL = 3


@dataclass(frozen=True)
class Header:
    """What the attributes of ``image.zarr`` say."""

    k: int
    """Colours asked for."""

    seed: int
    """Seed of the fit."""

    masked: bool
    """Whether the index after the palette marks invalid pixels."""

    georef: Georef
    """Where the image is on the map."""


@contextmanager
def publishing(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a new directory to write a bundle in, and put it in its place if all goes well.

    Parameters
    ----------
    out : Path
        Where the bundle is to stand.
    overwrite : bool
        Whether a bundle that stands there may be replaced. Anything else is never replaced.

    Yields
    ------
    Path
        A directory beside `out`. It is removed when an exception leaves the block, and then what
        stood at `out` stands there still.

    Raises
    ------
    OutputExistsError
        If something stands at `out` that may not be replaced.
    OutputError
        If nothing can be written there.
    """
    _check_free(out, overwrite=overwrite)
    staging = out.parent / f".{out.name}.partial-{uuid.uuid4().hex[:8]}"
    for left in sorted(out.parent.glob(f".{glob.escape(out.name)}.partial-*")):
        logger.warning("%s was left by a run that is still going or was cut off; "
                       "remove it if none is going", left)  # fmt: skip
    try:
        with writing(out):
            staging.mkdir()
            (staging / SCRATCH).mkdir()
        yield staging
        with writing(out):
            shutil.rmtree(staging / SCRATCH)
            _check_free(out, overwrite=overwrite)
            _replace(staging, out, overwrite=overwrite)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_free(out: Path, *, overwrite: bool) -> None:
    if not os.path.lexists(out):
        return
    if not overwrite:
        msg = f"{str(out)!r} exists already; give another output, or overwrite=True (--overwrite)"
        raise OutputExistsError(msg)
    if not _is_bundle(out):
        msg = f"{str(out)!r} is no kmdask bundle and is not overwritten; give another output"
        raise OutputExistsError(msg)


def _is_bundle(path: Path) -> bool:
    try:
        return ATTRIBUTES in zarr.open_group(path / IMAGE, mode="r").attrs
    except OPENING_ERRORS:
        return False


def _replace(staging: Path, out: Path, *, overwrite: bool) -> None:
    """Rename the finished bundle to its place, the old one out of the way first."""
    if not (overwrite and out.exists()):
        staging.rename(out)
        return
    old = staging.with_name(staging.name.replace(".partial-", ".old-"))
    out.rename(old)
    try:
        staging.rename(out)
    except OSError:
        old.rename(out)
        raise
    if old.is_symlink():
        old.unlink()
    else:
        shutil.rmtree(old, ignore_errors=True)


def create_image(bundle: Path, shape: tuple[int, int], palette: Palette, header: Header) -> None:
    """Create ``image.zarr`` with its palette and attributes, and no indices yet."""
    with writing(bundle / IMAGE):
        group = zarr.create_group(bundle / IMAGE)
        group.create_array(
            "indices",
            shape=shape,
            chunks=(CHUNK, CHUNK),
            shards=shard_shape(shape),
            dtype=np.uint8,
            compressors=[ZstdCodec(level=ZSTD_LEVEL)],
            fill_value=palette.nodata if header.masked else 0,
            dimension_names=("y", "x"),
        )
        group.create_array(
            "palette",
            data=np.asarray(palette.colors),
            chunks=palette.colors.shape,
            dimension_names=("index", "band"),
        )
        group.attrs[ATTRIBUTES] = {
            "format_version": FORMAT_VERSION,
            "k": header.k,
            "seed": header.seed,
            "nodata": palette.nodata if header.masked else None,
            **header.georef.to_dict(),
        }


def write_indices(indices: da.Array, bundle: Path) -> da.Array:
    """Write indices into the ``image.zarr`` of a bundle, lazily, one task per shard.

    Parameters
    ----------
    indices : dask array of shape (y, x), uint8
        Chunked in any way: pieces of shards are joined first, because two tasks that write parts
        of one shard would overwrite each other.
    bundle : Path
        Where `create_image` has been.

    Returns
    -------
    dask array of int64
        When computed, the indices are written; one number per shard, its pixels.
    """
    shard = shard_shape(indices.shape)
    aligned = all(
        size % whole == 0
        for sizes, whole in zip(indices.chunks, shard, strict=True)
        for size in sizes[:-1]
    )
    if not aligned:
        indices = indices.rechunk(shard)
    return write_blocks(_write_shards, indices, "write-zarr", path=bundle / IMAGE / "indices")


def _write_shards(
    indices: npt.NDArray[np.uint8], path: Path, block_info: Any = None
) -> npt.NDArray[np.int64]:
    region = tuple(slice(*span) for span in block_info[0]["array-location"])
    with writing(path):
        # To find out whether a chunk is empty costs more than to write an empty one.
        array = zarr.open_array(path, mode="r+", config={"write_empty_chunks": True})
        array[region] = indices
    return np.full((1, 1), indices.size)


def read_image(bundle: Path) -> tuple[da.Array, Palette, Header]:
    """Open the ``image.zarr`` of a bundle.

    Returns
    -------
    indices : dask array of shape (y, x), uint8
        Lazy, one chunk per shard.
    palette : Palette
    header : Header

    Raises
    ------
    BundleError
        If there is no bundle at the path, or one that this version cannot read.
    """
    if not os.path.isdir(bundle / IMAGE):  # noqa: PTH112  does not raise where it may not look
        msg = f"{str(bundle)!r} is no kmdask bundle: there is no {IMAGE} in it"
        raise BundleError(msg)
    try:
        group = zarr.open_group(bundle / IMAGE, mode="r")
        fields: Any = group.attrs[ATTRIBUTES]
        _check_version(bundle, fields["format_version"])
        indices: Any = group["indices"]
        colors: Any = group["palette"]
        palette = Palette(np.asarray(colors[:]))
        header = Header(
            k=fields["k"],
            seed=fields["seed"],
            masked=fields["nodata"] is not None,
            georef=Georef.from_dict(fields),
        )
        _check_indices(indices, palette, fields["nodata"])
        return da.from_zarr(indices, chunks=indices.shards), palette, header
    except BundleError:
        raise
    except OPENING_ERRORS as error:
        msg = f"{str(bundle)!r} is damaged: {error!r}; compress the image again"
        raise BundleError(msg) from error


def _check_version(bundle: Path, version: object) -> None:
    if version != FORMAT_VERSION:
        msg = (
            f"{str(bundle)!r} has format version {version}, this kmdask reads {FORMAT_VERSION}; "
            "install the version of kmdask that wrote it"
        )
        raise BundleError(msg)


def _check_indices(indices: Any, palette: Palette, nodata: object) -> None:
    if indices.ndim != 2 or indices.dtype != np.uint8:
        raise ValueError(f"indices are {indices.dtype} of shape {indices.shape}")
    if nodata not in (None, palette.nodata):
        raise ValueError(f"nodata is {nodata} for {len(palette)} colours")
