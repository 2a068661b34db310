"""Workers that die at any moment: the same bytes, or a named error with the old output intact.

Twelve rounds on one cluster of three worker processes, whose nannies start a new one for each that
has died. In each round workers get a plugin, `distributed.chaos.KillWorker`, that takes them down
in each of three ways in each stage, after a random time; some tasks are slow as well. All of it
follows a seed, as far as processes can.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import dask
import numpy as np
import pytest
from bundles import contents
from distributed import Client, LocalCluster, SchedulerPlugin
from distributed.chaos import KillWorker
from distributed.diagnostics.plugin import WorkerPlugin

import kmdask
from kmdask.progress import Silent

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(120)]

STAGES = ("open", "count", "fit", "write")
MODES = ("sys.exit", "graceful", "segfault")
ROUNDS, WORKERS = len(STAGES) * len(MODES), 3


class Chaos(WorkerPlugin):
    """`KillWorker` with a seed of its own for each worker; a restarted worker is let live."""

    name = "chaos"

    def __init__(self, seed, expected, mode):
        self.seed, self.expected, self.mode = seed, expected, mode

    async def setup(self, worker):
        random.seed(f"{self.seed} {worker.name}")
        await KillWorker(self.expected, self.mode).setup(worker)


class Lost(SchedulerPlugin):
    """Counts the workers that have died, and the tasks that ran again for it."""

    name = "lost"

    def __init__(self):
        self.workers, self.tasks = 0, Counter()

    def remove_worker(self, scheduler, worker, **_):  # noqa: ARG002  distributed's
        self.workers += 1

    def transition(self, key, start, finish, *args, **kwargs):  # noqa: ARG002  distributed's
        if finish == "processing":
            self.tasks[key] += 1


class Slow(Silent):
    """A progress that sends plugins to the workers at the beginning of a stage, and dawdles."""

    def __init__(self, client, rng, stage, plugin):
        self.client, self.rng, self.target, self.plugin = client, rng, stage, plugin

    @contextmanager
    def stage(self, name):
        if name == self.target:
            workers = list(self.client.scheduler_info(n_workers=-1)["workers"])
            # One is left: were all gone at once, and their nannies too, a run would wait for more.
            chosen = sorted(workers)[: int(self.rng.integers(1, max(2, len(workers))))]
            self.client.run(take, self.plugin, workers=chosen, on_error="ignore", wait=False)
        yield

    def advance(self, done, total):  # noqa: ARG002
        time.sleep(float(self.rng.uniform(0, 0.005)))


async def take(plugin, dask_worker):
    """Take a plugin, on this worker alone: one that is registered would meet its successor too."""
    await dask_worker.plugin_add(plugin=plugin, name=f"chaos-{time.time()}")


@pytest.fixture(scope="module")
def sources(tmp_path_factory, scene, write_raster):
    """Images of a few chunks: one whose colours are counted, one whose errors are added up.

    Of few colours, so that a round is short.
    """
    folder = tmp_path_factory.mktemp("source")
    rgb = write_raster(folder / "rgb.tif", scene(300, 1500) & 0xF0, tiled=True)
    deep = (scene(300, 1100, 4) & 0xF0).astype(np.uint16) * 91
    deep = write_raster(folder / "deep.tif", deep, tiled=True)
    options = {"k": 7, "formats": ("zarr", "tiles", "cog")}
    return {
        path: (options, contents(kmdask.compress(path, out=path.with_suffix(""), **options).path))
        for path in (rgb, deep)
    }


@pytest.fixture(scope="module")
def cluster():
    with (
        # A worker that has died is there again in a moment, not after the seconds of its imports.
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
        ) as started,
        Client(started, set_as_default=False) as client,
    ):
        lost = Lost()
        started.scheduler.add_plugin(lost)
        yield client, lost


def revive(client):
    """Wait for two workers; nannies that hang or have gone themselves are replaced."""
    for _attempt in range(6):
        client.cluster.scale(WORKERS)
        try:
            client.wait_for_workers(WORKERS - 1, timeout=8)
        except TimeoutError:
            alive = client.scheduler_info(n_workers=-1)["workers"]
            for nanny in client.cluster.workers.values():
                if nanny.pid and nanny.worker_address not in alive:
                    os.kill(nanny.pid, signal.SIGKILL)
        else:
            return
    raise AssertionError([(n.status, n.pid) for n in client.cluster.workers.values()])


@pytest.fixture(scope="module")
def old(tmp_path_factory, scene):
    return kmdask.compress(scene(30, 40), 2, tmp_path_factory.mktemp("old") / "a.kmdask").path


@pytest.fixture
def out(tmp_path, old):
    """Where a bundle stands already."""
    return Path(shutil.copytree(old, tmp_path / "a.kmdask"))


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_workers_die(out, sources, cluster, seed):
    client, _ = cluster
    rng = np.random.default_rng(seed)
    stage, mode = STAGES[seed // len(MODES)], MODES[seed % len(MODES)]
    source = list(sources)[seed % len(sources)]
    options, expected = sources[source]
    plugin = Chaos(seed, float(rng.uniform(0.02, 0.5)), mode)
    before = contents(out)
    revive(client)
    told = None
    try:
        kmdask.compress(
            source,
            out=out,
            overwrite=True,
            client=client,
            progress=Slow(client, rng, stage, plugin),
            **options,
        )
    except kmdask.KmdaskError as error:
        told = error
    assert contents(out) == (expected if told is None else before), told
    if isinstance(told, kmdask.ClusterError) and len(list(out.parent.iterdir())) > 1:
        revive(client)
        kmdask.compress(source, out=out, overwrite=True, client=client, resume=True, **options)
        assert contents(out) == expected
    assert list(out.parent.iterdir()) == [out]


def test_it_was_chaos(cluster):
    # After the rounds above, in the same process.
    _, lost = cluster
    assert lost.workers >= ROUNDS // 2
    assert max(lost.tasks.values()) > 1
