"""Bands, data types, colour tables and missing pixels of rasters, against rasterio and Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from PIL import Image, ImageOps
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.transform import Affine

from kmdask import ParameterError, SourceError, UnsupportedImageError, chunks, open_raster

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
DTYPES += ["int64", "uint64"]


PLACED = {"transform": Affine(10, 0, 5e5, 0, -10, 6e6)}
"""Without a warning when it is opened."""


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 32 pixels and copies of whatever has larger blocks."""
    monkeypatch.setattr(chunks, "TILE", 16)
    monkeypatch.setattr(chunks, "PIXELS", 32 * 32)
    monkeypatch.setattr(chunks, "SHARD", 32)


@pytest.fixture(scope="module")
def samples():
    """``samples(dtype, bands)``: values over all of the data type's range, 40 x 50."""

    def make(dtype, bands):
        rng = np.random.default_rng(1)
        if np.dtype(dtype).kind == "f":
            return rng.normal(0, 1e6, (40, 50, bands)).astype(dtype)
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, (40, 50, bands), dtype, endpoint=True)

    return make


def load(opened):
    pixels = opened.pixels.compute()
    assert pixels.dtype == opened.pixels.dtype
    assert len(opened.bands) == pixels.shape[2]
    mask = np.ones(opened.shape, np.uint8) if opened.mask is None else opened.mask.compute()
    assert mask.dtype == np.uint8
    return pixels, mask != 0


@pytest.mark.parametrize("layout", [{}, {"interleave": "band"}, {"blockysize": 40}])
@pytest.mark.parametrize("bands", [1, 5, 32])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("small_chunks")
def test_every_data_type(tmp_path, samples, write_raster, dtype, bands, layout):
    pixels = samples(dtype, bands)
    options = {"compress": "deflate", "alpha": "NO"} | layout
    path = write_raster(tmp_path / "a.tif", pixels, **options)
    opened = open_raster(path, scratch=tmp_path)
    seen, valid = load(opened)
    np.testing.assert_array_equal(seen, pixels)
    assert seen.dtype == dtype
    assert valid.all()
    assert (opened.mask is not None) == (np.dtype(dtype).kind == "f")
    assert "blockysize" not in layout or (tmp_path / "spool.zarr").exists()


@pytest.mark.parametrize("bands", [(1,), (3, 1), (4, 3, 2), range(2, 5), np.array([5, 1])])
@pytest.mark.parametrize("spooled", [False, True])
def test_chosen_bands(tmp_path, request, samples, write_raster, bands, spooled):
    if spooled:
        request.getfixturevalue("small_chunks")
    pixels = samples("uint16", 5)
    path = write_raster(tmp_path / "a.tif", pixels, blockysize=40, nodata=7)
    opened = open_raster(path, bands=bands)
    seen, _ = load(opened)
    np.testing.assert_array_equal(seen, pixels[:, :, np.array(bands) - 1])
    assert [band.number for band in opened.bands] == list(bands)


@pytest.mark.parametrize("bands", [(0,), (6,), (-1,), (1, 1), (), "12", 3, (1.0,), (True,), [None]])
def test_bands_that_are_not_there(tmp_path, samples, write_raster, bands):
    path = write_raster(tmp_path / "a.tif", samples("uint16", 5))
    with pytest.raises(ParameterError, match="bands"):
        open_raster(path, bands=bands)
    with pytest.raises(ParameterError, match="bands"):
        open_raster(samples("uint16", 5), bands=bands)


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "complex_int16"])
def test_complex_numbers(tmp_path, dtype):
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", "GTiff", 9, 8, 1, dtype=dtype, transform=Affine(1, 0, 1, 0, -1, 1)
    ):
        pass
    with pytest.raises(UnsupportedImageError, match=f"a.tif.*{dtype}"):
        open_raster(path)


