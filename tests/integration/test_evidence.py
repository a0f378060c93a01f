"""What counts as evidence, and what is refused, each with its own reason; against a real MLflow server."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn.contract import Column, Contract, Kind, Role
from churn.contracts.bank import BANK_CHURN
from churn.decision import evidence, scoring
from churn.decision.evidence import choose_window
from churn.decision.evidence_file import read_evidence
from churn.decision.policy_file import Enough
from churn.decision.replay import replay
from churn.decision.scoring import Unscorable, open_scorer
from churn.errors import ChurnError
from churn.foundation import columnar
from churn.foundation.artifacts import downloaded
from churn.foundation.examples import example_rows, model_input
from churn.foundation.parts import remove_table
from churn.foundation.paths import snapshot_rows
from churn.foundation.records import DecisionRecord
from churn.learning.registered_model import inputs_of
from churn.learning.snapshot import BUCKET, TRAINING, scan_counted, take_snapshot
from churn.learning.training import Challenger
from churn.learning.unseen import holdout_pieces
from churn.outcomes import treated as treatments_of_customers
from churn.outcomes.treated import SCHEMA
from churn.pipeline import answers, deciding, steps
from churn.pipeline.workspace import Request, Workspace
from churn.review.measures import describe_customers
from churn.sample.generator import Night, make_night
from churn.settings import VAR
from support.basics import TWO_KINDS, land_night, land_text, run_night
from support.stored_parts import change_part, change_part_and_manifest, part_file


def decision_of(workspace: Workspace, name: str) -> DecisionRecord:
    record = workspace.ledger.decision(name)
    assert record is not None
    return record


def under(workspace: Workspace, contract: Contract) -> Workspace:
    """The same place under another contract."""
    return Workspace(workspace.settings.model_copy(update={"contract": contract}), workspace.storage, workspace.ledger)


def changed(**columns: Column | None) -> Contract:
    """The bank's contract with columns replaced, added, or taken out."""
    kept = [columns.get(column.name, column) for column in BANK_CHURN.columns]
    added = [column for name, column in columns.items() if column and name not in BANK_CHURN.names]
    left = tuple(column for column in [*kept[:-1], *added, kept[-1]] if column)
    names = {column.name for column in left}
    return replace(BANK_CHURN, columns=left, slices=tuple(by for by in BANK_CHURN.slices if by.column in names))


def test_a_customer_that_a_training_saw_is_found_in_the_recorded_snapshot(two_nights: Workspace) -> None:
    """One customer of the holdout among the rows that the champion was trained on: refused, with the number."""
    workspace = two_nights
    known = workspace.ledger.version(workspace.settings.model_name, 1)
    assert known is not None
    folder = snapshot_rows(known.snapshot)
    unseen = pq.read_table(part_file(workspace.storage, folder, 0)).slice(0, 1)
    moved = unseen.set_column(unseen.column_names.index(BUCKET), BUCKET, pa.array([50], pa.int32()))
    change_part_and_manifest(workspace.storage, folder, lambda rows: pa.concat_tables([rows, moved]), 10)
    assert run_night(workspace, "night 2") == "hold HOLDOUT_CONTAMINATED"
    assert "version 1 was trained on 1 of the customers" in decision_of(workspace, "night 2").sentence.lower()


def test_what_a_version_was_trained_on_must_be_there(two_nights: Workspace) -> None:
    """Without the recorded rows nobody can say what was seen: refused, and the sentence says how to mend it."""
    workspace = two_nights
    known = workspace.ledger.version(workspace.settings.model_name, 1)
    assert known is not None
    remove_table(workspace.storage, snapshot_rows(known.snapshot))
    assert run_night(workspace, "night 2") == "hold HOLDOUT_CONTAMINATED"
    assert f"churn snapshot rebuild {known.snapshot[:12]}" in decision_of(workspace, "night 2").sentence


def test_what_a_version_was_trained_on_must_not_be_damaged(two_nights: Workspace) -> None:
    """One changed part of the recorded rows: refused, because nobody can say what was seen."""
    workspace = two_nights
    known = workspace.ledger.version(workspace.settings.model_name, 1)
    assert known is not None
    change_part(workspace.storage, snapshot_rows(known.snapshot), lambda rows: rows.slice(1), 12)
    assert run_night(workspace, "night 2") == "hold HOLDOUT_CONTAMINATED"
    assert f"churn snapshot rebuild {known.snapshot[:12]}" in decision_of(workspace, "night 2").sentence


