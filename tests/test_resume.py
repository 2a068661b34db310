"""A run that was cut off is gone on with: the same bytes, nothing that is finished done again."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
import pytest
from bundles import contents
from distributed import Client, SchedulerPlugin
from distributed.utils import key_split
from forked import Forked
from PIL import Image

import kmdask
from kmdask import storage
from kmdask.progress import Silent
from kmdask.writing import cog, levels

DEADLINE = 120
ALL = ("zarr", "tiles", "cog")


def partials(folder):
    return sorted(folder.glob(".*"))


def wait_for(condition, process=None):
    """Poll until there is something, and return it."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if found := condition():
            return found
        assert process is None or process.poll() is None, "the process ended too early"
        time.sleep(0.002)
    raise AssertionError(f"nothing came in {DEADLINE} s")


class Counts(SchedulerPlugin):
    """Counts the tasks that workers are given, by the names that the dashboard shows."""

    name = "counts"

    def __init__(self):
        self.seen = Counter()

    def transition(self, key, start, finish, *args, **kwargs):  # noqa: ARG002  distributed's
        if finish == "processing":
            self.seen[key_split(key)] += 1

    def since(self):
        """Counts since this was last asked."""
        seen, self.seen = self.seen, Counter()
        return seen


@pytest.fixture(autouse=True)
def halves_are_kept(monkeypatch):
    """Keep them as of a large image, in this process."""
    monkeypatch.setattr(levels, "FEW", 0)


@pytest.fixture(scope="module")
def threads(client):
    """A client of a cluster in this process, and what counts its tasks."""
    counts = Counts()
    client.cluster.scheduler.add_plugin(counts)
    return client, counts


@pytest.fixture(scope="module")
def sources(tmp_path_factory, scene, holes, write_raster):
    """What is compressed, and how: of every kind a few chunks, of few colours."""
    folder = tmp_path_factory.mktemp("source")
    rgb = write_raster(folder / "rgb.tif", scene(700, 1100) & 0xF0, tiled=True)
    valid = holes(300, 1100)
    deep = (scene(300, 1100, 5) & 0xF0).astype(np.uint16) * 37
    deep[~valid] = 0
    deep = write_raster(folder / "deep.tif", deep, tiled=True, nodata=0)
    picture = folder / "picture.png"
    Image.fromarray(scene(4200, 4200, 1)[:, :, 0]).save(picture, compress_level=1)
    grey = da.from_array(scene(700, 1100, 1), chunks=(512, 512, 1))
    return {
        "rgb": (rgb, {"k": 9, "formats": ALL}),
        "deep": (deep, {"k": 20, "formats": ALL, "scale": "std", "nodata": 0}),
        "png": (picture, {"k": 4, "formats": ("zarr",)}),
        "array": (grey, {"k": 6, "formats": ALL, "codec": "bz2"}),
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory, sources, threads):
    """``expected(kind)``: what an undisturbed run writes, its report, and the tasks it took."""
    client, counts = threads
    made = {}

    def make(kind):
        if kind not in made:
            source, options = sources[kind]
            counts.since()
            result = kmdask.compress(
                source, out=tmp_path_factory.mktemp(kind) / "a.kmdask", client=client, **options
            )
            made[kind] = contents(result.path), result.report, counts.since()
        return made[kind]

    return make


class BrokenError(OSError):
    """What a store says that has gone away."""


@contextmanager
def breaking(monkeypatch, n, has=""):
    """Fail from the n-th write on; only those count that have something in their path."""
    write, left = storage.write_files, [n]

    def failing(folder, files):
        if any(has in str(folder / name) for name in files):
            left[0] -= 1
        if left[0] < 0:
            raise BrokenError(5, "Input/output error")
        return write(folder, files)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_files", failing)
        yield


def receipts(folder):
    """Names of the receipts that a run has left, by stage."""
    (partial,) = partials(folder)
    return Counter(
        path.stem.partition("-0")[0].rstrip("-0123456789")
        for path in (partial / "scratch").glob("receipts-*/*")
    )


def cut_off(monkeypatch, out, source, options, n, client, has="receipts"):
    with (
        breaking(monkeypatch, n, has),
        pytest.raises(kmdask.OutputError, match=r"Input/output.*\(--resume\) goes on from there"),
    ):
        kmdask.compress(source, out=out, resume=True, client=client, **options)


