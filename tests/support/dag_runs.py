"""Runs the DAGs of the project in this process."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from support.basics import ROOT


def run_dag(dag_bag: Any, name: str, conf: dict[str, Any] | None = None) -> Any:
    """Run a freshly parsed DAG, because `dag.test` leaves the run's parameters in the DAG object.

    A task that is retried does not wait for minutes.
    """
    dag = type(dag_bag)(str(ROOT / "dags")).dags[name]
    for task in dag.tasks:
        task.retry_delay = timedelta(seconds=0.1)
        task.retry_exponential_backoff = 0
    return dag.test(run_conf=conf or {}, logical_date=None)
