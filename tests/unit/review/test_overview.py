"""The review's first page shows nothing wrong as good, no verdict as a promotion, and no old news as current."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
import sqlalchemy as sa

from churn.foundation.ledger import Ledger, open_ledger, read_ledger
from churn.foundation.records import Alert, Approval, Batch, BatchVerdict, DecisionRecord, NightRow, Promotion
from churn.review.night_list import load_nights
from churn.review.nights import Night, load_night
from churn.review.overview import load_overview, make_overview
from churn.review.pages import render_night, render_nights, render_overview, render_undecided
from churn.review.tiles import OverviewFacts, Tile
from churn.review.undecided import load_undecided
from churn.settings import Settings
from support.html_pages import Page
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


def tile(facts: OverviewFacts, name: str = "Last run", settings: Settings = UNPLANNED, now: datetime = NOW) -> Tile:
    return next(tile for tile in make_overview(facts, settings, now).tiles if tile.name == name)


# --- The last run


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
    """A hold that people are alerted about is not good here, not even in a dry run, and the page says why."""
    last_run = tile(replace(NOTHING, nights=(replace(ROW, code=code),)))
    assert (last_run.state, last_run.answer) == (state, f"held ({code})")
    assert ("A sentence." in last_run.detail) is (state != "good")
    assert tile(replace(NOTHING, nights=(replace(ROW, code=code, dry_run=True),))).state == state


def test_a_first_run_that_fails_is_reported() -> None:
    """Without any decision, a failed task, rejected files and a missing run are reported, in this order."""
    rejected = replace(NOTHING, batches=(batch(state="rejected"),))
    failed = replace(rejected, failures=(failure("n 1", LATELY),))
    assert (tile(failed).state, tile(failed).answer) == ("bad", "a task failed")
    assert "No run has reached a decision" in tile(failed).detail
    assert (tile(rejected).state, tile(rejected).answer) == ("look", "no verdict")
    assert "Run n 1 " in tile(rejected).detail
    assert "a.csv is rejected" in tile(rejected).detail
    due = tile(replace(NOTHING, batches=(batch(state="arrived"),)), settings=NIGHTLY)
    assert (due.state, due.answer) == ("look", "no verdict")
    assert tile(NOTHING, settings=NIGHTLY).state == "not monitored"


PROMOTES = replace(ROW, verdict="promote", code="SUPERIOR")


def test_a_promotion_is_what_the_ledger_has_promoted() -> None:
    """A promotion by the run is shown whatever the verdict; a verdict without a promotion was not carried out."""
    approved = replace(ROW, code="BATCH_DISPUTED", answer="approved")
    assert (
        tile(replace(NOTHING, nights=(approved,), promotions=(MADE,))).answer == "promoted (BATCH_DISPUTED), approved"
    )
    for row in (PROMOTES, approved):
        last_run = tile(replace(NOTHING, nights=(row,)))
        assert last_run.state == "look"
        assert last_run.answer.endswith("not carried out")
        assert "No promotion followed" in last_run.detail
    by_another_run = replace(MADE, night="n 0")
    assert tile(replace(NOTHING, nights=(PROMOTES,), promotions=(by_another_run,))).answer.endswith("not carried out")


@pytest.mark.parametrize("kind", ["rollback", "take_back"])
def test_a_promotion_that_was_rolled_back_is_not_good(kind: str) -> None:
    """The page shows when, by whom and why it was rolled back."""
    back = replace(
        MADE, sequence=3, version=4, previous=5, kind=kind, night="b", reason="Not it.", actor="otto", promoted_at=NOW
    )
    last_run = tile(replace(NOTHING, nights=(PROMOTES,), promotions=(back, MADE)))
    assert (last_run.state, last_run.answer.startswith("promoted, rolled back")) == ("look", True)
    for part in ("Version 5 ", "2026-06-01 09:00 UTC", "by otto", "Not it."):
        assert part in last_run.detail


def test_a_repaired_failure_is_not_reported() -> None:
    """A failure is repaired if its run has since decided and promoted where that follows, or a later run has decided."""
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


def test_only_failures_of_the_retraining_are_read(tmp_path: Path) -> None:
    """However many other alerts are newer; the name of a run may hold any text."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    run = "manual__2026-06-01T01:00:00+00:00"
    ledger.add_alert(failure(run, NOW - timedelta(hours=8)))
    for number in range(30):
        ledger.add_alert(failure(f"r {number}", NOW - timedelta(hours=1), "churn_image_build"))
    assert tile(replace(NOTHING, failures=ledger.failures("churn_retraining"))).answer == "a task failed"
    assert load_overview(ledger, UNPLANNED, NOW).tiles[0].answer == "a task failed"
    assert [alert.subject for alert in ledger.failures("churn_retraining", run)] == [
        "Task train of churn_retraining failed"
    ]
    assert ledger.failures("churn_retraining", run[:-1]) == ledger.failures("churn_retraining", run[:20]) == []
    assert ledger.failures("churn_retraining", since=NOW) == []


