"""Runs of the real DAGs, in this process, against a real MLflow server."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from churn.decision.replay import replay
from churn.pipeline.disagreements import find_disagreements
from churn.pipeline.workspace import Workspace
from churn.settings import Settings
from churn_airflow import steps
from churn_airflow.steps import open_filesystem
from support.basics import S3, clone_workspace, export, land_night, land_text, make_workspace
from support.dag_runs import run_dag


def run_night(dag_bag: object, conf: dict | None = None) -> object:
    """Run the retraining, and the image build that it triggers: with `dag.test`, a triggered run stays queued."""
    run = run_dag(dag_bag, "churn_retraining", conf)
    workspace = Workspace.open()
    decision = workspace.ledger.decision(run.run_id)
    assert decision is None or replay(decision, workspace.storage).faults == []
    promoted = run.get_task_instance("promote").xcom_pull(task_ids="promote")
    if promoted:
        assert run_dag(dag_bag, "churn_image_build", {"version": promoted}).state == "success"
    return run


def states(run: object) -> dict[str, str]:
    return {task.task_id: task.state for task in run.get_task_instances()}


@pytest.fixture(scope="module")
def first_run(dag_bag: object, mlflow_url: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace after a first run through the DAGs, image included: made once, never changed, to be cloned."""
    workspace = make_workspace(tmp_path_factory.mktemp("first_run"), mlflow_url)
    with pytest.MonkeyPatch.context() as monkeypatch:
        export(workspace.settings, monkeypatch)
        land_night(workspace, 1)
        assert run_night(dag_bag).state == "success"
    return workspace


