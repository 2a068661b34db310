"""Sources behind URLs, of an S3 server on loopback: what is read, how often, and what fails."""

from __future__ import annotations

import json
import pickle
import socket
import warnings

import boto3
import dask
import numpy as np
import object_store
import pytest
import rasterio
import s3fs
import zarr
from click.testing import CliRunner
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rasterio.shutil import copy as gdal_copy

import kmdask.reading.remote
from kmdask import chunks, places
from kmdask.cli import main
from kmdask.errors import ParameterError, SourceError, SourceNotFoundError
from kmdask.places import place
from kmdask.reading.describe import describe
from kmdask.reading.gdal_remote import BESIDE, end_points, gdal_name, remote_options
from kmdask.reading.raster import open_raster
from kmdask.reading.sources import find_source
from kmdask.reading.spool import copied
from kmdask.reading.zarr_source import ZarrSource

SIDE = 1024
"""Side of the chunks here, two tiles of 512."""


@pytest.fixture(scope="module")
def server():
    # A task that an earlier module has given up may still have made one, for a store that is gone.
    s3fs.S3FileSystem.clear_instance_cache()
    with object_store.running() as store:
        yield store
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def client(server):
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.client("s3", endpoint_url=server.endpoint, region_name="us-east-1", **keys)


@pytest.fixture
def store(server, monkeypatch):
    """The server, where everything expects it, with an empty bucket that anybody may read."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_MAX_ATTEMPTS": "1",
        "GDAL_HTTP_RETRY_DELAY": "0.01",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(kmdask.reading.remote, "DELAY", 0.01)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    server.fail()
    yield server
    server.fail()


@pytest.fixture
def _no_memory():
    """File systems look for credentials and end points once."""
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def put(store, client, request):
    """``put(path, key)``: put a file into a bucket of this test; returns its s3:// URL."""
    bucket = f"bucket-{abs(hash(request.node.nodeid))}"
    client.create_bucket(Bucket=bucket)

    def put(path, key=None):
        key = key or f"deep/down/{path.name}"
        client.upload_file(str(path), bucket, key, ExtraArgs={"ACL": "public-read"})
        store.log()
        return f"s3://{bucket}/{key}"

    return put


@pytest.fixture
def web(store):
    """``web(url)``: the same object behind http://."""
    return lambda url: url.replace("s3://", f"{store.endpoint}/")


@pytest.fixture
def cog(tmp_path, scene, write_raster):
    """``cog(height, width, **options)``: a COG with georeferencing; returns path and pixels."""

    def make(height, width, bands=3, **options):
        pixels = scene(height, width, bands)
        flat = write_raster(tmp_path / "flat.tif", pixels, crs="EPSG:32632", transform=TRANSFORM)
        path = tmp_path / "scene.tif"
        options = {"driver": "COG", "blocksize": 512, "compress": "deflate"} | options
        gdal_copy(flat, path, **options)
        return path, pixels

    return make


TRANSFORM = (10.0, 0.0, 500000.0, 0.0, -10.0, 5500000.0)


def read(source):
    height, width = source.shape
    return source.read(slice(0, height), slice(0, width))


def pixels_of(url, **options):
    # Not in the main thread, of which alone GDAL takes settings for all.
    with dask.config.set(scheduler="threads"):
        return np.asarray(open_raster(url, **options).pixels)


@pytest.mark.parametrize("behind", ["s3", "http"])
def test_a_cog_is_read_as_the_file_is(behind, cog, put, web):
    path, pixels = cog(700, 900)
    url = put(path) if behind == "s3" else web(put(path))
    local, remote = open_raster(path), open_raster(url)
    assert np.array_equal(pixels_of(url), pixels)
    assert (remote.georef, remote.bands, remote.shape) == (local.georef, local.bands, local.shape)
    assert remote.source_bytes == path.stat().st_size
    assert pickle.loads(pickle.dumps(remote.reader)) == remote.reader  # noqa: S301


