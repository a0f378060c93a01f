"""A task that opens a Spark session links to it, gives its id, and closes it with the task."""

from __future__ import annotations

import pytest

from churn.foundation.spark import session
from churn.foundation.spark.session import OpenedSession
from churn.pipeline.workspace import Workspace
from churn_airflow import review
from churn_airflow.review.links import SparkLink
from churn_airflow.steps import SPARK_APPLICATION
from support.dag_runs import run_dag

PAGES = "http://127.0.0.1:4040"


@pytest.fixture
def opening(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The watch opens a session, or what Airflow's side sees of one; returns what was closed."""
    closed: list[str] = []

    def send(*_: object) -> int:
        for listener in session._listeners:
            listener(OpenedSession("app-1", PAGES))
        return 0

    monkeypatch.setattr("churn_airflow.alerts.record_and_send", send)
    monkeypatch.setattr(session, "close_sessions", lambda: closed.append("closed"))
    return closed


def test_a_task_shows_its_session_and_closes_it(dag_bag: object, dag_workspace: Workspace, opening: list[str]) -> None:
    """The address is read from Airflow's database, as its API server does; a task without Spark has none."""
    run = run_dag(dag_bag, "churn_watch", {})
    assert run.state == "success"
    watched, refuted = (run.get_task_instance(task) for task in ("watch", "refuted"))
    assert watched.xcom_pull(task_ids="watch", key=SPARK_APPLICATION) == "app-1"
    assert SparkLink().get_link(watched.task, ti_key=watched.key) == PAGES
    assert SparkLink().get_link(refuted.task, ti_key=refuted.key) == ""
    assert opening
    assert session._listeners == []


def test_tasks_have_the_link_only_with_spark(dag_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also settings that cannot be read do not break the plugin."""
    assert review._links_of_all_tasks() == []
    monkeypatch.setenv("CHURN_SPREAD", "spark")
    assert [link.name for link in review._links_of_all_tasks()] == ["Spark"]
    monkeypatch.setenv("CHURN_SPREAD", "elsewhere")
    assert review._links_of_all_tasks() == []
