"""A list is summarised in counts and sums; its quality is estimated from calibrated scores, without a label."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from churn.scoring.ranking import rank_customers
from churn.scoring.scored_rows import Scored
from churn.scoring.summary import distribution_of, estimate_quality, summarise


def test_the_estimate_is_what_labels_drawn_from_the_scores_give() -> None:
    """With as many ties as real scores have: the mean over draws of labels, within four standard errors."""
    random = np.random.default_rng(3)
    scores = np.round(random.beta(1, 4, 3000), 2)
    drawn = [(random.random(len(scores)) < scores).astype(int) for _ in range(60)]
    aucs = [roc_auc_score(labels, scores) for labels in drawn]
    briers = [brier_score_loss(labels, scores) for labels in drawn]
    estimated = estimate_quality(scores)
    for values, estimate in ((aucs, estimated["roc_auc"]), (briers, estimated["brier"])):
        assert estimate == pytest.approx(np.mean(values), abs=4 * np.std(values) / np.sqrt(len(values)) + 1e-4)


def test_the_estimate_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(5).integers(0, 7, 1000) / 7
    whole = estimate_quality(scores)
    monkeypatch.setattr("churn.scoring.summary._BLOCK", 3)
    assert estimate_quality(scores) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize(("scores", "auc"), [([0.0, 1.0], 1.0), ([0.5, 0.5], 0.5), ([0.0, 0.0], None), ([1.0], None)])
def test_the_estimate_at_the_edges(scores: list[float], auc: float | None) -> None:
    assert estimate_quality(np.array(scores))["roc_auc"] == auc


def test_the_distribution_counts_every_customer() -> None:
    assert distribution_of(np.array([0.0, 0.049, 0.05, 0.5, 1.0])) == [2, 1, *[0] * 8, 1, *[0] * 8, 1]


def test_a_summary_is_plain_json_with_the_sums_of_the_ranking() -> None:
    probability = np.linspace(0.99, 0.01, 100)
    ranking = rank_customers(probability * 100 - 20, probability, np.ones(100, bool), 10)
    summary = summarise(
        Scored(probability, 100.0, (100,)), ranking, 10, 3, 7, {"in another process": 0.0}, {"drifted": []}
    )
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["listed"], summary["excluded"], summary["checked"]) == (10, 3, 7)
    assert summary["expected_value"] == summary["by_probability"] == pytest.approx((probability[:10] * 100 - 20).sum())
    assert summary["deciles"] == sorted(summary["deciles"], reverse=True)
    assert sum(summary["distribution"]) == 100
