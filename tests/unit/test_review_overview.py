"""The review's first page: what is wrong is not shown as good, what was done not as what was decided, and old news not as today's."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.records import Alert, Batch, BatchVerdict, NightRow, Promotion
from churn.review.overview import OverviewFacts, Tile, load_overview, make_overview
from churn.settings import Settings
from reviewed import NOW, SETTINGS, fill_ledger

NOTHING = OverviewFacts((), (), None, (), (), 0, (), None, None, (), ())
UNPLANNED = SETTINGS.model_copy(update={"schedule": None})
NIGHTLY = SETTINGS.model_copy(update={"schedule": "0 2 * * *", "timezone": "UTC"})
LATELY = NOW - timedelta(hours=7)
ROW = NightRow("n 1", 5, 4, "hold", "INFERIOR", "A sentence.", False, LATELY, None, False, None, 3000, {}, {})
MADE = Promotion("churn", 2, 5, 4, "promotion", "n 1", "Better.", LATELY + timedelta(minutes=1), code="SUPERIOR")


def batch(name: str = "a.csv", state: str = "accepted", arrival: int = 1, **changes: object) -> Batch:
    judged = state != "arrived"
    made = Batch(
        batch=f"{arrival:064x}",
        arrival=arrival,
        name=name,
        size=1000,
        arrived_at=NOW - timedelta(hours=8),
        state=state,
        night="n 1" if judged else None,
        arrived_rows=100 if judged else None,
        accepted_rows=90 if judged else None,
        quarantined_rows=10 if judged else None,
        reason="Too many faults." if state == "rejected" else None,
        judged_at=LATELY - timedelta(minutes=5) if judged else None,
        unlabelled_rows=0,
        events=10,
        rules=[],
        warnings=[],
        origin=None,
        accepted_sha256=None,
    )
    return replace(made, **changes)


def failure(run: str, at: datetime, dag: str = "churn_retraining", task: str = "train") -> Alert:
    return Alert(
        f"task_failed:{dag}:{run}:{task}", "task_failed", f"Task {task} of {dag} failed", "Why.", "https://x", at
    )


def tile(facts: OverviewFacts, name: str = "Last night", settings: Settings = UNPLANNED, now: datetime = NOW) -> Tile:
    return next(one for one in make_overview(facts, settings, now).tiles if one.name == name)


# --- Last night


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("INFERIOR", "good"),
        ("FROZEN", "good"),
        ("POLICY_INVALID", "look"),
        ("ARTIFACT_CHANGED", "look"),
        ("LEAK_SUSPECTED", "look"),
        ("A_NEW_CODE", "look"),
    ],
)
def test_only_an_ordinary_hold_is_good(code: str, state: str) -> None:
    """What people are told of as wrong is not good here, a dry run's neither; it is said why."""
    found = tile(replace(NOTHING, nights=(replace(ROW, code=code),)))
    assert (found.state, found.answer) == (state, f"held ({code})")
    assert ("A sentence." in found.detail) is (state != "good")
    assert tile(replace(NOTHING, nights=(replace(ROW, code=code, dry_run=True),))).state == state


def test_a_first_night_that_fails_is_said() -> None:
    """Without any decision: a failed task, rejected files, and a night that was due are told, in this order."""
    rejected = replace(NOTHING, batches=(batch(state="rejected"),))
    failed = replace(rejected, failures=(failure("n 1", LATELY),))
    assert (tile(failed).state, tile(failed).answer) == ("bad", "a task failed")
    assert "No night has decided anything." in tile(failed).detail
    assert (tile(rejected).state, tile(rejected).answer) == ("look", "no verdict")
    assert "Night n 1 has decided nothing; a.csv is rejected." in tile(rejected).detail
    due = tile(replace(NOTHING, batches=(batch(state="arrived"),)), settings=NIGHTLY)
    assert (due.state, due.answer) == ("look", "no verdict")
    assert tile(NOTHING, settings=NIGHTLY).state == "not monitored"


PROMOTES = replace(ROW, verdict="promote", code="SUPERIOR")


