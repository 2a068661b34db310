"""Check what needs more than the tests have: `make check-cluster` runs this.

The Kubernetes files against the schemas that the operator's resource definitions are made of, and
the install steps of the Dockerfile, run here in a virtual environment instead of an image.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

CLUSTER = Path(__file__).resolve().parent
ROOT = CLUSTER.parent
KUBERNETES = CLUSTER / "kubernetes"

# The oldest Kubernetes whose schemas kubernetes-validate has; the operator's are of 1.21. The
# strict ones refuse what they do not know, which a cluster would drop in silence.
SCHEMAS = "kubernetes_validate/kubernetes-json-schema/v1.25.0-local-strict/_definitions.json"
OPERATOR = "dask_kubernetes/operator/customresources"


def installed(package: str, name: str) -> str:
    """Text of a file of an installed package, which need not be importable."""
    return Path(str(importlib.metadata.distribution(package).locate_file(name))).read_text("utf-8")


def close(schema: Any) -> Any:
    """Let a schema refuse what it does not name."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            close(part)
    return schema


def retrieve(uri: str) -> Resource[Any]:
    """Find what the operator's definitions refer to."""
    if uri.startswith("python://k8s_crd_resolver/"):
        content = json.loads(installed("kubernetes-validate", SCHEMAS))
        content = {"definitions": content["$defs"], "$defs": content["$defs"]}  # the older name too
    else:
        name = uri.removeprefix("python://")
        content = close(yaml.safe_load(installed("dask-kubernetes", name)))
    return Resource(content, DRAFT7)


def check_kubernetes() -> list[str]:
    """Say what the schemas have against our resources, as they are and with TLS."""
    wrong = []
    registry: Registry[Any] = Registry(retrieve=retrieve)
    for name in ("cluster.yaml", "job.yaml"):
        text = (KUBERNETES / name).read_text("utf-8")
        for how, version in (("plain", text), ("tls", text.replace("#tls ", ""))):
            resource = yaml.safe_load(version)
            # What every resource has; the definitions have the rest.
            kind, api, _ = (resource.pop(key) for key in ("kind", "apiVersion", "metadata"))
            definition = yaml.safe_load(
                installed("dask-kubernetes", f"{OPERATOR}/{kind.lower()}.yaml")
            )["spec"]
            (served,) = definition["versions"]
            errors = [
                f"{name} ({how}): {error.json_path}: {error.message}"
                for error in Draft7Validator(
                    close(served["schema"]["openAPIV3Schema"]), registry=registry
                ).iter_errors(resource)
            ]
            if api != f"{definition['group']}/{served['name']}":
                errors.append(f"{name}: {api} is not served")
            print(f"{name} ({how}): {len(errors)} errors")
            wrong += errors
    return wrong


def steps(name: str) -> list[tuple[str, str]]:
    """Instructions of a stage of the Dockerfile, after those of the stages it is made from."""
    text = re.sub(r"^#.*\n", "", (CLUSTER / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    stages: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            start, _, stage = rest.split()
            current = stages[stage] = list(stages.get(start, []))
        elif word:
            current.append((word, rest))
    return stages[name]


class Image:
    """A directory in which the steps of a stage are run, with `/` of the image below it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root
        self.environment = {"HOME": str(root), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        self.environment |= {key: value for key, value in os.environ.items() if key[:3] == "PIP"}

    def here(self, text: str) -> str:
        """Put the absolute paths of the image below the directory."""
        return re.sub(
            r"(?<![\w.{}/@])/(opt|src|dist|data|scratch|tmp|var/cache)\b", rf"{self.root}/\1", text
        )

    def do(self, word: str, rest: str) -> None:
        """Do what an instruction does, as far as it touches Python."""
        if word == "ENV":
            for pair in rest.split():
                key, value = pair.split("=", 1)
                self.environment[key] = self.here(value).replace("$PATH", self.environment["PATH"])
        elif word == "WORKDIR":
            self.directory = Path(self.here(rest))
            self.directory.mkdir(parents=True, exist_ok=True)
        elif word == "COPY" and "--from" not in rest:
            *sources, target = rest.split()
            for source in sources:
                self.copy(ROOT / source, self.directory / target)
        elif word == "RUN" and not rest.startswith(("apt-get", "useradd")):
            self.run(rest)

    @staticmethod
    def copy(source: Path, target: Path) -> None:
        """Copy as COPY does: what is in a directory, or a file into it."""
        if source.is_dir():
            shutil.copytree(
                source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)

    def run(self, line: str) -> str:
        """Run a line of the shell, with the files that are mounted for it; return what it says."""
        command = line
        while command.startswith("--mount="):
            mount, _, command = command.partition(" ")
            fields = dict(field.split("=", 1) for field in mount[len("--mount=") :].split(","))
            if "from" not in fields:  # what another stage made is there
                target = Path(self.here(fields["target"]))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / fields["source"], target)
        print(f"$ {command}", flush=True)
        return subprocess.run(
            ["/bin/sh", "-ec", self.here(command)],
            check=True,
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout


def check_image() -> list[str]:
    """Run the install steps, and what the image is for; say what it has that is not pinned."""
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        image = Image(Path(folder))
        image.environment["PATH"] = f"{Path(sys.executable).parent}:{image.environment['PATH']}"
        # As a build does it: packages and the wheel first, each in its stage, then the image.
        for stage in ("wheel", "runtime"):
            for step in steps(stage):
                image.do(*step)
        image.run("kmdask --version && kmdask demo /data/bluemarble.kmdask --quiet")
        image.run("pip check")
        listed = json.loads(image.run("pip list --format=json --disable-pip-version-check"))
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    there = {package["name"].lower().replace("_", "-") for package in listed}
    loose = sorted(there - set(pinned) - {"pip", "setuptools", "kmdask"})
    return [f"not in constraints.txt: {', '.join(loose)}"] if loose else []


def main() -> None:
    """Check all, and say what is wrong."""
    wrong = check_kubernetes() + check_image()
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
