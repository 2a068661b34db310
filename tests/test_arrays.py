"""Arrays as sources: zarr arrays and groups, .npy files, NumPy, Dask and xarray."""

from __future__ import annotations

import ast
import json
import pickle
import time

import dask
import dask.array as da
import numpy as np
import pytest
import zarr

from kmdask import (
    ParameterError,
    SourceError,
    SourceNotFoundError,
    UnsupportedImageError,
    chunks,
    open_raster,
)
from kmdask.writing.receipts import Receipts

DTYPES = {"bool": "uint8", "uint8": "uint8", "int8": "int8", "uint16": "uint16", "int16": "int16"}
DTYPES |= {"uint32": "uint32", "float16": "float32", "float32": "float32", "float64": "float64"}
DTYPES |= {"int64": "int64", ">u2": "uint16", ">f4": "float32"}
SHAPES = {  # what is told by the shape alone: where rows, columns and bands are
    (40, 50): "yx",
    (40, 50, 1): "yxs",
    (40, 50, 3): "yxs",
    (3, 40, 50): "syx",
    (4, 40, 50): "syx",
    (40, 50, 13): "yxs",
    (13, 40, 50): "syx",
    (32, 40, 50): "syx",
    (40, 50, 32): "yxs",
    (20, 30, 20): "syx",
    (1, 1, 5, 40, 50): "11syx",
}


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "TILE", 16)
    monkeypatch.setattr(chunks, "PIXELS", 32 * 32)
    monkeypatch.setattr(chunks, "SHARD", 32)


def values(shape, dtype):
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def as_pixels(array, axes):
    array = array[(0,) * axes.count("1")]
    letters = axes.replace("1", "")
    if "s" not in letters:
        return array[:, :, None]
    return np.moveaxis(array, 0, 2) if letters == "syx" else array


def write_zarr2(path, array):
    zarr.create_array(
        path, data=array, chunks=tuple(min(n, 16) for n in array.shape), zarr_format=2
    )
    return path


def write_zarr3(path, array):
    native = array.astype(array.dtype.newbyteorder("="))
    zarr.create_array(path, data=native, chunks=tuple(min(n, 16) for n in array.shape))
    return path


def write_npy(path, array):
    np.save(path, array)
    return f"{path}.npy"


def as_dask(_, array):
    return da.from_array(array, chunks=7)


WAYS = {
    "zarr 2": write_zarr2,
    "zarr 3": write_zarr3,
    "npy": write_npy,
    "NumPy": lambda _, array: array,
    "Fortran": lambda _, array: np.asfortranarray(array),
    "Dask": as_dask,
}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_data_types(tmp_path, way, dtype):
    array = values((5, 40, 50), dtype)
    opened = open_raster(WAYS[way](tmp_path / "a", array), scratch=tmp_path)
    seen = opened.pixels.compute()
    assert seen.dtype == opened.pixels.dtype == DTYPES[dtype]
    np.testing.assert_array_equal(seen, as_pixels(array, "syx").astype(DTYPES[dtype]))
    assert (opened.mask is None) == (seen.dtype.kind != "f")
    assert opened.pixels.chunks[2] == (5,)
    assert opened.pixels.npartitions > 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_axes_by_shape(tmp_path, way, shape):
    array = values(shape, "uint16")
    opened = open_raster(WAYS[way](tmp_path / "a", array))
    np.testing.assert_array_equal(opened.pixels.compute(), as_pixels(array, SHAPES[shape]))


@pytest.mark.parametrize("way", ["zarr 3", "npy", "NumPy", "Dask"])
@pytest.mark.parametrize("shape", [(5,), (), (40, 50, 60), (2, 3, 40, 50), (0, 4, 3), (4, 0)])
def test_shapes_that_are_no_image(tmp_path, way, shape):
    array = np.zeros(shape, np.uint8)
    if way == "zarr 3":
        path = tmp_path / "a"
        zarr.create_array(path, shape=shape, dtype="uint8", chunks=tuple(max(n, 1) for n in shape))
        source = path
    else:
        source = WAYS[way](tmp_path / "a", array)
    with pytest.raises(UnsupportedImageError) as caught:
        open_raster(source)
    assert str(shape) in str(caught.value)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bands", [None, (4, 2), (2, 3), (1,)])