def test_a_run_in_progress_is_not_reported_as_without_verdict() -> None:
    """Between validation and decision a run may still decide; hours later it has not."""
    at_work = batch(night="n 2", judged_at=NOW - timedelta(minutes=3))
    facts = replace(NOTHING, nights=(ROW,), batches=(at_work,))
    assert tile(facts).answer == "not decided yet"
    assert "without a decision" not in tile(facts).detail
    assert tile(facts, now=NOW + timedelta(hours=7)).answer == "no verdict"
    rejected = replace(at_work, state="rejected", reason="Faulty.")
    assert tile(replace(facts, batches=(rejected,))).answer == "no verdict"
    assert tile(replace(facts, batches=(rejected,), waiting=1)).answer == "not decided yet"


def test_neither_a_dry_run_nor_an_earlier_run_replaces_the_one_that_was_due() -> None:
    """Only a decision that counts and was made since does; the time that is shown is UTC."""
    dry = replace(ROW, night="dry", dry_run=True)
    before = replace(ROW, night="manual", decided_at=LATELY - timedelta(hours=3))
    for rows in ((dry,), (before,), (dry, before)):
        last_run = tile(replace(NOTHING, nights=rows), settings=NIGHTLY)
        assert (last_run.state, last_run.answer) == ("look", "no verdict"), rows
    assert tile(replace(NOTHING, nights=(dry, ROW)), settings=NIGHTLY).answer == "held (INFERIOR)"
    zurich = NIGHTLY.model_copy(update={"timezone": "Europe/Zurich"})
    assert "2026-06-01 00:00 UTC" in tile(replace(NOTHING, nights=(before,)), settings=zurich).detail


# --- Intake, drift and health


def test_a_rejected_file_is_not_hidden_by_a_good_one() -> None:
    """All files of the newest run are counted, the worst first."""
    files = (batch("good.csv", arrival=3), batch("bad.csv", "rejected", 2), batch("fine.csv", arrival=1))
    intake = tile(replace(NOTHING, batches=files, waiting=2), "Intake")
    assert (intake.state, intake.answer) == ("bad", "1 rejected, 2 accepted")
    assert intake.detail.startswith("bad.csv: Too many faults.")
    for part in ("3 files", "300 rows arrived", "270 accepted", "30 quarantined", "2 files"):
        assert part in intake.detail
    good = tile(replace(NOTHING, batches=(files[0], files[2])), "Intake")
    assert (good.state, good.answer) == ("good", "2 accepted")
    assert (
        tile(replace(NOTHING, batches=(batch(state="arrived", arrival=4), files[1]), waiting=1), "Intake").state
        == "bad"
    )


def test_all_batches_of_the_newest_run_are_read(tmp_path: Path) -> None:
    """The newest run is found by when batches were validated, not by when they arrived; the newest waiting batch is read too."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    for number in range(4):
        ledger.add_batch(f"{number:064x}", f"{number}.csv", 1, NOW)
    good, bad = BatchVerdict("accepted", 9, 9, 0), BatchVerdict("rejected", 9, 0, 9, reason="Faulty.")
    for number, night, verdict in ((2, "n 1", good), (0, "n 2", bad), (1, "n 2", good)):
        ledger.judge_batch(f"{number:064x}", night, verdict)
    intake = next(tile for tile in load_overview(ledger, UNPLANNED, NOW).tiles if tile.name == "Intake")
    assert (intake.state, intake.answer) == ("bad", "1 rejected, 1 accepted")
    for part in ("0.csv: Faulty.", "2 files: 18 rows arrived", "1 file "):
        assert part in intake.detail


@pytest.mark.parametrize(
    ("state", "words"),
    [("arrived", "not been validated"), ("rejected", "was rejected"), ("accepted", "no earlier accepted rows")],
)
def test_missing_drift_is_explained(state: str, words: str) -> None:
    """A batch that is not validated yet, one that was rejected and one without earlier rows have different explanations."""
    drift = tile(replace(NOTHING, batches=(batch(state=state),)), "Drift")
    assert drift.state == "not monitored"
    assert words in drift.detail


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Eight runs."""
    return fill_ledger(f"sqlite:///{tmp_path}/ledger.db", 8)


