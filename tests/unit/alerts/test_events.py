"""Which events become alerts and what the alerts contain; silence; one alert for each event."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from churn.alerts import events
from churn.alerts.events import find_events, task_failed
from churn.alerts.outbox import record_alerts
from churn.alerts.silence import find_silence, silence_limit
from churn.decision.reasons import Reason
from churn.errors import ChurnError
from churn.foundation import schedule
from churn.foundation.ledger import Ledger
from churn.foundation.records import BatchVerdict, DecisionRecord, ImageRecord, Promotion, Snapshot
from churn.settings import Settings
from support.basics import ROOT
from support.score_lists import published

NOW = datetime.now(UTC)
SETTINGS = Settings(airflow_ui_url="https://airflow.example", mlflow_ui_url="https://mlflow.example")
ORDINARY = {reason.value for reason in Reason if reason.routine}
GUARDRAILS = {reason.value for reason in Reason if not reason.implication.promotes} - ORDINARY


def decide(ledger: Ledger, night: str, **changes: object) -> DecisionRecord:
    ledger.add_snapshot(Snapshot("s", 10, 7, 2, ["a"], "salt", "contract", NOW))
    decision = DecisionRecord(
        night, "churn", 2, 1, "s", "hold", "TOO_FRESH", "A sentence.", [], {}, "", False, None, "run-1", NOW
    )
    return ledger.add_decision(replace(decision, **changes))


def judge(ledger: Ledger, name: str, state: str = "rejected", night: str = "night 1", reason: str = "why") -> None:
    ledger.add_batch(name * 64, f"{name}.csv", 1, NOW)
    ledger.judge_batch(name * 64, night, BatchVerdict(state, 10, 0, 10, reason=reason))


def record_image(ledger: Ledger, state: str, version: int = 2) -> None:
    ledger.record_image(ImageRecord("churn", version, state, None, None, 0, None, "What is wrong.", NOW))


def list_alerts(ledger: Ledger, now: datetime = NOW) -> list[str]:
    return [f"{alert.kind}: {alert.subject}" for alert in find_events(ledger, SETTINGS, now)]


@pytest.mark.parametrize("code", sorted(GUARDRAILS | ORDINARY))
def test_a_hold_is_an_alert_if_a_guardrail_failed(ledger: Ledger, code: str) -> None:
    """A hold because something is wrong is an alert, with a link to the comparison; a routine hold is not."""
    decide(ledger, "night 1", code=code)
    alerts = find_events(ledger, SETTINGS, NOW)
    assert [alert.subject for alert in alerts] == (
        [f"Version 2 of churn is held: {code}"] if code in GUARDRAILS else []
    )
    for alert in alerts:
        assert alert.kind == "hold"
        assert alert.text.startswith("A sentence.")
        assert alert.link == "https://mlflow.example/#/runs/run-1"


def test_the_alert_about_a_suspected_leak_names_key_file_and_command(ledger: Ledger) -> None:
    """A person who reads it knows what to run, or what to change and where."""
    decide(ledger, "night 1", code="LEAK_SUSPECTED")
    (alert,) = find_events(ledger, SETTINGS, NOW)
    for part in ("churn policy confirm --reason", "sanity.max_model_auc", "promotion_policy.yaml"):
        assert part in alert.text


def test_a_list_that_failed_names_the_one_that_stays() -> None:
    """With the reason, and no customer; without a list before, that is said."""
    row = published("3fa1" + "0" * 60, "retention", 2, 1, NOW)
    alert = events.list_failed("run 1", row, ChurnError("Columns are missing: Age."), SETTINGS, NOW)
    assert (alert.kind, alert.subject) == ("list_failed", "No new list of customers of churn was published")
    assert "Columns are missing: Age." in alert.text
    assert "List 3fa100000000 of" in alert.text
    assert "made by version 1, is still the current one." in alert.text
    assert alert.link == "https://airflow.example/dags/churn_scoring/runs/run%201"
    first = events.list_failed("run 1", None, ValueError("customer 4711"), SETTINGS, NOW)
    assert "No list has been published yet." in first.text
    assert "4711" not in first.text


def test_a_list_that_was_not_delivered_names_list_and_target() -> None:
    row = published("3fa1" + "0" * 60, "retention", 2, 1, NOW)
    alert = events.delivery_failed("run 1", row, "database", ChurnError("It is locked."), SETTINGS, NOW)
    assert (alert.kind, alert.subject) == ("delivery_failed", "List 3fa100000000 was not delivered to the database")
    assert "It is locked. Readers there still see the list before." in alert.text
    assert "churn scores deliver" in alert.text


def test_a_list_that_drifted_is_an_alert_once(ledger: Ledger) -> None:
    """One that has not drifted, and one of last week, is none."""
    drift = {"drift": {"drifted": ["Age", "the scores"], "scores": 0.5}}
    recent = replace(published("a" * 64, "retention", 0, 1, NOW), model="churn", summary=drift)
    ledger.publish_list(recent)
    ledger.publish_list(replace(recent, list_id="b" * 64, summary={"drift": {"drifted": []}}))
    ledger.publish_list(replace(recent, list_id="c" * 64, published_at=NOW - timedelta(days=7)))
    assert list_alerts(ledger) == ["scores_drifted: Customers or scores of list aaaaaaaaaaaa have drifted"]
    (alert,) = find_events(ledger, SETTINGS, NOW)
    assert "Age, the scores" in alert.text
    assert len(record_alerts(ledger, SETTINGS)) == 1
    assert record_alerts(ledger, SETTINGS) == []


def test_a_superior_version_below_the_floor_is_an_alert(ledger: Ledger) -> None:
    """It is promoted, loudly; one that meets floor and calibration, or only the champion of a dry run, is not."""
    unmet = {"name": "roc_auc_floor", "code": "BELOW_FLOOR", "passed": False, "sentence": "Low."}
    promoted = {"verdict": "promote", "code": "SUPERIOR"}
    decide(ledger, "night 1", **promoted, rules=[unmet])
    decide(ledger, "night 2", **promoted, rules=[{**unmet, "passed": True}])
    decide(ledger, "night 3", **promoted, rules=[unmet], dry_run=True)
    (alert,) = find_events(ledger, SETTINGS, NOW)
    assert (alert.kind, alert.key.rsplit(":", 1)[1]) == ("champion_below_floor", "night 1")
    assert "better than the champion, but fails floor or calibration" in alert.subject


def test_a_dry_run_sends_no_alert(ledger: Ledger) -> None:
    """Neither its hold nor its promotion changes anything."""
    decide(ledger, "night 1", code="SLICE_HARM", dry_run=True)
    decide(ledger, "night 2", verdict="promote", code="SUPERIOR", dry_run=True)
    assert list_alerts(ledger) == []


def test_the_alert_about_a_disputed_batch_names_the_command(ledger: Ledger) -> None:
    """The next step is the command, with the name of the run in it."""
    decide(ledger, "night 7", code="BATCH_DISPUTED")
    (alert,) = find_events(ledger, SETTINGS, NOW)
    assert 'churn approve "night 7" --reason' in alert.text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("promotion", "promoted"),
        ("forced", "force-promoted"),
        ("adopted", "adopted from MLflow"),
        ("rollback", "restored in a rollback"),
        ("take_back", None),
    ],
)
def test_every_change_of_production_is_an_alert(ledger: Ledger, kind: str, words: str | None) -> None:
    """One alert, with a link to the version; an automatic rollback is reported by its image."""
    ledger.promote(Promotion("churn", 0, 3, None, kind, "n", "because", NOW, actor="Ann", code="SUPERIOR"), None)
    alerts = find_events(ledger, SETTINGS, NOW)
    assert [alert.subject for alert in alerts] == ([f"Version 3 of churn has been {words} (SUPERIOR)"] if words else [])
    for alert in alerts:
        for part in (f"It was {words} by Ann", "run n", ": because"):
            assert part in alert.text
        assert "churn rollback" in alert.text
        assert alert.link == "https://mlflow.example/#/models/churn/versions/3"


def test_the_alert_about_a_rejected_batch_has_its_page_and_the_next_step(ledger: Ledger) -> None:
    """The reason is the ledger's; an accepted batch is not an alert."""
    judge(ledger, "a", reason="812 of 10000 rows rejected.")
    judge(ledger, "b", state="accepted")
    (alert,) = find_events(ledger, SETTINGS, NOW)
    assert alert.kind == "batch_rejected"
    assert f"Batch {'a' * 12} (a.csv)" in alert.subject
    assert alert.text.startswith("812 of 10000 rows rejected.\n\nNext: ")
    assert f"churn batches rejudge {'a' * 12}" in alert.text
    assert alert.link == f"https://airflow.example/churn-review/docs/{'a' * 64}/index.html"


