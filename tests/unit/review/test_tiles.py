"""The review's views: what they show of the ledger's rows, and what they draw."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.records import Batch, Drift, ImageRecord, Promotion
from churn.foundation.schedule import due_nights
from churn.review import charts
from churn.review.data import load_batch, load_data, make_data, make_heat
from churn.review.images import load_images
from churn.review.nights import ComparedRuns, load_night
from churn.review.overview import Overview, load_overview, make_overview
from churn.review.pages import (
    render_compared_runs,
    render_night,
)
from churn.review.tiles import Tile
from churn.settings import Settings
from support.html_pages import Page
from support.review_ledger import NIGHTLY, NOTHING, NOW, SETTINGS, SITE, batch_hash, forty_nights, night_name


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return forty_nights(tmp_path_factory.mktemp("review"))


def change(version: int | None = 3, days: int = 4, **changes: object) -> Promotion:
    promotion = Promotion(
        "churn",
        2,
        version,
        2,
        "promotion",
        "night 3",
        "because",
        NOW - timedelta(days=days),
        actor="airflow",
        code="SUPERIOR",
    )
    return replace(promotion, **changes)


def image(state: str = "published", version: int = 3) -> ImageRecord:
    return ImageRecord(
        "churn", version, state, "churn:3", "sha256:abc", 500, 0.0, "detail", NOW, digest="sha256:0123456789abcdef"
    )


def tile(view: Overview, name: str) -> Tile:
    return next(tile for tile in view.tiles if tile.name == name)


# --- The overview


def test_the_headline_shows_what_is_in_production_and_how_it_got_there() -> None:
    """Version, time, rule, run, image and digest; for a forced promotion also the person and the reason."""
    view = make_overview(replace(NOTHING, promotions=(change(),), image=image()), SETTINGS, NOW)
    assert view.headline.startswith("Version 3 ")
    assert "2026-05-28 09:00 UTC" in view.headline
    for part in ("by airflow", "SUPERIOR", "run night 3", "4 days", "published", "sha256:0123456789ab"):
        assert part in view.detail
    forced = change(kind="forced", code="FORCED", actor="vera", reason="The board wants it.")
    view = make_overview(replace(NOTHING, promotions=(forced,)), SETTINGS, NOW)
    assert "by vera (FORCED)" in view.detail
    assert view.detail.endswith("The board wants it.")


def test_without_a_version_in_production_none_is_named() -> None:
    """Before the first promotion, and after an automatic rollback of the only champion."""
    assert "Version" not in make_overview(NOTHING, SETTINGS, NOW).headline
    rolled_back = change(None, kind="take_back", previous=1, actor="", reason="Not the model.")
    view = make_overview(replace(NOTHING, promotions=(rolled_back,)), SETTINGS, NOW)
    assert "Version" not in view.headline
    assert "2026-05-28 09:00 UTC" in view.headline
    assert view.detail.startswith("Version 1 ")
    assert view.detail.endswith("Not the model.")


def test_what_was_not_checked_is_not_good(ledger: Ledger) -> None:
    """With an empty ledger only the freeze tile is good; a champion that was never scored again is not healthy."""
    view = make_overview(NOTHING, SETTINGS, NOW)
    assert {tile.state for tile in view.tiles if tile.name != "Automatic promotion"} == {"not monitored"}
    assert view.first_steps
    last = ledger.last_decision()
    young = make_overview(replace(NOTHING, promotions=(change(99),), last=last), SETTINGS, NOW)
    assert tile(young, "Champion health").state == "not monitored"
    scored = make_overview(
        replace(NOTHING, promotions=(change(last.champion if last else 0),), last=last), SETTINGS, NOW
    )
    assert tile(scored, "Champion health").state == "good"


def test_a_champion_that_was_deleted_in_mlflow_is_shown(ledger: Ledger) -> None:
    """Until another version is in production."""
    last = ledger.last_decision()
    assert last is not None
    missing = replace(last, code="CHAMPION_MISSING", sentence="Version 3 was deleted.", watch=[])
    shown = tile(
        make_overview(replace(NOTHING, promotions=(change(last.champion),), last=missing), SETTINGS, NOW),
        "Champion health",
    )
    assert (shown.state, shown.answer, shown.detail) == ("bad", "missing in MLflow", "Version 3 was deleted.")
    later = make_overview(replace(NOTHING, promotions=(change(99),), last=missing), SETTINGS, NOW)
    assert tile(later, "Champion health").state == "not monitored"


def test_a_missing_run_is_reported(ledger: Ledger) -> None:
    """The schedule decides; a run that may still be in progress is not missing; without a schedule none is."""
    rows = tuple(replace(row, verdict="hold", code="INFERIOR") for row in ledger.night_rows("churn", 3))
    facts = replace(NOTHING, nights=rows)
    assert tile(make_overview(facts, NIGHTLY, NOW), "Last run").state == "good"
    assert tile(make_overview(facts, NIGHTLY, NOW + timedelta(hours=22)), "Last run").state == "good"
    late = tile(make_overview(facts, NIGHTLY, NOW + timedelta(days=1)), "Last run")
    assert (late.state, late.answer) == ("look", "no verdict")
    assert "2026-06-02 02:00" in late.detail
    unplanned = SETTINGS.model_copy(update={"schedule": None})
    assert list(due_nights(unplanned, NOW)) == []
    assert tile(make_overview(facts, unplanned, NOW + timedelta(days=9)), "Last run").state == "good"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("published", "good"),
        ("not_built", "good"),
        ("mismatch", "bad"),
        ("faulty", "bad"),
        ("failed", "bad"),
        ("pruned", "look"),
    ],
)
def test_the_image_of_production_is_judged(state: str, expected: str) -> None:
    """Every state of the ledger has a tile state, and a missing image is not good."""
    facts = replace(NOTHING, promotions=(change(),))
    assert tile(make_overview(replace(facts, image=image(state)), SETTINGS, NOW), "Image").state == expected
    assert tile(make_overview(facts, SETTINGS, NOW), "Image").state == "look"


def test_a_freeze_shows_its_reason_and_how_to_end_it() -> None:
    """Who rolled back which version and why, and the command."""
    frozen = change(2, kind="rollback", previous=3, actor="otto", reason="It drops Spain.")
    view = make_overview(replace(NOTHING, promotions=(frozen,), frozen=frozen), SETTINGS, NOW)
    freeze = tile(view, "Automatic promotion")
    assert (freeze.state, freeze.answer) == ("look", "off")
    for part in ("Version 3 ", "by otto", "It drops Spain.", "churn unfreeze"):
        assert part in freeze.detail


def test_the_offered_rollback_is_the_one_that_the_pipeline_would_do() -> None:
    """A version that was rolled back is not offered again."""
    rows = (
        change(1, kind="rollback", sequence=3, previous=2),
        change(2, sequence=2, previous=1),
        change(1, sequence=1, previous=None),
    )
    back = make_overview(replace(NOTHING, promotions=rows), SETTINGS, NOW)
    assert [action.dag for action in back.actions] == ["churn_retraining"]
    ahead = make_overview(replace(NOTHING, promotions=rows[1:]), SETTINGS, NOW)
    assert [action.values for action in ahead.actions] == [{}, {"version": 1}]


def test_times_in_production_follow_each_other(ledger: Ledger) -> None:
    """Each starts when the previous one ends; only the current one has no end."""
    reigns = load_overview(ledger, SETTINGS, NOW).reigns
    assert reigns[0].until is None
    assert [reign.until for reign in reigns[1:]] == [reign.since for reign in reigns[:-1]]
    assert {reign.kind for reign in reigns} == {"promotion", "rollback", "forced", "take_back", "adopted"}


# --- A run


def test_a_run_lists_its_rules_failures_first_and_marks_the_one_that_decided(ledger: Ledger) -> None:
    """Every rule of the decision is listed, with its sentence."""
    name = night_name(ledger)
    record, view = ledger.decision(name), load_night(ledger, SETTINGS, name)
    assert record is not None
    assert view is not None
    assert view.headline.startswith("Hold: version 40 ")
    assert "champion 36" in view.headline
    assert {rule.name for rule in view.rules} == {rule["name"] for rule in record.rules}
    passed = [rule.passed for rule in view.rules]
    assert passed == sorted(passed)
    assert [rule.name for rule in view.rules if rule.decides] == ["no_slice_harmed"]
    page = Page(render_night(view, SITE))
    assert [rule["sentence"] for rule in record.rules if rule["sentence"] not in page.text] == []


def test_differences_are_drawn_with_zero_and_their_margin(ledger: Ledger) -> None:
    """The margin is that of the policy that decided; a metric without a rule has none."""
    view = load_night(ledger, SETTINGS, night_name(ledger))
    assert view is not None
    assert {line.metric: line.margin for line in view.metrics} == {
        "roc_auc": -0.01,
        "pr_auc": None,
        "brier": 0.002,
        "log_loss": None,
    }
    svg = charts.draw_differences("x", "x", [line for line in view.metrics if line.metric == "roc_auc"])
    assert svg.count('class="zero"') == svg.count('class="margin"') == 1


def test_slices_are_sorted_and_small_ones_are_marked(ledger: Ledger) -> None:
    """The worst first, those too small to test last; each with its number of customers."""
    view = load_night(ledger, SETTINGS, night_name(ledger))
    assert view is not None
    tested = [line.delta.value for line in view.slices if line.p is not None and line.delta]
    assert tested == sorted(tested)
    assert [line.p is None for line in view.slices] == [False] * (len(view.slices) - 1) + [True]
    svg = charts.draw_slices(view.slices, view.harm)
    assert svg.count("too few customers") == 1
    assert f"(n = {view.slices[0].rows:,})" in svg


def test_only_what_differs_between_the_versions_is_listed(ledger: Ledger) -> None:
    """Parameters, data and code; what is the same is left out."""
    view = load_night(ledger, SETTINGS, night_name(ledger, 1))
    assert view is not None
    assert {(change.kind, change.name) for change in view.changes} == {
        ("parameter", "kind"),
        ("data", "snapshot"),
        ("data", "training customers"),
        ("data", "batches"),
        ("code", "version and commit"),
    }
    assert view.gaps == []


def test_the_error_budget_belongs_to_the_champion(ledger: Ledger) -> None:
    """It counts the looks at this champion up to this run, each at the policy's level."""
    view = load_night(ledger, SETTINGS, night_name(ledger))
    assert view is not None
    assert view.budget is not None
    assert view.budget.looks == 4
    assert view.budget.spent == pytest.approx(4 * 0.10 / 90 * 0.9)


