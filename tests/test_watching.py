"""What a scheduler knows of a run: spans, counts, a report; also where it is far away."""

import json
import os
import re
import sys
import threading
import time
from contextlib import contextmanager
from itertools import groupby
from types import SimpleNamespace

import dask
import numpy as np
import pytest
from dask.delayed import delayed
from distributed import Client, Event, LocalCluster, performance_report
from distributed.utils import color_of
from forked import Forked
from numba import njit
from numba.core.errors import TypingError
from sklearn.base import BaseEstimator

import kmdask
from kmdask.compiling import when_compiling
from kmdask.progress import Silent
from kmdask.stages import COMPILING, Stages

pytestmark = pytest.mark.cluster

DEADLINE = 60
LOOPBACK = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}


def wait_for(condition):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError(f"nothing came in {DEADLINE} s")


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(processes=False, n_workers=1, threads_per_worker=2, **LOOPBACK) as started:
        yield started


@pytest.fixture
def client(cluster):
    with Client(cluster, set_as_default=False) as connected:
        yield connected


@pytest.fixture(scope="module")
def source(tmp_path_factory, scene, holes, write_raster):
    """An image of several chunks, with invalid pixels."""
    path = tmp_path_factory.mktemp("source") / "scene.tif"
    return write_raster(path, scene(1100, 2300), holes(1100, 2300), tiled=True, compress="deflate")


class Told(Silent):
    """A progress that keeps what it is told."""

    def __init__(self):
        self.stages, self.counts, self.notes = [], {}, {}

    def connected(self, dashboard):
        self.dashboard = dashboard

    @contextmanager
    def stage(self, name):
        self.stages.append(name)
        self.counts[name], self.notes[name] = [], []
        yield

    def advance(self, done, total):
        self.counts[self.stages[-1]].append((done, total))

    def note(self, text):
        self.notes[self.stages[-1]].append(text)


# Spans


def stages_of(run):
    """The names of the tasks in each stage of a run."""
    names = {span.name[-1]: {group.prefix.name for group in span.groups} for span in run.children}
    assert len(names) == len(run.children), "a stage is there twice"
    return names


def runs_named(cluster, name):
    return cluster.scheduler.extensions["spans"].spans_search_by_name["kmdask", name]


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory, cluster, source):
    """An ordinary run: its folder, what it told, and its span."""
    folder, told = tmp_path_factory.mktemp("ordinary"), Told()
    with Client(cluster, set_as_default=False) as client:
        kmdask.compress(
            source,
            9,
            folder / "one.kmdask",
            client=client,
            progress=told,
            performance_report=str(folder / "run.html"),
        )
    (span,) = runs_named(cluster, "one.kmdask")
    return folder, told, span


def test_a_span_for_each_stage(ordinary):
    _, _, run = ordinary
    stages = stages_of(run)
    assert set(stages) == {"count", "fit", "write"}
    assert stages["count"] >= {"count", "merge", "colors"}
    assert stages["fit"] >= {"bin", "seed", "summarise", "lloyd"}
    assert stages["write"] >= {"encode", "halve", "halve-mask", "write-zarr", "write-tiles"}
    assert not any("getitem" in name for name in stages["write"])
    shared = {group.prefix.name for group in run.groups}
    assert shared == {"read", "pixels", "mask"}, "what every pass needs"
    assert run.parent.name == ("kmdask",)


def test_refining_has_a_span_and_passes(tmp_path, cluster, client, scene):
    told = Told()
    pixels = scene(200, 300, bands=4).astype(np.uint16)
    kmdask.compress(pixels, 5, tmp_path / "deep.kmdask", client=client, progress=told)
    (run,) = runs_named(cluster, "deep.kmdask")
    assert stages_of(run)["refine"] >= {"refine"}
    assert told.counts["refine"].count((0, 60_000)) == 2
    assert told.counts["refine"].count((60_000, 60_000)) == 2
    said = [note for note in told.notes["refine"] if note != COMPILING]
    assert [note for note, _ in groupby(said)] == ["", "pass 2"]