@pytest.mark.parametrize("kind", ["rgb", "deep", "array", "png"])
def test_what_is_finished_is_not_done_again(
    tmp_path, monkeypatch, sources, expected, threads, kind
):
    client, counts = threads
    source, options = sources[kind]
    files, report, undisturbed = expected(kind)
    out = tmp_path / "a.kmdask"
    written = sum(n for name, n in undisturbed.items() if name.startswith(("write", "measure")))
    cut_off(monkeypatch, out, source, options, max(1, written // 2), client)
    there = receipts(tmp_path)
    assert sum(there.values()) >= max(1, written // 2)

    counts.since()
    result = kmdask.compress(source, out=out, resume=True, client=client, **options)
    again = counts.since()
    assert contents(result.path) == files
    for name in ("mse", "psnr", "peak", "shares", "valid_pixels", "colors", "k_used", "sizes"):
        assert getattr(result.report, name) == getattr(report, name)
    assert result.report.seconds.keys() >= {"open", "count", "fit", "write"}
    assert partials(tmp_path) == []

    # The palette is not fitted again, and each receipt stands for a task that is not run.
    assert not {"count", "gather", "merge-colors", "lloyd", "lloyd-step", "seed"} & again.keys()
    for name in ("write-zarr", "write-tiles", "write-cog", "write-preview"):
        assert again[name] == undisturbed[name] - there[name]
    assert again["read"] <= undisturbed["read"], "the first run has kept what it read"


@pytest.mark.parametrize("kind", ["rgb", "deep"])
def test_all_is_written_but_the_geotiff(tmp_path, monkeypatch, sources, expected, threads, kind):
    client, counts = threads
    source, options = sources[kind]
    out = tmp_path / "a.kmdask"

    def failing(path, *_):
        assert path.stat().st_size > 1000
        raise BrokenError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(cog, "_point_at_tiles", failing)
        with pytest.raises(kmdask.OutputError, match="Input/output"):
            kmdask.compress(source, out=out, resume=True, client=client, **options)
    counts.since()
    result = kmdask.compress(source, out=out, resume=True, client=client, **options)
    assert contents(result.path) == expected(kind)[0]
    again = counts.since()
    assert not [name for name in again if name.startswith(("read", "write", "encode", "halve"))]


def test_cut_off_at_every_write(tmp_path, monkeypatch, scene, write_raster, threads):
    client, _ = threads
    source = write_raster(tmp_path / "a.tif", scene(520, 600, 1), tiled=True)
    options = {"k": 5, "formats": ALL}
    expected = kmdask.compress(source, out=tmp_path / "b.kmdask", client=client, **options)
    before = {"run.json", "fitted.json"}
    halves = 0
    for n in range(200):
        out = tmp_path / f"{n}" / "a.kmdask"
        out.parent.mkdir()
        try:
            with breaking(monkeypatch, n):
                kmdask.compress(source, out=out, resume=True, client=client, **options)
            break
        except kmdask.OutputError:
            # Until the palette is safe there is nothing to go on from.
            assert len(partials(out.parent)) == (n >= len(before))
            halves += len(list(out.parent.rglob("halve-*.npy")))
        result = kmdask.compress(source, out=out, resume=True, client=client, **options)
        assert contents(result.path) == contents(expected.path)
    assert n > 20
    assert halves > 5


def test_cut_off_again_and_again(tmp_path, monkeypatch, sources, expected, threads):
    client, _ = threads
    source, options = sources["deep"]
    rng = np.random.default_rng(0)
    out = tmp_path / "a.kmdask"
    for _attempt in range(60):
        try:
            with breaking(monkeypatch, int(rng.integers(3, 12))):
                result = kmdask.compress(source, out=out, resume=True, client=client, **options)
            break
        except kmdask.OutputError:
            assert len(partials(tmp_path)) == 1
    assert contents(result.path) == expected("deep")[0]
    assert result.report.mse == expected("deep")[1].mse
    assert _attempt > 3


def test_interrupted(tmp_path, sources, expected, threads):
    class Impatient(Silent):
        def advance(self, done, total):
            if self.current == "write" and done > total // 3:
                raise KeyboardInterrupt

        @contextmanager
        def stage(self, name):
            self.current = name
            yield

    client, counts = threads
    source, options = sources["rgb"]
    out = tmp_path / "a.kmdask"
    with pytest.raises(KeyboardInterrupt):
        kmdask.compress(
            source, out=out, resume=True, client=client, progress=Impatient(), **options
        )
    assert len(partials(tmp_path)) == 1
    counts.since()
    result = kmdask.compress(source, out=out, resume=True, client=client, **options)
    assert contents(result.path) == expected("rgb")[0]
    assert "count" not in counts.since()


@pytest.mark.parametrize("change", ["source", "option", "array"])
def test_what_is_not_the_same_is_not_gone_on_with(
    tmp_path, monkeypatch, scene, write_raster, threads, change
):
    client, _ = threads
    path, pixels = tmp_path / "a.tif", scene(520, 600, 1)
    source = da.from_array(pixels, chunks=512) if change == "array" else write_raster(path, pixels)
    options = {"k": 5, "formats": ("zarr",)}
    out = tmp_path / "a.kmdask"
    cut_off(monkeypatch, out, source, options, 1, client)
    if change == "source":
        write_raster(path, 255 - pixels)
    elif change == "array":
        source = da.from_array(255 - pixels, chunks=512)
    else:
        options["seed"] = 1
    fresh = kmdask.compress(source, out=tmp_path / "b.kmdask", client=client, **options)
    result = kmdask.compress(source, out=out, resume=True, client=client, **options)
    assert contents(result.path) == contents(fresh.path)
    assert len(partials(tmp_path)) == 1


# Processes that are gone


@pytest.fixture(scope="module")
def large(tmp_path_factory, write_raster):
    """An image that takes a while to write, and what an undisturbed run makes of it."""
    folder = tmp_path_factory.mktemp("large")
    pixels = np.random.default_rng(0).integers(64, size=(2048, 4096, 3), dtype=np.uint8)
    path = write_raster(folder / "a.tif", pixels, tiled=True, blockxsize=512, blockysize=512)
    return path, contents(kmdask.compress(path, 8, folder / "a.kmdask").path)


@pytest.mark.slow
def test_the_client_is_killed(tmp_path, large):
    source, files = large
    bundle = tmp_path / "a.kmdask"
    command = [sys.executable, "-m", "kmdask", "compress", source, bundle, "-k", "8", "-q"]
    with Forked(command) as process:
        wait_for(lambda: list(tmp_path.glob(".*/scratch/receipts-*/write-tiles-*")), process)
        process.send_signal(signal.SIGKILL)
    (partial,) = partials(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in partial.rglob("receipts-*/*.npy")}
    palette = (partial / "image.zarr" / "palette" / "0" / "0").stat().st_mtime_ns
    assert before
    assert Forked([*command, "--resume"]).wait() == 0
    assert contents(bundle) == files
    assert partials(tmp_path) == []
    assert (bundle / "image.zarr" / "palette" / "0" / "0").stat().st_mtime_ns == palette
    for level, row, column in (path.stem.split("-")[2:] for path in before if "tiles" in path.stem):
        wide = 2 if level == "12" else 1  # Chunks of 1024 pixels, of other levels half as wide.
        name = f"{wide * int(column)}_{wide * int(row)}.png"
        tile = bundle / "tiles_files" / level / name
        assert not tile.exists() or tile.stat().st_mtime_ns <= max(before.values())


@contextmanager
def cluster_of_processes(folder, workers):
    """A scheduler and workers as they are started by hand; gives the scheduler and its address."""
    file = folder / "scheduler.json"
    environment = os.environ | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"}
    dask_command = [sys.executable, "-m", "dask"]
    scheduler = [*dask_command, "scheduler", "--port", "0", "--scheduler-file", file]
    where = ["--host", "127.0.0.1", "--no-dashboard"]
    alone = ["--no-nanny", "--nthreads", "1", "--local-directory", folder]
    options = {"env": environment, "stderr": os.devnull}
    processes = [Forked([*scheduler, *where], **options)]
    try:
        wait_for(file.exists, processes[0])
        processes += [
            Forked([*dask_command, "worker", *where, *alone, "--scheduler-file", file], **options)
            for _ in range(workers)
        ]
        yield processes[0], str(file)
    finally:
        for process in processes:
            process.kill()
            process.wait()


class Killer(Silent):
    """A progress that kills a process early in the stage that writes."""

    def __init__(self, process):
        self.process, self.current = process, None

    @contextmanager
    def stage(self, name):
        self.current = name
        yield

    def advance(self, done, total):
        if self.current == "write" and done > total // 4 and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(200)
def test_the_scheduler_is_killed(tmp_path, large):
    source, files = large
    bundle, (first, second) = tmp_path / "a.kmdask", (tmp_path / "1", tmp_path / "2")
    first.mkdir()
    second.mkdir()
    with cluster_of_processes(first, 2) as (scheduler, address):
        with Client(scheduler_file=address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=DEADLINE)
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "5s"}),
            pytest.raises(kmdask.ClusterError, match=r"was lost.*resume=True \(--resume\)"),
        ):
            kmdask.compress(source, 8, bundle, client=address, progress=Killer(scheduler))
    assert scheduler.returncode == -signal.SIGKILL
    (partial,) = partials(tmp_path)
    finished = len(list((partial / "scratch").glob("receipts-*/*")))
    assert finished > 0

    with (
        cluster_of_processes(second, 1) as (_, address),
        Client(scheduler_file=address, set_as_default=False) as client,
    ):
        # What is counted on the scheduler is all that its only worker did.
        result = kmdask.compress(source, 8, bundle, client=client, resume=True)
        done = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.task_prefixes))
    assert contents(result.path) == files
    assert partials(tmp_path) == []
    assert "count" not in done
