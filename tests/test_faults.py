"""Kills, full disks, dead workers and damaged files: nothing is lost, nothing looks finished."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import forked
import numpy as np
import pytest
import rasterio
import zarr
from bundles import contents
from distributed import Client, LocalCluster
from forked import Forked
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

import kmdask

ROOT = Path(kmdask.__file__).parents[1]
DEADLINE = 120


def wait_for(condition, process=None):
    """Poll until there is something, and return it."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        assert process is None or process.poll() is None, "the process ended too early"
        time.sleep(0.002)
    raise AssertionError(f"nothing came in {DEADLINE} s")


def partials(folder):
    return sorted(folder.glob(".*"))


def command(*arguments):
    return [sys.executable, "-m", "kmdask", *map(str, arguments)]


@pytest.fixture(scope="module")
def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}


@pytest.fixture(scope="module")
def noise(tmp_path_factory, write_raster):
    """An image that takes a while and much space to write: 8 chunks of noise, of 512 colours."""
    pixels = np.random.default_rng(0).integers(8, size=(2048, 4096, 3), dtype=np.uint8) * 32
    path = tmp_path_factory.mktemp("source") / "noise.tif"
    return write_raster(path, pixels, tiled=True, blockxsize=512, blockysize=512)


@pytest.fixture
def old(tmp_path, scene, write_raster):
    """A finished bundle that stands where the next one is to go, and its files."""
    return old_bundle(tmp_path, scene, write_raster)


def old_bundle(folder, scene, write_raster):
    source = write_raster(folder / "old.tif", scene(30, 40))
    bundle = kmdask.compress(source, 2, folder / "out.kmdask").path
    source.unlink()
    return bundle, contents(bundle, but=())


# Killed


@pytest.mark.slow
@pytest.mark.parametrize("there", [True, False])
def test_killed_in_the_middle_of_writing(request, tmp_path, noise, there):
    bundle, before = request.getfixturevalue("old") if there else (tmp_path / "out.kmdask", None)
    arguments = command("compress", noise, bundle, "-k", 8, "-q", "--overwrite")
    with Forked(arguments) as process:
        wait_for(lambda: list(tmp_path.glob(".*/tiles_files/*/*.png")), process)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL

    assert partials(tmp_path), "it was killed while it wrote, so there is something to look at"
    for partial in partials(tmp_path):
        assert not (partial / "report.json").exists()
        with pytest.raises(kmdask.BundleError):
            kmdask.open(partial)
    visible = {path.name for path in tmp_path.glob("[!.]*")}
    if there:
        assert contents(bundle, but=()) == before
        assert kmdask.open(bundle).report.k == 2
        assert visible == {"out.kmdask"}
    else:
        assert visible == set()

    if not there:
        return
    # The next run is not disturbed by what is left.
    again = forked.run(arguments)
    assert again.returncode == 0, again.stderr
    assert kmdask.open(bundle).report.k == 8


