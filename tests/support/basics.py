"""What the tests share: servers on loopback, small nightly files, and a workspace.

The environment of the person who runs the tests is removed: none of their settings reaches a test.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import jinja2
import pytest
from sqlalchemy.engine import make_url

ROOT = Path(__file__).parents[2]
SALT = "a salt for the tests only"
CHURN_VARIABLES = [name for name in os.environ if name.startswith("CHURN_")]
for name in [*CHURN_VARIABLES, "MLFLOW_TRACKING_URI", "AWS_PROFILE"]:
    os.environ.pop(name, None)
os.environ["CHURN_BUCKET_SALT"] = SALT
os.environ["CHURN_CONTAINER_ENGINE"] = "none"
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
os.environ["GX_ANALYTICS_ENABLED"] = "false"
os.environ["OMP_NUM_THREADS"] = (
    "1"  # the fits are small and run beside servers; more threads would only wait for one another
)
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # as in `make run`: threads that wait leave the cores to other processes
sys.path[:0] = [str(ROOT / "dags")]

from churn.contracts.bank import BANK_CHURN  # noqa: E402
from churn.decision.replay import replay  # noqa: E402
from churn.foundation.schema import metadata  # noqa: E402
from churn.release.mirror import mirror  # noqa: E402
from churn.sample.generator import Night, make_night  # noqa: E402
from churn.settings import Settings  # noqa: E402
from support.divisions import SETTINGS  # noqa: E402
from support.ports import free_port  # noqa: E402

Settings.model_config["env_file"] = None
from churn.errors import NothingToDo  # noqa: E402
from churn.pipeline import steps  # noqa: E402
from churn.pipeline.workspace import Request, Workspace  # noqa: E402


@dataclass(frozen=True)
class S3:
    """A running S3 API with one bucket."""

    endpoint: str
    bucket: str
    key: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
        }


@contextmanager
def running(
    command: list[str], ready: Callable[[], bool], log: Path, env: dict[str, str] | None = None
) -> Iterator[None]:
    """Run a server process in a session of its own: wait until it is ready, and end it afterwards."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | (env or {}),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=log.parent,
        )
    try:
        deadline = time.monotonic() + 90
        while not ready():
            assert process.poll() is None, f"{command[0]} ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"{command[0]} is not ready: {log.read_text()[-2000:]}"
            time.sleep(0.1)
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 15)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait(5)


def in_fresh_interpreter(code: str) -> str:
    """Run code in a Python process of its own; returns what it prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def answers(url: str) -> Callable[[], bool]:
    """Return a check whether a server answers at a URL."""
    client = httpx.Client(timeout=2)

    def is_answered() -> bool:
        try:
            return client.get(url).status_code < 500
        except httpx.TransportError:
            return False

    return is_answered


def compile_templates_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the compiled templates of Great Expectations, which alone uses this extension and compiles them anew for every page."""
    compile_anew, compiled = jinja2.Environment.compile, {}

    def compile_once(environment: jinja2.Environment, source: str, *where: str | None, **options: bool) -> object:
        if "jinja2.ext.ExprStmtExtension" not in environment.extensions:
            return compile_anew(environment, source, *where, **options)  # type: ignore[arg-type]
        if (source, *where) not in compiled:
            compiled[(source, *where)] = compile_anew(environment, source, *where)
        return compiled[(source, *where)]

    monkeypatch.setattr(jinja2.Environment, "compile", compile_once)


