"""Versions score what arrives before they can learn from it; later rows confirm or refute promotions, and lists are looked back upon."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from churn.alerts.events import find_events
from churn.cli import main
from churn.cli.outcomes import outcomes
from churn.contracts.bank import BANK_CHURN
from churn.foundation.parts import WrittenPart, store_parts
from churn.foundation.paths import accepted, arrival_scores, list_rows
from churn.foundation.records import ScoreList
from churn.learning.snapshot import take_snapshot
from churn.outcomes import looks
from churn.outcomes.arrivals import living_versions, score_arrivals
from churn.outcomes.audit import find_outcome_faults
from churn.outcomes.confirmation import LaterRows
from churn.outcomes.health import measure_health, measure_shadow
from churn.outcomes.later import Pair, read_later_rows
from churn.outcomes.list_results import GroupCount, describe_effect, measure_lists
from churn.outcomes.looks import look_at_promotion, replay_look
from churn.outcomes.retention import expendable_outcomes
from churn.outcomes.states import State
from churn.outcomes.treated import read_treated
from churn.pipeline import steps
from churn.pipeline.audit import audit_data
from churn.pipeline.observing import observe, refuted_promotion, score_first
from churn.pipeline.workspace import Request, Workspace
from churn.review.outcomes import load_outcomes
from churn.review.pages import render_outcomes
from churn.sample.generator import Night, make_night
from churn.scoring.list_parts import list_schema
from support.basics import clone_workspace, export, land_text, run_script
from support.review_ledger import SITE
from support.score_lists import published

NEW = 7_000_000
"""The first customer of a file of new ones."""


@pytest.fixture
def bench(second_champion: Workspace, tmp_path: Path) -> Workspace:
    return clone_workspace(second_champion, tmp_path)


def arrive(workspace: Workspace, name: str, first: int, rows: int = 1500, seed: int = 5) -> str:
    """Let a file arrive and be accepted; returns its hash."""
    land_text(
        workspace, make_night(BANK_CHURN, Night(rows, first_customer=first, seed=seed, older_share=0.4)), f"{name}.csv"
    )
    (batch,) = steps.arrive(workspace, Request(name)).batches
    steps.validate(workspace, Request(name), batch.batch)
    return batch.batch


def arrive_again(workspace: Workspace, name: str, batch: str, rows: int, left: int = 0) -> str:
    """Let accepted rows arrive once more, with another balance; some customers who had stayed have left meanwhile."""
    names = [part for part in workspace.storage.names(accepted(batch)) if part.endswith(".parquet")]
    again = pd.concat(workspace.storage.read_table(part).to_pandas() for part in names).head(rows)
    again["Balance"] = again["Balance"] + 1
    again.loc[again.index[again["Exited"] == 0][:left], "Exited"] = 1
    land_text(workspace, again[list(BANK_CHURN.names)].to_csv(index=False), f"{name}.csv")
    (arrived,) = steps.arrive(workspace, Request(name)).batches
    steps.validate(workspace, Request(name), arrived.batch)
    return arrived.batch


def later(workspace: Workspace, first: int = 2, second: int = 1) -> LaterRows:
    change = workspace.ledger.in_production(workspace.settings.model_name)
    assert change is not None
    now = take_snapshot(workspace.storage, workspace.ledger, workspace.contract, workspace.sampling)
    return read_later_rows(workspace, Pair(first, second, change.promoted_at), now)


def listing(workspace: Workspace, groups: dict[int, str], days_ago: float = 1.0, share: float = 0.05) -> ScoreList:
    """A list that was published before, with these customers in its groups."""
    name = f"{len(workspace.ledger.score_lists()) + 1:064x}"
    count = len(groups)
    ranks = np.arange(1, count + 1)
    columns = {
        "CustomerId": list(groups), "probability": 1 / (1 + ranks), "rank": ranks, "percentile": ranks % 100 + 1,
        "decile": -(-ranks * 10 // count), "expected_value": 1.0 * ranks, "group": list(groups.values()),
        "reason_1": [None] * count, "reason_2": [None] * count, "reason_3": [None] * count, "trained_on": [False] * count,
        "list_id": [name] * count, "first_list": [None if group == "rest" else name for group in groups.values()],
    }  # fmt: skip
    file = Path(workspace.settings.data_root).parent / f"{name}.parquet"
    pq.write_table(pa.table(columns).cast(list_schema(BANK_CHURN)), file)
    manifest = store_parts(workspace.storage, list_rows(name), [WrittenPart.of(file)])
    row = published(name, "retention", days_ago, 0, datetime.now(UTC))
    policy = json.loads(row.policy)
    policy["control"]["share"] = share
    members = list(groups.values())
    return workspace.ledger.publish_list(
        replace(
            row, model=workspace.settings.model_name, rows=count, arrived_rows=count, manifest=manifest.digest,
            contact=members.count("contact"), control=members.count("control"), policy=json.dumps(policy),
        )
    )  # fmt: skip


def keys_of(workspace: Workspace, batch: str) -> list[int]:
    names = [name for name in workspace.storage.names(accepted(batch)) if name.endswith(".parquet")]
    return [
        key for name in names for key in workspace.storage.read_table(name, ["CustomerId"])["CustomerId"].to_pylist()
    ]


def test_living_versions_score_a_batch_once_before_it_is_trained_on(bench: Workspace) -> None:
    """Champion, version before and baseline; the scores are those of the versions, keyed, and without a key or a value."""
    assert living_versions(bench.ledger, bench.settings.model_name, 3) == {2: "champion", 1: "previous"}
    batch = arrive(bench, "later", NEW)
    (scores,) = score_arrivals(bench, "later")
    assert {version: about["state"] for version, about in scores.versions.items()} == {"1": "scored", "2": "scored"}
    assert score_arrivals(bench, "again") == []
    assert bench.ledger.arrival_scores_of(bench.settings.model_name, batch) == scores
    folder = arrival_scores(batch, bench.settings.model_name)
    table = pa.concat_tables(
        bench.storage.read_table(name) for name in bench.storage.names(folder) if name.endswith(".parquet")
    )
    assert table.num_rows == scores.rows == bench.ledger.batch(batch).accepted_rows  # type: ignore[union-attr]
    assert set(table.column_names) == {"_customer", "_bucket", "_as_of", "_label", "_batch", "version_1", "version_2"}
    assert not set(table["_customer"].to_pylist()) & set(keys_of(bench, batch))
    assert audit_data(bench, hashes=True) == []


def test_a_version_that_was_deleted_in_mlflow_does_not_stop_the_others(bench: Workspace) -> None:
    """It is recorded as one that cannot score, with the reason, and a run goes on."""
    bench.tracking.client.delete_model_version(bench.settings.model_name, "1")
    arrive(bench, "later", NEW, rows=300)
    (scores,) = score_arrivals(bench, "later")
    assert scores.versions["2"]["state"] == "scored"
    assert scores.versions["1"]["state"] == "unscorable"
    assert "no longer exists" in scores.versions["1"]["detail"]


def test_only_rows_that_neither_version_knew_compare_them(bench: Workspace) -> None:
    """Customers who had arrived before, further rows of a customer, and withdrawn batches do not count."""
    first = arrive(bench, "new", NEW)
    known = arrive_again(bench, "known", bench.ledger.batches()[0].batch, 1500)
    score_first(bench, "a")
    rows = later(bench)
    assert len(rows.labels) == 1500
    assert rows.excluded == {"earlier": 1500}
    assert rows.labels.sum() == bench.ledger.batch(first).events  # type: ignore[union-attr]
    repeated = arrive_again(bench, "repeated", first, 400)
    score_first(bench, "b")
    assert later(bench).excluded == {"earlier": 1500, "repeated": 400}
    for batch in (repeated, known, first):
        bench.ledger.withdraw(batch, "withdrawn", "wrong")
    assert len(later(bench).labels) == 0


def test_the_label_of_a_disputed_batch_does_not_count(bench: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = arrive(bench, "disputed", NEW)
    score_first(bench, "a")
    monkeypatch.setattr("churn.outcomes.later.disputed_batches", lambda *_: {batch})
    assert len(later(bench).labels) == 0


def test_contacted_customers_are_left_out_and_control_customers_stand_for_them(bench: Workspace) -> None:
    """By their own list; without a control group the figure says that it is affected."""
    batch = arrive(bench, "new", NEW)
    keys = keys_of(bench, batch)
    listing(bench, dict.fromkeys(keys[:95], "contact") | dict.fromkeys(keys[95:100], "control") | {keys[100]: "rest"})
    score_first(bench, "a")
    assert read_treated(bench).num_rows == 100
    rows = later(bench)
    assert (len(rows.labels), rows.excluded, rows.contacted) == (1405, {"contacted": 95}, False)
    assert sorted(set(rows.weights)) == [1.0, 20.0]
    assert (rows.weights == 20).sum() == 5
    assert rows.weights.sum() == pytest.approx(1500)
    listing(bench, dict.fromkeys(keys[200:300], "contact"), share=0.0)
    only_contact = later(bench)
    assert only_contact.excluded == {"contacted": 195}
    listing(bench, {keys[400]: "contact"}, days_ago=200)  # its horizon had passed before the row arrived
    assert later(bench).excluded == {"contacted": 195}


def test_a_control_group_is_one_before_its_rows_count(bench: Workspace) -> None:
    known = bench.ledger.batches()[0].batch
    batch = arrive(bench, "new", NEW, rows=300)
    arrive_again(bench, "known", known, 300)
    score_first(bench, "a")
    left_alone = dict.fromkeys(keys_of(bench, known)[:50], "control")
    listing(bench, dict.fromkeys(keys_of(bench, batch)[:95], "contact") | left_alone)
    rows = later(bench)
    assert rows.excluded["contacted"] == 95
    assert set(rows.weights) == {1.0}
    assert rows.contacted is False


def test_a_promotion_is_looked_at_once_in_a_run(bench: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is unconfirmed, with what its evidence promised and the champion's health; the page shows it, and so does JSON."""
    arrive(bench, "new", NEW, rows=3000)
    score_first(bench, "a")
    now = take_snapshot(bench.storage, bench.ledger, bench.contract, bench.sampling)
    look, results = observe(bench, "a", now)
    assert look is not None
    assert results == []
    assert (look.rows, look.figures["version"], look.figures["before"]) == (3000, 2, 1)
    assert look.state in ("unconfirmed", "confirmed")
    assert look.figures["health"]["roc_auc"]["lower"] > 0.6
    assert set(look.figures["promised"]) == {"roc_auc", "brier"}
    assert look_at_promotion(bench, "a", now) == look
    assert len(bench.ledger.looks_since(bench.settings.model_name, look.sequence)) == 1
    view = load_outcomes(bench.ledger, bench.settings, datetime.now(UTC))
    assert view.promotions[0].rows == 3000
    assert view.promotions[0].gains[0].promised is not None
    assert (view.health is not None and view.health.rows) == 3000
    page = render_outcomes(view, SITE)
    assert "ROC AUC" in page
    assert str(NEW)[:4] not in page
    export(bench.settings, monkeypatch)
    shown = CliRunner().invoke(main.app, ["outcomes"])
    assert shown.exit_code == 0, shown.output
    assert "later rows say" in shown.output
    said = json.loads(CliRunner().invoke(main.app, ["outcomes", "--json"]).stdout)
    assert said["promotions"][0]["rows"] == 3000


