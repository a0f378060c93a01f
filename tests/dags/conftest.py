"""Airflow in this process: a separate database, the project's DAGs and plugins, and one MLflow server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.basics import ROOT, export, make_workspace

AIRFLOW_HOME = tempfile.mkdtemp(prefix="churn-airflow-")
os.environ |= {
    "AIRFLOW_HOME": AIRFLOW_HOME,
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{AIRFLOW_HOME}/airflow.db",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
}

from churn.pipeline.workspace import Workspace  # noqa: E402
from churn.release import probes  # noqa: E402


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Create Airflow's tables, once."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(autouse=True, scope="module")
def few_probes() -> Iterator[None]:
    """Every promotion is verified, each on fewer rows than outside of these tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(probes, "CONTRACT_ROWS", 50)
        yield


@pytest.fixture(autouse=True, scope="session")
def quick_aws_clients() -> Iterator[None]:
    """Airflow names its caller to AWS: for each client it looks for the module of every frame, which takes a second."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(AwsGenericHook, "_get_caller", lambda *_: "Unknown")
        yield


@pytest.fixture(autouse=True, scope="session")
def quick_parameters() -> Iterator[None]:
    """Each look at a parameter of a DAG checks its schema anew: here, each schema is checked once."""
    import jsonschema
    from jsonschema.validators import validator_for

    checked: set[str] = set()

    def validate(instance: object, schema: dict[str, Any], **options: Any) -> None:
        kind = validator_for(schema)
        if str(schema) not in checked:
            kind.check_schema(schema)
            checked.add(str(schema))
        error = jsonschema.exceptions.best_match(kind(schema, **options).iter_errors(instance))
        if error is not None:
            raise error

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(jsonschema, "validate", validate)
        yield


@pytest.fixture(scope="session")
def dag_bag(airflow_database: None) -> object:
    """The project's DAG files, parsed."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(ROOT / "dags"))


@pytest.fixture
def dag_workspace(tmp_path: Path, mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace whose settings are in the environment, where tasks read them."""
    workspace = make_workspace(tmp_path, mlflow_url)
    export(workspace.settings, monkeypatch)
    return workspace


@pytest.fixture
def dag_champion(two_nights: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with a champion from night 1 and the file of night 2 in landing; its settings are in the environment."""
    export(two_nights.settings, monkeypatch)
    return two_nights