def test_bands_and_nodata(tmp_path, way, bands):
    array = values((5, 40, 50), "int16")
    array[:, :10, :20] = -1
    opened = open_raster(WAYS[way](tmp_path / "a", array), bands=bands, nodata=-1)
    expected = as_pixels(array, "syx")[:, :, np.array(bands or range(1, 6)) - 1]
    np.testing.assert_array_equal(opened.pixels.compute(), expected)
    np.testing.assert_array_equal(opened.mask.compute() != 0, (expected != -1).any(axis=2))
    assert [band.number for band in opened.bands] == list(bands or range(1, 6))
    rows, columns = slice(5, 30), slice(17, 23)
    pixels, mask = opened.window(rows, columns)
    np.testing.assert_array_equal(pixels.compute(), expected[rows, columns])
    np.testing.assert_array_equal(mask.compute(), opened.mask.compute()[rows, columns])


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("samples", [2, 4])
def test_alpha_is_in_8_bit_arrays_alone(tmp_path, way, samples):
    for dtype in ("uint8", "uint16"):
        array = values((40, 50, samples), dtype)
        array[:7, :, -1] = 0
        path = tmp_path / dtype
        opened = open_raster(WAYS[way](path, array))
        bands = samples - (dtype == "uint8")
        np.testing.assert_array_equal(opened.pixels.compute(), array[:, :, :bands])
        assert (opened.mask is not None) == (dtype == "uint8")
        if opened.mask is not None:
            np.testing.assert_array_equal(opened.mask.compute() != 0, array[:, :, -1] != 0)
    every = open_raster(
        WAYS[way](tmp_path / "b", array.astype(np.uint8)), bands=range(1, samples + 1)
    )
    np.testing.assert_array_equal(every.pixels.compute(), array)
    assert every.mask is None


@pytest.mark.parametrize("way", WAYS)
def test_floats_that_are_no_numbers(tmp_path, way):
    array = values((40, 50, 3), "float32")
    array[3, 4, 1], array[5, 6, 0] = np.nan, -np.inf
    opened = open_raster(WAYS[way](tmp_path / "a", array))
    np.testing.assert_array_equal(opened.mask.compute() != 0, np.isfinite(array).all(axis=2))


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "S3", "U3"])
@pytest.mark.parametrize("way", ["npy", "NumPy", "Dask"])
def test_data_types_that_are_no_pixels(tmp_path, way, dtype):
    with pytest.raises(UnsupportedImageError, match="data type"):
        open_raster(WAYS[way](tmp_path / "a", np.zeros((4, 5), dtype)))


# .npy


def test_python_objects_are_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(UnsupportedImageError, match=r"a\.npy.*objects"):
        open_raster(tmp_path / "a.npy")


def test_npy_headers_are_parsed_by_one_thread_at_a_time(tmp_path, monkeypatch):
    # Up to 3.12 Python's parser keeps how deep it is for all threads in one place.
    parse, parsing, others = ast.literal_eval, [], []

    def watched(text):
        others.extend(parsing)
        parsing.append(text)
        time.sleep(0.001)  # lets another thread in
        parsing.pop()
        return parse(text)

    def negative(block, **_):
        return -block

    monkeypatch.setattr(ast, "literal_eval", watched)
    (tmp_path / "receipts").mkdir()
    source = open_raster(write_npy(tmp_path / "a", values((40, 50), "uint16")))
    pixels = da.ones((64, 1), chunks=1)
    for _ in "kept", "loaded":
        receipts = Receipts.found(tmp_path / "receipts")
        kept = receipts.map_blocks(negative, pixels, "test", meta=pixels)
        dask.compute(kept, [source.pixels] * 8, scheduler="threads", num_workers=4)
    assert not others