@pytest.mark.parametrize(
    ("options", "most"),
    [
        pytest.param({}, 1, id="COG: neighbours in one row"),
        pytest.param({"driver": "GTiff", "tiled": True, "interleave": "band"}, 3, id="bands"),
        pytest.param({"driver": "GTiff", "interleave": "pixel"}, 1, id="strips"),
    ],
)
@pytest.mark.parametrize("behind", ["s3", "http"])
def test_reads_are_few_and_nothing_travels_twice(
    behind, options, most, cog, put, web, store, monkeypatch
):
    monkeypatch.setattr(chunks, "MIN_CHUNKS", 1)
    sizes = {"blockxsize": 512, "blockysize": 512} if options.get("tiled") else {}
    path, _ = cog(2 * SIDE, SIDE, **options, **sizes)
    url = put(path) if behind == "s3" else web(put(path))
    source = find_source(url)
    opening = store.log()
    # One question about the object, one of the directory, the header, and what may stand beside.
    assert len(opening) <= 5 + 2 * len(BESIDE)
    travelled = 0
    for top in range(0, 2 * SIDE, SIDE):
        source.read(slice(top, top + SIDE), slice(0, SIDE))
        requests = store.log()
        assert len(requests) <= 2 * most, requests
        assert {entry["method"] for entry in requests} == {"GET"}
        travelled += sum(entry["bytes"] for entry in requests)
    header = sum(entry["bytes"] for entry in opening if entry["method"] == "GET")
    assert travelled + header < 1.3 * path.stat().st_size


def test_a_chunk_of_full_size_takes_eight_requests(tmp_path, write_raster, put, store):
    # The tiles of a chunk take more than the 10 MB that GDAL asks for at once by default.
    noise = np.random.default_rng(0).integers(256, size=(4096, 4608, 1), dtype=np.uint8)
    profile = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    path = write_raster(tmp_path / "noise.tif", noise, **profile, zlevel=1)
    source = find_source(put(path))
    store.log()
    window = source.read(slice(0, 4096), slice(0, 4096))
    requests = store.log()
    assert np.array_equal(window, noise[:, :4096])
    assert len(requests) <= 8
    assert sum(entry["bytes"] for entry in requests) < 1.02 * 4096 * 4096


def test_what_stands_beside_is_found(tmp_path, scene, holes, write_raster, put, web):
    pixels, mask = scene(300, 400), holes(300, 400)
    path = write_raster(tmp_path / "scene.tif", pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(mask)
    (tmp_path / "scene.tfw").write_text("10\n0\n0\n-10\n500000\n5500000\n")
    url = put(path)
    for ending in (".tif.msk", ".tfw"):
        put(tmp_path / f"scene{ending}")
    for there in (url, web(url)):
        source = find_source(there)
        assert source.masked
        assert source.georef.transform == (10, 0, 499995, 0, -10, 5500005)
        assert np.array_equal(read(source)[..., -1] != 0, mask)
        assert np.array_equal(read(source)[..., :3], pixels)


def test_a_file_that_is_replaced_is_read_anew(cog, put, web):
    path, pixels = cog(300, 400)
    url = put(path)
    names = [url, web(url)]
    for name in names:
        assert np.array_equal(read(find_source(name)), pixels)
    path.unlink()
    path, other = cog(310, 420, bands=4)
    assert put(path) == url
    for name in names:
        assert np.array_equal(read(find_source(name)), other)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("behind", ["s3", "http"])
def test_a_zarr_group(version, behind, tmp_path, scene, put, web, store):
    pixels = scene(300, 200)
    group = zarr.create_group(tmp_path / "scene.zarr", zarr_format=version)
    array = group.create_array("image", data=pixels, chunks=(100, 100, 3))
    group.create_array("other", data=np.arange(3))
    array.attrs["description"] = "a scene"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)  # of version 3
        zarr.consolidate_metadata(tmp_path / "scene.zarr")
    url = _put_folder(tmp_path / "scene.zarr", put)
    if behind == "http":
        url = web(url)
    for name in (url, f"{url}::image", f"{url}/image"):
        source = find_source(name)
        assert np.array_equal(read(source), pixels)
        assert source.block == (100, 100)
    store.log()
    source.read(slice(0, 100), slice(0, 200))
    # Two chunks, and each of the one or two files that describe the array.
    assert len(store.log()) == 2 + (4 - version)
    if behind == "s3":
        size = sum(file.stat().st_size for file in (tmp_path / "scene.zarr/image").rglob("*.*"))
        assert open_raster(f"{url}/image").source_bytes >= size
        with pytest.raises(SourceNotFoundError, match=r"no array 'nothing'.*'image' \(300, 200, 3"):
            find_source(f"{url}::nothing")


