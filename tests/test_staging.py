"""How a bundle comes to stand in its place, whole or not at all, and what a failed run leaves."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import dask.array as da
import numpy as np
import pytest
import zarr

import kmdask
from kmdask import (
    BundleError,
    ClusterError,
    Georef,
    OutputError,
    OutputExistsError,
    Palette,
    places,
    storage,
)
from kmdask.bands import Band
from kmdask.display import Display
from kmdask.fitted import Fitted
from kmdask.fitting.space import LinearSpace
from kmdask.metrics import Metrics
from kmdask.options import Options
from kmdask.pipeline import request
from kmdask.writing.receipts import DamagedReceiptError
from kmdask.writing.staging import publishing
from kmdask.writing.store import Header, read_image

REPORT = SimpleNamespace(to_json=lambda: b"{}")
RASTER = SimpleNamespace(shape=(9, 8), pixels=da.zeros((9, 8, 3), dtype=np.uint8, chunks=(4, 8, 3)))
PALETTE = Palette.from_centers(np.array([[0, 0, 0], [90, 60, 30], [250, 250, 250.0]]))
DISPLAY = Display((1, 2, 3), (0.0, 0.0, 0.1), (255.0, 1 / 3, 9.0))
FITTED = Fitted(
    palette=PALETTE,
    k=5,
    display=DISPLAY,
    masked=True,
    space=LinearSpace((0.1, 1 / 3, 2e-9), ((1.0, 0.5, -1e-9), (0.0, 1 / 7, 5.0))),
    colors=7,
    exact=False,
    peak=1 / 3,
    metrics=Metrics(0.1, (0.25, 1 / 3, 5 / 12), 1 / 3),
)
HEADER = Header(
    5,
    3,
    True,
    Georef(),
    tuple(Band(i) for i in (1, 2, 3)),
    DISPLAY.to_dict(),
)
ASKED = {"source": ["scene.tif", "1"], "k": 5}


@pytest.fixture
def local(tmp_path):
    """Where a bundle on disk is to stand."""
    return tmp_path / "a.kmdask"


@pytest.fixture
def remote():
    """Where a bundle in an object store is to stand."""
    return places.place(f"memory://{uuid4().hex}/a.kmdask")


@pytest.fixture(params=["local", "remote"])
def out(request):
    return request.getfixturevalue(request.param)


def contents(folder):
    """All that is in a folder, also hidden; empty directories are None."""
    if places.is_remote(folder):
        start = len(folder.path) + 1
        return {name[start:]: folder.fs.cat_file(name) for name in folder.fs.find(folder.path)}
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if not path.is_dir() or not any(path.iterdir())
    }


def begin(staging, fitted=FITTED):
    staging.save(fitted, HEADER, RASTER, {"open": 0.5, "count": 1.5})


def publish(out, *, overwrite=False, asked=None, error=None, early=None, resume=False, mark=b"1"):
    """Write a bundle, and raise an error before or after its palette is known, if one is given."""
    with publishing(out, overwrite=overwrite, asked=asked or ASKED, resume=resume) as staging:
        if early is not None:
            raise early
        if staging.load() is None:
            begin(staging)
        storage.write_file(staging.path / "tiles.dzi", mark)
        staging.receipts.map_blocks(
            lambda block, **_: block, da.arange(4, chunks=2), "write-tiles:3", dtype=int
        ).compute()
        if error is not None:
            raise error
        staging.finish(REPORT)


def is_finished(out):
    there = storage.names(out)
    return "report.json" in there and not {"run.json", "scratch"} & there


def left(out):
    """What is beside a bundle on disk, or where one is to be in an object store."""
    return storage.names(out) if places.is_remote(out) else storage.names(out.parent) - {out.name}


class Killed(BaseException):
    """Stands for SIGKILL: nothing that clears up is allowed to run after it."""


@pytest.fixture
def kill(monkeypatch):
    """``kill(out)``: a run that is gone after its palette was known, and what it leaves."""

    def do(out, *, early=False, **options):
        with monkeypatch.context() as patch:
            patch.setattr("kmdask.writing.staging._remove", lambda _: None)
            when = {"early" if early else "error": Killed()}
            with pytest.raises(Killed):
                publish(out, **options, **when)
        return contents(out if places.is_remote(out) else out.parent)

    return do


# All goes well


def test_a_bundle_is_there_when_the_block_ends(out):
    with publishing(out, overwrite=False) as staging:
        if not places.is_remote(out):
            assert not out.exists()
            assert staging.path.parent == out.parent
        storage.write_file(staging.path / "file", b"content")
        storage.write_file(staging.scratch / "large", b"temporary")
        staging.finish(REPORT)
    assert contents(out) == {"file": b"content", "report.json": b"{}"}
    assert left(out) == ({"file", "report.json"} if places.is_remote(out) else set())


def test_the_report_is_the_last_to_come_and_the_first_to_go(remote, monkeypatch):
    publish(remote)
    steps = []
    write, remove = storage.write_file, storage.remove
    monkeypatch.setattr(
        storage, "write_file", lambda path, *rest: (steps.append(path.name), write(path, *rest))
    )
    monkeypatch.setattr(
        storage, "remove", lambda path: (steps.append(f"-{path.name}"), remove(path))
    )
    publish(remote, overwrite=True)
    # The bundle that was there is whole until the palette of the new one is known.
    assert steps[:4] == ["-fitted.json", "-scratch", "run.json", "-report.json"]
    assert steps[-3:] == ["-scratch", "report.json", "-run.json"]


@pytest.mark.parametrize("resume", [False, True])
def test_an_old_bundle_is_replaced(out, resume):
    publish(out)
    publish(out, overwrite=True, mark=b"2", resume=resume)
    assert contents(out)["tiles.dzi"] == b"2"
    assert is_finished(out)
    assert places.is_remote(out) or left(out) == set()


@pytest.mark.parametrize("resume", [False, True])
def test_nothing_is_replaced_unasked(out, resume):
    publish(out)
    before = contents(out)
    with pytest.raises(OutputExistsError, match=r"exists already.*overwrite"):
        publish(out, resume=resume)
    assert contents(out) == before


# Errors


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, OutputError])
def test_nothing_is_left_after_an_exception(out, error):
    for when in ("early", "error"):
        with pytest.raises(error):
            publish(out, **{when: error("why")})
        assert left(out) == set()


def test_before_there_is_a_palette_nothing_is_left(out):
    for resume in (False, True):
        with pytest.raises(ClusterError, match=r"^gone$"):
            publish(out, early=ClusterError("gone"), resume=resume)
        assert left(out) == set()


@pytest.mark.parametrize("when", ["early", "error"])
def test_the_old_bundle_is_untouched_after_an_exception(local, when):
    publish(local)
    before = contents(local.parent)
    with pytest.raises(RuntimeError):
        publish(local, overwrite=True, **{when: RuntimeError()})
    assert contents(local.parent) == before


def test_the_old_bundle_is_whole_after_an_early_exception(remote):
    publish(remote)
    before = contents(remote)
    for error in (RuntimeError(), ClusterError("gone")):
        with pytest.raises(type(error)):
            publish(remote, overwrite=True, early=error, asked={"k": 9})
        assert contents(remote) == before


def test_a_replaced_bundle_is_gone_for_good_after_a_late_exception(remote):
    publish(remote)
    with pytest.raises(RuntimeError):
        publish(remote, overwrite=True, error=RuntimeError())
    assert contents(remote) == {}


def test_an_old_bundle_that_cannot_be_removed_is_still_whole(remote, monkeypatch):
    publish(remote)
    before = contents(remote)
    remove = storage.remove

    def refused(path):
        if path.name == "report.json":
            raise PermissionError(errno.EACCES, "Permission denied")
        remove(path)

    monkeypatch.setattr(storage, "remove", refused)
    with pytest.raises(OutputError, match="Permission denied"):
        publish(remote, overwrite=True)
    assert contents(remote) == before


@pytest.mark.parametrize(
    ("error", "resume"),
    [(ClusterError("gone"), False), (OutputError("full"), True), (KeyboardInterrupt(), True)],
)
def test_what_can_be_gone_on_from_is_kept(out, caplog, error, resume):
    with pytest.raises(type(error)) as caught:
        publish(out, error=error, resume=resume)
    told = str(caught.value) if isinstance(error, kmdask.KmdaskError) else caplog.text
    assert "resume=True (--resume) goes on from there" in told
    assert left(out)
    publish(out, resume=True, mark=b"2")
    assert contents(out)["tiles.dzi"] == b"2"
    assert is_finished(out)


def test_a_run_that_goes_on_and_fails_early_keeps_what_there_is(out, kill):
    kill(out)
    for error in (ClusterError("no workers"), RuntimeError()):
        with pytest.raises(type(error)):
            publish(out, early=error, resume=True)
    with publishing(out, overwrite=False, asked=ASKED, resume=True) as staging:
        assert staging.load() is not None
        assert len(staging.receipts.there) == 2
        staging.finish(REPORT)


# Going on


def test_what_a_run_goes_on_from(out, kill):
    kill(out)
    with publishing(out, overwrite=False, asked=ASKED, resume=True) as staging:
        fitted = staging.load()
        assert fitted.palette == FITTED.palette
        np.testing.assert_array_equal(fitted.space.matrix, FITTED.space.matrix)
        assert fitted.to_dict() == FITTED.to_dict()
        assert fitted.display == DISPLAY
        assert staging.chunk == (4, 8)
        assert staging.seconds == {"open": 0.5, "count": 1.5}
        # Written again it would be torn from under tasks that go on.
        before = contents(staging.path / "image.zarr")
        begin(staging)
        assert contents(staging.path / "image.zarr") == before
        staging.finish(REPORT)
    assert is_finished(out)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_with_other_options_does_not_go_on(out, kill, resume):
    kill(out)
    options = {"asked": ASKED | {"k": 6}, "resume": resume}
    if places.is_remote(out):
        with pytest.raises(OutputExistsError, match=r"half written.*resume=True.*overwrite=True"):
            publish(out, **options)
    with publishing(out, overwrite=places.is_remote(out), **options) as staging:
        assert staging.load() is None
        assert staging.chunk is None
        assert staging.receipts.there == frozenset()
        assert storage.names(staging.path) == {"run.json"} | (
            set() if places.is_remote(out) else {"scratch"}
        )
        begin(staging)
        assert staging.receipts.there == frozenset()
        staging.finish(REPORT)
    assert is_finished(out)


def test_without_resume_a_run_on_disk_leaves_the_other_alone(local, kill, caplog):
    before = kill(local)
    with caplog.at_level(logging.WARNING):
        publish(local)
    assert "was left by a run that is still going or was cut off" in caplog.text
    (partial,) = left(local)
    kept = {name.removeprefix(f"{partial}/"): what for name, what in before.items()}
    assert contents(local.parent / partial) == kept


def test_the_newest_that_was_asked_the_same_is_gone_on_from(local, kill):
    kill(local, mark=b"old")
    (old,) = local.parent.iterdir()
    os.utime(old, (0, 0))
    kill(local, mark=b"new")
    kill(local, mark=b"other", asked={"k": 6})
    with publishing(local, overwrite=False, asked=ASKED, resume=True) as staging:
        assert (staging.path / "tiles.dzi").read_bytes() == b"new"
        staging.finish(REPORT)
    assert old.name in left(local)


@pytest.mark.parametrize("overwrite", [False, True])
def test_cut_off_before_the_palette(out, kill, overwrite):
    kill(out, early=True)
    if places.is_remote(out):
        with pytest.raises(OutputExistsError, match="half written"):
            publish(out)
    publish(out, resume=not overwrite, overwrite=overwrite)
    assert is_finished(out)


def test_cut_off_before_the_palette_over_an_old_bundle(remote, kill):
    publish(remote)
    before = contents(remote)
    there = kill(remote, early=True, overwrite=True)
    assert there.items() >= before.items()
    assert {name.partition("/")[0] for name in there.keys() - before} == {"run.json"}
    with pytest.raises(OutputExistsError, match="exists already"):
        publish(remote, resume=True)
    publish(remote, overwrite=True, mark=b"2")
    assert contents(remote) == before | {"tiles.dzi": b"2"}


@pytest.fixture
def cut_off(monkeypatch):
    """``cut_off(n, out)``: a run that is gone after n changes of the store; True if it ended."""
    write, remove = storage.write_files, storage.remove

    def run(n, out, **options):
        counted = iter(range(n))

        def step(change):
            def changed(*arguments):
                if next(counted, None) is None:
                    raise Killed
                return change(*arguments)

            return changed

        with monkeypatch.context() as patch:
            patch.setattr(storage, "write_files", step(write))
            patch.setattr(storage, "remove", step(remove))
            patch.setattr("kmdask.writing.staging._remove", lambda _: None)
            try:
                publish(out, **options)
            except Killed:
                return False
        return True

    return run


@pytest.mark.parametrize(
    "then", [{"asked": {"k": 6}, "overwrite": True}, {"resume": True, "overwrite": True}]
)
def test_cut_off_anywhere_and_begun_anew(remote, cut_off, then):
    # Another run that is asked something else replaces it, and one that is asked the same goes on.
    publish(remote)
    expected = contents(remote)
    for n in range(100):
        storage.remove(remote)
        publish(remote, asked={"k": 7}, mark=b"old")
        before = contents(remote)
        if done := cut_off(n, remote, overwrite=True):
            break
        there = contents(remote)
        finished = "report.json" in there
        # It says that it is whole only if it is: the old bundle or the new one.
        assert finished <= (there.items() >= before.items() or there.items() >= expected.items())
        publish(remote, **then)
        assert contents(remote) == expected
    assert done
    assert contents(remote) == expected
    assert n > 8


# Damage


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"fields": {}}', None])
@pytest.mark.parametrize("name", ["run.json", "scratch/fitted.json"])
def test_a_damaged_account_is_not_gone_on_from(local, kill, name, content):
    kill(local)
    (partial,) = local.parent.iterdir()
    before = (partial / name).read_bytes()
    (partial / name).write_bytes(before.replace(b"5", b"6") if content is None else content)
    with publishing(local, overwrite=False, asked=ASKED, resume=True) as staging:
        assert staging.load() is None
        assert staging.path != partial
        begin(staging)
        staging.finish(REPORT)
    assert is_finished(local)


def test_a_damaged_palette_is_not_gone_on_from(out, kill, caplog):
    kill(out)
    path = out if places.is_remote(out) else next(out.parent.iterdir())
    storage.write_file(path / "image.zarr" / "palette" / "0" / "0", b"1234567890")
    with publishing(out, overwrite=False, asked=ASKED, resume=True) as staging:
        assert staging.load() is None
        assert staging.receipts.there == frozenset()
        begin(staging)
        staging.finish(REPORT)
    assert "cannot be gone on from" in caplog.text
    np.testing.assert_array_equal(read_image(out)[1].colors, PALETTE.colors)


@pytest.mark.parametrize("damage", ["empty", "cut", "a bit"])
def test_a_damaged_receipt_ends_it(out, kill, damage):
    kill(out)
    path = out if places.is_remote(out) else next(out.parent.iterdir())
    (folder,) = (name for name in storage.names(path / "scratch") if name.startswith("receipts-"))
    receipt = path / "scratch" / folder / "write-tiles-3-1.npy"
    content = bytearray(storage.read_file(receipt))
    content[-10] ^= 1
    storage.write_file(receipt, {"empty": b"", "cut": content[:-9]}.get(damage, bytes(content)))
    with pytest.raises(DamagedReceiptError, match=r"write-tiles-3-1\.npy.*run again"):
        publish(out, resume=True)
    assert left(out) == set()
    publish(out, resume=True)


# Two at once


def test_two_runs_at_once_the_later_one_wins(out):
    first = publishing(out, overwrite=False, asked=ASKED)
    begun = first.__enter__()
    begin(begun)
    with publishing(out, overwrite=False, asked=ASKED, resume=True) as second:
        assert second.path == begun.path
        second.receipts.map_blocks(
            lambda block, **_: block, da.arange(2, chunks=1), "keep", dtype=int
        ).compute()
        with pytest.raises(OutputError, match="another run began to write") as caught:
            begun.finish(REPORT)
        assert first.__exit__(OutputError, caught.value, None) is not True
        second.finish(REPORT)
    assert is_finished(out)
    assert places.is_remote(out) or left(out) == set()


@pytest.mark.parametrize("error", [RuntimeError("why"), ClusterError("gone")])
def test_the_first_does_not_take_what_the_second_goes_on_from(out, error):
    def fail():
        with publishing(out, overwrite=False, asked=ASKED) as first:
            begin(first)
            second = publishing(out, overwrite=False, asked=ASKED, resume=True)
            others.extend([second, second.__enter__()])
            raise error

    others = []
    with pytest.raises(type(error)):
        fail()
    second, staging = others
    assert storage.names(staging.path) == {"image.zarr", "run.json", "scratch"}
    assert staging.load() is not None
    staging.finish(REPORT)
    second.__exit__(None, None, None)
    assert is_finished(out)


def test_two_runs_on_disk_that_are_asked_different_things(local):
    with publishing(local, overwrite=True, asked={"k": 7}) as first:
        publish(local)
        begin(first)
        first.finish(REPORT)
    assert is_finished(local)
    assert left(local) == set()


# What stands there


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_foreign_in_an_object_store(remote, overwrite):
    storage.write_file(remote / "thesis.txt", b"content")
    storage.write_file(remote / "report.json", b"{}")
    with pytest.raises(OutputExistsError, match=r"no kmdask bundle.*not overwritten"):
        publish(remote, overwrite=overwrite, resume=True)
    assert storage.names(remote) == {"thesis.txt", "report.json"}


def test_an_object_in_the_way(remote):
    storage.write_file(remote, b"content")
    with pytest.raises(OutputExistsError, match=r"no kmdask bundle.*not overwritten"):
        publish(remote, overwrite=True)
    assert storage.read_file(remote) == b"content"


def test_a_half_written_bundle_is_not_opened(out, kill):
    kill(out)
    path = out if places.is_remote(out) else next(out.parent.iterdir())
    with pytest.raises(BundleError, match=r"not finished.*resume=True \(--resume\)"):
        kmdask.open(str(path))
    if not places.is_remote(out):
        with pytest.raises(BundleError, match="no kmdask bundle"):
            kmdask.open(out)


# What was asked


OPTIONS = Options(k=5, seed=0)


def test_the_same_request(tmp_path):
    path = tmp_path / "scene.tif"
    path.write_bytes(b"1")
    asked = [request(path, OPTIONS, None), request(str(path), Options(k=5, seed=0), None)]
    assert asked[0] == asked[1] == json.loads(json.dumps(asked[0]))
    array = np.arange(12).reshape(3, 4)
    assert request(array, OPTIONS, None) == request(array.copy(), OPTIONS, None)


def test_another_request(tmp_path):
    path = tmp_path / "scene.tif"
    path.write_bytes(b"1")
    asked = [request(path, OPTIONS, None), request(path, Options(k=5, seed=1), None)]
    os.utime(path, (0, 0))
    asked.append(request(path, OPTIONS, None))
    path.write_bytes(b"22")
    os.utime(path, (0, 0))
    asked.append(request(path, OPTIONS, None))
    asked.append(request(path, Options(k=5, seed=0, formats=("zarr",)), None))
    asked.append(request(path, OPTIONS, kmdask.KMeans(n_clusters=5)))
    asked.append(request(np.zeros((2, 2)), OPTIONS, None))
    asked.append(request(np.ones((2, 2)), OPTIONS, None))
    assert len({json.dumps(one, sort_keys=True) for one in asked}) == 8


# On disk


def test_the_old_bundle_is_put_back_when_the_new_one_cannot_be_renamed(local, monkeypatch):
    publish(local)
    before = contents(local.parent)
    rename = Path.rename

    def failing(self, target):
        if ".partial-" in self.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="No space left"):
        publish(local, overwrite=True)
    assert contents(local.parent) == before


def test_what_came_meanwhile_is_not_replaced(local):
    with pytest.raises(OutputExistsError), publishing(local, overwrite=False):
        local.write_text("content")
    assert contents(local.parent) == {"a.kmdask": b"content"}


@pytest.mark.parametrize("kind", ["file", "directory", "empty directory", "dangling link"])
def test_only_bundles_are_overwritten(tmp_path, kind):
    out = tmp_path / "precious"
    if kind == "file":
        out.write_text("content")
    elif kind == "dangling link":
        out.symlink_to(tmp_path / "nowhere")
    else:
        out.mkdir()
        if kind == "directory":
            (out / "image.zarr").mkdir()
            (out / "image.zarr" / "thesis.txt").write_text("content")
    before = contents(tmp_path)
    with (
        pytest.raises(OutputExistsError, match=r"no kmdask bundle.*not overwritten"),
        publishing(out, overwrite=True),
    ):
        pytest.fail("the block must not run")
    assert contents(tmp_path) == before
    assert os.path.lexists(out)


def test_another_zarr_group_is_no_bundle(tmp_path):
    out = tmp_path / "precious"
    zarr.create_group(out / "image.zarr", attributes={"mine": True})
    with pytest.raises(OutputExistsError), publishing(out, overwrite=True):
        pass
    assert zarr.open_group(out / "image.zarr", mode="r").attrs["mine"]


def test_a_link_to_a_bundle_leaves_no_litter(local):
    publish(local)
    link = local.with_name("link.kmdask")
    link.symlink_to(local)
    publish(link, overwrite=True, mark=b"2")
    assert (link / "tiles.dzi").read_bytes() == b"2"
    assert {path.name for path in local.parent.iterdir()} == {"a.kmdask", "link.kmdask"}


@pytest.mark.parametrize("parent", ["missing", "file"])
def test_where_nothing_can_be_written(tmp_path, parent):
    (tmp_path / "file").write_text("content")
    out = tmp_path / parent / "a.kmdask"
    with (
        pytest.raises(OutputError, match=r"cannot write .*a\.kmdask.*choose an output"),
        publishing(out, overwrite=False),
    ):
        pytest.fail("the block must not run")
    assert contents(tmp_path) == {"file": b"content"}


@pytest.mark.parametrize("name", ["a[1]*?.kmdask", "a**b.kmdask", "with space é.kmdask"])
def test_names_that_are_patterns(tmp_path, name):
    with publishing(tmp_path / name, overwrite=False) as staging:
        (staging.path / "file").write_text("content")
    assert (tmp_path / name / "file").read_text() == "content"
