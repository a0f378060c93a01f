"""What becomes an alert, what does not, and what it says; silence; an event is one alert."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from churn.alerts import events
from churn.alerts.events import find_events, task_failed
from churn.alerts.outbox import notice
from churn.alerts.silence import find_silence, silent_since
from churn.decision.reasons import Reason
from churn.errors import ChurnError
from churn.foundation import schedule
from churn.foundation.ledger import Ledger
from churn.foundation.records import BatchVerdict, DecisionRecord, ImageRecord, Promotion, Snapshot
from churn.settings import Settings
from support.basics import ROOT

NOW = datetime.now(UTC)
SETTINGS = Settings(airflow_ui_url="https://airflow.example", mlflow_ui_url="https://mlflow.example")
ORDINARY = {reason.value for reason in Reason if reason.routine}
GUARDRAILS = {reason.value for reason in Reason if not reason.implication.promotes} - ORDINARY


def decide(ledger: Ledger, night: str, **changes: object) -> DecisionRecord:
    ledger.add_snapshot(Snapshot("s", 10, 7, 2, ["a"], "salt", "contract", NOW))
    made = DecisionRecord(
        night, "churn", 2, 1, "s", "hold", "TOO_FRESH", "A sentence.", [], {}, "", False, None, "run-1", NOW
    )
    return ledger.add_decision(replace(made, **changes))


def judge(ledger: Ledger, name: str, state: str = "rejected", night: str = "night 1", reason: str = "why") -> None:
    ledger.add_batch(name * 64, f"{name}.csv", 1, NOW)
    ledger.judge_batch(name * 64, night, BatchVerdict(state, 10, 0, 10, reason=reason))


def record_image(ledger: Ledger, state: str, version: int = 2) -> None:
    ledger.record_image(ImageRecord("churn", version, state, None, None, 0, None, "What is wrong.", NOW))


def found(ledger: Ledger, now: datetime = NOW) -> list[str]:
    return [f"{alert.kind}: {alert.subject}" for alert in find_events(ledger, SETTINGS, now)]


@pytest.mark.parametrize("code", sorted(GUARDRAILS | ORDINARY))
def test_a_hold_is_told_if_a_guardrail_failed(ledger: Ledger, code: str) -> None:
    """What means that something is wrong is told with the comparison's page; an ordinary night's hold is not."""
    decide(ledger, "night 1", code=code)
    alerts = find_events(ledger, SETTINGS, NOW)
    assert [alert.subject for alert in alerts] == (
        [f"Version 2 of churn is held: {code}"] if code in GUARDRAILS else []
    )
    for alert in alerts:
        assert alert.kind == "hold"
        assert alert.text.startswith("A sentence.")
        assert alert.link == "https://mlflow.example/#/runs/run-1"


def test_a_dry_run_is_not_told(ledger: Ledger) -> None:
    """Neither its hold nor its promotion has changed anything."""
    decide(ledger, "night 1", code="SLICE_HARM", dry_run=True)
    decide(ledger, "night 2", verdict="promote", code="SUPERIOR", dry_run=True)
    assert found(ledger) == []


def test_a_disputed_batch_asks_for_a_person(ledger: Ledger) -> None:
    """The next step is the command, with the night in it."""
    decide(ledger, "night 7", code="BATCH_DISPUTED")
    (alert,) = find_events(ledger, SETTINGS, NOW)
    assert 'churn approve "night 7" --reason' in alert.text


@pytest.mark.parametrize(
    ("kind", "told"), [("promotion", 1), ("forced", 1), ("adopted", 1), ("rollback", 1), ("take_back", 0)]
)
def test_every_change_of_production_is_told(ledger: Ledger, kind: str, told: int) -> None:
    """One message, with the version's page; what is taken back is told by its image."""
    ledger.promote(Promotion("churn", 0, 3, None, kind, "n", "because", NOW, actor="Ann", code="SUPERIOR"), None)
    alerts = find_events(ledger, SETTINGS, NOW)
    assert [alert.subject for alert in alerts] == ["Version 3 of churn is in production (SUPERIOR)"] * told
    for alert in alerts:
        assert f"({kind} by Ann, night n): because" in alert.text
        assert "churn rollback" in alert.text
        assert alert.link == "https://mlflow.example/#/models/churn/versions/3"


