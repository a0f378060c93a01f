"""A decision is a pure function of comparison and policy; every rule says its numbers."""

from dataclasses import replace

import numpy as np
import pytest

from churn.decision.comparison import Comparison, Refusal, Scored, compare
from churn.decision.inference import Estimate
from churn.decision.policy import PolicyInvalid, Verdict, decide, read_policy
from support import ROOT

TEXT = (ROOT / "include/churn/promotion_policy.yaml").read_text()
POLICY = read_policy(TEXT, "promotion_policy.yaml")


def draw(rows: int = 3000, quality: float = 1.3, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and calibrated scores made worse by noise."""
    rng = np.random.default_rng(seed)
    signal = quality * rng.normal(size=rows) - 1.5
    y = (rng.random(rows) < 1 / (1 + np.exp(-signal))).astype(int)
    return y, 1 / (1 + np.exp(-(signal + noise * np.random.default_rng(seed + 1).normal(size=rows))))


def comparison(
    champion_noise: float | None = None, rows: int = 3000, quality: float = 2.0, challenger_noise: float = 0.0
) -> Comparison:
    y, mine = draw(rows, quality, challenger_noise)
    theirs = None if champion_noise is None else draw(rows, quality, champion_noise)[1]
    return compare(Scored(y, mine, theirs), 2, None if theirs is None else 1, "snapshot")


def test_the_first_good_version_is_promoted() -> None:
    """Without a champion the floors decide."""
    decision = decide(comparison(), POLICY)
    assert (decision.verdict, decision.code) == (Verdict.PROMOTE, "NO_CHAMPION")


def test_a_first_version_below_the_floor_is_held() -> None:
    """A model that hardly knows anything does not become the first champion."""
    decision = decide(comparison(quality=0.2), POLICY)
    assert (decision.verdict, decision.code) == (Verdict.HOLD, "BELOW_FLOOR")


@pytest.mark.parametrize("champion_noise", [None, 0.5])
def test_too_small_a_holdout_is_held(champion_noise: float | None) -> None:
    """Neither a first nor a later version is promoted on a handful of customers."""
    assert decide(comparison(champion_noise, rows=400), POLICY).code == "HOLDOUT_TOO_SMALL"


def test_a_clearly_better_challenger_is_promoted() -> None:
    """Superiority on Brier beyond the night's share of the error budget, AUC not worse."""
    decision = decide(comparison(champion_noise=1.2), POLICY)
    assert (decision.verdict, decision.code) == (Verdict.PROMOTE, "SUPERIOR")


def test_an_equal_challenger_is_held() -> None:
    """A challenger that is the champion under another name is not promoted."""
    assert decide(comparison(champion_noise=0.0), POLICY).code == "IDENTICAL_SCORES"


def test_a_challenger_that_is_only_luckily_better_is_held() -> None:
    """Two equally good models: in a year of nights hardly one is promoted."""
    verdicts = []
    for seed in range(90):
        y, truth = draw(2000, 2.0, seed=seed)
        logit = np.log(truth / (1 - truth))
        a, b = (
            1 / (1 + np.exp(-(logit + 0.3 * np.random.default_rng(s).normal(size=2000))))
            for s in (seed + 1000, seed + 2000)
        )
        verdicts.append(decide(compare(Scored(y, a, b), 2, 1, "s"), POLICY).verdict)
    assert verdicts.count(Verdict.PROMOTE) <= 1


def test_a_worse_challenger_is_held() -> None:
    """A challenger that loses is not promoted, and every rule says its numbers."""
    decision = decide(comparison(champion_noise=0.0, challenger_noise=1.2), POLICY)
    assert (decision.verdict, decision.code) == (Verdict.HOLD, "NOT_SUPERIOR")
    failed = {rule.name for rule in decision.rules if not rule.passed}
    assert "superior_brier" in failed
    assert all(rule.value is not None and rule.bound is not None for rule in decision.rules)


def test_a_better_brier_with_a_worse_auc_is_held() -> None:
    """Better calibration alone does not buy a worse ranking."""
    found = comparison(champion_noise=1.2)
    worse = replace(found.deltas["roc_auc"], value=-0.001)
    decision = decide(replace(found, deltas={**found.deltas, "roc_auc": worse}), POLICY)
    assert decision.code == "NOT_SUPERIOR"


@pytest.mark.parametrize(
    "scores", [np.full(3000, 0.2), np.full(3000, np.nan), np.full(3000, 1.5)], ids=["constant", "nan", "range"]
)
def test_scores_that_are_no_probabilities_are_held(scores: np.ndarray) -> None:
    """NaN, constant or impossible scores of either model are never a promotion."""
    y, fine = draw()
    for scored in (Scored(y, scores, fine), Scored(y, fine, scores), Scored(y, scores, None)):
        assert (
            decide(compare(scored, 2, 1 if scored.champion is not None else None, "s"), POLICY).code == "SCORES_INVALID"
        )


def test_a_refusal_is_held_with_its_reason() -> None:
    """Evidence that is refused holds, whatever the figures say."""
    refused = replace(comparison(champion_noise=1.2), refusal=Refusal("INPUT_MISMATCH", "another salt"))
    decision = decide(refused, POLICY)
    assert (decision.verdict, decision.code, decision.sentence) == (Verdict.HOLD, "INPUT_MISMATCH", "Another salt")


def test_a_comparison_survives_the_ledger() -> None:
    """What is stored as JSON decides the same when it is read back."""
    import json

    found = comparison(champion_noise=1.2)
    back = Comparison.from_dict(json.loads(json.dumps(found.as_dict())))
    assert back == found
    assert decide(back, POLICY) == decide(found, POLICY)
    assert isinstance(back.deltas["brier"], Estimate)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("min_rows: 500", "min_row: 500", "first_champion.min_row"),
        ("nights: 90", "nights: 0", "superiority.nights"),
        ("error_budget: 0.10", "error_budget: .nan", "superiority.error_budget"),
        ("nights: 90", "", "superiority.nights"),
        ("comparison:", "comparison", "not YAML"),
    ],
)
def test_a_bad_policy_names_the_key(old: str, new: str, said: str) -> None:
    """An unknown, missing or impossible value is an error that names it, not a default."""
    assert old in TEXT
    with pytest.raises(PolicyInvalid, match=said):
        read_policy(TEXT.replace(old, new, 1), "promotion_policy.yaml")
