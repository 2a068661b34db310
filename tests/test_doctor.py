"""What is looked at before a run: every worker's kmdask, its view of the source and the output."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

import forked
import numpy as np
import pytest
from click.testing import CliRunner
from distributed import Client, LocalCluster

import kmdask
from kmdask.cli import main
from kmdask.connecting import doctor
from kmdask.connecting.dashboards import OnDemand
from kmdask.connecting.doctor import examine
from kmdask.connecting.machines import check_disk
from kmdask.connecting.probes import Seen
from kmdask.reading.sources import find_source, open_dataset

pytestmark = pytest.mark.cluster

DEADLINE = 60

HIDDEN = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "kmdask":
            raise ModuleNotFoundError("No module named 'kmdask'", name="kmdask")

sys.meta_path.insert(0, Hidden())
"""
OLDER = "import kmdask\nkmdask.__version__ = '0.0.1'\n"


@pytest.fixture(scope="module")
def scheduler():
    """A scheduler in this process that workers elsewhere can join."""
    with LocalCluster(
        n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0", processes=True
    ) as cluster:
        yield cluster


@pytest.fixture
def join(tmp_path, start, scheduler):
    """``join(*arguments, preload="", before=None)``: the address of a worker that has joined."""

    def run(*arguments, preload="", before=None):
        known = set(scheduler.scheduler.workers)
        if preload:
            file = tmp_path / "workplace" / "preload.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(preload)
            arguments = [*arguments, "--preload", file]
        if preload == HIDDEN:  # it must not be there already
            before = before or ()
        process = start("worker", scheduler.scheduler_address, *arguments, before=before)
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end and process.poll() is None:
            if joined := set(scheduler.scheduler.workers) - known:
                return joined.pop()
            time.sleep(0.02)
        raise AssertionError(f"no worker joined: {process.poll()}")

    yield run
    assert not scheduler.scheduler.tasks


@pytest.fixture
def source(tmp_path, scene):
    """An image in a folder of its own, beside which nothing else may come to lie."""
    folder = tmp_path / "data"
    folder.mkdir()
    np.save(folder / "scene.npy", scene(300, 400))
    return folder / "scene.npy"


@pytest.fixture
def elsewhere():
    """``elsewhere(what, folder)``: a command line that mounts something on a folder, for itself."""
    mounts = {
        "empty": 'mount -t tmpfs tmpfs "$0" && exec "$@"',
        "read-only": 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"',
    }
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("only root may give a process mounts of its own")
    probe = subprocess.run([unshare, "-m", "true"], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip("mounting is not permitted here")
    return lambda what, folder: [unshare, "-m", "sh", "-c", mounts[what], str(folder)]


def left(source):
    return [path for path in source.parent.iterdir() if path != source]


def states(checks):
    return {check.name: check.state for check in checks}


def texts(checks):
    return {check.name: check.text for check in checks}


# kmdask itself


@pytest.mark.parametrize(
    ("preload", "told"), [(HIDDEN, "has no kmdask"), (OLDER, "has kmdask 0.0.1, and this machine")]
)
def test_a_worker_with_another_kmdask(source, scheduler, join, preload, told):
    join()
    bad = join(preload=preload)
    with pytest.raises(kmdask.ClusterError, match=rf"worker {bad} \(host .*\) {told}") as caught:
        kmdask.compress(source, 4, client=scheduler.scheduler_address)
    assert f"install kmdask {kmdask.__version__}" in str(caught.value)
    assert left(source) == []
    checks = examine(source, source.with_suffix(".kmdask"), client=scheduler.scheduler_address)
    assert states(checks)["kmdask"] == "fail"
    assert bad in texts(checks)["kmdask"]
    assert "output, from workers" not in states(checks), "it could not be asked"


def test_a_scheduler_without_kmdask(tmp_path, source, start):
    file = tmp_path / "scheduler.json"
    (tmp_path / "preload.py").write_text(HIDDEN)
    start("scheduler", "--scheduler-file", file, "--preload", tmp_path / "preload.py", before=())
    end = time.monotonic() + DEADLINE
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.02)
    start("worker", "--scheduler-file", file)
    with pytest.raises(kmdask.ClusterError, match=r"scheduler tcp://.* has no kmdask"):
        kmdask.compress(source, 4, client=str(file))
    assert left(source) == []


class Late:
    """A progress that lets a worker join when a stage begins."""

    def __init__(self, join):
        self.join, self.joined = join, None

    def connected(self, dashboard):
        pass

    @contextmanager
    def stage(self, name):
        if name == "count":
            self.joined = self.join()
        yield

    def advance(self, done, total):
        pass

    def note(self, text):
        pass


