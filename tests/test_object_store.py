"""Bundles in an object store: moto's S3 server, on loopback, for real requests and real errors."""

from __future__ import annotations

import gc
import os
import time
import warnings
from collections import Counter
from contextlib import contextmanager
from uuid import uuid4

import boto3
import numpy as np
import object_store
import pytest
import s3fs
from distributed import Client, LocalCluster

import kmdask
from kmdask import places, storage

pytestmark = pytest.mark.filterwarnings(
    "ignore:datetime.datetime.utcnow:DeprecationWarning",  # botocore, on Python 3.12
)

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
OPTIONS = {"k": 9, "formats": ("zarr", "tiles", "cog")}


@pytest.fixture(scope="module")
def store():
    """The server, with a bucket, and an environment that points at it."""
    with pytest.MonkeyPatch.context() as patch, object_store.running() as server:
        forget()
        for name, value in KEYS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield server
        forget()


def forget():
    """Forget the file systems that were made in another environment."""
    with warnings.catch_warnings():
        # s3fs closes no connection that was opened for zarr, in another event loop.
        warnings.simplefilter("ignore", ResourceWarning)
        s3fs.S3FileSystem.clear_instance_cache()
        gc.collect()


@pytest.fixture
def out(store):
    """The URL of a bundle that is not there yet."""
    store.fail()
    yield f"s3://bucket/{uuid4().hex}/a.kmdask"
    store.fail()


@pytest.fixture(scope="module")
def source(tmp_path_factory, scene, holes, write_raster):
    """An image of six chunks, with invalid pixels."""
    path = tmp_path_factory.mktemp("source") / "scene.tif"
    return write_raster(path, scene(700, 1100) & 0xF0, holes(700, 1100), tiled=True)


@pytest.fixture(scope="module")
def local(tmp_path_factory, source, client):
    """The same bundle on disk."""
    out = tmp_path_factory.mktemp("local") / "a.kmdask"
    return kmdask.compress(source, out=out, client=client, **OPTIONS)


def contents(bundle):
    """The bytes of every file but the report, which has timings."""
    place = places.place(bundle)
    files = {name: place / name for name in storage.files(place) if name != "report.json"}
    return {name: storage.read_file(path) for name, path in files.items()}


def requests(log):
    """Number of requests of each method."""
    return Counter(entry["method"] for entry in log)


class Stopwatch:
    """A progress that calls something when the stage that writes begins."""

    def __init__(self, call):
        self.call = call

    def connected(self, dashboard):
        pass

    @contextmanager
    def stage(self, name):
        if name == "write":
            self.call()
        yield

    def advance(self, done, total):
        pass

    def note(self, text):
        pass


# All goes well


def test_a_chunk_is_one_request_and_none_is_an_error(out, local, store):
    bundle = places.place(out)
    storage.upload(local.path, bundle)
    image = kmdask.open(out)
    store.fail()
    image.indices.compute(scheduler="threads")
    asked = Counter(
        (entry["method"], entry["path"].partition("/indices/")[2]) for entry in store.log()
    )
    assert asked == {("GET", "0/0"): 1, ("GET", "0/1"): 1}
    storage.remove(bundle / "image.zarr" / "indices" / "0" / "1")
    with pytest.raises(kmdask.BundleError, match=r"'s3://.*image\.zarr/indices/0/1 is missing"):
        image.indices.compute(scheduler="threads")


def test_object_by_object_as_on_disk(out, source, local, client, store):
    result = kmdask.compress(source, out=out, client=client, **OPTIONS)
    log = [entry for entry in store.log() if entry["method"] == "PUT"]
    assert contents(out) == contents(local.path)
    assert storage.names(places.place(out)) == {path.name for path in local.path.iterdir()}
    assert result.report.sizes == local.report.sizes

    again = kmdask.open(out)
    np.testing.assert_array_equal(again.to_dask().compute(), local.to_dask().compute())
    assert again.preview().tobytes() == local.preview().tobytes()

    # What is written is written once: every object of the bundle, and of the run itself what
    # asks of it, its fit, a piece of the GeoTIFF and a receipt for each task that writes.
    puts = Counter(entry["path"].partition("a.kmdask/")[2] for entry in log)
    kept = {name for name in puts if name.startswith(("scratch", "run.json"))}
    assert puts.keys() - kept == {*contents(out), "report.json"}
    twice = {name for name, n in puts.items() if n > 1}
    # The metadata of zarr are written bit by bit.
    assert all(name.rpartition("/")[2].startswith(".z") for name in twice)
    chunks = sum(name.startswith("scratch/receipts-") and "/write-zarr" in name for name in kept)
    receipts = sum("receipts" in name for name in kept)
    assert receipts <= 4 * chunks + 3 * 12


@pytest.mark.cluster
@pytest.mark.slow
def test_by_processes(out, source, local):
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            # They are forked from one of before, which has not the store's credentials.
            env=dict(os.environ),
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        kmdask.compress(source, out=out, client=client, **OPTIONS)
        read = client.compute(kmdask.open(out).indices.max()).result()
    assert contents(out) == contents(local.path)
    assert read == local.indices.max().compute()


# What stands there


