"""Zarr groups that xarray, rioxarray and GDAL find on the map.

Zarr format 2 in plain chunks: GDAL's driver in the wheels of rasterio reads neither shards nor,
before GDAL 3.12, the final format 3.

References
----------
.. [1] "NetCDF Climate and Forecast (CF) Metadata Conventions", https://cfconventions.org: grid
   mappings and coordinate variables.
.. [2] "Zarr driver", GDAL documentation, https://gdal.org/en/stable/drivers/raster/zarr.html:
   the attribute ``_CRS``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from kmdask import places
from kmdask.chunks import CHUNK
from kmdask.writing.codecs import ZSTD

if TYPE_CHECKING:
    import numpy.typing as npt
    from pyproj import CRS

    from kmdask.bands import Band
    from kmdask.georef import Georef
    from kmdask.places import Place

GRID = "spatial_ref"
"""Name of the scalar that holds the grid mapping: the one rioxarray looks for."""


def create_group(path: Place) -> Any:
    """Create a group of zarr format 2."""
    return zarr.create_group(places.zarr_store(path), zarr_format=2)


def create_array(group: Any, name: str, dims: tuple[str, ...], **options: Any) -> Any:
    """Create an array in a group, with the names of its dimensions where xarray looks for them.

    Parameters
    ----------
    group : zarr.Group
    name : str
    dims : tuple of str
    **options
        Those of `zarr.Group.create_array`. By default zstd, and no fill value: xarray would take
        pixels that have it for missing.

    Returns
    -------
    zarr.Array
    """
    array = group.create_array(
        name,
        chunk_key_encoding={"name": "v2", "separator": "/"},
        # Without a fill value it is not defined what stands in a chunk that is not there.
        config={"write_empty_chunks": options.get("fill_value") is None},
        **{"fill_value": None, **ZSTD, **options},
    )
    array.attrs["_ARRAY_DIMENSIONS"] = list(dims)
    return array


def create_image(
    group: Any,
    name: str,
    shape: tuple[int, int],
    georef: Georef,
    *,
    bands: int | None = None,
    **options: Any,
) -> Any:
    """Create the array of an image, its coordinates and its grid mapping.

    Parameters
    ----------
    group : zarr.Group
    name : str
    shape : tuple of int
        Rows and columns.
    georef : Georef
    bands : int, optional
        Number of bands, the first axis; by default there is no such axis.
    **options
        Those of `zarr.Group.create_array`.

    Returns
    -------
    zarr.Array
        Empty, of shape (y, x) or (band, y, x), in chunks of 1024 x 1024.
    """
    planes, dims = ((), ()) if bands is None else ((bands,), ("band",))
    array = create_array(
        group,
        name,
        (*dims, "y", "x"),
        shape=(*planes, *shape),
        chunks=(*(1 for _ in planes), CHUNK, CHUNK),
        **options,
    )
    _write_axes(group, shape, georef)
    grid = create_array(group, GRID, (), shape=(), dtype=np.int64)
    grid[...] = 0
    grid.attrs.update(_grid_mapping(georef))
    array.attrs.update({"grid_mapping": GRID, "coordinates": GRID})
    if georef.crs_wkt is not None:
        array.attrs["_CRS"] = {"wkt": georef.crs_wkt}
    if georef.point:
        array.attrs["AREA_OR_POINT"] = "Point"
    return array


def write_array(
    group: Any, name: str, dims: tuple[str, ...], values: npt.NDArray[Any], **attributes: Any
) -> None:
    """Write a small array, in one chunk."""
    array = create_array(
        group, name, dims, shape=values.shape, chunks=values.shape, dtype=values.dtype
    )
    array[...] = values
    array.attrs.update(attributes)


def write_bands(group: Any, bands: tuple[Band, ...]) -> None:
    """Write the numbers and the names of the bands as coordinates of the dimension ``band``."""
    write_array(group, "band", ("band",), np.array([band.number for band in bands], np.int64))
    names = np.array([band.name for band in bands])
    write_array(group, "band_name", ("band",), names.astype(f"<U{max(1, names.itemsize // 4)}"))


def band_attributes(bands: tuple[Band, ...]) -> dict[str, Any]:
    """Return the attributes of an image that rioxarray writes, and reads, of its bands.

    Examples
    --------
    >>> from kmdask.bands import Band
    >>> band_attributes((Band(1, "B04", scale=0.1), Band(2, "B08", scale=0.1)))
    {'long_name': ['B04', 'B08'], 'scale_factor': 0.1, 'add_offset': 0.0}
    """
    attributes: dict[str, Any] = {}
    for key, values in {
        "long_name": [band.name for band in bands],
        "units": [band.unit for band in bands],
    }.items():
        if any(values):
            attributes[key] = values if len(bands) > 1 else values[0]
    scaling = {(band.scale, band.offset) for band in bands}
    if len(scaling) > 1:
        attributes["scales"] = [band.scale for band in bands]
        attributes["offsets"] = [band.offset for band in bands]
    elif scaling != {(1.0, 0.0)}:
        ((attributes["scale_factor"], attributes["add_offset"]),) = scaling
    return attributes


def finish_group(path: Place) -> None:
    """Put the metadata of all arrays into one file, when nothing in them will change any more."""
    zarr.consolidate_metadata(places.zarr_store(path), zarr_format=2)


def _write_axes(group: Any, shape: tuple[int, int], georef: Georef) -> None:
    """Write the coordinates of the centres of rows and columns, if they have any."""
    if georef.transform is None:
        return
    a, b, c, d, e, f = georef.transform
    if b or d:
        return
    axes = {"Y": ("y", e, f, shape[0]), "X": ("x", a, c, shape[1])}
    described = {axis["axis"]: axis for axis in _axes(georef)}
    for axis, (name, step, start, size) in axes.items():
        centres = start + step * (np.arange(size) + 0.5)
        write_array(group, name, (name,), centres, **described.get(axis, {"axis": axis}))


def _axes(georef: Georef) -> list[dict[str, str]]:
    crs = _parse(georef)
    return (
        [] if crs is None else [axis for axis in crs.cs_to_cf() if axis.get("axis") in ("X", "Y")]
    )


def _parse(georef: Georef) -> CRS | None:
    if georef.crs_wkt is None:
        return None
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_wkt(georef.crs_wkt)
    except CRSError:  # PROJ there and PROJ in rasterio are not of the same version
        return None


def _grid_mapping(georef: Georef) -> dict[str, Any]:
    """Return the attributes that rioxarray writes, and reads."""
    crs = _parse(georef)
    attributes: dict[str, Any] = {} if crs is None else crs.to_cf()
    if georef.crs_wkt is not None:
        attributes |= {"crs_wkt": georef.crs_wkt, "spatial_ref": georef.crs_wkt}
    if georef.transform is not None:
        a, b, c, d, e, f = georef.transform
        attributes["GeoTransform"] = " ".join(map(repr, (c, a, b, f, d, e)))
    if georef.gcps:
        attributes["gcps"] = json.dumps(_geojson(georef))
    if georef.rpcs:
        attributes["rpcs"] = json.dumps(dict(georef.rpcs))
    return attributes


def _geojson(georef: Georef) -> dict[str, Any]:
    features = []
    for gcp in georef.gcps:
        coordinates = [gcp.x, gcp.y] if gcp.z is None else [gcp.x, gcp.y, gcp.z]
        properties = {"id": gcp.id, "info": gcp.info, "row": gcp.row, "col": gcp.col}
        geometry = {"type": "Point", "coordinates": coordinates}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return {"type": "FeatureCollection", "features": features}
