"""Permutation importance of an average of models, with intervals over customers."""

from __future__ import annotations

import numpy as np
import pytest

from churn.learning.fitting import Answer
from churn.learning.importance import rank_features


def test_a_feature_that_matters_ranks_above_one_that_does_not() -> None:
    """Shuffling the first feature makes the scores useless; shuffling the second changes nothing."""
    rng = np.random.default_rng(3)
    target = rng.integers(0, 2, 1000)
    scores = np.where(target == 1, 0.8, 0.2)
    shuffled = np.stack([np.stack([rng.permutation(scores) for _ in range(2)]), np.stack([scores, scores])])
    ranked = rank_features(["age", "shoe"], [Answer(scores, shuffled=shuffled, target=target)] * 2)
    assert [each.feature for each in ranked] == ["age", "shoe"]
    assert ranked[0].lower > 0.3
    assert ranked[0].lower < ranked[0].increase < ranked[0].upper
    assert ranked[1].increase == pytest.approx(0)
