"""The review's views: what is said of the ledger's rows, what is drawn, and that no text of anybody's can harm a page."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from test_card import Page

from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.records import Batch, Drift, ImageRecord, Promotion
from churn.foundation.schedule import due_nights
from churn.review import charts
from churn.review.data import load_batch, load_data, make_data, make_heat
from churn.review.images import load_images
from churn.review.nights import Comparing, load_night
from churn.review.overview import Overview, load_overview, make_overview
from churn.review.pages import (
    render_comparing,
    render_night,
)
from churn.review.tiles import Tile
from churn.settings import Settings
from support.review_ledger import NIGHTLY, NOTHING, NOW, SETTINGS, SITE, batch_hash, forty_nights, night_name


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return forty_nights(tmp_path_factory.mktemp("review"))


def change(version: int | None = 3, days: int = 4, **changes: object) -> Promotion:
    made = Promotion(
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
    return replace(made, **changes)


def image(state: str = "published", version: int = 3) -> ImageRecord:
    return ImageRecord(
        "churn", version, state, "churn:3", "sha256:abc", 500, 0.0, "detail", NOW, digest="sha256:0123456789abcdef"
    )


def tile(view: Overview, name: str) -> Tile:
    return next(one for one in view.tiles if one.name == name)


# --- The overview


def test_the_sentence_says_who_since_when_and_by_which_rule() -> None:
    """Version, since, rule, night, image and digest; by whom and why where it was forced."""
    view = make_overview(replace(NOTHING, promotions=(change(),), image=image()), SETTINGS, NOW)
    assert view.headline == "Version 3 is in production since 2026-05-28 09:00 UTC."
    assert (
        view.detail
        == "It was promoted by airflow (SUPERIOR) in night night 3, 4 days ago. Its image: published, sha256:0123456789ab."
    )
    forced = change(kind="forced", code="FORCED", actor="vera", reason="The board wants it.")
    view = make_overview(replace(NOTHING, promotions=(forced,)), SETTINGS, NOW)
    assert "promoted by force by vera (FORCED)" in view.detail
    assert view.detail.endswith("The board wants it.")


def test_nothing_in_production_is_no_version() -> None:
    """Before the first promotion, and after the only champion was taken back."""
    assert make_overview(NOTHING, SETTINGS, NOW).headline == "Nothing is in production yet."
    taken = change(None, kind="take_back", previous=1, actor="", reason="Not the model.")
    view = make_overview(replace(NOTHING, promotions=(taken,)), SETTINGS, NOW)
    assert view.headline.startswith("Nothing is in production since")
    assert view.detail == "Version 1 was taken back by the pipeline: Not the model."


def test_what_was_not_looked_at_is_not_good(ledger: Ledger) -> None:
    """Of an empty ledger no tile but the freeze is good; a champion that was never scored again is not well."""
    view = make_overview(NOTHING, SETTINGS, NOW)
    assert {one.state for one in view.tiles if one.name != "Automatic promotion"} == {"not monitored"}
    assert view.first_steps
    last = ledger.last_decision()
    young = make_overview(replace(NOTHING, promotions=(change(99),), last=last), SETTINGS, NOW)
    assert tile(young, "Champion's health").state == "not monitored"
    scored = make_overview(
        replace(NOTHING, promotions=(change(last.champion if last else 0),), last=last), SETTINGS, NOW
    )
    assert tile(scored, "Champion's health").state == "good"


def test_a_missing_night_is_told_from_a_healthy_one(ledger: Ledger) -> None:
    """By the schedule; a night that is still in the making is not missing; without a schedule none is."""
    rows = tuple(replace(one, verdict="hold", code="INFERIOR") for one in ledger.night_rows("churn", 3))
    facts = replace(NOTHING, nights=rows)
    assert tile(make_overview(facts, NIGHTLY, NOW), "Last night").state == "good"
    assert tile(make_overview(facts, NIGHTLY, NOW + timedelta(hours=22)), "Last night").state == "good"
    late = tile(make_overview(facts, NIGHTLY, NOW + timedelta(days=1)), "Last night")
    assert (late.state, late.answer) == ("look", "no verdict")
    assert "2026-06-02 02:00" in late.detail
    unplanned = SETTINGS.model_copy(update={"schedule": None})
    assert list(due_nights(unplanned, NOW)) == []
    assert tile(make_overview(facts, unplanned, NOW + timedelta(days=9)), "Last night").state == "good"


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
    """Every state of the ledger has a judgement, and no image is no good image."""
    facts = replace(NOTHING, promotions=(change(),))
    assert tile(make_overview(replace(facts, image=image(state)), SETTINGS, NOW), "Image").state == expected
    assert tile(make_overview(facts, SETTINGS, NOW), "Image").state == "look"


def test_a_freeze_says_why_and_how_it_ends() -> None:
    """Who rolled what back, and the command."""
    frozen = change(2, kind="rollback", previous=3, actor="otto", reason="It drops Spain.")
    view = make_overview(replace(NOTHING, promotions=(frozen,), frozen=frozen), SETTINGS, NOW)
    found = tile(view, "Automatic promotion")
    assert (found.state, found.answer) == ("look", "off")
    assert "Version 3 was rolled back by otto: It drops Spain." in found.detail
    assert "churn unfreeze" in found.detail


def test_the_way_back_is_offered_as_the_pipeline_would_go_it() -> None:
    """After a rollback the version that was rolled back is not offered again."""
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
    """Each begins where the one before ends; only the present one has no end."""
    found = load_overview(ledger, SETTINGS, NOW).reigns
    assert found[0].until is None
    assert [one.until for one in found[1:]] == [one.since for one in found[:-1]]
    assert {one.kind for one in found} == {"promotion", "rollback", "forced", "take_back", "adopted"}


# --- A night


def test_a_night_says_its_rules_failures_first_and_what_decides(ledger: Ledger) -> None:
    """Every rule of the decision is there, with value, bound and words."""
    name = night_name(ledger)
    record, view = ledger.decision(name), load_night(ledger, SETTINGS, name)
    assert record is not None
    assert view is not None
    assert view.headline == "Hold: champion 36 stays, version 40 does not replace it."
    assert {rule.name for rule in view.rules} == {rule["name"] for rule in record.rules}
    passed = [rule.passed for rule in view.rules]
    assert passed == sorted(passed)
    assert [rule.name for rule in view.rules if rule.decides] == ["no_slice_harmed"]
    page = Page(render_night(view, SITE))
    assert [rule["sentence"] for rule in record.rules if rule["sentence"] not in page.text] == []


def test_differences_stand_against_zero_and_their_margin(ledger: Ledger) -> None:
    """The policy that decided gives the margin; a metric without a rule has none."""
    view = load_night(ledger, SETTINGS, night_name(ledger))
    assert view is not None
    assert {one.metric: one.margin for one in view.metrics} == {
        "roc_auc": -0.01,
        "pr_auc": None,
        "brier": 0.002,
        "log_loss": None,
    }
    svg = charts.draw_differences("x", "x", [one for one in view.metrics if one.metric == "roc_auc"])
    assert svg.count('class="zero"') == svg.count('class="margin"') == 1


def test_groups_are_sorted_and_small_ones_said_to_be(ledger: Ledger) -> None:
    """The worst first, those that could not be tested last, with n and in words."""
    view = load_night(ledger, SETTINGS, night_name(ledger))
    assert view is not None
    tested = [one.delta.value for one in view.slices if one.p is not None and one.delta]
    assert tested == sorted(tested)
    assert [one.p is None for one in view.slices] == [False] * (len(view.slices) - 1) + [True]
    svg = charts.draw_slices(view.slices, view.harm)
    assert svg.count("too few customers") == 1
    assert f"(n = {view.slices[0].rows:,})" in svg


def test_only_what_differs_between_the_versions_is_listed(ledger: Ledger) -> None:
    """Parameters, data and code; what is the same is left out, and what was never recorded is said."""
    view = load_night(ledger, SETTINGS, night_name(ledger, 1))
    assert view is not None
    assert {(one.kind, one.name) for one in view.changes} == {
        ("parameter", "kind"),
        ("data", "snapshot"),
        ("data", "training customers"),
        ("data", "batches"),
        ("code", "version and commit"),
    }
    assert view.gaps == []


def test_the_error_budget_is_that_of_the_champion(ledger: Ledger) -> None:
    """Looks at this champion up to this night, at the policy's level each."""
    view = load_night(ledger, SETTINGS, night_name(ledger))
    assert view is not None
    assert view.budget is not None
    assert view.budget.looks == 4
    assert view.budget.spent == pytest.approx(4 * 0.10 / 90 * 0.9)


