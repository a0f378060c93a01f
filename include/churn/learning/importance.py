"""Permutation importance: how much worse a model gets if the values of a feature are shuffled among customers.

Breiman, Random Forests (2001), on rows that the model was not fitted on, with the log loss as the measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from churn.learning.fitting import Answer
from churn.learning.trials import measure

_TWO_SIDED_95 = 1.959964


@dataclass(frozen=True)
class Importance:
    """The increase of the mean log loss when a feature is shuffled, and the bounds of its 95% interval over customers."""

    feature: str
    increase: float
    lower: float
    upper: float


def rank_features(features: Sequence[str], answers: Sequence[Answer]) -> list[Importance]:
    """Rank features by their importance for the average of some models, the most important first.

    Args:
        features: names, in the order of the answers.
        answers: of each model to the same `Shuffle`.
    """
    target = answers[0].target
    usual = _losses(target, np.mean([answer.scores for answer in answers], axis=0))
    shuffled = np.mean([answer.shuffled for answer in answers], axis=0)
    ranked = []
    for name, scores in zip(features, shuffled, strict=True):
        increases = np.mean([_losses(target, repeat) for repeat in scores], axis=0) - usual
        mean, reach = float(increases.mean()), _TWO_SIDED_95 * float(increases.std(ddof=1) / np.sqrt(len(increases)))
        ranked.append(Importance(name, mean, mean - reach, mean + reach))
    return sorted(ranked, key=lambda importance: -importance.increase)


def _losses(target: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return measure(target, scores).losses
