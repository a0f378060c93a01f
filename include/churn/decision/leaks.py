"""Looks for leaks: features that identify a customer, and a single feature that ranks too well."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from churn.contract import MAX_LEVELS, Column, Contract, Role
from churn.decision.comparison import Leaks
from churn.decision.inference import Scores, rank, roc_auc

_IDENTIFIER = re.compile(r"(^|[_ ])(id|no|nr|key|uuid|guid)$|(Id|ID|Number|Key)$", re.ASCII)
_NAMES = frozenset(
    {"name", "firstname", "lastname", "surname", "email", "phone", "iban", "ssn", "address", "rownumber"}
)


def find_leaks(rows: pd.DataFrame, contract: Contract) -> Leaks:
    """Look for leaks among the features.

    Args:
        rows: unseen customers with every column of the contract.
        contract: says which columns are features.

    Returns:
        Features whose names or values identify a customer, and the single feature with the largest ROC AUC; None if a class is
        missing.
    """
    named = [column.name for column in contract.features if _identifies(column)]
    if rows.empty or rows[contract.target.name].nunique() < 2:  # noqa: PLR2004 -- both classes
        return Leaks(named)
    labels = rows[contract.target.name].to_numpy(np.int64)
    aucs = {column.name: _auc_alone(rows[column.name], labels, column) for column in contract.features}
    feature = max(aucs, key=lambda name: aucs[name])
    return Leaks(named, feature, aucs[feature])


def _identifies(column: Column) -> bool:
    plain = re.sub(r"[^a-z]", "", column.name.lower())
    return column.role is Role.FEATURE and (plain in _NAMES or bool(_IDENTIFIER.search(column.name)))


def _auc_alone(values: pd.Series, labels: np.ndarray[tuple[int], np.dtype[np.int64]], column: Column) -> float:
    """ROC AUC of one feature, in the better direction. A text is ranked by the share of events in each category."""
    scores: Scores
    if column.numeric:
        scores = values.to_numpy(dtype="float64", na_value=np.nan)
        scores = np.where(np.isnan(scores), -np.inf, scores)
    else:
        text = values.fillna("").astype("object")
        if not column.categories:  # a text that almost nobody else has would give its customer's label away
            common = text.value_counts().index[: column.max_levels or MAX_LEVELS]
            text = text.where(text.isin(common), None).fillna("(other)")
        scores = pd.Series(labels).groupby(text.to_numpy()).transform("mean").to_numpy(dtype="float64")
    auc = roc_auc(labels, rank(scores)).value
    return max(auc, 1 - auc)