def test_a_run_without_evidence_explains_its_gaps(ledger: Ledger, tmp_path: Path) -> None:
    """A refusal, an older run and an unreadable policy leave explained gaps, never empty charts."""
    record = ledger.decision(night_name(ledger))
    assert record is not None
    bare_ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    snapshot = ledger.snapshot(record.snapshot)
    assert snapshot is not None
    bare_ledger.add_snapshot(snapshot)
    case = {
        **record.comparison["case"],
        "refusal": {"code": "SCORES_INVALID", "sentence": "version 40 gives every customer the same score."},
    }
    empty = {"rows": 0, "events": 0, "challenger": {}, "champion": {}, "deltas": {}}
    bare = replace(record, comparison={"case": case, "evidence": empty}, curves=None, watch=[], policy="no: policy")
    bare_ledger.add_decision(bare)
    view = load_night(bare_ledger, SETTINGS, record.night)
    assert view is not None
    assert view.gaps[0].endswith("version 40 gives every customer the same score.")
    assert view.unrecorded
    assert len(view.gaps) == 2
    html = render_night(view, SITE)
    assert "<svg" not in html
    assert view.gaps[0] in Page(html).text


def test_two_runs_are_shown_side_by_side(ledger: Ledger) -> None:
    """With the verdicts, customers and failed rules of both."""
    left, right = (load_night(ledger, SETTINGS, night_name(ledger, back)) for back in (4, 0))
    assert left is not None
    assert right is not None
    text = " ".join(Page(render_compared_runs(ComparedRuns(left, right), SITE)).text.split())
    assert "SUPERIOR" in text
    assert "no_slice_harmed" in text
    assert left.unseen in text