def _put_folder(folder, put, name=None):
    for file in folder.rglob("*"):
        if file.is_file():
            last = put(file, f"{name or folder.name}/{file.relative_to(folder)}")
    bucket = last.removeprefix("s3://").partition("/")[0]
    return f"s3://{bucket}/{name or folder.name}"


def test_a_zarr_array_without_an_ending_is_recognised(tmp_path, scene, write_zarr, put):
    pixels = scene(40, 50)
    write_zarr(tmp_path / "plain", pixels)
    source = find_source(_put_folder(tmp_path / "plain", put))
    assert isinstance(source, ZarrSource)
    assert np.array_equal(read(source), pixels)


def test_a_png_is_copied_first(tmp_path, scene, put, monkeypatch):
    pixels = scene(600, 700)
    Image.fromarray(pixels).save(tmp_path / "scan.png")
    monkeypatch.setattr(chunks, "PIXELS", 512 * 512)
    url = put(tmp_path / "scan.png")
    assert np.array_equal(pixels_of(url), pixels)
    # Where the output is in an object store, so is the copy.
    scratch = place(url.replace("deep/down/scan.png", "out/.scratch"))
    assert np.array_equal(pixels_of(url, scratch=scratch), pixels)
    assert (scratch / "spool.zarr" / "zarr.json").exists()
    assert np.array_equal(pixels_of(pixels, scratch=scratch), pixels)


def test_a_copy_is_begun_again_where_it_failed(tmp_path, scene, put, store, monkeypatch, caplog):
    pixels = scene(600, 700)
    Image.fromarray(pixels).save(tmp_path / "scan.png", compress_level=0)
    monkeypatch.setattr(chunks, "PIXELS", 512 * 512)
    url = put(tmp_path / "scan.png")
    source = find_source(url)
    kmdask.reading.gdal.forget(url)
    store.fail({"status": 500, "has": "scan.png", "times": 5})
    with dask.config.set(scheduler="threads"):
        copy = copied(source, None)
    assert np.array_equal(read(copy), pixels)
    assert "attempt 1 of 3" in caplog.text


def test_a_png_that_was_cut_off_is_no_image(tmp_path, scene, put):
    Image.fromarray(scene(60, 70)).save(tmp_path / "whole.png")
    cut = tmp_path / "cut.png"
    cut.write_bytes((tmp_path / "whole.png").read_bytes()[:-2000])
    with pytest.raises(SourceError, match="damaged or incomplete PNG"):
        find_source(put(cut))


def test_a_photograph_is_turned(tmp_path, scene, put):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene(60, 90)).save(tmp_path / "photo.jpg", exif=exif)
    assert find_source(put(tmp_path / "photo.jpg")).shape == (90, 60)


def test_npy_files_are_for_files(put, tmp_path):
    np.save(tmp_path / "scene.npy", np.zeros((4, 4)))
    with pytest.raises(SourceError, match=r"\.npy file behind a URL.*copy it.*zarr"):
        find_source(put(tmp_path / "scene.npy"))


