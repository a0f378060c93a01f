"""Messages through the real DAGs and Airflow's own notifiers, to a mail server and a topic on loopback: one for each event."""

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
from support.mailboxes import Mailbox, mail_server, topic_server

SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
SNS = "airflow.providers.amazon.aws.notifications.sns.SnsNotifier"


@dataclass
class People:
    """Who is told: by mail of everything, by the topic too."""

    mail: Mailbox
    topic: list[dict[str, str]]

    @property
    def told(self) -> list[str]:
        """The subjects, which both have alike."""
        assert sorted(self.mail.subjects) == sorted(one["Subject"] for one in self.topic)
        return sorted(self.mail.subjects)


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[People]:
    """The file of notifications and the connections, to servers on loopback."""
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


def run_dag(dag_bag: object, name: str, conf: dict | None = None) -> object:
    """A run of a freshly parsed DAG."""
    return type(dag_bag)(str(ROOT / "dags")).dags[name].test(run_conf=conf or {}, logical_date=None)


def watch(dag_bag: object, **conf: object) -> str:
    return run_dag(dag_bag, "churn_watch", conf).state


def test_a_night_tells_what_has_happened_once(dag_bag: object, dag_champion: Workspace, people: People) -> None:
    """Its promotion and its rejected batch are a message each, with link and next step; another run of anything adds none."""
    land_text(dag_champion, "no,churn\n1,2\n", "bad.csv")
    assert run_dag(dag_bag, "churn_retraining").state == "failed"
    model = dag_champion.settings.model_name
    first = f"Version 1 of {model} is in production (NO_CHAMPION)"  # of the night before, which nobody was told of
    second = f"Version 2 of {model} is in production (SUPERIOR)"
    (rejected,) = [batch for batch in dag_champion.ledger.batches() if batch.state == "rejected"]
    batch = f"Batch {rejected.batch[:12]} (bad.csv) is rejected"
    assert people.told == sorted([batch, first, second])
    body = people.mail.body(people.mail.subjects.index(second))
    assert f'<a href="{dag_champion.settings.mlflow_ui}/#/models/{model}/versions/2">' in body
    assert "Next: Nothing has to be done." in body
    assert str(people.mail.mails[0]["to"]) == "data-team@example.com"
    message = json.loads(next(one["Message"] for one in people.topic if one["Subject"] == batch))["default"]
    assert f"/churn-review/docs/{rejected.batch}/index.html" in message
    assert f"churn batches rejudge {rejected.batch[:12]}" in message
    assert watch(dag_bag) == "success"
    assert run_dag(dag_bag, "churn_retraining").state == "success"
    assert len(people.told) == 3


