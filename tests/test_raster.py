"""Reading: every kind of source against rasterio's, zarr's or Pillow's own reading."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
import zarr
from numcodecs import BZ2, LZ4, LZMA, Blosc, GZip, Zlib, Zstd
from PIL import Image
from rasterio._env import get_gdal_config
from rasterio.crs import CRS
from rasterio.transform import Affine

from kmdask import SourceError, chunks, open_raster
from kmdask.reading import gdal, gdal_source, sources

UTM = {"crs": CRS.from_epsg(32629), "transform": Affine(10, 0, 5e5, 0, -10, 6e6)}


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 32 pixels, so that small images have many, and strips of more are copied."""
    monkeypatch.setattr(chunks, "TILE", 16)
    monkeypatch.setattr(chunks, "PIXELS", 32 * 32)
    monkeypatch.setattr(chunks, "SHARD", 32)


def load(opened):
    """Pixels and mask (all valid if there is none)."""
    pixels = opened.pixels.compute()
    assert pixels.dtype == np.uint8
    assert opened.pixels.chunks[2] == (pixels.shape[2],)
    assert pixels.shape[:2] == opened.shape
    if opened.mask is None:
        return pixels, np.ones(opened.shape, bool)
    assert opened.mask.chunks == opened.pixels.chunks[:2]
    mask = opened.mask.compute()
    assert mask.dtype == np.uint8
    return pixels, mask != 0


LAYOUTS = {
    "strips": {},
    "one-row strips": {"blockysize": 1},
    "tiles": {"tiled": True, "blockxsize": 16, "blockysize": 32},
    "large tiles": {"tiled": True, "blockxsize": 64, "blockysize": 64},
    "one strip": {"blockysize": 83},
    "planar strips": {"interleave": "band"},
    "planar tiles": {"interleave": "band", "tiled": True, "blockxsize": 16, "blockysize": 16},
    "BigTIFF": {"bigtiff": "yes"},
    "big endian": {"endianness": "big"},
}
COMPRESSIONS = {
    "deflate": {"compress": "deflate"},
    "deflate, predictor": {"compress": "deflate", "predictor": 2},
    "lzw": {"compress": "lzw"},
    "zstd": {"compress": "zstd"},
    "packbits": {"compress": "packbits"},
    "lerc": {"compress": "lerc"},
    "lzma": {"compress": "lzma"},
    "jpeg": {"compress": "jpeg"},
    "jpeg, ycbcr": {"compress": "jpeg", "photometric": "ycbcr"},
    "webp": {"compress": "webp"},
}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiff_layouts(tmp_path, scene, write_raster, layout, bands):
    pixels = scene(83, 70, bands)
    opened = open_raster(write_raster(tmp_path / "a.tif", pixels, **LAYOUTS[layout]))
    assert opened.pixels.npartitions > 4
    assert opened.mask is None
    np.testing.assert_array_equal(opened.pixels.compute(), pixels)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_tiff_compressions(tmp_path, scene, write_raster, read_raster, compression):
    pixels = scene(83, 70)
    options = COMPRESSIONS[compression]
    name = options["compress"].upper()
    path = write_raster(
        tmp_path / "a.tif", pixels, tiled=True, blockxsize=32, blockysize=32, **options, **UTM
    )
    with rasterio.open(path) as dataset:
        assert name in dataset.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"].upper()
    expected, _ = read_raster(path)
    np.testing.assert_array_equal(open_raster(path).pixels.compute(), expected)
    if name not in {"JPEG", "WEBP"}:
        np.testing.assert_array_equal(expected, pixels)


MASKS = {
    "alpha": lambda pixels, valid: ({"alpha": "YES"}, None, [pixels, valid * np.uint8(255)]),
    "faint alpha": lambda pixels, valid: ({"alpha": "YES"}, None, [pixels, valid * np.uint8(1)]),
    "nodata": lambda pixels, valid: (
        {"nodata": 0},
        None,
        [np.where(valid[:, :, None], np.maximum(pixels, 1), 0)],
    ),
    "internal mask": lambda pixels, valid: ({}, valid, [pixels]),
}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("layout", ["tiles", "one strip", "planar strips"])
@pytest.mark.parametrize("kind", MASKS)
def test_tiff_masks(tmp_path, scene, holes, write_raster, read_raster, kind, layout, bands):
    pixels, valid = scene(83, 70, bands), holes(83, 70)
    options, mask, parts = MASKS[kind](pixels, valid)
    photometric = "rgb" if bands == 3 else "minisblack"
    path = write_raster(
        tmp_path / "a.tif",
        np.dstack(parts),
        mask,
        photometric=photometric,
        **options,
        **LAYOUTS[layout],
    )
    expected, gdal_mask = read_raster(path)
    np.testing.assert_array_equal(gdal_mask != 0, valid)
    seen, seen_valid = load(open_raster(path))
    np.testing.assert_array_equal(seen_valid, valid)
    np.testing.assert_array_equal(seen, expected[:, :, :bands])


