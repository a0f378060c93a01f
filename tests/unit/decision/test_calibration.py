"""Slope and observed / expected against independent fits and a plain bootstrap; expected calibration error by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from churn.decision.calibration import Calibration, calibrate, expected_calibration_error
from churn.decision.comparison import compare
from churn.decision.inference import rank
from churn.decision.policy import decide
from support.evidence_cases import POLICY, make_case, make_evidence


def draw(rows: int = 2000, seed: int = 0, too_sure: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from right probabilities, and those probabilities with their logits multiplied."""
    rng = np.random.default_rng(seed)
    truth = 1.5 * rng.normal(size=rows) - 1.8
    return (rng.random(rows) < expit(truth)).astype(np.int64), expit(too_sure * truth)


def calibrated(y: np.ndarray, scores: np.ndarray) -> Calibration:
    calibration = calibrate(y, scores)
    assert calibration is not None
    return calibration


@pytest.mark.parametrize("too_sure", [0.5, 1.0, 2.0])
def test_the_slope_is_an_unpenalised_logistic_regressions(too_sure: float) -> None:
    """Newton's method here, L-BFGS there: the same slope, also far from 1."""
    y, scores = draw(too_sure=too_sure)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(scores)[:, None], y)
    assert calibrated(y, scores).slope.value == pytest.approx(theirs.coef_[0, 0], rel=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [lambda x: 5 * x, lambda x: x + 3, lambda x: -x, lambda x: 40 * x],
    ids=["too sure", "shifted", "against", "0 or 1"],
)
def test_very_wrong_scores_have_a_slope_too(wrong: Callable[[np.ndarray], np.ndarray]) -> None:
    """Only scores that part the classes have none: a model that is far off is measured, so that it can be told how far."""
    y, right = draw()
    scores = expit(wrong(logit(right)))
    x = np.log(np.clip(scores, 1e-15, 1 - 1e-15)) - np.log1p(-np.clip(scores, 1e-15, 1 - 1e-15))
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000).fit(x[:, None], y)
    assert calibrated(y, scores).slope.value == pytest.approx(theirs.coef_[0, 0], rel=1e-3)


def test_the_slope_and_its_error_follow_from_the_likelihood() -> None:
    """A general optimiser finds the slope; the curvature of the likelihood, by differences, gives its error."""
    y, scores = draw()
    x = logit(scores)

    def loss(at: np.ndarray) -> float:
        return float(np.logaddexp(0, at[0] + at[1] * x).sum() - (y * (at[0] + at[1] * x)).sum())

    best = minimize(loss, [0.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9, "maxiter": 2000}).x
    step = 1e-3 * np.eye(2)
    curvature = np.array(
        [
            [loss(best + i + j) - loss(best + i - j) - loss(best - i + j) + loss(best - i - j) for j in step]
            for i in step
        ]
    ) / (4 * 1e-6)
    calibration = calibrated(y, scores).slope
    assert calibration.value == pytest.approx(best[1], abs=1e-5)
    assert calibration.standard_error == pytest.approx(np.sqrt(np.linalg.inv(curvature)[1, 1]), rel=1e-3)


def test_the_error_of_the_slope_agrees_with_a_plain_bootstrap() -> None:
    """It is within 12% of 400 resamples of the rows."""
    y, scores = draw(1000)
    rng = np.random.default_rng(1)
    rows = [rng.integers(len(y), size=len(y)) for _ in range(400)]
    slopes = [calibrated(y[sample], scores[sample]).slope.value for sample in rows]
    assert calibrated(y, scores).slope.standard_error == pytest.approx(np.std(slopes), rel=0.12)


@pytest.mark.parametrize("odds", [0.3, 1.0, 4.0])
def test_the_error_of_the_ratio_agrees_with_a_plain_bootstrap(odds: float) -> None:
    """It is within 5% of 3,000 resamples, also where far too little or too much is expected."""
    y, scores = draw(1000)
    scores = odds * scores / (1 - scores + odds * scores)
    rng = np.random.default_rng(1)
    rows = [rng.integers(len(y), size=len(y)) for _ in range(3000)]
    ratios = [y[sample].mean() / scores[sample].mean() for sample in rows]
    assert calibrated(y, scores).observed_expected.standard_error == pytest.approx(np.std(ratios), rel=0.05)


def test_observed_to_expected_is_the_ratio_of_means() -> None:
    """Three of four left, 1.5 were expected: 2."""
    calibration = calibrated(np.array([1, 0, 1, 1]), np.array([0.2, 0.3, 0.4, 0.6]))
    assert calibration.observed_expected.value == pytest.approx(2.0)