def test_what_an_estimator_of_others_submits(tmp_path, cluster, client):
    class Others(BaseEstimator):
        def __init__(self, n_clusters=2):
            self.n_clusters = n_clusters

        def fit(self, X, sample_weight):  # noqa: ARG002  scikit-learn's
            task = delayed(np.resize)(X, (self.n_clusters, 1), dask_key_name="others-work")
            self.cluster_centers_ = dask.compute(task)[0]
            return self

    pixels = np.arange(100, dtype=np.uint8).reshape(10, 10)
    kmdask.compress(pixels, 3, tmp_path / "others.kmdask", client=client, estimator=Others())
    (run,) = runs_named(cluster, "others.kmdask")
    assert "others-work" in stages_of(run)["fit"]


def test_two_runs_in_threads_do_not_mix(tmp_path, cluster, client, source):
    errors, together = [], threading.Barrier(2, timeout=DEADLINE)

    class Abreast(Told):
        """A progress that begins each stage together with the other run."""

        @contextmanager
        def stage(self, name):
            together.wait()
            with super().stage(name):
                yield

    def run(name):
        try:
            kmdask.compress(source, 9, tmp_path / name, client=client, progress=Abreast())
        except BaseException as error:  # noqa: BLE001  shown below
            errors.append(error)
            together.abort()

    threads = [threading.Thread(target=run, args=(f"{name}.kmdask",)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    (a,), (b,) = runs_named(cluster, "a.kmdask"), runs_named(cluster, "b.kmdask")
    assert stages_of(a) == stages_of(b)
    for span, other in zip(a.children, b.children, strict=True):
        both = {group.name for group in span.groups} & {group.name for group in other.groups}
        assert both == set(), span
        tasks = [sum(each.states.values()) for each in (span, other)]
        assert tasks[0] == tasks[1], "some are in the span of the other run"


@pytest.mark.parametrize(
    "names",
    [
        ("read", "count"),
        ("bin", "seed", "lloyd", "lloyd-step", "lloyd-merge"),
        ("read", "refine"),
        ("read", "encode", "halve", "halve-mask", "write-zarr", "write-tiles"),
    ],
)
def test_colours_tell_the_tasks_of_a_stage_apart(names):
    assert len({color_of(name) for name in names}) == len(names)


# Counts


def test_every_pass_goes_from_none_to_all(ordinary):
    _, told, _ = ordinary
    assert told.stages == ["open", "count", "fit", "write"]
    for stage in ("count", "write"):
        counts = [done for done, _ in told.counts[stage]]
        assert counts == sorted(counts)
        assert (counts[0], counts[-1]) == (0, 1100 * 2300)
        assert {total for _, total in told.counts[stage]} == {1100 * 2300}
    assert told.counts["fit"] == []


GATE, LOCK, RAN = threading.Event(), threading.Lock(), []


def work(i):
    """Return a number; the second time not before the gate is open. Workers are threads here."""
    with LOCK:
        again = i in RAN
        RAN.append(i)
    if again:
        assert GATE.wait(DEADLINE)
    return i


def new_kernel(function):
    function.__module__ = "kmdask.kernels.new"
    return njit(function)


def test_what_the_compiler_is_waited_for(client, monkeypatch):
    monkeypatch.setattr("kmdask.watching.LOOK_SECONDS", 3600)
    told = Told()
    stages = Stages(told)
    others, wrong = njit(lambda x: x + 1), new_kernel(lambda x: x.what)

    @new_kernel
    def inner(x):
        return x + 1

    @new_kernel
    def kernel(x):
        return inner(x) + 1

    with stages.on(client, "compiled"):
        assert kernel(1.5) == 3.5
        with stages("first"):
            stages._tell("pass 2")
            assert kernel(1) == 3
            assert kernel(2) == 4, "nothing is compiled for it"
            assert others(1) == 2
        with stages("fails"), pytest.raises(TypingError):
            wrong(1)
        with stages("second"):
            stages._compile(True)
            stages._tell("fit: 1 of 8 tasks")
            stages._compile(False)
    assert kernel(np.float32(1)) == 3, "compiled when nobody listens"
    assert told.notes == {
        "first": ["pass 2", COMPILING, "pass 2"],
        "fails": [COMPILING, ""],
        "second": [COMPILING, COMPILING, "fit: 1 of 8 tasks"],
    }


def test_a_kernel_is_compiled_whoever_fails_to_tell(caplog):
    def tell(going):
        raise OSError(f"no paper: {going}")

    kernel = new_kernel(lambda x: x + 1)
    with caplog.at_level("DEBUG", "kmdask.compiling"), when_compiling(tell):
        assert kernel(1) == 2
    assert len(kernel.overloads) == 1
    assert [record.message for record in caplog.records] == [
        f"nobody is told of the compiler: OSError('no paper: {going}')" for going in (True, False)
    ]


async def remove(dask_scheduler, address):
    await dask_scheduler.remove_worker(address, stimulus_id="test", close=False)


def test_work_that_is_lost_is_waited_for_and_told():
    with (
        LocalCluster(processes=False, n_workers=2, threads_per_worker=1, **LOOPBACK) as cluster,
        Client(cluster, set_as_default=False) as client,
        client.as_current(),
    ):

        class Loses(Told):
            def advance(self, done, total):
                super().advance(done, total)
                if done == total:
                    holds = client.has_what()
                    victim = next(address for address, keys in holds.items() if keys)
                    client.run_on_scheduler(remove, address=victim)
                    wait_for(lambda: "lost" in {each.status for each in client.futures.values()})

            def note(self, text):
                super().note(text)
                if "lost" in text:
                    GATE.set()

        told = Loses()
        stages = Stages(told, pixels=800)
        tasks = [delayed(work)(i, dask_key_name=f"work-{i}") for i in range(8)]
        with stages("work"):
            results = stages.run(client, *tasks)
            statuses = {each.status for each in client.futures.values()}
        assert statuses == {"finished"}, "the stage ended before its work was there again"
        assert dask.compute(*results) == tuple(range(8))
    assert [done for done, _ in told.counts["work"]] == list(range(0, 900, 100))
    assert "lost with a worker" in told.notes["work"][-1]


BEGUN, GONE = threading.Event(), threading.Event()


def write_late(path):
    BEGUN.set()
    assert not GONE.wait(1)
    path.touch()


def fail_once_that_runs():
    assert BEGUN.wait(DEADLINE)
    raise OSError("full")


def test_writes_on_the_way_to_what_failed_are_waited_for(tmp_path, client):
    late = tmp_path / "late"
    both = [delayed(write_late)(late), delayed(fail_once_that_runs)()]
    with client.as_current(), pytest.raises(OSError, match="full"):
        Stages(Silent()).run(client, delayed(list)(both))
    found = late.exists()
    GONE.set()
    assert found, "it would have been written after the run was cleared up"


# Performance report


def test_a_performance_report(ordinary):
    folder, _, _ = ordinary
    text = (folder / "run.html").read_text(encoding="utf-8")
    for name in ("read", "count", "lloyd", "encode", "write-zarr", "write-tiles"):
        assert f'"{name}"' in text
    assert not re.search(r"<script[^>]* src=", text), "it needs a network"
    assert {path.name for path in folder.iterdir()} == {"run.html", "one.kmdask"}


def test_no_report_of_a_run_that_fails(tmp_path, client, scene, write_raster):
    empty = write_raster(tmp_path / "empty.tif", scene(9, 9), np.zeros((9, 9), bool))
    page, old = tmp_path / "run.html", tmp_path / "old.html"
    old.write_text("old")
    for path in (page, old):
        with pytest.raises(kmdask.EmptyImageError):
            kmdask.compress(empty, 2, client=client, performance_report=path, overwrite=True)
    assert old.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"empty.tif", "old.html"}


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("missing/run.html", kmdask.OutputError, r"cannot write .*missing/run\.html"),
        ("scene.tif/run.html", kmdask.OutputError, r"cannot write .*scene\.tif/run\.html"),
        ("there.html", kmdask.OutputExistsError, r"there\.html.*exists already"),
        ("folder.html", kmdask.OutputExistsError, r"folder\.html.*exists already"),
        ("scene.tif", kmdask.ParameterError, r"\.html; got .*scene\.tif"),
        ("out.kmdask/run.html", kmdask.ParameterError, r"lies in the output"),
    ],
)
def test_no_place_for_a_report(tmp_path, client, scene, write_raster, name, error, said):
    path = write_raster(tmp_path / "scene.tif", scene(9, 9))
    (tmp_path / "there.html").write_text("there")
    (tmp_path / "folder.html").mkdir()
    before, told = sorted(tmp_path.iterdir()), Told()
    with pytest.raises(error, match=said):
        kmdask.compress(
            path,
            2,
            tmp_path / "out.kmdask",
            client=client,
            progress=told,
            performance_report=tmp_path / name,
        )
    assert told.stages == [], "it had begun"
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there.html").read_text() == "there"