def test_a_refuted_promotion_is_reported_and_stays_so(bench: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """One alert with the figures and the next step; the rows are kept, so that the outcome replays; later looks change nothing."""
    random = np.random.default_rng(1)
    labels = (random.random(20_000) < 0.2).astype(np.int64)
    worse = np.clip(0.2 + 0.3 * random.normal(size=20_000), 0.01, 0.99)
    better = np.where(labels == 1, 0.5, 0.15)
    rows = LaterRows(np.arange(20_000, dtype=np.uint64), labels, worse, better, np.ones(20_000))
    monkeypatch.setattr(looks, "read_later_rows", lambda *_: rows)
    now = take_snapshot(bench.storage, bench.ledger, bench.contract, bench.sampling)
    look = look_at_promotion(bench, "a", now)
    assert look is not None
    assert look.state == State.REFUTED
    assert replay_look(bench.storage, look)
    assert not replay_look(bench.storage, replace(look, state="confirmed"))
    change = refuted_promotion(bench)
    assert change is not None
    assert change.version == 2
    (alert,) = [
        event
        for event in find_events(bench.ledger, bench.settings, datetime.now(UTC))
        if event.kind == "promotion_refuted"
    ]
    assert "version 2 does worse than version 1" in alert.text
    assert "churn rollback" in alert.text
    monkeypatch.setattr(looks, "read_later_rows", lambda *_: replace(rows, first=better, second=worse))
    again = look_at_promotion(bench, "b", now)
    assert again is not None
    assert (again.state, again.evidence, again.rows) == (look.state, look.evidence, look.rows)
    assert again.figures["measures"] == look.figures["measures"]
    assert find_outcome_faults(bench.storage, bench.ledger, bench.settings.model_name, hashes=True) == []
    name = f"outcomes/looks/{look.evidence}/part-0000.parquet"
    bench.storage.remove(name)
    assert any("part-0000.parquet is missing" in fault for fault in audit_data(bench))


def test_old_outcomes_are_deleted_and_those_of_the_promotion_in_force_kept(bench: Workspace) -> None:
    for number in range(3):
        arrive(bench, f"n{number}", NEW + number * 10_000, rows=120, seed=20 + number)
        score_first(bench, f"n{number}")
    model = bench.settings.model_name
    assert expendable_outcomes(bench.storage, bench.ledger, model, 1) == []
    change = bench.ledger.in_production(model)
    assert change is not None
    with bench.ledger._transaction() as connection:
        at = str(change.promoted_at - timedelta(days=1))
        connection.exec_driver_sql("UPDATE batches SET arrived_at = ? WHERE name IN ('n0.csv', 'n1.csv')", (at,))
    assert len(expendable_outcomes(bench.storage, bench.ledger, model, 1)) == 2


def test_lists_are_measured_as_labels_come_in(bench: Workspace) -> None:
    """Deciles, lift and the effect of being listed; later labels make a new revision, and nothing is overwritten."""
    keys = list(range(NEW, NEW + 1500))
    listing(
        bench,
        {
            key: ("control" if place % 4 == 0 else "contact") if place < 600 else "rest"
            for place, key in enumerate(keys)
        },
        share=0.25,
    )
    now = take_snapshot(bench.storage, bench.ledger, bench.contract, bench.sampling)
    assert measure_lists(bench, "before", now) == []
    batch = arrive(bench, "labels", NEW, rows=1500)
    now = take_snapshot(bench.storage, bench.ledger, bench.contract, bench.sampling)
    (result,) = measure_lists(bench, "a", now)
    assert (result.revision, result.rows) == (1, 1500)
    effect = result.figures["effect"]
    assert (effect["contact"]["customers"], effect["control"]["customers"]) == (450, 150)
    assert effect["lower"] < effect["kept_share"] < effect["upper"]
    assert len(result.figures["deciles"]) == 10
    assert all(group["lower"] <= group["realised"] <= group["upper"] for group in result.figures["deciles"])
    assert measure_lists(bench, "b", now) == []
    arrive_again(bench, "corrected", batch, 1500, left=30)
    now = take_snapshot(bench.storage, bench.ledger, bench.contract, bench.sampling)
    (second,) = measure_lists(bench, "c", now)
    assert (second.revision, second.events) == (2, result.events + 30)
    assert [row.revision for row in bench.ledger.revisions_of(result.list_id)] == [1, 2]
    (shown,) = load_outcomes(bench.ledger, bench.settings, datetime.now(UTC)).lists
    assert (shown.revision, shown.known, shown.contact, shown.control) == (2, 1500, 450, 150)


def test_the_effect_of_being_listed_is_only_told_where_it_can_be() -> None:
    """Too few, no difference, and a clear one, with the value that was gained."""
    row = published("a" * 64, "retention", 1, 1, datetime.now(UTC))
    few = describe_effect(GroupCount(500, 50), GroupCount(20, 10), row)
    assert (few["tells"], "kept_share" in few) == (False, False)
    none = describe_effect(GroupCount(900, 180), GroupCount(100, 20), row)
    assert none["tells"] is False
    assert none["lower"] < 0 < none["upper"]
    clear = describe_effect(GroupCount(9000, 900), GroupCount(1000, 300), row)
    assert clear["tells"] is True
    assert clear["kept_share"] == pytest.approx(0.2)
    assert clear["value"]["kept_share"] == pytest.approx(0.2 * 9000 * 1000 - 9000 * 10)


def test_health_and_shadows_say_how_many_rows_are_missing() -> None:
    empty = LaterRows(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0))
    assert measure_health(empty)["missing"] == {"rows": 200, "events": 30}
    assert measure_shadow(4, empty, 3)["missing"] == {"rows": 200, "events": 30}
    random = np.random.default_rng(3)
    truth = random.random(3000)
    labels = (random.random(3000) < truth).astype(np.int64)
    rows = LaterRows(np.arange(3000, dtype=np.uint64), labels, truth, random.random(3000), np.ones(3000))
    found = measure_health(rows)
    assert found["roc_auc"]["lower"] < 5 / 6 < found["roc_auc"]["upper"]
    assert found["observed_expected"]["lower"] < 1 < found["observed_expected"]["upper"]
    assert sum(group["rows"] for group in found["calibration"]) == 3000
    assert measure_shadow(4, rows, 3)["better"] is True
    one, three = (measure_shadow(4, rows, number)["roc_auc"] for number in (1, 3))
    assert three["upper"] - three["lower"] > one["upper"] - one["lower"]


