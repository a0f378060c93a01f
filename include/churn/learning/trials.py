"""Candidates as they were measured, what can be made of them without another fit, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from churn.serving.recalibration import ISOTONIC, SIGMOID, apply_curve, fit_curve

Scores = NDArray[np.float64]
Target = NDArray[np.int64]
Customers = NDArray[np.uint64] | None
AVERAGE = "average"
_CURVE_FOLDS = 5


@dataclass(frozen=True)
class Measured:
    """Scores of rows that a model was not fitted on, their log losses, both of shape (rows,), and the metrics over all of them."""

    scores: Scores = field(repr=False)
    losses: Scores = field(repr=False)
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Trial:
    """A kind with one capacity, `place` in the order of its capacities, fitted on `rows` rows.

    `customers` tells whose rows the losses are of, None if each customer has one: standard errors are then those of customers.

    An average has `members`; a correction of the probabilities has a `method`, and the scores before it. `stopping` are the scores of the rows for early
    stopping, and `model` is pickled; both exist only if the last rung did not cross-validate.
    """

    kind: str
    capacity: Mapping[str, Any]
    place: int
    rung: int
    rows: int
    measured: Measured
    iterations: int | None = None
    seconds: float = 0.0
    members: tuple[Trial, ...] = ()
    method: str | None = None
    uncorrected: Scores | None = field(default=None, repr=False)
    stopping: Scores | None = field(default=None, repr=False)
    model: bytes = field(default=b"", repr=False)
    customers: Customers = field(default=None, repr=False)

    @property
    def loss(self) -> float:
        """The mean log loss."""
        return self.measured.metrics["log_loss"]

    @property
    def losses(self) -> Scores:
        """The log loss of each row."""
        return self.measured.losses

    @property
    def standard_error(self) -> float:
        """The standard error of the mean log loss."""
        return standard_error(self.losses, self.customers)

    @property
    def name(self) -> str:
        """The kind, and the correction of its probabilities."""
        return f"{self.kind}_{self.method}" if self.method else self.kind


def measure(target: Target, scores: Scores) -> Measured:
    """Measure scores, shape (rows,), against labels."""
    likelihood = np.clip(np.where(target == 1, scores, 1 - scores), 1e-15, 1)
    losses = -np.log(likelihood)
    metrics = {
        "roc_auc": float(roc_auc_score(target, scores)),
        "pr_auc": float(average_precision_score(target, scores)),
        "brier": float(brier_score_loss(target, scores)),
        "log_loss": float(losses.mean()),
    }
    return Measured(scores, losses, metrics)


def choose_trial(trials: Sequence[Trial]) -> Trial:
    """The simplest trial that is within one paired standard error of the best on log loss.

    The one-standard-error rule of Breiman et al., Classification and Regression Trees (1984), on
    paired differences of per-row losses.

    Args:
        trials: measured on the same rows, the simplest first.
    """
    best = min(trials, key=lambda trial: trial.loss)
    for trial in trials:
        worse = trial.losses - best.losses
        if worse.mean() <= standard_error(worse, trial.customers):
            return trial
    return best


def standard_error(values: Scores, customers: Customers) -> float:
    """The standard error of a mean over rows, of which those of a customer depend on one another.

    The sandwich estimator for clusters (Liang and Zeger, Biometrika 73, 1986).

    Args:
        values: shape (rows,).
        customers: whose row each is, shape (rows,); None if each customer has one.
    """
    if customers is None:
        return float(values.std(ddof=1) / np.sqrt(len(values)))
    _, places = np.unique(customers, return_inverse=True)
    sums = np.bincount(places, weights=values - values.mean())
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / len(values))


def average(trials: Sequence[Trial], target: Target) -> list[Trial]:
    """The average of the best trial and the best one of another kind, or else of another capacity; none of a single trial."""
    ranked = sorted(trials, key=lambda trial: trial.loss)
    if len(ranked) == 1:
        return []
    first = ranked[0]
    second = next((trial for trial in ranked[1:] if trial.kind != first.kind), ranked[1])
    stopping = None
    if first.stopping is not None and second.stopping is not None:
        stopping = (first.stopping + second.stopping) / 2
    measured = measure(target, (first.measured.scores + second.measured.scores) / 2)
    return [
        Trial(
            AVERAGE, {}, 0, first.rung, first.rows, measured,
            members=(first, second), stopping=stopping, customers=first.customers,
        )
    ]  # fmt: skip


def correct(trial: Trial, target: Target, stopping: Target | None) -> list[Trial]:
    """Correct the probabilities of a trial by each method.

    The curve is fitted on rows that the trial is not measured on: those for early stopping, or else those of the other folds.
    """
    corrected = []
    for method in (SIGMOID, ISOTONIC):
        if stopping is None or trial.stopping is None:
            scores = np.empty_like(trial.measured.scores)
            folds = StratifiedKFold(_CURVE_FOLDS, shuffle=True, random_state=0)
            if trial.customers is not None:
                folds = StratifiedGroupKFold(_CURVE_FOLDS, shuffle=True, random_state=0)
            for fit, test in folds.split(scores, target, trial.customers):
                curve = fit_curve(method, trial.measured.scores[fit], target[fit])
                scores[test] = apply_curve(curve, trial.measured.scores[test])
        else:
            scores = apply_curve(fit_curve(method, trial.stopping, stopping), trial.measured.scores)
        corrected.append(
            replace(trial, method=method, uncorrected=trial.measured.scores, measured=measure(target, scores))
        )
    return corrected
