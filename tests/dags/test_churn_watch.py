"""Alerts through the real DAGs and Airflow's own notifiers, to a mail server and a topic on loopback: one for each event."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from sqlalchemy.engine import make_url

from churn.alerts.events import task_failed
from churn.errors import ChurnError
from churn.foundation.records import ImageRecord
from churn.pipeline import shipping, steps
from churn.pipeline.workspace import Workspace
from churn.settings import Settings
from churn_airflow.steps import keep_image_failure, report_failed_run
from support.basics import ROOT, land_night, land_text
from support.dag_runs import run_dag
from support.mailboxes import Mailbox, mail_server, topic_server

SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
SNS = "airflow.providers.amazon.aws.notifications.sns.SnsNotifier"


@dataclass
class People:
    """The recipients: every alert goes to the mailbox and to the topic."""

    mail: Mailbox
    topic: list[dict[str, str]]

    @property
    def subjects(self) -> list[str]:
        """The subjects of all alerts, which are the same for both."""
        assert sorted(self.mail.subjects) == sorted(request["Subject"] for request in self.topic)
        return sorted(self.mail.subjects)


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[People]:
    """Channels and connections to servers on loopback."""
    with mail_server() as mail, topic_server() as (topic, published):
        connect(monkeypatch, mail.port, topic)
        entries = yaml.safe_load((ROOT / "include/notifications.example.yaml").read_text())
        entries[0]["subject"] = "{{ alert.subject }}"
        del entries[1]["only"]
        file = tmp_path / "notifications.yaml"
        file.write_text(yaml.safe_dump(entries))
        monkeypatch.setenv("CHURN_NOTIFICATIONS_FILE", str(file))
        yield People(mail, published)


def connect(monkeypatch: pytest.MonkeyPatch, mail: int, topic: str) -> None:
    plain = {"disable_ssl": True, "disable_tls": True, "retry_limit": 0, "timeout": 5}
    smtp = {"conn_type": "smtp", "host": "127.0.0.1", "port": mail, "extra": plain}
    aws = {"conn_type": "aws", "login": "key", "password": "secret", "extra": {"endpoint_url": topic}}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(smtp))
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws))


def watch(dag_bag: object, **conf: object) -> str:
    return run_dag(dag_bag, "churn_watch", conf).state


def test_a_run_sends_one_alert_for_each_event(dag_bag: object, dag_champion: Workspace, people: People) -> None:
    """Its promotion and its rejected batch send an alert each, with link and next step; further runs send none."""
    land_text(dag_champion, "no,churn\n1,2\n", "bad.csv")
    assert run_dag(dag_bag, "churn_retraining").state == "failed"
    model = dag_champion.settings.model_name
    first = f"Version 1 of {model} has been promoted (NO_CHAMPION)"  # by the run before, which sent no alerts
    second = f"Version 2 of {model} has been promoted (SUPERIOR)"
    (rejected,) = [batch for batch in dag_champion.ledger.batches() if batch.state == "rejected"]
    batch = f"Batch {rejected.batch[:12]} (bad.csv) was rejected"
    assert people.subjects == sorted([batch, first, second])
    body = people.mail.body(people.mail.subjects.index(second))
    assert f'<a href="{dag_champion.settings.mlflow_ui}/#/models/{model}/versions/2">' in body
    assert "Next: " in body
    assert "churn rollback" in body
    assert str(people.mail.mails[0]["to"]) == "data-team@example.com"
    message = json.loads(next(request["Message"] for request in people.topic if request["Subject"] == batch))["default"]
    assert f"/churn-review/docs/{rejected.batch}/index.html" in message
    assert f"churn batches rejudge {rejected.batch[:12]}" in message
    assert watch(dag_bag) == "success"
    assert run_dag(dag_bag, "churn_retraining").state == "success"
    assert len(people.subjects) == 3


def test_a_failed_delivery_does_not_fail_the_run_and_is_retried(
    dag_bag: object, dag_champion: Workspace, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is green; the watch is red while the mail server is unavailable, then it sends the mails, and nothing twice."""
    port = people.mail.port
    with mail_server() as stopped:
        pass
    address = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])["extra"]["endpoint_url"]
    connect(monkeypatch, stopped.port, address)
    assert run_dag(dag_bag, "churn_retraining").state == "success"
    assert (people.mail.mails, len(people.topic)) == ([], 2)
    assert all(alert.sent_at is None for alert in dag_champion.ledger.alerts())
    monkeypatch.setattr("churn_airflow.steps.TASK_DEFAULTS", {"retries": 0})
    assert watch(dag_bag) == "failed"
    connect(monkeypatch, port, address)
    assert watch(dag_bag) == "success"
    assert watch(dag_bag) == "success"
    assert len(people.subjects) == 2


def test_a_run_of_rejected_batches_sends_only_their_alerts(
    dag_bag: object, dag_workspace: Workspace, people: People
) -> None:
    """The tasks validate, train and close are red, but there was only one event."""
    land_text(dag_workspace, "no,churn\n1,2\n", "bad.csv")
    assert run_dag(dag_bag, "churn_retraining").state == "failed"
    assert len(people.subjects) == 1
    assert "(bad.csv)" in people.subjects[0]