def test_a_rejected_batch_is_told_with_its_page_and_what_to_do(ledger: Ledger) -> None:
    """Accepted ones are not; the reason is the ledger's."""
    judge(ledger, "a", reason="812 of 10000 rows rejected.")
    judge(ledger, "b", state="accepted")
    (alert,) = find_events(ledger, SETTINGS, NOW)
    assert (alert.kind, alert.subject) == ("batch_rejected", f"Batch {'a' * 12} (a.csv) is rejected")
    assert alert.text.startswith("812 of 10000 rows rejected.\n\nNext: Mend the file")
    assert alert.link == f"https://airflow.example/churn-review/docs/{'a' * 64}/index.html"


@pytest.mark.parametrize("state", ["mismatch", "faulty", "failed", "published", "not_built", "pruned"])
def test_an_image_that_may_not_run_is_told(ledger: Ledger, state: str) -> None:
    """Not the model, faulty or not to be had; a good one is no message."""
    record_image(ledger, state)
    alerts = find_events(ledger, SETTINGS, NOW)
    assert [alert.kind for alert in alerts] == ["image_failed"] * (state in ("mismatch", "faulty", "failed"))
    assert all("What is wrong." in alert.text and "churn " in alert.text for alert in alerts)


def test_the_champion_is_told_of_when_it_falls_and_not_every_night_below(ledger: Ledger) -> None:
    """The first night below is the event; another rule that fails, and a fall after a recovery, are others."""
    floor = {"name": "roc_auc_floor", "passed": False, "sentence": "The champion's ROC AUC is 0.6."}
    slope = {"name": "calibration_slope", "passed": False, "sentence": "Its slope is 0.1."}
    nights = [[floor], [floor], [floor, slope], [{**floor, "passed": True}], [floor]]
    for number, watch in enumerate(nights):
        decide(ledger, f"night {number}", watch=watch, decided_at=NOW + timedelta(hours=number))
    alerts = [one for one in find_events(ledger, SETTINGS, NOW) if one.kind == "champion_below_floor"]
    assert [alert.key.rsplit(":", 1)[1] for alert in alerts] == ["night 0", "night 2", "night 4"]
    assert alerts[0].text.startswith("The champion's ROC AUC is 0.6.\n\nNext: Look at the comparison of night night 0.")
    replaced = decide(ledger, "last", champion=9, verdict="promote", code="SUPERIOR", watch=[floor])
    (alert,) = [one for one in find_events(ledger, SETTINGS, NOW) if one.key.endswith(f":9:{replaced.night}")]
    assert alert.text.endswith("Next: Nothing has to be done: version 2 takes its place.")


def test_an_event_is_one_alert_however_often_it_is_noticed(ledger: Ledger) -> None:
    """A task that is cleared and says the same again adds nothing; an image that fails again the same way neither."""
    judge(ledger, "a")
    decide(ledger, "night 1", code="SLICE_HARM")
    record_image(ledger, "failed")
    assert len(notice(ledger, SETTINGS)) == 3
    record_image(ledger, "failed")
    assert notice(ledger, SETTINGS) == []
    record_image(ledger, "mismatch")
    assert [alert.key for alert in notice(ledger, SETTINGS)] == ["image_failed:churn:2:mismatch"]
    assert len(ledger.alerts()) == 4


def test_what_is_old_is_no_news(ledger: Ledger) -> None:
    """A ledger of before is not told of from its beginning."""
    judge(ledger, "a")
    decide(ledger, "night 1", code="SLICE_HARM")
    record_image(ledger, "failed")
    ledger.promote(Promotion("churn", 0, 3, None, "promotion", "n", "because", NOW, code="SUPERIOR"), None)
    assert found(ledger, NOW + events.NEWS + timedelta(hours=1)) == []


