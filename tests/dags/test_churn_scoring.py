"""The scoring DAG: by its form, after a change of production, from a file that landed; its event, its alerts and its deliveries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from churn.pipeline import steps
from churn.pipeline.shipping import ship
from churn.pipeline.workspace import Workspace
from churn.sample.generator import Night, make_night
from churn.scoring import second_scoring
from churn.scoring.population import land_population
from support.basics import clone_workspace, export
from support.dag_runs import finish_run, run_dag, task_states
from support.score_lists import in_this_process

SCORING = "churn_scoring"


@pytest.fixture(autouse=True, scope="module")
def quick_second_scoring() -> Iterator[None]:
    """The comparison with another process is tested elsewhere."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(second_scoring, "open_scorer", in_this_process)
        yield


@pytest.fixture(scope="module")
def shared(second_champion: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return clone_workspace(second_champion, tmp_path_factory.mktemp("scoring"))


@pytest.fixture
def scored(shared: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with two champions, that the tests of this module score with one after another."""
    export(shared.settings, monkeypatch)
    return shared


def land_customers(workspace: Workspace, folder: Path, seed: int, rows: int = 400, faults: int = 2) -> str:
    file = folder / f"customers-{seed}.csv"
    file.write_text(make_night(workspace.contract, Night(rows, first_customer=seed * 10_000, seed=seed, faults=faults)))
    land_population(workspace.storage, file)
    return file.name


def lists(workspace: Workspace) -> list[Any]:
    return workspace.ledger.score_lists(workspace.settings.model_name)


def events() -> list[dict[str, Any]]:
    """What the asset's events say, oldest first."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(AssetEvent.extra).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return list(session.scalars(query.where(AssetModel.name == "churn_scores").order_by(AssetEvent.id)))


def test_without_a_file_the_accepted_customers_are_scored_and_other_dags_are_told(
    dag_bag: object, scored: Workspace
) -> None:
    """The event has the id, the place and the counts of the list. The same again changes nothing, and tells nobody."""
    before = len(events())
    run = run_dag(dag_bag, SCORING)
    states = task_states(run)
    assert (run.state, states["score"], states["announce"]) == ("success", "success", "success")
    assert states["deliver_database"] == states["deliver_drop"] == "skipped"
    (row,) = lists(scored)
    assert (row.night, row.version, row.source) == (run.run_id, 2, "accepted")
    (event,) = events()[before:]
    assert event["list"] == row.list_id
    assert event["uri"].endswith(f"scores/{row.list_id}")
    assert (event["rows"], event["contact"], event["control"]) == (row.rows, row.contact, row.control)
    again = run_dag(dag_bag, SCORING)
    assert (again.state, task_states(again)["announce"]) == ("success", "skipped")
    assert lists(scored) == [row]
    assert len(events()) == before + 1


def test_a_file_that_landed_is_scored_and_then_remains_the_default(
    dag_bag: object, scored: Workspace, tmp_path: Path
) -> None:
    """Arrived is scored plus quarantined. A later run without a new file scores the same customers."""
    name = land_customers(scored, tmp_path, 31)
    assert run_dag(dag_bag, SCORING).state == "success"
    row = lists(scored)[0]
    assert (row.source, row.source_name, row.arrived_rows) == ("file", name, row.rows + row.quarantined_rows)
    assert row.quarantined_rows == 2
    later = run_dag(dag_bag, SCORING, {"campaign": "spring"})
    assert later.state == "success"
    assert run_dag(dag_bag, SCORING, {"version": 1}).state == "success"
    newest = lists(scored)[0]
    assert (newest.version, newest.source_name, newest.campaign) == (1, name, row.campaign)


def test_the_form_names_file_version_capacity_and_campaign(dag_bag: object, scored: Workspace, tmp_path: Path) -> None:
    """A dry run publishes nothing; a file that is not there, and a bad campaign, are one clear error."""
    first, _ = land_customers(scored, tmp_path, 41), land_customers(scored, tmp_path, 42)
    asked = {"file": first, "version": 1, "capacity": 7, "campaign": "summer"}
    before = len(lists(scored))
    dry = run_dag(dag_bag, SCORING, asked | {"dry_run": True})
    assert (dry.state, task_states(dry)["announce"], len(lists(scored))) == ("success", "skipped", before)
    assert run_dag(dag_bag, SCORING, asked).state == "success"
    row = lists(scored)[0]
    assert (row.source_name, row.version, row.campaign) == (first, 1, "summer")
    assert row.contact + row.control == row.summary["capacity"] == 7
    failed = run_dag(dag_bag, SCORING, {"file": "nothing.csv"})
    assert (failed.state, task_states(failed)["collect"]) == ("failed", "failed")
    assert any(
        "No file of current customers has the name nothing.csv" in alert.text for alert in scored.ledger.alerts()
    )


def test_a_list_that_fails_leaves_the_current_one_and_sends_one_alert(
    dag_bag: object, scored: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alert names the list that stays, the reason, and the next step. Another file of the same run is scored and delivered all the same."""
    file = tmp_path / "broken.csv"
    file.write_text("no,customers\n1,2\n")
    land_population(scored.storage, file)
    land_customers(scored, tmp_path, 51)
    current, before = lists(scored)[0], len(events())
    monkeypatch.setenv("CHURN_SCORES_DROP", str(tmp_path / "drop"))
    failed = run_dag(dag_bag, SCORING)
    states = task_states(failed)
    assert (failed.state, states["score"], states["every_list_made"]) == ("failed", "failed", "upstream_failed")
    assert (states["deliver_database"], states["deliver_drop"], states["announce"]) == ("skipped", "success", "success")
    newest = lists(scored)[0]
    assert [event["list"] for event in events()[before:]] == [newest.list_id]
    assert (tmp_path / "drop" / newest.campaign / newest.list_id / "_SUCCESS").exists()
    assert newest.source_name == "customers-51.csv"
    (alert,) = [alert for alert in scored.ledger.alerts() if failed.run_id in alert.key]
    assert alert.kind == "list_failed"
    assert "Columns are missing" in alert.text
    assert f"List {newest.list_id[:12]}" in alert.text
    assert newest.list_id != current.list_id
    assert "then clear" in alert.text


def test_a_delivery_has_a_task_a_retry_and_an_alert_of_its_own(
    dag_bag: object, scored: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database does not answer, and the folder gets the list. Other DAGs do not start. Without the database, nothing is left to deliver."""
    land_customers(scored, tmp_path, 61)
    monkeypatch.setenv("CHURN_SCORES_DROP", str(tmp_path / "drop"))
    monkeypatch.setenv("CHURN_SCORES_URL", "postgresql+psycopg2://bob:hunter2@127.0.0.1:9/scores")
    before = len(events())
    run = run_dag(dag_bag, SCORING)
    states = task_states(run)
    assert run.state == "failed"
    assert (states["deliver_database"], states["deliver_drop"], states["announce"]) == (
        "failed",
        "success",
        "upstream_failed",
    )
    row = lists(scored)[0]
    assert (tmp_path / "drop" / row.campaign / row.list_id / "_SUCCESS").exists()
    (alert,) = [alert for alert in scored.ledger.alerts() if run.run_id in alert.key]
    assert alert.kind == "delivery_failed"
    assert "hunter2" not in alert.text
    assert "before" in alert.text
    assert len(events()) == before
    monkeypatch.delenv("CHURN_SCORES_URL")
    again = run_dag(dag_bag, SCORING)
    assert (again.state, task_states(again)["deliver_drop"]) == ("success", "skipped")


def test_a_rollback_and_a_verified_promotion_trigger_a_run_once(
    dag_bag: object,
    second_champion: Workspace,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not before the image is verified, and not again for the same change. The watch finds a rollback by the command."""
    workspace = clone_workspace(second_champion, tmp_path_factory.mktemp("changes"))
    forget_runs()  # of other tests, whose changes have the same numbers
    export(workspace.settings, monkeypatch)
    sequence = workspace.ledger.in_production(workspace.settings.model_name).sequence
    assert task_states(run_dag(dag_bag, "churn_watch"))["score"] == "skipped"  # nothing has been verified
    built = run_dag(dag_bag, "churn_image_build", {"version": 2})
    assert (built.state, task_states(built)["score"], task_states(built)["score_rollback"]) == (
        "success",
        "success",
        "skipped",
    )
    (triggered,) = triggered_runs(f"scores-of-change-{sequence}")
    assert finish_run(dag_bag, triggered).state == "success"
    assert lists(workspace)[0].version == 2
    assert task_states(run_dag(dag_bag, "churn_watch"))["score"] == "skipped"
    ship(workspace, 1)
    steps.roll_back(workspace, None, "a test", "ann", "by the command")
    watched = run_dag(dag_bag, "churn_watch")
    assert (watched.state, task_states(watched)["score"]) == ("success", "success")
    assert len(triggered_runs(f"scores-of-change-{sequence + 1}__")) == 1
    assert finish_run(dag_bag, triggered_runs(f"scores-of-change-{sequence + 1}__")[0]).state == "success"
    assert lists(workspace)[0].version == 1
    back = run_dag(dag_bag, "churn_rollback", {"reason": "the other way", "version": 2})
    assert (back.state, task_states(back)["score"]) == ("success", "success")
    assert len(triggered_runs(f"scores-of-change-{sequence + 2}")) == 1


def forget_runs() -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(DagRun).where(DagRun.dag_id == SCORING))


def triggered_runs(beginning: str) -> list[Any]:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return [
            run
            for run in session.scalars(select(DagRun).where(DagRun.dag_id == SCORING))
            if run.run_id.startswith(beginning)
        ]


def test_no_task_passes_a_customer_on(dag_bag: object, scored: Workspace, tmp_path: Path) -> None:
    """What tasks pass on is ids, places and counts."""
    land_customers(scored, tmp_path, 71)
    run = run_dag(dag_bag, SCORING)
    passed = json.dumps([task.xcom_pull(task_ids=task.task_id) for task in run.get_task_instances()])
    assert lists(scored)[0].list_id in passed
    assert "71000" not in passed
    assert len(passed) < 3000
