"""Whether later rows confirm or refute a promotion: a pure function of these rows and of how the promotion was decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from churn.outcomes.confidence import (
    Bounds,
    Labels,
    Scores,
    Weighted,
    always_valid,
    auc_difference,
    brier_difference,
)
from churn.outcomes.states import State

ERROR = 0.05
"""The chance that a right promotion is ever refuted, and that a wrong one is ever confirmed."""
FEWEST_ROWS, FEWEST_EVENTS = 500, 50
"""With fewer rows, or rows of a class, nothing is concluded."""
SUPERIOR = "SUPERIOR"
FRESH_NONINFERIOR = "FRESH_NONINFERIOR"


@dataclass(frozen=True)
class LaterRows:
    """Rows that neither version knew when it was trained, with what happened; every array has shape (rows,).

    - `weights`: 1, or more for a customer of a control group, who stands for those who were contacted
    - `excluded`: how many rows do not count, by reason
    - `contacted`: whether customers were contacted of whom no control group tells anything
    """

    customers: NDArray[np.uint64]
    labels: Labels
    first: Scores
    second: Scores
    weights: Scores
    excluded: dict[str, int] = field(default_factory=dict)
    contacted: bool = False

    @property
    def events(self) -> int:
        """The rows with the event."""
        return int(self.labels.sum())

    @property
    def enough(self) -> bool:
        """Whether there are so many that something may be concluded."""
        fewest = min(self.events, len(self.labels) - self.events)
        return len(self.labels) >= FEWEST_ROWS and fewest >= FEWEST_EVENTS


@dataclass(frozen=True)
class Measure:
    """The difference of a measure between two versions, above zero if the first is better, and what it has to stay above."""

    name: str
    gain: float
    standard_error: float
    lower: float
    upper: float
    margin: float

    @property
    def holds(self) -> bool:
        """Whether the gain is certainly above the limit."""
        return self.lower > -self.margin

    @property
    def fails(self) -> bool:
        """Whether the gain is certainly below it."""
        return self.upper < -self.margin


@dataclass(frozen=True)
class Conclusion:
    """A state, and the measures that it rests on."""

    state: State
    rows: int
    events: int
    measures: tuple[Measure, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The conclusion as plain JSON."""
        return {
            "state": self.state.value,
            "rows": self.rows,
            "events": self.events,
            "measures": [vars(measure) | {} for measure in self.measures],
        }


def conclude(
    rows: LaterRows, code: str, auc_margin: float, brier_margin: float, days: float, most_days: float
) -> Conclusion:
    """Conclude from all later rows so far. It may be asked every night.

    After a promotion as superior, the Brier score has to be better. After one as non-inferior, ROC AUC and Brier score have to be
    within the margins of the policy, and share the error.

    Args:
        rows: first the promoted version, second the one before.
        code: why it was promoted.
        auc_margin: the loss of ROC AUC that the policy allows.
        brier_margin: the increase of the Brier score that it allows.
        days: since the promotion.
        most_days: after this number of days without a conclusion it is undecided.
    """
    waiting = State.UNDECIDED if days > most_days else State.UNCONFIRMED
    if not rows.enough:
        return Conclusion(waiting, len(rows.labels), rows.events)
    measures = measure_gains(rows, code, auc_margin, brier_margin)
    state = waiting
    if any(measure.fails for measure in measures):
        state = State.REFUTED
    elif all(measure.holds for measure in measures):
        state = State.CONFIRMED
    return Conclusion(state, len(rows.labels), rows.events, measures)


def measure_gains(rows: LaterRows, code: str, auc_margin: float, brier_margin: float) -> tuple[Measure, ...]:
    """The gains of the promoted version, with bounds that are always valid. Arguments as for `conclude`."""
    if code == FRESH_NONINFERIOR:
        return (
            _gain("roc_auc", auc_difference, rows, ERROR / 2, auc_margin),
            _gain("brier", brier_difference, rows, ERROR / 2, brier_margin),
        )
    return (_gain("brier", brier_difference, rows, ERROR, 0.0),)


def _gain(name: str, difference: Any, rows: LaterRows, error: float, margin: float) -> Measure:
    measured: Weighted = difference(rows.labels, rows.first, rows.second, rows.weights)
    bounds = always_valid(measured, error)
    if name == "brier":  # smaller is better
        measured = Weighted(-measured.value, measured.standard_error, measured.rows)
        bounds = Bounds(-bounds.upper, -bounds.lower)
    return Measure(name, measured.value, measured.standard_error, bounds.lower, bounds.upper, margin)