def test_neither_itself_nor_a_stranger_is_evidence(two_champions: Workspace) -> None:
    """A champion compared with itself, and a version that no night has trained."""
    workspace, model = two_champions, two_champions.settings.model_name
    snapshot = workspace.ledger.snapshots()[0].snapshot
    itself = steps.compare(workspace, Request("night 3"), Challenger(2, "run", "average", snapshot))
    assert (itself.code, "compared with itself" in itself.sentence) == ("INPUT_MISMATCH", True)
    source = workspace.tracking.version(1).source
    stranger = workspace.tracking.client.create_model_version(model, source, model_id=source.removeprefix("models:/"))
    unknown = steps.compare(
        workspace, Request("night 4"), Challenger(int(stranger.version), "run", "average", snapshot)
    )
    assert (unknown.code, "has no version" in unknown.sentence) == ("INPUT_MISMATCH", True)


def test_a_champion_from_before_hashes_were_kept_still_counts(two_nights: Workspace) -> None:
    """A ledger of an earlier version knows its champion from a decision only: recorded as it is now, and compared."""
    workspace, model = two_nights, two_nights.settings.model_name
    with workspace.ledger._transaction() as connection:
        connection.exec_driver_sql("DELETE FROM versions")
        connection.exec_driver_sql("UPDATE decisions SET digests = '{}'")
    assert run_night(workspace, "night 2") == "promote SUPERIOR"
    known = workspace.ledger.version(model, 1)
    assert known is not None
    assert known.night == "night 1"


def test_adding_a_feature_does_not_end_promotion(two_nights: Workspace) -> None:
    """Earlier rows count without it, the champion is scored without it, and a better challenger is promoted."""
    income = Column("Income", Kind.NUMBER, Role.FEATURE, 0, 1e6, nullable=True)
    workspace = under(two_nights, changed(Income=income))
    for file in workspace.storage.landed():
        workspace.storage.remove(f"landing/{file.name}")
    land_night(workspace, 2)
    assert run_night(workspace, "night 2") == "promote SUPERIOR"
    with downloaded(2, workspace.tracking) as files:
        assert "Income" in inputs_of(files)


def test_a_feature_that_earlier_rows_cannot_lack_says_what_to_do(two_nights: Workspace) -> None:
    """Not nullable, it would leave every earlier row out: an error that names the cure, not a silent loss."""
    workspace = under(two_nights, changed(Income=Column("Income", Kind.NUMBER, Role.FEATURE, 0, 1e6)))
    with pytest.raises(ChurnError, match="nullable"):
        steps.train(workspace, Request("night 2", retrain=True))


def test_a_new_country_and_a_wider_range_do_not_end_promotion(two_nights: Workspace) -> None:
    """The champion's own contract allows neither, and it scores these customers all the same: beneath its checks."""
    wider = replace(BANK_CHURN["Geography"], categories=("France", "Germany", "Spain", "Italy"))
    richer = replace(BANK_CHURN["CreditScore"], maximum=1000)
    workspace = under(two_nights, changed(Geography=wider, CreditScore=richer))
    file = workspace.storage.landed()[0].name
    with workspace.storage.reading(f"landing/{file}") as stream:
        lines = stream.read().decode().splitlines(keepends=True)
    workspace.storage.remove(f"landing/{file}")
    italians = [line.replace("Spain", "Italy") if at % 2 else line for at, line in enumerate(lines)]
    column = lines[0].split(",").index("CreditScore")
    for at in range(1, len(italians), 9):
        cells = italians[at].split(",")
        italians[at] = ",".join([*cells[:column], "990", *cells[column + 1 :]])
    land_text(workspace, "".join(italians), "night-2.csv")
    assert run_night(workspace, "night 2") == "promote SUPERIOR"
    slices = decision_of(workspace, "night 2").comparison["slices"]
    assert {"Italy"} <= {entry["name"] for entry in slices if entry["rows"] > 50}


def test_a_champion_scores_with_a_column_that_is_no_feature_any_more(two_nights: Workspace) -> None:
    """Still in the file, only not shown to new models: the champion gets what it was made for."""
    carried = replace(BANK_CHURN["Tenure"], role=Role.CARRIED)
    assert run_night(under(two_nights, changed(Tenure=carried)), "night 2") == "promote SUPERIOR"


def test_a_champion_that_lacks_its_column_waits_for_a_forced_promotion(two_nights: Workspace) -> None:
    """The column is gone from the files: unscorable, held for good, until a person forces; then nights decide again."""
    workspace = under(two_nights, changed(Balance=None))
    for file in workspace.storage.landed():
        workspace.storage.remove(f"landing/{file.name}")
    land_night(workspace, 2)
    assert run_night(workspace, "night 2") == "hold CHAMPION_UNSCORABLE"
    assert run_night(workspace, "night 3", retrain=True, force_reason="the column is gone") == "promote FORCED"
    row = workspace.ledger.in_production(workspace.settings.model_name)
    assert row is not None
    assert (row.version, row.anchor) == (3, 3)
    assert run_night(workspace, "night 4", retrain=True) == "hold IDENTICAL_SCORES"


