"""The files of `cluster/`: what they say holds together, and with what Dask and kmdask take.

`make check-cluster` checks more: linters, the operator's schemas, and the image's steps for real.
"""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from contextlib import suppress
from pathlib import Path

import click
import dask
import numpy as np
import psutil
import pytest
import yaml
from distributed.cli import dask_scheduler, dask_worker
from distributed.worker_memory import parse_memory_limit
from numba.core.caching import _CacheLocator

import kmdask
from kmdask.cli import main as kmdask_cli

ROOT = Path(kmdask.__file__).parents[1]
CLUSTER = ROOT / "cluster"
KUBERNETES = CLUSTER / "kubernetes"
PASSWORD = {"MINIO_ROOT_PASSWORD": "secret of a test"}


def text_of(name):
    return (CLUSTER / name).read_text(encoding="utf-8")


def parse(command):
    """The options of a command line, by the program's own parser; nothing is run."""
    program, *arguments = shlex.split(command) if isinstance(command, str) else command
    if program == "kmdask":
        group = kmdask_cli.make_context("kmdask", list(arguments[:1]))
        return group.command.commands[arguments[0]].make_context("kmdask", arguments[1:]).params
    assert program == "dask"
    kind = {"scheduler": dask_scheduler, "worker": dask_worker}[arguments[0]]
    options = kind.main.make_context("dask", arguments[1:]).params
    # Dask's worker takes an option that it does not know for its scheduler.
    assert not str(options.get("scheduler")).startswith("-"), options["scheduler"]
    return options


@pytest.mark.parametrize("program", ["dask scheduler", "dask worker", "kmdask compress a b -k 4"])
def test_the_parser_refuses(program):
    with pytest.raises((click.NoSuchOption, AssertionError), match="no-such-option"):
        parse(f"{program} --no-such-option")


def test_every_file_is_explained():
    readme = text_of("README.md")
    files = [path for path in CLUSTER.rglob("*") if path.is_file() and path.name != "README.md"]
    assert len(files) > 9
    ignored = (CLUSTER / ".env", CLUSTER / "tls", CLUSTER / "__pycache__")
    for file in files:
        if not any(file.is_relative_to(path) for path in ignored):
            assert file.name in readme
    for name in re.findall(r"\]\((?!http|#|\.\.)([^)#]+)\)", readme):
        assert (CLUSTER / name).exists()


# compose


@pytest.fixture(scope="module")
def services(compose):
    return compose("compose.yaml", **PASSWORD)


OURS = ["scheduler", "worker", "client", "bucket", "notebook"]
STAY = ["scheduler", "worker", "minio", "notebook"]


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        ("cluster/compose.yaml", "compose-spec"),
        ("cluster/compose.tls.yaml", "compose-spec"),
        (".github/workflows/ci.yml", "github-workflows"),
    ],
)
def test_schema(file, schema):
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*check, ROOT / file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_reads_it():
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], check=False).returncode:
        pytest.skip("there is no `docker compose`")
    for files in (["compose.yaml"], ["compose.yaml", "compose.tls.yaml"]):
        named = [word for file in files for word in ("--file", CLUSTER / file)]
        subprocess.run(
            [docker, "compose", *named, "--profile", "*", "config", "--quiet"],
            env=os.environ | PASSWORD,
            check=True,
        )


def test_services(services):
    assert sorted(services) == sorted({*OURS, *STAY})


def test_a_password_is_asked_for(compose):
    with pytest.raises(AssertionError, match="MINIO_ROOT_PASSWORD has to be given"):
        compose("compose.yaml")


def test_ports_are_open_to_this_machine_alone(services):
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 5
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert not any(service.get("network_mode") for service in services.values())


@pytest.mark.parametrize("name", STAY)
def test_services_that_stay_have_health_checks(services, name):
    service = services[name]
    assert service["restart"] == "unless-stopped"
    kind, program, *arguments = service["healthcheck"]["test"]
    assert kind == "CMD"
    if name == "minio":
        return
    # The port that is asked is one that the command opens.
    assert program == "python"
    port = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\w+", arguments[-1])[1]
    assert re.search(rf"(:|--port ){port}\b", service["command"])


