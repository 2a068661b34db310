"""Recognising sources: what is supported, and what is said about everything else."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
import zarr
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import kmdask
from kmdask import SourceError, SourceNotFoundError
from kmdask.reading.sources import RasterioSource, ZarrSource, find_source

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
    assert (source.shape, len(source.bands), source.masked) == ((40, 50), 3, False)
    assert source.dtype == np.uint8
    np.testing.assert_array_equal(again.read(*EVERYTHING), pixels)
    np.testing.assert_array_equal(again.read(slice(3, 4), slice(49, 50)), pixels[3:4, 49:50])


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
    with pytest.raises(SourceError, match=r"folder.*(no zarr array|no arrays)"):
        find_source(str(path))


def test_a_bundle_is_no_source(tmp_path, client):
    bundle = kmdask.compress(np.zeros((9, 9), np.uint8), 1, tmp_path / "a.kmdask", client=client)
    with pytest.raises(SourceError, match="a compressed image, not a source; `kmdask decompress`"):
        find_source(str(bundle.path))
    assert find_source(f"{bundle.path}/image.zarr::indices").shape == (9, 9)


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


def test_subdatasets_by_name(tmp_path, scene):
    frames = [Image.fromarray(scene(40, 50, seed=seed)) for seed in (0, 1)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    for number, frame in enumerate(frames, start=1):
        source = find_source(f"GTIFF_DIR:{number}:{tmp_path}/a.tif")
        np.testing.assert_array_equal(source.read(*EVERYTHING), np.asarray(frame))


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