def test_a_task_whose_last_attempt_fails_sends_one_alert(
    dag_bag: object, dag_workspace: Workspace, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The closing task of the run is red too, but sends no alert of its own."""

    def failing(*_: object) -> None:
        raise ChurnError("The disk is full. Empty it.")

    monkeypatch.setattr(steps, "train", failing)
    land_night(dag_workspace, 1)
    run = run_dag(dag_bag, "churn_retraining")
    assert run.state == "failed"
    assert people.subjects == ["Task train of churn_retraining failed"]
    assert "The disk is full. Empty it." in people.mail.body(0)
    assert f"/dags/churn_retraining/runs/{run.run_id}" in people.mail.body(0)


def test_a_run_without_a_verdict_sends_an_alert_even_if_its_tasks_did_not(
    dag_bag: object, dag_workspace: Workspace, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the alert of the failed task is missing, the closing task sends one."""
    from churn.errors import NothingToDo

    def passing(*_: object) -> None:
        raise NothingToDo("As if it had been killed together with its callback.")

    monkeypatch.setattr(steps, "train", passing)
    land_night(dag_workspace, 1)
    assert run_dag(dag_bag, "churn_retraining").state == "failed"
    assert people.subjects == ["Task close of churn_retraining failed"]


def test_a_run_that_fails_without_alerts_of_its_tasks_sends_one(dag_workspace: Workspace, people: People) -> None:
    """If a task is killed in its last attempt or the run times out, the run sends an alert, unless a task has sent one."""
    for dag, reason in (("churn_rollback", "task_failure"), ("churn_retraining", "timed_out")):
        for _ in range(2):
            report_failed_run({"dag": SimpleNamespace(dag_id=dag), "run_id": "killed", "reason": reason})
    assert people.subjects == ["A run of churn_retraining failed", "A run of churn_rollback failed"]
    assert "killed" in people.mail.body(0)
    assert "time limit" in people.mail.body(1)
    now = datetime.now(UTC)
    dag_workspace.ledger.add_alert(
        task_failed("churn_rollback", "reported", "roll_back", -1, None, dag_workspace.settings, now)
    )
    report_failed_run({"dag": SimpleNamespace(dag_id="churn_rollback"), "run_id": "reported", "reason": "task_failure"})
    assert people.subjects[2:] == ["Task roll_back of churn_rollback failed"]


def test_an_image_whose_build_was_killed_sends_an_alert_and_keeps_a_better_reason(
    dag_champion: Workspace, people: People
) -> None:
    """The callback of a run has no exception: the image's state says that, unless an earlier attempt recorded a reason."""
    context = {"dag": SimpleNamespace(dag_id="churn_image_build"), "run_id": "killed", "params": {"version": 1}}
    keep_image_failure(context | {"reason": "task_failure"})
    model = dag_champion.settings.model_name
    killed = dag_champion.ledger.image(model, 1)
    assert killed
    assert (killed.state, "killed" in killed.detail) == ("failed", True)
    keep_image_failure(context | {"exception": ChurnError("The disk is full. Empty it.")})
    keep_image_failure(context | {"reason": "task_failure"})
    image = dag_champion.ledger.image(model, 1)
    assert image
    assert image.detail == "The disk is full. Empty it."
    assert len([subject for subject in people.subjects if subject.startswith("The image of version 1 ")]) == 1


def test_an_image_that_cannot_be_built_sends_one_alert(
    dag_bag: object, dag_champion: Workspace, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleared run that fails the same way adds none; if an image was published, the alert is about the failed task."""

    def failing(*_: object) -> None:
        raise ChurnError("CHURN_BUILD_CA_BUNDLE: there is no such <file>.")

    monkeypatch.setattr(shipping, "build_image", failing)
    model = dag_champion.settings.model_name
    for _ in range(2):
        assert run_dag(dag_bag, "churn_image_build", {"version": 1}).state == "failed"
    (subject,) = [subject for subject in people.subjects if subject.startswith("The image of version 1 ")]
    body = people.mail.body(people.mail.subjects.index(subject))
    assert "no such &lt;file&gt;" in body
    assert "churn image build --version 1" in body
    now = datetime.now(UTC)
    dag_champion.ledger.record_image(ImageRecord(model, 1, "published", "churn:1", "i", 1, 0.0, "ok", now))
    assert run_dag(dag_bag, "churn_image_build", {"version": 1}).state == "failed"
    assert "Task build of churn_image_build failed" in people.subjects


def test_the_watch_detects_silence(dag_bag: object, dag_champion: Workspace, people: People) -> None:
    """It sends one alert, however often it runs."""
    long_ago = datetime.now(UTC) - timedelta(days=9)
    with sqlite3.connect(make_url(dag_champion.settings.ledger_url).database or "") as ledger:
        for table, column in (("sightings", "seen_at"), ("batches", "judged_at"), ("promotions", "promoted_at")):
            ledger.execute(f"UPDATE {table} SET {column} = ?", (long_ago.strftime("%Y-%m-%d %H:%M:%S.%f"),))  # noqa: S608
    for _ in range(2):
        assert watch(dag_bag) == "success"
    (subject,) = people.subjects
    assert subject.startswith("Silence: ")


def test_a_test_alert_goes_through_every_channel(dag_bag: object, dag_workspace: Workspace, people: People) -> None:
    """It is not recorded in the ledger."""
    assert watch(dag_bag, test_message=True) == "success"
    assert people.subjects == ["Test alert"]
    assert dag_workspace.ledger.alerts() == []


def test_an_invalid_file_of_channels_is_red_and_loses_no_alert(
    dag_bag: object, dag_workspace: Workspace, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alerts wait until the file is fixed."""
    file = Settings.load().notifications_file
    valid = file.read_text()
    file.write_text("- {notifier: airflow.providers.smtp.Nobody, only: [nothing]}")
    land_text(dag_workspace, "no,churn\n1,2\n", "bad.csv")
    assert run_dag(dag_bag, "churn_retraining").state == "failed"
    assert (watch(dag_bag), people.subjects) == ("failed", [])
    file.write_text(valid)
    assert (watch(dag_bag), len(people.subjects)) == ("success", 1)
