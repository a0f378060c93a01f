"""Starts, watches and stops the local Airflow and MLflow of `make run`.

Everything listens on loopback only, keeps its log under `var/log`, and belongs to one run that
`processes` can find again and stop.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import psutil

from churn.local.airflow_api import AirflowApi, AirflowUnreachable
from churn.local.processes import MARK, LocalError, Place, Run, Service, end, is_same_process
from churn.settings import Settings

HOST = "127.0.0.1"
USER = "admin"
MLFLOW = "mlflow"
API_SERVER = "api-server"
COMPONENTS = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}
"""Services without a port of their own, and their names in Airflow's health report."""
START_SECONDS = 180.0


@dataclass(frozen=True)
class ServiceStatus:
    """One service. `pid` is None if it is not running; `url` is set for services with a port."""

    name: str
    pid: int | None
    url: str | None
    healthy: bool


CHECKOUT = Place()


def start(settings: Settings, say: Callable[[str], None], place: Place = CHECKOUT) -> None:
    """Start Airflow and MLflow and wait until both are healthy; running ones are reused.

    Raises:
        LocalError: a port is taken, or a service ended or did not become healthy in time. Nothing is left running.
    """
    ensure_secrets(place)
    if settings.airflow_port == settings.mlflow_port:
        raise LocalError(
            f"Airflow and MLflow cannot share port {settings.airflow_port}. Set CHURN_AIRFLOW_PORT or CHURN_MLFLOW_PORT."
        )
    with _alone(place):
        run = Run.read(place)
        if run is not None:
            sick = [status.name for status in _observe(run) if not status.healthy]
            moved = (run.airflow_port, run.mlflow_port) != (settings.airflow_port, settings.mlflow_port)
            if not sick and not moved:
                say("Airflow and MLflow are already running, and are reused.")
                return
            why = "The ports have changed" if moved else f"Not healthy: {', '.join(sick)}"
            say(f"{why}. Stopping the remaining services and starting again.")
            end(run, place)
        _refuse_busy_port("MLflow", settings.mlflow_port, "CHURN_MLFLOW_PORT")
        _refuse_busy_port("Airflow", settings.airflow_port, "CHURN_AIRFLOW_PORT")
        run = Run(settings.airflow_port, settings.mlflow_port)
        run.write(place)
        try:
            _bring_up(run, place, say)
        except BaseException:  # Ctrl-C too: nothing is left running
            end(run, place)
            raise


def stop(place: Place = CHECKOUT) -> int:
    """Stop every process of the services and of their tasks; returns how many there were."""
    if not place.state.exists():
        return 0
    with _alone(place):
        run = Run.read(place)
        return 0 if run is None else end(run, place)


def status(place: Place = CHECKOUT) -> list[ServiceStatus]:
    """The state of each service; empty if nothing was started."""
    run = Run.read(place)
    return [] if run is None else _observe(run)


def airflow_url(settings: Settings) -> str:
    """The address of the local Airflow."""
    return f"http://{HOST}:{settings.airflow_port}"


def airflow_password(place: Place = CHECKOUT) -> str:
    """The password of Airflow's user `admin`."""
    return str(json.loads((place.secrets / "airflow_passwords.json").read_text())[USER])


def airflow_api(settings: Settings, place: Place = CHECKOUT) -> AirflowApi:
    """A client of the local Airflow."""
    return AirflowApi(airflow_url(settings), USER, airflow_password(place))


def wait_for_dags(settings: Settings, dag_ids: Iterable[str], timeout: float = 90, place: Place = CHECKOUT) -> None:
    """Wait until Airflow has read these DAGs since it was started.

    Raises:
        LocalError: a DAG file cannot be read, or a DAG did not appear in time.
    """
    run = Run.read(place)
    if run is None:
        raise LocalError("Airflow is not running. Start it with `churn local start`.")
    since = datetime.fromtimestamp(run.started, UTC)
    deadline = time.monotonic() + timeout
    log = place.log("dag-processor")
    api = airflow_api(settings, place)
    wanted = set(dag_ids)
    while True:
        with suppress(AirflowUnreachable):  # just started and busy: retried until the time is up
            if api.has_dags(wanted, since):
                return
            if broken := api.import_errors(since):
                lines = "\n".join(f"  {failure}" for failure in broken)
                raise LocalError(f"Airflow cannot read {len(broken)} DAG file(s):\n{lines}\nLog: {log}")
        if time.monotonic() > deadline:
            raise LocalError(f"Airflow has not read {', '.join(sorted(wanted))} in {timeout:.0f} s. Log: {log}")
        time.sleep(0.3)