def test_half_written(out, source, local, client, store):
    def fail():
        store.fail({"method": "PUT", "has": "tiles_files/11", "status": 403})

    with pytest.raises(kmdask.OutputError, match=r"it went wrong inside.*\(--resume\)"):
        kmdask.compress(
            source, out=out, resume=True, client=client, progress=Stopwatch(fail), **OPTIONS
        )
    store.fail()
    with pytest.raises(kmdask.BundleError, match=r"not finished.*\(--resume\)"):
        kmdask.open(out)
    with pytest.raises(kmdask.OutputExistsError, match="half written"):
        kmdask.compress(source, out=out, client=client, **OPTIONS)
    scratch = places.place(out) / "scratch"
    (receipts,) = (name for name in storage.names(scratch) if name.startswith("receipts-"))
    there = storage.names(scratch / receipts)
    assert there

    kmdask.compress(source, out=out, resume=True, client=client, **OPTIONS)
    assert contents(out) == contents(local.path)
    puts = {e["path"].rpartition("/")[2] for e in store.log() if e["method"] == "PUT"}
    assert not there & puts
    with pytest.raises(kmdask.OutputExistsError, match="exists already"):
        kmdask.compress(source, out=out, client=client, **OPTIONS)


def test_overwriting(out, source, local, client, scene, store):
    kmdask.compress(scene(600, 600, 1), 3, out, client=client)
    before = contents(out)
    # Nothing of it is touched before the palette of the new one is known.
    store.fail({"method": "PUT", "has": "image.zarr", "status": 403})
    seen = []
    progress = Stopwatch(lambda: seen.append(contents(out)))
    with pytest.raises(kmdask.EmptyImageError):
        kmdask.compress(np.zeros((9, 9)), 3, out, nodata=0, overwrite=True, client=client)
    assert contents(out) == before
    store.fail()
    kmdask.compress(source, out=out, overwrite=True, client=client, progress=progress, **OPTIONS)
    assert contents(out) == contents(local.path)
    assert not {name for name in seen[0] if name.startswith("tiles")}


# Errors


@pytest.mark.timeout(60)
def test_a_bucket_that_is_not_there(source, client, store):
    store.fail()
    with pytest.raises(kmdask.OutputError, match=r"s3://nowhere/.*bucket does not exist.*check"):
        kmdask.compress(source, out="s3://nowhere/a.kmdask", client=client, **OPTIONS)
    with pytest.raises(kmdask.BundleError, match="no kmdask bundle"):
        kmdask.open("s3://nowhere/a.kmdask")
    assert sum(requests(store.log()).values()) < 30


@pytest.mark.timeout(60)
@pytest.mark.parametrize("given", [True, False])
def test_credentials(out, source, client, store, monkeypatch, given):
    # moto believes everybody; what a store says to a wrong key it is told to say.
    if given:
        store.fail(
            *({"method": method, "status": 403} for method in ("GET", "PUT", "HEAD", "POST"))
        )
    else:
        for name in KEYS:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    forget()
    with pytest.raises(kmdask.OutputError, match=r"a\.kmdask'.*credentials"):
        kmdask.compress(source, out=out, client=client, **OPTIONS)
    with pytest.raises(kmdask.BundleError, match=r"cannot be looked into|no kmdask bundle"):
        kmdask.open(out)
    assert sum(requests(store.log()).values()) < 10
    forget()


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("store")
def test_nobody_answers(source, client, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    forget()
    with pytest.raises(kmdask.OutputError, match=r"127\.0\.0\.1:9.*that it answers"):
        kmdask.compress(source, out="s3://bucket/b.kmdask", client=client, **OPTIONS)
    forget()


@pytest.mark.parametrize("status", [500, 503])
def test_writes_that_fail_for_a_moment(out, source, local, client, store, status):
    store.fail(
        {"method": "PUT", "has": "tiles_files", "status": status, "times": 2},
        {"method": "PUT", "has": "indices/0/1", "status": status, "times": 2},
        {"method": "PUT", "has": "receipts", "skip": 3, "status": status, "times": 1},
        {"method": "PUT", "has": "report.json", "status": status, "times": 1},
        {"method": "GET", "has": "cog-", "status": status, "times": 1},
    )
    kmdask.compress(source, out=out, client=client, **OPTIONS)
    failed = [entry for entry in store.log() if entry["status"] == status]
    assert len(failed) == 7
    assert contents(out) == contents(local.path)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_writes_that_fail_for_ever(out, source, client, store):
    # As s3fs is by default: five attempts of each request, in some ten seconds.
    def fail():
        store.fail({"method": "PUT", "has": "tiles_files", "status": 503})

    started = time.monotonic()
    with pytest.raises(kmdask.OutputError, match=r"cannot write 's3://.*tiles_files.*went wrong"):
        kmdask.compress(source, out=out, client=client, progress=Stopwatch(fail), **OPTIONS)
    failed = Counter(entry["path"] for entry in store.log() if entry["status"] == 503)
    assert failed
    assert max(failed.values()) <= 5
    # Far from a matter of speed: without a bound there would be no end.
    assert time.monotonic() - started < 150
    store.fail()
    assert storage.names(places.place(out)) == set()
