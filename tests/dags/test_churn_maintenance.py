"""The maintenance DAG: a dry run lists, a run deletes, and tasks that use the container engine have their own queue."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from churn.foundation.paths import UNFINISHED
from churn.pipeline.workspace import Workspace
from churn_airflow.steps import IMAGE_QUEUE
from conftest import export
from support.basics import run_night, stages
from support.dag_runs import run_dag


def test_a_dry_run_lists_and_a_run_deletes(
    dag_bag: object, two_champions: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions, unfinished files and old logs; without a container engine the images are skipped, and the run succeeds."""
    workspace = two_champions
    for number in (3, 4):
        run_night(workspace, f"night {number}", retrain=True)
    export(workspace.settings, monkeypatch)
    monkeypatch.setenv("CHURN_KEEP_VERSIONS", "1")
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path / "logs"))
    old_files = [tmp_path / "logs/dag_id=x/attempt=1.log", tmp_path / "data" / UNFINISHED / "left"]
    for file in old_files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
        os.utime(file, (time.time() - 200 * 86400,) * 2)
    for dry_run, versions, exist in ((True, {1, 2, 3, 4}, True), (False, {1, 2, 4}, False)):
        run = run_dag(dag_bag, "churn_maintenance", {"dry_run": dry_run})
        assert run.state == "success"
        tasks = {task.task_id: task for task in run.get_task_instances()}
        assert tasks["clean"].xcom_pull(task_ids="clean")["versions"] == 1
        assert tasks["clean_logs"].xcom_pull(task_ids="clean_logs") == {str(tmp_path / "logs"): 1}
        assert tasks["clean_images"].state == "skipped"
        newest = workspace.ledger.snapshots()[0].snapshot
        assert tasks["check_snapshot"].xcom_pull(task_ids="check_snapshot") == newest
        assert set(stages(workspace)) == versions
        assert [file.exists() for file in old_files] == [exist, exist]


def test_tasks_that_use_the_container_engine_are_on_its_queue(dag_bag: object) -> None:
    """Only one worker may reach the container engine: its queue has exactly these tasks."""
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