def test_a_night_without_evidence_says_so(ledger: Ledger, tmp_path: Path) -> None:
    """A refusal, an older night and a policy that cannot be read leave gaps in words, never empty charts."""
    known = ledger.decision(night_name(ledger))
    assert known is not None
    other = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    snapshot = ledger.snapshot(known.snapshot)
    assert snapshot is not None
    other.add_snapshot(snapshot)
    case = {
        **known.comparison["case"],
        "refusal": {"code": "SCORES_INVALID", "sentence": "version 40 gives every customer the same score."},
    }
    empty = {"rows": 0, "events": 0, "challenger": {}, "champion": {}, "deltas": {}}
    bare = replace(known, comparison={"case": case, "evidence": empty}, curves=None, watch=[], policy="no: policy")
    other.add_decision(bare)
    view = load_night(other, SETTINGS, known.night)
    assert view is not None
    assert view.gaps[0] == "Nothing was measured: version 40 gives every customer the same score."
    assert "was not recorded in full" in view.gaps[1]
    html = render_night(view, SITE)
    assert "<svg" not in html
    assert view.gaps[0] in Page(html).text


def test_two_nights_stand_side_by_side(ledger: Ledger) -> None:
    """Verdicts, metrics and failed rules of both."""
    left, right = (load_night(ledger, SETTINGS, night_name(ledger, back)) for back in (4, 0))
    assert left is not None
    assert right is not None
    text = " ".join(Page(render_comparing(Comparing(left, right), SITE)).text.split())
    assert "SUPERIOR" in text
    assert "no_slice_harmed" in text
    assert left.unseen in text


