"""The review's first page: what is wrong is not shown as good, what was done not as what was decided, and old news not as today's."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
import sqlalchemy as sa
from test_card import Page

from churn.foundation.ledger import Ledger, open_ledger, read_ledger
from churn.foundation.records import Alert, Approval, Batch, BatchVerdict, DecisionRecord, NightRow, Promotion
from churn.review.night_list import load_nights
from churn.review.nights import Night, load_night
from churn.review.overview import load_overview, make_overview
from churn.review.pages import render_night, render_nights, render_overview, render_undecided
from churn.review.tiles import OverviewFacts, Tile
from churn.review.undecided import load_undecided
from churn.settings import Settings
from support.review_ledger import NIGHTLY, NOTHING, NOW, SETTINGS, SITE, fill_ledger

UNPLANNED = SETTINGS.model_copy(update={"schedule": None})
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


# --- A night: what was done, and what was not


def night(ledger: Ledger, name: str = "n 1") -> Night:
    found = load_night(ledger, SETTINGS, name)
    assert found is not None
    return found


def decided(ledger: Ledger, **changes: object) -> DecisionRecord:
    """A decision later than all others, with the name n 1."""
    last = ledger.last_decision("churn")
    assert last is not None
    record = replace(last, night="n 1", challenger=9, champion=last.champion, decided_at=NOW, verdict="promote")
    return ledger.add_decision(replace(record, code="SUPERIOR", **changes))


def test_a_promotion_that_did_not_happen_is_no_replacement(ledger: Ledger) -> None:
    """Until the ledger has it; then it is said, and that it was taken back by what follows."""
    record = decided(ledger)
    assert night(ledger).headline == "Not carried out: version 9 did not replace champion 6."
    assert "No promotion followed" in night(ledger).outcome
    made = ledger.promote(replace(MADE, version=9, promoted_at=NOW), record.champion)
    assert night(ledger).headline == "Promote: version 9 replaces champion 6."
    assert night(ledger).outcome == "Version 9 was promoted 2026-06-01 09:00 UTC."
    back = replace(
        MADE,
        version=6,
        kind="rollback",
        night="b",
        reason="Not it.",
        actor="otto",
        promoted_at=NOW + timedelta(hours=1),
    )
    ledger.promote(back, made.version)
    assert night(ledger).outcome.endswith("Version 9 was rolled back on 2026-06-01 10:00 UTC by otto: Not it.")


def test_a_hold_that_a_person_approved_is_promoted(ledger: Ledger) -> None:
    """The verdict stays a hold; what became of it is what the ledger has."""
    record = decided(ledger)
    ledger.add_decision(replace(record, night="held", verdict="hold", code="BATCH_DISPUTED"))
    assert night(ledger, "held").headline == "Hold: champion 6 stays, version 9 does not replace it."
    ledger.answer(Approval("held", "approved", "vera", "The batch is right.", NOW))
    assert night(ledger, "held").headline == "Not carried out: version 9 did not replace champion 6."
    ledger.promote(replace(MADE, version=9, night="held", actor="vera"), record.champion)
    found = night(ledger, "held")
    assert found.headline == "Promoted on approval: version 9 replaces champion 6."
    assert found.outcome.startswith("Version 9 was promoted by vera")


def test_what_waits_was_refused_or_only_tried_is_said_so(ledger: Ledger) -> None:
    """None of them replaces anything."""
    record = decided(ledger, approval=True)
    assert night(ledger).headline == "Waits for a person: version 9 is to replace champion 6."
    ledger.add_decision(replace(record, night="dry", dry_run=True))
    assert night(ledger, "dry").headline == "Promote, dry run: version 9 would replace champion 6."
    ledger.add_decision(replace(record, night="later", decided_at=NOW + timedelta(days=1)))
    assert night(ledger).headline == "Not promoted, not answered: version 9 did not replace champion 6."
    ledger.answer(Approval("n 1", "rejected", "vera", "No.", NOW))
    assert night(ledger).headline == "Not promoted, rejected: version 9 did not replace champion 6."
    assert night(ledger).outcome == "It was rejected by vera: No."


def test_a_night_without_a_decision_has_a_page(tmp_path: Path) -> None:
    """Of what it took in and what failed, with the way to its run; of what nobody knows there is none."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    ledger.add_batch("a" * 64, "a.csv", 1, NOW)
    ledger.judge_batch("a" * 64, "n 1", BatchVerdict("rejected", 9, 0, 9, reason="Faulty."))
    ledger.add_alert(failure("n 2", NOW))
    ledger.add_alert(failure("n 3", NOW, "churn_rollback"))
    rejected, failed = (load_undecided(ledger, SETTINGS, name) for name in ("n 1", "n 2"))
    assert rejected is not None
    assert failed is not None
    assert rejected.headline == "Nothing is decided: the file of this night is rejected."
    assert failed.headline == "Nothing is decided: a task failed."
    assert load_undecided(ledger, SETTINGS, "n 3") is None
    page = Page(render_undecided(rejected, SITE))
    assert not page.open
    assert f"/churn-review/batch?hash={'a' * 64}" in {one.get("href") for one in page.all("a")}
    page = Page(render_undecided(failed, SITE))
    assert "Task train of churn_retraining failed" in page.text
    assert "https://airflow.example/dags/churn_retraining/runs/n%202" in {one.get("href") for one in page.all("a")}


