"""Closed forms against published implementations and a plain bootstrap."""

import numpy as np
import pytest
from MLstatkit import Delong_test
from sklearn import metrics

from churn.decision.inference import METRICS, estimate, measure, paired_delta, rank

ORACLES = {
    "roc_auc": metrics.roc_auc_score,
    "pr_auc": metrics.average_precision_score,
    "brier": metrics.brier_score_loss,
    "log_loss": metrics.log_loss,
}


def draw(rows: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and the scores of two correlated models, the first with ties."""
    rng = np.random.default_rng(seed)
    y = (rng.random(rows) < 0.2).astype(int)
    signal = rng.normal(size=rows) + 1.3 * y - 1.5
    a, b = (1 / (1 + np.exp(-(signal + noise * rng.normal(size=rows)))) for noise in (0.4, 0.7))
    return y, np.clip(np.round(a, 2), 0.01, 0.99), b


@pytest.mark.parametrize("metric", METRICS)
def test_values_are_scikit_learns(metric: str) -> None:
    """Each metric, ties included, is the library's to the last digits."""
    y, a, _ = draw()
    assert estimate(y, a, metric).value == pytest.approx(ORACLES[metric](y, a), abs=1e-12)


def test_the_paired_auc_test_is_delongs() -> None:
    """z of the AUC difference equals the published implementation's."""
    y, a, b = draw()
    delta, standard_error = paired_delta(y, a, b, "roc_auc")
    assert abs(delta / standard_error) == pytest.approx(abs(Delong_test(y, a, b)[0]), rel=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_standard_errors_agree_with_a_plain_bootstrap(metric: str) -> None:
    """The closed form is within 12% of 400 bootstrap resamples."""
    y, a, b = draw(1000)
    rng = np.random.default_rng(1)
    deltas = []
    for _ in range(400):
        rows = rng.integers(len(y), size=len(y))
        deltas.append(ORACLES[metric](y[rows], a[rows]) - ORACLES[metric](y[rows], b[rows]))
    assert paired_delta(y, a, b, metric)[1] == pytest.approx(np.std(deltas), rel=0.12)


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_cover(metric: str) -> None:
    """The 95% interval of the difference holds the true value in .92 to .98 of 300 draws."""
    truth = np.mean([paired_delta(*draw(20_000, seed), metric)[0] for seed in range(9000, 9012)])
    estimates = [measure(*draw(800, seed), metric).delta for seed in range(300)]
    covered = np.mean([estimate.lower <= truth <= estimate.upper for estimate in estimates])
    assert 0.92 <= covered <= 0.985


@pytest.mark.parametrize("metric", METRICS)
def test_identical_scores_have_no_difference(metric: str) -> None:
    """A model compared with its equal gives exactly (0, 0)."""
    y, a, _ = draw()
    assert paired_delta(y, a, a.copy(), metric) == (0.0, 0.0)


@pytest.mark.parametrize("metric", METRICS)
def test_swapping_the_models_turns_the_sign(metric: str) -> None:
    """a - b is minus b - a, with the same standard error."""
    y, a, b = draw()
    estimate, other = paired_delta(y, a, b, metric), paired_delta(y, b, a, metric)
    assert estimate[0] == pytest.approx(-other[0], abs=1e-15)
    assert estimate[1] == pytest.approx(other[1], rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_some_rows_of_a_ranking_are_as_if_ranked_alone(metric: str) -> None:
    """A slice is measured from the one sort of all rows, ties included, to the last bit."""
    y, a, b = draw()
    chosen = np.random.default_rng(3).random(len(y)) < 0.3
    of_all = measure(y[chosen], rank(a).among(chosen), rank(b).among(chosen), metric)
    assert of_all == measure(y[chosen], a[chosen], b[chosen], metric)


def sample_of(rng: np.random.Generator, rows: int = 3000) -> tuple[np.ndarray, ...]:
    """A sample in which customers of high scores are rare, and weigh as much more."""
    y, a, b = draw(rows * 4, int(rng.integers(10**6)))
    chance = np.where(b > np.quantile(b, 0.8), 0.2, 1.0)
    kept = rng.random(len(y)) < chance
    return y[kept], a[kept], b[kept], 1 / chance[kept]


@pytest.mark.parametrize("metric", METRICS)
def test_weighted_values_are_scikit_learns(metric: str) -> None:
    """A row that stands for several customers counts as often; equal weights change nothing, standard errors included."""
    y, a, b, weights = sample_of(np.random.default_rng(5))
    assert estimate(y, rank(a, weights), metric).value == pytest.approx(
        ORACLES[metric](y, a, sample_weight=weights), abs=1e-12
    )
    same, plain = (
        measure(y, rank(a, np.full(len(y), 3.0)), rank(b, np.full(len(y), 3.0)), metric),
        measure(y, a, b, metric),
    )
    assert same.delta.value == pytest.approx(plain.delta.value, abs=1e-12)
    assert same.delta.standard_error == pytest.approx(plain.delta.standard_error, rel=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_weighted_intervals_cover_what_all_customers_have(metric: str) -> None:
    """Of 200 samples drawn by known chances, at least 93% of the intervals of the difference have the value of the whole."""
    y, a, b = draw(400_000, 77)
    truth = ORACLES[metric](y, a) - ORACLES[metric](y, b)
    rng, covered = np.random.default_rng(8), 0
    for _ in range(200):
        found_y, found_a, found_b, weights = sample_of(rng, 1000)
        delta = measure(found_y, rank(found_a, weights), rank(found_b, weights), metric).delta
        covered += delta.lower <= truth <= delta.upper
    assert covered >= 186