@pytest.fixture
def after_first_night(first_run: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace of its own after a first run, whose settings are in the environment."""
    workspace = clone_workspace(first_run, tmp_path)
    export(workspace.settings, monkeypatch)
    return workspace


def test_two_runs_end_with_a_compared_promoted_and_verified_model(
    dag_bag: object, after_first_night: Workspace
) -> None:
    """A file becomes a comparison, a promotion and a verified image; MLflow registry, ledger and image agree.

    No XCom of the run, whose file has faulty rows, contains customer data.
    """
    workspace = after_first_night
    land_night(workspace, 2, faults=6)
    night = run_night(dag_bag)
    assert night.state == "success"
    decision = workspace.ledger.decision(night.run_id)
    assert (decision.verdict, decision.code, decision.champion) == ("promote", "SUPERIOR", 1)
    assert workspace.ledger.in_production(workspace.settings.model_name).version == 2
    image = workspace.ledger.image(workspace.settings.model_name, 2)
    assert (image.state, image.probes > 200, image.max_difference <= 1e-12) == ("not_built", True, True)
    assert "no container engine" in image.detail
    assert workspace.tracking.version(2).tags["churn.image"] == "not_built"
    assert find_disagreements(workspace) == []
    require_only_ids_and_counts_in_xcom()


def require_only_ids_and_counts_in_xcom() -> None:
    """No XCom contains customer data or a secret."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    from support.basics import SALT

    with create_session() as session:
        values = [json.dumps(row.value, default=str) for row in session.scalars(select(XComModel))]
    assert len(values) >= 8
    assert max(map(len, values)) < 500
    assert not [text for text in values if SALT in text or "Atlantis" in text or "Keller" in text]


def test_a_run_without_new_data_is_skipped(dag_bag: object, after_first_night: Workspace) -> None:
    """The run succeeds, its tasks are skipped, and nothing is decided."""
    night = run_dag(dag_bag, "churn_retraining")
    assert night.state == "success"
    assert set(states(night).values()) == {"skipped"}
    assert after_first_night.ledger.decision(night.run_id) is None


def test_a_hold_is_a_success(dag_bag: object, after_first_night: Workspace) -> None:
    """A manual retraining on the same rows is compared and held; there is no promotion and no image, and the run is green."""
    night = run_night(dag_bag, {"retrain": True, "note": "just looking"})
    assert night.state == "success"
    by_task = states(night)
    expected = {"compare": "success", "promote": "skipped", "build_image": "skipped", "close": "success"}
    assert {task: by_task[task] for task in expected} == expected
    decision = after_first_night.ledger.decision(night.run_id)
    assert (decision.verdict, decision.note) == ("hold", "just looking")


def test_a_dry_run_changes_nothing(dag_bag: object, dag_workspace: Workspace) -> None:
    """A dry run decides, but does not change production."""
    land_night(dag_workspace, 1)
    night = run_night(dag_bag, {"dry_run": True})
    assert dag_workspace.ledger.decision(night.run_id).verdict == "promote"
    assert states(night)["promote"] == "skipped"
    assert dag_workspace.ledger.promotions(dag_workspace.settings.model_name) == []


def test_a_rejected_batch_fails_its_task_and_the_other_batches_go_on(
    dag_bag: object, after_first_night: Workspace
) -> None:
    """A failed validation is not hidden: the task and the run fail, while the good batch still leads to a decision."""
    workspace = after_first_night
    land_text(workspace, "no,churn\n1,2\n", "bad.csv")
    land_night(workspace, 2)
    night = run_night(dag_bag)
    assert night.state == "failed"
    validated = sorted(task.state for task in night.get_task_instances() if task.task_id == "validate")
    assert validated == ["failed", "success"]
    assert workspace.ledger.decision(night.run_id).verdict == "promote"


def test_only_rejected_batches_train_nothing(
    dag_bag: object, after_first_night: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run fails, no version is registered, and the champion stays in production; of many files, a task judges several."""
    workspace = after_first_night
    monkeypatch.setattr(steps, "MOST_TASKS", 2)
    for name in ("bad", "worse", "worst"):
        land_text(workspace, f"{name},churn\n1,2\n", f"{name}.csv")
    night = run_dag(dag_bag, "churn_retraining")
    assert night.state == "failed"
    validated = [task for task in night.get_task_instances() if task.task_id == "validate"]
    assert [task.state for task in validated] == ["failed"] * 2
    assert [batch.state for batch in workspace.ledger.batches(night=night.run_id)] == ["rejected"] * 3
    assert states(night)["train"] == "failed"
    assert workspace.ledger.in_production(workspace.settings.model_name).version == 1
    assert len(workspace.tracking.client.search_model_versions(f"name = '{workspace.settings.model_name}'")) == 1


def test_a_version_whose_image_differs_is_rolled_back(
    dag_bag: object, after_first_night: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image build fails, the previous version is restored, and the ledger records why."""
    from churn.release import service

    workspace = after_first_night
    land_night(workspace, 2)
    night = run_dag(dag_bag, "churn_retraining")
    assert states(night)["promote"] == "success"
    honest = service.downloaded
    monkeypatch.setattr(service, "downloaded", lambda version, tracking: honest(1, tracking))
    monkeypatch.setattr(service, "require_registered", lambda *_: None)  # as if tampered with unnoticed
    image = run_dag(dag_bag, "churn_image_build", {"version": 2})
    assert image.state == "failed"
    tasks = states(image)
    assert (tasks["build"], tasks["verify"], tasks["publish"]) == ("success", "failed", "upstream_failed")
    # The restored version makes a new list; of other tests, a change may have the same number.
    assert (tasks["score"], tasks["score_rollback"] in ("success", "skipped")) == ("upstream_failed", True)
    last = workspace.ledger.in_production(workspace.settings.model_name)
    assert (last.version, last.previous, last.kind) == (1, 2, "take_back")
    assert workspace.ledger.image(workspace.settings.model_name, 2).state == "mismatch"
    assert find_disagreements(workspace) == []


def test_a_failed_image_build_is_explained_and_changes_no_production(
    dag_bag: object, after_first_night: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is red, and the reason is in the ledger, in MLflow and in the status. Production stays. A later build succeeds."""
    from churn.errors import ChurnError
    from churn.pipeline import shipping

    workspace, model, version = after_first_night, after_first_night.settings.model_name, 2
    land_night(workspace, 2)
    assert states(run_dag(dag_bag, "churn_retraining"))["promote"] == "success"
    honest = shipping.build_image

    def failing(*_: object) -> None:
        raise ChurnError("CHURN_BUILD_CA_BUNDLE: the file does not exist.")

    monkeypatch.setattr(shipping, "build_image", failing)
    image = run_dag(dag_bag, "churn_image_build", {"version": version})
    assert states(image) == {
        "build": "failed",
        "verify": "upstream_failed",
        "publish": "upstream_failed",
        "score": "upstream_failed",
        "score_rollback": "skipped",
    }
    assert workspace.ledger.in_production(model).version == version
    tags = workspace.tracking.version(version).tags
    assert (workspace.ledger.image(model, version).state, tags["churn.image"]) == ("failed", "failed")
    assert "CHURN_BUILD_CA_BUNDLE" in tags["churn.image_detail"]
    (problem,) = find_disagreements(workspace)
    assert f"The image of version {version}," in problem
    monkeypatch.setattr(shipping, "build_image", honest)
    assert run_dag(dag_bag, "churn_image_build", {"version": version}).state == "success"
    assert workspace.ledger.image(model, version).state == "not_built"
    assert find_disagreements(workspace) == []


def test_a_run_with_the_credentials_of_an_airflow_connection(
    dag_bag: object, dag_workspace: Workspace, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the data root on S3 and its credentials only in a connection, a file is accepted and its model promoted."""
    extra = {"endpoint_url": s3.endpoint, "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": s3.key, "password": s3.secret, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_CHURN_DATA", json.dumps(connection))
    monkeypatch.setenv("CHURN_AWS_CONN_ID", "churn_data")
    monkeypatch.setenv("CHURN_DATA_ROOT", f"s3://{s3.bucket}/{dag_workspace.settings.model_name}")
    settings = Settings.load()
    on_s3 = Workspace.open(settings, open_filesystem(settings))
    land_night(on_s3, 1)
    assert run_dag(dag_bag, "churn_retraining").state == "success"
    (batch,) = dag_workspace.ledger.batches()
    assert batch.state == "accepted"
    assert on_s3.storage.exists(f"accepted/{batch.batch}/manifest.json")
    assert dag_workspace.ledger.in_production(settings.model_name).version == 1


def test_the_reason_of_a_forced_promotion_is_recorded(dag_bag: object, after_first_night: Workspace) -> None:
    """The reason from the form promotes a version that the policy holds, and is in the history."""
    workspace = after_first_night
    form = {"force_reason": "a test of the form", "plausible_reason": "a clean data set"}
    night = run_night(dag_bag, {"retrain": True, **form})
    assert night.state == "success"
    row = workspace.ledger.in_production(workspace.settings.model_name)
    assert (row.version, row.kind, row.code) == (2, "forced", "FORCED")
    assert "a test of the form" in row.reason
    confirmation = workspace.ledger.confirmation(workspace.settings.model_name)
    assert confirmation.reason == "a clean data set"


def test_a_promotion_waits_for_a_person(
    dag_bag: object, after_first_night: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If approval is required, the task asks with the decision and a link to the comparison, and acts on the answer."""
    from datetime import UTC, datetime, timedelta

    from churn.foundation.records import Approval
    from churn_airflow import approval

    workspace = after_first_night
    asked = []

    def ask(operator: approval.PromoteOperator, context: object) -> object:
        asked.append((operator.subject, operator.body, operator.response_timeout))
        event = {
            "chosen_options": ["Approve"],
            "params_input": {"reason": "looks right"},
            "responded_at": datetime.now(UTC),
            "responded_by_user": {"id": "1", "name": "Ann"},
            "timedout": False,
        }
        return operator.execute_complete(context, event)

    monkeypatch.setattr(approval.HITLOperator, "execute", ask)
    land_night(workspace, 2)
    night = run_night(dag_bag, {"approval": True})
    assert night.state == "success"
    ((subject, body, wait),) = asked
    assert "version 2" in subject
    assert "SUPERIOR" in subject
    assert "/runs/" in body
    assert timedelta(minutes=1) <= wait <= timedelta(hours=20)
    recorded = workspace.ledger.approval(night.run_id)
    assert isinstance(recorded, Approval)
    assert (recorded.answer, recorded.by, recorded.reason) == ("approved", "Ann", "looks right")
    assert workspace.ledger.in_production(workspace.settings.model_name).actor == "Ann"


@pytest.mark.timeout(240)
def test_the_requester_cannot_approve_alone_if_a_second_person_is_required(
    dag_bag: object, after_first_night: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through Airflow's own API: the approval of the requester leaves the question open; that of another person counts."""
    from dataclasses import replace

    from churn_airflow import steps

    workspace = after_first_night
    monkeypatch.setenv("CHURN_SECOND_PERSON", "true")
    request = steps._request
    monkeypatch.setattr(steps, "_request", lambda: replace(request(), requested_by="ann"))
    land_night(workspace, 2)
    with answering(monkeypatch, "ann", "bea") as answered:
        night = run_night(dag_bag, {"approval": True})
    assert answered == {"ann": 200, "bea": 200}
    assert night.state == "success"
    recorded = workspace.ledger.approval(night.run_id)
    assert (recorded.answer, recorded.by, recorded.reason) == ("approved", "bea", "by bea")
    assert workspace.ledger.in_production(workspace.settings.model_name).actor == "bea"


@contextmanager
def answering(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[dict[str, int]]:
    """Approve as these users, one after the other, as soon as the task asks: in a thread, through the HITL API.

    They answer only between two tasks: when a task has ended, `DAG.test` writes its state again, and would undo
    an answer that came before.
    """
    from threading import Event, Lock, Thread

    from airflow.api_fastapi.app import create_app, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.models.taskinstance import TaskInstance
    from airflow.sdk.definitions import dag as dag_module
    from airflow.utils.session import create_session
    from fastapi.testclient import TestClient
    from sqlalchemy import select

    ended, between_tasks, answered = Event(), Lock(), {}
    client = TestClient(create_app("core"))
    run_task = dag_module._run_task

    def run_undisturbed(**kwargs: object) -> object:
        with between_tasks:
            return run_task(**kwargs)

    monkeypatch.setattr(dag_module, "_run_task", run_undisturbed)

    def answer(name: str) -> None:
        token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=name, role="op"))
        while not ended.wait(0.2):
            with between_tasks, create_session() as session:
                asked = session.scalar(select(TaskInstance).where(TaskInstance.state == "awaiting_input"))
                if asked:
                    path = f"/api/v2/dags/{asked.dag_id}/dagRuns/{asked.run_id}/taskInstances/promote/-1/hitlDetails"
                    body = {"chosen_options": ["Approve"], "params_input": {"reason": f"by {name}"}}
                    response = client.patch(path, json=body, headers={"Authorization": f"Bearer {token}"})
                    answered[name] = response.status_code
                    return

    people = Thread(target=lambda: [answer(name) for name in names])
    people.start()
    try:
        yield answered
    finally:
        ended.set()
        people.join()


def test_a_rollback_by_dag(dag_bag: object, after_first_night: Workspace) -> None:
    """An earlier version is in production again, nothing is trained or built, and automatic promotion is off."""
    workspace = after_first_night
    land_night(workspace, 2)
    assert run_night(dag_bag).state == "success"
    back = run_dag(dag_bag, "churn_rollback", {"reason": "customers complain"})
    tasks = states(back)
    assert (tasks["roll_back"], tasks["lost_image"], tasks["build_image"]) == ("success", "skipped", "skipped")
    assert tasks["score"] in ("success", "skipped")  # of other tests, a change may have the same number
    row = workspace.ledger.in_production(workspace.settings.model_name)
    assert (row.version, row.kind, row.reason) == (1, "rollback", "customers complain")
    assert workspace.ledger.freeze(workspace.settings.model_name) == row
    assert find_disagreements(workspace) == []
    impossible = run_dag(dag_bag, "churn_rollback", {"reason": "further", "version": 7})
    assert states(impossible)["roll_back"] == "failed"
