"""Tests whether a challenger serves a slice of the customers worse.

Every testable slice is tested, and Holm's method bounds the probability of a false alarm among all of them. Slices that are
too small are listed as such.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    """A column by which customers are grouped: its name, and the names of its slices in the order of their codes."""

    column: str
    names: tuple[str, ...]
    parity: bool = False


@dataclass(frozen=True)
class Slice:
    """One slice: its size, and the challenger's ROC AUC minus the champion's in it.

    `delta` is None if a class is missing. `p` is the one-sided p-value of "worse", adjusted by Holm's method over all testable
    slices; None if the slice is too small.
    """

    column: str
    name: str
    rows: int
    events: int
    delta: Estimate | None
    p: float | None


def slicings(contract: Contract) -> tuple[Slicing, ...]:
    """The slicings of the contract. A number without bands has a slice for each value."""
    return tuple(Slicing(by.column, _names(by, contract), by.parity) for by in contract.slices)


def slice_codes(rows: pd.DataFrame, contract: Contract) -> dict[str, Codes]:
    """The slice of each row in each slicing, as the position of its name; -1 if the value is missing or unknown."""
    return {by.column: _codes(rows[by.column], by, contract) for by in contract.slices}


def compare_slices(
    y: Labels,
    challenger: Ranked,
    champion: Ranked,
    codes: dict[str, Codes],
    sliced: tuple[Slicing, ...],
    each_class: int,
) -> list[Slice]:
    """Compare both models in each slice, with p-values adjusted by Holm's method.

    Args:
        y: labels 0 or 1, shape (rows,).
        challenger: the challenger's scores.
        champion: the champion's scores.
        codes: the slice of each row, by column, shape (rows,).
        sliced: the slicings.
        each_class: number of customers of each class that a slice needs to be tested.
    """
    slices = []
    for slicing in sliced:
        for code, name in enumerate(slicing.names):
            chosen = codes[slicing.column] == code
            labels = y[chosen]
            events = int(labels.sum())
            delta = None
            if 1 < events < len(labels) - 1:
                delta = Estimate.of(*paired_delta(labels, challenger.among(chosen), champion.among(chosen), "roc_auc"))
            slices.append(Slice(slicing.column, name, len(labels), events, delta, None))
    tested = [at for at, measured in enumerate(slices) if _testable(measured, each_class)]
    for at, p in zip(tested, holm([_p_worse(slices[at]) for at in tested]), strict=True):
        slices[at] = replace(slices[at], p=p)
    return slices


def holm(p_values: list[float]) -> list[float]:
    """Adjust p-values by the method of Holm, Scandinavian Journal of Statistics 6 (1979); in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    scaled = [(len(p_values) - at) * p_values[row] for at, row in enumerate(order)]
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled)) if scaled else []
    return [float(p) for p in adjusted]


def _testable(measured: Slice, each_class: int) -> bool:
    return measured.delta is not None and min(measured.events, measured.rows - measured.events) >= each_class


def _p_worse(measured: Slice) -> float:
    if measured.delta is None or measured.delta.standard_error == 0:
        return 1.0
    return float(stats.norm.cdf(measured.delta.value / measured.delta.standard_error))


def _names(by: SliceBy, contract: Contract) -> tuple[str, ...]:
    column = contract[by.column]
    coded = tuple(column.texts[number] for number in sorted(column.texts))
    return by.bands or column.categories or coded or tuple(str(value) for value in _values(by, contract))


def _values(by: SliceBy, contract: Contract) -> range:
    column = contract[by.column]
    return range(int(column.minimum or 0), int(column.maximum or 0) + 1)


def _codes(values: pd.Series, by: SliceBy, contract: Contract) -> Codes:
    column = contract[by.column]
    if column.numeric:
        numbers = values.to_numpy(dtype="float64", na_value=np.nan)
        if by.edges:
            codes = np.digitize(numbers, by.edges)
        elif column.values:
            codes = pd.Index(sorted(column.texts), dtype="float64").get_indexer(pd.Index(numbers))
        else:
            codes = numbers - _values(by, contract).start
        codes = np.where(np.isnan(numbers), ABSENT, codes)
    else:
        codes = pd.Index(column.categories).get_indexer(pd.Index(values))
    groups = len(_names(by, contract))
    return np.where((codes >= 0) & (codes < groups), codes, ABSENT).astype(np.int8)