def test_what_was_done_is_what_the_ledger_has_done() -> None:
    """A promotion of the night is said, whatever the verdict; a verdict without one is not carried out."""
    approved = replace(ROW, code="BATCH_DISPUTED", answer="approved")
    assert (
        tile(replace(NOTHING, nights=(approved,), promotions=(MADE,))).answer == "promoted (BATCH_DISPUTED), approved"
    )
    for row in (PROMOTES, approved):
        found = tile(replace(NOTHING, nights=(row,)))
        assert found.state == "look"
        assert found.answer.endswith("not carried out")
        assert "No promotion followed" in found.detail
    other = replace(MADE, night="n 0")
    assert tile(replace(NOTHING, nights=(PROMOTES,), promotions=(other,))).answer.endswith("not carried out")


@pytest.mark.parametrize(("kind", "words"), [("rollback", "rolled back"), ("take_back", "taken back")])
def test_a_promotion_that_was_undone_is_not_good(kind: str, words: str) -> None:
    """The change that follows it says so, with time and reason."""
    back = replace(
        MADE, sequence=3, version=4, previous=5, kind=kind, night="b", reason="Not it.", actor="otto", promoted_at=NOW
    )
    found = tile(replace(NOTHING, nights=(PROMOTES,), promotions=(back, MADE)))
    assert (found.state, found.answer) == ("look", f"promoted, {words}")
    assert f"Version 5 was {words} on 2026-06-01 09:00 UTC by otto: Not it." in found.detail


def test_only_a_failure_that_is_not_repaired_counts() -> None:
    """Repaired is: decided since, and promoted where that follows; or a later night has decided."""
    early, late = LATELY - timedelta(minutes=9), LATELY + timedelta(seconds=30)

    def state(row: NightRow, at: datetime, run: str = "n 1", *made: Promotion) -> str:
        return tile(replace(NOTHING, nights=(row,), promotions=made, failures=(failure(run, at),))).answer

    assert state(ROW, early) == "held (INFERIOR)"
    assert state(ROW, late) == "a task failed"
    assert state(PROMOTES, early) == "a task failed"
    assert state(PROMOTES, late) == "a task failed"
    assert state(PROMOTES, late, "n 1", MADE) == "promoted (SUPERIOR)"
    assert state(ROW, early, "n 0") == "held (INFERIOR)"
    assert state(ROW, late, "n 2") == "a task failed"
    assert state(replace(ROW, dry_run=True), early, "n 0") == "a task failed"


