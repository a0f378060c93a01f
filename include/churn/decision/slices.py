"""Groups of customers that the contract names, and whether a challenger serves one of them worse.

Every testable slice is tested, and Holm's method keeps the chance of one false alarm among all of
them. Slices that are too small to say anything are listed as such, never passed in silence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from churn.contract import Contract, SliceBy
from churn.decision.inference import Estimate, Labels, Ranked, paired_delta

ABSENT = -1
Codes = NDArray[np.int8]


@dataclass(frozen=True)
class Slicing:
    """A column by which customers are grouped: its name, and the names of its groups in the order of their codes."""

    column: str
    names: tuple[str, ...]
    parity: bool = False


@dataclass(frozen=True)
class Slice:
    """One group: its size, and the challenger's ROC AUC minus the champion's there.

    `delta` is None where a class is missing; `p` is the one-sided p-value of "worse", adjusted by Holm over all
    testable slices, None where the slice is too small to be tested.
    """

    column: str
    name: str
    rows: int
    events: int
    delta: Estimate | None
    p: float | None


def slicings(contract: Contract) -> tuple[Slicing, ...]:
    """How the contract groups customers; a number without bands by each of its values."""
    return tuple(Slicing(by.column, _names(by, contract), by.parity) for by in contract.slices)


def slice_codes(rows: pd.DataFrame, contract: Contract) -> dict[str, Codes]:
    """Each row's group in each slicing, as the position of its name; -1 where the value is absent or unknown."""
    return {by.column: _codes(rows[by.column], by, contract) for by in contract.slices}


def compare_slices(
    y: Labels,
    challenger: Ranked,
    champion: Ranked,
    codes: dict[str, Codes],
    sliced: tuple[Slicing, ...],
    each_class: int,
) -> list[Slice]:
    """The difference in each slice, with Holm's adjusted p-values.

    Args:
        y: labels 0 or 1, shape (rows,).
        challenger: its scores, ranked.
        champion: its scores, ranked.
        codes: of each slicing by column, shape (rows,).
        sliced: the slicings.
        each_class: customers of each class that a slice needs to be tested.
    """
    found = []
    for slicing in sliced:
        for code, name in enumerate(slicing.names):
            chosen = codes[slicing.column] == code
            labels = y[chosen]
            events = int(labels.sum())
            delta = None
            if 1 < events < len(labels) - 1:
                delta = Estimate.of(*paired_delta(labels, challenger.among(chosen), champion.among(chosen), "roc_auc"))
            found.append(Slice(slicing.column, name, len(labels), events, delta, None))
    tested = [at for at, one in enumerate(found) if _testable(one, each_class)]
    for at, p in zip(tested, holm([_p_worse(found[at]) for at in tested]), strict=True):
        one = found[at]
        found[at] = Slice(one.column, one.name, one.rows, one.events, one.delta, p)
    return found


def holm(p_values: list[float]) -> list[float]:
    """Adjusted p-values of Holm, Scandinavian Journal of Statistics 6 (1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    scaled = [(len(p_values) - at) * p_values[row] for at, row in enumerate(order)]
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled)) if scaled else []
    return [float(p) for p in adjusted]


def _testable(one: Slice, each_class: int) -> bool:
    return one.delta is not None and min(one.events, one.rows - one.events) >= each_class


def _p_worse(one: Slice) -> float:
    if one.delta is None or one.delta.standard_error == 0:
        return 1.0
    return float(stats.norm.cdf(one.delta.value / one.delta.standard_error))


def _names(by: SliceBy, contract: Contract) -> tuple[str, ...]:
    column = contract[by.column]
    return by.bands or column.categories or tuple(str(value) for value in _values(by, contract))


def _values(by: SliceBy, contract: Contract) -> range:
    column = contract[by.column]
    return range(int(column.minimum or 0), int(column.maximum or 0) + 1)


def _codes(values: pd.Series, by: SliceBy, contract: Contract) -> Codes:
    column = contract[by.column]
    if column.numeric:
        numbers = values.to_numpy(dtype="float64", na_value=np.nan)
        codes = np.digitize(numbers, by.edges) if by.edges else numbers - _values(by, contract).start
        codes = np.where(np.isnan(numbers), ABSENT, codes)
    else:
        codes = pd.Index(column.categories).get_indexer(pd.Index(values))
    groups = len(_names(by, contract))
    return np.where((codes >= 0) & (codes < groups), codes, ABSENT).astype(np.int8)
