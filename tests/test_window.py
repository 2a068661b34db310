"""Regions of images: what numpy's slicing gives, in their place on the map."""

import dask.array as da
import numpy as np
import pytest
import rasterio
import xarray
from PIL import Image, ImageOps
from rasterio.windows import Window

import kmdask
from kmdask.errors import ParameterError, SourceError
from kmdask.georef import Georef
from kmdask.options import Options
from kmdask.reading.window import WindowedSource, check_window

WINDOWS = [(0, 0, 1, 1), (0, 0, 131, 90), (130, 89, 1, 1), (17, 33, 64, 48), (100, 0, 31, 90)]


@pytest.fixture
def small_chunks(monkeypatch):
    """Tiles of 16 pixels, and chunks of as many at most: nearly all files are copied first."""
    for name, value in {"TILE": 16, "SHARD": 16, "PIXELS": 256, "BYTES": 2048}.items():
        monkeypatch.setattr(f"kmdask.chunks.{name}", value)


def sliced(array, window):
    column, row, width, height = window
    return array[row : row + height, column : column + width]


def check(opened, pixels, valid, window):
    """A region has the pixels and the mask that slices of the whole have, however it is read."""
    assert opened.shape == (window[3], window[2])
    np.testing.assert_array_equal(opened.pixels.compute(), sliced(pixels, window))
    if valid is not None:
        np.testing.assert_array_equal(opened.mask.compute() != 0, sliced(valid, window))
    rows, columns = slice(window[3] // 3, window[3]), slice(window[2] // 4, window[2])
    seen, mask = opened.window(rows, columns)
    np.testing.assert_array_equal(seen.compute(), sliced(pixels, window)[rows, columns])
    assert (mask is None) == (opened.mask is None)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 32, "blockysize": 16}, {}])
def test_rasters(tmp_path, scene, holes, write_raster, window, layout):
    pixels, valid = scene(90, 131), holes(90, 131)
    path = write_raster(tmp_path / "a.tif", pixels, valid, **layout)
    opened = kmdask.open_raster(path, window=window)
    check(opened, pixels, valid, window)
    assert opened.source_bytes == 0


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", ["zarr", "npy", "numpy", "dask", "xarray"])
def test_arrays(tmp_path, write_zarr, window, kind):
    # Rows, columns and bands whose numbers tell which is which only before they are cut.
    stored = np.random.default_rng(0).integers(1, 999, (5, 90, 131)).astype(np.uint16)
    stored[:, 40:50, 20:] = 0
    source = stored
    if kind == "zarr":
        source = write_zarr(tmp_path / "a.zarr", stored)
    elif kind == "npy":
        source = tmp_path / "a.npy"
        np.save(source, stored)
    elif kind == "dask":
        source = da.from_array(stored, chunks=(2, 50, 41))
    elif kind == "xarray":
        source = xarray.DataArray(stored, dims=("band", "y", "x"))
    opened = kmdask.open_raster(source, window=window, nodata=0)
    pixels = np.moveaxis(stored, 0, 2)
    check(opened, pixels, (pixels != 0).any(axis=2), window)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("window", WINDOWS)
def test_copied_first(tmp_path, scene, write_raster, window):
    pixels = scene(90, 131)
    path = write_raster(tmp_path / "a.tif", pixels, blockysize=40)
    opened = kmdask.open_raster(path, window=window, scratch=tmp_path)
    assert (tmp_path / "spool.zarr").exists()
    check(opened, pixels, None, window)