def test_8_bit_colours_in_another_order(tmp_path, scene, write_raster):
    pixels = scene(40, 50)
    path = write_raster(
        tmp_path / "bgr.tif", pixels[:, :, ::-1], photometric="minisblack", **PLACED
    )
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    np.testing.assert_array_equal(load(open_raster(path))[0], pixels)
    chosen = open_raster(path, bands=(1, 2, 3))
    np.testing.assert_array_equal(load(chosen)[0], pixels[:, :, ::-1])


@pytest.mark.parametrize("ending", ["png", "gif", "tif"])
@pytest.mark.parametrize("transparent", [False, True])
def test_colour_tables(tmp_path, scene, ending, transparent):
    if transparent and ending == "tif":
        pytest.skip("TIFFs have no transparent entries")
    path = tmp_path / f"a.{ending}"
    quantized = Image.fromarray(scene(20, 30)).quantize(8)
    quantized.save(path, **({"transparency": 3} if transparent else {}))
    with Image.open(path) as image:
        shown = np.asarray(image.convert("RGBA"))
    opened = open_raster(path)
    seen, valid = load(opened)
    assert [band.color for band in opened.bands] == ["red", "green", "blue"]
    assert np.abs(seen.astype(int) - shown[:, :, :3])[valid].max() <= (ending == "tif")
    np.testing.assert_array_equal(valid, shown[:, :, 3] != 0)
    assert transparent != valid.all()
    blue = open_raster(path, bands=(3, 1))
    np.testing.assert_array_equal(load(blue)[0], seen[:, :, [2, 0]])


def test_several_transparent_entries_of_a_colour_table(tmp_path):
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4
    image = Image.fromarray(indices).convert("P")
    image.putpalette([0, 0, 0, 10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "a.png", transparency=bytes([0, 255, 0, 1]))
    seen, valid = load(open_raster(tmp_path / "a.png"))
    np.testing.assert_array_equal(valid, (indices == 1) | (indices == 3))
    assert seen[0, 1].tolist() == [10, 20, 30]


def test_a_colour_table_beside_other_bands(tmp_path):
    path = tmp_path / "a.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="3" rasterYSize="2"><VRTRasterBand dataType="Byte" band="1">'
        "<ColorInterp>Palette</ColorInterp><ColorTable><Entry c1='1' c2='2' c3='3'/></ColorTable>"
        '</VRTRasterBand><VRTRasterBand dataType="UInt16" band="2"/></VRTDataset>'
    )
    with pytest.raises(UnsupportedImageError, match="band 1 holds indices"):
        open_raster(path)
    assert open_raster(path, bands=(2,)).pixels.dtype == np.uint16


def test_nodata_is_an_index_of_a_colour_table(tmp_path, write_raster):
    indices = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    path = write_raster(tmp_path / "a.tif", indices, photometric="palette", nodata=2, **PLACED)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {i: (i, 10 * i, 20 * i, 255) for i in range(6)})
    seen, valid = load(open_raster(path))
    np.testing.assert_array_equal(seen, indices * np.array([1, 10, 20], np.uint8))
    np.testing.assert_array_equal(valid, indices[:, :, 0] != 2)
    np.testing.assert_array_equal(load(open_raster(path, nodata=4))[1], indices[:, :, 0] != 4)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("spooled", [False, True])
def test_one_bit_a_pixel(tmp_path, request, ending, spooled):
    if spooled:
        request.getfixturevalue("small_chunks")
    shown = np.random.default_rng(0).integers(0, 2, (60, 50)).astype(np.uint8) * 255
    path = tmp_path / f"a.{ending}"
    Image.fromarray(shown).convert("1").save(path)
    seen, valid = load(open_raster(path))
    np.testing.assert_array_equal(seen[:, :, 0], shown)
    assert valid.all()


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_white_is_zero(tmp_path, write_raster, bits):
    dtype = "uint16" if bits == 16 else "uint8"
    stored = np.random.default_rng(0).integers(0, 1 << bits, (40, 50, 1)).astype(dtype)
    path = write_raster(tmp_path / "a.tif", stored, photometric="miniswhite", nbits=bits, nodata=0)
    seen, valid = load(opened := open_raster(path))
    top = 255 if bits == 1 else (1 << bits) - 1
    scale = 255 if bits == 1 else 1
    np.testing.assert_array_equal(seen, top - stored.astype(int) * scale)
    np.testing.assert_array_equal(valid, stored[:, :, 0] != 0)
    assert (opened.bands[0].nodata, opened.bands[0].color) == (top, "gray")
    if bits < 16:
        with Image.open(path) as image:
            np.testing.assert_array_equal(seen[:, :, 0], np.asarray(image.convert("L")))


