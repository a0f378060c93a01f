"""What is wrong with the scores of a candidate, or with what it raised, in words. Pure functions, used where candidates are fitted."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from churn.contract import Contract, Role
from churn.errors import ChurnError

_SUM_TOLERANCE = 1e-6
"""How far the two probabilities of a row may be from 1 in total: some libraries compute in single precision."""
_ABOUT_NAMES = {
    "AttributeError",
    "FileNotFoundError",
    "ImportError",
    "KeyError",
    "ModuleNotFoundError",
    "NameError",
    "TypeError",
}
"""Errors whose quoted texts are names in a program, or of a file."""
_ROLES = {
    Role.KEY: "which identifies the customer",
    Role.TARGET: "which is what a model has to predict",
}


class CandidateUnusable(ChurnError):  # noqa: N818 -- names the state
    """A candidate cannot be used; `candidate` is its name, and `reason` says why, ending with the fix."""

    def __init__(self, candidate: str, reason: str) -> None:
        super().__init__(f"Candidate {candidate} cannot be used: {reason}")
        self.candidate, self.reason = candidate, reason

    def __reduce__(self) -> tuple[type[CandidateUnusable], tuple[str, str]]:
        return CandidateUnusable, (self.candidate, self.reason)  # it crosses the border of a process


def require_scores(candidate: str, scores: Any, rows: int) -> np.ndarray:
    """Return the probabilities of class 1, shape (rows,), of what `predict_proba` returned for several rows.

    Raises:
        CandidateUnusable: they are not two probabilities per row, or are the same for every row.
    """
    fault = fault_of_scores(scores, rows)
    if fault:
        raise CandidateUnusable(candidate, fault)
    return np.asarray(scores, dtype=np.float64)[:, 1]


def check_probabilities(probabilities: Any, constant: bool = False) -> None:
    """Check what `predict_proba` returned for two rows or more; `constant` allows the same for every row.

    Raises:
        ValueError: names the fault in a plain sentence.
    """
    rows = len(probabilities) if hasattr(probabilities, "__len__") else 0
    fault = fault_of_scores(probabilities, rows, constant)
    if fault:
        raise ValueError(fault)


def fault_of_scores(scores: Any, rows: int, constant: bool = False) -> str | None:  # noqa: PLR0911 -- one line for each fault
    """What is wrong with the result of `predict_proba` for a number of rows; None if nothing is.

    `constant` allows the same score for every row: rows far from the training rows may have the same.
    """
    try:
        values = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError):
        return f"predict_proba returns {type(scores).__name__}, which is not an array of numbers of shape (rows, 2)."
    if values.shape != (rows, 2):
        return f"predict_proba returns shape {values.shape} for {rows:,} rows, instead of ({rows}, 2): the probabilities of 0 and 1."
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        return f"{int((~finite).sum()):,} of {rows:,} scores are NaN or infinite. Handle missing values, and divisions by zero."
    if values.min() < 0 or values.max() > 1:
        return f"its scores are between {values.min():.4g} and {values.max():.4g}. Probabilities are between 0 and 1."
    sums = np.abs(values.sum(axis=1) - 1).max(initial=0)
    if sums > _SUM_TOLERANCE:
        return f"the two probabilities of a row do not sum to 1 (they are {sums:.2g} away from it)."
    if not constant and rows > 1 and np.ptp(values[:, 1]) == 0:
        return f"every row gets the same score, {values[0, 1]:.4g}. It has learned nothing from the features."
    return None


def explain_failure(error: BaseException, contract: Contract) -> str:
    """What an estimator raised, in words. A column that only training rows have is named as such; values are not shown."""
    return explain_message(type(error).__name__, str(error), contract)


def explain_message(kind: str, message: str, contract: Contract) -> str:
    """Like `explain_failure`, for the type and the message of an exception of another process."""
    taken = _column_that_is_no_feature(message, contract)
    if taken:
        return (
            f"it asks for the column {taken}. An estimator gets only the features of the contract: "
            f"{', '.join(contract.feature_names)}. Take {taken.split(',')[0]} out of the candidate."
        )
    first = _without_values(kind, (message.strip().splitlines() or [""])[0], contract)[:300]
    return f"{kind}: {first}" if first else kind


def _without_values(kind: str, text: str, contract: Contract) -> str:
    """The text without what may be values of a customer: lists, and quoted texts that are not names."""
    if kind in _ABOUT_NAMES:
        return text
    columns = {column.name for column in contract.columns}
    quoted = re.sub(r"(['\"])(.*?)\1", lambda part: part[0] if part[2] in columns else f"{part[1]}...{part[1]}", text)
    return re.sub(r"\[[^\]]*\]?", "[...]", quoted)


def _column_that_is_no_feature(message: str, contract: Contract) -> str | None:
    for column in contract.columns:
        quoted = re.search(rf"['\"`]{re.escape(column.name)}['\"`]", message)
        if (quoted or message.strip() == column.name) and column.name not in contract.feature_names:
            return f"{column.name}, {_ROLES.get(column.role, 'which is not a feature')}"
    return None
