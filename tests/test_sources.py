"""Recognising sources: what is supported, and what is said about everything else."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
import rasterio
import zarr
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from kmdask import SourceError, SourceNotFoundError, UnsupportedImageError
from kmdask.sources import RasterioSource, ZarrSource, find_source

SUPPORTED = "8-bit grey or RGB, with or without an alpha band"
EVERYTHING = slice(0, 40), slice(0, 50)


@pytest.mark.parametrize("ending", ["tif", "png", "zarr"])
def test_descriptions_pickle_and_read_the_same(tmp_path, scene, write_raster, write_zarr, ending):
    pixels = scene(40, 50)
    path = tmp_path / f"image.{ending}"
    if ending == "zarr":
        write_zarr(path, pixels)
    else:
        write_raster(path, pixels, driver={"tif": "GTiff", "png": "PNG"}[ending])
    source = find_source(str(path))
    again = pickle.loads(pickle.dumps(source))  # noqa: S301  our own bytes
    assert again == source
    assert (source.shape, source.bands, source.masked) == ((40, 50), 3, False)
    np.testing.assert_array_equal(again.read(*EVERYTHING), pixels)
    np.testing.assert_array_equal(again.read(slice(3, 4), slice(49, 50)), pixels[3:4, 49:50])


@pytest.mark.parametrize(
    ("profile", "found"),
    [
        ({"dtype": "uint16", "count": 3}, "data type is uint16"),
        ({"dtype": "int16", "count": 1}, "data type is int16"),
        ({"dtype": "float32", "count": 1}, "data type is float32"),
        ({"dtype": "int8", "count": 3}, "data type is int8"),
        ({"count": 2, "alpha": "NO"}, "2 band"),
        ({"count": 4, "alpha": "NO", "photometric": "RGB"}, "4 band"),
        ({"count": 5}, "5 band"),
        ({"count": 4, "photometric": "CMYK"}, "cmyk"),
        ({"count": 3, "photometric": "CIELAB"}, "cielab"),
    ],
    ids=str,
)
def test_unsupported_tiffs(tmp_path, write_raster, profile, found):
    profile = {"dtype": "uint8"} | profile
    pixels = np.zeros((8, 9, profile["count"]), profile["dtype"])
    path = write_raster(tmp_path / "a.tif", pixels, **profile)
    with pytest.raises(UnsupportedImageError) as caught:
        find_source(str(path))
    message = str(caught.value)
    assert str(path) in message
    assert found in message
    assert SUPPORTED in message


@pytest.mark.parametrize("ending", ["png", "gif", "tif"])
def test_palette_images(tmp_path, scene, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(scene(20, 20)).quantize(8).save(path)
    with pytest.raises(UnsupportedImageError, match=f"colour table.*{SUPPORTED}"):
        find_source(str(path))


def test_cmyk_jpeg(tmp_path, scene):
    path = tmp_path / "a.jpg"
    Image.fromarray(scene(20, 20)).convert("CMYK").save(path)
    with pytest.raises(UnsupportedImageError, match=f"(?i)cmyk|cyan.*{SUPPORTED}"):
        find_source(str(path))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_bilevel_images_are_black_and_white_or_refused(tmp_path, ending):
    # GDAL gives 0 and 1 for one bit a pixel: taken as 8-bit grey, white would come out black.
    stripes = np.tile(np.array([[0, 255]], np.uint8), (16, 8))
    path = tmp_path / f"a.{ending}"
    Image.fromarray(stripes).convert("1").save(path)
    try:
        source = find_source(str(path))
    except UnsupportedImageError as error:
        assert "grey or RGB" in str(error)  # noqa: PT017  both ways are right
    else:
        np.testing.assert_array_equal(source.read(slice(0, 16), slice(0, 16))[:, :, 0], stripes)


def test_white_is_zero_is_no_negative(tmp_path, scene, write_raster):
    path = write_raster(tmp_path / "a.tif", scene(40, 50, 1), photometric="miniswhite")
    with Image.open(path) as image:
        shown = np.asarray(image)
    try:
        source = find_source(str(path))
    except UnsupportedImageError as error:
        assert "white" in str(error)  # noqa: PT017  both ways are right
    else:
        np.testing.assert_array_equal(source.read(*EVERYTHING)[:, :, 0], shown)


def test_bands_in_another_order_are_put_right_or_refused(tmp_path, scene, write_raster):
    pixels = scene(40, 50)
    path = write_raster(
        tmp_path / "bgr.tif",
        pixels[:, :, ::-1],
        photometric="minisblack",
        transform=Affine(10, 0, 5e5, 0, -10, 6e6),
    )
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    try:
        source = find_source(str(path))
    except UnsupportedImageError as error:
        assert "blue" in str(error)  # noqa: PT017  both ways are right
    else:
        np.testing.assert_array_equal(source.read(*EVERYTHING), pixels)


@pytest.mark.parametrize("dtype", ["uint16", "float32", "int8", "bool"])
def test_zarr_data_types(tmp_path, write_zarr, dtype):
    path = write_zarr(tmp_path / "a.zarr", np.zeros((5, 6, 3), dtype))
    with pytest.raises(UnsupportedImageError, match=f"data type is {dtype}.*{SUPPORTED}"):
        find_source(str(path))


@pytest.mark.parametrize("shape", [(5,), (9, 8, 7), (2, 3, 4, 5), (0, 4, 3), (4, 0)])
def test_zarr_shapes(tmp_path, shape):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=shape, dtype="uint8", chunks=tuple(max(n, 1) for n in shape))
    with pytest.raises(UnsupportedImageError) as caught:
        find_source(str(path))
    assert str(shape) in str(caught.value)


def test_nothing_there(tmp_path):
    path = tmp_path / "missing.tif"
    with pytest.raises(SourceNotFoundError, match=r"no file .*missing.tif.*check the path"):
        find_source(str(path))
    with pytest.raises(FileNotFoundError):
        find_source(str(path))


@pytest.mark.parametrize("made", ["empty", "files", "group", "broken json", "other json"])
def test_directories_that_are_no_zarr_array(tmp_path, made):
    path = tmp_path / "folder"
    path.mkdir()
    if made == "files":
        (path / "a.txt").write_text("a")
    elif made == "group":
        zarr.create_group(path, overwrite=True)
    elif made == "broken json":
        (path / "zarr.json").write_text("{")
    elif made == "other json":
        (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    with pytest.raises(SourceError, match=r"folder.*no zarr array"):
        find_source(str(path))


@pytest.mark.parametrize("content", [b"", b"these are no pixels\n" * 100, b"II*\0", b"\x89PNG\r\n"])
@pytest.mark.parametrize("ending", ["tif", "png", "jpg", "txt"])
def test_files_that_are_no_images(tmp_path, content, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        find_source(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_truncated_files(tmp_path, scene, write_raster, ending, share):
    path = tmp_path / f"whole.{ending}"
    if ending == "tif":
        write_raster(path, scene(40, 50), compress="deflate", blockysize=8)
    else:
        Image.fromarray(scene(40, 50)).save(path)
    content = path.read_bytes()
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SourceError) as caught:
        find_source(str(cut)).read(*EVERYTHING)
    assert str(cut) in str(caught.value)


def test_a_png_with_a_wrong_checksum(tmp_path, scene):
    path = tmp_path / "a.png"
    Image.fromarray(scene(40, 50)).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.png"):
        find_source(str(path)).read(*EVERYTHING)


def test_a_png_with_a_long_comment(tmp_path, scene):
    pixels = scene(40, 50)
    comment = PngInfo()
    comment.add_text("comment", "x" * (1 << 21), zip=True)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, pnginfo=comment)
    np.testing.assert_array_equal(find_source(str(path)).read(*EVERYTHING), pixels)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("scheme", ["zip://{0}!/{1}", "/vsizip/{0}/{1}"])
def test_images_inside_an_archive(tmp_path, scene, write_raster, ending, scheme):
    pixels = scene(40, 50)
    name = f"a.{ending}"
    write_raster(tmp_path / name, pixels, driver={"tif": "GTiff", "png": "PNG"}[ending])
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(tmp_path / name, name)
    source = find_source(scheme.format(archive, name))
    np.testing.assert_array_equal(source.read(*EVERYTHING), pixels)


@pytest.mark.parametrize("kind", [RasterioSource, ZarrSource])
def test_a_source_that_vanishes_is_named(tmp_path, scene, write_raster, write_zarr, kind):
    path = tmp_path / "gone"
    if kind is ZarrSource:
        write_zarr(path, scene(40, 50))
    else:
        write_raster(path, scene(40, 50))
    source = find_source(str(path))
    assert isinstance(source, kind)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"gone.*rows 0 to 40, columns 0 to 50"):
        source.read(*EVERYTHING)