def test_a_model_that_is_right_has_slope_and_ratio_of_one() -> None:
    """In 300 draws the 95% intervals hold 1 in .91 to .985."""
    calibrations = [calibrated(*draw(800, seed)) for seed in range(300)]
    for values in (
        [estimate.slope for estimate in calibrations],
        [estimate.observed_expected for estimate in calibrations],
    ):
        assert 0.91 <= np.mean([estimate.lower <= 1 <= estimate.upper for estimate in values]) <= 0.985


def test_a_model_twice_too_sure_has_a_slope_of_a_half() -> None:
    """The slope undoes what was done to the logits."""
    right, sure = (calibrated(*draw(too_sure=by)) for by in (1.0, 2.0))
    assert sure.slope.value == pytest.approx(right.slope.value / 2, rel=1e-6)


def failed_rules(y: np.ndarray, scores: np.ndarray) -> list[str]:
    decision = decide(compare(make_case(None), make_evidence(y, scores), (), 0), POLICY)
    return [rule.name for rule in decision.rules if rule.code == "CALIBRATION" and not rule.passed]


def test_balanced_class_weights_are_held_and_right_ones_are_not() -> None:
    """Fourfold odds rank as before, and the rule CALIBRATION holds them in every draw; right ones in none."""
    for seed in range(30):
        y, scores = draw(seed=seed)
        wrong = 4 * scores / (1 + 3 * scores)
        assert not failed_rules(y, scores)
        assert "observed_expected" in failed_rules(y, wrong)


def test_scores_that_part_the_classes_have_no_slope() -> None:
    """There is no finite fit: None, and no number that looks like one."""
    y = np.repeat([0, 1], 50)
    assert calibrate(y, np.where(y == 1, 0.9, 0.1) + np.linspace(-0.05, 0.05, 100)) is None


def test_the_same_score_for_all_has_no_slope() -> None:
    """A constant explains nothing: None."""
    assert calibrate(np.array([0, 1] * 20), np.full(40, 0.3)) is None


def test_certain_scores_do_not_break_the_slope() -> None:
    """Zero and one have no logit; they are taken as almost certain."""
    y, scores = draw(500)
    scores[:3], y[:3] = [0.0, 1.0, 0.0], [0, 1, 0]
    assert np.isfinite(calibrated(y, scores).slope.value)


def test_the_expected_calibration_error_by_hand() -> None:
    """Ten bins of two: nine are right to the last digit, one says .5 where all left: .5 / 10."""
    scores = np.repeat(np.linspace(0.05, 0.5, 10), 2)
    y = scores.copy()
    y[-2:] = 1
    shuffled = np.random.default_rng(0).permutation(20)
    assert expected_calibration_error(y[shuffled], rank(scores[shuffled])) == pytest.approx(0.05)


def test_the_expected_calibration_error_weighs_bins_by_their_rows() -> None:
    """Of eleven rows the first bin has two: its error counts twice that of the others."""
    scores = np.arange(1, 12) / 100
    y = scores.copy()
    y[:2] += 0.11
    assert expected_calibration_error(y, rank(scores)) == pytest.approx(0.02)


def test_fewer_rows_than_bins_are_no_error() -> None:
    """Empty bins count nothing."""
    assert expected_calibration_error(np.array([0, 1, 1]), rank(np.array([0.0, 1.0, 0.7]))) == pytest.approx(0.1)


def test_weighted_calibration_is_that_of_all_customers() -> None:
    """A row that stands for three counts like three; the error is larger than theirs, since they are one customer."""
    rng = np.random.default_rng(4)
    scores = rng.uniform(0.02, 0.9, 3000)
    y = (rng.random(3000) < scores**1.2).astype(np.int64)
    weights = np.where(scores > 0.5, 3.0, 1.0)
    repeated = np.repeat(np.arange(3000), weights.astype(int))
    found, whole = calibrate(y, scores, weights), calibrate(y[repeated], scores[repeated])
    assert found
    assert whole
    assert found.slope.value == pytest.approx(whole.slope.value, abs=1e-6)
    assert found.observed_expected.value == pytest.approx(whole.observed_expected.value, abs=1e-9)
    assert found.slope.standard_error > whole.slope.standard_error
    assert found.observed_expected.standard_error > whole.observed_expected.standard_error


def test_the_error_of_a_weighted_slope_agrees_with_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(6)
    scores = rng.uniform(0.02, 0.9, 1500)
    y, weights = (rng.random(1500) < scores).astype(np.int64), np.where(rng.random(1500) < 0.2, 5.0, 1.0)
    slopes = []
    for _ in range(300):
        rows = rng.integers(1500, size=1500)
        drawn = calibrate(y[rows], scores[rows], weights[rows])
        assert drawn
        slopes.append(drawn.slope.value)
    found = calibrate(y, scores, weights)
    assert found
    assert found.slope.standard_error == pytest.approx(np.std(slopes), rel=0.15)
