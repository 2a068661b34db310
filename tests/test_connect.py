"""Ways to a cluster: local ones, encrypted ones; and what is said when one is lost."""

import sys
import time
from contextlib import contextmanager

import dask
import numpy as np
import pytest
from click.testing import CliRunner
from distributed import Client, LocalCluster, Security

import kmdask
from kmdask.cli import main

pytestmark = pytest.mark.cluster

DEADLINE = 60


def wait_for(condition):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing came in {DEADLINE} s")


@pytest.fixture(scope="module")
def source(tmp_path_factory, scene):
    path = tmp_path_factory.mktemp("source") / "scene.npy"
    np.save(path, scene(1100, 2300) & 0xF0)
    return path


# On this machine


def test_local_processes(tmp_path, source):
    local = kmdask.Local(workers=2, threads=1, memory_limit="1500 MB")
    with kmdask.connect(local) as client:
        found = client.run(lambda dask_worker: dask_worker.memory_manager.memory_limit)
        threads = client.nthreads()
        kmdask.compress(source, 4, tmp_path / "out.kmdask")
    assert list(found.values()) == [1_500_000_000] * 2
    assert set(threads.values()) == {1}
    assert all(address.startswith("tcp://127.0.0.1:") for address in found)
    assert client.status == "closed"


def test_no_profiler_where_it_may_stop_python_for_ever():
    with (
        dask.config.set({"distributed.worker.profile.enabled": True}),
        kmdask.connect(kmdask.Local(threads=1)) as client,
    ):
        (callbacks,) = client.run(lambda dask_worker: [*dask_worker.periodic_callbacks]).values()
    assert ("profile" in callbacks) is (sys.version_info >= (3, 12))


def test_local_threads():
    with kmdask.connect(kmdask.Local(threads=3)) as client:
        assert client.scheduler.address.startswith("inproc://")
        assert list(client.nthreads().values()) == [3]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", 0),
        ("workers", True),
        ("threads", -1),
        ("threads", 1.5),
        ("memory_limit", "much"),
        ("memory_limit", "0"),
        ("memory_limit", -5),
        ("memory_limit", True),
        ("memory_limit", ["2GB"]),
    ],
)
def test_local_out_of_range(name, value):
    with pytest.raises(kmdask.ParameterError, match=f"{name} is"):
        kmdask.Local(**{name: value})


def test_a_client_that_is_closed(source):
    with (
        LocalCluster(processes=False, n_workers=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        pass
    with pytest.raises(kmdask.ClusterError, match="is closed"):
        kmdask.compress(source, 2, client=client)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--scheduler", "tcp://127.0.0.1:9", "--workers", 2],
        ["--tls-cert", "cert.pem", "--memory-limit", "2GB"],
        ["--scheduler", "tcp://127.0.0.1:9", "--scheduler-file", "scheduler.json"],
    ],
)
def test_options_that_contradict_each_other(source, arguments):
    done = CliRunner().invoke(main, list(map(str, ["compress", source, "-k", 2, *arguments])))
    assert done.exit_code == 2
    assert "give one of them" in done.stderr


def test_a_source_that_is_not_there_is_noticed_before_a_cluster_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr("kmdask.connecting.clusters.Local.started", None)
    with pytest.raises(kmdask.SourceNotFoundError, match="missing"):
        kmdask.compress(tmp_path / "missing.tif", 2)
    assert list(tmp_path.iterdir()) == []


# Encrypted


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """``certificates(name)``: arguments of a `Remote`; those of one name trust each other."""
    folder = tmp_path_factory.mktemp("certificates")

    def make(name):
        made = Security.temporary()
        parts = {
            "tls_ca_file": made.tls_ca_file,
            "tls_cert": made.tls_client_cert,
            "tls_key": made.tls_client_key,
        }
        for part, content in parts.items():
            (folder / f"{name}-{part}").write_text(content)
        return {part: str(folder / f"{name}-{part}") for part in parts}

    return {name: make(name) for name in ("ours", "theirs")}


@pytest.fixture(scope="module")
def encrypted(certificates):
    """The address of a scheduler and a worker that only speak tls."""
    files = certificates["ours"]
    roles = ("client", "scheduler", "worker")
    security = Security(
        require_encryption=True,
        tls_ca_file=files["tls_ca_file"],
        **{f"tls_{role}_cert": files["tls_cert"] for role in roles},
        **{f"tls_{role}_key": files["tls_key"] for role in roles},
    )
    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        host="127.0.0.1",
        protocol="tls",
        security=security,
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
    ) as cluster:
        yield cluster.scheduler_address


def test_tls_by_remote(tmp_path, source, certificates, encrypted):
    assert encrypted.startswith("tls://")
    remote = kmdask.Remote(encrypted, **certificates["ours"])
    result = kmdask.compress(source, 4, tmp_path / "out.kmdask", client=remote)
    assert len(result.palette) == 4


def test_tls_by_command_line(tmp_path, source, certificates, encrypted):
    files = certificates["ours"]
    arguments = [text for name, path in files.items() for text in (f"--{name}", path)]
    arguments = [text.replace("_", "-") if text.startswith("--") else text for text in arguments]
    done = CliRunner().invoke(
        main, ["doctor", str(source), str(tmp_path / "o"), "--scheduler", encrypted, *arguments]
    )
    assert done.exit_code == 0, done.output
    assert "ok    encryption: all that goes over the network is encrypted" in done.stdout