@pytest.mark.parametrize("state", ["mismatch", "faulty", "failed", "published", "not_built", "pruned"])
def test_an_image_that_cannot_be_used_is_an_alert(ledger: Ledger, state: str) -> None:
    """It differs from the model, is faulty or could not be built; any other image is not an alert."""
    record_image(ledger, state)
    alerts = find_events(ledger, SETTINGS, NOW)
    assert [alert.kind for alert in alerts] == ["image_failed"] * (state in ("mismatch", "faulty", "failed"))
    assert all("What is wrong." in alert.text and "churn " in alert.text for alert in alerts)


def test_only_the_fall_of_the_champion_is_an_alert_not_every_run_below_its_floor(ledger: Ledger) -> None:
    """The first run below is the event; another rule that fails, and a fall after a recovery, are others."""
    floor = {"name": "roc_auc_floor", "passed": False, "sentence": "The champion's ROC AUC is 0.6."}
    slope = {"name": "calibration_slope", "passed": False, "sentence": "Its slope is 0.1."}
    watches = [[floor], [floor], [floor, slope], [{**floor, "passed": True}], [floor]]
    for number, watch in enumerate(watches):
        decide(ledger, f"night {number}", watch=watch, decided_at=NOW + timedelta(hours=number))
    alerts = [alert for alert in find_events(ledger, SETTINGS, NOW) if alert.kind == "champion_below_floor"]
    assert [alert.key.rsplit(":", 1)[1] for alert in alerts] == ["night 0", "night 2", "night 4"]
    assert alerts[0].text.startswith("The champion's ROC AUC is 0.6.\n\nNext: ")
    assert "churn rollback" in alerts[0].text
    replaced = decide(ledger, "last", champion=9, verdict="promote", code="SUPERIOR", watch=[floor])
    (alert,) = [event for event in find_events(ledger, SETTINGS, NOW) if event.key.endswith(f":9:{replaced.night}")]
    assert "version 2" in alert.text.partition("Next: ")[2]
    assert "churn rollback" not in alert.text


