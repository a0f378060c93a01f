"""Drift of customers and of scores, with the bound that chance alone may reach."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from churn.foundation.records import Snapshot
from churn.learning.snapshot import take_snapshot
from churn.pipeline.workspace import Workspace
from churn.scoring.drift import ListDrift, measure_scored_drift
from churn.scoring.population import accepted_customers
from churn.scoring.scoring_policy import ScoredDrift
from churn.scoring.summary import distribution_of
from support.basics import land_night, make_workspace
from support.score_lists import published

ALERT = ScoredDrift(psi=0.2, action="alert")


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Snapshot, tuple[Path, ...]]:
    """A workspace with one accepted night, its snapshot, and the customers of it who have not left."""
    from churn.pipeline import steps
    from churn.pipeline.workspace import Request

    folder = tmp_path_factory.mktemp("accepted")
    bench = make_workspace(folder, "http://127.0.0.1:9")
    land_night(bench, 1)
    request = Request("night")
    for batch in steps.arrive(bench, request).batches:
        steps.validate(bench, request, batch.batch)
    snapshot = take_snapshot(bench.storage, bench.ledger, bench.contract, bench.sampling)
    scratch = folder / "scratch"
    scratch.mkdir()
    return bench, snapshot, accepted_customers(bench, snapshot, scratch).files


def measured(
    accepted: tuple[Workspace, Snapshot, tuple[Path, ...]], before: np.ndarray | None, now: np.ndarray, **limits: object
) -> ListDrift:
    bench, snapshot, files = accepted
    row = None
    if before is not None:
        listed = published("a", "retention", 1, 1, datetime.now(UTC))
        row = replace(listed, rows=len(before), summary={"distribution": distribution_of(before)})
    return measure_scored_drift(bench, files, snapshot, now, ALERT.model_copy(update=limits), row)


def test_those_who_have_not_left_are_like_those_trained_on(
    accepted: tuple[Workspace, Snapshot, tuple[Path, ...]],
) -> None:
    """Every attribute that is no date is compared, and there is no earlier list."""
    drift = measured(accepted, None, np.full(10, 0.5))
    names = {column.column for column in drift.columns}
    assert names == {column.name for column in accepted[0].contract.attributes}
    assert (drift.scores, drift.bound, drift.refuses) == (None, None, False)
    assert "CreditScore" not in drift.drifted


def test_scores_that_moved_are_reported_and_refused_if_the_policy_says_so(
    accepted: tuple[Workspace, Snapshot, tuple[Path, ...]],
) -> None:
    random = np.random.default_rng(1)
    before, same, moved = random.beta(1, 5, 3000), random.beta(1, 5, 3000), random.beta(4, 2, 3000)
    assert "the scores" not in measured(accepted, before, same).drifted
    drift = measured(accepted, before, moved)
    assert "the scores" in drift.drifted
    assert "the scores" in drift.sentence
    assert not drift.refuses
    assert measured(accepted, before, moved, action="refuse").refuses


def test_few_customers_may_differ_by_chance(accepted: tuple[Workspace, Snapshot, tuple[Path, ...]]) -> None:
    """Thirty against thirty is no drift although the index is above the limit of the policy."""
    random = np.random.default_rng(2)
    drift = measured(accepted, random.beta(1, 2, 30), random.beta(1, 2, 30))
    assert drift.scores is not None
    assert drift.bound is not None
    assert drift.bound > 0.2
    assert drift.scores <= drift.bound
