"""The bundle on disk: its layout, and how its indices and palette are written and read.

A bundle is a directory::

    scene.kmdask/
      image.zarr/     zarr v2 group: `indices` (y, x), `palette` (index, band), where it is
      image.tif       the same as a Cloud Optimized GeoTIFF with a colour table, if asked for
      tiles.dzi       Deep Zoom description of
      tiles_files/    the tiles, LEVEL/COLUMN_ROW.png
      preview.jpg     the level whose longest side is at most 2048 pixels
      report.json     sizes, quality, timings

How it comes to be there is told in `kmdask.writing.staging`.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import zarr

from kmdask import places, storage
from kmdask.bands import Band
from kmdask.chunks import CHUNK, SHARD, fits
from kmdask.errors import BundleError, writing
from kmdask.georef import Georef
from kmdask.graphs import write_blocks
from kmdask.palette import Palette, index_dtype
from kmdask.reading.zarr_source import OPENING_ERRORS
from kmdask.writing import geozarr
from kmdask.writing.codecs import told_zarr
from kmdask.writing.whole import whole_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from kmdask.places import Place
    from kmdask.writing.receipts import Receipts

FORMAT_VERSION = 2
"""Raised when a bundle could no longer be read by the version before."""

IMAGE, TILES, TILES_FILES = "image.zarr", "tiles.dzi", "tiles_files"
COG, PREVIEW, REPORT = "image.tif", "preview.jpg", "report.json"
SCRATCH = "scratch"
"""Temporary files of a run, inside the directory it writes; gone when the bundle is published."""

RUN = "run.json"
"""What a run was asked, while it goes on."""

INDICES, PALETTE, PENALTIES = "indices", "palette", "penalties"
"""The arrays of ``image.zarr``; the last one is only there if the palette has any."""

ATTRIBUTES = "kmdask"
"""The attribute of ``image.zarr`` that tells a bundle."""


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

    bands: tuple[Band, ...]
    """What the columns of the palette are, at least one."""

    display: dict[str, Any] = field(default_factory=dict)
    """How tiles and preview show the palette, ready for JSON."""

    options: dict[str, Any] = field(default_factory=dict)
    """How the palette was fitted, ready for JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, ready for JSON."""
        return {
            "k": self.k,
            "seed": self.seed,
            **self.georef.to_dict(),
            "bands": [band.to_dict() for band in self.bands],
            "display": self.display,
            "options": self.options,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any], *, masked: bool) -> Header:
        """Rebuild from the result of `to_dict`."""
        kinds = {"k": int, "seed": int, "display": dict, "options": dict}
        for name, kind in kinds.items():
            if type(fields[name]) is not kind:
                raise TypeError(f"{name} is {fields[name]!r}")
        return cls(
            masked=masked,
            georef=Georef.from_dict(fields),
            bands=tuple(Band.from_dict(band) for band in fields["bands"]),
            **{name: fields[name] for name in kinds},
        )


def is_bundle(path: Place) -> bool:
    """Whether a finished bundle stands at a path."""
    try:
        return ATTRIBUTES in zarr.open_group(places.zarr_store(path / IMAGE), mode="r").attrs
    except OPENING_ERRORS:
        return False


def create_image(
    bundle: Place, shape: tuple[int, int], palette: Palette, header: Header, codec: str = "zstd"
) -> None:
    """Create ``image.zarr`` with its palette and attributes, and no indices yet."""
    path = bundle / IMAGE
    k = len(palette.colors)
    entries, nodata = k + header.masked, k if header.masked else None
    with writing(path):
        group = geozarr.create_group(path)
        geozarr.create_image(
            group,
            INDICES,
            shape,
            header.georef,
            dtype=index_dtype(entries),
            fill_value=nodata,
            **told_zarr(codec, entries),
        )
        dims = ("index", "band")
        geozarr.write_array(group, PALETTE, dims, palette.colors, coordinates="band_name")
        if palette.penalties is not None:
            geozarr.write_array(group, PENALTIES, dims[:1], palette.penalties)
        geozarr.write_bands(group, header.bands)
        fields = {"format_version": FORMAT_VERSION, "nodata": nodata}
        group.attrs[ATTRIBUTES] = fields | header.to_dict()
        geozarr.finish_group(path)


def write_indices(indices: da.Array, bundle: Place, receipts: Receipts | None = None) -> da.Array:
    """Write indices into the ``image.zarr`` of a bundle, lazily, one task per Dask chunk.

    Parameters
    ----------
    indices : dask array of shape (y, x), uint8 or uint16
        Chunked in any way: pieces of stored chunks are joined first, because two tasks that write
        parts of one would overwrite each other.
    bundle : Path or UPath
        Where `create_image` has been.
    receipts : Receipts, optional
        Where is kept which chunks are written.

    Returns
    -------
    dask array of int64
        When computed, the indices are written; one number per Dask chunk, its pixels.
    """
    if not fits(indices.chunks, CHUNK):
        indices = indices.rechunk((SHARD, SHARD))
    path = bundle / IMAGE / INDICES
    return write_blocks(_write_chunks, indices, "write-zarr", receipts=receipts, path=path)


def _write_chunks(
    indices: npt.NDArray[Any], path: Place, block_info: Any = None
) -> npt.NDArray[np.int64]:
    region = tuple(slice(*span) for span in block_info[0]["array-location"])
    with writing(path):
        array = zarr.open_array(places.zarr_store(path), mode="r+")
        # A chunk that is not there is one that was lost, also where all would be invalid.
        array.with_config({"write_empty_chunks": True})[region] = indices
    return np.full((1, 1), indices.size)


def begun_at(path: str) -> Place | None:
    """Return the place that a path names if it holds a bundle, or parts of one."""
    if not places.is_there(path):
        return None
    bundle = places.place(path)
    return bundle if _has_image(bundle) or _has(bundle, REPORT) else None


def check_finished(bundle: Place) -> None:
    """Raise a `BundleError` if a bundle is still being written, or never was finished."""
    if not _has_image(bundle) or _has(bundle, REPORT):
        return
    if not (_has(bundle, RUN) or _has(bundle, SCRATCH)):
        raise _damaged(bundle, f"there is no {REPORT} in it")
    raise BundleError(
        f"{str(bundle)!r} is not finished: the run that writes it is still going or was cut "
        "off; compress again with resume=True (--resume) to go on"
    )


def read_image(bundle: Place) -> tuple[da.Array, Palette, Header]:
    """Open the ``image.zarr`` of a bundle.

    Returns
    -------
    indices : dask array of shape (y, x), uint8 or uint16
        Lazy, in chunks of at most 4096 x 4096.
    palette : Palette
    header : Header

    Raises
    ------
    BundleError
        If there is no bundle at the path, or one that this version cannot read; when indices are
        computed, if a chunk of them is not there.
    """
    indices, palette, header = read_arrays(bundle)
    return da.from_zarr(indices, chunks=(SHARD, SHARD)), palette, header


def read_arrays(bundle: Place) -> tuple[Any, Palette, Header]:
    """Open the ``image.zarr`` of a bundle, without Dask.

    Returns
    -------
    indices : zarr.Array of shape (y, x), uint8 or uint16
    palette : Palette
    header : Header

    Raises what `read_image` does, of chunks when indices are read.
    """
    if not _has_image(bundle):
        what = f"there is no {IMAGE} in it" if bundle.is_dir() else "it does not exist"
        what = "it is a file" if storage.is_file(bundle) else what
        msg = f"{str(bundle)!r} is no kmdask bundle: {what}; give what kmdask compress wrote"
        raise BundleError(msg)
    with _damage_named(bundle):
        group: Any = zarr.open_group(whole_store(bundle, IMAGE), mode="r")
        fields = group.attrs[ATTRIBUTES]
        version = fields["format_version"]
        if version != FORMAT_VERSION:
            raise BundleError(
                f"{str(bundle)!r} has format version {version}, this kmdask reads "
                f"{FORMAT_VERSION}; install the version of kmdask that wrote it"
            )
        header = Header.from_dict(fields, masked=fields["nodata"] is not None)
        indices, colors = group[INDICES], np.asarray(group[PALETTE][:])
        _check_arrays(indices, colors, header, fields["nodata"])
        penalties = np.asarray(group[PENALTIES][:]) if PENALTIES in group else None
        return indices, Palette(colors, penalties), header


def _has_image(bundle: Place) -> bool:
    # Web servers know files, and not all of them folders.
    return _has(bundle, f"{IMAGE}/.zgroup") or _has(bundle, IMAGE)


def _has(bundle: Place, name: str) -> bool:
    try:
        return storage.exists(bundle / name)
    except OSError as error:
        msg = f"{str(bundle)!r} cannot be looked into: {error}; check path, rights and credentials"
        raise BundleError(msg) from error


@contextmanager
def _damage_named(bundle: Place) -> Iterator[None]:
    try:
        yield
    except BundleError:
        raise
    except (*OPENING_ERRORS, RuntimeError) as error:
        # The last one is what codecs raise.
        raise _damaged(bundle, repr(error)) from error


def _damaged(bundle: Place, told: str) -> BundleError:
    return BundleError(f"{str(bundle)!r} is damaged: {told}; compress the image again")


def _check_arrays(indices: Any, colors: npt.NDArray[Any], header: Header, nodata: object) -> None:
    if indices.ndim != 2 or indices.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"indices are {indices.dtype} of shape {indices.shape}")
    bands = len(header.bands)
    if colors.ndim != 2 or colors.shape[1] != bands or colors.dtype.kind not in "iuf":
        raise ValueError(f"the palette is {colors.dtype} of shape {colors.shape} for {bands} bands")
    if nodata not in (None, len(colors)):
        raise ValueError(f"nodata is {nodata} for {len(colors)} colours")
    if not 1 <= len(colors) + header.masked <= np.iinfo(indices.dtype).max + 1:
        raise ValueError(f"{len(colors)} colours for indices of {indices.dtype}")