# --- Data and images


def test_arrived_is_accepted_plus_quarantined_and_new_rules_are_marked(ledger: Ledger) -> None:
    """A rule that no earlier batch had broken is new; in the first batch no rule is, because there is nothing to compare with."""
    view = load_data(ledger)
    assert all(line.arrived == (line.accepted or 0) + (line.set_aside or 0) for line in view.lines)
    assert {reason.new for line in view.lines for reason in line.reasons if reason.rule == "Age.range"} == {False}
    rows = ledger.newest_batches(3)
    fresh = replace(rows[0], rules=[["Tenure.range", 7, [2]], ["Age.range", 1, [3]]])
    reasons = make_data([fresh, *rows[1:]], {}, 3, 0).lines[0].reasons
    assert [(reason.rule, reason.rows, reason.new) for reason in reasons] == [
        ("Tenure.range", 7, True),
        ("Age.range", 1, False),
    ]
    assert not any(reason.new for reason in make_data([fresh], {}, 1, 0).lines[0].reasons)


def test_drift_has_one_verdict_and_a_named_reference(ledger: Ledger) -> None:
    """The verdict is about the newest batch; the reference is named; a cell that was not measured has no colour."""
    view = load_data(ledger).heat
    assert view is not None
    assert "night-40.csv" in view.verdict
    assert "50,000" in view.reference
    rows: list[Batch] = ledger.newest_batches(2)
    drift = Drift("Age", 0.3, 0.2, "kolmogorov_smirnov", 0.1, True, [], 900)
    heat = make_heat(
        rows, {rows[0].batch: [drift], rows[1].batch: [replace(drift, column="Tenure", psi=0.05, drifted=False)]}
    )
    assert heat is not None
    assert "1 of 1 columns: Age (0.30, bound 0.20)" in heat.verdict
    assert heat.values == [[None, 0.3], [0.05, None]]
    svg = charts.draw_drift(heat, charts.order_drift(heat))
    assert [svg.count(f'class="cell {look}"') for look in ("absent", "drifted", "steady", "near")] == [1, 1, 1, 0]
    assert make_heat(rows, {}) is None


