"""The commands of `cluster/compose.yaml` on several hosts: network namespaces of this machine.

Each has an address, a loopback device and names of its own, and reaches the others by a bridge
alone. Files are shared, as on a cluster. MinIO and the bucket are left out: they need their image.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from bundles import contents

import kmdask

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(kmdask.__file__).parents[1]
IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
NETNS = Path("/etc/netns")  # what `ip netns exec NAME` lays over /etc comes from NAME in here
DEADLINE = 120
K = 9

# Stops the processes of a worker as soon as it is given work, which it then never finishes.
STOP = """
import os
import signal
import sys
from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin

class Stop(SchedulerPlugin):
    def __init__(self, address, pids):
        self.address, self.pids = address, pids

    def start(self, scheduler):
        self.scheduler = scheduler

    def transition(self, key, start, finish, *args, **kwargs):
        if finish == "processing":
            if self.address in self.scheduler.tasks[key].processing_on.address:
                for pid in self.pids:
                    os.kill(pid, signal.SIGSTOP)
                self.pids = []

address, *pids = sys.argv[1:]
with Client() as client:
    client.register_plugin(Stop(address, [int(pid) for pid in pids]))
    print("{}")
"""

# What the workers have computed, and which addresses they have.
LOOK = """
import json
from distributed import Client

def look(dask_worker):
    import psutil
    from distributed.utils import key_split
    cards = psutil.net_if_addrs()
    return {
        "cards": {name: cards[name][0].address for name in cards},
        "ran": sorted({key_split(entry[0]) for entry in dask_worker.state.log
                       if entry[1:3] == ("executing", "memory")}),
    }

with Client() as client:
    print(json.dumps(client.run(look)))