def test_nodata_invalidates_pixels_where_every_band_has_it(tmp_path, write_raster):
    pixels = np.array([[[0, 0, 0], [0, 0, 1], [5, 5, 5]]], np.uint8)
    path = write_raster(tmp_path / "a.tif", pixels, nodata=0, photometric="rgb")
    assert load(open_raster(path))[1].tolist() == [[False, True, True]]


@pytest.mark.parametrize("spooled", [False, True])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_png(tmp_path, request, scene, holes, mode, spooled):
    if spooled:
        request.getfixturevalue("small_chunks")
    bands = len(mode.rstrip("A"))
    pixels, valid = scene(83, 70, bands), holes(83, 70)
    samples = np.dstack([pixels, valid * np.uint8(255)]) if "A" in mode else pixels
    path = tmp_path / "a.png"
    Image.fromarray(samples[:, :, 0] if mode == "L" else samples).save(path)
    opened = open_raster(path, scratch=tmp_path)
    assert (tmp_path / "spool.zarr").exists() == spooled
    seen, seen_valid = load(opened)
    np.testing.assert_array_equal(seen, pixels)
    np.testing.assert_array_equal(seen_valid, valid | ("A" not in mode))


def test_png_with_a_transparent_colour(tmp_path):
    pixels = np.array([[[9, 9, 9], [1, 2, 3], [9, 9, 8]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=(9, 9, 9))
    seen, valid = load(open_raster(tmp_path / "a.png"))
    np.testing.assert_array_equal(seen[0, 1:], pixels[0, 1:])
    assert valid.tolist() == [[False, True, True]]


@pytest.mark.parametrize("spooled", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg(tmp_path, request, scene, read_raster, mode, spooled):
    if spooled:
        request.getfixturevalue("small_chunks")
    path = tmp_path / "a.jpg"
    pixels = scene(83, 70, len(mode))
    Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels).save(path, quality=95)
    expected, _ = read_raster(path)
    opened = open_raster(path)
    seen, _ = load(opened)
    np.testing.assert_array_equal(seen, expected)
    assert opened.mask is None
    assert np.abs(seen.astype(int) - pixels).mean() < 4


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_the_copy_is_one_forward_pass(tmp_path, monkeypatch, scene, write_raster, ending):
    # A file opened anew for each strip of rows is decoded from its first row each time.
    opened = []

    def counting(*args, **kwargs):
        opened.append(args)
        return open_dataset(*args, **kwargs)

    open_dataset = gdal.open_dataset
    monkeypatch.setattr(gdal, "open_dataset", counting)
    times = []
    for height in (40, 400):
        path = tmp_path / f"{height}.{ending}"
        if ending == "tif":
            write_raster(path, scene(height, 70), compress="deflate", blockysize=height)
        else:
            Image.fromarray(scene(height, 70)).save(path)
        opened.clear()
        (tmp_path / str(height)).mkdir()
        open_raster(path, scratch=tmp_path / str(height))
        assert (tmp_path / str(height) / "spool.zarr").exists()
        times.append(len(opened))
    assert times[0] == times[1]


def room():
    """Bytes of GDAL's cache of blocks."""
    return get_gdal_config("GDAL_CACHEMAX", normalize=False)


@pytest.mark.parametrize(("interleave", "together"), [("pixel", 5), ("band", 1)])
def test_the_cache_has_room_for_a_block_of_every_reader(
    tmp_path, monkeypatch, scene, write_raster, interleave, together
):
    # Else threads push interleaved bands of each other out of it, and decode them anew.
    path = tmp_path / "image.tif"
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 128, "interleave": interleave}
    write_raster(path, scene(300, 400, 5), **tiles)
    source = gdal_source.RasterioSource.open(str(path))
    block = 256 * 128 * together
    assert source.block_bytes == block
    both, seen, before = threading.Barrier(2, timeout=60), [], room()

    def waiting(*args, **kwargs):
        both.wait()
        seen.append(room())
        both.wait()
        return open_dataset(*args, **kwargs)

    open_dataset = gdal.open_dataset
    monkeypatch.setattr(gdal, "open_dataset", waiting)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: source.read(slice(0, 300), slice(0, 400)), range(2)))
    assert seen == [gdal.CACHE + 2 * block] * 2
    assert room() == before
    with gdal.reading(str(path), block), gdal.reading(str(path), gdal.LARGE + 1):
        assert room() == gdal.CACHE + block
    assert room() == before


