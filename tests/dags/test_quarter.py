"""Thirteen weekly files through the DAGs, with the clock moved week by week: what is shown covers what is true. `make test-quarter`."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from churn.decision.replay import replay
from churn.foundation import columnar
from churn.foundation.records import Promotion
from churn.learning.snapshot import TRAINING, scan_counted
from churn.outcomes.arrivals import AS_OF as AS_OF_SCORED
from churn.outcomes.arrivals import BUCKET, CUSTOMER, score_column, scored_files
from churn.pipeline.audit import audit_data
from churn.pipeline.workspace import Workspace
from churn.review.outcomes import load_outcomes
from churn.scoring import second_scoring
from churn.scoring.published import read_rows
from support.basics import export, make_workspace
from support.clock import Clock
from support.dag_runs import run_dag, task_states
from support.score_lists import in_this_process
from support.weekly_bank import AS_OF, HORIZON, KEPT, KEY, TARGET, WEEKLY, WeeklyBank

WEEKS, CUSTOMERS, LATE, ARRIVES = 13, 4000, 2, 5
"""Weeks, customers, the week whose file of leavers arrives late, and the week in which it does."""


@pytest.fixture
def place(tmp_path: Path, mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace of the weekly bank, with lists of which a quarter is left alone."""
    folder = tmp_path / "quarter"
    folder.mkdir()
    policy = yaml.safe_load(Path("include/churn/scoring_policy.yaml").read_text())
    policy |= {"capacity": {"share": 0.3}, "control": {"share": 0.25}}
    (folder / "scoring.yaml").write_text(yaml.safe_dump(policy))
    changes = {
        "contract": WEEKLY,
        "scores_drop": str(folder / "drop"),
        "scoring_policy_file": folder / "scoring.yaml",
    }
    workspace = make_workspace(folder, mlflow_url, **changes)
    export(workspace.settings, monkeypatch)
    monkeypatch.setenv("CHURN_CONTRACT", "support.weekly_bank:WEEKLY")
    monkeypatch.setenv("CHURN_SCORES_DROP", changes["scores_drop"])  # type: ignore[arg-type]
    monkeypatch.setenv("CHURN_SCORING_POLICY_FILE", str(changes["scoring_policy_file"]))
    monkeypatch.setattr(second_scoring, "open_scorer", in_this_process)
    return workspace


def land(workspace: Workspace, name: str, text: str, moment: datetime) -> None:
    file = Path(workspace.settings.data_root) / "landing" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    os.utime(file, (moment.timestamp(), moment.timestamp()))


def contacted_by(workspace: Workspace, list_id: str) -> list[int]:
    row = next(row for row in workspace.ledger.score_lists() if row.list_id == list_id)
    rows = pa.concat_tables(read_rows(workspace.storage, row))
    return rows.filter(pa.compute.equal(rows["group"], "contact"))[KEY].to_pylist()  # type: ignore[no-any-return]