def test_a_truncated_npy(tmp_path):
    np.save(tmp_path / "a.npy", values((40, 50), "uint16"))
    content = (tmp_path / "a.npy").read_bytes()
    opened = open_raster(tmp_path / "a.npy")
    for size in (20, len(content) - 5):
        (tmp_path / "a.npy").write_bytes(content[:size])
        with pytest.raises(SourceError, match=r"a\.npy"):
            open_raster(tmp_path / "a.npy")
    with pytest.raises(SourceError, match=r"a\.npy.*rows 0 to 40"):
        opened.pixels.compute()


def test_numpy_arrays_do_not_travel_with_the_graph(tmp_path):
    opened = open_raster(np.zeros((2000, 1000), np.uint8), scratch=tmp_path)
    assert len(pickle.dumps(opened.pixels.dask.to_dict())) < 100_000
    assert list(tmp_path.glob("*.npy"))


# Dask


def test_dask_arrays_come_in_the_chunks_of_their_shape():
    array = da.zeros((3000, 2500, 7), chunks=(1000, 300, 2), dtype=np.uint16)
    pixels = open_raster(array).pixels
    assert pixels.chunks == open_raster(array.rechunk((77, 2500, 7))).pixels.chunks
    assert all(size % chunks.TILE == 0 for size in pixels.chunks[0][:-1])


def test_unknown_chunk_sizes():
    array = da.ones((40, 50), chunks=10)
    with pytest.raises(ParameterError, match=r"unknown.*compute_chunk_sizes"):
        open_raster(array[array[:, 0] > 0])


@pytest.mark.parametrize("source", [None, 3, [[1, 2]], b"a.tif"])
def test_what_is_no_source(source):
    with pytest.raises(ParameterError, match="source is a path"):
        open_raster(source)


# groups


def make_group(path, arrays, attributes=None, zarr_format=3, **options):
    group = zarr.create_group(path, zarr_format=zarr_format, attributes=attributes or {})
    for name, array in arrays.items():
        group.create_array(name, data=array, chunks=array.shape, **options.get(name, {}))
    return path


OME = {
    "version": "0.4",
    "axes": [{"name": n, "type": "space"} for n in "tczyx"],
    "datasets": [{"path": "0"}, {"path": "1"}],
}


@pytest.mark.parametrize(
    ("zarr_format", "attributes"),
    [(2, {"multiscales": [OME]}), (3, {"ome": {"version": "0.5", "multiscales": [OME]}})],
)
def test_ome_zarr(tmp_path, zarr_format, attributes):
    full = values((1, 6, 1, 40, 50), "uint16")
    arrays = {"1": full[..., ::2, ::2], "0": full}
    path = make_group(tmp_path / "a.zarr", arrays, attributes, zarr_format)
    np.testing.assert_array_equal(
        open_raster(path).pixels.compute(), np.moveaxis(full[0, :, 0], 0, 2)
    )
    half = open_raster(f"{path}::1", bands=(6,))
    np.testing.assert_array_equal(half.pixels.compute()[:, :, 0], full[0, 5, 0, ::2, ::2])


@pytest.mark.parametrize("long", [0, 2])
def test_times_and_depths_are_not_chosen_for_you(tmp_path, long):
    shape = [1, 3, 1, 40, 50]
    shape[long] = 2
    path = make_group(tmp_path / "a.zarr", {"0": values(shape, "uint8")}, {"multiscales": [OME]})
    with pytest.raises(UnsupportedImageError, match=f"axis {'tczyx'[long]!r} has length 2"):
        open_raster(path)


def test_plain_multiscale_groups(tmp_path):
    full = values((40, 50), "float32")
    path = make_group(tmp_path / "a.zarr", {"1": full[::2, ::2], "0": full, "2": full[::4, ::4]})
    np.testing.assert_array_equal(open_raster(path).pixels.compute()[:, :, 0], full)


