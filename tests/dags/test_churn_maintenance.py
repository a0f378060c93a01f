"""The upkeep as a DAG: a dry run that lists, a run that deletes, tasks of the engine on its own queue."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from churn.foundation.paths import UNFINISHED
from churn.pipeline.workspace import Workspace
from churn_airflow.steps import IMAGE_QUEUE
from conftest import export
from support.basics import ROOT, run_night, stages


def run_dag(dag_bag: object, conf: dict) -> object:
    return type(dag_bag)(str(ROOT / "dags")).dags["churn_maintenance"].test(run_conf=conf, logical_date=None)


def test_a_dry_run_lists_and_a_run_deletes(
    dag_bag: object, two_champions: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions, unfinished files and old logs; without an engine the images are skipped, and the run is a success."""
    workspace = two_champions
    for number in (3, 4):
        run_night(workspace, f"night {number}", retrain=True)
    export(workspace.settings, monkeypatch)
    monkeypatch.setenv("CHURN_KEEP_VERSIONS", "1")
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path / "logs"))
    left = [tmp_path / "logs/dag_id=x/attempt=1.log", tmp_path / "data" / UNFINISHED / "left"]
    for file in left:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
        os.utime(file, (time.time() - 200 * 86400,) * 2)
    for dry_run, versions, there in ((True, {1, 2, 3, 4}, True), (False, {1, 2, 4}, False)):
        run = run_dag(dag_bag, {"dry_run": dry_run})
        assert run.state == "success"
        found = {task.task_id: task for task in run.get_task_instances()}
        assert found["clean"].xcom_pull(task_ids="clean")["versions"] == 1
        assert found["clean_logs"].xcom_pull(task_ids="clean_logs") == {str(tmp_path / "logs"): 1}
        assert found["clean_images"].state == "skipped"
        assert set(stages(workspace)) == versions
        assert [file.exists() for file in left] == [there, there]


def test_what_talks_to_the_engine_is_on_its_queue(dag_bag: object) -> None:
    """One worker alone may reach the engine: its queue has these tasks and no other."""
    queued = {
        f"{dag.dag_id}.{task.task_id}"
        for dag in dag_bag.dags.values()
        for task in dag.tasks
        if task.queue == IMAGE_QUEUE
    }
    assert queued == {
        "churn_image_build.build",
        "churn_image_build.verify",
        "churn_image_build.publish",
        "churn_rollback.roll_back",
        "churn_maintenance.clean_images",
    }