@contextmanager
def mlflow_server(
    folder: Path, backend: str, artifacts: str, env: dict[str, str] | None = None, port: int | None = None
) -> Iterator[str]:
    port = port or free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        backend,
        "--artifacts-destination",
        artifacts,
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    env = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", **(env or {})}
    url = f"http://127.0.0.1:{port}"
    with running(command, answers(f"{url}/health"), folder / "mlflow.log", env):
        yield url


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """Run a SeaweedFS server with an S3 API and one bucket; its files are in the folder."""
    import boto3

    # SeaweedFS uses a second port for gRPC, 10,000 above each of these.
    ports = {name: free_port(below=22_768) for name in ("master.port", "volume.port", "filer.port", "s3.port")}
    server = S3(f"http://127.0.0.1:{ports['s3.port']}", "churn", "test-key", "test-secret-key")
    identity = {
        "name": "test",
        "credentials": [{"accessKey": server.key, "secretKey": server.secret}],
        "actions": ["Admin"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    command = [
        str(Path(sys.executable).with_name("weed")),
        "server",
        "-s3",
        f"-s3.config={folder}/s3.json",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
    ]
    command += [f"-{name}={port}" for name, port in ports.items()] + ["-volume.max=20", "-master.volumeSizeLimitMB=64"]
    # Switch off further servers on fixed ports: test files run in parallel, each with its own server.
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
        region_name="us-east-1",
    )

    def create_bucket() -> bool:
        try:
            client.create_bucket(Bucket=server.bucket)
        except Exception:  # the server is not ready, which shows in many ways
            return False
        return True

    with running(command, create_bucket, folder / "weed.log"):
        yield server


QUICK_CANDIDATES, TWO_KINDS = "support.candidates:quick", "support.candidates:two_kinds"


def make_workspace(folder: Path, mlflow_url: str, **changes: object) -> Workspace:
    name = folder.name
    settings = Settings(
        data_root=str(folder / "data"),
        ledger_url=f"sqlite:///{folder}/ledger.db",
        mlflow_tracking_uri=mlflow_url,
        model_name=name,
        experiment=name,
        cv_folds=2,
        min_training_rows=100,
        candidates=QUICK_CANDIDATES,
        settle_seconds=0,
    )
    return Workspace.open(settings.model_copy(update=SETTINGS | changes))


def export(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the settings of a workspace into the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_tracking_uri)
    for name in (
        "data_root",
        "ledger_url",
        "model_name",
        "experiment",
        "cv_folds",
        "min_training_rows",
        "candidates",
        "settle_seconds",
    ):
        monkeypatch.setenv(f"CHURN_{name.upper()}", str(getattr(settings, name)))


def start_fork(work: Callable[[], object]) -> int:
    """Start work in a fork of this process and return its pid. The fork exits with 0, or with 1 if the work raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def wait_for_exit(pid: int) -> int:
    """Wait for a fork and return its exit status: 0, 1, or minus the number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def crash_points(effects: Sequence[str], named: Sequence[str]) -> list[int]:
    """Return the effects, counted from 1, after which a process is killed.

    `make test` takes the first effect of each named kind; `make test-crashes` sets TEST_CRASHES=all and takes every effect.
    """
    if os.environ.get("TEST_CRASHES") == "all":
        return list(range(1, len(effects) + 1))
    points = {next(at for at, effect in enumerate(effects, 1) if name in effect) for name in named}
    return sorted(points)


def run_script(name: str, *arguments: object) -> dict[str, Any]:
    """Run a script of the integration tests, which imports and forks by itself; return its last line, read as JSON."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    completed = subprocess.run(
        [sys.executable, str(ROOT / "tests/integration" / name), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1100,
    )
    assert completed.returncode == 0, completed.stderr[-3000:]
    output: dict[str, Any] = json.loads(completed.stdout.splitlines()[-1])
    return output


def clone_workspace(workspace: Workspace, folder: Path) -> Workspace:
    """Copy data, ledger and versions under a new name; this is fast, because nothing is trained."""
    name = folder.name
    shutil.copytree(workspace.settings.data_root, folder / "data")
    with sqlite3.connect(make_url(workspace.settings.ledger_url).database or "") as ledger:
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ledger.execute("VACUUM INTO ?", (str(folder / "ledger.db"),))
    with sqlite3.connect(folder / "ledger.db") as ledger:
        for table in metadata.tables.values():
            if "model" in table.columns:
                ledger.execute(f"UPDATE {table.name} SET model = ?", (name,))  # noqa: S608 -- our own names
    copy = make_workspace(folder, workspace.settings.mlflow_tracking_uri)
    client, original = workspace.tracking.client, workspace.settings.model_name
    client.create_registered_model(name)
    for version in sorted(
        client.search_model_versions(f"name = '{original}'"), key=lambda version: int(version.version)
    ):
        full = client.get_model_version(original, version.version)
        client.create_model_version(
            name,
            full.source,
            full.run_id,
            full.tags,
            description=full.description,
            model_id=full.source.removeprefix("models:/"),
        )
    mirror(copy.ledger, copy.tracking)
    return copy


def land_night(workspace: Workspace, number: int, name: str | None = None, **changes: object) -> None:
    """Land one of three small nightly files: the second has the customers that the first hardly has."""
    shares = {1: 0.01, 2: 0.6, 3: 0.3}
    night = Night(rows=5000, first_customer=number * 100_000, seed=number, older_share=shares[number])
    land_text(workspace, make_night(workspace.contract, replace(night, **changes)), name or f"night-{number}.csv")


def land_text(workspace: Workspace, text: str | bytes, name: str = "batch.csv") -> None:
    with workspace.storage.writing(f"landing/{name}") as stream:
        stream.write(text if isinstance(text, bytes) else text.encode())


def run_night(workspace: Workspace, name: str, **changes: object) -> str:
    """Do a run without its image; returns `verdict code`."""
    request = Request(name, **changes)  # type: ignore[arg-type]
    for batch in steps.arrive(workspace, request).batches:
        steps.validate(workspace, request, batch.batch)
    decision = steps.compare(workspace, request, steps.train(workspace, request))
    assert replay(decision, workspace.storage).faults == []  # every decision of the tests is replayed
    with suppress(NothingToDo):
        steps.promote(workspace, name)
    return f"{decision.verdict} {decision.code}"


def stages(workspace: Workspace) -> dict[int, str]:
    """Return the stage of every version."""
    versions = workspace.tracking.client.search_model_versions(f"name = '{workspace.settings.model_name}'")
    return {int(version.version): version.current_stage for version in versions}


def small_file(rows: int = 400, **changes: object) -> str:
    """Return a file of the bank contract without faults."""
    return make_night(BANK_CHURN, replace(Night(rows=rows, first_customer=1, seed=7), **changes))
