"""The same bytes on every cluster, and manners towards clusters of others and the network."""

import copy
import http.client
import json
import shutil
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import dask
import numpy as np
import psutil
import pytest
from bundles import contents
from distributed import Client, LocalCluster, SchedulerPlugin
from distributed.client import _get_global_client, _global_clients
from distributed.utils import key_split

import kmdask
from kmdask.connecting.dashboards import OnDemand

pytestmark = pytest.mark.cluster


@pytest.fixture(autouse=True)
def no_client_left():
    """Nobody leaves a current client behind: the next run in this process would use it."""
    config = copy.deepcopy(dask.config.config)
    yield
    left = _get_global_client()
    if left is not None:  # so that only this test fails
        _global_clients.clear()
        dask.config.config.clear()
        dask.config.config.update(config)
    assert left is None


@pytest.fixture(scope="module")
def source(tmp_path_factory, scene, holes, write_raster):
    """An image of several chunks and levels, with invalid pixels, and of few colours."""
    path = tmp_path_factory.mktemp("source") / "scene.tif"
    valid = holes(1100, 2300)
    return write_raster(path, scene(1100, 2300) & 0xF0, valid, tiled=True, compress="deflate")


@pytest.fixture(scope="module")
def expected(tmp_path_factory, source):
    """What the cluster of its own writes."""
    result = kmdask.compress(source, 9, tmp_path_factory.mktemp("own") / "out.kmdask")
    return contents(result.path)


@contextmanager
def cluster(**options):
    if options["processes"]:
        options["host"] = "127.0.0.1"
    with LocalCluster(
        dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0", **options
    ) as started:
        yield started


@pytest.fixture(scope="module")
def three_workers():
    with cluster(processes=True, n_workers=3, threads_per_worker=1) as started:
        yield started


def alive(address):
    with Client(address, set_as_default=False) as client:
        return client.submit(sum, [1, 2], pure=False).result() == 3


def test_the_reference_has_everything(expected):
    assert "preview.jpg" in expected
    assert "tiles.dzi" in expected
    assert sum(name.startswith("tiles_files") for name in expected) == 15 + 6 + 2 + 10
    assert any(name.startswith("image.zarr/indices/0") for name in expected)


def test_once_more(tmp_path, source, expected):
    assert contents(kmdask.compress(source, 9, tmp_path / "out.kmdask").path) == expected


@pytest.mark.parametrize("threads", [1, 4])
def test_threads(tmp_path, source, expected, threads):
    with (
        cluster(processes=False, n_workers=1, threads_per_worker=threads) as started,
        Client(started, set_as_default=False) as client,
    ):
        result = kmdask.compress(source, 9, tmp_path / "out.kmdask", client=client)
        assert contents(result.path) == expected


def test_one_process(tmp_path, source, expected):
    with (
        cluster(processes=True, n_workers=1, threads_per_worker=2) as started,
        Client(started) as client,
    ):
        # The current client is taken without being asked for.
        result = kmdask.compress(source, 9, tmp_path / "out.kmdask")
        assert contents(result.path) == expected
        assert client.status == "running"


def test_three_processes_by_client(tmp_path, source, expected, three_workers):
    with Client(three_workers, set_as_default=False) as client:
        result = kmdask.compress(source, 9, tmp_path / "out.kmdask", client=client)
        assert contents(result.path) == expected
        assert client.status == "running"
        assert len(client.scheduler_info()["workers"]) == 3


def test_three_processes_by_address(tmp_path, source, expected, three_workers):
    address = three_workers.scheduler_address
    result = kmdask.compress(source, 9, tmp_path / "out.kmdask", client=address)
    assert contents(result.path) == expected
    assert alive(address)


def test_three_processes_by_scheduler_file(tmp_path, source, expected, three_workers):
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"type": "Scheduler", "address": three_workers.scheduler_address}))
    result = kmdask.compress(source, 9, tmp_path / "out.kmdask", client=str(file))
    assert contents(result.path) == expected
    assert alive(three_workers.scheduler_address)