def test_an_old_health_check_does_not_count(ledger: Ledger) -> None:
    """After a missed run, or some days without a schedule, health is not monitored, and the page shows since when."""
    last = ledger.last_decision("churn")
    assert last is not None
    facts = replace(NOTHING, last=last, promotions=(replace(MADE, version=last.champion),))
    for settings, days in ((NIGHTLY, 1), (UNPLANNED, 3)):
        assert tile(facts, "Champion health", settings).state == "good"
        late = tile(facts, "Champion health", settings, NOW + timedelta(days=days))
        assert (late.state, late.answer) == ("not monitored", "not monitored since 2026-06-01")


def test_another_model_in_the_same_ledger_does_not_count(ledger: Ledger) -> None:
    """Its later decision neither describes this champion nor closes an open question; without a model all models count."""
    last = ledger.last_decision()
    assert last is not None
    ledger.add_decision(replace(last, night="asks", approval=True, decided_at=NOW))
    ledger.add_decision(replace(last, night="other", model="other", decided_at=NOW + timedelta(hours=1)))
    decisions = [ledger.last_decision(name) for name in (None, "churn", "other", "none")]
    assert [decision and decision.night for decision in decisions] == ["other", "asks", "other", None]
    assert [decision.night for decision in ledger.open_decisions("churn")] == ["asks"]
    ledger.add_decision(replace(last, night="later", decided_at=NOW + timedelta(hours=2)))
    assert ledger.open_decisions("churn") == []
    assert ledger.open_decisions("none") == []


# --- A run: what was done, and what was not


def night(ledger: Ledger, name: str = "n 1") -> Night:
    view = load_night(ledger, SETTINGS, name)
    assert view is not None
    return view


def decided(ledger: Ledger, **changes: object) -> DecisionRecord:
    """A decision later than all others, with the name n 1."""
    last = ledger.last_decision("churn")
    assert last is not None
    record = replace(last, night="n 1", challenger=9, champion=last.champion, decided_at=NOW, verdict="promote")
    return ledger.add_decision(replace(record, code="SUPERIOR", **changes))


def test_a_promotion_counts_only_once_the_ledger_has_it(ledger: Ledger) -> None:
    """Before that, the verdict was not carried out; afterwards, a rollback is shown too."""
    record = decided(ledger)
    assert night(ledger).headline == "Not carried out: version 9 did not replace champion 6."
    assert "No promotion followed" in night(ledger).outcome
    promotion = ledger.promote(replace(MADE, version=9, promoted_at=NOW), record.champion)
    assert night(ledger).headline == "Promoted: version 9 replaced champion 6."
    assert night(ledger).outcome.startswith("Version 9 was promoted")
    assert "2026-06-01 09:00 UTC" in night(ledger).outcome
    back = replace(
        MADE,
        version=6,
        kind="rollback",
        night="b",
        reason="Not it.",
        actor="otto",
        promoted_at=NOW + timedelta(hours=1),
    )
    ledger.promote(back, promotion.version)
    for part in ("Version 9 was rolled back", "2026-06-01 10:00 UTC", "by otto", "Not it."):
        assert part in night(ledger).outcome


def test_a_hold_that_a_person_approved_is_promoted(ledger: Ledger) -> None:
    """The verdict stays a hold; the ledger decides what became of it."""
    record = decided(ledger)
    ledger.add_decision(replace(record, night="held", verdict="hold", code="BATCH_DISPUTED"))
    assert night(ledger, "held").headline == "Hold: version 9 does not replace champion 6."
    ledger.answer(Approval("held", "approved", "vera", "The batch is right.", NOW))
    assert night(ledger, "held").headline == "Not carried out: version 9 did not replace champion 6."
    ledger.promote(replace(MADE, version=9, night="held", actor="vera"), record.champion)
    approved = night(ledger, "held")
    assert approved.headline == "Promoted on approval: version 9 replaced champion 6."
    assert approved.outcome.startswith("Version 9 was promoted by vera")


def test_a_version_that_waits_was_rejected_or_only_tried_is_not_shown_as_promoted(ledger: Ledger) -> None:
    """Each case has a headline of its own."""
    record = decided(ledger, approval=True)
    assert night(ledger).headline == "Waiting for approval: version 9 is to replace champion 6."
    ledger.add_decision(replace(record, night="dry", dry_run=True))
    assert night(ledger, "dry").headline == "Promote, dry run: version 9 would replace champion 6."
    ledger.add_decision(replace(record, night="later", decided_at=NOW + timedelta(days=1)))
    assert night(ledger).headline == "Not promoted, no answer: version 9 did not replace champion 6."
    ledger.answer(Approval("n 1", "rejected", "vera", "No.", NOW))
    assert night(ledger).headline == "Not promoted, rejected: version 9 did not replace champion 6."
    assert night(ledger).outcome.endswith("rejected by vera: No.")
    ledger.add_decision(replace(record, night="unanswered"))
    ledger.answer(Approval("unanswered", "expired", "nobody", "nobody answered in time", NOW))
    assert night(ledger, "unanswered").headline == "Not promoted, no answer: version 9 did not replace champion 6."
    assert night(ledger, "unanswered").outcome == "Nobody answered in time, so the promotion was rejected."


