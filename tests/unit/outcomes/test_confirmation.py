"""A promotion is unconfirmed until later rows confirm or refute it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from churn.outcomes.confirmation import FRESH_NONINFERIOR, SUPERIOR, LaterRows, conclude, measure_gains
from churn.outcomes.states import State

MARGINS = (0.01, 0.002)


def later(rows: int, noise: float, before: float = 0.6, seed: int = 3) -> LaterRows:
    """Rows with calibrated scores of two versions; the noisier one knows less."""
    random = np.random.default_rng(seed)
    truth = random.normal(-1.6, 1.5, rows)
    labels = (random.random(rows) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    scores = [_calibrated(truth, each, random) for each in (noise, before)]
    return LaterRows(np.arange(rows, dtype=np.uint64), labels, scores[0], scores[1], np.ones(rows))


def _calibrated(truth: np.ndarray, noise: float, random: np.random.Generator) -> np.ndarray:
    seen = truth + random.normal(0, noise, len(truth))
    share = 1.5**2 / (1.5**2 + noise**2)
    spread = 1.5**2 * (1 - share)
    logit = (-1.6 + share * (seen + 1.6)) / np.sqrt(1 + np.pi * spread / 8)
    return np.asarray(1 / (1 + np.exp(-logit)))


@pytest.mark.parametrize(
    ("noise", "before", "code", "state"),
    [
        (0.3, 1.0, SUPERIOR, State.CONFIRMED),
        (1.0, 0.3, SUPERIOR, State.REFUTED),
        (0.6, 0.6, SUPERIOR, State.UNCONFIRMED),
        (0.3, 1.0, FRESH_NONINFERIOR, State.CONFIRMED),
        (1.2, 0.3, FRESH_NONINFERIOR, State.REFUTED),
        (0.62, 0.6, FRESH_NONINFERIOR, State.UNCONFIRMED),
    ],
)
def test_later_rows_decide(noise: float, before: float, code: str, state: State) -> None:
    """By the Brier score after a promotion as superior, by ROC AUC and Brier score within the margins after one as non-inferior."""
    found = conclude(later(20_000, noise, before), code, *MARGINS, days=5, most_days=90)
    assert found.state is state
    assert [measure.name for measure in found.measures] == (["brier"] if code == SUPERIOR else ["roc_auc", "brier"])
    assert json.loads(json.dumps(found.to_json()))["state"] == state.value


def test_few_rows_conclude_nothing() -> None:
    """However clear they look; after the days of the setting, it is undecided."""
    for rows in (0, 499):
        assert conclude(later(rows, 1.2, 0.1), SUPERIOR, *MARGINS, 5, 90).state is State.UNCONFIRMED
        assert conclude(later(rows, 1.2, 0.1), SUPERIOR, *MARGINS, 91, 90).state is State.UNDECIDED
    one_class = later(2000, 1.2, 0.1)
    nobody_left = LaterRows(
        one_class.customers, np.zeros(2000, np.int64), one_class.first, one_class.second, one_class.weights
    )
    assert conclude(nobody_left, FRESH_NONINFERIOR, *MARGINS, 5, 90).measures == ()


def test_a_late_conclusion_still_counts() -> None:
    """Undecided is not final."""
    assert conclude(later(20_000, 0.3, 1.0), SUPERIOR, *MARGINS, 400, 90).state is State.CONFIRMED


def test_control_customers_stand_for_those_who_were_contacted() -> None:
    """Where a contact keeps customers, the rest alone is another bank; with weights, the figure is that of no contact, within its bounds."""
    rows = later(40_000, 0.6, 0.9)
    random = np.random.default_rng(9)
    chosen = rows.second > np.quantile(rows.second, 0.8)
    control = chosen & (random.random(40_000) < 0.1)
    seen = ~chosen | control
    weights = np.where(control, 10.0, 1.0)[seen]
    some = LaterRows(rows.customers[seen], rows.labels[seen], rows.first[seen], rows.second[seen], weights)
    truth = measure_gains(rows, SUPERIOR, *MARGINS)[0].gain
    (found,) = measure_gains(some, SUPERIOR, *MARGINS)
    assert found.lower < truth < found.upper
    without = LaterRows(some.customers, some.labels, some.first, some.second, np.ones(int(seen.sum())))
    assert abs(found.gain - truth) < abs(measure_gains(without, SUPERIOR, *MARGINS)[0].gain - truth)