"""


def ip(*arguments):
    done = subprocess.run([IP, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Network:
    """Hosts on a bridge, in namespaces that nobody else has, all removed at the end."""

    def __init__(self, names, folder, environment):
        self.prefix = f"kmdask-{os.getpid()}-{id(self):x}"
        self.names = names
        self.addresses = {name: f"10.77.0.{n}" for n, name in enumerate(names, 2)}
        self.folder, self.environment, self.processes = folder, environment, {}
        self.undo = ExitStack()

    def __enter__(self):
        try:
            self.build()
        except BaseException:
            self.undo.close()
            raise
        return self

    def __exit__(self, *_):
        self.undo.close()

    def namespace(self, name):
        space = f"{self.prefix}-{name}"
        ip("netns", "add", space)
        self.undo.callback(ip, "netns", "delete", space)
        self.undo.callback(self.kill, name)
        ip("-n", space, "link", "set", "lo", "up")
        return space

    def build(self):
        switch = self.namespace("switch")
        ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", switch, "address", "add", "10.77.0.1/24", "dev", "bridge")
        ip("-n", switch, "link", "set", "bridge", "up")
        self.undo.callback(self.leave_etc)
        NETNS.mkdir(exist_ok=True)
        for number, (name, address) in enumerate(self.addresses.items()):
            space = self.namespace(name)
            card = f"port{number}"
            ip("-n", switch, *f"link add {card} type veth peer name eth0 netns {space}".split())
            ip("-n", switch, "link", "set", card, "master", "bridge", "up")
            ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "route", "add", "default", "via", "10.77.0.1")
            self.name_hosts(NETNS / space, address)

    def name_hosts(self, folder, own):
        folder.mkdir()
        self.undo.callback(shutil.rmtree, folder)
        hosts = {"localhost": "127.0.0.1", os.uname().nodename: own} | self.addresses
        lines = (f"{address} {name}\n" for name, address in hosts.items())
        (folder / "hosts").write_text("".join(lines))
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # where nobody waits

    @staticmethod
    def leave_etc():
        with suppress(OSError):  # others use it, or it was not made
            NETNS.rmdir()

    def command(self, name, arguments):
        if isinstance(arguments, str):
            arguments = shlex.split(arguments)
        return [IP, "netns", "exec", f"{self.prefix}-{name}", *map(str, arguments)]

    def start(self, name, arguments, environment=None):
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                self.command(name, arguments),
                env=self.environment | (environment or {}),
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        self.processes.setdefault(name, []).append(process)
        return process

    def run(self, name, arguments, environment=None):
        return subprocess.run(
            self.command(name, arguments),
            env=self.environment | (environment or {}),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )

    def pids(self, name):
        """Every process of a host."""
        return [int(pid) for pid in ip("netns", "pids", f"{self.prefix}-{name}").split()]

    def signal(self, name, number):
        """Send a signal to every process of a host; say to how many."""
        pids = self.pids(name)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return len(pids)

    def kill(self, name):
        # Twice: a nanny may have started another process meanwhile.
        while self.signal(name, signal.SIGKILL):
            for process in self.processes.get(name, []):
                process.wait()
            time.sleep(0.05)

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()


def wait_for(condition, what):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {DEADLINE} s")


class Cluster:
    """The services of compose as hosts of a network: the scheduler, each worker, and a client."""

    def __init__(self, network, services):
        self.network, self.services = network, services

    def start(self):
        self.serve("scheduler", "scheduler")
        for worker in self.workers:
            self.serve(worker, "worker")
        return self

    @property
    def workers(self):
        return [name for name in self.network.names if name.startswith("worker")]

    def serve(self, host, service):
        """Start what compose starts, and wait until it is healthy as compose sees it."""
        wanted = self.services[service]
        process = self.network.start(host, wanted["command"], wanted["environment"])
        _, *test = wanted["healthcheck"]["test"]

        def healthy():
            assert process.poll() is None, self.network.log(host)
            return self.network.run(host, test).returncode == 0

        wait_for(healthy, f"{host} is healthy")

    def compress(self, source, bundle, *options, start=False, **environment):
        arguments = [sys.executable, "-m", "kmdask", "compress", source, bundle, "-k", K, "-q"]
        do = self.network.start if start else self.network.run
        pairs = self.services["client"]["environment"] | environment
        return do("client", [*arguments, *options], pairs)

    def ask(self, script, *arguments):
        pairs = self.services["client"]["environment"]
        seen = self.network.run("client", [sys.executable, "-c", script, *arguments], pairs)
        assert seen.returncode == 0, seen.stderr
        return json.loads(seen.stdout)


@pytest.fixture(scope="module")
def environment():
    """What a container would have, and where the programs are."""
    path = f"{sysconfig.get_path('scripts')}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DASK_")}
    whole_log = {"DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "100000"}  # for LOOK
    return kept | whole_log | {"PATH": path, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def allowed(tmp_path_factory):
    """Skip where namespaces cannot be made, saying why."""
    if IP is None:
        pytest.skip("there is no `ip`: install iproute2")
    try:
        with Network(["probe"], tmp_path_factory.mktemp("probe"), {}):
            pass
    except OSError as error:
        pytest.skip(f"network namespaces are not allowed here: {error}")


@pytest.fixture(scope="module")
def make_cluster(allowed, tmp_path_factory, environment, compose):  # noqa: ARG001
    """``make_cluster(*files)``: start the services of these compose files; closed at the end."""
    with ExitStack() as stack:

        def make(*files, folder=None):
            folder = folder or tmp_path_factory.mktemp("cluster")
            services = compose(*files, MINIO_ROOT_PASSWORD="none of them is used")
            for service in services.values():
                for name, value in service["environment"].items():
                    for path in ("/scratch", "/tls/"):  # what compose mounts
                        if value.startswith(path):
                            service["environment"][name] = f"{folder}{value}"
            replicas = range(1, services["worker"]["deploy"]["replicas"] + 1)
            names = ["scheduler", *(f"worker-{number}" for number in replicas), "client"]
            network = stack.enter_context(Network(names, folder, environment))
            return Cluster(network, services).start()

        yield make


@pytest.fixture(scope="module")
def cluster(make_cluster):
    return make_cluster("compose.yaml")


@pytest.fixture(scope="module")
def source(tmp_path_factory, scene, holes, write_raster):
    """An image of six chunks, with invalid pixels."""
    path = tmp_path_factory.mktemp("source") / "scene.tif"
    return write_raster(path, scene(1400, 2100) & 0xF0, holes(1400, 2100), tiled=True)


@pytest.fixture(scope="module")
def expected(tmp_path_factory, source):
    """What this process writes without any of it."""
    result = kmdask.compress(source, K, tmp_path_factory.mktemp("own") / "out.kmdask")
    return contents(result.path)


def test_hosts_of_their_own(tmp_path, cluster, source, expected):
    done = cluster.compress(source, tmp_path / "out.kmdask")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out.kmdask") == expected

    seen = cluster.ask(LOOK)
    wanted = {cluster.network.addresses[worker] for worker in cluster.workers}
    assert len(wanted) == 2
    assert {re.fullmatch(r"tcp://([\d.]+):\d+", address)[1] for address in seen} == wanted
    for address, worker in seen.items():
        assert set(worker["cards"]) == {"lo", "eth0"}, "a namespace without other cards"
        assert f"//{worker['cards']['eth0']}:" in address
        # Each has read pixels, counted them and written some of the output: of which kind, of the
        # few that a small image has, is as the scheduler sees fit.
        assert {"count", "encode"} <= set(worker["ran"])
        assert {"write-zarr", "write-tiles"} & set(worker["ran"])
    assert {"write-zarr", "write-tiles"} <= set().union(*(w["ran"] for w in seen.values()))


def test_the_host_of_a_worker_is_lost(tmp_path, cluster, source, expected):
    lost = cluster.workers[-1]
    address = f"//{cluster.network.addresses[lost]}:"

    pids = cluster.network.pids(lost)
    assert len(pids) >= 2, "a nanny and its worker"
    cluster.ask(STOP, address, *pids)
    run = cluster.compress(source, tmp_path / "out.kmdask", start=True)
    wait_for(
        lambda: all(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in pids),
        f"{lost} has work",
    )
    assert run.poll() is None
    cluster.network.kill(lost)

    assert run.wait(DEADLINE) == 0, cluster.network.log("client")
    assert contents(tmp_path / "out.kmdask") == expected
    assert not any(address in worker for worker in cluster.ask(LOOK))


def test_encrypted(tmp_path, make_cluster, source, expected):
    readme = (ROOT / "cluster" / "README.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```sh\n([^`]*openssl req[^`]*)```", readme)
    if shutil.which("openssl") is None:
        pytest.skip("there is no `openssl` to make a certificate with")
    subprocess.run(["/bin/sh", "-ec", recipe], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "tls" / "key.pem").stat().st_mode & 0o077 == 0

    cluster = make_cluster("compose.yaml", "compose.tls.yaml", folder=tmp_path)
    done = cluster.compress(source, tmp_path / "out.kmdask")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out.kmdask") == expected
    assert all(address.startswith("tls://") for address in cluster.ask(LOOK))

    # Whoever has not got the key is refused.
    subprocess.run(["/bin/sh", "-ec", recipe], cwd=tmp_path, check=True, capture_output=True)
    stranger = cluster.compress(source, tmp_path / "stranger.kmdask")
    assert stranger.returncode == 1
    assert stranger.stderr.startswith("Error: there is no Dask scheduler to talk to"), (
        stranger.stderr
    )
    assert not (tmp_path / "stranger.kmdask").exists()
