"""`kmdask.compress` and `kmdask.open` from end to end, on the cluster of their own.

What comes out is read by others (zarr, Pillow, rasterio) and held against brute force.
"""

import json
import math
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import zarr
from dask_ml.cluster import KMeans as StockKMeans
from PIL import Image
from sklearn.cluster import DBSCAN, AgglomerativeClustering, KMeans, MiniBatchKMeans

import kmdask
from kmdask.fitting.fit import TOL
from kmdask.fitting.seeding import best_start
from kmdask.pipeline import default_output


def nearest(pixels, palette):
    """Index of the nearest palette entry, the lowest of several, and its squared distance."""
    difference = pixels[:, :, None, :].astype(np.int64) - palette.astype(np.int64)
    squared = (difference**2).sum(axis=-1)
    return squared.argmin(axis=-1), squared.min(axis=-1)


def mean_squared_error(pixels, palette, valid=None):
    squared = nearest(pixels, palette)[1]
    return (squared if valid is None else squared[valid]).mean() / pixels.shape[2]


def size_on_disk(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def read_tiles(bundle, mode="P"):
    """Put the tiles of the last level together, by Pillow and the Deep Zoom description alone."""
    root = ET.parse(bundle / "tiles.dzi").getroot()  # noqa: S314  our own file
    (size,) = root
    width, height, tile = int(size.get("Width")), int(size.get("Height")), int(root.get("TileSize"))
    assert root.get("Overlap") == "0"
    level = bundle / "tiles_files" / str(math.ceil(math.log2(max(width, height))))
    whole = Image.new("RGBA", (width, height))
    for path in level.iterdir():
        column, row = map(int, path.stem.split("_"))
        with Image.open(path) as image:
            assert image.mode == mode
            whole.paste(image.convert("RGBA"), (column * tile, row * tile))
    return np.asarray(whole)


@pytest.fixture
def rgb(tmp_path, scene, write_raster):
    """Path of a small RGB GeoTIFF."""
    return write_raster(tmp_path / "scene.tif", scene(50, 70))


@pytest.fixture(scope="module")
def write_source(write_raster, write_zarr, scene, holes):
    """``write_source(folder, kind, bands, masked, shape)``: path, and the valid pixels or None."""

    def write(folder, kind, bands, masked, shape):
        pixels, valid = scene(*shape, bands), holes(*shape) if masked else None
        if masked:
            alpha = np.where(valid, 255, 0).astype(np.uint8)
            samples = np.concatenate([pixels, alpha[:, :, None]], axis=2)
        else:
            samples = pixels
        if kind == "zarr":
            return write_zarr(folder / "source.zarr", samples), valid
        options = {"tif": {"driver": "GTiff", "compress": "deflate"}}
        options |= {"png": {"driver": "PNG"}, "jpg": {"driver": "JPEG"}}
        if kind == "tif" and masked:
            options["tif"]["alpha"] = "yes"
        return write_raster(folder / f"source.{kind}", samples, **options[kind]), valid

    return write


KINDS = [
    ("tif", 1, False),
    ("tif", 3, False),
    ("tif", 3, True),
    ("png", 1, False),
    ("png", 1, True),
    ("png", 3, False),
    ("png", 3, True),
    ("jpg", 1, False),
    ("jpg", 3, False),
    ("zarr", 1, False),
    ("zarr", 3, False),
    ("zarr", 3, True),
]


@pytest.mark.parametrize(("kind", "bands", "masked"), KINDS)
def test_every_kind_of_source(tmp_path, write_source, read_raster, kind, bands, masked):
    source, valid = write_source(tmp_path, kind, bands, masked, (90, 131))
    samples = zarr.open_array(source, mode="r")[:] if kind == "zarr" else read_raster(source)[0]
    pixels = samples[:, :, :bands]

    result = kmdask.compress(source, 7)

    bundle = tmp_path / "source.kmdask"
    assert result.path == bundle
    assert {file.name for file in bundle.iterdir()} == {
        "image.zarr",
        "tiles.dzi",
        "tiles_files",
        "preview.jpg",
        "report.json",
    }
    assert result.shape == pixels.shape
    assert result.report.shape == pixels.shape
    assert result.report.k == 7
    assert result.report.k_used == len(result.palette) <= 7

    # Every pixel has its nearest entry, in the array that plain zarr reads.
    group = zarr.open_group(bundle / "image.zarr", mode="r")
    palette, indices = group["palette"][:], group["indices"][:]
    np.testing.assert_array_equal(palette, result.palette.colors)
    expected, squared = nearest(pixels, palette)
    if masked:
        expected[~valid] = len(palette)
        squared = squared[valid]
        assert group.attrs["kmdask"]["nodata"] == result.nodata == len(palette)
    else:
        assert group.attrs["kmdask"]["nodata"] is result.nodata is None
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(result.indices.compute(), expected)

    # The decoded image, from zarr and from the tiles.
    decoded = np.concatenate([palette, np.zeros((1, bands), np.uint8)])[expected]
    np.testing.assert_array_equal(result.to_dask().compute(), decoded)
    tiles = read_tiles(bundle)
    np.testing.assert_array_equal(
        tiles[:, :, :3], np.broadcast_to(decoded, (*decoded.shape[:2], 3))
    )
    np.testing.assert_array_equal(tiles[:, :, 3], 255 if valid is None else 255 * valid)

    # The report, by brute force.
    report = result.report
    mse = squared.mean() / bands
    assert report.mse == pytest.approx(mse, rel=1e-12)
    assert report.psnr == pytest.approx(10 * math.log10(255**2 / mse), rel=1e-12)
    assert report.valid_pixels == squared.size
    colors = pixels.reshape(-1, bands) if valid is None else pixels[valid]
    assert report.colors == len(np.unique(colors, axis=0))
    assert sum(report.shares) == pytest.approx(1)
    counts = np.bincount(expected.ravel(), minlength=len(palette))[: len(palette)]
    assert report.shares == pytest.approx(tuple(counts / counts.sum()))
    assert report.sizes == {
        "source": size_on_disk(source) if kind == "zarr" else source.stat().st_size,
        "raw": pixels.size,
        "zarr": size_on_disk(bundle / "image.zarr"),
        "tiles": size_on_disk(bundle / "tiles_files"),
        "cog": 0,
        "preview": (bundle / "preview.jpg").stat().st_size,
    }
    assert (report.dtype, report.exact_colors, report.peak) == ("uint8", True, 255)
    assert set(report.seconds) == {"open", "count", "fit", "write"}


def test_opened_again_it_is_the_same(rgb):
    result = kmdask.compress(rgb, 5)
    again = kmdask.open(result.path)
    assert again.report == result.report
    assert again.palette == result.palette
    assert (again.nodata, again.georef, again.path) == (result.nodata, result.georef, result.path)
    np.testing.assert_array_equal(again.indices.compute(), result.indices.compute())


def test_several_chunks_and_tiles(tmp_path, scene, write_raster):
    pixels = scene(1100, 2300)
    source = write_raster(tmp_path / "scene.tif", pixels, tiled=True, compress="deflate")
    result = kmdask.compress(source, 4)

    palette = result.palette.colors
    indices, squared = nearest(pixels, palette)
    np.testing.assert_array_equal(result.indices.compute(), indices)
    assert result.report.mse == pytest.approx(squared.mean() / 3, rel=1e-12)
    np.testing.assert_array_equal(read_tiles(result.path)[:, :, :3], palette[indices])
    levels = (result.path / "tiles_files").iterdir()
    folders = {level.name: len(list(level.iterdir())) for level in levels}
    assert folders == {"12": 15, "11": 6, "10": 2} | {str(level): 1 for level in range(10)}

    preview = result.preview()
    assert preview.size == (1150, 550)
    block = np.s_[: 1100 // 50 * 50, : 2300 // 50 * 50]
    means = pixels[block].reshape(22, 50, 46, 50, 3).mean(axis=(1, 3))
    shown = np.asarray(preview)[: 22 * 25, : 46 * 25].reshape(22, 25, 46, 25, 3).mean(axis=(1, 3))
    # As near as the palette allows: each mean is off by no more than the image itself.
    assert np.sqrt(((means - shown) ** 2).mean()) < 1.2 * math.sqrt(result.report.mse)
    assert np.abs(pixels.mean(axis=(0, 1)) - np.asarray(preview).mean(axis=(0, 1))).max() < 3


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("k", [5, 6, 256])
def test_an_image_of_few_colours_comes_back_exactly(tmp_path, write_raster, bands, k):
    rng = np.random.default_rng(1)
    colors = np.unique(rng.integers(256, size=(5, bands), dtype=np.uint8), axis=0)
    assert len(colors) == 5
    pixels = colors[rng.integers(5, size=(40, 50))]
    source = write_raster(tmp_path / "map.png", pixels, driver="PNG")
    result = kmdask.compress(source, k)
    np.testing.assert_array_equal(result.to_dask().compute(), pixels)
    assert len(result.palette) == result.report.k_used == 5
    assert (result.report.k, result.report.mse, result.report.psnr) == (k, 0, math.inf)
    assert "exact" in repr(result)
    assert json.loads((result.path / "report.json").read_text())["psnr"] is None


def test_256_entries(tmp_path, write_raster):
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    result = kmdask.compress(write_raster(tmp_path / "all.tif", pixels), 256)
    np.testing.assert_array_equal(result.to_dask().compute(), pixels)
    np.testing.assert_array_equal(read_tiles(result.path)[:, :, 0], pixels[:, :, 0])


def test_georeferencing_is_kept(tmp_path, scene, write_raster):
    transform = (30.0, 0.0, 5e5, 0.0, -30.0, 4e6)
    source = write_raster(tmp_path / "map.tif", scene(9, 9), crs="EPSG:32633", transform=transform)
    result = kmdask.compress(source, 2)
    attributes = zarr.open_group(result.path / "image.zarr", mode="r").attrs["kmdask"]
    assert attributes["transform"] == list(transform)
    assert "UTM zone 33N" in attributes["crs_wkt"]
    assert (attributes["k"], attributes["seed"]) == (2, 0)


# Quality


def crop_of_a_real_scene(real_image, read_raster):
    return np.ascontiguousarray(
        read_raster(real_image("scenes/hro_colorado.tif"))[0][60:150, 120:220]
    )


@pytest.mark.parametrize("k", [2, 5, 16, 64])
@pytest.mark.parametrize("kind", ["synthetic", "grey", "real"])
def test_no_worse_than_scikit_learn(request, tmp_path, scene, write_raster, kind, k):
    if kind == "real":
        fixtures = map(request.getfixturevalue, ("real_image", "read_raster"))
        pixels = crop_of_a_real_scene(*fixtures)
    else:
        pixels = scene(80, 90, 1 if kind == "grey" else 3, seed=3)
    samples = pixels.reshape(-1, pixels.shape[2]).astype(np.float64)
    theirs = KMeans(k, n_init=10, random_state=0).fit(samples)

    result = kmdask.compress(write_raster(tmp_path / "scene.tif", pixels), k)

    rounded = np.rint(theirs.cluster_centers_).astype(np.uint8)
    assert result.report.mse <= 1.01 * mean_squared_error(pixels, rounded)

    raster = kmdask.open_raster(tmp_path / "scene.tif")
    colors = kmdask.count_colors(raster.pixels)
    start = best_start(colors.colors, colors.counts, colors.codes, k, 0)
    ours = kmdask.KMeans(k, init=start, tol=TOL)
    ours.fit(colors.colors, sample_weight=colors.counts)
    assert ours.inertia_ <= 1.01 * theirs.inertia_


# Estimators of others


@pytest.mark.parametrize(
    ("estimator", "masked"),
    [
        (KMeans(), True),
        (KMeans(n_clusters=3, n_init=2, random_state=1), False),
        (MiniBatchKMeans(n_init=3), False),
        (StockKMeans(), True),
        (StockKMeans(init="random"), False),
        (kmdask.KMeans(), True),
        (kmdask.KMeans(init="k-means++"), False),
    ],
    ids=lambda value: f"{type(value).__module__}.{value!r}",
)
def test_other_estimators(tmp_path, write_source, estimator, masked):
    source, _ = write_source(tmp_path, "tif", 3, masked, (30, 40))
    before = estimator.get_params()
    result = kmdask.compress(source, 6, estimator=estimator)
    reference = kmdask.compress(source, 6, tmp_path / "reference.kmdask")
    assert estimator.get_params() == before
    assert not hasattr(estimator, "cluster_centers_")
    assert len(result.palette) == 6
    # Any k-means beats 2 colours by far; one start may be a good deal worse than the best of many.
    assert reference.report.mse <= 1.01 * result.report.mse
    assert result.report.mse < 3 * reference.report.mse


def test_an_estimator_that_takes_weights_gets_the_counts(rgb):
    result = kmdask.compress(rgb, 6, estimator=KMeans(n_init=1), seed=4)
    colors = kmdask.count_colors(kmdask.open_raster(rgb).pixels)
    alone = KMeans(6, n_init=1, random_state=4)
    alone.fit(colors.colors.compute(), sample_weight=colors.counts.compute())
    assert result.palette == kmdask.Palette.from_centers(alone.cluster_centers_)


@pytest.mark.parametrize(
    "estimator",
    [DBSCAN(), AgglomerativeClustering(), object(), KMeans, "kmeans"],
    ids=["no n_clusters", "no centres", "no estimator", "a class", "a name"],
)
def test_estimators_that_will_not_do(tmp_path, rgb, estimator):
    with pytest.raises(kmdask.ParameterError, match="estimator"):
        kmdask.compress(rgb, 2, estimator=estimator)
    assert list(tmp_path.iterdir()) == [rgb]


# Parameters


def test_seeds(tmp_path, rgb):
    results = [
        kmdask.compress(rgb, 12, tmp_path / f"{i}.kmdask", seed=seed)
        for i, seed in enumerate([0, 0, 1, 2])
    ]
    assert results[0].palette == results[1].palette
    assert any(results[0].palette != other.palette for other in results[2:])
    assert [result.report.seed for result in results] == [0, 0, 1, 2]


@pytest.mark.parametrize("k", [0, -1, 65_537, 2.0, "2", None, True, np.float64(2), [2]])
def test_k_out_of_range(tmp_path, rgb, k):
    with pytest.raises(kmdask.ParameterError, match="1 to 65,536"):
        kmdask.compress(rgb, k)
    assert list(tmp_path.iterdir()) == [rgb]


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_k_of_numpy(rgb, kind):
    result = kmdask.compress(rgb, kind(2))
    assert result.report.k == 2
    assert zarr.open_group(result.path / "image.zarr", mode="r").attrs["kmdask"]["k"] == 2


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_seeds_of_numpy(tmp_path, rgb, kind):
    result = kmdask.compress(rgb, 12, seed=kind(2))
    assert result.report.seed == 2
    assert zarr.open_group(result.path / "image.zarr", mode="r").attrs["kmdask"]["seed"] == 2
    assert result.palette == kmdask.compress(rgb, 12, tmp_path / "int.kmdask", seed=2).palette


@pytest.mark.parametrize("seed", [-1, 1.0, "0", None, True, np.int64(-1), np.float64(1)])
def test_seeds_out_of_range(tmp_path, rgb, seed):
    with pytest.raises(kmdask.ParameterError, match="seed"):
        kmdask.compress(rgb, 2, seed=seed)
    assert list(tmp_path.iterdir()) == [rgb]


@pytest.mark.parametrize(
    "formats", ["zarr", (), ("tiles",), ("zarr", "jpeg"), None, 3, [["zarr"]]], ids=repr
)
def test_formats_that_there_are_not(tmp_path, rgb, formats):
    with pytest.raises(kmdask.ParameterError, match="formats"):
        kmdask.compress(rgb, 2, formats=formats)
    assert list(tmp_path.iterdir()) == [rgb]


def test_without_tiles(rgb):
    result = kmdask.compress(rgb, 2, formats=["zarr"])
    names = {file.name for file in result.path.iterdir()}
    assert names == {"image.zarr", "preview.jpg", "report.json"}
    assert result.report.sizes["tiles"] == 0


# Odd shapes


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1)])
def test_thin_images(tmp_path, scene, write_raster, shape, bands):
    pixels = scene(*shape, bands)
    result = kmdask.compress(write_raster(tmp_path / "thin.tif", pixels), 3)
    indices, _ = nearest(pixels, result.palette.colors)
    np.testing.assert_array_equal(result.indices.compute(), indices)
    assert result.preview().size == shape[::-1]
    np.testing.assert_array_equal(
        read_tiles(result.path)[:, :, :bands], result.palette.colors[indices]
    )