def test_a_run_without_a_decision_has_a_page(tmp_path: Path) -> None:
    """It shows what the run ingested, what failed and a link to the run; an unknown run has no page."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    ledger.add_batch("a" * 64, "a.csv", 1, NOW)
    ledger.judge_batch("a" * 64, "n 1", BatchVerdict("rejected", 9, 0, 9, reason="Faulty."))
    ledger.add_alert(failure("n 2", NOW))
    ledger.add_alert(failure("n 3", NOW, "churn_rollback"))
    rejected, failed = (load_undecided(ledger, SETTINGS, name) for name in ("n 1", "n 2"))
    assert rejected is not None
    assert failed is not None
    assert ("rejected" in rejected.headline, rejected.failures) == (True, [])
    assert ("a task failed" in failed.headline, len(failed.failures)) == (True, 1)
    assert load_undecided(ledger, SETTINGS, "n 3") is None
    page = Page(render_undecided(rejected, SITE))
    assert not page.open
    assert f"/churn-review/batch?hash={'a' * 64}" in {link.get("href") for link in page.all("a")}
    page = Page(render_undecided(failed, SITE))
    assert "Task train of churn_retraining failed" in page.text
    assert "https://airflow.example/dags/churn_retraining/runs/n%202" in {link.get("href") for link in page.all("a")}


def test_only_promotions_by_a_nightly_run_link_to_one(tmp_path: Path) -> None:
    """A rollback, an automatic rollback and an adoption carry the id of another run, or a name that is no run."""
    ledger = fill_ledger(f"sqlite:///{tmp_path}/ledger.db", 40)
    view = load_overview(ledger, SETTINGS, NOW)
    assert {reign.kind for reign in view.reigns if not reign.of_a_night} == {"rollback", "take_back", "adopted"}
    hrefs = [str(link.get("href")) for link in Page(render_overview(view, SITE)).all("a")]
    names = [unquote(name.split("name=")[1]) for name in hrefs if "night?name=" in name]
    assert [name for name in names if ledger.decision(name) is None] == []
    assert {reign.night for reign in view.reigns if reign.of_a_night} <= set(names)
    rolled = make_overview(replace(NOTHING, promotions=(replace(MADE, kind="rollback", night="r"),)), SETTINGS, NOW)
    assert "in run" not in rolled.detail


def test_any_run_can_be_compared_with_any_other(tmp_path: Path) -> None:
    """A run links to the list, whose rows link to the comparison with it; further pages keep the choice."""
    ledger = fill_ledger(f"sqlite:///{tmp_path}/ledger.db", 30)
    name = ledger.night_rows("churn", 1)[0].night

    def links_of(html: str) -> set[str]:
        return {str(link.get("href")) for link in Page(html).all("a")}

    left = quote(name, safe="")
    assert f"/churn-review/nights?left={left}" in links_of(render_night(night(ledger, name), SITE))
    first = load_nights(ledger, SETTINGS, left=name)
    assert first.older is not None
    second = load_nights(ledger, SETTINGS, datetime.fromisoformat(first.older), left=name)
    for view in (first, second):
        html = render_nights(view, SITE)
        wanted = {f"/churn-review/compare?left={left}&right={quote(line.night, safe='')}" for line in view.lines}
        assert {entry for entry in links_of(html) if "compare" in entry} == {
            entry for entry in wanted if not entry.endswith(f"right={left}")
        }
        assert "<form" not in html
    older = f"/churn-review/nights?before={first.older.replace('+', '%2B')}&left={left}"
    assert older in links_of(render_nights(first, SITE))
    assert f"/churn-review/nights?left={left}" in links_of(render_nights(second, SITE))
    assert "left=" not in render_nights(load_nights(ledger, SETTINGS), SITE)


def test_no_page_scans_a_whole_table(tmp_path: Path) -> None:
    """Every query of the overview, the list of runs and a run uses an index, and a query with a limit does not sort first."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    fill_ledger(url, 20)
    ledger, queries = read_ledger(url), []

    def note(_c: object, _k: object, statement: str, parameters: object, *_: object) -> None:
        queries.append((statement, parameters))

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
    assert len(queries) > 20
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        for statement, parameters in queries:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            scans = [entry for entry in plan if entry.startswith("SCAN") and "CONSTANT" not in entry]
            if " LIMIT " in statement:  # in the order of an index, and ended early
                scans = [entry for entry in scans if "INDEX" not in entry]
            assert scans == [], statement
            if " LIMIT " in statement:
                assert [entry for entry in plan if "TEMP B-TREE" in entry] == [], statement