@pytest.mark.parametrize("spooled", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_of_what_is_shown(tmp_path, request, scene, orientation, spooled):
    if spooled:
        request.getfixturevalue("small_chunks")
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(scene(70, 45)).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        shown = np.asarray(ImageOps.exif_transpose(image))
    window = (7, 3, 30, 21)
    opened = kmdask.open_raster(tmp_path / "a.png", window=window, scratch=tmp_path)
    check(opened, shown, None, window)


class Recorded:
    """A source of 3000 x 4000 pixels that keeps what is read of it."""

    def __init__(self):
        self.asked = []

    def read(self, rows, columns):
        self.asked.append((rows, columns))
        return np.zeros((rows.stop - rows.start, columns.stop - columns.start, 1), np.uint8)

    def forward(self):
        for top in range(0, 3000, 100):
            rows, columns = slice(top, top + 100), slice(0, 4000)
            yield rows, columns, self.read(rows, columns)


def test_nothing_else_is_read():
    source = Recorded()
    region = WindowedSource(source, check_window((1000, 500, 200, 300)))
    region.read(slice(0, 300), slice(0, 200))
    assert source.asked == [(slice(500, 800), slice(1000, 1200))]
    source.asked.clear()
    parts = list(region.forward())
    assert sum(part.size for *_, part in parts) == 200 * 300
    assert max(rows.stop for rows, _ in source.asked) == 800, "what follows need not be decoded"


def test_a_file_that_is_damaged_elsewhere(tmp_path, scene, write_raster):
    pixels = scene(512, 64)
    path = write_raster(tmp_path / "a.tif", pixels, tiled=True, blockxsize=64, blockysize=64)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    result = kmdask.compress(path, 4, tmp_path / "part.kmdask", window=(0, 0, 64, 128))
    assert result.shape == (128, 64, 3)
    with pytest.raises(SourceError):
        kmdask.compress(path, 4, tmp_path / "whole.kmdask")


def on_the_map(transform, column, row):
    a, b, c, d, e, f = transform[:6]
    return pytest.approx((a * column + b * row + c, d * column + e * row + f), rel=1e-14)


def test_place_on_the_map(georef):
    moved = georef.shifted(rows=21, columns=13)
    if georef.transform:
        for column, row in ((0, 0), (64, 0), (0, 48)):
            there = on_the_map(georef.transform, column + 13, row + 21)
            assert on_the_map(moved.transform, column, row).expected == there
    for old, new in zip(georef.gcps, moved.gcps, strict=True):
        assert (new.row, new.col) == (old.row - 21, old.col - 13)
        assert (new.x, new.y, new.z, new.id) == (old.x, old.y, old.z, old.id)
    old, new = dict(georef.rpcs), dict(moved.rpcs)
    if old:
        assert (float(new.pop("LINE_OFF")), float(new.pop("SAMP_OFF"))) == (350 - 21, 400 - 13)
        assert new.items() < old.items()
    assert (moved.crs_wkt, moved.point) == (georef.crs_wkt, georef.point)
    assert georef.shifted(0, 0) == georef


def test_a_bundle_is_where_its_region_is(tmp_path, scene, write_raster):
    place = {"crs": "EPSG:32629", "transform": (10, 0.5, 5e5, 0.25, -10, 6e6)}
    path = write_raster(tmp_path / "a.tif", scene(90, 131), **place)
    window = Window(17, 33, 64, 48)
    result = kmdask.compress(path, 4, window=window, formats=("zarr", "cog"))
    assert result.report.window == (17, 33, 64, 48)
    assert result.report.shape == (48, 64, 3)
    with rasterio.open(path) as source, rasterio.open(result.path / "image.tif") as written:
        there = on_the_map(source.transform, 17, 33)
        assert on_the_map(written.transform, 0, 0).expected == there
        assert written.crs == source.crs


def test_the_same_as_an_image_of_its_own(tmp_path, scene, write_raster):
    pixels = scene(90, 131)
    window = (17, 33, 64, 48)
    path = write_raster(tmp_path / "a.tif", pixels)
    of_region = kmdask.compress(path, 8, tmp_path / "region.kmdask", window=window)
    alone = kmdask.compress(sliced(pixels, window), 8, tmp_path / "alone.kmdask")
    assert of_region.palette == alone.palette
    np.testing.assert_array_equal(of_region.indices.compute(), alone.indices.compute())


@pytest.mark.parametrize(
    "window",
    [(0, 0, 132, 90), (0, 0, 131, 91), (131, 0, 1, 1), (0, 90, 1, 1), (10**9, 0, 1, 1)],
)
def test_out_of_the_image(tmp_path, scene, write_raster, window):
    path = write_raster(tmp_path / "a.tif", scene(90, 131))
    for source in (path, scene(90, 131)):
        with pytest.raises(ParameterError, match="columns 0 to 131 and rows 0 to 90"):
            kmdask.open_raster(source, window=window)
    with pytest.raises(ParameterError, match="window"):
        kmdask.compress(path, 4, window=window)
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "window",
    [
        (0, 0, 0, 1),
        (-1, 0, 4, 4),
        (0, 0, 4),
        (0, 0, 4.5, 4),
        (0, 0, float("nan"), 4),
        (0, 0, True, 4),
        "0,0,4,4",
        7,
        [None] * 4,
    ],
)
def test_no_windows(window):
    with pytest.raises(ParameterError, match="window is four whole numbers"):
        check_window(window)


@pytest.mark.parametrize(
    "window", [Window(1, 2, 3, 4), Window(1.0, 2.0, 3.0, 4.0), [1, 2, 3, 4], (np.int64(1), 2, 3, 4)]
)
def test_windows(window):
    assert check_window(window) == (1, 2, 3, 4)
    assert all(type(size) is int for size in check_window(window))
    assert "window=Window(col_off=1, row_off=2, width=3, height=4)" in repr(
        Options(k=2, window=check_window(window))
    ), "a run that goes on has to be asked for the same region"


def test_no_georef_stays_none():
    assert Georef().shifted(5, 7) == Georef()