def test_only_failures_of_the_retraining_are_asked_for(tmp_path: Path) -> None:
    """However many other alerts are newer; the name of a run may hold anything."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    run = "manual__2026-06-01T01:00:00+00:00"
    ledger.add_alert(failure(run, NOW - timedelta(hours=8)))
    for number in range(30):
        ledger.add_alert(failure(f"r {number}", NOW - timedelta(hours=1), "churn_image_build"))
    assert tile(replace(NOTHING, failures=ledger.failures("churn_retraining"))).answer == "a task failed"
    assert load_overview(ledger, UNPLANNED, NOW).tiles[0].answer == "a task failed"
    assert [one.subject for one in ledger.failures("churn_retraining", run)] == [
        "Task train of churn_retraining failed"
    ]
    assert ledger.failures("churn_retraining", run[:-1]) == ledger.failures("churn_retraining", run[:20]) == []
    assert ledger.failures("churn_retraining", since=NOW) == []


def test_a_night_is_not_said_to_be_without_verdict_while_it_works() -> None:
    """Between validation and decision it may still decide; hours later it has not."""
    at_work = batch(night="n 2", judged_at=NOW - timedelta(minutes=3))
    facts = replace(NOTHING, nights=(ROW,), batches=(at_work,))
    assert tile(facts).answer == "not decided yet"
    assert "decided nothing" not in tile(facts).detail
    assert tile(facts, now=NOW + timedelta(hours=7)).answer == "no verdict"
    rejected = replace(at_work, state="rejected", reason="Faulty.")
    assert tile(replace(facts, batches=(rejected,))).answer == "no verdict"
    assert tile(replace(facts, batches=(rejected,), waiting=1)).answer == "not decided yet"


def test_neither_a_dry_run_nor_an_early_night_stands_for_the_one_that_was_due() -> None:
    """Only a decision that counts, and that was made since; the time that is said is UTC."""
    dry = replace(ROW, night="dry", dry_run=True)
    before = replace(ROW, night="by hand", decided_at=LATELY - timedelta(hours=3))
    for rows in ((dry,), (before,), (dry, before)):
        found = tile(replace(NOTHING, nights=rows), settings=NIGHTLY)
        assert (found.state, found.answer) == ("look", "no verdict"), rows
    assert tile(replace(NOTHING, nights=(dry, ROW)), settings=NIGHTLY).answer == "held (INFERIOR)"
    zurich = NIGHTLY.model_copy(update={"timezone": "Europe/Zurich"})
    assert "The night of 2026-06-01 00:00 UTC" in tile(replace(NOTHING, nights=(before,)), settings=zurich).detail


# --- Intake, drift and health


def test_a_rejected_file_does_not_hide_behind_a_good_one() -> None:
    """All files of the newest night, the worst first, with counts."""
    files = (batch("good.csv", arrival=3), batch("bad.csv", "rejected", 2), batch("fine.csv", arrival=1))
    found = tile(replace(NOTHING, batches=files, waiting=2), "Intake")
    assert (found.state, found.answer) == ("bad", "1 rejected, 2 accepted")
    assert found.detail == (
        "bad.csv: Too many faults. 3 files: 300 rows arrived, 270 accepted, 30 set aside. 2 files taken in and not judged yet."
    )
    good = tile(replace(NOTHING, batches=(files[0], files[2])), "Intake")
    assert (good.state, good.answer) == ("good", "2 accepted")
    assert (
        tile(replace(NOTHING, batches=(batch(state="arrived", arrival=4), files[1]), waiting=1), "Intake").state
        == "bad"
    )


def test_the_newest_night_is_read_whole(tmp_path: Path) -> None:
    """Its batches by their verdict, not by their arrival, and the newest that waits."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    for number in range(4):
        ledger.add_batch(f"{number:064x}", f"{number}.csv", 1, NOW)
    good, bad = BatchVerdict("accepted", 9, 9, 0), BatchVerdict("rejected", 9, 0, 9, reason="Faulty.")
    for number, night, verdict in ((2, "n 1", good), (0, "n 2", bad), (1, "n 2", good)):
        ledger.judge_batch(f"{number:064x}", night, verdict)
    found = next(one for one in load_overview(ledger, UNPLANNED, NOW).tiles if one.name == "Intake")
    assert (found.state, found.answer) == ("bad", "1 rejected, 1 accepted")
    assert found.detail.startswith("0.csv: Faulty. 2 files: 18 rows arrived")
    assert found.detail.endswith("1 file taken in and not judged yet.")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("arrived", "The newest batch is not judged yet."),
        ("rejected", "The newest batch was rejected before it was measured."),
        ("accepted", "The newest batch had no accepted history to be held against."),
    ],
)
def test_why_there_is_no_drift_is_said_as_it_is(state: str, words: str) -> None:
    """What was not measured yet is not said to have had no history."""
    assert tile(replace(NOTHING, batches=(batch(state=state),)), "Drift").detail == words


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Eight nights."""
    return fill_ledger(f"sqlite:///{tmp_path}/ledger.db", 8)


def test_health_is_not_for_ever(ledger: Ledger) -> None:
    """Beyond the night that was expected, or some days without a schedule, it is not monitored, since when is said."""
    last = ledger.last_decision("churn")
    assert last is not None
    facts = replace(NOTHING, last=last, promotions=(replace(MADE, version=last.champion),))
    for settings, days in ((NIGHTLY, 1), (UNPLANNED, 3)):
        assert tile(facts, "Champion's health", settings).state == "good"
        late = tile(facts, "Champion's health", settings, NOW + timedelta(days=days))
        assert (late.state, late.answer) == ("not monitored", "not monitored since 2026-06-01")


def test_another_model_of_the_same_ledger_is_nobody_here(ledger: Ledger) -> None:
    """Its later decision neither tells of this champion nor closes what waits for a person; without a model all count."""
    last = ledger.last_decision()
    assert last is not None
    ledger.add_decision(replace(last, night="asks", approval=True, decided_at=NOW))
    ledger.add_decision(replace(last, night="other", model="other", decided_at=NOW + timedelta(hours=1)))
    found = [ledger.last_decision(name) for name in (None, "churn", "other", "none")]
    assert [one and one.night for one in found] == ["other", "asks", "other", None]
    assert [one.night for one in ledger.open_decisions("churn")] == ["asks"]
    ledger.add_decision(replace(last, night="later", decided_at=NOW + timedelta(hours=2)))
    assert ledger.open_decisions("churn") == []
    assert ledger.open_decisions("none") == []