def test_info_tells_of_a_remote_image(cog, put):
    path, _ = cog(300, 400)
    url = put(path)
    seen = describe(url)
    assert (seen.shape, seen.source, seen.source_bytes) == ((300, 400), url, path.stat().st_size)
    told = CliRunner().invoke(main, ["info", url, "--json"])
    assert json.loads(told.stdout)["shape"] == [300, 400]


def test_names_that_gdal_is_given():
    assert gdal_name("s3://bucket/a#1/scene.tif") == "/vsis3/bucket/a#1/scene.tif"
    assert gdal_name("gs://bucket/scene.tif") == "/vsigs/bucket/scene.tif"
    assert gdal_name("az://container/scene.tif") == "/vsiaz/container/scene.tif"
    assert gdal_name("https://host/a.tif?key=1") == "/vsicurl/https://host/a.tif?key=1"
    for name in ("/vsizip/a.zip/b.tif", "HDF5:a.h5://b", "zip+https://host/a.zip!b.tif", "a.tif"):
        assert gdal_name(name) == name


def test_end_points_are_translated_but_what_gdal_is_told_itself():
    assert end_points(
        {"AWS_ENDPOINT_URL": "http://a:1", "AWS_ENDPOINT_URL_S3": "https://b/s3/"}
    ) == {
        "AWS_S3_ENDPOINT": "b/s3",
        "AWS_HTTPS": "YES",
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }
    assert end_points({"AWS_ENDPOINT_URL": "http://a:1", "AWS_S3_ENDPOINT": "b"}) == {}
    assert "AWS_HTTPS" not in end_points({"AWS_ENDPOINT_URL": "http://a", "AWS_HTTPS": "YES"})
    assert end_points(
        {"AZURE_STORAGE_ACCOUNT_NAME": "me", "STORAGE_EMULATOR_HOST": "http://g"}
    ) == {
        "AZURE_STORAGE_ACCOUNT": "me",
        "CPL_GS_ENDPOINT": "http://g",
    }
    assert end_points({}) == {}


def test_settings_of_the_user_win(monkeypatch):
    assert remote_options("s3://bucket/a.tif")["GDAL_HTTP_MAX_RETRY"] == 3
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "9")
    assert "GDAL_HTTP_MAX_RETRY" not in remote_options("s3://bucket/a.tif")
    assert remote_options("/data/a.tif") == {}