def test_twelve_bits_stay_as_they_are(tmp_path, write_raster):
    pixels = np.random.default_rng(0).integers(0, 1 << 12, (40, 50, 3)).astype(np.uint16)
    path = write_raster(tmp_path / "a.tif", pixels, nbits=12, photometric="rgb")
    np.testing.assert_array_equal(load(open_raster(path))[0], pixels)


def test_cmyk_jpeg(tmp_path, scene):
    path = tmp_path / "a.jpg"
    Image.fromarray(scene(40, 50)).convert("CMYK").save(path, quality=95)
    with Image.open(path) as image:
        shown = np.asarray(image.convert("RGB"))
    np.testing.assert_allclose(load(open_raster(path))[0], shown, atol=2)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("spooled", [False, True])
def test_orientation(tmp_path, request, scene, orientation, ending, spooled):
    if spooled:
        request.getfixturevalue("small_chunks")
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    Image.fromarray(scene(70, 45)).save(path, exif=exif, lossless=True)
    with Image.open(path) as image:
        shown = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    opened = open_raster(path, scratch=tmp_path)
    assert (tmp_path / "spool.zarr").exists() == spooled
    seen, _ = load(opened)
    assert seen.shape == shown.shape
    # Two versions of libjpeg may differ; a wrong turn differs by far more.
    assert np.abs(seen.astype(int) - shown).mean() <= (1 if ending == "jpg" else 0)
    rows, columns = slice(3, 20), slice(7, 30)
    window, _ = opened.window(rows, columns)
    np.testing.assert_array_equal(window.compute(), seen[rows, columns])


def test_a_georeferenced_picture_is_not_turned(tmp_path, scene):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene(70, 45)).save(tmp_path / "a.png", exif=exif)
    (tmp_path / "a.pgw").write_text("1\n0\n0\n-1\n100\n200\n")
    np.testing.assert_array_equal(load(open_raster(tmp_path / "a.png"))[0], scene(70, 45))


# missing pixels


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("uint8", 3), ("uint16", 0), ("int16", -9999), ("float32", -9999.5), ("float64", np.nan)],
)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.usefixtures("small_chunks")
def test_nodata(tmp_path, samples, holes, write_raster, dtype, nodata, own):
    pixels, valid = samples(dtype, 3), holes(40, 50)
    pixels[~valid] = nodata
    pixels[20, 20] = [nodata, 1, 1] if nodata == nodata else [2, 1, 1]  # noqa: PLR0124  NaN
    options = {} if own else {"nodata": nodata}
    path = write_raster(tmp_path / "a.tif", pixels, photometric="minisblack", **options)
    opened = open_raster(path, **({"nodata": nodata} if own else {}))
    seen, seen_valid = load(opened)
    valid[20, 20] = True
    np.testing.assert_array_equal(seen_valid, valid)
    np.testing.assert_array_equal(seen, pixels)
    np.testing.assert_equal([band.nodata for band in opened.bands], [nodata] * 3)


def test_nodata_given_takes_the_place_of_the_files(tmp_path, samples, write_raster):
    pixels = samples("uint8", 1)
    path = write_raster(tmp_path / "a.tif", pixels, nodata=3)
    _, valid = load(opened := open_raster(path, nodata=9))
    np.testing.assert_array_equal(valid, pixels[:, :, 0] != 9)
    assert opened.bands[0].nodata == 9


