"""Rules for every DAG file: listed here, fast to parse, limited in time, and documented."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from support.basics import ROOT

DAGS = {
    "churn_retraining",
    "churn_image_build",
    "churn_rollback",
    "churn_scoring",
    "churn_landing",
    "churn_population_landing",
    "churn_maintenance",
    "churn_watch",
}
HEAVY = ["mlflow", "great_expectations", "sklearn", "pandas", "duckdb", "pyarrow", "matplotlib", "docker", "scipy"]


def test_every_dag_file_is_listed_here() -> None:
    """A new DAG file must be added to this list, so that the rules below apply to it."""
    assert {path.stem for path in (ROOT / "dags").glob("*.py")} == DAGS


def test_file_and_dag_have_the_same_name(dag_bag: object) -> None:
    """dags/NAME.py defines exactly the DAG NAME, and no file fails to import."""
    assert dag_bag.import_errors == {}
    assert {dag.dag_id: dag.fileloc.rsplit("/", 1)[-1] for dag in dag_bag.dags.values()} == {
        name: f"{name}.py" for name in DAGS
    }


def test_a_dag_file_imports_nothing_heavy() -> None:
    """Parsing the DAG files in a fresh interpreter loads no heavy library that Airflow does not load itself."""
    code = "import importlib, json, sys; import airflow.sdk; from airflow.providers.standard.operators import trigger_dagrun; "
    code += f"before = set(sys.modules); sys.path[:0] = ['dags']; found = dict(); names = {sorted(DAGS)!r}\n"
    code += "for name in names:\n  importlib.import_module(name)\n"
    code += f"  found[name] = [m for m in {HEAVY!r} if m in sys.modules and m not in before]\n"
    code += "print(json.dumps(found))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {name: [] for name in DAGS}


@pytest.mark.parametrize("name", sorted(DAGS))
def test_every_task_has_retries_and_a_time_limit(dag_bag: object, name: str) -> None:
    """Outages are retried with growing pauses, and nothing hangs for ever."""
    dag = dag_bag.dags[name]
    assert dag.doc_md
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    for task in dag.tasks:
        assert task.retries >= 1, task.task_id
        assert task.retry_exponential_backoff, task.task_id
        # A task that may wait for a person sets its own limit when it asks.
        assert task.execution_timeout or task.task_type == "PromoteOperator", task.task_id


@pytest.mark.parametrize("name", sorted(DAGS))
def test_every_final_failure_sends_an_alert(dag_bag: object, name: str) -> None:
    """Each task reports its failure, except the task that sends alerts: it could not send that one either."""
    for task in dag_bag.dags[name].tasks:
        assert bool(task.on_failure_callback) is ((name, task.task_id) != ("churn_watch", "watch")), task.task_id


def test_the_nightly_run_is_at_two_by_default(dag_bag: object) -> None:
    """02:00 UTC; `CHURN_SCHEDULE` and `CHURN_TIMEZONE` change it."""
    timetable = dag_bag.dags["churn_retraining"].timetable
    assert (timetable.expression, str(timetable.timezone)) == ("0 2 * * *", "UTC")


@pytest.mark.parametrize("name", ["churn_retraining", "churn_maintenance", "churn_watch"])
def test_the_first_run_of_a_new_dag_is_the_next_one_that_is_due(
    dag_bag: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shortly after a due time, too: a run made up for the time just passed would compete with the first `make run`."""
    from airflow.serialization.decoders import decode_timetable
    from airflow.serialization.encoders import encode_timetable
    from airflow.timetables.base import TimeRestriction
    from pendulum import instance

    timetable = decode_timetable(encode_timetable(dag_bag.dags[name].timetable))
    due = timetable._align_to_prev(instance(datetime(2026, 11, 29, 12, tzinfo=UTC)))
    for minutes in (1, 5, 59):
        now = due + timedelta(minutes=minutes)
        monkeypatch.setattr("airflow.timetables.trigger.utcnow", lambda now=now: now)
        first = timetable.next_dagrun_info(
            last_automated_data_interval=None, restriction=TimeRestriction(None, None, catchup=False)
        )
        assert first.run_after == timetable._get_next(due), minutes


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("churn_retraining", {"retrain", "dry_run", "approval", "force_reason", "plausible_reason", "note"}),
        ("churn_rollback", {"reason", "version"}),
        ("churn_scoring", {"file", "version", "campaign", "capacity", "dry_run"}),
        ("churn_maintenance", {"dry_run"}),
        ("churn_watch", {"test_message"}),
    ],
)
def test_the_form_has_sections_and_help(dag_bag: object, name: str, fields: set[str]) -> None:
    """Every field of a trigger form has a title, an explanation and a section."""
    params = dag_bag.dags[name].params
    assert set(params) == fields
    for field in params:
        schema = params.get_param(field).schema
        assert {"title", "description_md", "section"} <= set(schema)


def test_the_tasks_link_to_their_pages(dag_bag: object) -> None:
    """The review of the run, the comparison, the version and the Data Docs are one click from their tasks."""
    links = {
        task.task_id: [link.name for link in task.operator_extra_links]
        for task in dag_bag.dags["churn_retraining"].tasks
    }
    assert links["arrive"] == links["close"] == ["Review of the run"]
    assert links["compare"] == ["Review of the run", "Comparison in MLflow"]
    assert links["validate"] == ["Data Docs"]
    assert links["train"] == ["Version in MLflow"]
    assert links["promote"] == ["Review of the run", "Comparison in MLflow", "Version in MLflow"]
