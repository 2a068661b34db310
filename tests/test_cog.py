"""Palette Cloud Optimized GeoTIFFs, read back by rasterio, tifffile and rio-cogeo's validator."""

from __future__ import annotations

import warnings

import dask
import dask.array as da
import numpy as np
import pytest
import rasterio
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rio_cogeo.cogeo import cog_validate

from kmdask import Georef, OutputError, ParameterError
from kmdask.display import Colormap
from kmdask.writing import cog
from kmdask.writing.cog import assemble_cog, check_cog, write_cog_tiles

UTM = Georef(CRS.from_epsg(32629).to_wkt(), (10.0, 0.0, 5e5, 0.0, -10.0, 6e6))


@pytest.fixture(scope="module")
def colormap():
    """``colormap(k, masked)``: colours of all kinds."""

    def make(k=7, *, masked=False):
        rgb = np.random.default_rng(k).integers(0, 256, (k, 3), dtype=np.uint8)
        return Colormap(rgb, k if masked else None)

    return make


def levels_of(shape, entries, chunk=1024):
    """Indices of every level down to a pixel: not halved, so that nothing could be resampled."""
    rng = np.random.default_rng(shape[0])
    levels = []
    while True:
        flat = rng.integers(0, entries, shape, dtype=np.uint8)
        # Smooth somewhere, so that tiles are of different sizes.
        flat[: shape[0] // 2] = flat[0, 0]
        levels.append(da.from_array(flat, chunks=chunk))
        if shape == (1, 1):
            return levels
        shape = tuple(-(-size // 2) for size in shape)


def write(folder, levels, colormap, georef=UTM):
    scratch = folder / "scratch"
    scratch.mkdir()
    padding = colormap.nodata or 0
    sizes = dask.persist(*write_cog_tiles(levels, scratch, padding=padding))
    path = folder / "image.tif"
    shapes = [level.shape for level in levels]
    assemble_cog(path, sizes, shapes, scratch, colormap=colormap, georef=georef)
    return path


def opened(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, **options)


def check_valid(path):
    with opened(path) as dataset:
        if dataset.width == 1 and dataset.height > 512:
            return  # with overviews the validator objects to them, without to their absence
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        assert cog_validate(path, strict=True) == (True, [], [])


def check_pixels(path, levels):
    with opened(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), levels[0].compute())
        overviews = dataset.overviews(1)
    for i, level in enumerate(levels[1 : 1 + len(overviews)]):
        with opened(path, overview_level=i) as dataset:
            np.testing.assert_array_equal(dataset.read(1), level.compute())
    return len(overviews)


@pytest.mark.parametrize(
    ("shape", "overviews"),
    [((1, 1), 0), ((512, 512), 0), ((513, 1), 1), ((700, 1300), 2), ((2100, 1025), 3)],
)
@pytest.mark.parametrize("masked", [False, True])
def test_what_readers_see(tmp_path, colormap, shape, overviews, masked):
    colors = colormap(masked=masked)
    levels = levels_of(shape, colors.entries)
    path = write(tmp_path, levels, colors)

    check_valid(path)
    assert check_pixels(path, levels) == overviews
    with opened(path) as dataset:
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.colorinterp == (ColorInterp.palette,)
        assert dataset.nodata == colors.nodata
        assert dataset.compression.name == "deflate"
        assert dataset.tags()["AREA_OR_POINT"] == "Area"
        table = dataset.colormap(1)
        assert [table[i] for i in range(colors.entries)] == list(map(tuple, colors.rgba.tolist()))
        expected = np.where(levels[0].compute() == colors.nodata, 0, 255) if masked else 255
        assert (dataset.read_masks(1) == expected).all()
    with tifffile.TiffFile(path) as file:
        assert not file.is_bigtiff
        assert [page.shape for page in file.pages] == [
            level.shape for level in levels[: overviews + 1]
        ]


@settings(max_examples=10)
@given(
    height=st.integers(1, 1100),
    width=st.integers(1, 1100),
    chunk=st.sampled_from([512, 1024, 1536]),
    masked=st.booleans(),
)
def test_any_size(tmp_path_factory, colormap, height, width, chunk, masked):
    colors = colormap(3, masked=masked)
    levels = levels_of((height, width), colors.entries, chunk)
    path = write(tmp_path_factory.mktemp("cog"), levels, colors)
    check_valid(path)
    check_pixels(path, levels)


def test_where_it_is(tmp_path, colormap, georef, check_place):
    path = write(tmp_path, levels_of((700, 600), 7), colormap(), georef)
    check_valid(path)
    check_place(path, georef)


@pytest.mark.parametrize("k", [256, 255])
def test_as_many_colours_as_there_can_be(tmp_path, colormap, k):
    colors = colormap(k, masked=k < 256)
    levels = levels_of((600, 700), 256)
    path = write(tmp_path, levels, colors)
    check_valid(path)
    check_pixels(path, levels)


def test_bigtiff(tmp_path, colormap, monkeypatch, check_place):
    monkeypatch.setattr(cog, "CLASSIC_BYTES", 100_000)
    colors = colormap(masked=True)
    levels = levels_of((1500, 1025), colors.entries)
    path = write(tmp_path, levels, colors)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
    check_valid(path)
    check_place(path, UTM)
    check_pixels(path, levels)


def test_equal_indices_give_equal_bytes(tmp_path, colormap):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    levels = levels_of((1500, 1025), 7)
    first = write(tmp_path / "a", levels, colormap())
    second = write(tmp_path / "b", levels, colormap())
    assert first.read_bytes() == second.read_bytes()


def test_more_entries_than_a_colour_table_has():
    check_cog(256)
    with pytest.raises(ParameterError, match=r"256 entries.*257 are needed.*fewer colours"):
        check_cog(257)


def test_tiles_that_were_lost(tmp_path, colormap):
    levels = levels_of((700, 600), 7)
    sizes = dask.persist(*write_cog_tiles(levels, tmp_path, padding=0))
    shapes = [level.shape for level in levels]
    file = tmp_path / "cog-0-0-0"
    file.write_bytes(file.read_bytes()[:-1])
    options = {"colormap": colormap(), "georef": UTM}
    with pytest.raises(OutputError, match=r"tiles in .* were lost"):
        assemble_cog(tmp_path / "a.tif", sizes, shapes, tmp_path, **options)
    (tmp_path / "cog-1-0-0").unlink(missing_ok=True)
    with pytest.raises(OutputError, match="cannot write"):
        assemble_cog(tmp_path / "a.tif", sizes, shapes, tmp_path, **options)


@pytest.mark.parametrize("stage", ["tiles", "assembly"])
def test_where_it_cannot_be_written_is_named(tmp_path, colormap, stage):
    levels = levels_of((700, 600), 7)
    writes = write_cog_tiles(levels, tmp_path, padding=0)
    path = tmp_path / "a.tif"
    if stage == "tiles":
        (tmp_path / "cog-0-0-0" / "in the way").mkdir(parents=True)
        with pytest.raises(OutputError, match=r"cog-0-0-0.*Is a directory"):
            dask.compute(*writes)
        return
    sizes = dask.persist(*writes)
    shapes = [level.shape for level in levels]
    path.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"a\.tif"):
        assemble_cog(path, sizes, shapes, tmp_path, colormap=colormap(), georef=UTM)