def configured(files):
    return {
        "distributed.comm.tls.ca-file": files["tls_ca_file"],
        "distributed.comm.tls.client.cert": files["tls_cert"],
        "distributed.comm.tls.client.key": files["tls_key"],
    }


def test_tls_by_configuration(certificates, encrypted):
    with (
        dask.config.set(configured(certificates["ours"]) | {"scheduler-address": encrypted}),
        kmdask.connect() as client,
    ):
        assert client.submit(sum, [1, 2]).result() == 3


@pytest.mark.timeout(30)
def test_tls_without_certificates(encrypted):
    with pytest.raises(kmdask.ClusterError, match="--tls-ca-file"), kmdask.connect(encrypted):
        pass


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("authority", "shown"), [("theirs", "theirs"), ("ours", "theirs")])
def test_tls_with_certificates_of_others(certificates, encrypted, authority, shown):
    files = certificates[shown] | {"tls_ca_file": certificates[authority]["tls_ca_file"]}
    remote = kmdask.Remote(encrypted, **files)
    with (
        pytest.raises(kmdask.ClusterError, match=r"(?i)certificate|unknown ca"),
        kmdask.connect(remote),
    ):
        pass


@pytest.mark.timeout(30)
def test_tls_with_a_file_that_is_no_certificate(tmp_path, encrypted, certificates):
    (tmp_path / "empty.pem").write_text("")
    remote = kmdask.Remote(
        encrypted, **certificates["ours"] | {"tls_cert": str(tmp_path / "empty.pem")}
    )
    with pytest.raises(kmdask.ClusterError, match="tls://"), kmdask.connect(remote):
        pass


def test_tls_files_that_are_not_there():
    with pytest.raises(kmdask.ParameterError, match=r"tls_key .* 'missing\.pem'"):
        kmdask.Remote("tls://127.0.0.1:9", tls_key="missing.pem")


def test_tls_files_without_an_address(certificates):
    remote = kmdask.Remote(**certificates["ours"])
    with pytest.raises(kmdask.ParameterError, match="no address"), kmdask.connect(remote):
        pass


@pytest.mark.timeout(30)
def test_an_encrypted_scheduler_taken_for_a_plain_one(monkeypatch, encrypted):
    monkeypatch.setattr("kmdask.connecting.clusters.PATIENCE", 1)
    plain = encrypted.replace("tls://", "tcp://")
    with pytest.raises(kmdask.ClusterError, match="tls://"), kmdask.connect(plain):
        pass


# Lost


class Killer:
    """A progress that kills a process at the beginning of, or early in, a stage."""

    def __init__(self, process, stage, early):
        self.process, self.target, self.early, self.current = process, stage, early, None

    def connected(self, dashboard):
        pass

    @contextmanager
    def stage(self, name):
        self.current = name
        if not self.early:
            self.kill()
        yield

    def advance(self, done, total):
        if self.early and 0 < done < total:
            self.kill()

    def note(self, text):
        pass

    def kill(self):
        if self.current == self.target and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("stage", "early", "given"),
    [
        ("count", True, False),
        ("fit", False, True),
        ("write", False, False),
        ("write", True, True),
    ],
)
def test_the_scheduler_is_killed(tmp_path, monkeypatch, source, start, stage, early, given):
    monkeypatch.setattr("kmdask.connecting.clusters.PATIENCE", 5)
    file = tmp_path / "scheduler.json"
    scheduler = start("scheduler", "--scheduler-file", file)
    wait_for(file.exists)
    start("worker", "--scheduler-file", file)
    (tmp_path / "results").mkdir()
    killer = Killer(scheduler, stage, early)
    with Client(scheduler_file=str(file), set_as_default=False) as first:
        first.wait_for_workers(1, timeout=DEADLINE)
    with dask.config.set({"distributed.comm.timeouts.connect": "5s"}):
        client = Client(scheduler_file=str(file), set_as_default=False) if given else str(file)
        with pytest.raises(kmdask.ClusterError, match="was lost") as caught:
            kmdask.compress(
                source, 4, tmp_path / "results" / "out.kmdask", client=client, progress=killer
            )
        if given:
            client.close()
    assert scheduler.returncode is not None, "it was not killed"
    assert "\n" not in str(caught.value)
    assert "tcp://127.0.0.1:" in str(caught.value)
    left = [path.name for path in (tmp_path / "results").iterdir()]
    # Once there is a palette, a run can be gone on with.
    assert [name.partition("-")[0] for name in left] == [".out.kmdask.partial"] * (stage == "write")


@pytest.mark.parametrize("error", [TimeoutError("mine"), AttributeError("mine"), OSError("mine")])
def test_errors_of_others_stay_theirs(encrypted, certificates, error):
    remote = kmdask.Remote(encrypted, **certificates["ours"])
    with pytest.raises(type(error), match="mine") as caught, kmdask.connect(remote):
        raise error
    assert not isinstance(caught.value, kmdask.KmdaskError)
