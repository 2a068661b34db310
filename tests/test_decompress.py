"""Full-colour GeoTIFFs, COGs and zarr groups, read back by rasterio, xarray and rioxarray."""

from __future__ import annotations

import resource
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
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rio_cogeo.cogeo import cog_validate

from kmdask import (
    Georef,
    OutputError,
    OutputExistsError,
    Palette,
    ParameterError,
    decode,
)
from kmdask.bands import Band
from kmdask.writing import decompress, store
from kmdask.writing.decompress import Decoded

assert rioxarray  # gives xarray its accessor

# rioxarray does not know affine 3 yet
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

UTM = Georef(CRS.from_epsg(32629).to_wkt(), (10.0, 0.0, 5e5, 0.0, -10.0, 6e6))
DTYPES = ["uint8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


def image_of(shape=(700, 600), bands=3, dtype="uint8", *, masked=False, georef=UTM, k=5):
    """An image of random indices; bands are descriptions, or their number."""
    if isinstance(bands, int):
        bands = tuple(Band(i) for i in range(1, bands + 1))
    rng = np.random.default_rng(k)
    colors = rng.uniform(1, 250, (k, len(bands))).astype(dtype)
    kind = np.uint8 if k + masked <= 256 else np.uint16
    indices = rng.integers(0, k + masked, shape, dtype=kind)
    indices.flat[0] = k - 1 + masked
    return Decoded(indices, colors, bands, georef, k if masked else None)


def expected_of(image, fill):
    """The colours (band, y, x) by NumPy's plainest means, and which pixels are valid."""
    valid = image.indices < len(image.colors)
    colors = image.colors[np.where(valid, image.indices, 0)]
    colors[~valid] = fill
    return np.moveaxis(colors, 2, 0), valid


def opened(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


def opened_zarr(path, **options):
    return xr.open_zarr(path, **options)


def check_tiff(path, image, fill=0):
    """All that is to come back, but for the place."""
    colors, valid = expected_of(image, fill)
    with opened(path) as dataset:
        bands = list(range(1, len(image.bands) + 1))
        np.testing.assert_array_equal(dataset.read(bands), colors)
        assert set(dataset.dtypes) == {image.colors.dtype.name}
        np.testing.assert_array_equal(dataset.dataset_mask(), np.where(valid, 255, 0))
        assert dataset.descriptions[: len(bands)] == tuple(b.name or None for b in image.bands)
        assert dataset.units[: len(bands)] == tuple(b.unit or None for b in image.bands)
        assert dataset.scales[: len(bands)] == tuple(b.scale for b in image.bands)
        assert dataset.offsets[: len(bands)] == tuple(b.offset for b in image.bands)
        assert set(dataset.block_shapes) == {(512, 512)}
        return dataset.nodata, dataset.colorinterp


@pytest.mark.parametrize("cog", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bands", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_data_types(tmp_path, dtype, masked, bands, cog):
    image = image_of(bands=bands, dtype=dtype, masked=masked)
    path = tmp_path / "a.tif"
    decompress.decompress(image, path, cog=cog)
    nodata, meanings = check_tiff(path, image)
    assert nodata is None
    with_alpha = masked and bands != 2 and dtype in {"uint8", "uint16"}
    assert (ColorInterp.alpha in meanings) == with_alpha
    assert [found.name for found in tmp_path.iterdir()] == ["a.tif"]
    if cog:
        assert cog_validate(path, strict=True) == (True, [], [])


@settings(max_examples=20)
@given(
    height=st.integers(1, 1100),
    width=st.integers(1, 1100),
    bands=st.integers(1, 5),
    masked=st.booleans(),
    ending=st.sampled_from([".tif", ".TIFF", ".zarr"]),
)
def test_shapes(tmp_path_factory, height, width, bands, masked, ending):
    image = image_of((height, width), bands, masked=masked)
    path = tmp_path_factory.mktemp("out") / f"a{ending}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decompress, "WINDOW_BYTES", 2**20)
        decompress.decompress(image, path)
    if ending == ".zarr":
        colors, valid = expected_of(image, 0)
        group = zarr.open_group(path, mode="r")
        np.testing.assert_array_equal(group["image"][:], colors)
        assert ("mask" in group) == masked
        if masked:
            np.testing.assert_array_equal(group["mask"][:], np.where(valid, 255, 0))
    else:
        check_tiff(path, image)


@pytest.mark.parametrize("cog", [False, True])
def test_what_bands_are(tmp_path, cog):
    bands = (
        Band(4, "red edge", "red", "W/m2", 0.1, -3.0),
        Band(3, "", "green", "", 0.2, 0.0),
        Band(2, "B02", "blue", "K"),
        Band(8, "infrared"),
        Band(1, "no mask", "alpha"),
        Band(9, "no palette", "palette"),
        Band(7, "of another GDAL", "ultraviolet"),
    )
    image = image_of((600, 50), bands, "uint16", masked=True)
    decompress.decompress(image, tmp_path / "a.tif", cog=cog)
    _, meanings = check_tiff(tmp_path / "a.tif", image)
    assert [meaning.name for meaning in meanings] == [
        *("red", "green", "blue", "undefined", "undefined", "undefined", "undefined")
    ]


def test_grey(tmp_path):
    image = image_of(bands=(Band(1, color="gray"),), masked=True)
    decompress.decompress(image, tmp_path / "a.tif")
    _, meanings = check_tiff(tmp_path / "a.tif", image)
    assert meanings == (ColorInterp.gray, ColorInterp.alpha)


@pytest.mark.parametrize("cog", [False, True])
def test_where_it_is(tmp_path, georef, check_place, cog):
    image = image_of(bands=1, georef=georef)
    decompress.decompress(image, tmp_path / "a.tif", cog=cog)
    check_place(tmp_path / "a.tif", georef)
    check_tiff(tmp_path / "a.tif", image)
    assert [found.name for found in tmp_path.iterdir()] == ["a.tif"]


NODATA = {  # dtype, nodata of each band, the tag, the fill of each band
    "one": ("uint16", (0, 0), 0.0, (0, 0)),
    "negative": ("int16", (-9999, -9999), -9999.0, (-9999, -9999)),
    "NaN": ("float32", (np.nan, np.nan), np.nan, (np.nan, np.nan)),
    "lowest": ("float32", (-3.4028234663852886e38,) * 2, float(np.finfo("f4").min), (-np.inf,) * 2),
    "of each band": ("float64", (-1.0, -2.0), None, (-1.0, -2.0)),
    "NaN in one": ("float32", (np.nan, -2.0), None, (np.nan, -2.0)),
    "none in one": ("uint8", (7, None), None, (0, 0)),
    "out of range": ("uint8", (-9999, -9999), None, (0, 0)),
    "not whole": ("uint8", (0.5, 0.5), None, (0, 0)),
    "NaN in integers": ("uint8", (np.nan, np.nan), None, (0, 0)),
    "beyond float32": ("float32", (-1e300, -1e300), None, (0, 0)),
}


@pytest.mark.parametrize("cog", [False, True])
@pytest.mark.parametrize("case", NODATA)
@pytest.mark.parametrize("masked", [False, True])
def test_nodata(tmp_path, case, masked, cog):
    dtype, values, tag, fill = NODATA[case]
    fill = np.clip(fill, np.finfo("f4").min, None) if case == "lowest" else fill
    bands = tuple(Band(i, nodata=value) for i, value in enumerate(values, start=1))
    image = image_of((600, 90), bands, dtype, masked=masked)
    decompress.decompress(image, tmp_path / "a.tif", cog=cog)
    nodata, _ = check_tiff(tmp_path / "a.tif", image, fill)
    assert nodata == tag or (np.isnan(tag) and np.isnan(nodata))


def test_a_colour_that_is_the_nodata_value(tmp_path):
    image = image_of(bands=(Band(1, nodata=0), Band(2, nodata=0)), masked=True)
    image.colors[2] = (0, 9)
    image.colors[3] = 0
    decompress.decompress(image, tmp_path / "a.tif")
    nodata, meanings = check_tiff(tmp_path / "a.tif", image)
    assert nodata is None
    assert ColorInterp.alpha not in meanings


@pytest.mark.parametrize("k", [300, 65_535])
def test_many_colours(tmp_path, k):
    image = image_of((300, 400), 4, "float32", masked=True, k=k)
    decompress.decompress(image, tmp_path / "a.tif")
    check_tiff(tmp_path / "a.tif", image)


@pytest.mark.parametrize("masked", [False, True])
def test_zarr_in_xarray(tmp_path, georef, masked):
    bands = (Band(4, "red", nodata=-1.0), Band(3, "", nodata=-1.0), Band(8, "nir", nodata=-1.0))
    image = image_of((70, 60), bands, "int16", masked=masked, georef=georef)
    decompress.decompress(image, tmp_path / "a.zarr")
    colors, valid = expected_of(image, -1)
    with opened_zarr(tmp_path / "a.zarr", mask_and_scale=False) as dataset:
        found = dataset["image"]
        assert found.dims == ("band", "y", "x")
        assert found.dtype == "int16"
        np.testing.assert_array_equal(found, colors)
        assert found.attrs["long_name"] == ["red", "", "nir"]
        assert found["band"].values.tolist() == [4, 3, 8]
        assert found.rio.nodata == -1
        check_rio(found, georef)
    with opened_zarr(tmp_path / "a.zarr") as dataset:
        np.testing.assert_array_equal(np.isnan(dataset["image"]).any("band"), ~valid)
        # All the way: what rioxarray makes of it is the GeoTIFF that we make.
        if "x" in dataset and georef.crs_wkt:
            dataset["image"].rio.to_raster(tmp_path / "theirs.tif", dtype="int16")
            with opened(tmp_path / "theirs.tif") as theirs:
                np.testing.assert_array_equal(theirs.read(), colors)
                assert theirs.descriptions == ("red", None, "nir")
                assert tuple(theirs.transform)[:6] == pytest.approx(georef.transform)


def check_rio(found, georef):
    assert found.rio.crs == (CRS.from_wkt(georef.crs_wkt) if georef.crs_wkt else None)
    identity = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    assert tuple(found.rio.transform())[:6] == pytest.approx(georef.transform or identity)
    points = found.rio.get_gcps() or []
    assert [(p.row, p.col, p.x, p.y, p.z, p.id) for p in points] == [
        (p.row, p.col, p.x, p.y, p.z, p.id) for p in georef.gcps
    ]


def test_zarr_in_gdal(tmp_path):
    bands = tuple(Band(i, nodata=float("nan")) for i in (1, 2))
    image = image_of((1100, 60), bands, "float32", masked=True)
    decompress.decompress(image, tmp_path / "a.zarr")
    colors, _ = expected_of(image, np.nan)
    with opened(f'ZARR:"{tmp_path / "a.zarr"}":/image') as dataset:
        np.testing.assert_array_equal(dataset.read(), colors)
        assert tuple(dataset.transform)[:6] == UTM.transform
        assert dataset.crs == CRS.from_wkt(UTM.crs_wkt)
        assert np.isnan(dataset.nodata)


@pytest.mark.parametrize("different", [False, True])
def test_scales_and_units_in_zarr(tmp_path, different):
    bands = (Band(1, unit="K", scale=0.5, offset=2.0), Band(2, scale=0.25 if different else 0.5))
    if not different:
        bands = (bands[0], Band(2, unit="K", scale=0.5, offset=2.0))
    image = image_of((7, 6), bands, "uint16")
    decompress.decompress(image, tmp_path / "a.zarr")
    colors, _ = expected_of(image, 0)
    with opened_zarr(tmp_path / "a.zarr") as dataset:
        found = dataset["image"]
        assert found.attrs["units"] == (["K", ""] if different else ["K", "K"])
        np.testing.assert_array_equal(found, colors if different else colors * 0.5 + 2)
        if different:
            assert (found.attrs["scales"], found.attrs["offsets"]) == ([0.5, 0.25], [2.0, 0.0])


def test_what_is_in_a_bundle(tmp_path):
    palette = Palette.from_centers(np.random.default_rng(0).uniform(0, 255, (5, 3)))
    bands = (Band(1, "R", "red"), Band(2, "G", "green"), Band(3, "B", "blue"))
    store.create_image(tmp_path, (600, 700), palette, store.Header(5, 0, True, UTM, bands))
    indices = np.random.default_rng(0).integers(0, 6, (600, 700), dtype=np.uint8)
    zarr.open_array(tmp_path / "image.zarr" / "indices", mode="r+")[:] = indices
    (tmp_path / store.REPORT).write_text("{}")
    decompress.decompress(Decoded.open(tmp_path), tmp_path / "a.tif")
    lazy, _, _ = store.read_image(tmp_path)
    with opened(tmp_path / "a.tif") as dataset:
        colors = np.moveaxis(dataset.read([1, 2, 3]), 0, 2)
        np.testing.assert_array_equal(colors, decode(lazy, palette).compute())
        np.testing.assert_array_equal(dataset.dataset_mask(), np.where(indices < 5, 255, 0))
        assert dataset.descriptions[:3] == ("R", "G", "B")


@pytest.mark.parametrize("name", ["a.png", "a", "tif", "a.zarr.zip", "a.tif.kmdask"])
def test_other_endings(tmp_path, name):
    with pytest.raises(ParameterError, match=r"\.tif, \.tiff or \.zarr; got .*"):
        decompress.decompress(image_of(), tmp_path / name)
    with pytest.raises(ParameterError, match="a COG is a GeoTIFF"):
        decompress.decompress(image_of(), tmp_path / "a.zarr", cog=True)
    assert list(tmp_path.iterdir()) == []


# How it comes to stand there

FORMS = [("a.tif", False), ("a.tif", True), ("a.zarr", False)]


@pytest.mark.parametrize(("name", "cog"), FORMS)
@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_nothing_is_replaced_unasked(tmp_path, kind, name, cog):
    path = tmp_path / name
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
        (path / "thesis").write_text("precious")
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExistsError, match=r"a\..*exists already.*overwrite"):
        decompress.decompress(image_of(), path, cog=cog)
    if kind != "file" or name == "a.zarr":
        with pytest.raises(OutputExistsError, match=r"is no (file|zarr group) and is not"):
            decompress.decompress(image_of(), path, cog=cog, overwrite=True)
    assert [found.name for found in tmp_path.iterdir()] == [name]
    if kind != "dangling link":
        assert (path if kind == "file" else path / "thesis").read_text() == "precious"


@pytest.mark.parametrize(("name", "cog"), FORMS)
def test_the_same_is_replaced_when_asked(tmp_path, name, cog):
    path = tmp_path / name
    if name == "a.tif":
        path.write_text("old")
    else:
        zarr.create_group(path, attributes={"old": True})
    decompress.decompress(image_of((9, 8)), path, cog=cog, overwrite=True)
    assert [found.name for found in tmp_path.iterdir()] == [name]
    if name == "a.tif":
        with opened(path) as dataset:
            assert dataset.shape == (9, 8)
    else:
        group = zarr.open_group(path, mode="r")
        assert group["image"].shape == (3, 9, 8)
        assert "old" not in group.attrs


class Lost:
    """Indices that cannot all be read."""

    def __init__(self, indices):
        self.indices = indices
        self.shape = indices.shape

    def __getitem__(self, region):
        if region[0].start > 0:
            raise RuntimeError("lost")
        return self.indices[region]


@pytest.mark.parametrize(("name", "cog"), FORMS)
def test_nothing_is_left_after_a_failure(tmp_path, monkeypatch, name, cog):
    monkeypatch.setattr(decompress, "WINDOW_BYTES", 2**20)
    whole = image_of()
    image = Decoded(Lost(whole.indices), whole.colors, whole.bands, whole.georef, whole.nodata)
    with pytest.raises(RuntimeError, match="lost"):
        decompress.decompress(image, tmp_path / name, cog=cog)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "cog"), FORMS)
@pytest.mark.parametrize("parent", ["missing", "file"])
def test_where_nothing_can_be_written(tmp_path, parent, name, cog):
    (tmp_path / "file").write_text("content")
    with pytest.raises(OutputError, match=r"cannot write .*a\."):
        decompress.decompress(image_of(), tmp_path / parent / name, cog=cog)
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("name", "cog"), FORMS)
@pytest.mark.parametrize("limit", [300, 1000, 50_000, 220_000])
def test_a_full_disk_leaves_nothing(tmp_path, limit, name, cog):
    image = image_of()
    whole, folder = tmp_path / "whole", tmp_path / "full"
    whole.mkdir()
    folder.mkdir()
    decompress.decompress(image, whole / name, cog=cog)
    if max(file.stat().st_size for file in whole.rglob("*") if file.is_file()) <= limit:
        pytest.skip("no file of it is as large")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OutputError, match=rf"cannot write .*{name}"):
            decompress.decompress(image, folder / name, cog=cog)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(folder.iterdir()) == []