def test_a_champion_that_cannot_be_opened_in_any_way_is_unscorable(
    two_nights: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever error its files raise: the run is decided, and the next one, too."""
    honest = evidence.open_scorer

    def broken(version: int, *arguments: Any) -> Any:
        if version == 1:
            raise KeyError("python")
        return honest(version, *arguments)

    monkeypatch.setattr(evidence, "open_scorer", broken)
    assert run_night(two_nights, "night 2") == "hold CHAMPION_UNSCORABLE"
    assert "(KeyError)" in decision_of(two_nights, "night 2").sentence


def test_a_champion_of_other_library_versions_is_scored_in_its_own_environment(
    two_champions: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Served from the lock that its training kept, it gives the same scores; without a lock it is unscorable."""
    workspace = two_champions
    rows = model_input(workspace.contract, example_rows(workspace.contract, 50))
    rows.loc[0, "Geography"] = "Italy"  # a wider contract than that of the version: neither way checks
    with open_scorer(1, workspace.ledger, workspace.tracking, VAR / "serving") as here:
        expected = here(rows)
    honest = scoring.installed
    monkeypatch.setattr(scoring, "installed", lambda name: "0.1" if name == "scikit-learn" else honest(name))
    with open_scorer(1, workspace.ledger, workspace.tracking, VAR / "serving") as there:
        assert np.abs(there(rows) - expected).max() <= 1e-12
    monkeypatch.setattr(scoring, "kept_lock", lambda *_: None)
    with (
        pytest.raises(Unscorable, match="no lock file was stored"),
        open_scorer(1, workspace.ledger, workspace.tracking, VAR / "serving"),
    ):
        pass


def test_known_customers_with_turned_labels_are_disputed_and_stay_so(two_champions: Workspace) -> None:
    """Poison past the intake's limits: no champion comes of it, tonight or later, until a person says what is true."""
    settings = two_champions.settings.model_copy(update={"max_disputed_share": 1.0, "candidates": TWO_KINDS})
    workspace = Workspace(settings, two_champions.storage, two_champions.ledger)
    known = [
        make_night(BANK_CHURN, Night(5000, number * 100_000, number, share)) for number, share in ((1, 0.01), (2, 0.6))
    ]
    rows = pd.concat([pd.read_csv(io.StringIO(text)) for text in known]).sample(5000, random_state=1)
    land_text(workspace, rows.assign(Exited=1 - rows["Exited"]).to_csv(index=False), "poison.csv")
    assert run_night(workspace, "night 3") == "hold BATCH_DISPUTED"
    (poison,) = workspace.ledger.batches(night="night 3")
    assert poison.batch[:12] in decision_of(workspace, "night 3").sentence
    assert run_night(workspace, "night 4", retrain=True) == "hold BATCH_DISPUTED"
    workspace.ledger.withdraw(poison.batch, "withdrawn", "labels turned")
    assert run_night(workspace, "night 5", retrain=True) == "hold IDENTICAL_SCORES"


def test_a_person_may_say_that_a_disputed_batch_is_right(two_champions: Workspace) -> None:
    """The world has changed: approved, the challenger goes into production, with who said so."""
    workspace = two_champions
    turned = Night(5000, 900_000, 9, 0.3, turned_round=True)
    land_text(workspace, make_night(BANK_CHURN, turned), "turned.csv")
    assert run_night(workspace, "night 3") == "hold BATCH_DISPUTED"
    answers.answer(workspace, "night 3", "approved", "Ann", "a new tariff")
    assert steps.promote(workspace, "night 3") == 3
    row = workspace.ledger.in_production(workspace.settings.model_name)
    assert row is not None
    assert (row.version, row.actor, row.code) == (3, "Ann", "BATCH_DISPUTED")


DAY = int(timedelta(days=1).total_seconds() * 1e6)


def test_the_newest_days_count_and_more_only_where_they_are_not_enough() -> None:
    """Inside the window if that is enough; else back to just as many as are needed, whole moments at a time."""
    start = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1e6)
    arrived = start + np.repeat(np.arange(100), 10) * DAY
    labels = np.tile([1, 0], 500)
    window, used = choose_window(arrived, labels, Enough(min_rows=50, min_each_class=20), 30)
    assert (int(used.sum()), window.widened) == (310, False)
    window, used = choose_window(arrived, labels, Enough(min_rows=500, min_each_class=20), 30)
    assert (int(used.sum()), window.widened) == (500, True)
    window, used = choose_window(arrived, labels, Enough(min_rows=2000, min_each_class=20), 30)
    assert (int(used.sum()), window.since) == (1000, datetime(2026, 1, 1, tzinfo=UTC))