def test_three_processes_by_configuration(tmp_path, source, expected, three_workers):
    # What DASK_SCHEDULER_ADDRESS sets.
    config = dask.config.collect_env({"DASK_SCHEDULER_ADDRESS": three_workers.scheduler_address})
    with dask.config.set(config):
        result = kmdask.compress(source, 9, tmp_path / "out.kmdask")
    assert contents(result.path) == expected
    assert alive(three_workers.scheduler_address)


def test_stages_on_a_given_client(source, expected, three_workers):
    with Client(three_workers):
        raster = kmdask.open_raster(source)
        colors = kmdask.count_colors(raster.pixels, raster.mask)
        palette = kmdask.fit_palette(colors, 9)
        quality = kmdask.measure(colors, palette)
        indices = kmdask.encode(raster.pixels, palette, raster.mask).compute()
        valid = raster.mask.compute() != 0
        pixels = raster.pixels.compute()
    assert expected["image.zarr/palette/.zarray"]
    decoded = palette.colors[indices[valid]].astype(float)
    assert quality.mse == pytest.approx(((decoded - pixels[valid]) ** 2).mean(), rel=1e-12)
    assert (indices[~valid] == palette.nodata).all()


# What it does to the network


class Spy:
    """A progress that looks around while the run is going."""

    def __init__(self, look):
        self.look = look
        self.stages = []

    def connected(self, dashboard):
        self.dashboard = dashboard
        self.look(self)

    @contextmanager
    def stage(self, name):
        self.stages.append(name)
        self.look(self)
        yield
        self.look(self)

    def advance(self, done, total):
        assert 0 <= done <= total

    def note(self, text):
        pass


