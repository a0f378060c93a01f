"""The watch over landing: the provider's sensor and trigger against a real S3, and what starts a run."""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred
from airflow.timetables.simple import ContinuousTimetable

from churn.foundation.paths import LANDING, population_landing
from churn.foundation.storage import TEMPORARY
from churn.pipeline.scoring_runs import ScoringRequest, collect_customers
from churn.pipeline.workspace import Workspace
from churn.scoring.population import land_population
from churn.settings import Settings
from churn_airflow.sensors import LandingSensor, PauseOperator, any_complete
from churn_airflow.steps import open_filesystem
from conftest import export
from support.basics import S3, land_text, make_workspace


@pytest.fixture
def on_s3(tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A data root on S3, with its credentials only in an Airflow connection."""
    extra = {"endpoint_url": s3.endpoint, "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": s3.key, "password": s3.secret, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_CHURN_DATA", json.dumps(connection))
    root = f"s3://{s3.bucket}/{tmp_path.name}"
    export(make_workspace(tmp_path, "http://127.0.0.1:9").settings, monkeypatch)
    monkeypatch.setenv("CHURN_DATA_ROOT", root)
    monkeypatch.setenv("CHURN_AWS_CONN_ID", "churn_data")
    settings = Settings.load()
    return Workspace.open(settings, open_filesystem(settings))


def sensor(workspace: Workspace, landing: str = LANDING) -> LandingSensor:
    settings = workspace.settings
    return LandingSensor(
        task_id="landed",
        data_root=settings.data_root,
        landing=landing,
        aws_conn_id=settings.aws_conn_id,
        deferrable=True,
        poke_interval=0.2,
    )


def fired(deferred: TaskDeferred, seconds: float = 30) -> dict[str, Any] | None:
    """Run the trigger as Airflow restores it from its database; return its event, or None if there is none in time."""
    name, arguments = deferred.trigger.serialize()
    module, _, kind = name.rpartition(".")
    trigger = getattr(importlib.import_module(module), kind)(**arguments)

    async def first() -> dict[str, Any]:
        return (await anext(aiter(trigger.run()))).payload

    try:
        return asyncio.run(asyncio.wait_for(first(), seconds))
    except TimeoutError:
        return None


def deferral(call: Any, *arguments: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        call(*arguments)
    return deferred.value


def test_a_file_is_detected_without_a_worker(on_s3: Workspace) -> None:
    """An empty landing and an unfinished file defer; a complete file is detected, at once if it is there already."""
    watch = sensor(on_s3)
    waiting = deferral(watch.execute, {})
    assert fired(waiting, 1.5) is None
    for name in (".hidden.csv", "folder/inside.csv", "growing.csv.part"):
        land_text(on_s3, "x", name)
    event = fired(waiting)
    assert {file["Key"].rpartition("/")[2] for file in event["files"]} >= {"growing.csv.part"}
    waiting = deferral(watch.execute_complete, {}, event)
    land_text(on_s3, "x", "finished.csv")
    assert watch.execute_complete({}, fired(waiting)) is None
    assert sensor(on_s3).execute({}) is None


def test_a_file_of_customers_starts_scoring_and_a_batch_does_not(on_s3: Workspace, tmp_path: Path) -> None:
    """Each watch has a folder of its own. What the scoring run collects is that file."""
    batches, customers = sensor(on_s3), sensor(on_s3, population_landing())
    land_text(on_s3, "x", "batch.csv")
    waiting = deferral(customers.execute, {})
    assert fired(waiting, 1.5) is None
    file = tmp_path / "customers.csv"
    file.write_text("CustomerId\n1\n")
    land_population(on_s3.storage, file)
    assert customers.execute_complete({}, fired(waiting)) is None
    assert batches.execute({}) is None
    (name,) = collect_customers(on_s3, ScoringRequest("landed__run"))
    assert on_s3.ledger.population(name).name == "customers.csv"
    deferral(sensor(on_s3, population_landing()).execute, {})


def test_a_timeout_is_a_skip_and_an_outage_is_an_error(on_s3: Workspace) -> None:
    """A day without a file is skipped; an unavailable store raises, so that the task is retried and alerts."""
    watch = sensor(on_s3)
    with pytest.raises(AirflowSkipException):
        watch.resume_execution("__fail__", {"error": "Trigger timeout"}, {})
    error = {"event": {"status": "error", "message": "cannot connect"}}
    with pytest.raises(AirflowException, match="cannot connect"):
        watch.resume_execution("execute_complete", error, {})


@pytest.mark.parametrize("end", TEMPORARY)
def test_unfinished_files_start_no_run(end: str) -> None:
    """Whatever suffix the sender uses; the marker of the folder does not count either."""
    ignored = [f"x.csv{end}", "", ".x", "landing/x.csv", "a/x.csv"]
    files = [{"Key": f"a/landing/{name}"} for name in ignored]
    assert not any_complete("a/landing/", files)
    assert any_complete("a/landing/", [*files, {"Key": "a/landing/x.csv"}])


def test_files_that_a_run_left_behind_wait(on_s3: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an empty landing the watch starts at once; with files in it after a pause, without a worker."""
    from churn_airflow import steps

    monkeypatch.setattr(steps, "_request", lambda: None)
    monkeypatch.setattr(steps, "get_current_context", lambda: {"ti": SimpleNamespace(task_id="rest")})
    rest = PauseOperator(task_id="rest", shortest=timedelta(seconds=1), longest=timedelta(hours=1))
    assert rest.execute({}) is None
    land_text(on_s3, "x", "left.csv")
    pause = deferral(rest.execute, {})
    assert fired(pause, 0.2) is None
    assert rest.execute_complete({}, fired(pause)) is None
    moved = time.time() + 40 * 60
    with monkeypatch.context() as later:
        later.setattr("churn_airflow.sensors.time.time", lambda: moved)
        pause = deferral(rest.execute, {})
    left = (pause.trigger.moment - datetime.now(UTC)).total_seconds()
    assert 35 * 60 < left <= 41 * 60  # the file has been there for forty minutes
    monkeypatch.setenv("CHURN_DATA_ROOT", "data")
    with pytest.raises(AirflowFailException, match=r"CHURN_DATA_ROOT=.*S3"):
        rest.execute({})


def test_one_landing_starts_one_run(dag_bag: object) -> None:
    """The task waits for the run without a worker, whatever its result; a retry starts no second run; off by default."""
    dag = dag_bag.dags["churn_landing"]
    assert [task.task_id for task in dag.topological_sort()] == ["rest", "landed", "night"]
    night = dag.get_task("night")
    assert (night.trigger_dag_id, night.trigger_run_id) == ("churn_retraining", "landed__{{ run_id }}")
    assert night.wait_for_completion
    assert night.deferrable
    assert night.skip_when_already_exists
    assert {str(state.value) for state in night.allowed_states} == {"success", "failed"}
    assert night.failed_states == []
    assert dag.schedule is None


def test_the_watch_is_on_by_setting(airflow_database: None, on_s3: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs continuously, one run at a time, with the bucket and the connection of the settings."""
    from airflow.dag_processing.dagbag import DagBag

    from support.basics import ROOT

    monkeypatch.setenv("CHURN_WATCH_LANDING", "true")
    dag = DagBag(str(ROOT / "dags" / "churn_landing.py")).dags["churn_landing"]
    assert type(dag.timetable).__name__ == ContinuousTimetable.__name__
    assert dag.max_active_runs == 1
    landed = dag.get_task("landed")
    bucket, _, prefix = on_s3.settings.data_root.removeprefix("s3://").partition("/")
    assert (landed.bucket_name, landed.bucket_key) == (bucket, f"{prefix}/landing/[!.]*")
    assert landed.aws_conn_id == "churn_data"
