"""The choice among trials: the simplest that is not clearly worse; averages and corrections compete under the same rule."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest

from churn.learning.trials import AVERAGE, Trial, average, choose_trial, correct, measure

RNG = np.random.default_rng(6)
LOGITS = RNG.normal(-1, 1.5, 4000)
TARGET = (RNG.random(4000) < 1 / (1 + np.exp(-LOGITS))).astype("int64")


def trial(kind: str, scale: float = 1.0, noise: float = 0.0, place: int = 0) -> Trial:
    """A model whose log-odds are the true ones, scaled, with noise."""
    logits = scale * LOGITS + noise * np.random.default_rng(crc32(f"{kind} {place}".encode())).normal(size=len(LOGITS))
    return Trial(kind, {}, place, 1, 4000, measure(TARGET, 1 / (1 + np.exp(-logits))))


def test_the_simplest_within_one_standard_error_wins() -> None:
    """Equal models: the first. A clearly better one wins, however complicated."""
    good, same, poor = trial("good"), trial("same"), trial("poor", noise=1.5)
    assert choose_trial([good, same]) is good
    assert choose_trial([poor, good]) is good
    worse = same.losses - good.losses
    assert abs(worse.mean()) <= worse.std(ddof=1) / np.sqrt(len(worse))


def test_the_average_is_of_the_best_and_the_best_of_another_kind() -> None:
    first, second, other = trial("a", noise=0.8), trial("a", noise=1.0, place=1), trial("b", noise=0.9)
    (mean,) = average([first, second, other], TARGET)
    assert mean.kind == AVERAGE
    assert mean.members == (first, other)
    np.testing.assert_allclose(mean.measured.scores, (first.measured.scores + other.measured.scores) / 2)
    assert mean.loss < min(first.loss, other.loss)  # their errors are independent
    assert average([first, second], TARGET)[0].members == (first, second)
    assert average([first], TARGET) == []


@pytest.mark.parametrize("apart", [False, True])
def test_a_correction_wins_only_where_the_probabilities_are_wrong(apart: bool) -> None:
    """Scores that are too extreme are corrected; correct ones are left alone. The ranking stays the same."""
    for scale, wins in ((1.0, False), (3.0, True)):
        plain, target, stopping = trial("model", scale), TARGET, None
        if apart:
            scores, (target, stopping) = plain.measured.scores, (TARGET[:3000], TARGET[3000:])
            plain = Trial("model", {}, 0, 1, 3000, measure(target, scores[:3000]), stopping=scores[3000:])
        corrected = correct(plain, target, stopping)
        assert [each.method for each in corrected] == ["sigmoid", "isotonic"]
        chosen = choose_trial([plain, *corrected])
        assert (chosen is not plain and plain.loss - chosen.loss > 0.01) == wins
        for each in corrected:
            assert each.measured.metrics["roc_auc"] == pytest.approx(plain.measured.metrics["roc_auc"], abs=0.005)
