"""What a run is asked for: a run goes on only with the same, and secrets are not told."""

import json
import os
import warnings
import zipfile

import dask.array as da
import numpy as np
import pytest
import rasterio
from distributed import Client, LocalCluster
from rasterio.errors import NotGeoreferencedWarning
from sklearn.cluster import KMeans

import kmdask
from kmdask import places, storage, verify
from kmdask.chunks import Workers
from kmdask.errors import without_secrets
from kmdask.options import Options
from kmdask.request import default_output, request
from kmdask.writing.receipts import Receipts


def asked(source, estimator=None, **options):
    return request(source, Options(**{"k": 4} | options), estimator)


@pytest.fixture
def image(tmp_path, scene, write_raster):
    return write_raster(tmp_path / "scene.tif", scene(60, 80))


def test_the_same_is_the_same(image):
    assert asked(image) == asked(str(image))
    array = np.arange(12).reshape(3, 4)
    assert asked(array) == asked(array.copy())
    json.dumps(asked(image))


def test_other_options_are_another_request(image):
    assert asked(image) != asked(image, k=5)
    assert asked(image) != asked(image, seed=1)
    assert asked(image) != asked(image, formats=("zarr",))
    assert asked(image) != asked(image, codec="bz2")


def touch(path):
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def test_a_file_that_changed_is_another_request(image):
    before = asked(image)
    touch(image)
    assert asked(image) != before


@pytest.mark.parametrize("kind", ["beside", "member"])
def test_so_is_one_of_the_files_that_an_image_is_made_of(tmp_path, image, kind):
    part, name = image, image
    if kind == "beside":
        with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(image, "r+") as dataset:
                dataset.write_mask(np.ones((60, 80), bool))
        part = image.with_name("scene.tif.msk")
    else:
        name = tmp_path / "mosaic.vrt"
        name.write_text(
            '<VRTDataset rasterXSize="80" rasterYSize="60"><VRTRasterBand dataType="Byte" band="1">'
            '<SimpleSource><SourceFilename relativeToVRT="1">scene.tif</SourceFilename>'
            "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
        )
    before = asked(name)
    assert before == asked(name)
    touch(part)
    assert asked(name) != before


def test_what_cannot_be_told_is_never_the_same(tmp_path, image):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(image, "a.tif")
    name = f"zip://{tmp_path}/a.zip!/a.tif"
    assert asked(name) != asked(name)


def test_objects_below_a_name_count():
    folder = places.place("memory://versions/a.zarr")
    storage.write_file(folder / "0", b"one")
    before = storage.version_of(folder)
    assert before
    assert before == storage.version_of(folder)
    storage.write_file(folder / "0", b"two")
    assert storage.version_of(folder) != before


def test_estimators_that_look_the_same(image):
    one, other = (KMeans(1000, init=np.zeros((1000, 3)), n_init=1) for _ in range(2))
    other.init[500] = 1
    assert repr(one) == repr(other)
    assert asked(image, one) != asked(image, other)


SIGNED = "https://me:word@example.org/a/scene.tif?X-Amz-Credential=k&X-Amz-Signature=f00"


def test_secrets_are_not_told():
    assert "word" not in json.dumps(asked("memory://a/b.tif?token=word"))
    for text in (f"{SIGNED!r} is not there", f"cannot read {SIGNED}"):
        told = str(kmdask.SourceError(text))
        assert "word" not in told
        assert "f00" not in told
        assert "https://example.org/a/scene.tif" in told
    assert without_secrets("is it? 'key' is no token") == "is it? 'key' is no token"
    assert default_output(SIGNED).name == "scene.kmdask"


@pytest.mark.parametrize(
    "out",
    [
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket//a.kmdask",
        "s3://key:word@bucket/a",
        "http://a/b",
    ],
)
def test_where_nothing_can_be_written(image, out):
    pytest.importorskip("s3fs")
    with pytest.raises(kmdask.ParameterError) as caught:
        kmdask.compress(image, 2, out)
    assert "word" not in str(caught.value)


def test_a_zip_archive_is_a_source(tmp_path, image):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(image, "a.tif")
    result = kmdask.compress(f"zip://{tmp_path}/a.zip!/a.tif", 4, tmp_path / "zipped.kmdask")
    assert result.palette == kmdask.compress(image, 4, tmp_path / "plain.kmdask").palette


class Cut:
    """A progress that ends a run in the middle of its last stage."""

    current = None

    def connected(self, dashboard):
        pass

    def stage(self, name):
        from contextlib import nullcontext

        self.current = name
        return nullcontext()

    def advance(self, done, total):
        if self.current == "write" and 0 < done < total and done > total // 2:
            raise KeyboardInterrupt

    def note(self, text):
        pass


def test_a_dask_array_is_gone_on_with_in_the_chunks_it_began_with(tmp_path, scene, monkeypatch):
    # Receipts are named by chunks: others would be of other regions.
    pixels = da.tile(da.from_array(scene(300, 260)), (5, 10, 1)).rechunk(-1)
    workers = [Workers(room=80 << 20)]
    monkeypatch.setattr("kmdask.pipeline.workers_of", lambda *_: workers[0])
    monkeypatch.setattr("kmdask.chunks.MIN_CHUNKS", 1)
    out = tmp_path / "a.kmdask"
    with pytest.raises(KeyboardInterrupt):
        kmdask.compress(pixels, 4, out, resume=True, progress=Cut())
    workers[0] = Workers()
    kmdask.compress(pixels, 4, out, resume=True)
    assert verify(out) == ()


def test_receipts_of_others_are_not_taken(tmp_path, image, monkeypatch):
    # Those that a task of another run keeps while this one is fitting.
    found = []
    monkeypatch.setattr(Receipts, "found", found.append)
    kmdask.compress(image, 4, tmp_path / "a.kmdask", overwrite=True)
    assert found == []


@pytest.mark.cluster
def test_a_cluster_that_adapts_starts_a_worker(tmp_path, image):
    with (
        LocalCluster(
            n_workers=0, processes=False, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        cluster.adapt(minimum=0, maximum=1, interval="100ms")
        assert client.nthreads() == {}
        assert kmdask.compress(image, 4, tmp_path / "a.kmdask", client=client).report.k_used == 4