def test_a_run_scores_looks_and_trains(bench: Workspace) -> None:
    """The steps of a run: what arrived is scored before it is trained on, and the promotion in force is looked at."""
    batch = arrive(bench, "night 3", NEW, rows=3000)
    steps.train(bench, Request("night 3"))
    model = bench.settings.model_name
    assert bench.ledger.arrival_scores_of(model, batch) is not None
    change = bench.ledger.in_production(model)
    assert change is not None
    look = bench.ledger.last_look(model, change.sequence)
    assert look is not None
    assert (look.night, look.rows) == ("night 3", 3000)
    steps.train(bench, Request("night 3"))
    assert len(bench.ledger.looks_since(model, change.sequence)) == 1
    assert outcomes.__doc__
    assert pd.Timestamp(look.looked_at) >= pd.Timestamp(change.promoted_at)


def test_killed_after_any_write_the_next_run_comes_to_the_same(bench: Workspace, tmp_path: Path) -> None:
    """SIGKILL after each write to data root and ledger: each batch is scored once, and there is one look and one result of the list."""
    keys = range(NEW, NEW + 900)
    listing(bench, {key: ("control" if key % 4 == 0 else "contact") if key % 3 else "rest" for key in keys}, share=0.25)
    arrive(bench, "labels", NEW, rows=900)
    folder = tmp_path / "runs"
    folder.mkdir()
    outcome = run_script("crash_outcomes.py", folder, bench.settings.mlflow_tracking_uri, tmp_path)
    calm = outcome["calm"]
    assert (len(calm["scored"]), len(calm["lists"]), calm["same"], calm["faults"]) == (2, 1, True, [])
    effects = " ".join(outcome["effects"])
    for part in (
        "arrivals/MODEL/ID/manifest",
        "add_arrival_scores",
        "add_snapshot",
        "looks/ID",
        "add_look",
        "add_list_result",
    ):
        assert part in effects, outcome["effects"]
    assert len(outcome["killed"]) >= 6
    for run in outcome["killed"]:
        assert (run["killed"], run["again"]) == (-9, 0), run["after"]
        assert json.dumps(run["state"]["lists"]) == json.dumps(calm["lists"])
        assert run["state"] == calm, run["after"]
