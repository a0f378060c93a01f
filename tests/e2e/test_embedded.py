"""The embedded services, for real, in a folder of the test's own with a DAG of the test's own."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from churn.local import services
from churn.local.services import LocalError, Place
from churn.settings import Settings
from support.basics import free_port

TOY = """
from airflow.sdk import dag, task

@dag(schedule=None)
def toy():
    @task
    def step(number: int) -> int:
        return number + 1

    value = 0
    for position in range(6):
        value = step.override(task_id=f"step_{position}")(value)

toy()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("home")
    (home / "dags").mkdir()
    (home / "dags" / "toy.py").write_text(TOY)
    place = Place(home, home / "var")
    yield place
    services.stop(place)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings(airflow_port=free_port(), mlflow_port=free_port())


@pytest.fixture
def running(settings: Settings, place: Place) -> list[str]:
    """What `start` said; whatever an earlier test left, the services are up afterwards."""
    messages: list[str] = []
    services.start(settings, messages.append, place)
    services.wait_for_dags(settings, {"toy"}, place=place)
    return messages


def _pids(place: Place) -> dict[str, int | None]:
    return {service.name: service.pid for service in services.status(place)}


def _living(mark: str) -> list[int]:
    """Processes that carry the mark of a run, found without the help of the module under test."""
    living = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(services.MARK) == mark:
                living.append(process.pid)
        except (psutil.Error, OSError):  # it has ended meanwhile, or is not ours to look into
            continue
    return living


def _mark(place: Place) -> str:
    return str(json.loads(place.state.read_text())["mark"])


def test_a_busy_port_is_refused_by_name_and_setting(settings: Settings, tmp_path: Path) -> None:
    """A port that another program has is an error that names port and setting, and nothing is started."""
    place = Place(tmp_path, tmp_path / "var")
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.airflow_port))
        other.listen()
        with pytest.raises(LocalError, match=rf"{settings.airflow_port}.*CHURN_AIRFLOW_PORT"):
            services.start(settings, str, place)
    assert services.status(place) == []


def test_secrets_are_private_and_never_written_again(tmp_path: Path) -> None:
    """Secrets are the owner's only, and a second call leaves them as they are."""
    place = Place(tmp_path, tmp_path / "var")
    services.ensure_secrets(place)
    first = {path.name: path.read_text() for path in place.secrets.iterdir()}
    services.ensure_secrets(place)
    assert {path.name: path.read_text() for path in place.secrets.iterdir()} == first
    assert len(first["churn_bucket_salt"]) == 64
    assert len(first["airflow_jwt_secret"]) >= 64
    assert stat.S_IMODE(place.secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.secrets.iterdir()} == {0o600}


def test_start_ends_healthy_and_runs_a_dag(running: list[str], settings: Settings, place: Place) -> None:
    """After `start` all services are healthy, on loopback only, and a triggered run succeeds."""
    assert {service.name: service.healthy for service in services.status(place)} == dict.fromkeys(_pids(place), True)
    ours = set(_living(_mark(place)))
    listening = {c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.pid in ours}
    assert listening == {"127.0.0.1"}
    api = services.airflow_api(settings, place)
    api.trigger("toy", "once", {})
    api.trigger("toy", "once", {})
    assert api.follow("toy", "once", lambda tasks: None, 120) == "success"
    assert [task.state for task in api.task_states("toy", "once")] == ["success"] * 6


def test_running_services_are_reused(running: list[str], settings: Settings, place: Place) -> None:
    """A second `start` says that the services run already, and keeps their processes."""
    before, messages = _pids(place), []
    services.start(settings, messages.append, place)
    assert _pids(place) == before
    assert "already running" in messages[-1]


def test_a_killed_service_is_told_and_repaired(running: list[str], settings: Settings, place: Place) -> None:
    """`status` shows a service that was killed, and `start` says so and brings everything back."""
    pid = _pids(place)["scheduler"]
    assert pid
    os.kill(pid, signal.SIGKILL)
    psutil.Process(pid).wait(10)
    killed = {service.name: service for service in services.status(place)}["scheduler"]
    assert (killed.pid, killed.healthy) == (None, False)
    messages: list[str] = []
    services.start(settings, messages.append, place)
    assert "scheduler" in messages[0]
    assert all(service.healthy for service in services.status(place))


def test_a_dag_that_cannot_be_read_is_an_error(running: list[str], settings: Settings, place: Place) -> None:
    """A DAG file that does not import is told with its name and reason, also when its DAG was readable before."""
    broken = place.home / "dags" / "broken.py"
    broken.write_text("from airflow.sdk import dag\nraise ValueError('no such contract')\n")
    with pytest.raises(LocalError, match=r"broken\.py: ValueError: no such contract"):
        services.wait_for_dags(settings, {"toy", "broken"}, place=place)
    broken.unlink()


def test_stop_leaves_no_process(running: list[str], place: Place) -> None:
    """`stop` ends every process, also of a service whose leader was killed before; again it has nothing to do."""
    mark, pid = _mark(place), _pids(place)["scheduler"]
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert len(_living(mark)) > 5
    assert services.stop(place) > 5
    assert _living(mark) == []
    assert services.stop(place) == 0
    assert services.status(place) == []
