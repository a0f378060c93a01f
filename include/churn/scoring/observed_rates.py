"""How often training customers with a value had the event, and how a value is put into words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from churn.contract import Column, Contract
from churn.foundation import columnar
from churn.foundation.clients import Clients
from churn.foundation.records import Snapshot
from churn.intake.drift import SAMPLE
from churn.learning.snapshot import TRAINING, scan_counted

_MOST_LEVELS, _RANGES = 12, 5
_FEWEST = 50
"""Training customers that a group needs before its rate is quoted."""
_MARGIN = 1.05
_LARGE = 100


@dataclass(frozen=True)
class Group:
    """Training customers with a value, or a range of values, of a column: words for it, their number, and their rate of the event."""

    words: str
    customers: int
    rate: float


@dataclass(frozen=True)
class ColumnGroups:
    """The groups of a column: of each of its values (`edges` is None), or of ranges of its values; the last group has none."""

    column: Column
    values: pd.Index | None
    edges: NDArray[np.float64] | None
    groups: tuple[Group, ...]

    def group_of(self, values: pd.Series) -> NDArray[np.int64]:
        """The place of the group of each value; -1 if no training customer had such a value."""
        missing = values.isna().to_numpy()
        if self.edges is not None:
            places = np.searchsorted(self.edges, values.to_numpy(np.float64), side="left")
        elif self.values is not None:
            places = self.values.get_indexer(pd.Index(values))
        return np.where(missing, len(self.groups) - 1, places)


def read_training_rows(clients: Clients, trained: Snapshot) -> pd.DataFrame:
    """A sample of the rows that a version may have been trained on: features and target.

    Raises:
        PartFault: a part of the snapshot is missing or has been changed.
    """
    contract = clients.contract
    with clients.storage.scratch() as scratch, columnar.engine(clients.settings.duckdb_memory_limit) as connection:
        scan_counted(connection, "snapshot", clients.storage, trained, contract, TRAINING, scratch)
        columnar.select_buckets(connection, "trained", "snapshot", TRAINING)
        names = [*contract.feature_names, contract.target.name]
        rows: pd.DataFrame = columnar.sample_rows(connection, "trained", names, contract, SAMPLE).to_pandas()
    return rows


def observe_rates(rows: pd.DataFrame, contract: Contract, names: Sequence[str]) -> dict[str, ColumnGroups]:
    """Group training rows by the values of each column that may be given as a reason.

    Args:
        rows: a sample of training rows, with the target.
        contract: says what the columns mean, and which are protected; those have no groups.
        names: the columns of the model.
    """
    told = [column for column in contract.features if column.name in names and not column.protected]
    return {column.name: _group(column, rows[column.name], rows[contract.target.name]) for column in told}


def in_words(group: Group, average: float, event: str) -> str:
    """A reason: what the customer has, and how often such customers had the event if that is more than the average."""
    ratio = group.rate / average if average else 0.0
    if group.customers < _FEWEST or ratio < _MARGIN:
        return group.words
    return f"{group.words}: such customers {event} {ratio:.1f} times as often as the average"


def _group(column: Column, values: pd.Series, target: pd.Series) -> ColumnGroups:
    present = values.dropna()
    levels = pd.Index(np.sort(present.unique()))
    if not column.numeric or len(levels) <= _MOST_LEVELS:
        found = [_observed(f"is {_value(column, level)}", column, values == level, target) for level in levels]
        edges = None
    else:
        edges = np.unique(np.quantile(present, np.arange(1, _RANGES) / _RANGES))
        places = pd.Series(np.searchsorted(edges, values.to_numpy(np.float64), side="left"), values.index)
        known = values.notna()
        found = [
            _observed(words, column, known & (places == place), target)
            for place, words in enumerate(_ranges(column, edges))
        ]
    missing = _observed("is missing", column, values.isna(), target)
    return ColumnGroups(column, None if edges is not None else levels, edges, (*found, missing))


def _observed(words: str, column: Column, chosen: pd.Series, target: pd.Series) -> Group:
    said = column.description.rstrip(".")
    meaning = f" ({said[0].lower()}{said[1:]})" if said else ""
    customers = int(chosen.sum())
    return Group(f"{column.name} {words}{meaning}", customers, float(target[chosen].mean()) if customers else 0.0)


def _ranges(column: Column, edges: NDArray[np.float64]) -> list[str]:
    texts = [_value(column, edge) for edge in edges]
    between = [f"is between {low} and {high}" for low, high in pairwise(texts)]
    return [f"is at most {texts[0]}", *between, f"is above {texts[-1]}"]


def _value(column: Column, value: Any) -> str:
    if not column.numeric:
        return str(value)
    if value in column.texts:
        return column.texts[value]
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= _LARGE else f"{value:,.3g}"