def test_an_error_that_another_kmdask_may_be_the_cause_of(scheduler, join):
    bad = join(preload=OLDER)
    with (
        pytest.raises(kmdask.ClusterError, match=r"has kmdask 0\.0\.1") as caught,
        kmdask.connect(scheduler.scheduler_address),
    ):
        raise AttributeError("Can't get attribute 'of_today'")  # as unpickling raises
    assert bad in str(caught.value)
    assert isinstance(caught.value.__cause__, AttributeError)


def test_a_worker_without_kmdask_that_joins_late(source, scheduler, join):
    # It ends at its first task, which another one then does.
    join()
    late = Late(lambda: join(preload=HIDDEN))
    result = kmdask.compress(source, 4, client=scheduler.scheduler_address, progress=late)
    assert late.joined is not None
    assert len(result.palette) == 4


STUCK = """
import time
import kmdask.connecting.probes as probes

def dask_setup(worker):
    probes.stored_bytes = lambda source: time.sleep(2)
"""


def test_a_worker_whose_file_system_does_not_answer(tmp_path, monkeypatch, source, scheduler, join):
    monkeypatch.setattr("kmdask.connecting.checks.PATIENCE", 0.5)
    bad = join(preload=STUCK)
    told = rf"^worker {bad} .* got no answer from a file system in 0\.5 s"
    with pytest.raises(kmdask.ClusterError, match=told):
        kmdask.compress(source, 4, tmp_path / "o.kmdask", client=scheduler.scheduler_address)
    assert not (tmp_path / "o.kmdask").exists()
    checks = examine(source, client=scheduler.scheduler_address)
    assert [check.name for check in checks if check.state == "fail"] == ["workers"]


# The source and the output


@pytest.mark.parametrize("what", ["empty", "read-only"])
def test_a_worker_that_cannot_write(tmp_path, source, scheduler, join, elsewhere, what):
    join()
    results = tmp_path / "results"
    results.mkdir()
    bad = join(before=elsewhere(what, results))
    told = {"empty": "does not see what this machine writes for", "read-only": "cannot write"}[what]
    with pytest.raises(kmdask.OutputError, match=rf"^worker {bad} \(host .*\) {told}"):
        kmdask.compress(source, 4, results / "o.kmdask", client=scheduler.scheduler_address)
    assert list(results.iterdir()) == []
    checks = examine(source, results / "o.kmdask", client=scheduler.scheduler_address)
    failed = [check for check in checks if check.state == "fail"]
    assert [check.name for check in failed] == ["output, from workers"]
    assert failed[0].text.startswith(f"worker {bad} (host ")
    assert list(results.iterdir()) == []


def test_a_worker_that_does_not_see_the_source(tmp_path, source, scheduler, join, elsewhere):
    join()
    bad = join(before=elsewhere("empty", source.parent))
    with pytest.raises(kmdask.SourceError, match=rf"^worker {bad} .* does not see '.*scene\.npy'"):
        kmdask.compress(source, 4, tmp_path / "o.kmdask", client=scheduler.scheduler_address)
    assert states(examine(source, client=scheduler.scheduler_address)) == {
        "source": "ok",
        "cluster": "ok",
        "encryption": "ok",
        "dashboard": "ok",
        "kmdask": "ok",
        "libraries": "ok",
        "source, from workers": "fail",
        "memory": "ok",
        "GDAL": "ok",
    }


def test_a_worker_that_sees_another_source(tmp_path, source, scene, scheduler, join, elsewhere):
    other = tmp_path / "other"
    other.mkdir()
    np.save(other / source.name, scene(300, 401))
    command = elsewhere("empty", source.parent)
    script = f'mount --bind {other} "$0" && exec "$@"'
    bad = join(before=[*command[:4], script, command[5]])
    with pytest.raises(kmdask.SourceError, match=rf"^worker {bad} .* finds another"):
        kmdask.compress(source, 4, tmp_path / "o.kmdask", client=scheduler.scheduler_address)


FULL = """
import errno
from pathlib import Path

def dask_setup(worker):
    write = Path.write_bytes

    def full(path, content):
        if ".png" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    Path.write_bytes = full
"""


def test_a_worker_whose_disk_gets_full(tmp_path, source, scheduler, join):
    bad = join(preload=FULL)
    out = tmp_path / "results" / "o.kmdask"
    out.parent.mkdir()
    told = rf"cannot write '.*' on worker {bad} \(host .*\): No space left"
    with pytest.raises(kmdask.OutputError, match=told):
        kmdask.compress(source, 4, out, client=scheduler.scheduler_address)
    assert list(out.parent.iterdir()) == []


def test_an_unreadable_chunk_names_the_worker(tmp_path, scheduler, join, damaged):
    bad = join()
    told = rf"rows 0 to .* on worker {bad} \(host .*\): "
    with pytest.raises(kmdask.SourceError, match=told):
        kmdask.compress(damaged, 4, tmp_path / "o.kmdask", client=scheduler.scheduler_address)