# --- Data and images


def test_arrived_is_accepted_and_set_aside_and_new_rules_are_marked(ledger: Ledger) -> None:
    """A rule that none of the batches before had broken is new, and only there; the first batch has nothing to be new against."""
    view = load_data(ledger)
    assert all(one.arrived == (one.accepted or 0) + (one.set_aside or 0) for one in view.lines)
    assert {reason.new for one in view.lines for reason in one.reasons if reason.rule == "Age.range"} == {False}
    rows = ledger.newest_batches(3)
    fresh = replace(rows[0], rules=[["Tenure.range", 7, [2]], ["Age.range", 1, [3]]])
    anew = make_data([fresh, *rows[1:]], {}, 3, 0).lines[0].reasons
    assert [(one.rule, one.rows, one.new) for one in anew] == [("Tenure.range", 7, True), ("Age.range", 1, False)]
    assert not any(one.new for one in make_data([fresh], {}, 1, 0).lines[0].reasons)


def test_drift_has_one_verdict_and_a_named_reference(ledger: Ledger) -> None:
    """The verdict is the newest batch's; the reference is said; what was not measured is no cell of a colour."""
    view = load_data(ledger).heat
    assert view is not None
    assert view.verdict.startswith("The newest batch, night-40.csv, has")
    assert "50,000 for the newest" in view.reference
    rows: list[Batch] = ledger.newest_batches(2)
    one = Drift("Age", 0.3, 0.2, "kolmogorov_smirnov", 0.1, True, [], 900)
    heat = make_heat(
        rows, {rows[0].batch: [one], rows[1].batch: [replace(one, column="Tenure", psi=0.05, drifted=False)]}
    )
    assert heat is not None
    assert heat.verdict == "The newest batch, night-40.csv, has drifted in 1 of 1 columns: Age (0.30, bound 0.20)."
    assert heat.values == [[None, 0.3], [0.05, None]]
    svg = charts.draw_drift(heat)
    assert [svg.count(f'class="cell {look}"') for look in ("absent", "drifted", "steady", "near")] == [1, 1, 1, 0]
    assert make_heat(rows, {}) is None