def test_a_report_is_replaced_when_asked(tmp_path, client):
    page = tmp_path / "run.html"
    page.write_text("old")
    kmdask.compress(
        np.eye(9, dtype=np.uint8),
        2,
        tmp_path / "out.kmdask",
        client=client,
        performance_report=page,
        overwrite=True,
    )
    assert "write-zarr" in page.read_text()


def test_the_run_is_not_lost_with_its_report(tmp_path, client, monkeypatch, caplog):
    def fails(*_):
        raise RuntimeError("no bokeh")

    monkeypatch.setattr(performance_report, "__exit__", fails)
    page = tmp_path / "run.html"
    result = kmdask.compress(
        np.eye(9, dtype=np.uint8),
        2,
        tmp_path / "out.kmdask",
        client=client,
        performance_report=page,
    )
    assert result.report.k_used == 2
    assert not page.exists()
    assert "no bokeh" in caplog.text


# Far away


@pytest.fixture
def remote(tmp_path_factory):
    """The scheduler file of a scheduler and a worker in processes of their own."""
    folder = tmp_path_factory.mktemp("remote")
    file = folder / "scheduler.json"
    where = ["--host", "127.0.0.1", "--scheduler-file", str(file)]
    kinds = {
        "scheduler": ["--port", "0", "--dashboard-address", "127.0.0.1:0"],
        "worker": ["--nthreads", "2", "--no-nanny", "--no-dashboard"],
    }
    processes = [
        Forked(
            [sys.executable, "-m", "dask", kind, *where, *options],
            cwd=folder,
            stdout=os.devnull,
            stderr=os.devnull,
        )
        for kind, options in kinds.items()
    ]
    wait_for(file.exists)
    yield file
    for process in reversed(processes):
        process.terminate()
        process.wait(DEADLINE)