@pytest.fixture
def damaged(tmp_path, scene, write_raster):
    """A TIFF whose first tile does not decode, and whose last one does."""
    tile = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    path = write_raster(tmp_path / "damaged.tif", scene(512, 512), **tile)
    with open_dataset(path) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(2000))
    return path


@pytest.mark.parametrize(("silent", "state"), [(30, "ok"), (0.2, "warn")])
def test_a_dashboard_may_have_to_import_what_it_shows(monkeypatch, silent, state):
    def slowly(self, request, **kwargs):
        time.sleep(1)
        return find(self, request, **kwargs)

    find = OnDemand.find_handler
    monkeypatch.setattr(OnDemand, "find_handler", slowly)
    monkeypatch.setattr(doctor, "PATIENCE", 0.5)
    monkeypatch.setattr(doctor, "IMPORTING", silent)
    assert states(examine(client=kmdask.Local(threads=1)))["dashboard"] == state


# Memory and disk


@pytest.fixture
def large(tmp_path):
    """An image of 400 MB that takes no space: chunks of 4096 x 4096 pixels."""
    path = tmp_path / "large.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (8192, 16384, 3)).flush()
    return path


@pytest.mark.parametrize(
    ("threads", "limit", "state", "told"),
    [
        (1, "450MB", "fail", "stops at 360 MB"),
        (2, "1GB", "warn", "chunks of 1024 x 1024 pixels instead of 4096 x 4096"),
        (1, "2GB", "ok", "enough"),
    ],
)
def test_memory(large, threads, limit, state, told):
    checks = examine(large, client=kmdask.Local(workers=1, threads=threads, memory_limit=limit))
    assert states(checks)["memory"] == state
    assert {check.state for check in checks if check.name != "memory"} == {"ok"}
    assert told in texts(checks)["memory"]


def test_a_run_that_would_stand_still_is_not_begun(large, tmp_path):
    # A worker above its limit takes no more tasks, and says so in its log alone.
    with pytest.raises(kmdask.ClusterError, match=r"stops at 360 MB.*at least 629 MB"):
        kmdask.compress(large, 2, tmp_path / "a.kmdask", client=kmdask.Local(1, 1, "450MB"))
    assert list(tmp_path.glob("*.kmdask")) == []


def test_disk(large):
    source = find_source(str(large))
    free = {f"worker {i}": Seen(f"host {i}", free=space) for i, space in enumerate((10**8, 10**10))}
    state, text = check_disk(source, free)
    assert state == "warn"
    assert "worker 0 has 100 MB" in text
    assert "worker 1" not in text
    assert check_disk(source, {"worker 1": free["worker 1"]})[0] == "ok"


# The command


def run(*arguments):
    return CliRunner().invoke(main, ["doctor", *map(str, arguments)])


def test_doctor(source, scheduler, join):
    join()
    done = run(source, "--scheduler", scheduler.scheduler_address)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert all(line.startswith("ok    ") for line in lines)
    assert any("400 x 300, 3 bands of uint8" in line for line in lines)
    assert any(scheduler.scheduler_address in line for line in lines)
    assert left(source) == []


def test_doctor_by_itself_as_json():
    done = run("--json", "--threads", 1)
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["ok"] is True
    names = [check["name"] for check in found["checks"]]
    assert names == ["cluster", "encryption", "dashboard", "kmdask", "libraries", "GDAL"]


def test_doctor_finds_what_is_wrong(tmp_path, source):
    kmdask.compress(source, 2)
    done = run(source, "--threads", 1)
    assert done.exit_code == 0
    assert "warn  output: " in done.stdout
    assert "--overwrite" in done.stdout
    (source.parent / "precious").mkdir()
    done = run(source, source.parent / "precious", "--threads", 1)
    assert done.exit_code == 1
    assert "never overwritten" in done.stdout
    done = run(tmp_path / "missing.tif", tmp_path / "nowhere" / "out", "--threads", 1)
    assert done.exit_code == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL  ")]
    assert len(failed) == 2
    assert "there is no file" in failed[0]
    assert "nowhere" in failed[1]
    assert not (tmp_path / "nowhere").exists()


def test_doctor_where_nobody_answers(source):
    done = run(source, "--scheduler", "tcp://127.0.0.1:9")
    assert done.exit_code == 1
    assert "FAIL  cluster: there is no Dask scheduler" in done.stdout


def test_doctor_talks_of_nothing_else(source):
    done = forked.run([sys.executable, "-m", "kmdask", "doctor", source, "--threads", "1"])
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.startswith("ok    ") for line in done.stdout.splitlines())


def test_a_given_client_goes_on(source, scheduler, join):
    join()
    with Client(scheduler, set_as_default=False) as client:
        assert all(check.state == "ok" for check in examine(source, client=client))
        assert client.submit(sum, [1, 2]).result() == 3