def test_the_whole_holdout_is_shown_beside_the_newest(two_champions: Workspace) -> None:
    """Old customers do not decide: the window is the newest days, and the rest is only shown."""
    workspace = two_champions
    old = datetime(2020, 1, 1, tzinfo=UTC)
    with workspace.ledger._transaction() as connection:
        connection.exec_driver_sql("UPDATE batches SET arrived_at = ? WHERE name = 'night-1.csv'", (str(old),))
    land_night(workspace, 3)
    run_night(workspace, "night 3")
    comparison = decision_of(workspace, "night 3").comparison
    assert comparison["whole"]["rows"] > comparison["evidence"]["rows"] > 1000
    assert comparison["case"]["window"]["widened"] is False


def treat(workspace: Workspace, contacted: int, control: int, weight: float) -> pa.Table:
    """A list that contacted the first unseen customers today, and left the next ones alone."""
    snapshot = take_snapshot(workspace.storage, workspace.ledger, workspace.contract, workspace.sampling)
    pieces = holdout_pieces(workspace.storage, snapshot, workspace.contract, 10**6)
    customers = pd.concat(pieces)["_customer"].to_numpy()[: contacted + control]
    day = datetime.now(UTC).date()
    return pa.table(
        {
            "customer": pa.array(customers, pa.uint64()),
            "contacted": np.arange(contacted + control) < contacted,
            "since": [day - timedelta(1)] * len(customers),
            "until": [day + timedelta(1)] * len(customers),
            "weight": np.where(np.arange(contacted + control) < contacted, 0.0, weight),
        }
    ).cast(SCHEMA)


def test_customers_whom_a_list_had_contacted_do_not_count(
    two_nights: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are left out, a control group counts for them, and the decision says so and replays."""
    workspace = two_nights
    treated = treat(workspace, contacted=120, control=30, weight=5.0)
    challenger = steps.train(workspace, Request("night 2", retrain=True))
    before = steps.compare(workspace, Request("night 2"), challenger)
    monkeypatch.setattr(deciding, "read_treated", lambda _: treated)
    again = steps.compare(workspace, Request("night 3"), challenger)
    assert again.comparison["case"]["contact"] == {"left_out": 120, "control": 30}
    assert before.comparison["case"]["contact"] == {"left_out": 0, "control": 0}
    evidence, _ = read_evidence(again.digests["evidence"], workspace.storage)
    assert evidence.weights is not None
    assert sorted(set(evidence.weights)) == [0, 1, 5]
    assert evidence.used.sum() == again.comparison["evidence"]["rows"] == before.comparison["evidence"]["rows"] - 120
    brier = np.average(
        (evidence.challenger - evidence.labels)[evidence.used] ** 2, weights=evidence.weights[evidence.used]
    )
    assert again.comparison["evidence"]["challenger"]["brier"]["value"] == pytest.approx(brier, abs=1e-12)
    assert "120 customers whom a list had contacted are left out; 30 customers of control groups" in describe_customers(
        again.comparison
    )
    assert replay(again, workspace.storage).same
    monkeypatch.setattr(deciding, "read_treated", lambda _: treated.slice(0, 120))
    alone = steps.compare(workspace, Request("night 4"), challenger)
    assert "the figures are affected by contact" in describe_customers(alone.comparison)


def test_a_policy_may_leave_contacted_customers_out_of_the_training(
    two_nights: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By default they are trained on; either way the version says how many they are."""
    workspace, model = two_nights, two_nights.settings.model_name
    snapshot = take_snapshot(workspace.storage, workspace.ledger, workspace.contract, workspace.sampling)
    with workspace.storage.scratch() as folder, columnar.engine("500MB") as connection:
        scan_counted(connection, "rows", workspace.storage, snapshot, workspace.contract, TRAINING, folder)
        customers = connection.execute("SELECT _customer FROM rows WHERE _bucket >= 25 LIMIT 500").fetchnumpy()
    day = datetime.now(UTC).date()
    about = {"contacted": [True] * 500, "since": [day] * 500, "until": [day] * 500, "weight": [0.0] * 500}
    treated = pa.table({"customer": customers["_customer"], **about}).cast(SCHEMA)
    monkeypatch.setattr(treatments_of_customers, "read_treated", lambda _: treated)
    trained = steps.train(workspace, Request("night 2", retrain=True))
    policy = tmp_path / "policy.yaml"
    policy.write_text(workspace.settings.policy_file.read_text().replace("contacted: train", "contacted: leave_out"))
    strict = Workspace(
        workspace.settings.model_copy(update={"policy_file": policy}), workspace.storage, workspace.ledger
    )
    without = steps.train(strict, Request("night 3", retrain=True))
    records = [workspace.ledger.version(model, challenger.version) for challenger in (trained, without)]
    assert [(record.contacted_rows, record.contacted_trained) for record in records if record] == [
        (500, True),
        (500, False),
    ]
    rows = [int((record.parameters or {})["training_rows"]) for record in records if record]
    assert rows == [snapshot.training_rows, snapshot.training_rows - 500]
