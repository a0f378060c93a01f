"""Runs the DAGs of the project in this process, and marks and clears their tasks as a person does in Airflow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from support.basics import ROOT

_serialized: dict[str, str] = {}
"""DAGs as Airflow's database has them, by name: their files do not change."""


def run_dag(dag_bag: Any, name: str, conf: dict[str, Any] | None = None) -> Any:
    """Run a freshly parsed DAG, because `dag.test` leaves the run's parameters in the DAG object.

    A task that is retried does not wait for minutes.
    """
    return _parse_dag(dag_bag, name).test(run_conf=conf or {}, logical_date=None)


def create_run(
    dag_bag: Any, name: str, conf: dict[str, Any] | None = None, logical_date: datetime | None = None
) -> Any:
    """Create a run of a DAG as the API does, without starting it, so that its tasks can be marked first."""
    from airflow.sdk import timezone
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    _store_dags()
    now = logical_date or timezone.utcnow()
    return _scheduled(_parse_dag(dag_bag, name)).create_dagrun(
        run_id=f"{name}__{timezone.utcnow().isoformat()}",
        logical_date=logical_date,
        data_interval=(now, now) if logical_date else None,
        run_after=now,
        conf=conf,
        run_type=DagRunType.MANUAL,
        state="running",
        triggered_by=DagRunTriggeredByType.TEST,
        triggering_user_name="dag_test",
        start_date=timezone.utcnow(),
    )


def mark_task(dag_bag: Any, run: Any, task: str, state: str) -> None:
    """Mark a task of a run with the call that Airflow's API makes, which also clears failed tasks downstream of it."""
    from airflow.utils.state import TaskInstanceState

    dag = _scheduled(_parse_dag(dag_bag, run.dag_id))
    dag.set_task_instance_state(task_id=task, run_id=run.run_id, state=TaskInstanceState(state))


def clear_tasks(dag_bag: Any, run: Any, task: str, downstream: bool = False) -> list[str]:
    """Clear a task of a run, alone or with those downstream of it; returns the ids of the cleared tasks."""
    dag = _scheduled(_parse_dag(dag_bag, run.dag_id))
    tasks = [task, *(sorted(dag.get_task(task).get_flat_relative_ids(upstream=False)) if downstream else [])]
    dag.clear(task_ids=tasks, run_id=run.run_id)
    return tasks


def finish_run(dag_bag: Any, run: Any) -> Any:
    """Do what the scheduler does until the run ends, as `dag.test` does for a new run."""
    from airflow.sdk.definitions.dag import _run_task
    from airflow.utils.session import create_session

    dag = _parse_dag(dag_bag, run.dag_id)
    scheduled = _scheduled(dag)
    scheduled.on_success_callback, scheduled.on_failure_callback = dag.on_success_callback, dag.on_failure_callback
    state = "running"
    while state == "running":
        with create_session() as session:
            current = _find_run(run, session)
            current.dag, current.state = scheduled, "running"
            ready, _ = current.update_state(session=session)
            for task in ready:
                task.try_number += task.state != "up_for_reschedule"
                task.state = "scheduled"
            session.commit()
            state, tasks = current.state, current.get_task_instances(session=session)
        for task in tasks:
            if task.state == "scheduled":
                _run_task(ti=task, task=dag.task_dict[task.task_id], run_triggerer=True)
    with create_session() as session:
        return _find_run(run, session)


def task_states(run: Any) -> dict[str, str]:
    """The state of each task of a run; of a mapped task, that of its last instance."""
    return {task.task_id: str(task.state) for task in run.get_task_instances()}


def attempts(run: Any, task: str) -> Sequence[int]:
    """How often each instance of a task has been tried since the run was created."""
    return [instance.try_number for instance in run.get_task_instances() if instance.task_id == task]


def _parse_dag(dag_bag: Any, name: str) -> Any:
    dag = type(dag_bag)(str(ROOT / "dags" / f"{name}.py")).dags[name]
    for task in dag.tasks:
        task.retry_delay = timedelta(0)
        task.retry_exponential_backoff = 0
    return dag


def _find_run(run: Any, session: Any) -> Any:
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    return session.scalar(select(DagRun).where(DagRun.dag_id == run.dag_id, DagRun.run_id == run.run_id))


def _scheduled(dag: Any) -> Any:
    """The DAG as the scheduler sees it."""
    from airflow.serialization.serialized_objects import DagSerialization

    if dag.dag_id not in _serialized:
        _serialized[dag.dag_id] = json.dumps(DagSerialization.serialize_dag(dag))
    return DagSerialization.deserialize_dag(json.loads(_serialized[dag.dag_id]))


@cache
def _store_dags() -> None:
    """Write the DAGs to Airflow's database, once, as the DAG processor does, and unpause them."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    manager = DagBundlesManager()
    manager.sync_bundles_to_db()
    for bundle in manager.get_all_dag_bundles():
        bundle.initialize()
        bag = BundleDagBag(dag_folder=bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
        sync_bag_to_db(bag, bundle.name, bundle.version)
    with create_session() as session:
        session.execute(update(DagModel).values(is_paused=False))