def test_a_batch_shows_where_it_came_from_and_where_it_went(ledger: Ledger) -> None:
    """First arrival, first and newest snapshot that contain it, and the command that exports its quarantined rows."""
    view = load_batch(ledger, SETTINGS, batch_hash(10))
    assert view is not None
    assert view.seen[0].name == "night-10.csv"
    assert view.first is not None
    assert view.last is not None
    assert view.first.made_at < view.last.made_at
    assert view.commands[0] == f"churn quarantine export {batch_hash(10)[:12]} -o rows.csv"
    assert load_batch(ledger, SETTINGS, "0" * 64) is None


def test_no_customer_data_is_shown(ledger: Ledger) -> None:
    """Neither the lines of a file nor the values that broke a rule, only counts."""
    shown = json.dumps(asdict(load_data(ledger)), default=str)
    assert "[2, 3]" not in shown
    assert set(asdict(load_data(ledger).lines[0].reasons[0])) == {"rule", "rows", "share", "new"}


def test_an_image_is_shown_with_its_times_in_production(ledger: Ledger) -> None:
    """With its size, build time and verified rows."""
    view = load_images(ledger, SETTINGS)
    by_version = {line.version: line for line in view.lines}
    assert by_version[36].in_production[0].until is None
    assert len(by_version[16].in_production) == 2
    assert (by_version[36].probes, by_version[36].size, by_version[36].build_seconds) == (500, 710_000_000, 0.6)


@pytest.mark.parametrize(
    ("asked", "answer", "dry_run", "expected"),
    [
        (False, None, False, ("good", "promoted (SUPERIOR)")),
        (True, None, False, ("look", "waiting for approval")),
        (True, "rejected", False, ("good", "not promoted, rejected")),
        (True, "expired", False, ("good", "not promoted, no answer")),
        (True, "approved", False, ("good", "promoted (SUPERIOR), approved")),
        (True, None, True, ("good", "promote (SUPERIOR), dry run")),
    ],
)
def test_a_verdict_is_not_a_promotion(
    ledger: Ledger, asked: bool, answer: str | None, dry_run: bool, expected: tuple[str, str]
) -> None:
    """A version that waits for approval, was rejected or was only tried is not shown as promoted."""
    row = next(night for night in ledger.night_rows("churn", 9) if night.verdict == "promote")
    promotion = change(row.challenger, night=row.night)
    carried_out = (promotion,) if expected[1].startswith("promoted") else ()
    facts = replace(
        NOTHING, nights=(replace(row, asked=asked, answer=answer, dry_run=dry_run),), promotions=carried_out
    )
    last_run = tile(make_overview(facts, SETTINGS.model_copy(update={"schedule": None}), NOW), "Last run")
    assert (last_run.state, last_run.answer) == expected


def test_the_schedule_has_a_time_zone_of_its_own() -> None:
    """Times in the ledger are UTC; the schedule's may be another."""
    zurich = Settings(schedule="0 2 * * *", timezone="Europe/Zurich")
    assert next(due_nights(zurich, datetime(2026, 6, 1, 12, tzinfo=UTC))) == datetime(2026, 6, 1, 0, tzinfo=UTC)


def test_a_run_whose_batch_was_rejected_is_not_good(ledger: Ledger) -> None:
    """It has no decision: the previous verdict is not shown as its own, and its drift was not measured."""
    rejected, row = ledger.newest_batches(1)[0], ledger.night_rows("churn", 1)[0]
    assert rejected.state == "rejected"
    later = replace(rejected, night="run 41", judged_at=row.decided_at + timedelta(hours=2))
    view = make_overview(
        replace(NOTHING, nights=(row,), batches=(later,)), SETTINGS.model_copy(update={"schedule": None}), NOW
    )
    assert (tile(view, "Last run").state, tile(view, "Last run").answer) == ("look", "no verdict")
    assert "run 41" in tile(view, "Last run").detail
    assert "night-40.csv is rejected" in tile(view, "Last run").detail
    assert tile(view, "Intake").state == "bad"
    assert (tile(view, "Drift").state, "rejected" in tile(view, "Drift").detail) == ("not monitored", True)
    heat = make_heat([later, *ledger.newest_batches(3)[1:]], ledger.drifts_of([batch_hash(39)]))
    assert heat is not None
    assert heat.verdict.index("night-40.csv") < heat.verdict.index("not measured") < heat.verdict.index("night-39.csv")
