"""A model served on this machine, in its own environment built from a serving lock.

Two apps can serve it. MLflow's own app serves any model; it scores earlier versions. The service of the image
is queried by the verification if there is no container engine.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import uv
from numpy.typing import NDArray

from churn.errors import ChurnError, Outage
from churn.serving import FOLDER_VARIABLE, HOST_VARIABLE, OWN_CODE, PORT_VARIABLE, UNCHECKED_VARIABLE
from churn.settings import PYTHON

READY_TIMEOUT = 120
INSTALL_TIMEOUT = 900
LOOPBACK = "127.0.0.1"
_POLL = 0.1  # seconds


class ServingUnavailable(Outage):
    """The server did not start, for a reason unrelated to the model. A retry may succeed."""


class ServiceEnded(ChurnError):  # noqa: N818 -- the name says what happened
    """A server exited before it was ready."""

    def __init__(self, status: int, last_output: str) -> None:
        super().__init__(f"The serving process ended with status {status} before it was ready: {last_output}")
        self.status = status


class ModelMismatch(ChurnError):  # noqa: N818 -- the name says what is wrong
    """The served model does not load, or its answers differ from those of the registered model."""


def serving_python(lock: Path, environments: Path, python: str = PYTHON) -> Path:
    """Return the interpreter of an environment with exactly the packages of the serving lock, built on first use.

    Args:
        lock: requirements with their hashes.
        environments: folder that contains such environments.
        python: version of Python.

    Raises:
        ServingUnavailable: the packages could not be installed.
    """
    name = hashlib.sha256(lock.read_bytes() + python.encode()).hexdigest()[:16]
    environment = environments / name
    environments.mkdir(parents=True, exist_ok=True)
    with (environments / f"{name}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (environment / "complete").exists():
            shutil.rmtree(environment, ignore_errors=True)
            _install(lock, environment, python)
            (environment / "complete").touch()
    return environment / "bin" / "python"


def wait_until_ready(url: str, ended: Callable[[], ServiceEnded | None], timeout: float) -> None:
    """Wait until a server answers on `/ping`.

    Args:
        url: base URL of the server.
        ended: returns None while the server runs, and how it ended afterwards.
        timeout: in seconds.

    Raises:
        ServiceEnded: the server exited.
        ServingUnavailable: the server is running, but does not answer in time.
    """
    deadline = time.monotonic() + timeout
    with httpx.Client(timeout=2, trust_env=False) as client:  # a new one reads all certificates each time
        while time.monotonic() < deadline:
            end = ended()
            if end is not None:
                raise end
            try:
                answered = client.get(f"{url}/ping").is_success
            except httpx.TransportError:
                answered = False
            if answered and ended() is None:  # otherwise another program answered
                return
            time.sleep(_POLL)
    raise ServingUnavailable(
        f"No answer from {url}/ping within {timeout:.0f} s, although the process is running. Check whether the machine is overloaded, then retry."
    )


@dataclass(frozen=True)
class App:
    """An app to serve: the command that starts its process, and its environment."""

    arguments: list[str]
    environment: dict[str, str]


def mlflow_app(model: Path) -> App:
    """Return MLflow's scoring app for the folder of a model, without the checks of its contract."""
    arguments = ["-m", "uvicorn", "mlflow.pyfunc.scoring_server.app:app", "--no-access-log"]
    return App(arguments, {"__pyfunc_model_path__": str(model), UNCHECKED_VARIABLE: "1"})


def image_app(folder: Path) -> App:
    """Return the service of the image for a folder laid out by `release.service`."""
    path = f"{folder}{os.pathsep}{folder / OWN_CODE}"
    return App(["-m", "churn.serving"], {FOLDER_VARIABLE: str(folder), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"})


@contextmanager
def served(python: Path, app: App, port: int | None = None) -> Iterator[str]:
    """Serve an app on loopback until the block ends.

    Args:
        python: the interpreter of an environment with a serving lock.
        app: what to serve.
        port: port to listen on; None for a free one.

    Yields:
        Its base URL, once it answers.
    """
    if port is not None and _is_taken(port):
        raise ChurnError(f"Port {port} is in use by another program. Choose another with --port.")
    port = port or _free_port()
    with tempfile.TemporaryFile("w+") as log:
        listen = {
            HOST_VARIABLE: LOOPBACK,
            PORT_VARIABLE: str(port),
            "UVICORN_HOST": LOOPBACK,
            "UVICORN_PORT": str(port),
        }
        process = subprocess.Popen(
            [str(python), *app.arguments],
            env=bare_environment() | app.environment | listen,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            url = f"http://{LOOPBACK}:{port}"
            wait_until_ready(url, lambda: _read_end(log, process), READY_TIMEOUT)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ask(url: str, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Send rows to `/invocations` and return the probabilities, shape (rows, 2)."""
    body = {
        "dataframe_split": {
            "columns": list(rows.columns),
            "data": rows.astype(object).where(rows.notna(), None).values.tolist(),
        }
    }
    try:
        response = httpx.post(f"{url}/invocations", json=body, timeout=30, trust_env=False)
    except httpx.TransportError as error:
        raise ServingUnavailable(f"The connection to {url} was lost ({type(error).__name__}). Retry.") from error
    if not response.is_success:
        raise ModelMismatch(
            f"{url}/invocations answered {response.status_code} to {len(rows)} rows that satisfy the contract."
        )
    return np.asarray(response.json()["predictions"], dtype=np.float64)


def bare_environment() -> dict[str, str]:
    """Return an environment like that of the image: no credentials and no tracking server."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
    inherited = {name: os.environ[name] for name in kept if name in os.environ}
    return {**inherited, "MLFLOW_DISABLE_TELEMETRY": "true"}


def _install(lock: Path, environment: Path, python: str) -> None:
    binary = uv.find_uv_bin()
    try:
        _run_quietly([binary, "venv", "--quiet", "--python", python, str(environment)])
        sync = [
            binary,
            "pip",
            "sync",
            "--quiet",
            "--require-hashes",
            "--compile-bytecode",
            "--python",
            str(environment),
        ]
        _run_quietly([*sync, str(lock)])
    except subprocess.SubprocessError as error:
        output = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise ServingUnavailable(
            f"The serving environment could not be installed: {output[-1] if output else error}. Retry."
        ) from error


def _run_quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT)


def _read_end(log: object, process: subprocess.Popen[bytes]) -> ServiceEnded | None:
    if process.poll() is None:
        return None
    log.seek(0)  # type: ignore[attr-defined]
    lines = [line for line in log.read().splitlines() if line.strip()]  # type: ignore[attr-defined]
    if process.returncode < 0 or any("address already in use" in line for line in lines):
        raise ServingUnavailable(
            f"The serving process was killed or its port was taken (status {process.returncode}). Retry."
        )
    return ServiceEnded(process.returncode, lines[-1] if lines else "it wrote nothing")


def _is_taken(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((LOOPBACK, port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