def test_nodata_of_each_band(tmp_path):
    path = tmp_path / "a.vrt"
    for name, value in (("r", 1), ("g", 2)):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", "GTiff", 3, 1, 1, dtype="int16", nodata=value,
            transform=Affine(1, 0, 1, 0, -1, 1),
        ) as dataset:  # fmt: skip
            dataset.write(np.array([[[1, 1, 2]]] if name == "r" else [[[2, 1, 1]]], np.int16))
    band = (
        '<VRTRasterBand dataType="Int16" band="{0}"><NoDataValue>{0}</NoDataValue><SimpleSource>'
        '<SourceFilename relativeToVRT="1">{1}.tif</SourceFilename></SimpleSource></VRTRasterBand>'
    )
    bands = band.format(1, "r") + band.format(2, "g")
    path.write_text(f'<VRTDataset rasterXSize="3" rasterYSize="1">{bands}</VRTDataset>')
    _, valid = load(opened := open_raster(path))
    assert valid.tolist() == [[False, True, True]]
    assert [band.nodata for band in opened.bands] == [1, 2]


@pytest.mark.parametrize("value", ["-9999", "0.5", "nan", "300"])
def test_nodata_that_no_pixel_can_have(tmp_path, value):
    path = tmp_path / "a.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="3" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1">'
        f"<NoDataValue>{value}</NoDataValue></VRTRasterBand></VRTDataset>"
    )
    opened = open_raster(path)
    _, valid = load(opened)
    assert valid.all()
    assert opened.bands[0].nodata is None
    with pytest.raises(ParameterError, match=r"nodata.*uint8.*0 to 255"):
        open_raster(path, nodata=float(value))


@pytest.mark.parametrize("nodata", ["0", True, 1j, (0, 0)])
def test_nodata_that_is_no_number(tmp_path, samples, write_raster, nodata):
    path = write_raster(tmp_path / "a.tif", samples("float32", 1))
    with pytest.raises(ParameterError, match="nodata is a number"):
        open_raster(path, nodata=nodata)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("kind", ["alpha", "internal", "side-car"])
@pytest.mark.usefixtures("small_chunks")
def test_masks(tmp_path, samples, holes, write_raster, dtype, kind):
    pixels, valid = samples(dtype, 3), holes(40, 50)
    path = tmp_path / "a.tif"
    if kind == "alpha":
        alpha = valid * np.array(np.finfo(dtype).max if dtype == "float32" else np.iinfo(dtype).max)
        stored = np.dstack([pixels, alpha.astype(dtype)])
        write_raster(path, stored, photometric="rgb", alpha="yes")
    else:
        write_raster(
            path, pixels, valid if kind == "internal" else None, photometric="rgb", **PLACED
        )
    if kind == "side-car":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(valid)
        assert (tmp_path / "a.tif.msk").exists()
    opened = open_raster(path)
    seen, seen_valid = load(opened)
    np.testing.assert_array_equal(seen, pixels)
    np.testing.assert_array_equal(seen_valid, valid)
    assert opened.mask.chunks == opened.pixels.chunks[:2]