def test_the_temporary_copy_needs_no_scratch_given(tmp_path, scene, small_chunks):  # noqa: ARG001
    for name in ("a.png", "b.png"):
        Image.fromarray(scene(83, 70, seed=ord(name[0]))).save(tmp_path / name)
    first, second = open_raster(tmp_path / "a.png"), open_raster(tmp_path / "b.png")
    np.testing.assert_array_equal(first.pixels.compute(), scene(83, 70, seed=ord("a")))
    np.testing.assert_array_equal(second.pixels.compute(), scene(83, 70, seed=ord("b")))


AXES = {
    "yx": lambda samples: samples[:, :, 0],
    "yxs": lambda samples: samples,
    "syx": lambda samples: np.moveaxis(samples, 2, 0).copy(),
}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("axes", "samples"),
    [("yx", 1), *((axes, samples) for axes in ("yxs", "syx") for samples in (1, 2, 3, 4))],
)
def test_zarr(tmp_path, scene, holes, write_zarr, axes, samples, zarr_format):
    stored = scene(83, 70, samples)
    valid = np.ones((83, 70), bool)
    if samples in {2, 4}:
        valid = holes(83, 70)
        stored[:, :, -1] *= valid
        valid = stored[:, :, -1] != 0
    path = write_zarr(tmp_path / "a.zarr", AXES[axes](stored), zarr_format=zarr_format)
    opened = open_raster(path)
    seen, seen_valid = load(opened)
    np.testing.assert_array_equal(seen, stored[:, :, : 1 if samples < 3 else 3])
    np.testing.assert_array_equal(seen_valid, valid)
    assert (opened.mask is not None) == (samples in {2, 4})


@pytest.mark.usefixtures("small_chunks")
def test_zarr_in_shards_and_in_one_chunk(tmp_path, scene, write_zarr):
    pixels = scene(83, 70)
    for name, options in {
        "shards": {"chunks": (8, 8, 3), "shards": (16, 32, 3)},
        "one chunk": {"chunks": (83, 70, 3)},
    }.items():
        path = write_zarr(tmp_path / name, pixels, **options)
        np.testing.assert_array_equal(open_raster(path).pixels.compute(), pixels)


@pytest.mark.usefixtures("small_chunks")
def test_zarr_chunks_that_were_never_written(tmp_path):
    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, shape=(83, 70), dtype="uint8", chunks=(16, 16), fill_value=7)
    array[20:30, 20:30] = 9
    np.testing.assert_array_equal(open_raster(path).pixels.compute()[:, :, 0], array[:])


def test_georeference(tmp_path, scene, write_raster):
    opened = open_raster(write_raster(tmp_path / "a.tif", scene(8, 9), **UTM))
    assert CRS.from_wkt(opened.georef.crs_wkt) == UTM["crs"]
    assert Affine(*opened.georef.transform) == UTM["transform"]
    plain = open_raster(write_raster(tmp_path / "b.tif", scene(8, 9)))
    assert plain.georef.crs_wkt is None
    assert plain.georef.transform is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2000, 2)])
@pytest.mark.parametrize("ending", ["tif", "png", "zarr"])
def test_thin_images(tmp_path, scene, write_raster, write_zarr, shape, ending):
    pixels = scene(*shape)
    path = tmp_path / f"a.{ending}"
    if ending == "zarr":
        write_zarr(path, pixels)
    else:
        write_raster(path, pixels, driver={"tif": "GTiff", "png": "PNG"}[ending])
    np.testing.assert_array_equal(open_raster(path).pixels.compute(), pixels)