@pytest.mark.parametrize("name", sorted({*OURS} - {*STAY}))
def test_services_that_end_have_none(services, name):
    assert services[name]["healthcheck"] == {"disable": True}
    assert "restart" not in services[name]


def test_nobody_waits_for_what_has_no_health_check(services):
    waits = [
        (other, condition["condition"])
        for service in services.values()
        for other, condition in service.get("depends_on", {}).items()
    ]
    assert len(waits) == 4
    assert {condition for _, condition in waits} == {"service_healthy"}
    assert {other for other, _ in waits} <= set(STAY)


@pytest.mark.parametrize("name", OURS)
def test_services_may_do_little(services, name):
    service = services[name]
    assert service["user"] == "1000:1000"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert not service.get("privileged")


def test_commands_parse(services):
    scheduler = parse(services["scheduler"]["command"])
    address = services["worker"]["environment"]["DASK_SCHEDULER_ADDRESS"]
    assert address == f"tcp://scheduler:{scheduler['port']}"
    assert f"127.0.0.1:{scheduler['port']}:{scheduler['port']}" in services["scheduler"]["ports"]

    worker = parse(services["worker"]["command"])
    assert worker["n_workers"] == "1"
    assert worker["nthreads"] == 2
    assert parse_memory_limit(worker["memory_limit"], 2, logger=None) > 0
    for name in OURS:
        assert services[name]["environment"]["DASK_SCHEDULER_ADDRESS"] == address


def test_memory_follows_the_formula(services):
    worker = services["worker"]
    threads = parse(worker["command"])["nthreads"]
    limit = dask.utils.parse_bytes(worker["deploy"]["resources"]["limits"]["memory"] + "ib")
    assert limit >= (1.5 + 0.75 * threads) * 2**30


def test_everyone_shares_the_data(services):
    for name in OURS:
        assert "data:/data" in services[name]["volumes"]
        assert (
            services[name]["environment"]["DASK_TEMPORARY_DIRECTORY"] in services[name]["volumes"]
        )


def test_everyone_reaches_the_object_store(services):
    minio = services["minio"]["environment"]
    for name in OURS:
        environment = services[name]["environment"]
        assert environment["AWS_ENDPOINT_URL"] == "http://minio:9000"
        assert environment["AWS_ACCESS_KEY_ID"] == minio["MINIO_ROOT_USER"]
        assert environment["AWS_SECRET_ACCESS_KEY"] == PASSWORD["MINIO_ROOT_PASSWORD"]


def test_settings_are_those_of_the_example():
    used = re.findall(r"\$\{(\w+):(-[^}]*|\?)", text_of("compose.yaml"))
    lines = re.findall(r"^(\w+)=(.*)$", text_of(".env.example"), re.MULTILINE)
    wanted = {name: default.removeprefix("-").removeprefix("?") for name, default in used}
    assert dict(lines) == wanted


def test_tls_of_compose(compose, services):
    secure = compose("compose.yaml", "compose.tls.yaml", **PASSWORD)
    for name in ("scheduler", "worker", "client", "notebook"):
        environment = secure[name]["environment"]
        assert environment["DASK_SCHEDULER_ADDRESS"] == "tls://scheduler:8786"
        assert environment.items() >= {
            (key, value)
            for key, value in services[name]["environment"].items()
            if key != "DASK_SCHEDULER_ADDRESS"
        }
        config = dask.config.collect_env(environment)
        comm = config["distributed"]["comm"]
        assert comm["require_encryption"] is True
        for role in ("scheduler", "worker", "client"):
            assert comm["tls"][role] == {"cert": "/tls/cert.pem", "key": "/tls/key.pem"}
        assert "./tls:/tls:ro" in secure[name]["volumes"]


# The image


@pytest.fixture(scope="module")
def stages():
    """The stages of the Dockerfile: name, what it is made from, and its instructions."""
    text = re.sub(r"^#.*\n", "", text_of("Dockerfile"), flags=re.MULTILINE)
    found = {}
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            start, name = re.fullmatch(r"(\S+) AS (\w+)", rest).groups()
            found[name] = (start, [])
        elif word and word != "ARG":
            found[name][1].append((word, rest))
    return found


def lineage(stages, name):
    """Instructions of a stage and of those that it is made from."""
    start, instructions = stages[name]
    return (lineage(stages, start) if start in stages else []) + instructions