@pytest.fixture
def interruptible():
    """Programs are started as from a keyboard, even if these tests run in the background.

    Shells have what they start there ignore interruptions, and so would what that starts.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_interrupted_from_the_keyboard(tmp_path, noise, environment, old):
    bundle, before = old
    arguments = command("compress", noise, bundle, "-k", 8, "-q", "--overwrite")
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: list(tmp_path.glob(".*/tiles_files/*/*.png")), process)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=DEADLINE)
    assert process.returncode != 0
    assert contents(bundle, but=()) == before
    assert "Traceback" not in told
    assert partials(tmp_path) == []


# No space


@pytest.fixture
def small_disk(tmp_path):
    """``small_disk(size)``: a directory on a file system of its own that holds so much."""
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if mount is None or unmount is None or os.geteuid() != 0:
        pytest.skip("only root may mount a small file system; the file size limit is tested")
    mounted = []

    def make(size):
        folder = tmp_path / "small"
        folder.mkdir()
        arguments = [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run([unmount, folder], check=True)


@pytest.fixture(scope="module")
def busy(tmp_path_factory, write_raster):
    """Noise that becomes 520 kB of zarr, 570 kB of tiles and 730 kB of preview at 16 colours."""
    pixels = np.random.default_rng(0).integers(256, size=(700, 1300, 3), dtype=np.uint8)
    return write_raster(tmp_path_factory.mktemp("source") / "busy.tif", pixels)


# With 200 kB the array does not fit, with 1,100 kB some tiles or the preview do not.
@pytest.mark.parametrize("size", ["200k", "700k", "1100k"])
def test_full_disk(small_disk, busy, scene, write_raster, size):
    folder = small_disk(size)
    bundle, before = old_bundle(folder, scene, write_raster)
    with pytest.raises(kmdask.OutputError, match="No space left"):
        kmdask.compress(busy, 16, bundle, overwrite=True)
    assert contents(bundle, but=()) == before
    assert list(folder.iterdir()) == [bundle]


def test_full_disk_while_an_image_is_copied(tmp_path, small_disk):
    # A PNG this large is copied into a temporary array first, which does not fit.
    source = tmp_path / "large.png"
    Image.new("L", (4200, 4200), 9).save(source)
    folder = small_disk("8m")
    with pytest.raises(kmdask.OutputError, match="No space left"):
        kmdask.compress(source, 2, folder / "out.kmdask")
    assert list(folder.iterdir()) == []


def test_full_disk_while_decompressing(tmp_path, small_disk, busy):
    image = kmdask.compress(busy, 16, tmp_path / "out.kmdask", formats=["zarr"])
    folder = small_disk("300k")
    done = forked.run(command("decompress", image.path, folder / "colors.tif"))
    assert done.returncode == 1, "it said that all is well"
    assert "Traceback" not in done.stderr
    assert list(folder.iterdir()) == []


LIMITED = """
import resource, sys
from kmdask.cli import main
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main()
"""


@pytest.mark.parametrize("limit", [20_000, 300_000])
def test_file_size_limit(tmp_path, busy, old, limit):
    bundle, before = old
    arguments = ["compress", busy, bundle, "-k", 16, "-q", "--overwrite"]
    done = forked.run([sys.executable, "-c", LIMITED, limit, *arguments])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: cannot write")
    assert "Traceback" not in done.stderr
    assert contents(bundle, but=()) == before
    assert list(tmp_path.iterdir()) == [bundle]


@pytest.fixture(scope="module")
def wide(tmp_path_factory, scene, write_raster):
    """An image that several tasks write."""
    path = tmp_path_factory.mktemp("source") / "wide.tif"
    return write_raster(path, scene(600, 5000, 1), tiled=True)


def test_a_write_that_comes_after_the_failure_leaves_nothing(tmp_path, monkeypatch, wide, old):
    # One task fails; another is being written meanwhile, on a cluster that goes on living.
    bundle, before = old
    real, lock, opened, gone = zarr.open_array, threading.Lock(), [], threading.Event()

    def open_array(path, *args, **kwargs):
        array = real(path, *args, **kwargs)
        if kwargs.get("mode") == "r+":
            with lock:
                opened.append(path)
                first = len(opened) == 1
            if first:
                wait_for(lambda: len(opened) > 1)
                raise OSError(errno.ENOSPC, "No space left on device")
            gone.wait(3)
        return array

    monkeypatch.setattr(zarr, "open_array", open_array)
    with (
        LocalCluster(
            processes=False, n_workers=1, threads_per_worker=4, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        with pytest.raises(kmdask.OutputError, match="No space left"):
            kmdask.compress(wide, 3, bundle, overwrite=True, client=client)
        gone.set()
        wait_for(
            lambda: not any(worker.state.executing_count for worker in cluster.workers.values())
        )
    assert contents(bundle, but=()) == before
    assert list(tmp_path.iterdir()) == [bundle]


# Workers that die


class Killer:
    """A progress that kills a worker process at the beginning of, or early in, a stage."""

    def __init__(self, cluster, stage, early):
        self.cluster, self.target, self.early = cluster, stage, early
        self.current, self.killed, self.told = None, None, []

    def connected(self, dashboard):
        pass

    @contextmanager
    def stage(self, name):
        self.current, self.told = name, []
        if not self.early:
            self.kill()
        yield
        if name in {"count", "write"}:
            assert self.told[-1] == 2048 * 4096

    def advance(self, done, total):
        self.told.append(done)
        assert self.told == sorted(self.told), "it was done, and is not any more"
        if self.early and 0 < done < total:
            self.kill()

    def note(self, text):
        pass

    def kill(self):
        if self.current == self.target and self.killed is None:
            nanny = next(nanny for nanny in self.cluster.workers.values() if nanny.pid)
            self.killed = nanny.pid
            os.kill(self.killed, signal.SIGKILL)


@pytest.fixture(scope="module")
def two_processes():
    with LocalCluster(
        processes=True,
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, noise):
    result = kmdask.compress(noise, 8, tmp_path_factory.mktemp("undisturbed") / "out.kmdask")
    return contents(result.path)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "early"), [("count", True), ("fit", False), ("write", False), ("write", True)]
)
def test_a_worker_is_killed(tmp_path, noise, undisturbed, two_processes, stage, early):
    with Client(two_processes, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=DEADLINE)
        killer = Killer(two_processes, stage, early)
        result = kmdask.compress(noise, 8, tmp_path / "out.kmdask", client=client, progress=killer)
    assert killer.killed is not None
    assert contents(result.path) == undisturbed
    assert partials(tmp_path) == []


# Damaged sources


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, scene, write_raster):
    """A TIFF that opens, and one tile of which does not decode."""
    path = tmp_path_factory.mktemp("source") / "damaged.tif"
    pixels, tile = scene(2048, 2048), {"tiled": True, "blockxsize": 512, "blockysize": 512}
    write_raster(path, pixels, compress="deflate", **tile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            offset = int(dataset.get_tag_item("BLOCK_OFFSET_1_2", "TIFF", bidx=1))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(2000))
    return path


def test_a_damaged_tile(tmp_path, damaged, old):
    bundle, before = old
    with pytest.raises(kmdask.SourceError, match=r"damaged\.tif.*rows 1024 to 2048, columns 0 to"):
        kmdask.compress(damaged, 4, bundle, overwrite=True)
    assert contents(bundle, but=()) == before
    assert list(tmp_path.iterdir()) == [bundle]


@pytest.mark.cluster
def test_a_damaged_tile_read_by_another_process(tmp_path, damaged, old, two_processes):
    bundle, before = old
    with Client(two_processes, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=DEADLINE)
        with pytest.raises(kmdask.SourceError, match="rows 1024 to 2048, columns 0 to 1024"):
            kmdask.compress(damaged, 4, bundle, overwrite=True, client=client)
    assert contents(bundle, but=()) == before
    assert list(tmp_path.iterdir()) == [bundle]


def test_a_real_damaged_file(tmp_path, real_image, old):
    bundle, before = old
    source = real_image("odd/jpeg_cog_corrupt.tif")
    with pytest.raises(kmdask.SourceError, match=r"jpeg_cog_corrupt\.tif.*rows.*columns"):
        kmdask.compress(source, 4, bundle, overwrite=True)
    assert contents(bundle, but=()) == before
    assert list(tmp_path.iterdir()) == [bundle]
