"""One door to local files and object stores: the same on both, and nothing seen half written."""

import errno
import os
import threading
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import zarr

from kmdask import places, storage
from kmdask.errors import OutputError, writing


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    """An empty folder."""
    if request.param == "local":
        path = tmp_path / "folder"
        path.mkdir()
        return path
    return places.place(f"memory://{uuid4().hex}/folder")


# Files


def test_files_there_and_back(folder):
    assert storage.names(folder) == set()
    assert storage.names(folder / "missing") == set()
    assert storage.write_files(folder, {"a": b"1", "b c": b"22"}) == 3
    assert storage.write_file(folder / "a", b"4444") == 4
    storage.make_folder(folder / "deep" / "er")
    storage.write_file(folder / "deep" / "er" / "d", b"")
    assert storage.names(folder) == {"a", "b c", "deep"}
    assert storage.read_file(folder / "a") == b"4444"
    assert storage.read_file(folder / "deep" / "er" / "d") == b""
    assert storage.size_of(folder) == 6
    assert storage.size_of(folder / "a") == 4
    assert storage.size_of(folder / "missing") == 0
    with pytest.raises(FileNotFoundError):
        storage.read_file(folder / "missing")


def test_removing(folder):
    storage.write_files(folder, {"a": b"1", "b": b"2"})
    storage.make_folder(folder / "deep")
    storage.write_file(folder / "deep" / "c", b"3")
    storage.remove(folder / "a")
    storage.remove(folder / "missing")
    assert storage.names(folder) == {"b", "deep"}
    storage.remove(folder)
    assert storage.names(folder) == set()
    assert storage.size_of(folder) == 0


def test_links_to_folders_and_to_nowhere_take_nothing(tmp_path):
    folder = tmp_path / "folder"
    (folder / "inside" / "deep").mkdir(parents=True)
    (folder / "inside" / "deep" / "file").write_bytes(b"1234")
    (folder / "other").symlink_to(folder / "inside", target_is_directory=True)
    (folder / "nowhere").symlink_to(tmp_path / "gone")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "again").symlink_to(folder / "inside" / "deep" / "file")
    assert storage.size_of(folder) == 8


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    storage.remove(tmp_path / "link")
    assert storage.names(tmp_path) == {"there"}
    assert storage.names(tmp_path / "there") == {"a"}


def test_versions(folder):
    assert storage.version_of(folder / "a") == storage.version_of(folder / "a")
    storage.write_file(folder / "a", b"1")
    before = storage.version_of(folder / "a")
    assert storage.version_of(folder / "a") == before
    storage.write_file(folder / "a", b"22")
    assert storage.version_of(folder / "a") != before


def test_versions_of_folders(tmp_path):
    storage.write_files(tmp_path, {"a": b"1", "b": b"1"})
    seen = {storage.version_of(tmp_path)}
    os.utime(tmp_path / "a", (0, 2**40))
    seen.add(storage.version_of(tmp_path))
    storage.write_file(tmp_path / "b", b"22")
    seen.add(storage.version_of(tmp_path))
    storage.remove(tmp_path / "b")
    seen.add(storage.version_of(tmp_path))
    assert len(seen) == 4


def test_a_version_that_cannot_be_told(tmp_path, monkeypatch):
    def refused(self, **_):
        raise PermissionError(self)

    monkeypatch.setattr(Path, "stat", refused)
    assert storage.version_of(tmp_path / "a") == ""


def test_written_locally(folder):
    with storage.written_locally(folder / "a") as file:
        file.write_bytes(b"1234")
    assert storage.read_file(folder / "a") == b"1234"


def test_what_is_not_written_to_the_end_does_not_become_an_object():
    folder = places.place(f"memory://{uuid4().hex}")
    with pytest.raises(ZeroDivisionError), storage.written_locally(folder / "b") as file:
        file.write_bytes(b"%d" % (1 / 0))
    assert storage.names(folder) == set()
    assert not file.parent.exists()


def test_zarr(folder):
    array = zarr.create_array(places.zarr_store(folder / "z"), shape=(4, 6), dtype="u2")
    array[...] = np.arange(24).reshape(4, 6)
    again = zarr.open_array(places.zarr_store(folder / "z"), mode="r")
    np.testing.assert_array_equal(again[...], np.arange(24).reshape(4, 6))
    assert "zarr.json" in storage.names(folder / "z")


# Whole or not at all


def test_nobody_sees_half_a_file(tmp_path):
    contents = {bytes([65 + i]) * 300_000 for i in range(2)}
    path = tmp_path / "a"
    storage.write_file(path, next(iter(contents)))
    going, seen = threading.Event(), []

    def read():
        while not going.is_set():
            seen.append(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    writers = [
        threading.Thread(target=lambda c=c: [storage.write_file(path, c) for _ in range(40)])
        for c in contents
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    going.set()
    reader.join()
    assert seen
    assert set(seen) <= contents
    assert storage.names(tmp_path) == {"a"}


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    storage.write_files(tmp_path, {"a": b"old", "b": b"old"})
    write = Path.write_bytes

    def failing(self, content):
        write(self, content[:1])
        if ".b." in self.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(OutputError, match="No space left"), writing(tmp_path):
        storage.write_files(tmp_path, {"a": b"new", "b": b"new"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "a": b"new",
        "b": b"old",
    }


def test_what_a_killed_process_was_writing_is_swept_up(tmp_path, monkeypatch):
    """Neither ours nor zarr's files are taken for anything but what they are."""

    class KilledError(BaseException):
        """Nothing that is written to clear up runs."""

    def killed(self, target):  # noqa: ARG001
        raise KilledError

    array = zarr.create_array(tmp_path / "z", shape=(4,), dtype="u1", zarr_format=2)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KilledError):
            storage.write_file(tmp_path / "a.png", b"1")
        with pytest.raises(KilledError):
            array[:] = 1
    before = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.name.endswith(".partial") for path in before) == 2
    storage.write_file(tmp_path / "b.partial-1", b"1")
    storage.sweep(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"z/.zarray", "z/.zattrs", "b.partial-1"}


def test_nothing_is_swept_up_in_an_object_store():
    folder = places.place(f"memory://{uuid4().hex}")
    storage.write_file(folder / "a.partial", b"1")
    storage.sweep(folder)
    assert storage.names(folder) == {"a.partial"}


# Errors


def test_errors_of_file_systems_become_those_of_the_system():
    class NoCredentialsError(Exception):
        """As botocore has."""

    place = places.place("memory://a")
    with pytest.raises(OSError, match="NoCredentialsError: none"), storage.reaching(place):
        raise NoCredentialsError("none")


def test_our_own_mistakes_are_not_taken_for_the_systems(tmp_path):
    with pytest.raises(ZeroDivisionError), storage.reaching(tmp_path), writing(tmp_path):
        1 / 0  # noqa: B018


def test_advice_fits_the_place(folder):
    advice = "bucket" if places.is_remote(folder) else "directory"
    with (
        pytest.raises(OutputError, match=rf"cannot write .*folder.*: why; .*{advice}"),
        writing(folder),
    ):
        raise OSError(errno.EIO, "why")