@pytest.mark.parametrize(("shape", "kind"), [((70_000, 10), "tif"), ((10, 70_000), "zarr")])
def test_very_long_images(tmp_path, scene, write_raster, write_zarr, shape, kind):
    pixels = scene(*shape) & 0xF0
    if kind == "tif":
        source = write_raster(tmp_path / "long.tif", pixels)
    else:
        source = write_zarr(
            tmp_path / "long.zarr", pixels, chunks=(min(shape[0], 2000), min(shape[1], 2000), 3)
        )
    result = kmdask.compress(source, 4)
    indices, _ = nearest(pixels, result.palette.colors)
    np.testing.assert_array_equal(result.indices.compute(), indices)
    assert max(result.preview().size) <= 2048
    np.testing.assert_array_equal(read_tiles(result.path)[:, :, :3], result.palette.colors[indices])


def test_no_valid_pixel(tmp_path, scene, write_raster):
    source = write_raster(tmp_path / "empty.tif", scene(20, 20), np.zeros((20, 20), bool))
    with pytest.raises(kmdask.EmptyImageError, match="invalid"):
        kmdask.compress(source, 2)
    assert list(tmp_path.iterdir()) == [source]


def test_one_valid_pixel(tmp_path, scene, write_raster):
    valid = np.zeros((20, 30), bool)
    valid[7, 9] = True
    pixels = scene(20, 30)
    result = kmdask.compress(write_raster(tmp_path / "one.tif", pixels, valid), 256)
    np.testing.assert_array_equal(result.palette.colors, pixels[7:8, 9])
    np.testing.assert_array_equal(result.indices.compute() == 0, valid)
    assert result.report.valid_pixels == 1


