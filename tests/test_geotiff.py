"""Full-colour GeoTIFFs, read back by rasterio."""

from __future__ import annotations

import resource
import warnings

import dask.array as da
import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from kmdask import CompressedImage, Georef, OutputError, OutputExistsError, Palette, Report
from kmdask.geotiff import write_geotiff

UTM = Georef(CRS.from_epsg(32629).to_wkt(), (10.0, 0.5, 5e5, 0.25, -10.0, 6e6))


@pytest.fixture
def compressed(tmp_path):
    """``compressed(shape, bands, masked, georef)``: an image as if a bundle had been opened."""

    def make(shape=(700, 600), bands=3, *, masked=False, georef=UTM, chunk=(512, 512)):
        rng = np.random.default_rng(0)
        palette = Palette.from_centers(rng.uniform(0, 255, (5, bands)))
        indices = rng.integers(0, 5 + masked, shape, dtype=np.uint8)
        report = Report("", (*shape, bands), 1, 1, 5, 5, 0, 1.0, 48.0, (), {}, {}, {})
        return CompressedImage(
            path=tmp_path / "a.kmdask",
            indices=da.from_array(indices, chunks=chunk),
            palette=palette,
            nodata=palette.nodata if masked else None,
            georef=georef,
            report=report,
        )

    return make


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(700, 600), (1, 1), (1, 900)])
def test_what_rasterio_reads(tmp_path, compressed, shape, bands, masked):
    image = compressed(shape, bands, masked=masked)
    path = tmp_path / "a.tif"
    write_geotiff(image, path)
    with rasterio.open(path) as dataset:
        assert dataset.count == bands + masked
        assert dataset.crs == CRS.from_epsg(32629)
        assert tuple(dataset.transform)[:6] == UTM.transform
        assert dataset.colorinterp[:bands] == (
            (ColorInterp.gray,)
            if bands == 1
            else (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        )
        if masked:
            assert dataset.colorinterp[-1] == ColorInterp.alpha
        colors = np.moveaxis(dataset.read(list(range(1, bands + 1))), 0, 2)
        np.testing.assert_array_equal(colors, image.to_dask().compute())
        valid = np.ones(shape, bool) if not masked else image.indices.compute() != image.nodata
        np.testing.assert_array_equal(dataset.dataset_mask(), np.where(valid, 255, 0))
    assert [found.name for found in tmp_path.iterdir()] == ["a.tif"]


def test_without_georeference(tmp_path, compressed, read_raster):
    image = compressed(georef=Georef())
    write_geotiff(image, tmp_path / "a.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "a.tif") as dataset:
            assert dataset.crs is None
            assert dataset.transform.is_identity
    np.testing.assert_array_equal(read_raster(tmp_path / "a.tif")[0], image.to_dask().compute())
    assert [found.name for found in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_nothing_is_replaced_unasked(tmp_path, compressed, kind):
    path = tmp_path / "a.tif"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExistsError, match=r"a\.tif.*exists already.*overwrite"):
        write_geotiff(compressed(), path)
    assert [found.name for found in tmp_path.iterdir()] == ["a.tif"]
    if kind == "file":
        assert path.read_text() == "precious"
    else:
        with pytest.raises(OutputExistsError):
            write_geotiff(compressed(), path, overwrite=True)


def test_a_file_is_replaced_when_asked(tmp_path, compressed, read_raster):
    path = tmp_path / "a.tif"
    path.write_text("old")
    write_geotiff(compressed(), path, overwrite=True)
    assert read_raster(path)[0].shape == (700, 600, 3)


def failing(image):
    def fail(block, block_info=None):
        if block_info and block_info[0]["chunk-location"] == (1, 1):
            raise RuntimeError("lost")
        return block

    lost = image.indices.map_blocks(fail, dtype=np.uint8, meta=np.empty((0, 0), np.uint8))
    return CompressedImage(**{**vars(image), "indices": lost})


def test_nothing_is_left_after_a_failure(tmp_path, compressed):
    path = tmp_path / "a.tif"
    with pytest.raises(RuntimeError, match="lost"):
        write_geotiff(failing(compressed()), path)
    assert list(tmp_path.iterdir()) == []
    path.write_text("old")
    with pytest.raises(RuntimeError, match="lost"):
        write_geotiff(failing(compressed()), path, overwrite=True)
    assert [found.read_text() for found in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("parent", ["missing", "file"])
def test_where_nothing_can_be_written(tmp_path, compressed, parent):
    (tmp_path / "file").write_text("content")
    with pytest.raises(OutputError, match=r"cannot write .*a\.tif"):
        write_geotiff(compressed(), tmp_path / parent / "a.tif")
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("limit", [1000, 50_000, 220_000])
def test_a_full_disk_leaves_nothing(tmp_path, compressed, limit):
    image = compressed()
    write_geotiff(image, tmp_path / "whole.tif")
    whole = (tmp_path / "whole.tif").stat().st_size
    (tmp_path / "whole.tif").unlink()
    assert whole > limit
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OutputError, match="cannot write"):
            write_geotiff(image, tmp_path / "a.tif")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