@pytest.mark.parametrize("name", ["kmdask", "notebook"])
def test_the_image_does_not_run_as_root(stages, name):
    users = [rest for word, rest in lineage(stages, name) if word == "USER"]
    assert users[-1] == "1000:1000", "a number: Kubernetes cannot tell of a name that it is no root"


def test_the_last_stage_is_the_image(stages, services):
    assert list(stages)[-1] == "kmdask"
    assert services["notebook"]["build"]["target"] == "notebook"
    assert {services[name]["build"]["target"] for name in OURS} == {"kmdask", "notebook"}


def test_the_base_is_pinned_and_tested(stages):
    (base,) = {start for start, _ in stages.values() if start not in stages}
    python = re.search(r"^ARG PYTHON=(\S+)$", text_of("Dockerfile"), re.MULTILINE)[1]
    assert base == "python:${PYTHON}-slim-bookworm"
    tested = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert python in tested["jobs"]["test"]["strategy"]["matrix"]["python"]


def test_everything_is_installed_with_the_pins(stages):
    runs = [rest for _, done in stages.values() for word, rest in done if word == "RUN"]
    installs = [
        step.strip()
        for run in runs
        for step in run.split("&&")
        if re.search(r"\bpip (install|wheel)\b", step)
    ]
    assert len(installs) == 4
    for step in installs:
        assert re.search(r"-c (/tmp/)?constraints\.txt|--no-deps", step)
        assert "--no-cache-dir" in step


def test_its_extras_exist():
    extras = re.search(r'"\.\[([\w,]+)\]"', text_of("Dockerfile"))[1].split(",")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras) == {"demo", "s3"}
    assert set(extras) - {"s3"} <= set(project["optional-dependencies"])


def test_what_is_copied_is_there_and_may_be_seen(stages):
    patterns = text_of("Dockerfile.dockerignore").splitlines()
    seen = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    assert "*" in patterns
    instructions = [pair for _, done in stages.values() for pair in done]
    assert not any(word == "ADD" for word, _ in instructions)
    copied = [
        path
        for word, rest in instructions
        if word == "COPY" and "--from" not in rest
        for path in rest.split()[:-1]
    ]
    bound = re.findall(r"type=bind,source=([^,\s]+)", str(instructions))
    assert "constraints.txt" in copied
    assert "cluster/warm.py" in bound
    for path in copied + bound:
        assert (ROOT / path).exists()
        assert any(fnmatch.fnmatch(path, f"{shown}*") for shown in seen)


def test_the_cache_of_kernels_stays_writable(stages):
    instructions = lineage(stages, "kmdask")
    cache = dict(re.findall(r"(\w+)=(\S+)", str([r for w, r in instructions if w == "ENV"])))
    path = cache["NUMBA_CACHE_DIR"].rstrip("']\"")
    warm = next(n for n, (_, rest) in enumerate(instructions) if "warm.py" in rest)
    assert f"chmod -R a+rwX {path}" in instructions[warm][1]
    assert any(f"--owner=kmdask --group=kmdask {path}" in rest for _, rest in instructions[:warm])


# Kubernetes


def documents(secure):
    text = {name: (KUBERNETES / name).read_text() for name in ("cluster.yaml", "job.yaml")}
    if secure:
        assert all("#tls " in value for value in text.values())
        text = {name: value.replace("#tls ", "") for name, value in text.items()}
    return {name: yaml.safe_load(value) for name, value in text.items()}


@pytest.fixture(params=[False, True], ids=["plain", "tls"], scope="module")
def resources(request):
    return documents(request.param)


def pods(resources):
    """Name of the cluster, part and pod of every pod there will be."""
    cluster, job = resources["cluster.yaml"], resources["job.yaml"]
    for name, spec in (
        (cluster["metadata"]["name"], cluster["spec"]),
        (job["metadata"]["name"], job["spec"]["cluster"]["spec"]),
    ):
        yield name, "scheduler", spec["scheduler"]["spec"]
        yield name, "worker", spec["worker"]["spec"]
    yield job["metadata"]["name"], "job", job["spec"]["job"]["spec"]


def test_kinds(resources):
    kinds = [(item["apiVersion"], item["kind"]) for item in resources.values()]
    assert kinds == [("kubernetes.dask.org/v1", kind) for kind in ("DaskCluster", "DaskJob")]