@pytest.mark.usefixtures("_no_memory")
def test_credentials_of_a_profile(cog, put, store, monkeypatch, tmp_path):
    """A program that prints credentials is what s3fs knows of and GDAL does not."""
    url = put(cog(300, 400)[0])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    keys = {"Version": 1, "AccessKeyId": "printed", "SecretAccessKey": "testing"}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    config = tmp_path / "config"
    config.write_text(f"[profile mine]\ncredential_process = cat {tmp_path}/keys.json\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    read(find_source(url))
    assert {entry["key"] for entry in store.log()} == {"printed"}


@pytest.mark.usefixtures("_no_memory")
def test_public_data_without_credentials(cog, put, store, monkeypatch):
    url = put(cog(300, 400)[0])
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    read(find_source(url))
    assert {entry["key"] for entry in store.log()} == {""}


@pytest.mark.parametrize("name", ["scene.tif", "scene.zarr", "scene.zarr::image", "scene"])
@pytest.mark.parametrize("behind", ["s3", "http"])
def test_nothing_there(name, behind, put, web, cog):
    url = put(cog(30, 40)[0]).rpartition("/")[0]
    there, elsewhere = f"{url}/none-{name}", f"s3://no-such-bucket/{name}"
    for missing in (there, elsewhere):
        with pytest.raises(SourceNotFoundError, match=r"nothing at.*check the bucket"):
            find_source(missing if behind == "s3" else web(missing))
    if behind == "s3":
        with pytest.raises(SourceNotFoundError, match="bucket does not exist"):
            find_source(elsewhere)


@pytest.mark.parametrize("name", ["scene.tif", "scene.zarr", "scene"])
@pytest.mark.parametrize("behind", ["s3", "http"])
def test_no_permission(name, behind, store, web, put, cog):
    url = put(cog(30, 40)[0]).rpartition("/")[0]
    store.fail({"status": 403}, {"status": 403, "method": "HEAD"})
    with pytest.raises(SourceError, match=r"403|may not be read") as caught:
        find_source(f"{url}/{name}" if behind == "s3" else web(f"{url}/{name}"))
    assert "credentials" in str(caught.value)
    assert "<" not in str(caught.value)


@pytest.mark.parametrize("name", ["scene.tif", "scene.zarr"])
@pytest.mark.usefixtures("store", "_no_memory")
def test_no_credentials(name, monkeypatch):
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    with pytest.raises(SourceError, match=r"(?i)credentials.*AWS_ACCESS_KEY_ID"):
        find_source(f"s3://bucket/{name}")


@pytest.mark.parametrize("name", ["scene.tif", "scene.zarr"])
@pytest.mark.parametrize("behind", ["s3://bucket", "http://127.0.0.1:9"])
@pytest.mark.usefixtures("store", "_no_memory")
def test_nobody_listens(name, behind, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"cannot be reached.*AWS_ENDPOINT_URL"):
        find_source(f"{behind}/{name}")


@pytest.mark.parametrize("behind", ["s3", "http"])
def test_a_server_that_fails_for_a_while(behind, cog, put, web, store, caplog):
    path, pixels = cog(300, 400)
    url = put(path) if behind == "s3" else web(put(path))
    store.fail({"status": 503, "times": 2, "has": "scene.tif"})
    source = find_source(url)
    for fault in ({"status": 500, "times": 4}, {"cut": 1000, "times": 2}):
        kmdask.reading.gdal.forget(url)
        store.fail(fault | {"has": "scene.tif"})
        assert np.array_equal(read(source), pixels), fault
    assert "attempt 1 of 3" in caplog.text


@pytest.mark.parametrize("behind", ["s3", "http"])
def test_a_server_that_fails_for_ever(behind, cog, put, web, store):
    path, _ = cog(300, 400)
    url = put(path) if behind == "s3" else web(put(path))
    source = find_source(url)
    kmdask.reading.gdal.forget(url)
    store.fail({"status": 500, "has": "scene.tif"})
    with pytest.raises(SourceError, match=r"rows 0 to 300.*tried 3 times") as caught:
        read(source)
    assert len(store.log()) < 100
    pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    store.fail({"status": 500}, {"status": 500, "method": "HEAD"})
    with pytest.raises(SourceError, match="cannot be reached"):
        find_source(url)


@pytest.mark.parametrize("behind", ["s3", "http"])
def test_zarr_chunks_are_read_again(behind, tmp_path, scene, write_zarr, put, web, store, caplog):
    pixels = scene(40, 50)
    write_zarr(tmp_path / "scene.zarr", pixels, chunks=(40, 50, 3))
    url = _put_folder(tmp_path / "scene.zarr", put)
    source = find_source(url if behind == "s3" else web(url))
    store.fail({"status": 500, "times": 2, "has": "/c/0"})
    assert np.array_equal(read(source), pixels)
    assert "attempt 1 of 3" in caplog.text
    store.fail({"status": 500, "has": "/c/0"})
    with pytest.raises(SourceError, match=r"rows 0 to 40.*tried 3 times"):
        read(source)


@pytest.mark.usefixtures("store")
def test_a_server_that_says_nothing(monkeypatch):
    monkeypatch.setattr(places, "SILENCE", 0.2)
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    silent = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/scene.tif"
    with silent, pytest.raises(SourceError, match="cannot be reached"):
        find_source(url)


def test_other_protocols():
    with pytest.raises(ParameterError, match="protocol"):
        find_source("nosuch://bucket/scene.zarr")
