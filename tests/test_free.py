"""Where files are to be written is tried before there is anything to write."""

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import kmdask
from kmdask import storage
from kmdask.cli import main
from kmdask.errors import OutputError
from kmdask.free import check_files, check_free, check_writable
from kmdask.places import place
from kmdask.reading.gdal_source import RasterioSource

CLOSED = "/proc"
"""A folder in which nobody may write, root among them."""

closed = pytest.mark.skipif(not sys.platform.startswith("linux"), reason=f"needs {CLOSED}")


def test_nothing_is_left_and_what_is_there_stays(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("mine")
    check_free(file, overwrite=True)
    check_files(file, tmp_path / "b.csv", overwrite=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.csv", "mine")]


@pytest.mark.parametrize("name", ["free", "of[2]"])
def test_nothing_is_left_in_a_bucket(name):
    # Brackets are no pattern.
    folder = place(f"memory://{name}")
    storage.write_file(folder / "a.csv", b"mine")
    check_writable(folder / "a.csv")
    assert storage.names(folder) == {"a.csv"}
    assert storage.read_files(folder, ["a.csv"]) == {"a.csv": b"mine"}


def test_a_bucket_from_which_nothing_can_be_removed(monkeypatch, caplog):
    def refuse(_):
        raise PermissionError("for ever")

    monkeypatch.setattr(storage, "remove_file", refuse)
    check_writable(place("memory://kept/b.csv"))
    assert "cannot be removed: for ever" in caplog.text


def test_a_bucket_that_takes_nothing(monkeypatch):
    def refuse(*_):
        raise PermissionError("not yours")

    monkeypatch.setattr(storage, "write_files", refuse)
    with pytest.raises(OutputError, match=r"cannot write 'memory://.*not yours"):
        check_writable(place("memory://free/b.csv"))


@closed
@pytest.mark.parametrize(
    "arguments",
    [
        ("sweep", "a.tif", "--csv", f"{CLOSED}/x.csv"),
        ("sweep", "a.tif", "--json", "x.json", "--plot", f"{CLOSED}/x.png"),
        ("fit", "a.tif", f"{CLOSED}/x.json", "-k", "2"),
        ("compress", "a.tif", "-k", "2", "--performance-report", f"{CLOSED}/x.html"),
        ("palette", "a.tif", "--to", f"{CLOSED}/x.gpl"),
    ],
)
def test_before_the_work(tmp_path, monkeypatch, scene, write_raster, arguments):
    monkeypatch.chdir(tmp_path)
    write_raster(tmp_path / "a.tif", scene(20, 30))

    def refuse(*_):
        raise AssertionError("reads the image")

    monkeypatch.setattr(RasterioSource, "read", refuse)
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"cannot write '{CLOSED}/x." in done.stderr
    assert os.listdir() == ["a.tif"]  # noqa: PTH208  names


@closed
def test_a_plot(tmp_path, compress, scene, monkeypatch):
    image = compress(scene(20, 30), 2, tmp_path / "a.kmdask", formats=("zarr",))
    monkeypatch.setattr(
        "kmdask.plotting.compared.draw_image", lambda *_: pytest.fail("draws before it looks")
    )
    with pytest.raises(OutputError, match=f"cannot write '{CLOSED}/x.png'"):
        kmdask.open(image.path).plot(path=Path(CLOSED, "x.png"))