def test_an_event_is_one_alert_however_often_it_is_noticed(ledger: Ledger) -> None:
    """A cleared task that fails the same way again adds no alert, and neither does an image."""
    judge(ledger, "a")
    decide(ledger, "night 1", code="SLICE_HARM")
    record_image(ledger, "failed")
    assert len(record_alerts(ledger, SETTINGS)) == 3
    record_image(ledger, "failed")
    assert record_alerts(ledger, SETTINGS) == []
    record_image(ledger, "mismatch")
    assert [alert.key for alert in record_alerts(ledger, SETTINGS)] == ["image_failed:churn:2:mismatch"]
    assert len(ledger.alerts()) == 4


def test_old_events_send_no_alert(ledger: Ledger) -> None:
    """After an upgrade, the history of a ledger is not sent."""
    judge(ledger, "a")
    decide(ledger, "night 1", code="SLICE_HARM")
    record_image(ledger, "failed")
    ledger.promote(Promotion("churn", 0, 3, None, "promotion", "n", "because", NOW, code="SUPERIOR"), None)
    assert list_alerts(ledger, NOW + events.NEWS + timedelta(hours=1)) == []


def test_the_alert_about_a_failed_task_does_not_quote_foreign_errors() -> None:
    """Our own errors are shown in full; another error may quote a row, so only its type is shown."""
    own, foreign = RuntimeError("wrapped"), ValueError("could not convert 'Keller'")
    own.__cause__ = ChurnError("MLflow is unavailable. Start it.")
    alert = task_failed("churn_retraining", "run 1", "train", -1, own, SETTINGS, NOW)
    assert (alert.subject, alert.key) == (
        "Task train of churn_retraining failed",
        "task_failed:churn_retraining:run 1:train",
    )
    assert "run 1: MLflow is unavailable. Start it.\n\nNext: " in alert.text
    assert alert.link == "https://airflow.example/dags/churn_retraining/runs/run%201"
    alert = task_failed("churn_retraining", "run 1", "validate", 2, foreign, SETTINGS, NOW)
    assert "validate[2]" in alert.subject
    assert "ValueError" in alert.text
    assert "Keller" not in alert.text + alert.subject
    assert "killed" in task_failed("d", "r", "t", -1, None, SETTINGS, NOW).text