def test_only_a_change_of_a_night_leads_to_one(tmp_path: Path) -> None:
    """A rollback, a take-back and an adoption bear the id of another run or a name: there is no such night."""
    ledger = fill_ledger(f"sqlite:///{tmp_path}/ledger.db", 40)
    view = load_overview(ledger, SETTINGS, NOW)
    assert {one.kind for one in view.reigns if not one.of_a_night} == {"rollback", "take_back", "adopted"}
    hrefs = [str(one.get("href")) for one in Page(render_overview(view, SITE)).all("a")]
    names = [unquote(one.split("name=")[1]) for one in hrefs if "night?name=" in one]
    assert [name for name in names if ledger.decision(name) is None] == []
    assert {one.night for one in view.reigns if one.of_a_night} <= set(names)
    rolled = make_overview(replace(NOTHING, promotions=(replace(MADE, kind="rollback", night="r"),)), SETTINGS, NOW)
    assert "night" not in rolled.detail


def test_any_night_can_be_compared_with_any_other(tmp_path: Path) -> None:
    """A night leads to the list, whose rows lead to the comparison with it; further pages keep the choice."""
    ledger = fill_ledger(f"sqlite:///{tmp_path}/ledger.db", 30)
    name = ledger.night_rows("churn", 1)[0].night

    def links_of(html: str) -> set[str]:
        return {str(one.get("href")) for one in Page(html).all("a")}

    left = quote(name, safe="")
    assert f"/churn-review/nights?left={left}" in links_of(render_night(night(ledger, name), SITE))
    first = load_nights(ledger, SETTINGS, left=name)
    assert first.older is not None
    second = load_nights(ledger, SETTINGS, datetime.fromisoformat(first.older), left=name)
    for view in (first, second):
        html = render_nights(view, SITE)
        wanted = {f"/churn-review/compare?left={left}&right={quote(one.night, safe='')}" for one in view.lines}
        assert {one for one in links_of(html) if "compare" in one} == {
            one for one in wanted if not one.endswith(f"right={left}")
        }
        assert "<form" not in html
    older = f"/churn-review/nights?before={first.older.replace('+', '%2B')}&left={left}"
    assert older in links_of(render_nights(first, SITE))
    assert f"/churn-review/nights?left={left}" in links_of(render_nights(second, SITE))
    assert "left=" not in render_nights(load_nights(ledger, SETTINGS), SITE)


def test_no_page_reads_a_table_from_end_to_end(tmp_path: Path) -> None:
    """Every query of overview, nights and night goes by an index, and what is cut at so many rows is not sorted first."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    fill_ledger(url, 20)
    ledger, asked = read_ledger(url), []

    def note(_c: object, _k: object, statement: str, parameters: object, *_: object) -> None:
        asked.append((statement, parameters))

    name = ledger.night_rows("churn", 1)[0].night
    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        load_overview(ledger, SETTINGS, NOW)
        load_nights(ledger, SETTINGS)
        load_nights(ledger, SETTINGS, NOW)
        load_night(ledger, SETTINGS, name)
        load_undecided(ledger, SETTINGS, name)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert len(asked) > 20
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        for statement, parameters in asked:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            scans = [one for one in plan if one.startswith("SCAN") and "CONSTANT" not in one]
            if " LIMIT " in statement:  # in the order of an index, and ended early
                scans = [one for one in scans if "INDEX" not in one]
            assert scans == [], statement
            if " LIMIT " in statement:
                assert [one for one in plan if "TEMP B-TREE" in one] == [], statement
