"""Starts, watches and stops the local Airflow and MLflow of `make run`.

Every process begins in one session of its own, bound to loopback, with its log under `var/log`.
Whoever stops ends that session and everything that descends from it, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import psutil

from churn.airflow_api import AirflowApi, AirflowUnreachable
from churn.errors import ChurnError
from churn.settings import HOME, SECRETS, VAR, Settings

DAGS = {"churn_retraining", "churn_image_build"}
USER = "admin"
LOOPBACK = "127.0.0.1"
LOG, AIRFLOW, MLFLOW, STATE = VAR / "log", VAR / "airflow", VAR / "mlflow", VAR / "embedded.json"
START_TIMEOUT, STOP_TIMEOUT = 180, 15
_POLL = 0.2


class EmbeddedError(ChurnError):
    """The local services cannot be started."""


@dataclass(frozen=True)
class Service:
    """One of the local processes; `created` tells it from a later process with the same pid."""

    name: str
    pid: int
    created: float
    url: str | None = None

    @property
    def process(self) -> psutil.Process | None:
        """The live process, or None."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if process.create_time() == self.created and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


@dataclass(frozen=True)
class ServiceStatus:
    """What `churn status` says of a service."""

    name: str
    pid: int
    url: str | None
    healthy: bool


def ensure_secrets() -> None:
    """Make the secrets of this checkout, each once; readable by their owner only."""
    makers: dict[str, Callable[[], str]] = {
        "churn_bucket_salt": lambda: secrets.token_hex(32),
        "airflow_password": lambda: secrets.token_urlsafe(12),
        "airflow_jwt_secret": lambda: secrets.token_hex(48),
        "airflow_api_secret_key": lambda: secrets.token_hex(32),
        "airflow_fernet_key": lambda: urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    SECRETS.mkdir(parents=True, exist_ok=True)
    SECRETS.chmod(0o700)
    for name, make in makers.items():
        with (
            contextlib.suppress(FileExistsError),
            open(os.open(SECRETS / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file,
        ):
            file.write(make())


def airflow_password() -> str:
    """The generated password of the Airflow user `admin`."""
    return (SECRETS / "airflow_password").read_text()


def airflow_api(settings: Settings) -> AirflowApi:
    """A session with the local Airflow."""
    return AirflowApi(f"http://{LOOPBACK}:{settings.airflow_port}", USER, airflow_password())


def start(settings: Settings, say: Callable[[str], None]) -> None:
    """Start both services and wait until they are healthy and the DAGs are parsed; reuse them if they are.

    Raises:
        EmbeddedError: a port is taken, or a service did not come up; then nothing is left running.
    """
    found = status()
    if found and all(service.healthy for service in found):
        say("Airflow and MLflow are running already.")
        return
    if found:
        say("Some services are down: ending the rest and starting anew.")
    stop()
    _require_free(settings.airflow_port, "CHURN_AIRFLOW_PORT")
    _require_free(settings.mlflow_port, "CHURN_MLFLOW_PORT")
    say(
        f"Starting MLflow on port {settings.mlflow_port} and Airflow on port {settings.airflow_port}; logs are in {LOG.relative_to(HOME)}/."
    )
    try:
        _start(settings)
    except BaseException:
        stop()
        raise


def stop() -> int:
    """End every process of the local services.

    Returns:
        How many there were.
    """
    doomed = _processes()
    for process in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(doomed, timeout=STOP_TIMEOUT)
    for process in {*alive, *_processes()}:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(alive, timeout=STOP_TIMEOUT)
    if alive:
        raise EmbeddedError(
            f"These processes do not end: {', '.join(str(process.pid) for process in alive)}. End them by hand."
        )
    STATE.unlink(missing_ok=True)
    return len(doomed)


def status() -> list[ServiceStatus]:
    """The local services, or none if none were started."""
    return [ServiceStatus(one.name, one.pid, one.url, _healthy(one)) for one in _known()]


def _start(settings: Settings) -> None:
    for folder in (LOG, AIRFLOW, MLFLOW):
        folder.mkdir(parents=True, exist_ok=True)
    services: list[Service] = []
    environment = _environment(settings)

    def launch(name: str, command: list[str], url: str | None = None) -> subprocess.Popen[bytes]:
        # The first process opens the session; the others join its group, so that one signal reaches all.
        group = {"start_new_session": True} if not services else {"process_group": services[0].pid}
        with (LOG / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=environment, cwd=VAR, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **group
            )  # type: ignore[call-overload]
        services.append(Service(name, process.pid, psutil.Process(process.pid).create_time(), url))
        STATE.write_text(json.dumps([asdict(service) for service in services]))
        return process  # type: ignore[no-any-return]

    python = [sys.executable, "-m"]
    airflow_url = f"http://{LOOPBACK}:{settings.airflow_port}"
    launch(
        "mlflow", [*python, "mlflow", "server", *_mlflow_options(settings)], f"http://{LOOPBACK}:{settings.mlflow_port}"
    )
    migration = launch("migration", [*python, "airflow", "db", "migrate"])
    if migration.wait(START_TIMEOUT):
        raise EmbeddedError(_last_words("migration"))
    services.pop()
    launch("api-server", [*python, "airflow", "api-server"], airflow_url)
    launch("scheduler", [*python, "airflow", "scheduler", "--skip-serve-logs"])
    launch("dag-processor", [*python, "airflow", "dag-processor"])
    launch("triggerer", [*python, "airflow", "triggerer", "--skip-serve-logs"])
    _wait(services, settings)


def _wait(services: list[Service], settings: Settings) -> None:
    """Wait for MLflow, Airflow's parts and the DAGs; a service that ends meanwhile is an error."""
    api = airflow_api(settings)
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        for service in services:
            if service.process is None:
                raise EmbeddedError(_last_words(service.name))
        if all(_healthy(service) for service in services):
            with contextlib.suppress(AirflowUnreachable):
                errors = api.import_errors()
                if errors:
                    raise EmbeddedError(f"A DAG file does not import: {'; '.join(errors)}")
                if api.has_dags(DAGS):
                    return
        time.sleep(_POLL)
    raise EmbeddedError(f"The services are not healthy after {START_TIMEOUT} s. Look at the logs in {LOG}.")


def _healthy(service: Service) -> bool:
    if service.process is None:
        return False
    if service.url is None:
        return True
    try:
        if service.name == "mlflow":
            return httpx.get(f"{service.url}/health", timeout=5, trust_env=False).is_success
        health = httpx.get(f"{service.url}/api/v2/monitor/health", timeout=5, trust_env=False).json()
    except (httpx.TransportError, ValueError):
        return False
    return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))


def _mlflow_options(settings: Settings) -> list[str]:
    hosts = ",".join(f"{host}:{settings.mlflow_port}" for host in ("localhost", LOOPBACK))
    return [
        f"--backend-store-uri=sqlite:///{MLFLOW / 'mlflow.db'}",
        f"--artifacts-destination={MLFLOW / 'artifacts'}",
        f"--host={LOOPBACK}",
        f"--port={settings.mlflow_port}",
        f"--allowed-hosts={hosts}",
        "--workers=1",
    ]


def _environment(settings: Settings) -> dict[str, str]:
    """What the services and their tasks see: the caller's environment, and this embedding's own settings."""
    passwords = AIRFLOW / "passwords.json"
    passwords.touch(mode=0o600)
    passwords.write_text(json.dumps({USER: airflow_password()}))
    url = f"http://{LOOPBACK}:{settings.airflow_port}"
    airflow: dict[str, Any] = {
        "CORE__LOAD_EXAMPLES": False,
        "CORE__DAGS_FOLDER": HOME / "dags",
        "CORE__PLUGINS_FOLDER": HOME / "plugins",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": 4,  # the default starts 32 workers
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": passwords,
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__FERNET_KEY": (SECRETS / "airflow_fernet_key").read_text(),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{AIRFLOW / 'airflow.db'}",
        "LOGGING__BASE_LOG_FOLDER": AIRFLOW / "logs",
        "API__HOST": LOOPBACK,
        "API__PORT": settings.airflow_port,
        "API__BASE_URL": url,
        "API__WORKERS": 1,
        "API__SECRET_KEY": (SECRETS / "airflow_api_secret_key").read_text(),
        "API_AUTH__JWT_SECRET": (SECRETS / "airflow_jwt_secret").read_text(),
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.1,  # a second's pause after each task otherwise
        "DAG_PROCESSOR__REFRESH_INTERVAL": 10,
        "USAGE_DATA_COLLECTION__ENABLED": False,
    }
    ours = {
        "AIRFLOW_HOME": str(AIRFLOW),
        **{f"AIRFLOW__{name}": str(value) for name, value in airflow.items()},
        "MLFLOW_TRACKING_URI": f"http://{LOOPBACK}:{settings.mlflow_port}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven helper processes less
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 2) // 2)),
        "NO_PROXY": f"{LOOPBACK},localhost",
        "no_proxy": f"{LOOPBACK},localhost",
    }
    # Without bytecode every import in every task costs three times as much.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return inherited | ours


def _require_free(port: int, setting: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just left is free
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise EmbeddedError(
                f"Port {port} is taken by another program. Free it, or choose another port: `{setting}={port + 100} make run`."
            ) from error


def _known() -> list[Service]:
    if not STATE.exists():
        return []
    return [Service(**stored) for stored in json.loads(STATE.read_text())]


def _processes() -> list[psutil.Process]:
    """The live processes of the session, and all that descend from them."""
    known = _known()
    if not known:
        return []
    found = {process for service in known if (process := service.process)}
    session = known[0].pid
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == session and process.create_time() >= known[0].created:
                found.add(process)
    for process in list(found):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.update(process.children(recursive=True))
    return list(found)


def _last_words(name: str) -> str:
    log = LOG / f"{name}.log"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-5:]
    return f"{name} ended while it started. Its last words in {log}:\n" + "\n".join(lines)
