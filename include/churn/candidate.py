"""What a function of candidates takes and returns: `CHURN_CANDIDATES` names one.

The serving image contains this module, so that a module with own candidates can be imported there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Context:
    """What a function of candidates may need besides the contract: the number of training rows, and the seed of everything random."""

    rows: int
    seed: int


@dataclass(frozen=True)
class Candidate:
    """An unfitted estimator that competes, with `fit` and `predict_proba`, and what else the product needs to know of it.

    Attributes:
        estimator: takes a frame with the features of the contract, and returns probabilities of shape (rows, 2).
        capacities: parameters to try, as `set_params` takes them, the simplest first.
        iterations: the parameter that counts the iterations of a HistGradientBoostingClassifier at the end of the pipeline, if early
            stopping is to find their number.
        max_rows: the number of rows from which more of them change nothing.
        requirements: packages that the estimator needs in addition to those of the product, such as `lightgbm`.
        trusted_types: types that a saved estimator contains in addition to those that are trusted anyway.
    """

    estimator: Any
    capacities: Sequence[Mapping[str, Any]] = ({},)
    iterations: str | None = None
    max_rows: int | None = None
    requirements: tuple[str, ...] = ()
    trusted_types: tuple[str, ...] = ()