def test_pods(resources):
    (claim,) = yaml.safe_load_all((KUBERNETES / "volume.yaml").read_text())
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    images = set()
    for _, part, pod in pods(resources):
        (container,) = pod["containers"]
        images.add(container["image"])
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 1000
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        limits, requests = (container["resources"][key] for key in ("limits", "requests"))
        assert limits["memory"] == requests["memory"], "so that no node promises too much"
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        assert {mount["name"] for mount in container.get("volumeMounts", [])} == volumes
        if part != "scheduler":
            assert {"name": "data", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}} in pod["volumes"]  # fmt: skip # noqa: E501
        assert pod.get("restartPolicy") == ("Never" if part == "job" else None)
    assert len(images) == 1
    assert not next(iter(images)).endswith(":latest")


def test_probes_and_services(resources):
    for name, part, pod in pods(resources):
        (container,) = pod["containers"]
        if part == "job":
            continue
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        options = parse(container["args"])
        opened = int(options["dashboard_address"].rpartition(":")[2])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"] == {"port": "http-dashboard", "path": "/health"}
        assert ports["http-dashboard"] == opened
        if part == "worker":
            assert options["name"] == "$(DASK_WORKER_NAME)"
            memory = dask.utils.parse_bytes(container["resources"]["limits"]["memory"] + "B")
            assert memory >= (1.5 + 0.75 * options["nthreads"]) * 2**30 * 0.98
            continue
        assert ports["tcp-comm"] == int(options["port"])
        assert options["host"] == "0.0.0.0", "the other pods have to reach it"  # noqa: S104
        service = next(
            spec["scheduler"]["service"]
            for spec in (
                resources["cluster.yaml"]["spec"],
                resources["job.yaml"]["spec"]["cluster"]["spec"],
            )
            if spec["scheduler"]["service"]["selector"]["dask.org/cluster-name"] == name
        )
        assert service["type"] == "ClusterIP"
        assert {port["targetPort"] for port in service["ports"]} == set(ports)


def test_the_job_compresses_one_image(resources):
    (container,) = resources["job.yaml"]["spec"]["job"]["spec"]["containers"]
    options = parse(container["args"])
    assert (options["src"], options["out"], options["k"]) == (
        "/data/scene.tif",
        "/data/scene.kmdask",
        16,
    )


