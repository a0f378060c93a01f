"""A fitted model in the form in which it is stored, and its answers to example rows: what another process must reproduce.

This runs code of a candidate, so a candidate that has not been tried yet is asked in its own process, which has limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray

from churn.contract import Contract
from churn.foundation.examples import example_rows, model_input
from churn.learning.candidate_checks import CandidateUnusable, explain_message, fault_of_scores
from churn.serving.checks import add_checks
from churn.serving.rows import Values, frame_of

ROWS = 200
ALONE = 3
"""Number of rows that are also sent in a request of their own."""


@dataclass(frozen=True)
class Examples:
    """A model as skops saves it, with the checks of its contract, and the probabilities that it gives for each of the example requests."""

    saved: bytes
    scores: list[NDArray[np.float64]]


def example_requests(contract: Contract) -> list[Values]:
    """Example rows together, and then a few of them one by one."""
    frame = model_input(contract, example_rows(contract, ROWS))
    parts = [frame, *(frame.iloc[[at]] for at in range(ALONE))]
    return [{column: part[column].to_numpy() for column in contract.feature_names} for part in parts]


def answer_examples(name: str, model: Any, contract: Contract) -> Examples:
    """Save a fitted model, and ask it for the scores of the example rows.

    Args:
        name: what the model is called, for errors.
        model: the fitted estimator, without the checks of the contract.
        contract: the data contract.

    Raises:
        CandidateUnusable: it cannot be saved, or does not answer with the probabilities of 0 and 1.
    """
    try:
        saved = skops.io.dumps(add_checks(model, contract))
    except Exception as error:
        raise CandidateUnusable(
            name,
            f"it cannot be saved by skops ({type(error).__name__}: {first_line(str(error))}). Define functions and classes at the top "
            "level of the module, and keep only arrays, plain values and estimators as attributes.",
        ) from error
    classes = getattr(model, "classes_", None)
    if classes is not None and list(classes) != [0, 1]:
        raise CandidateUnusable(
            name,
            f"its classes_ are {np.asarray(classes).tolist()}. They must be [0, 1], because the second column of predict_proba is taken as the probability of 1.",
        )
    return Examples(saved, [_answer(name, model, values, contract) for values in example_requests(contract)])


def first_line(text: str) -> str:
    """The first line of a message, and not much of it."""
    return (text.strip().splitlines() or [""])[0][:300]


def _answer(name: str, model: Any, values: Values, contract: Contract) -> NDArray[np.float64]:
    try:
        scores = model.predict_proba(frame_of(values, contract))
    except Exception as error:
        raise CandidateUnusable(
            name,
            f"predict_proba fails on rows that satisfy the contract: {explain_message(type(error).__name__, str(error), contract)}",
        ) from error
    fault = fault_of_scores(scores, len(next(iter(values.values()))), constant=True)
    if fault:
        raise CandidateUnusable(name, f"on rows that satisfy the contract, {fault}")
    return np.asarray(scores, dtype=np.float64)