def test_where_a_file_has_nodata_and_alpha_either_tells(tmp_path, write_raster):
    pixels = np.array([[[0, 0, 0, 255], [5, 5, 5, 0], [0, 5, 5, 255]]], np.uint8)
    path = write_raster(tmp_path / "a.tif", pixels, nodata=0, photometric="rgb", alpha="yes")
    assert load(open_raster(path))[1].tolist() == [[False, False, True]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bands", [None, (2,), (1,)])
def test_floats_that_are_no_numbers(tmp_path, samples, write_raster, value, bands):
    pixels = samples("float32", 2)
    pixels[3, 4, 1] = value
    path = write_raster(tmp_path / "a.tif", pixels, alpha="no")
    _, valid = load(opened := open_raster(path, bands=bands))
    assert valid.sum() == 40 * 50 - (bands != (1,))
    assert np.isnan(opened.bands[0].nodata)


# georeferencing and metadata


def test_what_is_known_of_bands(tmp_path, samples, write_raster):
    path = write_raster(tmp_path / "a.tif", samples("int16", 2), nodata=-1, alpha="no", **PLACED)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("B04", "B8A")
        dataset.scales, dataset.offsets = (0.1, 0.2), (-1, 3)
        dataset.units = ("K", "m")
    seen = open_raster(path, bands=(2, 1)).bands
    assert [(b.number, b.name, b.unit, b.scale, b.offset) for b in seen] == [
        (2, "B8A", "m", 0.2, 3),
        (1, "B04", "K", 0.1, -1),
    ]


def test_control_points_and_rpcs(tmp_path, samples, write_raster):
    gcps = [GroundControlPoint(0, 0, 10, 20, 5, id="a"), GroundControlPoint(0, 50, 11, 20)]
    gcps += [GroundControlPoint(40, 0, 10, 19), GroundControlPoint(40, 50, 11, 19)]
    path = write_raster(tmp_path / "a.tif", samples("uint16", 1), gcps=gcps, crs="EPSG:4326")
    georef = open_raster(path).georef
    assert georef.transform is None
    assert "4326" in georef.crs_wkt
    assert [(g.row, g.col, g.x, g.y) for g in georef.gcps] == [
        (g.row, g.col, g.x, g.y) for g in gcps
    ]
    ones = [1.0] * 20
    offsets = {f"{axis}_off": 0 for axis in ("height", "lat", "line", "long", "samp")}
    scales = {f"{axis}_scale": 1 for axis in ("height", "lat", "line", "long", "samp")}
    names = ("line_num", "line_den", "samp_num", "samp_den")
    rpc = RPC(**offsets, **scales, **{f"{name}_coeff": ones for name in names})
    path = write_raster(tmp_path / "b.tif", samples("uint16", 1), rpcs=rpc)
    assert dict(open_raster(path).georef.rpcs)["LINE_OFF"] == "0"


@pytest.mark.parametrize(
    "transform", [Affine(1, 2, 3, 4, -5, 6), Affine(0.5, 0, -180, 0, 0.5, -90)], ids=str
)
def test_rotated_and_south_up(tmp_path, samples, write_raster, transform):
    path = write_raster(tmp_path / "a.tif", samples("uint16", 1), transform=transform)
    assert open_raster(path).georef.transform == tuple(transform)[:6]
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(AREA_OR_POINT="Point")
    assert open_raster(path).georef.point


def test_a_crs_that_cannot_be_parsed(tmp_path, caplog):
    path = tmp_path / "a.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="3" rasterYSize="1"><SRS>PROJCS["nonsense"</SRS><GeoTransform>'
        '1, 1, 0, 1, 0, -1</GeoTransform><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    )
    try:
        opened = open_raster(path)
    except SourceError as error:
        assert "a.vrt" in str(error)  # noqa: PT017  GDAL may refuse the file itself
    else:
        assert opened.georef.crs_wkt is None
        assert opened.georef.transform == (1, 0, 1, 0, -1, 1)
    assert "Traceback" not in caplog.text


def test_a_mosaic(tmp_path, scene, write_raster):
    pixels = scene(40, 50)
    for name, columns in (("west", slice(0, 20)), ("east", slice(20, 50))):
        write_raster(tmp_path / f"{name}.tif", pixels[:, columns])
    source = (
        '<SimpleSource><SourceFilename relativeToVRT="1">{0}.tif</SourceFilename><SourceBand>{1}'
        '</SourceBand><SrcRect xOff="0" yOff="0" xSize="{3}" ySize="40"/>'
        '<DstRect xOff="{2}" yOff="0" xSize="{3}" ySize="40"/></SimpleSource>'
    )
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{n}">{source.format("west", n, 0, 20)}'
        f"{source.format('east', n, 20, 30)}</VRTRasterBand>"
        for n in (1, 2, 3)
    )
    path = tmp_path / "a.vrt"
    path.write_text(f'<VRTDataset rasterXSize="50" rasterYSize="40">{bands}</VRTDataset>')
    np.testing.assert_array_equal(load(open_raster(path))[0], pixels)
    (tmp_path / "east.tif").unlink()
    with pytest.raises(SourceError, match=r"a\.vrt.*rows 0 to 40"):
        load(open_raster(path))