def ensure_secrets(place: Place = CHECKOUT) -> None:
    """Create the secrets that are missing. An existing one is never overwritten."""
    place.secrets.mkdir(parents=True, exist_ok=True)
    place.secrets.chmod(0o700)
    makers: dict[str, Callable[[], str]] = {
        "churn_bucket_salt": lambda: secrets.token_hex(32),
        "airflow_passwords.json": lambda: json.dumps({USER: secrets.token_urlsafe(12)}),
        "airflow_jwt_secret": lambda: secrets.token_hex(64),
        "airflow_api_secret": lambda: secrets.token_hex(32),
        "airflow_fernet_key": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    for name, make in makers.items():
        if (place.secrets / name).exists():
            continue
        # Written completely or not at all, and the first of two writers wins: a lost salt is a lost holdout.
        new = place.secrets / f".{name}.{secrets.token_hex(4)}"
        new.touch(mode=0o600)
        new.write_text(make())
        with suppress(FileExistsError):
            (place.secrets / name).hardlink_to(new)
        new.unlink()


def _bring_up(run: Run, place: Place, say: Callable[[str], None]) -> None:
    began = time.monotonic()
    deadline = began + START_SECONDS
    for folder in ("log", "airflow", "mlflow"):
        (place.var / folder).mkdir(parents=True, exist_ok=True)
    environment = _environment(run, place)
    started: dict[str, subprocess.Popen[bytes]] = {}

    def launch(name: str, module: str, *arguments: str, **extra: str) -> None:
        log = place.log(name)
        if log.exists():
            log.replace(log.with_suffix(".previous.log"))
        with log.open("wb") as output:
            started[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=place.home,
                env=environment | extra,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        run.services.append(Service(name, started[name].pid, psutil.Process(started[name].pid).create_time()))
        run.write(place)

    def wait_until(ready: Callable[[], bool], what: str) -> None:
        while not ready():
            for name, process in started.items():
                if process.poll():
                    raise _died(name, process.returncode, place.log(name))
            if time.monotonic() > deadline:
                raise LocalError(f"{what} after {START_SECONDS:.0f} s. Logs: {place.var / 'log'}")
            time.sleep(0.1)

    say("Starting MLflow and Airflow.")
    launch(MLFLOW, "mlflow", *_mlflow_arguments(run, place))
    # Takes three seconds, and is not needed if this version of Airflow has migrated before.
    migrated = place.var / "airflow" / "migrated"
    airflow = version("apache-airflow-core")
    if not (migrated.exists() and migrated.read_text() == airflow and (place.var / "airflow" / "airflow.db").exists()):
        launch("db-migrate", "airflow", "db", "migrate")
        wait_until(lambda: started["db-migrate"].poll() == 0, "Airflow's database is not migrated")
        migrated.write_text(airflow)
    run.services = [service for service in run.services if service.name != "db-migrate"]
    launch(API_SERVER, "airflow", "api-server")
    # Their log servers would listen on every address of the machine. The API server reads the log files itself.
    launch("scheduler", "airflow", "scheduler", "--skip-serve-logs", PRELOAD_CORE="1")
    launch("dag-processor", "airflow", "dag-processor")
    launch("triggerer", "airflow", "triggerer", "--skip-serve-logs")
    # The API server needs three seconds for the first call of a task. Make that call while the other services start.
    wait_until(
        lambda: _get(f"http://{HOST}:{run.airflow_port}/execution/health") is not None, "Airflow does not answer"
    )
    wait_until(lambda: all(status.healthy for status in _observe(run)), "Airflow and MLflow are not healthy")
    say(f"Airflow and MLflow are healthy after {time.monotonic() - began:.0f} s.")


def _mlflow_arguments(run: Run, place: Place) -> list[str]:
    folder = place.var / "mlflow"
    hosts = f"{HOST}:{run.mlflow_port},localhost:{run.mlflow_port}"
    options = {
        "--backend-store-uri": f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination": str(folder / "artifacts"),
        "--host": HOST,
        "--port": str(run.mlflow_port),
        "--allowed-hosts": hosts,
        "--workers": "1",  # a second one costs two seconds and 250 MB, and gains nothing on one machine
    }
    return ["server", *(word for option in options.items() for word in option)]


def _environment(run: Run, place: Place) -> dict[str, str]:
    """The environment of the services: the caller's, and what makes them local, quiet and fast."""
    inherited = {
        key: value for key, value in os.environ.items() if key not in {"PYTHONDONTWRITEBYTECODE", "AIRFLOW_CONFIG"}
    }
    folder = place.var / "airflow"
    airflow = f"http://{HOST}:{run.airflow_port}"
    direct = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST, "localhost"]))

    def secret(name: str) -> str:
        return (place.secrets / name).read_text()

    return {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2)),  # fits run in parallel
        "OMP_WAIT_POLICY": "PASSIVE",
        **inherited,
        MARK: run.mark,
        "SPT_NOENV": "1",  # process titles would overwrite the mark
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)]),
        "NO_PROXY": direct,
        "no_proxy": direct,
        "MLFLOW_TRACKING_URI": f"http://{HOST}:{run.mlflow_port}",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
        "SCARF_ANALYTICS": "false",
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__API__BASE_URL": airflow,
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(run.airflow_port),
        "AIRFLOW__API__SECRET_KEY": secret("airflow_api_secret"),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secret("airflow_jwt_secret"),
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(place.home / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{airflow}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__FERNET_KEY": secret("airflow_fernet_key"),
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",  # the default one asks DNS
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(place.home / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(place.secrets / "airflow_passwords.json"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",  # a file that has changed is read at once
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def _died(name: str, code: int, log: Path) -> LocalError:
    with log.open(errors="replace") as lines:
        tail = "".join(deque(lines, maxlen=15)).rstrip()
    return LocalError(f"{name} ended with code {code} during its start. Its last lines:\n{tail}\nLog: {log}")


def _refuse_busy_port(who: str, port: int, setting: str) -> None:
    with socket.socket() as client:
        client.settimeout(1)
        if client.connect_ex((HOST, port)) == 0:
            raise LocalError(
                f"Port {port}, meant for {who}, is in use by another program. Stop that program, or set {setting}."
            )


def _get(url: str) -> dict[str, Any] | None:
    """The answer to a health check; None if there is no answer or an error."""
    with suppress(httpx.HTTPError, ValueError):
        answer = httpx.get(url, timeout=10, trust_env=False)
        if answer.is_success:
            return dict(answer.json()) if "json" in answer.headers.get("content-type", "") else {}
    return None


def _observe(run: Run) -> list[ServiceStatus]:
    alive = {service.name: service.pid for service in run.services if is_same_process(service)}
    urls = {MLFLOW: f"http://{HOST}:{run.mlflow_port}", API_SERVER: f"http://{HOST}:{run.airflow_port}"}
    report = _get(f"{urls[API_SERVER]}/api/v2/monitor/health") if API_SERVER in alive else None
    healthy = {
        MLFLOW: MLFLOW in alive and _get(f"{urls[MLFLOW]}/health") is not None,
        API_SERVER: report is not None,
    }
    for service, component in COMPONENTS.items():
        health = (report or {}).get(component) or {}
        beat = health.get(f"latest_{component}_heartbeat")
        # The database keeps the heartbeat of an earlier run for half a minute.
        fresh = beat is not None and datetime.fromisoformat(beat).timestamp() >= run.started
        healthy[service] = service in alive and fresh and health.get("status") == "healthy"
    return [ServiceStatus(name, alive.get(name), urls.get(name), well) for name, well in healthy.items()]


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """Allow one `start` or `stop` at a time. The lock is released when the process that holds it ends."""
    place.var.mkdir(parents=True, exist_ok=True)
    with (place.var / "embedded.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