def test_sizes_of_sources(tmp_path, scene, write_raster, write_zarr):
    file = write_raster(tmp_path / "a.tif", scene(8, 9))
    assert open_raster(file).source_bytes == len(file.read_bytes())
    folder = write_zarr(tmp_path / "a.zarr", scene(8, 9))
    sizes = [len(path.read_bytes()) for path in folder.rglob("*") if path.is_file()]
    assert open_raster(folder).source_bytes == sum(sizes)
    assert open_raster(str(file)).source == str(file)


def test_a_damaged_tile_is_named_by_its_rows_and_columns(
    tmp_path, monkeypatch, scene, write_raster
):
    monkeypatch.setattr(chunks, "TILE", 16)
    monkeypatch.setattr(chunks, "SHARD", 16)
    path = write_raster(
        tmp_path / "a.tif",
        scene(83, 70),
        compress="deflate",
        tiled=True,
        blockxsize=16,
        blockysize=16,
        **UTM,
    )
    with rasterio.open(path) as dataset:  # the tile of column 2, row 3
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_2_3", "TIFF", bidx=1))
        size = int(dataset.get_tag_item("BLOCK_SIZE_2_3", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = b"\xaa" * size
    path.write_bytes(content)
    opened = open_raster(path)
    with pytest.raises(SourceError, match=r"a\.tif.*rows 48 to 64, columns 32 to 48.*damaged"):
        opened.pixels.compute()
    opened.pixels[:48].compute()  # the rest is still there


CODECS = [Zlib(), GZip(), BZ2(), LZMA(), Blosc(), Zstd(), LZ4(), None]


@pytest.mark.parametrize(
    ("codec", "damage"),
    [
        (codec, damage)
        for codec in CODECS
        for damage in ("garbage", "half", "empty")
        if (codec, damage) != (Blosc(), "half")  # numcodecs does not notice
    ],
    ids=str,
)
def test_damaged_zarr_chunks(tmp_path, scene, write_zarr, codec, damage):
    path = write_zarr(tmp_path / "a.zarr", scene(40, 50), zarr_format=2, compressors=codec)
    chunk = path / "1.2.0"
    content = chunk.read_bytes()
    if damage == "garbage" and codec is None:
        content = content + content  # of garbage nobody could tell
    else:
        broken = {
            "garbage": b"\xaa" * len(content),
            "half": content[: len(content) // 2],
            "empty": b"",
        }
        content = broken[damage]
    chunk.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.zarr.*rows 0 to 40, columns 0 to 50"):
        open_raster(path).pixels.compute()


def test_a_damaged_zarr_shard(tmp_path, scene, write_zarr):
    path = write_zarr(tmp_path / "a.zarr", scene(40, 50), chunks=(8, 8, 3), shards=(16, 16, 3))
    shard = path / "c" / "1" / "2" / "0"
    shard.write_bytes(shard.read_bytes()[:-2] + b"\0\0")
    with pytest.raises(SourceError, match="rows 0 to 40"):
        open_raster(path).pixels.compute()


def test_two_versions_of_a_path_are_told_apart(tmp_path, scene, write_raster):
    # On a cluster a task of the same name is the same task: old pixels would come back.
    path = write_raster(tmp_path / "a.tif", scene(40, 50, seed=0))
    before = open_raster(path)
    write_raster(path, scene(40, 50, seed=1))
    assert open_raster(path).pixels.name != before.pixels.name


@pytest.mark.usefixtures("small_chunks")
def test_the_copy_can_be_made_again(tmp_path, scene):
    # The worker that makes it may die halfway, and another starts afresh.
    Image.fromarray(scene(83, 70)).save(tmp_path / "a.png")
    for _ in range(2):
        opened = open_raster(tmp_path / "a.png", scratch=tmp_path)
        np.testing.assert_array_equal(opened.pixels.compute(), scene(83, 70))


def test_a_large_strip_is_known_for_one(tmp_path, scene, write_raster):
    # GDAL presents it as rows, and decodes from its beginning for each.
    pixels = scene(2100, 40)
    path = write_raster(tmp_path / "a.tif", pixels, compress="deflate", blockysize=2100)
    assert sources.find_source(str(path)).block == (2100, 40)
    np.testing.assert_array_equal(open_raster(path).pixels.compute(), pixels)