def test_what_cannot_be_sent_fails_no_night_and_is_sent_later(
    dag_bag: object, dag_champion: Workspace, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The night is green, the watch is red while the mail server is away, and then sends one mail; the topic is told once."""
    port = people.mail.port
    with mail_server() as gone:
        pass
    address = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])["extra"]["endpoint_url"]
    connect(monkeypatch, gone.port, address)
    assert run_dag(dag_bag, "churn_retraining").state == "success"
    assert (people.mail.mails, len(people.topic)) == ([], 2)
    assert all(alert.sent_at is None for alert in dag_champion.ledger.alerts())
    monkeypatch.setattr("churn_airflow.steps.TASK_DEFAULTS", {"retries": 0})
    assert watch(dag_bag) == "failed"
    connect(monkeypatch, port, address)
    assert watch(dag_bag) == "success"
    assert watch(dag_bag) == "success"
    assert len(people.told) == 2


def test_a_night_of_rejected_batches_is_told_by_the_batch_alone(
    dag_bag: object, dag_workspace: Workspace, people: People
) -> None:
    """Red are validate, train and close, and one thing has happened."""
    land_text(dag_workspace, "no,churn\n1,2\n", "bad.csv")
    assert run_dag(dag_bag, "churn_retraining").state == "failed"
    assert len(people.told) == 1
    assert people.told[0].endswith("(bad.csv) is rejected")


def test_a_task_that_fails_at_its_last_try_is_told_once(
    dag_bag: object, dag_workspace: Workspace, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The night's closing task is red too, and says nothing that was not said."""

    def failing(*_: object) -> None:
        raise ChurnError("The disk is full. Empty it.")

    monkeypatch.setattr(steps, "train", failing)
    land_night(dag_workspace, 1)
    run = run_dag(dag_bag, "churn_retraining")
    assert run.state == "failed"
    assert people.told == ["Task train of churn_retraining failed"]
    assert "The disk is full. Empty it." in people.mail.body(0)
    assert f"/dags/churn_retraining/runs/{run.run_id}" in people.mail.body(0)


def test_a_night_without_a_verdict_is_told_even_if_no_task_said_why(
    dag_bag: object, dag_workspace: Workspace, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the failed task's own message is missing, the closing task's is sent."""
    from churn.errors import NothingToDo

    def passing(*_: object) -> None:
        raise NothingToDo("It was killed, and its callback with it.")

    monkeypatch.setattr(steps, "train", passing)
    land_night(dag_workspace, 1)
    assert run_dag(dag_bag, "churn_retraining").state == "failed"
    assert people.told == ["Task close of churn_retraining failed"]


def test_a_run_that_ends_without_a_word_of_its_tasks_is_told_once(dag_workspace: Workspace, people: People) -> None:
    """Killed at the last try, or out of time: the run itself says so, and not where something was said already."""
    for dag, reason in (("churn_rollback", "task_failure"), ("churn_retraining", "timed_out")):
        for _ in range(2):
            report_failed_run({"dag": SimpleNamespace(dag_id=dag), "run_id": "killed", "reason": reason})
    assert people.told == ["A run of churn_retraining failed", "A run of churn_rollback failed"]
    assert "it was killed, or its worker is gone" in people.mail.body(0)
    assert "its time was up" in people.mail.body(1)
    now = datetime.now(UTC)
    dag_workspace.ledger.add_alert(
        task_failed("churn_rollback", "told", "roll_back", -1, None, dag_workspace.settings, now)
    )
    report_failed_run({"dag": SimpleNamespace(dag_id="churn_rollback"), "run_id": "told", "reason": "task_failure"})
    assert people.told[2:] == ["Task roll_back of churn_rollback failed"]


def test_an_image_whose_build_was_killed_is_told_and_keeps_a_better_reason(
    dag_champion: Workspace, people: People
) -> None:
    """The run's callback knows no exception: it says so at the image, unless a try before has said more."""
    context = {"dag": SimpleNamespace(dag_id="churn_image_build"), "run_id": "killed", "params": {"version": 1}}
    keep_image_failure(context | {"reason": "task_failure"})
    model = dag_champion.settings.model_name
    killed = dag_champion.ledger.image(model, 1)
    assert killed
    assert (killed.state, "it was killed" in killed.detail) == ("failed", True)
    keep_image_failure(context | {"exception": ChurnError("The disk is full. Empty it.")})
    keep_image_failure(context | {"reason": "task_failure"})
    known = dag_champion.ledger.image(model, 1)
    assert known
    assert known.detail == "The disk is full. Empty it."
    assert [subject for subject in people.told if subject.startswith("The image")] == [
        f"The image of version 1 of {model} could not be had"
    ]


def test_an_image_that_cannot_be_had_is_told_once(
    dag_bag: object, dag_champion: Workspace, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleared run that fails the same way adds nothing; a published image that fails a task is told as the task."""

    def failing(*_: object) -> None:
        raise ChurnError("CHURN_BUILD_CA_BUNDLE: there is no such <file>.")

    monkeypatch.setattr(shipping, "build_image", failing)
    model = dag_champion.settings.model_name
    for _ in range(2):
        assert run_dag(dag_bag, "churn_image_build", {"version": 1}).state == "failed"
    told = [subject for subject in people.told if "could not be had" in subject]
    assert told == [f"The image of version 1 of {model} could not be had"]
    body = people.mail.body(people.mail.subjects.index(told[0]))
    assert "no such &lt;file&gt;" in body
    assert "churn image build --version 1" in body
    now = datetime.now(UTC)
    dag_champion.ledger.record_image(ImageRecord(model, 1, "published", "churn:1", "i", 1, 0.0, "ok", now))
    assert run_dag(dag_bag, "churn_image_build", {"version": 1}).state == "failed"
    assert "Task build of churn_image_build failed" in people.told


def test_silence_is_noticed_by_the_watch(dag_bag: object, dag_champion: Workspace, people: People) -> None:
    """Once, however often it looks."""
    long_ago = datetime.now(UTC) - timedelta(days=9)
    with sqlite3.connect(make_url(dag_champion.settings.ledger_url).database or "") as ledger:
        for table, column in (("sightings", "seen_at"), ("batches", "judged_at"), ("promotions", "promoted_at")):
            ledger.execute(f"UPDATE {table} SET {column} = ?", (long_ago.strftime("%Y-%m-%d %H:%M:%S.%f"),))  # noqa: S608
    for _ in range(2):
        assert watch(dag_bag) == "success"
    assert people.told == ["Silence: nothing was accepted for 3 nights"]


def test_a_test_message_goes_to_everybody(dag_bag: object, dag_workspace: Workspace, people: People) -> None:
    """It is no alert, and a file that names nobody is an error."""
    assert watch(dag_bag, test_message=True) == "success"
    assert people.told == ["Test message"]
    assert dag_workspace.ledger.alerts() == []


def test_a_wrong_file_is_red_and_loses_nothing(
    dag_bag: object, dag_workspace: Workspace, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alerts wait until the file is mended."""
    file = Settings.load().notifications_file
    right = file.read_text()
    file.write_text("- {notifier: airflow.providers.smtp.Nobody, only: [nothing]}")
    land_text(dag_workspace, "no,churn\n1,2\n", "bad.csv")
    assert run_dag(dag_bag, "churn_retraining").state == "failed"
    assert (watch(dag_bag), people.told) == ("failed", [])
    file.write_text(right)
    assert (watch(dag_bag), len(people.told)) == ("success", 1)