def test_a_failed_task_is_told_without_the_words_of_a_stranger() -> None:
    """Our errors speak for themselves; another error may quote a row, and only its kind is told."""
    ours, theirs = RuntimeError("wrapped"), ValueError("could not convert 'Keller'")
    ours.__cause__ = ChurnError("MLflow is away. Start it.")
    alert = task_failed("churn_retraining", "run 1", "train", -1, ours, SETTINGS, NOW)
    assert (alert.subject, alert.key) == (
        "Task train of churn_retraining failed",
        "task_failed:churn_retraining:run 1:train",
    )
    assert "in run run 1: MLflow is away. Start it.\n\nNext: Open the run" in alert.text
    assert alert.link == "https://airflow.example/dags/churn_retraining/runs/run%201"
    alert = task_failed("churn_retraining", "run 1", "validate", 2, theirs, SETTINGS, NOW)
    assert "Task validate[2]" in alert.text
    assert "ValueError" in alert.text
    assert "Keller" not in alert.text + alert.subject
    assert "it was killed" in task_failed("d", "r", "t", -1, None, SETTINGS, NOW).text


def test_a_subject_is_one_short_plain_line(ledger: Ledger) -> None:
    """Topics of SNS take 100 ASCII characters, and a mail's header no line break."""
    ledger.add_batch("a" * 64, "Küh\nle" * 40, 1, NOW)
    ledger.judge_batch("a" * 64, "n", BatchVerdict("rejected", 1, 0, 1, reason="why"))
    (alert,) = find_events(ledger, SETTINGS, NOW)
    assert len(alert.subject) == 100
    assert alert.subject.isascii()
    assert "\n" not in alert.subject


def test_silence_is_told_once_until_something_is_heard(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first file nothing is expected; then nothing accepted, or nothing decided, for N nights is silence."""
    monkeypatch.setattr(schedule, "UNFINISHED", timedelta(0))
    later = NOW + timedelta(days=4)
    assert find_silence(ledger, SETTINGS, later) is None
    judge(ledger, "a")
    assert find_silence(ledger, SETTINGS, NOW + timedelta(days=1)) is None
    alert = find_silence(ledger, SETTINGS, later)
    assert alert is not None
    assert (alert.key, alert.subject) == (
        "silence:churn:accepted:nothing",
        "Silence: nothing was accepted for 3 nights",
    )
    assert alert.link == "https://airflow.example/dags/churn_retraining"
    judge(ledger, "b", state="accepted")
    again = find_silence(ledger, SETTINGS, later)
    assert again is not None
    assert again.key == f"silence:churn:accepted:{'b' * 64}"
    decide(ledger, "night 1", decided_at=later)
    assert find_silence(ledger, SETTINGS, later) == again
    assert find_silence(ledger, SETTINGS.model_copy(update={"silence_nights": 0}), later) is None


def test_accepted_and_never_decided_is_silence_too(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run decides nothing."""
    now = NOW + timedelta(days=9)
    judge(ledger, "a", state="accepted")
    batch = ledger.last_accepted()
    monkeypatch.setattr(ledger, "last_accepted", lambda: batch and replace(batch, judged_at=now))
    decide(ledger, "dry", dry_run=True, decided_at=now)
    alert = find_silence(ledger, SETTINGS, now)
    assert alert is not None
    assert alert.subject == "Silence: nothing was decided for 3 nights"
    decide(ledger, "night 1", decided_at=now)
    assert find_silence(ledger, SETTINGS, now) is None


def test_a_night_is_a_tick_of_the_schedule() -> None:
    """In the schedule's time zone, the night that is still in the making left out; without a schedule a day."""
    settings = SETTINGS.model_copy(update={"schedule": "0 2 * * 1-5", "timezone": "Europe/Zurich"})
    monday = datetime(2026, 3, 30, 12, tzinfo=UTC)  # the clocks went forward on Sunday
    assert silent_since(settings, monday) == datetime(2026, 3, 26, 1, tzinfo=UTC)
    in_the_night = datetime(2026, 3, 30, 1, tzinfo=UTC)
    assert silent_since(settings, in_the_night) == datetime(2026, 3, 25, 1, tzinfo=UTC)
    by_hand = SETTINGS.model_copy(update={"schedule": None})
    assert silent_since(by_hand, monday) == monday - timedelta(days=3)


def test_the_readme_and_the_example_name_every_kind() -> None:
    """Nobody has to read code to find what they can be told."""
    for path in (Path("docs/pages/operations/alerts.md"), Path("include/notifications.example.yaml")):
        text = (ROOT / path).read_text()
        assert [kind for kind in events.KINDS if kind not in text] == []
