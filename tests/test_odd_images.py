"""Real images of every kind, each against an independent reader or with its named error."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import rasterio
from PIL import Image, ImageOps
from rasterio.errors import NotGeoreferencedWarning

from kmdask import KmdaskError, SourceError, UnsupportedImageError, open_raster

FAILS = {
    "odd/complex_int16_s1_slc.tif": UnsupportedImageError,
    "odd/corrupt_header.jpg": SourceError,
    "odd/crash_ycbcr_jpeg_truncated.tif": SourceError,
    "odd/gif_bomb_65535x66601.gif": KmdaskError,
    "odd/jpeg_cog_corrupt.tif": SourceError,
    "odd/truncated.jpg": SourceError,
    "odd/truncated.png": SourceError,
    "odd/zero_byte.tif": SourceError,
}
DAMAGED_IN_THE_MIDDLE = ("crash_ycbcr_jpeg_truncated.tif", "jpeg_cog_corrupt.tif", "truncated.jpg")

BY_PILLOW = [  # what GDAL gives is not what is shown
    "odd/exif_orientation_6.jpg",
    "odd/exif_orientation_png.png",
    "odd/palette_4bit.tif",
    "odd/palette_8bit.tif",
    "odd/palette_png_alpha.png",
]
BY_RASTERIO = [
    "odd/all_nodata_71x2475.tif",
    "odd/alpha_jpeg_rgba_cog.tif",
    "odd/bigtiff_motorola.tif",
    "odd/bits12_rgb.tif",
    "odd/cmyk_4channels_plus_spot.tif",
    "odd/float32_nan_landsat_LST.tif",
    "odd/float32_nodata_min_europa.tif",
    "odd/float32_rgb_pred3.tif",
    "odd/float64_nan57pct.tif",
    "odd/gcps_s1_uint16.tif",
    "odd/int8_rgb.tif",
    "odd/inverted_lat_south_up.tif",
    "odd/jpeg_cog_internal_mask.tif",
    "odd/jpeg_tiled_rgb.tif",
    "odd/jpeg_ycbcr_2x2_strip.tif",
    "odd/lab_colour.tif",
    "odd/lzma_tiff.tif",
    "odd/oldjpeg_4160x870.tif",
    "odd/one_pixel_icc.png",
    "odd/planar_rgb_lzw.tif",
    "odd/planar_tiled_lzw.tif",
    "odd/png_16bit_rgb.png",
    "odd/png_8bit_gray_alpha.png",
    "odd/png_named_jpg.jpg",
    "odd/rgba_uint16_mostly_empty.tif",
    "odd/rotated_geotransform.tif",
    "odd/scale_offset_int16.tif",
    "odd/unicode_name_йцук.jpg",
    "odd/webp_in_tiff.tif",
    "odd/zstd_int16.tif",
    "scenes/T29UNU_20221005T115411_TCI_60m.jp2",
    "scenes/hirise_mars_rgb_jpeg_cog.tif",
    "scenes/hro_colorado.tif",
    "scenes/hro_colorado_alpha.tif",
    "scenes/hro_colorado_extmask.tif",
    "scenes/hro_colorado_mask.tif",
    "scenes/hro_colorado_nodata.tif",
    "scenes/landsat8_3band_uint16_nodata.tif",
    "scenes/landsat8_L2SP_017036_SR_B1-7_stack.tif",
    "scenes/landsat_rgb_byte.tif",
    "scenes/landsat_rgba_byte.tif",
    "scenes/naip_20180716_4band.tif",
    "scenes/s2_L2A_T29UNU_20221005_R60m_11band_stack.tif",
]


def test_every_file_is_accounted_for(real_image):
    folder = real_image("odd")
    listed = {name.partition("/")[2] for name in [*FAILS, *BY_PILLOW, *BY_RASTERIO]}
    assert {path.name for path in folder.iterdir()} <= listed


@pytest.mark.parametrize("name", BY_RASTERIO)
def test_as_rasterio_reads_it(real_image, name):
    path = real_image(name)
    opened = open_raster(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            data = [i for i, c in enumerate(dataset.colorinterp, 1) if c.name != "alpha"]
            expected = dataset.read(data)
            valid = np.any([dataset.read_masks(i) for i in data], axis=0)
            crs, transform, gcps = dataset.crs, dataset.transform, dataset.gcps
            names = [dataset.descriptions[i - 1] or "" for i in data]
    pixels = opened.pixels.compute()
    assert pixels.dtype == expected.dtype
    np.testing.assert_array_equal(pixels, np.moveaxis(expected, 0, 2))
    if expected.dtype.kind == "f":
        valid &= np.isfinite(expected).all(axis=0)
    mask = np.ones(valid.shape, bool) if opened.mask is None else opened.mask.compute() != 0
    np.testing.assert_array_equal(mask, valid)
    assert opened.pixels.chunks[2] == (len(data),)
    assert [band.name for band in opened.bands] == names
    if crs:
        assert opened.georef.crs_wkt == crs.to_wkt()
    if not transform.is_identity:
        assert opened.georef.transform == tuple(transform)[:6]
    assert [(gcp.row, gcp.x) for gcp in opened.georef.gcps] == [(g.row, g.x) for g in gcps[0]]


@pytest.mark.parametrize("name", BY_PILLOW)
def test_as_pillow_shows_it(real_image, name):
    path = real_image(name)
    with Image.open(path) as image:
        turned = ImageOps.exif_transpose(image)
        shown = np.asarray(turned.convert("RGBA"))
    opened = open_raster(path)
    difference = np.abs(opened.pixels.compute().astype(int) - shown[:, :, :3])
    if name.endswith(".jpg"):  # two versions of libjpeg
        assert difference.mean() < 1
    else:  # colour tables of TIFFs have 16 bits, which one divides by 257 and the other by 256
        assert difference.max() <= name.endswith(".tif")
    valid = np.ones(opened.shape, bool) if opened.mask is None else opened.mask.compute() != 0
    np.testing.assert_array_equal(valid, shown[:, :, 3] != 0)


@pytest.mark.parametrize("name", FAILS)
def test_named_errors(real_image, name):
    path = real_image(name)
    with pytest.raises(FAILS[name]) as caught:
        open_raster(path).pixels.compute()
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    if path.name in DAMAGED_IN_THE_MIDDLE:
        assert "rows 0 to" in message


def test_bands_of_a_real_stack(real_image):
    path = real_image("scenes/s2_L2A_T29UNU_20221005_R60m_11band_stack.tif")
    opened = open_raster(path, bands=(4, 3, 2))
    assert [band.name for band in opened.bands] == ["B04", "B03", "B02"]
    with rasterio.open(path) as dataset:
        expected = np.moveaxis(dataset.read([4, 3, 2]), 0, 2)
    rows, columns = slice(900, 1000), slice(1000, 1130)
    pixels, mask = opened.window(rows, columns)
    np.testing.assert_array_equal(pixels.compute(), expected[rows, columns])
    np.testing.assert_array_equal(mask.compute() != 0, (expected[rows, columns] != 0).any(axis=2))