def test_a_cluster_in_other_processes(tmp_path, remote, source, monkeypatch):
    monkeypatch.setattr("kmdask.watching.LOOK_SECONDS", 0.02)

    def hold():
        assert Event("noticed").wait(DEADLINE)
        return np.array([[0.0, 0.0, 0.0], [200.0, 200.0, 200.0]])

    class Holds(BaseEstimator):
        def __init__(self, n_clusters=2):
            self.n_clusters = n_clusters

        def fit(self, X, sample_weight):
            assert len(X) == len(sample_weight)
            self.cluster_centers_ = delayed(hold)(dask_key_name="hold-0").compute()
            return self

    with Client(scheduler_file=str(remote), set_as_default=False) as client:

        class Notices(Told):
            def note(self, text):
                super().note(text)
                if text == "hold":
                    Event("noticed", client).set()

        told = Notices()
        page = tmp_path / "run.html"
        result = kmdask.compress(
            source,
            2,
            tmp_path / "out.kmdask",
            client=client,
            progress=told,
            estimator=Holds(),
            performance_report=page,
        )
    assert "hold" in told.notes["fit"]
    for stage in ("count", "write"):
        counts = [done for done, _ in told.counts[stage]]
        assert counts == sorted(counts)
        assert (counts[0], counts[-1]) == (0, 1100 * 2300)
    assert "write-zarr" in page.read_text()
    assert told.dashboard.startswith("http://127.0.0.1:")
    report = json.loads((result.path / "report.json").read_text())
    assert report["dashboard"] == told.dashboard == result.report.dashboard


@pytest.mark.parametrize("link", [None, ""])
def test_a_cluster_without_a_dashboard(link):
    told = Told()
    stages = Stages(told)
    with stages.on(SimpleNamespace(dashboard_link=link), "out.kmdask"):
        assert told.dashboard is None
        assert stages.dashboard is None