@pytest.mark.quarter
@pytest.mark.timeout(3600)
def test_thirteen_weeks_come_to_what_is_true(dag_bag: Any, place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """No leaver becomes a stayer, though a file of them is late; health and the effect of the lists cover the truth without contact."""
    bank, first = WeeklyBank(CUSTOMERS, seed=11), datetime.now(UTC).date() + timedelta(1)
    clock = Clock(monkeypatch, datetime.combine(first, time(12), UTC))
    ledger, model = place.ledger, place.settings.model_name
    waiting: dict[int, str] = {}
    for week in range(WEEKS):
        day = first + timedelta(7 * week)
        morning = datetime.combine(day + timedelta(1), time(3), UTC)
        clock.move_to(morning)
        land(place, f"rows-{week:02d}.csv", bank.send_rows(day), morning - timedelta(hours=2))
        if week - 1 in waiting and week - 1 != LATE:
            land(place, f"leavers-{week - 1:02d}.csv", waiting[week - 1], morning - timedelta(hours=1))
        if week == ARRIVES:
            land(place, f"leavers-{LATE:02d}.csv", waiting[LATE], morning - timedelta(minutes=30))
        run = run_dag(dag_bag, "churn_retraining")
        print(week, day, run.state, task_states(run))  # noqa: T201 -- it takes minutes
        assert run.state == "success"
        if ledger.in_production(model):
            assert run_dag(dag_bag, "churn_scoring").state == "success"
            newest = ledger.score_lists(model, limit=1)[0]
            bank.contact(contacted_by(place, newest.list_id), day + timedelta(1))
        waiting[week] = bank.live_a_week(day)
    _require_all_rows(place, bank)
    assert load_outcomes(ledger, place.settings, clock.now).lists
    _require_covered(place, bank)
    assert [
        replay(decision, place.storage).faults for decision in ledger.decisions(model=model) if decision.digests
    ] == [[]] * len(ledger.decisions(model=model))


def _require_all_rows(place: Workspace, bank: WeeklyBank) -> None:
    """Every row is accepted; those that count are those whose horizon has passed, with the labels that are true."""
    assert audit_data(place, hashes=True) == []
    assert sum(batch.quarantined_rows or 0 for batch in place.ledger.batches()) == 0
    snapshot = place.ledger.snapshots(limit=1)[0]
    with place.storage.scratch() as folder, columnar.engine("500MB") as connection:
        scan_counted(connection, "counted", place.storage, snapshot, WEEKLY, range(100), folder)
        counted = connection.sql(f'SELECT "{KEY}", "{AS_OF}", "{TARGET}" FROM counted').df()  # noqa: S608 -- our own names
    counted[AS_OF] = counted[AS_OF].dt.date
    true = bank.labels()
    together = counted.merge(true, on=[KEY, AS_OF])
    assert len(together) == len(counted)
    assert (together[TARGET] == together["label"]).all()
    assert sorted(set(counted[AS_OF])) == sorted(set(true[AS_OF]))[: WEEKS - HORIZON // 7]


def _require_covered(place: Workspace, bank: WeeklyBank) -> None:
    """The intervals of the champion's health, and of the effect of each list, have what is true."""
    ledger, model = place.ledger, place.settings.model_name
    change = ledger.in_production(model)
    assert change is not None
    look = ledger.last_look(model, change.sequence)
    assert look is not None
    health = look.figures["health"]
    print(change.version, look.state, health)  # noqa: T201
    chance = bank.labels().set_index([KEY, AS_OF])["_chance"]
    covered = []
    for name, result in ledger.list_results().items():
        effect = result.figures["effect"]
        if "kept_share" not in effect:
            continue
        row = next(row for row in ledger.score_lists() if row.list_id == name)
        rows = pa.concat_tables(read_rows(place.storage, row)).to_pandas()
        began = rows[(rows["first_list"] == name) & (rows["group"] == "contact")]
        true = KEPT * float(np.mean([chance[who, day] for who, day in zip(began[KEY], began[AS_OF], strict=True)]))
        print(name[:8], effect["lower"], true, effect["upper"])  # noqa: T201
        covered.append(effect["lower"] <= true <= effect["upper"])
    assert covered
    assert np.mean(covered) >= 0.75
    for name, true in _true_health(place, bank, change, look.looked_at.date()).items():
        print(name, health[name], true)  # noqa: T201
        assert health[name]["lower"] <= true <= health[name]["upper"]


def _true_health(place: Workspace, bank: WeeklyBank, change: Promotion, until: date) -> dict[str, float]:
    """What the champion's figures are without contact, on rows after its promotion of customers whom no training has."""
    by = score_column(change.version or 0)
    tables = map(place.storage.read_table, scored_files(place.storage, place.ledger.arrival_scores(change.model)))
    wanted = [CUSTOMER, BUCKET, AS_OF_SCORED, by]
    scored = pa.concat_tables(table.select(wanted) for table in tables if by in table.column_names).to_pandas()
    sent = bank.labels()
    with columnar.engine("500MB") as connection:
        sent[CUSTOMER] = columnar.hash_customers(connection, pa.array(sent[KEY]), place.sampling.salt)
    rows = scored.rename(columns={AS_OF_SCORED: AS_OF}).merge(sent, on=[CUSTOMER, AS_OF])
    after = (rows[AS_OF] > change.promoted_at.date()) & (rows[AS_OF] < until - timedelta(HORIZON))
    rows = rows[after & (rows[BUCKET] < TRAINING.start)]
    chance, score = rows["_chance"].to_numpy(), rows[by].to_numpy()
    both = np.r_[np.ones(len(rows)), np.zeros(len(rows))]
    return {
        "roc_auc": roc_auc_score(both, np.r_[score, score], sample_weight=np.r_[chance, 1 - chance]),
        "brier": float((chance * (1 - score) ** 2 + (1 - chance) * score**2).mean()),
        "observed_expected": float(chance.sum() / score.sum()),
    }
