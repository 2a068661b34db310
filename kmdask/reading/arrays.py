"""Arrays that are in Python already: NumPy's, Dask's and xarray's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from kmdask.chunks import ReadPlan, split
from kmdask.errors import ParameterError
from kmdask.georef import Georef
from kmdask.reading import cf
from kmdask.reading.layout import Described, Layout, lay_out
from kmdask.reading.missing import valid_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt


@dataclass(frozen=True)
class Given:
    """An array with what is known of it."""

    name: str
    """What to call it in messages."""

    data: Any
    """A NumPy or Dask array."""

    told: Described
    georef: Georef


@dataclass(frozen=True)
class _Coordinate:
    """A coordinate of an xarray object, as a variable of `kmdask.reading.cf`."""

    variable: Any

    @property
    def attrs(self) -> Mapping[str, Any]:
        return dict(self.variable.attrs)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)

    def values(self) -> npt.NDArray[Any]:
        return np.asarray(self.variable.values)


def recognise(source: object) -> Given:
    """Take an array apart into its data and what it tells.

    Raises
    ------
    ParameterError
        If it is no array, or a Dask array whose size nobody knows.
    """
    kind = type(source).__module__.partition(".")[0]
    if kind == "xarray" and hasattr(source, "dims") and hasattr(source, "coords"):
        given = _from_xarray(source)
    elif isinstance(source, np.ndarray | da.Array):
        given = Given(f"array {tuple(source.shape)}", source, Described(), Georef())
    else:
        raise ParameterError(
            "source is a path, a NumPy or Dask array or an xarray.DataArray; "
            f"got {type(source).__name__}"
        )
    if any(math.isnan(size) for size in given.data.shape):
        raise ParameterError(
            f"the Dask array has shape {given.data.shape}: its chunk sizes are unknown; call "
            "compute_chunk_sizes() on it first"
        )
    return given


def lay_out_array(
    given: Given, *, bands: Sequence[int] | None = None, nodata: float | None = None
) -> Layout:
    """Find out how the pixels lie in an array."""
    shape = tuple(int(size) for size in given.data.shape)
    return lay_out(given.name, shape, given.data.dtype, given.told, bands=bands, nodata=nodata)


def cut(given: Given, layout: Layout, plan: ReadPlan) -> tuple[da.Array, da.Array | None]:
    """Bring a Dask array into chunks of pixels and of the mask.

    Whatever its chunks are, they become those of every image of that shape, so that the same
    pixels give the same files.
    """
    height, width = layout.shape
    window = layout.selection(slice(0, height), slice(0, width))
    stored = layout.pixels(given.data[window])
    first = min(band.number for band in layout.bands)
    picks = [band.number - first for band in layout.bands]
    chunks = split(height, plan.chunk[0]), split(width, plan.chunk[1])
    stored = stored.rechunk((*chunks, -1))
    pixels = stored if picks == list(range(stored.shape[2])) else stored[:, :, picks]
    pixels = pixels.astype(layout.dtype).rechunk((*chunks, -1))
    if not layout.masked:
        return pixels, None
    alpha = stored[:, :, -1] if layout.alpha else da.ones((height, width), np.uint8, chunks=chunks)
    mask = da.map_blocks(
        _mask_block,
        pixels,
        alpha[:, :, None],
        nodata=layout.nodata if layout.values_tell else None,
        drop_axis=2,
        dtype=np.uint8,
        meta=np.empty((0, 0), np.uint8),
        token="mask",
    )
    return pixels, mask


def _mask_block(
    pixels: npt.NDArray[Any], alpha: npt.NDArray[Any], nodata: tuple[float | None, ...] | None
) -> npt.NDArray[np.uint8]:
    valid = alpha[:, :, 0] != 0
    if nodata is not None:
        valid &= valid_values(pixels, nodata)
    mask: npt.NDArray[np.uint8] = valid.astype(np.uint8)
    return mask


def _from_xarray(source: Any) -> Given:
    if not hasattr(source, "data"):
        names = ", ".join(map(str, source))
        raise ParameterError(f"source is an xarray.Dataset; give one of its variables: {names}")
    name = f"DataArray {source.name or ''}".rstrip()
    dims = tuple(map(str, source.dims))
    beside = {str(key): _Coordinate(value) for key, value in source.coords.items()}
    attrs = {"grid_mapping": source.encoding.get("grid_mapping", "spatial_ref"), **source.attrs}
    told = cf.describe(name, attrs, dims)
    georef = cf.place(name, attrs, dims, beside)
    return Given(name, source.data, told, _with_accessor(source, georef))


def _with_accessor(source: Any, georef: Georef) -> Georef:
    """Add what only rioxarray knows: its accessor is there if it has been imported."""
    crs = getattr(getattr(source, "rio", None), "crs", None)
    if georef.crs_wkt is None and crs:
        return Georef(crs.to_wkt(), georef.transform, georef.gcps, georef.rpcs, georef.point)
    return georef