@pytest.fixture
def noise_with_holes(tmp_path, write_raster, holes):
    """An image of thousands of colours, with invalid pixels: its path, pixels and the valid."""
    pixels = np.random.default_rng(0).integers(256, size=(60, 60, 3), dtype=np.uint8)
    valid = holes(60, 60)
    return write_raster(tmp_path / "scene.tif", pixels, valid), pixels, valid


@pytest.mark.parametrize(("k", "dtype"), [(255, np.uint8), (256, np.uint16), (1000, np.uint16)])
def test_an_index_more_for_invalid_pixels(noise_with_holes, k, dtype):
    source, pixels, valid = noise_with_holes
    result = kmdask.compress(source, k)
    assert result.nodata == len(result.palette) <= k
    assert len(result.palette) > 0.95 * k
    indices = zarr.open_group(result.path / "image.zarr", mode="r")["indices"][:]
    assert indices.dtype == dtype
    expected = np.where(valid, nearest(pixels, result.palette.colors)[0], result.nodata)
    np.testing.assert_array_equal(indices, expected)
    tiles = read_tiles(result.path, "P" if k == 255 else "RGBA")
    np.testing.assert_array_equal(tiles[:, :, 3], 255 * valid)
    np.testing.assert_array_equal(tiles[valid][:, :3], result.palette.colors[expected[valid]])


