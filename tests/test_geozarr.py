"""Zarr groups on the map, as xarray, rioxarray and GDAL find them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning

from kmdask import Georef
from kmdask.bands import Band
from kmdask.writing import geozarr

assert rioxarray  # gives xarray its accessor

# rioxarray does not know affine 3 yet
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

UTM = CRS.from_epsg(32629).to_wkt()
BANDS = (Band(4, "red"), Band(8, ""), Band(2, "blue, or so: йцук"))
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def write(path, shape, georef, *, nodata=None, dtype=np.uint8):
    """A bundle's image; returns its indices."""
    group = geozarr.create_group(path)
    array = geozarr.create_image(group, "indices", shape, georef, dtype=dtype, fill_value=nodata)
    indices = np.random.default_rng(0).integers(0, 4, shape).astype(dtype)
    array[:] = indices
    colors = np.arange(9, dtype=np.float32).reshape(3, 3)
    geozarr.write_array(group, "palette", ("index", "band"), colors, coordinates="band_name")
    geozarr.write_bands(group, BANDS)
    geozarr.finish_group(path)
    return indices


def opened_by_gdal(path, name="indices"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(f'ZARR:"{path}":/{name}')


def centres(georef, shape):
    """Coordinates of the centres of columns and rows, by rasterio's transform."""
    transform = rasterio.Affine(*georef.transform)
    x, _ = rasterio.transform.xy(transform, [0] * shape[1], range(shape[1]))
    _, y = rasterio.transform.xy(transform, range(shape[0]), [0] * shape[0])
    return np.asarray(x), np.asarray(y)


@pytest.mark.parametrize("nodata", [None, 3])
def test_what_xarray_finds(tmp_path, georef, nodata):
    shape = (40, 30)
    indices = write(tmp_path / "a.zarr", shape, georef, nodata=nodata)
    with xr.open_zarr(tmp_path / "a.zarr") as dataset:
        found = dataset["indices"]
        assert found.dtype.kind == ("u" if nodata is None else "f")
        expected = indices if nodata is None else np.where(indices == 3, np.nan, indices)
        np.testing.assert_array_equal(found, expected)
        assert found.rio.encoded_nodata == nodata
        assert found.rio.crs == (CRS.from_wkt(georef.crs_wkt) if georef.crs_wkt else None)
        assert tuple(found.rio.transform())[:6] == pytest.approx(georef.transform or IDENTITY)
        points = found.rio.get_gcps() or []
        assert [(p.row, p.col, p.x, p.y, p.z, p.id) for p in points] == [
            (p.row, p.col, p.x, p.y, p.z, p.id) for p in georef.gcps
        ]
        assert found.attrs.get("AREA_OR_POINT") == ("Point" if georef.point else None)
        regular = georef.transform is not None and georef.transform[1] == 0
        assert ("x" in dataset, "y" in dataset) == (regular, regular)
        if regular:
            for axis, values in zip("xy", centres(georef, shape), strict=True):
                np.testing.assert_allclose(dataset[axis], values, rtol=1e-14)
                assert dataset[axis].attrs["axis"] == axis.upper()
            # The transform that rioxarray finds without ours.
            assert tuple(found.rio.transform(recalc=True))[:6] == pytest.approx(georef.transform)
        assert dataset["palette"]["band"].values.tolist() == [4, 8, 2]
        assert dataset["palette"]["band_name"].values.tolist() == [band.name for band in BANDS]


def test_coordinates_say_what_they_are(tmp_path):
    for code, names, units in [
        (32629, ("projection_x_coordinate", "projection_y_coordinate"), "metre"),
        (4326, ("longitude", "latitude"), None),
    ]:
        path = tmp_path / f"{code}.zarr"
        write(path, (4, 3), Georef(CRS.from_epsg(code).to_wkt(), (0.1, 0, 5, 0, -0.1, 6)))
        with xr.open_zarr(path) as dataset:
            assert (dataset.x.standard_name, dataset.y.standard_name) == names
            assert dataset.x.units == (units or "degrees_east")
            assert dataset.y.units == (units or "degrees_north")
            assert dataset.spatial_ref.grid_mapping_name
    # A CRS that PROJ knows nothing about is kept as it is.
    write(tmp_path / "here.zarr", (4, 3), Georef('LOCAL_CS["here"]', (1.0, 0, 5, 0, -1.0, 6)))
    with xr.open_zarr(tmp_path / "here.zarr") as dataset:
        assert dataset.spatial_ref.crs_wkt == 'LOCAL_CS["here"]'


@pytest.mark.parametrize("nodata", [None, 3])
def test_what_gdal_finds(tmp_path, georef, nodata):
    indices = write(tmp_path / "a.zarr", (40, 30), georef, nodata=nodata)
    with opened_by_gdal(tmp_path / "a.zarr") as dataset:
        np.testing.assert_array_equal(dataset.read(1), indices)
        assert dataset.crs == (CRS.from_wkt(georef.crs_wkt) if georef.crs_wkt else None)
        assert dataset.nodata == nodata
        regular = georef.transform is not None and georef.transform[1] == 0
        # GDAL's zarr driver knows coordinates alone: no rotation, no control points.
        expected = georef.transform if regular else IDENTITY
        assert tuple(dataset.transform)[:6] == pytest.approx(expected)


@settings(max_examples=15)
@given(
    height=st.integers(2, 2100),
    width=st.integers(2, 2100),
    a=st.sampled_from([0.1, 1 / 3, 30.0, 1e-6]),
    e=st.sampled_from([0.1, -1 / 3, -30.0, -1e-6]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
def test_any_size(tmp_path_factory, height, width, a, e, dtype):
    path = tmp_path_factory.mktemp("zarr") / "a.zarr"
    georef = Georef(UTM, (a, 0.0, 179.0, 0.0, e, 41.0))
    indices = write(path, (height, width), georef, dtype=dtype)
    with opened_by_gdal(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), indices)
        assert dataset.dtypes == (np.dtype(dtype).name,)
        # From the coordinates: they have 16 digits, and the step may be small in them.
        assert tuple(dataset.transform)[:6] == pytest.approx(georef.transform, rel=1e-6)
    with xr.open_zarr(path) as dataset:
        np.testing.assert_array_equal(dataset["indices"], indices)
        assert tuple(dataset.rio.transform())[:6] == georef.transform


def test_plain_chunks_in_one_file_each(tmp_path):
    write(tmp_path / "a.zarr", (1025, 10), Georef())
    chunks = tmp_path / "a.zarr" / "indices"
    found = {str(path.relative_to(chunks)) for path in chunks.rglob("*") if path.is_file()}
    assert found == {".zarray", ".zattrs", "0/0", "1/0"}
    assert zarr.open_array(chunks, mode="r").chunks == (1024, 1024)
    assert zarr.open_consolidated(tmp_path / "a.zarr", zarr_format=2).metadata.consolidated_metadata


def test_one_pixel(tmp_path):
    georef = Georef(UTM, (10.0, 0.0, 5e5, 0.0, -10.0, 6e6))
    write(tmp_path / "a.zarr", (1, 1), georef)
    with xr.open_zarr(tmp_path / "a.zarr") as dataset:
        assert tuple(dataset.rio.transform())[:6] == georef.transform
        assert (dataset.x.item(), dataset.y.item()) == (500005, 5999995)


@pytest.mark.parametrize("nodata", [None, 0])
def test_chunks_that_are_left_out_have_a_fill_value(tmp_path, nodata):
    group = geozarr.create_group(tmp_path / "a.zarr")
    array = geozarr.create_image(group, "a", (4, 3), Georef(), dtype="u1", fill_value=nodata)
    array[:] = 0
    assert (tmp_path / "a.zarr" / "a" / "0" / "0").exists() == (nodata is None)