def test_groups_of_one_image_and_of_several(tmp_path):
    image = values((40, 50), "int16")
    arrays = {"scene": image, "x": np.arange(50.0), "y": np.arange(40.0), "ref": np.array(0)}
    path = make_group(tmp_path / "a.zarr", arrays)
    np.testing.assert_array_equal(open_raster(path).pixels.compute()[:, :, 0], image)
    zarr.open_group(path, mode="a").create_array("other", data=image)
    with pytest.raises(SourceError, match=r"a\.zarr::NAME: 'other' \(40, 50\).*'scene'"):
        open_raster(path)
    for name in (f"{path}::scene", path / "scene"):
        np.testing.assert_array_equal(open_raster(name).pixels.compute()[:, :, 0], image)
    with pytest.raises(SourceNotFoundError, match="no array 'nothing'"):
        open_raster(f"{path}::nothing")


@pytest.mark.parametrize(
    "attributes",
    [
        {"multiscales": []},
        {"multiscales": 3},
        {"multiscales": [{}]},
        {"multiscales": [{"datasets": [{"path": "nowhere"}]}]},
        {"multiscales": ["a"]},
        {"ome": {"multiscales": [{"datasets": 3}]}},
    ],
    ids=str,
)
def test_groups_that_say_nonsense(tmp_path, attributes):
    path = make_group(tmp_path / "a.zarr", {"a": np.zeros(3), "b": np.zeros(3)}, attributes)
    with pytest.raises(SourceError, match=r"a\.zarr"):
        open_raster(path)


@pytest.mark.parametrize(
    "dims", [("band", "y", "x"), ("lat", "lon", "time"), ("x", "channel", "y")]
)
def test_axes_by_name(tmp_path, dims):
    shape = tuple({"x": 50, "lon": 50, "y": 40, "lat": 40, "time": 1}.get(n, 2) for n in dims)
    array = values(shape, "uint8")
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=array, chunks=shape, dimension_names=dims)
    opened = open_raster(path)
    order = [next(i for i, n in enumerate(dims) if n[0] == m or n[:3] == o) for m, o in
             (("y", "lat"), ("x", "lon"))]  # fmt: skip
    expected = array.transpose(*order, 3 - sum(order))
    np.testing.assert_array_equal(opened.pixels.compute(), expected)
    assert opened.mask is None  # names tell, and none of them says alpha


# xarray


@pytest.fixture
def xarray():
    pytest.importorskip("rioxarray")
    return pytest.importorskip("xarray")


@pytest.fixture
def scene_array(xarray):
    """A georeferenced scene as rioxarray makes it."""
    array = xarray.DataArray(
        values((3, 4, 5), "int16"),
        dims=("band", "y", "x"),
        coords={"band": [1, 2, 3], "y": [35.0, 25, 15, 5], "x": [105.0, 115, 125, 135, 145]},
        attrs={"long_name": ("B04", "B03", "B02"), "scale_factor": 0.5, "units": "K"},
        name="scene",
    )
    return array.rio.write_crs(32633).rio.write_nodata(-1)


def check_scene(opened, array):
    expected = np.moveaxis(array.values, 0, 2)
    np.testing.assert_array_equal(opened.pixels.compute(), expected)
    np.testing.assert_array_equal(opened.mask.compute() != 0, (expected != -1).any(axis=2))
    assert opened.georef.transform == (10, 0, 100, 0, -10, 40)
    assert opened.georef.crs_wkt == array.rio.crs.to_wkt()
    assert [band.name for band in opened.bands] == ["B04", "B03", "B02"]
    assert {(band.scale, band.unit, band.nodata) for band in opened.bands} == {(0.5, "K", -1)}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_written_by_xarray(tmp_path, scene_array, zarr_format):
    path = tmp_path / "a.zarr"
    scene_array[:, :2, :2] = -1
    written = scene_array.rio.write_nodata(-1, encoded=True)
    written.to_zarr(path, zarr_format=zarr_format, consolidated=zarr_format == 2)
    check_scene(open_raster(path), scene_array)
    check_scene(open_raster(f"{path}::scene"), scene_array)