@pytest.mark.parametrize("k", [256, 257, 65_536])
def test_a_geotiff_holds_256_entries(tmp_path, noise_with_holes, k):
    source, _, _ = noise_with_holes
    with pytest.raises(kmdask.ParameterError, match="256 entries"):
        kmdask.compress(source, k, formats=["zarr", "cog"])
    assert list(tmp_path.iterdir()) == [source]


def test_a_geotiff_of_an_image_of_few_colours(tmp_path, write_raster):
    # What counts are the entries there are, not those asked for.
    pixels = np.arange(9, dtype=np.uint8).reshape(3, 3, 1).repeat(20, 0)
    source = write_raster(tmp_path / "few.tif", pixels)
    result = kmdask.compress(source, 4000, formats=["zarr", "cog"])
    assert len(result.palette) == 9
    assert result.report.sizes["cog"] == (result.path / "image.tif").stat().st_size > 0


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_no_index_left_for_invalid_pixels(tmp_path, write_raster, dtype):
    # As many colours as there are indices, and one invalid pixel.
    colors = np.arange(1 << 16)
    pixels = np.stack([colors // 256, colors % 256, colors % 7], axis=1).astype(dtype)
    pixels = np.append(pixels, pixels[-1:] * 0, axis=0).reshape(1, -1, 3)
    valid = np.ones(pixels.shape[:2], bool)
    valid[0, -1] = False
    source = write_raster(tmp_path / "scene.tif", pixels, valid)
    with pytest.raises(kmdask.ParameterError, match="k=65535"):
        kmdask.compress(source, 65_536)
    assert list(tmp_path.iterdir()) == [source]


def test_as_many_entries_as_there_are_indices(tmp_path, write_raster):
    colors = np.arange(1 << 16)
    pixels = np.stack([colors // 256, colors % 256, colors % 7], axis=1).astype(np.uint8)
    pixels = np.random.default_rng(0).permutation(pixels).reshape(256, 256, 3)
    result = kmdask.compress(write_raster(tmp_path / "all.tif", pixels), 65_536)
    assert len(result.palette) == 65_536
    assert result.indices.dtype == np.uint16
    np.testing.assert_array_equal(result.to_dask().compute(), pixels)
    np.testing.assert_array_equal(read_tiles(result.path, "RGB")[:, :, :3], pixels)


# Outputs


def test_an_output_that_exists(rgb):
    first = kmdask.compress(rgb, 2)
    with pytest.raises(kmdask.OutputExistsError, match="overwrite"):
        kmdask.compress(rgb, 3)
    assert kmdask.open(first.path).report == first.report


def test_overwriting(tmp_path, rgb):
    kmdask.compress(rgb, 2)
    result = kmdask.compress(rgb, 3, overwrite=True, formats=["zarr"])
    assert kmdask.open(tmp_path / "scene.kmdask").report.k == 3
    assert not (result.path / "tiles.dzi").exists()
    assert {file.name for file in tmp_path.iterdir()} == {"scene.tif", "scene.kmdask"}


@pytest.mark.parametrize("kind", ["file", "folder", "empty folder", "the source"])
def test_only_bundles_are_overwritten(tmp_path, rgb, kind):
    out = tmp_path / "precious"
    if kind == "file":
        out.write_text("precious")
    elif kind == "the source":
        out = rgb
    else:
        out.mkdir()
        if kind == "folder":
            (out / "notes.txt").write_text("precious")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(kmdask.OutputExistsError, match="no kmdask bundle"):
        kmdask.compress(rgb, 2, out, overwrite=True)
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("out", ["nowhere/out.kmdask", "scene.tif/out.kmdask", "x" * 300])
def test_an_output_that_cannot_be_written(tmp_path, rgb, out):
    with pytest.raises(kmdask.OutputError, match="cannot write"):
        kmdask.compress(rgb, 2, tmp_path / out)
    assert list(tmp_path.iterdir()) == [rgb]


@pytest.mark.parametrize("name", ["a [1] *?.tif", "йцук 雪.tif", "no ending", "two.dots.tif"])
def test_odd_names(tmp_path, scene, write_raster, name):
    source = write_raster(tmp_path / name, scene(9, 9))
    result = kmdask.compress(str(source), 2)
    assert result.path == source.with_suffix(".kmdask")
    assert kmdask.open(str(result.path)).report.source == str(source)


# Sources that cannot be read


def truncate(source, share):
    content = source.read_bytes()
    source.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["tif", "png", "jpg"])
def test_truncated_sources(tmp_path, write_source, kind, share):
    source, _ = write_source(tmp_path, kind, 3, False, (200, 300))
    truncate(source, share)
    with pytest.raises(kmdask.SourceError, match=re.escape(str(source))):
        kmdask.compress(source, 2)
    assert list(tmp_path.iterdir()) == [source]


def test_missing_source(tmp_path):
    with pytest.raises(kmdask.SourceNotFoundError, match=r"nothing\.tif"):
        kmdask.compress(tmp_path / "nothing.tif", 2)
    assert list(tmp_path.iterdir()) == []


def test_sources_that_are_no_image(tmp_path):
    text = tmp_path / "text.tif"
    text.write_text("no image")
    folder = tmp_path / "folder"
    folder.mkdir()
    for source in (text, folder):
        with pytest.raises(kmdask.SourceError, match=source.name):
            kmdask.compress(source, 2)
    assert {file.name for file in tmp_path.iterdir()} == {"text.tif", "folder"}


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_images(tmp_path, write_raster, dtype):
    source = write_raster(tmp_path / "radar.tif", np.zeros((9, 9, 1), dtype))
    with pytest.raises(kmdask.UnsupportedImageError, match=r"complex.*integers or floats"):
        kmdask.compress(source, 2)
    assert list(tmp_path.iterdir()) == [source]


def test_zarr_with_a_missing_shard_is_its_fill_value(tmp_path, scene, write_zarr):
    # zarr leaves out chunks that hold the fill value, so a missing one is no damage.
    pixels = scene(40, 40)
    source = write_zarr(tmp_path / "source.zarr", pixels)
    shutil.rmtree(source / "c" / "1")
    pixels[16:32] = 0
    result = kmdask.compress(source, 2)
    indices, _ = nearest(pixels, result.palette.colors)
    np.testing.assert_array_equal(result.indices.compute(), indices)


def test_zarr_with_a_damaged_chunk(tmp_path, scene, write_zarr):
    source = write_zarr(tmp_path / "source.zarr", scene(40, 40))
    chunk = source / "c" / "1" / "1" / "0"
    chunk.write_bytes(b"\0" * chunk.stat().st_size)
    with pytest.raises(kmdask.SourceError, match=r"source\.zarr.*rows"):
        kmdask.compress(source, 2)
    assert list(tmp_path.iterdir()) == [source]


# What is shown


def test_repr(rgb):
    result = kmdask.compress(rgb, 3)
    text = repr(result)
    assert "70 x 50 x 3" in text
    assert "3 colours" in text
    assert f"{result.report.psnr:.1f} dB" in text
    assert result.path.name in text
    page = result._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 1
    assert all(color in page for color in result.palette.hex)
    assert "&lt;CompressedImage" in page


# Where things are


def test_a_source_in_its_own_output(tmp_path, rgb):
    result = kmdask.compress(rgb, 4)
    inside = result.path / "image.zarr" / "indices"
    with pytest.raises(kmdask.ParameterError, match="lies in the output"):
        kmdask.compress(inside, 2, result.path, overwrite=True)
    with pytest.raises(kmdask.ParameterError, match=r"would be its own output.*kmdask decompress"):
        kmdask.compress(result.path, 2, overwrite=True)
    assert kmdask.open(result.path).palette == result.palette
    assert sorted(tmp_path.iterdir()) == sorted([rgb, result.path])


def test_a_bundle_opened_by_a_relative_path_stays_open(tmp_path, monkeypatch, rgb):
    monkeypatch.chdir(tmp_path)
    result = kmdask.compress(rgb.name, 4)
    assert result.report.source == rgb.name
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert result.preview().size == result.indices.shape[::-1]
    assert result.indices.compute().max() == 3


@pytest.mark.parametrize(
    ("source", "name"),
    [("https://host/a/scene.tif", "scene.kmdask"), ("/vsizip/a.zip/b.png", "b.kmdask")],
)
def test_the_output_of_a_url_is_here(source, name):
    assert default_output(source) == Path(name)