def listening():
    """Addresses on which this process and its children listen."""
    me = psutil.Process()
    return {
        connection.laddr
        for process in [me, *me.children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or connection.type.name == "SOCK_DGRAM"
    }


def test_its_own_cluster_listens_on_this_machine_alone(tmp_path, source):
    before, during = listening(), set()
    spy = Spy(lambda _: during.update(listening()))
    kmdask.compress(source, 2, tmp_path / "out.kmdask", progress=spy)
    opened = during - before
    assert opened, "nothing was seen, not even the dashboard"
    assert {address.ip for address in opened} == {"127.0.0.1"}
    assert not opened & listening(), "closed at the end"
    assert spy.stages == ["open", "count", "fit", "write"]


def test_its_own_cluster_is_closed_after_an_error(tmp_path, scene, write_raster):
    empty = write_raster(tmp_path / "empty.tif", scene(9, 9), np.zeros((9, 9), bool))
    before, during = listening(), set()
    spy = Spy(lambda _: during.update(listening()))
    with pytest.raises(kmdask.EmptyImageError):
        kmdask.compress(empty, 2, progress=spy)
    assert during - before
    assert listening() <= before


def asked(host, port, path):
    """The status of an answer, and whether it is a page of bokeh's."""
    with closing(http.client.HTTPConnection(host, port, timeout=30)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, b"bokeh" in response.read().lower()


def test_the_dashboard_answers(tmp_path, source):
    answers = []

    def look(spy):
        link = urlsplit(spy.dashboard)
        answers.append(asked(link.hostname, link.port, link.path))

    spy = Spy(look)
    kmdask.compress(source, 2, tmp_path / "out.kmdask", progress=spy)
    assert spy.dashboard.startswith("http://127.0.0.1:")
    assert answers == [(200, True)] * 9


def test_dashboards_come_with_the_first_look():
    with kmdask.Local(threads=1).started() as cluster:
        for node in (cluster.scheduler, *cluster.workers.values()):
            (there,) = node.http_application.applications
            assert isinstance(there, OnDemand)
            port = node.http_server.port
            assert asked("127.0.0.1", port, "/health") == (200, False)
            assert node.http_application.applications == [there], "nobody has looked"
            assert asked("127.0.0.1", port, "/absent") == (404, False)
            assert asked("127.0.0.1", port, "/status") == (200, True)
            assert there not in node.http_application.applications


def test_nobody_waits_for_bokeh_who_does_not_look(tmp_path):
    code = (
        "import kmdask, numpy as np, sys\n"
        "kmdask.compress(np.zeros((9, 9), np.uint8), 1, 'a.kmdask')\n"
        "sys.exit('bokeh' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


def test_two_runs_side_by_side(tmp_path, source):
    # Each has a cluster, and a dashboard, of its own.
    links, errors = [], []

    def run(name):
        try:
            spy = Spy(lambda spy: links.append(spy.dashboard))
            kmdask.compress(source, 2, tmp_path / f"{name}.kmdask", progress=spy)
        except BaseException as error:  # noqa: BLE001  shown below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert contents(tmp_path / "a.kmdask") == contents(tmp_path / "b.kmdask")


class Groups(SchedulerPlugin):
    """Collects the names under which the dashboard shows tasks."""

    name = "groups"

    def __init__(self):
        self.seen = set()

    def transition(self, key, start, finish, *args, **kwargs):  # noqa: ARG002  distributed's
        if finish == "processing":
            self.seen.add(key_split(key))


def test_task_names(tmp_path, scene, write_raster):
    groups = Groups()
    source = write_raster(tmp_path / "a.tif", scene(600, 1100), tiled=True)
    with (
        cluster(processes=False, n_workers=1, threads_per_worker=2) as started,
        Client(started, set_as_default=False) as client,
    ):
        started.scheduler.add_plugin(groups)
        # So many colours that the counts of chunks are merged and the fit has steps to do.
        kmdask.compress(source, 9, tmp_path / "out.kmdask", client=client)
    assert groups.seen >= {
        "read",
        "count",
        "merge",
        "encode",
        "write-zarr",
        "write-tiles",
        "write-preview",
        "halve",
        "seed",
        "lloyd",
    }


# Clusters that are not there


@pytest.mark.timeout(15)  # distributed by itself would wait for 30 s
def test_nobody_answers(tmp_path, source):
    with pytest.raises(kmdask.ClusterError, match=r"tcp://127\.0\.0\.1:9"):
        kmdask.compress(source, 2, tmp_path / "out.kmdask", client="tcp://127.0.0.1:9")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["nonsense", "ftp://127.0.0.1:8786", "missing.json"])
def test_no_address(tmp_path, source, address):
    with pytest.raises(kmdask.ClusterError, match=address):
        kmdask.compress(source, 2, tmp_path / "out.kmdask", client=address)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{}", "no json", '{"address": "nonsense"}'])
def test_no_scheduler_file(tmp_path, source, content):
    file = tmp_path / "scheduler.json"
    file.write_text(content)
    with pytest.raises(kmdask.ClusterError, match=r"scheduler\.json"):
        kmdask.compress(source, 2, tmp_path / "out.kmdask", client=str(file))
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.timeout(60)
def test_a_wrong_address_does_not_spoil_the_next_run(tmp_path, source, expected):
    with pytest.raises(kmdask.ClusterError):
        kmdask.compress(source, 2, tmp_path / "out.kmdask", client="nonsense")
    result = kmdask.compress(source, 9, tmp_path / "out.kmdask")
    assert contents(result.path) == expected


def test_workers_in_another_directory(tmp_path, monkeypatch, source):
    shutil.copy(source, tmp_path / "scene.tif")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        monkeypatch.chdir(tmp_path)
        result = kmdask.compress("scene.tif", 3, client=client)
    assert result.path == tmp_path / "scene.kmdask"


@pytest.mark.timeout(30)
def test_a_cluster_without_workers(tmp_path, monkeypatch, source):
    monkeypatch.setattr("kmdask.connecting.clusters.PATIENCE", 0.1)
    monkeypatch.setattr("kmdask.connecting.clusters.QUEUEING", 1)
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster,
        pytest.raises(kmdask.ClusterError, match="no workers"),
    ):
        kmdask.compress(source, 3, tmp_path / "out.kmdask", client=cluster.scheduler_address)
    assert list(tmp_path.iterdir()) == []


def test_the_scheduler_that_was_set_is_set_again(source, tmp_path):
    with dask.config.set(scheduler="synchronous"):
        kmdask.compress(source, 3, tmp_path / "out.kmdask")
        assert dask.config.get("scheduler") == "synchronous"