@pytest.mark.parametrize("lazy", [False, True])
def test_xarray_in_python(scene_array, lazy):
    scene_array[:, :2, :2] = -1
    array = scene_array.transpose("y", "x", "band")
    check_scene(open_raster(array.chunk(y=3) if lazy else array), scene_array)


def test_datasets_are_several_arrays(scene_array):
    with pytest.raises(ParameterError, match=r"Dataset.*scene"):
        open_raster(scene_array.to_dataset())


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_the_same_georeference_from_rioxarray_and_gdal(tmp_path, scene_array, xarray):
    import rioxarray

    del xarray
    path = tmp_path / "a.tif"
    scene_array.rio.to_raster(path)
    with rioxarray.open_rasterio(path) as array:
        assert open_raster(array).georef == open_raster(path).georef


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_slices_are_where_their_coordinates_say(scene_array, xarray):
    import rioxarray

    assert xarray
    assert rioxarray
    a, b, c, d, e, f = open_raster(scene_array).georef.transform
    assert (b, d) == (0, 0)
    cut = open_raster(scene_array.isel(x=slice(3, None), y=slice(2, None)))
    np.testing.assert_allclose(cut.georef.transform, (a, 0, c + 3 * a, 0, e, f + 2 * e))
    rows = scene_array.sizes["y"]
    flipped = open_raster(scene_array.isel(y=slice(None, None, -1)))
    np.testing.assert_allclose(flipped.georef.transform, (a, 0, c, 0, -e, f + rows * e))
    thinned = open_raster(scene_array.isel(x=slice(None, None, 2)))
    np.testing.assert_allclose(thinned.georef.transform, (2 * a, 0, c - a / 2, 0, e, f))


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"_FillValue": 3, "missing_value": 4}, "contradicts"),
        ({"_FillValue": "nothing"}, "no number"),
        ({"_FillValue": [1, 2]}, "no number"),
    ],
)
def test_contradictory_nodata(tmp_path, attributes, said):
    zarr.create_array(tmp_path / "a", data=values((4, 5), "uint8"), attributes=attributes)
    with pytest.raises(SourceError, match=said):
        open_raster(tmp_path / "a")


def test_a_crs_that_cannot_be_parsed(tmp_path, caplog):
    attributes = {"crs_wkt": "PROJCS[nonsense"}
    zarr.create_array(tmp_path / "a", data=values((4, 5), "uint8"), attributes=attributes)
    assert open_raster(tmp_path / "a").georef.crs_wkt is None
    assert "cannot be parsed" in caplog.text


def test_coordinates_that_are_not_even(tmp_path):
    arrays = {"scene": values((3, 4), "uint8"), "y": np.array([0, 1, 2.0])}
    arrays["x"] = np.array([0, 1, 2, 4.0])
    names = {"scene": {"dimension_names": ("y", "x")}}
    path = make_group(tmp_path / "a.zarr", arrays, **names)
    assert open_raster(path).georef.transform is None


def test_damaged_coordinates(tmp_path):
    arrays = {"scene": values((3, 4), "uint8"), "y": np.arange(3.0), "x": np.arange(4.0)}
    path = make_group(tmp_path / "a.zarr", arrays, scene={"dimension_names": ("y", "x")})
    (path / "x" / "c" / "0").write_bytes(b"no zstd")
    with pytest.raises(SourceError, match=r"a\.zarr"):
        open_raster(path)


def test_huge_zarr_chunks_are_refused(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(100, 100), dtype="uint8", chunks=(10, 10))
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["shape"] = [2**31, 2**31]
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(UnsupportedImageError, match="claims"):
        open_raster(path)
    metadata["shape"] = [100_000, 100_000]
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = [100_000, 100_000]
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(UnsupportedImageError, match="chunks"):
        open_raster(path)