def test_tls_of_kubernetes():
    for name, part, pod in pods(documents(secure=True)):
        (container,) = pod["containers"]
        assert {"configMapRef": {"name": "kmdask-tls"}} in container["envFrom"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["tls"] == "/tls"
        addresses = [
            pair["value"]
            for pair in container.get("env", [])
            if pair["name"] == "DASK_SCHEDULER_ADDRESS"
        ]
        assert addresses == ([] if part == "scheduler" else [f"tls://{name}-scheduler:8786"])


# Slurm

OLD_NAMES = {"extra", "env-extra", "job-extra"}


@pytest.fixture
def jobqueue():
    """Dask's configuration with our file in it, as if it stood in ~/.config/dask."""
    import dask_jobqueue  # noqa: F401  brings its own

    known = dask.config.get("jobqueue.slurm")
    ours = yaml.safe_load(text_of("slurm/jobqueue.yaml"))
    with dask.config.set(dask.config.merge(dask.config.config, ours)):
        yield known, ours["jobqueue"]["slurm"]


def test_every_key_is_known_and_none_is_missing(jobqueue):
    known, ours = jobqueue
    assert set(ours) == set(known) - OLD_NAMES


def test_every_key_is_commented():
    _, _, body = text_of("slurm/jobqueue.yaml").partition("  slurm:\n")
    blocks = body.split("\n\n")
    assert len(blocks) > 3
    for block in blocks:
        assert block.startswith("    #")
    keys = re.findall(r"^    ([\w-]+):", body, re.MULTILINE)
    comments = re.findall(r"^    #", body, re.MULTILINE)
    assert len(comments) >= len(keys) * 0.9


def test_the_job_script(jobqueue):
    from dask_jobqueue.slurm import SLURMJob

    _, ours = jobqueue
    script = SLURMJob(scheduler="tls://10.0.0.1:8786", name="worker-0").job_script()
    assert script.splitlines()[0] == ours["shebang"]
    assert f"#SBATCH -J {ours['name']}" in script
    assert f"#SBATCH --cpus-per-task={ours['cores']}" in script
    assert f"#SBATCH -t {ours['walltime']}" in script
    assert "#SBATCH --mem=10G" in script
    for line in ours["job-script-prologue"]:
        assert f"\n{line}\n" in script
    (started,) = [
        line for line in script.splitlines() if " -m distributed.cli.dask_worker " in line
    ]
    started = started.replace(ours["local-directory"], "/scratch")
    options = parse(["dask", "worker", *shlex.split(started)[3:]])
    assert options["scheduler"] == "tls://10.0.0.1:8786"
    assert options["n_workers"] == str(ours["processes"])
    assert options["nthreads"] * ours["processes"] == ours["cores"]
    assert options["local_directory"] == "/scratch"
    assert float(options["death_timeout"]) == ours["death-timeout"]
    each = dask.utils.parse_bytes(options["memory_limit"])
    assert each >= (1.5 + 0.75 * options["nthreads"]) * 1e9


SRUN = """#!/bin/bash
# What srun does on one node: the command once for each task, all ended together.
trap 'kill $(jobs -p); wait' TERM
for ((task = 0; task < SLURM_NTASKS; task++)); do "$@" & done
wait
"""


@pytest.fixture
def batch(tmp_path):
    """``batch(*arguments)``: run the batch script with a stand-in for srun."""
    shared = tmp_path / "shared"
    tools = tmp_path / "tools"
    shared.mkdir()
    tools.mkdir()
    (tools / "srun").write_text(SRUN)
    (tools / "srun").chmod(0o755)
    (tools / "kmdask").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m kmdask "$@"\n')
    (tools / "kmdask").chmod(0o755)
    # The tests' own kernels, which else would be compiled for a minute.
    kernels = ROOT / "kmdask" / "kernels"
    named = _CacheLocator.get_suitable_cache_subpath(str(kernels / "colors.py"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / named).symlink_to(kernels / "__pycache__")
    path = f"{tools}:{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    environment = os.environ | {
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path),
        "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR") or str(tmp_path / "cache"),
        "SLURM_JOB_ID": "77",
        "SLURM_SUBMIT_DIR": str(shared),
        "SLURM_NTASKS": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_MEM_PER_CPU": "2000",
    }

    def run(*arguments):
        return subprocess.Popen(
            ["/bin/bash", CLUSTER / "slurm" / "kmdask.sbatch", *map(str, arguments)],
            env=environment,
            cwd=shared,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return run


def test_batch_script_without_arguments(batch):
    with batch("scene.tif") as process:
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert told.startswith("usage: sbatch ")


@pytest.mark.cluster
@pytest.mark.slow
def test_batch_script(tmp_path, batch, scene, write_raster):
    if shutil.which("openssl") is None:
        pytest.skip("there is no `openssl` to make a certificate with")
    source = write_raster(tmp_path / "scene.tif", scene(700, 900) & 0xF0)
    own = kmdask.compress(source, 5, tmp_path / "own.kmdask")
    with batch(source, tmp_path / "out.kmdask", "-k", 5, "--json", "-q") as process:
        told, _ = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert told.count("Register worker addr: tls://") == 2
    ours, theirs = (kmdask.open(tmp_path / f"{name}.kmdask") for name in ("own", "out"))
    assert np.array_equal(ours.palette.colors, theirs.palette.colors)
    assert np.array_equal(ours.indices.compute(), theirs.indices.compute())
    assert own.report.mse == pytest.approx(theirs.report.mse)
    assert list((tmp_path / "shared").iterdir()) == [], "the key is removed with the rest"
    assert wait_for_the_end_of(process.pid) == []


def wait_for_the_end_of(session):
    """Processes of a session that are still there after a while."""

    def living():
        for process in psutil.process_iter(["status"]):
            with suppress(ProcessLookupError):
                if os.getsid(process.pid) == session and process.info["status"] != "zombie":
                    yield process

    _, left = psutil.wait_procs(list(living()), timeout=20)
    left = [process for process in left if process in list(living())]
    for process in left:
        process.kill()
    return left