def test_a_subject_is_one_short_ascii_line(ledger: Ledger) -> None:
    """SNS accepts 100 ASCII characters, and the header of a mail no line break."""
    ledger.add_batch("a" * 64, "Küh\nle" * 40, 1, NOW)
    ledger.judge_batch("a" * 64, "n", BatchVerdict("rejected", 1, 0, 1, reason="why"))
    (alert,) = find_events(ledger, SETTINGS, NOW)
    assert len(alert.subject) == 100
    assert alert.subject.isascii()
    assert "\n" not in alert.subject


def test_silence_is_one_event_until_something_is_accepted(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first file nothing is expected. Then nothing accepted, or nothing decided, for N nights is silence."""
    monkeypatch.setattr(schedule, "UNFINISHED", timedelta(0))
    later = NOW + timedelta(days=4)
    assert find_silence(ledger, SETTINGS, later) is None
    judge(ledger, "a")
    assert find_silence(ledger, SETTINGS, NOW + timedelta(days=1)) is None
    alert = find_silence(ledger, SETTINGS, later)
    assert alert is not None
    assert alert.key == "silence:churn:accepted:nothing"
    assert "3 nights" in alert.subject
    assert alert.link == "https://airflow.example/dags/churn_retraining"
    judge(ledger, "b", state="accepted")
    again = find_silence(ledger, SETTINGS, later)
    assert again is not None
    assert again.key == f"silence:churn:accepted:{'b' * 64}"
    decide(ledger, "night 1", decided_at=later)
    assert find_silence(ledger, SETTINGS, later) == again
    assert find_silence(ledger, SETTINGS.model_copy(update={"silence_nights": 0}), later) is None


def test_accepted_data_without_a_decision_is_silence_too(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run does not count as a decision."""
    now = NOW + timedelta(days=9)
    judge(ledger, "a", state="accepted")
    batch = ledger.last_accepted()
    monkeypatch.setattr(ledger, "last_accepted", lambda: batch and replace(batch, judged_at=now))
    decide(ledger, "dry", dry_run=True, decided_at=now)
    alert = find_silence(ledger, SETTINGS, now)
    assert alert is not None
    assert alert.key == "silence:churn:decided:nothing"
    decide(ledger, "night 1", decided_at=now)
    assert find_silence(ledger, SETTINGS, now) is None


def test_nights_of_silence_follow_the_schedule() -> None:
    """In the schedule's time zone, without the run that is still in progress; without a schedule they are days."""
    settings = SETTINGS.model_copy(update={"schedule": "0 2 * * 1-5", "timezone": "Europe/Zurich"})
    monday = datetime(2026, 3, 30, 12, tzinfo=UTC)  # the clocks went forward on Sunday
    assert silence_limit(settings, monday) == datetime(2026, 3, 26, 1, tzinfo=UTC)
    in_progress = datetime(2026, 3, 30, 1, tzinfo=UTC)
    assert silence_limit(settings, in_progress) == datetime(2026, 3, 25, 1, tzinfo=UTC)
    unscheduled = SETTINGS.model_copy(update={"schedule": None})
    assert silence_limit(unscheduled, monday) == monday - timedelta(days=3)


def test_the_documentation_and_the_example_name_every_kind_of_alert() -> None:
    """Nobody has to read code to find out which alerts there are."""
    for path in (Path("docs/pages/operations/alerts.md"), Path("include/notifications.example.yaml")):
        text = (ROOT / path).read_text()
        assert [kind for kind in events.KINDS if kind not in text] == []
