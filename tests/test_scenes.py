"""Scenes of many and deep bands from end to end, read by others and held against brute force."""

from __future__ import annotations

import hashlib
import math
from xml.etree import ElementTree as ET

import dask.array as da
import numpy as np
import pytest
import rasterio
import zarr
from distributed import Client, LocalCluster
from PIL import Image
from sklearn.cluster import KMeans

import kmdask
from kmdask.fitting.survey import survey
from kmdask.writing.decompress import Decoded, decompress

UTM = {"crs": "EPSG:32629", "transform": (60.0, 0.0, 5e5, 0.0, -60.0, 6e6)}


@pytest.fixture(scope="module")
def land():
    """``land(height, width, bands, seed=0)``: correlated bands from 0 to 1, like fields."""

    def make(height, width, bands, seed=0):
        rng = np.random.default_rng(seed)
        fields = rng.integers(0, 12, (height // 9 + 1, width // 13 + 1))
        kinds = fields.repeat(9, axis=0).repeat(13, axis=1)[:height, :width]
        spectra = rng.gamma(2, 0.1, (12, bands))
        y, x = np.ogrid[:height, :width]
        light = 1 + 0.3 * np.sin(y / 50) * np.cos(x / 70) + rng.normal(0, 0.1, (height, width))
        values = spectra[kinds] * light[:, :, None] + rng.normal(0, 0.01, (height, width, bands))
        return np.clip(values, 0, 1)

    return make


def nearest(pixels, palette):
    """Index of the nearest of some colours for each of some pixels, and its squared distance."""
    pixels = pixels.astype(np.float64)
    indices, least = np.zeros(len(pixels), np.int64), np.full(len(pixels), np.inf)
    for i, color in enumerate(palette.astype(np.float64)):
        gaps = pixels - color
        squared = np.einsum("ij,ij->i", gaps, gaps)
        nearer = squared < least
        indices[nearer], least[nearer] = i, squared[nearer]
    return indices, least


def read_tiles(bundle):
    """Put the tiles of the last level together."""
    root = ET.parse(bundle / "tiles.dzi").getroot()  # noqa: S314  our own file
    width, height = int(root[0].get("Width")), int(root[0].get("Height"))
    tile = int(root.get("TileSize"))
    whole = Image.new("RGBA", (width, height))
    level = bundle / "tiles_files" / str(math.ceil(math.log2(max(width, height))))
    for path in level.iterdir():
        column, row = map(int, path.stem.split("_"))
        with Image.open(path) as image:
            whole.paste(image.convert("RGBA"), (column * tile, row * tile))
    return np.asarray(whole)


def fingerprints(bundle, but=("report.json",)):
    return {
        str(path.relative_to(bundle)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(bundle.rglob("*"))
        if path.is_file() and path.name not in but
    }


def check(result, pixels, valid):
    """Every pixel has its nearest entry, invalid ones none; the report says how far it is."""
    group = zarr.open_group(result.path / "image.zarr", mode="r")
    palette, indices = group["palette"][:], group["indices"][:]
    assert palette.dtype == pixels.dtype
    assert group.metadata.zarr_format == 2
    assert group["indices"].chunks == (1024, 1024)
    np.testing.assert_array_equal(indices[~valid], len(palette))
    flat, chosen = pixels[valid], indices[valid]
    expected, squared = nearest(flat, palette)
    if pixels.dtype.itemsize <= 2:
        np.testing.assert_array_equal(chosen, expected)
    else:  # squares may be rounded: as near to within the last places
        gaps = flat.astype(np.float64) - palette[chosen].astype(np.float64)
        np.testing.assert_array_less((gaps**2).sum(axis=1), squared * (1 + 1e-12) + 1e-300)
    report = result.report
    assert report.mse == pytest.approx(squared.mean() / pixels.shape[2], rel=1e-9)
    assert report.valid_pixels == valid.sum()
    counts = np.bincount(chosen, minlength=len(palette))
    np.testing.assert_allclose(report.shares, counts / counts.sum())
    assert report.dtype == str(pixels.dtype)
    low, high = (0, 255) if pixels.dtype == np.uint8 else (flat.min(), flat.max())
    assert report.peak == float(high) - float(low)
    assert report.k_used == len(palette) == len(result.palette)
    return indices


# A georeferenced scene with missing pixels, of every kind


@pytest.fixture(scope="module")
def border():
    """``border(height, width)``: False along a slanted edge, as of a satellite's swath."""

    def make(height, width):
        y, x = np.ogrid[:height, :width]
        return (x + y / 3 > width / 5) & (y < height - 7)

    return make


KINDS = {
    "uint16": (np.uint16, 10_000, 0),
    "int16": (np.int16, 3000, -32768),
    "float32": (np.float32, 1, math.nan),
}


@pytest.fixture(scope="module", params=["uint16", "float32"])
def swath(request, tmp_path_factory, land, border, write_raster):
    """Path, pixels, the valid ones and the nodata value of a scene of several chunks."""
    dtype, most, nodata = KINDS[request.param]
    values, valid = land(300, 1100, 6) * most, border(300, 1100)
    pixels = (values - most / 5 if dtype == np.int16 else np.maximum(values, most / 9999)).astype(
        dtype
    )
    pixels[~valid] = nodata
    path = tmp_path_factory.mktemp("scene") / f"{request.param}.tif"
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    write_raster(path, pixels, nodata=nodata, **UTM, **layout)
    return path, pixels, valid, nodata


@pytest.fixture(scope="module")
def bundle(compress, swath):
    path, _, _, _ = swath
    return compress(path, 12, formats=["zarr", "tiles", "cog"])


def test_every_pixel_has_its_nearest_entry(swath, bundle):
    _, pixels, valid, _ = swath
    check(bundle, pixels, valid)
    assert bundle.nodata == len(bundle.palette) == 12
    assert set(bundle.report.seconds) == {"open", "count", "fit", "refine", "write"}
    assert not bundle.report.exact_colors


def test_tiles_and_geotiff_show_the_indices(swath, bundle):
    _, _, valid, _ = swath
    indices = bundle.indices.compute()
    np.testing.assert_array_equal(read_tiles(bundle.path), bundle.colormap.rgba[indices])
    with rasterio.open(bundle.path / "image.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), indices)
        colormap = dataset.colormap(1)
        shown = [colormap[i][:3] for i in range(12)]
        assert shown == list(map(tuple, bundle.colormap.rgb.tolist()))
        np.testing.assert_array_equal(dataset.dataset_mask() != 0, valid)
        assert dataset.crs.to_epsg() == 32629
        assert tuple(dataset.transform)[:6] == UTM["transform"]
    assert bundle.display.bands == (1, 2, 3)
    # Black and white are the second and the 98th percentile, or nearly: those of cells.
    _, pixels, _, _ = swath
    for band, low, high in zip(range(3), bundle.display.low, bundle.display.high, strict=True):
        values = pixels[:, :, band][valid].astype(float)
        places = np.searchsorted(np.sort(values), [low, high]) / values.size * 100
        np.testing.assert_allclose(places, [2, 98], atol=1)


def test_decoded_they_have_their_nodata_values(tmp_path, swath, bundle):
    _, pixels, valid, nodata = swath
    decoded = bundle.to_dask().compute()
    assert decoded.dtype == pixels.dtype
    missing = decoded[~valid]
    np.testing.assert_array_equal(missing, np.full(missing.shape, nodata, pixels.dtype))
    expected = bundle.palette.colors[bundle.indices.compute()[valid]]
    np.testing.assert_array_equal(decoded[valid], expected)
    assert not (bundle.palette.colors == nodata).all(axis=1).any()
    decompress(Decoded.open(bundle.path), tmp_path / "colors.tif")
    with rasterio.open(tmp_path / "colors.tif") as dataset:
        np.testing.assert_array_equal(np.moveaxis(dataset.read(), 0, 2), decoded)
        np.testing.assert_array_equal(dataset.dataset_mask() != 0, valid)
        np.testing.assert_array_equal(dataset.nodatavals, [nodata] * 6)
        assert dataset.crs.to_epsg() == 32629


LAYOUTS = {
    "strips": {"blockysize": 3, "compress": "lzw"},
    "other tiles": {"tiled": True, "blockxsize": 64, "blockysize": 1024, "interleave": "band"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_bytes_of_a_file_of_other_blocks(
    tmp_path, compress, swath, bundle, write_raster, layout
):
    path, pixels, _, nodata = swath
    copy = write_raster(tmp_path / path.name, pixels, nodata=nodata, **UTM, **LAYOUTS[layout])
    again = compress(copy, 12, formats=["zarr", "tiles", "cog"])
    assert fingerprints(again.path) == fingerprints(bundle.path)


@pytest.mark.filterwarnings("ignore:Sending large graph")  # an array in memory is one
def test_the_same_bytes_of_an_array_in_any_chunks(tmp_path, compress, swath, bundle):
    _, pixels, _, nodata = swath
    nodata = None if math.isnan(nodata) else nodata
    prints = []
    for i, chunks in enumerate([(-1, -1, -1), (123, 457, 2), (300, 64, -1)]):
        lazy = da.from_array(pixels, chunks=chunks)
        again = compress(lazy, 12, tmp_path / f"{i}.kmdask", nodata=nodata)
        prints.append(fingerprints(again.path))
    assert prints[0] == prints[1] == prints[2]
    # But for what an array does not tell about itself, as the file.
    described = {".zattrs", ".zmetadata"}
    from_file = fingerprints(bundle.path)
    same = {name for name in prints[0] if name.split("/")[-1] not in described}
    images = {name for name in same if name.split("/")[-1][0] != "."}
    assert {name for name in images if "indices" in name or "palette" in name or "tiles" in name}
    missing = {name for name in images if name not in from_file}
    assert not missing
    assert {name: prints[0][name] for name in images} == {name: from_file[name] for name in images}


@pytest.mark.parametrize("bands", [(4, 1, 6), (5,)])
def test_bands_of_a_file_are_like_bands_of_an_array(tmp_path, compress, swath, bands):
    path, pixels, valid, nodata = swath
    chosen = compress(path, 7, tmp_path / "chosen.kmdask", bands=bands)
    sliced = np.ascontiguousarray(pixels[:, :, [band - 1 for band in bands]])
    nodata = None if math.isnan(nodata) else nodata
    first = compress(sliced, 7, tmp_path / "first.kmdask", nodata=nodata)
    assert chosen.palette == first.palette
    np.testing.assert_array_equal(chosen.indices.compute(), first.indices.compute())
    assert [band.number for band in chosen.bands] == list(bands)
    assert chosen.display.bands == bands
    check(chosen, sliced, valid)


def test_the_same_in_one_process_or_in_threads(tmp_path, swath, bundle):
    path, _, _, _ = swath
    with (
        LocalCluster(
            processes=True,
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, set_as_default=False) as other,
    ):
        again = kmdask.compress(
            path, 12, tmp_path / "out.kmdask", client=other, formats=["zarr", "tiles", "cog"]
        )
    assert fingerprints(again.path) == fingerprints(bundle.path)


@pytest.mark.parametrize(
    "options", [{"scale": "std"}, {"scale": [1, 1, 1, 0.1, 1, 1]}, {"pca": 2}, {"refine": 0}]
)
def test_other_yardsticks(tmp_path, compress, land, options):
    pixels = (land(200, 300, 6) * 10_000).astype(np.uint16)
    result = compress(da.from_array(pixels), 9, tmp_path / "out.kmdask", **options)
    space = survey(
        da.from_array(pixels), **{name: options[name] for name in options if name != "refine"}
    ).space
    matrix = np.eye(6) if space is None else space.matrix
    features = pixels.reshape(-1, 6).astype(float) @ matrix
    entries = result.palette.colors.astype(float) @ matrix
    indices = result.indices.compute().ravel()
    gaps = ((features - entries[indices]) ** 2).sum(axis=1)
    np.testing.assert_array_less(gaps, nearest(features, entries)[1] * (1 + 1e-9) + 1e-6)
    errors = pixels.reshape(-1, 6).astype(float) - result.palette.colors[indices]
    assert result.report.mse == pytest.approx((errors**2).mean(), rel=1e-9)


# Every type, any number of bands


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "float32", "float64"]
)
def test_every_type_and_number_of_bands(tmp_path, compress, land, border, dtype):
    # All numbers with a type of each kind: kernels are compiled for a type, not for a number.
    for bands in (1, 2, 4, 13, 32) if dtype in {"uint8", "uint16", "float32"} else (1, 13):
        values, valid = land(40, 50, bands, seed=bands), border(40, 50)
        if np.dtype(dtype).kind == "f":
            pixels = (values * 300 - 60).astype(dtype)
            pixels[~valid] = np.nan
            nodata = None
        else:
            limits = np.iinfo(dtype)
            pixels = (limits.min + 1 + values * (float(limits.max) - limits.min - 2)).astype(dtype)
            pixels[~valid] = nodata = limits.min
        out = tmp_path / f"{bands}.kmdask"
        # All bands, those of 8 bits too that would be taken for alpha.
        every = range(1, bands + 1)
        formats = ["zarr", "tiles", "cog"]
        result = compress(pixels, 6, out, nodata=nodata, bands=every, formats=formats)
        indices = check(result, pixels, valid)
        assert len(result.palette) == result.nodata == 6
        np.testing.assert_array_equal(read_tiles(out), result.colormap.rgba[indices])
        found = result.to_dask().compute()
        np.testing.assert_array_equal(found[valid], result.palette.colors[indices[valid]])


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 6])
@pytest.mark.parametrize("k", [30, 400])
def test_images_of_few_colours_come_back_exactly(tmp_path, compress, dtype, bands, k):
    rng = np.random.default_rng(0)
    colors = rng.permutation(30 * bands).reshape(30, bands) * 37
    colors = (colors / (3 if dtype == "float32" else 1)).astype(dtype)
    pixels = colors[rng.integers(30, size=(60, 70))]
    result = compress(da.from_array(pixels, chunks=(17, 70, -1)), k, tmp_path / "out.kmdask")
    np.testing.assert_array_equal(result.to_dask().compute(), pixels)
    assert (result.report.k, result.report.k_used, result.report.colors) == (k, 30, 30)
    assert (result.report.mse, result.report.psnr) == (0, math.inf)


@pytest.mark.parametrize(("k", "dtype"), [(255, np.uint8), (256, np.uint16), (900, np.uint16)])
def test_more_than_256_entries(tmp_path, compress, land, border, k, dtype):
    pixels, valid = (land(90, 100, 5) * 10_000).astype(np.uint16) + 1, border(90, 100)
    pixels[~valid] = 0
    result = compress(pixels, k, tmp_path / "out.kmdask", nodata=0)
    indices = check(result, pixels, valid)
    assert indices.dtype == dtype
    np.testing.assert_array_equal(read_tiles(result.path), result.colormap.rgba[indices])
    with pytest.raises(kmdask.ParameterError, match="256 entries"):
        compress(pixels, 256, tmp_path / "cog.kmdask", nodata=0, formats=["zarr", "cog"])
    assert not (tmp_path / "cog.kmdask").exists()


def test_nothing_but_missing_pixels(tmp_path, compress):
    pixels = np.full((30, 40, 5), np.nan, np.float32)
    with pytest.raises(kmdask.EmptyImageError, match="every pixel"):
        compress(pixels, 4, tmp_path / "out.kmdask")
    assert list(tmp_path.iterdir()) == []


# Quality


def no_worse(compress, pixels, valid, k, out):
    """As near as scikit-learn's k-means over all pixels, to within one percent."""
    flat = pixels[valid].astype(np.float64)
    theirs = KMeans(k, n_init=1, random_state=0).fit(flat)
    nodata = None if valid.all() else 0
    result = compress(pixels, k, out, nodata=nodata, formats=["zarr"])
    assert result.report.valid_pixels == len(flat)
    rounded = np.unique(np.rint(theirs.cluster_centers_), axis=0)
    assert result.report.mse <= 1.01 * nearest(flat, rounded)[1].mean() / pixels.shape[2]


@pytest.mark.parametrize("k", [4, 64])
def test_no_worse_than_scikit_learn(tmp_path, compress, land, k):
    pixels = (land(150, 200, 4) * 10_000).astype(np.uint16)
    no_worse(compress, pixels, np.ones((150, 200), bool), k, tmp_path / "out.kmdask")


REAL = {
    "s2_L2A_T29UNU_20221005_R60m_11band_stack.tif": (slice(600, 900), slice(900, 1200)),
    "landsat8_L2SP_017036_SR_B1-7_stack.tif": (slice(0, 300), slice(100, 400)),
    "naip_20180716_4band.tif": (slice(200, 500), slice(300, 600)),
}
ALL = (slice(None), slice(None))


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    ("k", "whole"),
    [
        (16, False),
        (64, False),
        pytest.param(16, True, marks=pytest.mark.slow),
    ],
)
def test_no_worse_on_real_scenes(tmp_path, compress, real_image, read_raster, name, k, whole):
    pixels, _ = read_raster(real_image(f"scenes/{name}"))
    pixels = np.ascontiguousarray(pixels[ALL if whole else REAL[name]])
    no_worse(compress, pixels, (pixels != 0).any(axis=2), k, tmp_path / "out.kmdask")
