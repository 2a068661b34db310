"""What names a place, and what does not."""

import pickle
import sys
from pathlib import Path

import pytest

from kmdask import places
from kmdask.errors import ParameterError


@pytest.mark.parametrize("name", ["s3://b/k", "memory://a", "https://host/a.tif", "gs://b/a b"])
def test_urls(name):
    assert places.is_url(name)
    assert places.is_there(name)


@pytest.mark.parametrize("name", ["a.tif", "/a.tif", "C:/a.tif", "file:///a", "HDF5:a://b", "x:"])
def test_what_is_no_url(name):
    assert not places.is_url(name)


def test_local_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "a/b.tif",
        Path("a/b.tif"),
        tmp_path / "a" / "b.tif",
        f"file://{tmp_path}/a/b.tif",
    ):
        assert places.place(name) == tmp_path / "a" / "b.tif"
    assert not places.is_remote(places.place("a"))


def test_remote_places():
    place = places.place("memory://a/b.kmdask/")
    assert places.is_remote(place)
    assert (place.name, place.parent.name) == ("b.kmdask", "a")
    assert (place / "c").path == "/a/b.kmdask/c"
    assert places.place(place) == place
    assert pickle.loads(pickle.dumps(place)) == place  # noqa: S301  as Dask sends it to workers


@pytest.mark.parametrize(
    ("name", "told"),
    [("nonsense://a/b", "'nonsense'"), ("memory://", "no bucket"), ("s3:///", "no bucket")],
)
def test_what_is_no_place(name, told):
    with pytest.raises(ParameterError, match=told):
        places.place(name)


HTTP = "fsspec.implementations.http"
"""What imports aiohttp, in place of it: others have it loaded by then."""


@pytest.mark.parametrize(
    ("protocol", "package", "extra"),
    [("s3", "s3fs", "s3"), ("gcs", "gcsfs", "gs"), ("az", "adlfs", "az"), ("https", HTTP, "http")],
)
def test_an_extra_that_is_not_installed(monkeypatch, protocol, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    # What is loaded already is known without an import.
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, protocol, raising=False)
    with pytest.raises(ParameterError, match=rf'pip install "\.\[{extra}\]" in'):
        places.place(f"{protocol}://bucket/scene.kmdask")
