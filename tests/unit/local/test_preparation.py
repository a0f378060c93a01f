"""A command on a checkout where nothing ran yet has a salt; with services running, it uses their ports."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from churn.local import preparation
from churn.local.preparation import prepare_checkout
from churn.local.processes import Place, Run, Service
from churn.settings import Settings


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty checkout, and an environment without settings."""
    for name in [name for name in os.environ if name.startswith(("CHURN_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    place = Place(var=tmp_path / "var")
    monkeypatch.setattr(preparation, "SECRETS", place.secrets)
    monkeypatch.setattr("churn.settings.SECRETS", place.secrets)
    monkeypatch.setitem(Settings.model_config, "env_file", str(tmp_path / ".env"))
    place.var.mkdir()
    return place


def run_services(place: Place) -> None:
    """Record this process as a service on other ports."""
    process = psutil.Process()
    run = Run(8180, 5205, services=[Service("mlflow", process.pid, process.create_time())])
    place.state.parent.mkdir(parents=True, exist_ok=True)
    run.write(place)


def test_a_salt_is_made_once(place: Place) -> None:
    """The next command finds the same one."""
    prepare_checkout(place)
    salt = (place.secrets / "churn_bucket_salt").read_text()
    prepare_checkout(place)
    assert (place.secrets / "churn_bucket_salt").read_text() == salt
    assert Settings.load().bucket_salt.get_secret_value() == salt


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHURN_LEDGER_URL", "postgresql+psycopg2://db/churn"),
        ("CHURN_DATA_ROOT", "s3://bucket/churn"),
        ("CHURN_BUCKET_SALT", "a salt of its own, long enough to be one"),
    ],
)
def test_no_salt_is_made_where_snapshots_may_have_another(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """On a server a missing salt is an error that the command reports; a given one is used."""
    monkeypatch.setenv(name, value)
    prepare_checkout(place)
    assert not place.secrets.exists()


def test_the_ports_of_running_services_are_remembered(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the environment or .env names others."""
    monkeypatch.setenv("CHURN_AIRFLOW_PORT", "8280")
    run_services(place)
    prepare_checkout(place)
    assert (Settings.load().mlflow_port, Settings.load().airflow_port) == (5205, 8280)
    assert Settings.load().mlflow_tracking_uri == "http://127.0.0.1:5205"
    monkeypatch.delenv("CHURN_MLFLOW_PORT")
    Path(str(Settings.model_config["env_file"])).write_text("CHURN_MLFLOW_PORT=5305\n")
    prepare_checkout(place)
    assert Settings.load().mlflow_port == 5305


@pytest.mark.skipif(sys.platform != "linux", reason="processes are recognised by their environment on Linux")
def test_ports_of_services_that_ended_are_forgotten(place: Place) -> None:
    """What was recorded by a stack that no longer runs decides nothing."""
    place.state.parent.mkdir(parents=True, exist_ok=True)
    Run(8180, 5205).write(place)
    prepare_checkout(place)
    assert Settings.load().mlflow_port == 5005