def test_a_batch_says_where_it_came_from_and_where_it_went(ledger: Ledger) -> None:
    """First arrival, first and newest snapshot that hold it, and the command that exports its rows."""
    view = load_batch(ledger, SETTINGS, batch_hash(10))
    assert view is not None
    assert view.seen[0].name == "night-10.csv"
    assert view.first is not None
    assert view.last is not None
    assert view.first.made_at < view.last.made_at
    assert view.commands[0] == f"churn quarantine export {batch_hash(10)[:12]} -o rows.csv"
    assert load_batch(ledger, SETTINGS, "0" * 64) is None


def test_nothing_of_a_customer_is_shown(ledger: Ledger) -> None:
    """Neither the lines of a file nor the values that broke a rule: counts only."""
    found = json.dumps(asdict(load_data(ledger)), default=str)
    assert "[2, 3]" not in found
    assert set(asdict(load_data(ledger).lines[0].reasons[0])) == {"rule", "rows", "share", "new"}


def test_an_image_is_shown_with_its_times_in_production(ledger: Ledger) -> None:
    """Digest, size, seconds, rows asked; from and to."""
    view = load_images(ledger, SETTINGS)
    by_version = {one.version: one for one in view.lines}
    assert by_version[36].in_production[0].until is None
    assert len(by_version[16].in_production) == 2
    assert (by_version[36].probes, by_version[36].size, by_version[36].build_seconds) == (500, 710_000_000, 0.6)


@pytest.mark.parametrize(
    ("asked", "answer", "dry_run", "said"),
    [
        (False, None, False, ("good", "promoted (SUPERIOR)")),
        (True, None, False, ("look", "waits for a person")),
        (True, "rejected", False, ("good", "not promoted, rejected")),
        (True, "approved", False, ("good", "promoted (SUPERIOR), approved")),
        (True, None, True, ("good", "promote (SUPERIOR), dry run")),
    ],
)
def test_a_verdict_is_no_promotion(
    ledger: Ledger, asked: bool, answer: str | None, dry_run: bool, said: tuple[str, str]
) -> None:
    """What waits, was rejected or was only tried is not said to be promoted."""
    row = next(one for one in ledger.night_rows("churn", 9) if one.verdict == "promote")
    made = change(row.challenger, night=row.night)
    carried_out = (made,) if said[1].startswith("promoted") else ()
    facts = replace(
        NOTHING, nights=(replace(row, asked=asked, answer=answer, dry_run=dry_run),), promotions=carried_out
    )
    found = tile(make_overview(facts, SETTINGS.model_copy(update={"schedule": None}), NOW), "Last night")
    assert (found.state, found.answer) == said


def test_a_time_zone_is_minded() -> None:
    """The schedule's, not the ledger's."""
    zurich = Settings(schedule="0 2 * * *", timezone="Europe/Zurich")
    assert next(due_nights(zurich, datetime(2026, 6, 1, 12, tzinfo=UTC))) == datetime(2026, 6, 1, 0, tzinfo=UTC)


def test_a_night_whose_batch_was_rejected_is_no_healthy_one(ledger: Ledger) -> None:
    """It has decided nothing: the verdict before it is not said to be last night's, and its drift was not looked at."""
    rejected, row = ledger.newest_batches(1)[0], ledger.night_rows("churn", 1)[0]
    assert rejected.state == "rejected"
    later = replace(rejected, night="the next one", judged_at=row.decided_at + timedelta(hours=2))
    view = make_overview(
        replace(NOTHING, nights=(row,), batches=(later,)), SETTINGS.model_copy(update={"schedule": None}), NOW
    )
    assert (tile(view, "Last night").state, tile(view, "Last night").answer) == ("look", "no verdict")
    assert "Night the next one has decided nothing; night-40.csv is rejected." in tile(view, "Last night").detail
    assert tile(view, "Intake").state == "bad"
    assert tile(view, "Drift").detail == "The newest batch was rejected before it was measured."
    heat = make_heat([later, *ledger.newest_batches(3)[1:]], ledger.drifts_of([batch_hash(39)]))
    assert heat is not None
    assert heat.verdict.startswith("night-40.csv was not measured; the newest that was, night-39.csv, has")
