"""A decision can be made again, and what was changed since is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from churn.decision.replay import replay
from churn.errors import ChurnError
from churn.foundation.parts import remove_table
from churn.foundation.paths import decision_rows
from churn.foundation.records import DecisionRecord
from churn.pipeline.workspace import Workspace
from support.basics import TWO_KINDS, run_night
from support.evidence_cases import TEXT
from support.stored_parts import change_part, part_file

Change = Callable[[pa.Table], pa.Table]


def last(workspace: Workspace) -> DecisionRecord:
    return workspace.ledger.decisions(limit=1)[0]


def put(table: pa.Table, column: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, pa.array(values))


def swapped(table: pa.Table) -> pa.Table:
    mine, theirs = table["challenger"].to_numpy(), table["champion"].to_numpy()
    return put(put(table, "challenger", theirs), "champion", mine)


def with_a_gap(table: pa.Table) -> pa.Table:
    scores = table["champion"].to_numpy().copy()
    scores[3] = float("nan")
    return put(table, "champion", scores)


def nudged(table: pa.Table) -> pa.Table:
    scores = table["challenger"].to_numpy().copy()
    scores[3] += 1e-9
    return put(table, "challenger", scores)


def relabelled(table: pa.Table) -> pa.Table:
    labels = table["label"].to_numpy().copy()
    labels[3] = 1 - labels[3]
    return put(table, "label", labels)


def test_every_decision_comes_out_the_same(two_champions: Workspace) -> None:
    """Promoted, held and refused ones: the same verdict, reasons and numbers within 1e-9."""
    settings = two_champions.settings.model_copy(update={"candidates": TWO_KINDS})
    workspace = replace(two_champions, settings=settings)
    run_night(workspace, "night 3", retrain=True)
    run_night(workspace, "night 4", retrain=True, force_reason="a test", requested_by="Ann")
    decisions = workspace.ledger.decisions()
    assert [entry.code for entry in decisions] == ["FORCED", "IDENTICAL_SCORES", "SUPERIOR", "NO_CHAMPION"]
    for record in decisions:
        again = replay(record, workspace.storage)
        assert again.faults == []
        assert (again.decision.verdict, again.decision.code) == (record.verdict, record.code)
        assert again.decision.rules_as_dicts() == record.rules


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swapped, "SWAPPED: challenger and champion"),
        (with_a_gap, "ROWS: the champion's scores are missing"),
        (nudged, "CHALLENGER: the challenger's scores"),
        (relabelled, "LABELS: the labels"),
    ],
)
def test_changed_rows_are_named(two_champions: Workspace, change: Change, said: str) -> None:
    """Two models swapped, a row missing in one, one score nudged, one label turned: each with its own words."""
    workspace = two_champions
    record = last(workspace)
    change_part(workspace.storage, decision_rows(record.digests["evidence"]), change)
    assert any(fault.startswith(said) for fault in replay(record, workspace.storage).faults)


def test_a_row_less_is_named(two_champions: Workspace) -> None:
    """All columns one customer shorter: the customers are not those that decided."""
    workspace = two_champions
    record = last(workspace)
    change_part(
        workspace.storage,
        decision_rows(record.digests["evidence"]),
        lambda table: table.filter(pc.not_equal(table["customer"], table["customer"][5])),
    )
    assert any(fault.startswith("CUSTOMERS") for fault in replay(record, workspace.storage).faults)


def test_a_changed_policy_or_case_is_named(two_champions: Workspace) -> None:
    """What the ledger says of policy, versions or history is not what decided."""
    workspace = two_champions
    record = last(workspace)
    policy = record.policy.replace("error_budget: 0.10", "error_budget: 0.50")
    assert replay(replace(record, policy=policy), workspace.storage).faults[0].startswith("POLICY")
    case = {**record.comparison["case"], "champion": 7}
    moved = replace(record, comparison={**record.comparison, "case": case})
    assert any(fault.startswith("CASE") for fault in replay(moved, workspace.storage).faults)
    for change in (
        {"sentence": "fine"},
        {"challenger": 1},
        {"dry_run": True},
        {"requested_by": "Eve"},
        {"rules": [record.rules[0] | {"value": 9.7}, *record.rules[1:]]},
        {"watch": [record.watch[0] | {"passed": False}, *record.watch[1:]]},
    ):
        assert replay(replace(record, **change), workspace.storage).faults[0].startswith("RECORD"), change
    verdict = replace(record, verdict="hold", code="TOO_FRESH")
    assert any(fault.startswith("VERDICT") for fault in replay(verdict, workspace.storage).faults)


def test_another_policy_is_asked_of_the_same_evidence(two_champions: Workspace) -> None:
    """What it would have said, and no fault of the decision."""
    workspace = two_champions
    strict = TEXT.replace("roc_auc: 0.70", "roc_auc: 0.95").replace("error_budget: 0.10", "error_budget: 0.0000000001")
    again = replay(last(workspace), workspace.storage, strict)
    assert (again.decision.verdict, again.decision.code, again.faults) == ("hold", "BELOW_FLOOR", [])


def test_missing_rows_are_one_clear_error(two_champions: Workspace) -> None:
    """Without its rows a decision cannot be replayed."""
    workspace = two_champions
    record = last(workspace)
    folder = decision_rows(record.digests["evidence"])
    part_file(workspace.storage, folder).unlink()
    with pytest.raises(ChurnError, match=f"are damaged: {folder}/part-0000.parquet is missing"):
        replay(record, workspace.storage)
    remove_table(workspace.storage, folder)
    with pytest.raises(ChurnError, match="are missing"):
        replay(record, workspace.storage)
