"""Checks rows against the contract: what intake quarantines is refused here too, by the same rules."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from churn.contract import WRITTEN, Column, Contract, Kind

Values = dict[str, NDArray[Any]]
"""Values by column name: float64 for numbers, objects (text or None) for texts."""
Cells = Sequence[Any] | NDArray[Any]
NO_ROWS = "The request contains no rows. Send at least one."
MOST_NAMED = 20
"""Number of bad rows that are named; the others are counted."""
_MOST = 2.0**63
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in WRITTEN.items()}
_NUMBERS = frozenset({int, float})
_MISSING, _TYPE, _RANGE, _CATEGORY = range(1, 5)
_RULES = {_MISSING: "missing", _TYPE: "type", _RANGE: "range", _CATEGORY: "category"}
Broken = NDArray[np.uint8]
"""The rule that each cell breaks, as a number; 0 for none. Shape (rows,)."""


@dataclass(frozen=True)
class Fault:
    """The first rule that a row breaks. Rows are counted from 0; the sentence never contains the value."""

    row: int
    column: str
    rule: str
    wanted: str

    @property
    def sentence(self) -> str:
        """What is wrong, with what is allowed."""
        return f"Row {self.row}: {self.column} {self.wanted}."


class BadRows(ValueError):  # noqa: N818 -- the name says what is wrong
    """Rows break rules: how many, and the first of them."""

    def __init__(self, faults: Sequence[Fault], count: int) -> None:
        more = f" {count:,} rows are not valid." if count > 1 else ""
        super().__init__(faults[0].sentence + more)
        self.faults = faults
        self.count = count


class BadColumns(ValueError):  # noqa: N818 -- the name says what is wrong
    """A feature is missing, or its name is written otherwise."""


def match_columns(names: Sequence[Any], contract: Contract) -> list[str]:
    """Check that every feature is among the names, once, and return the names that are ignored.

    Raises:
        BadColumns: a feature is missing or appears twice, or its name differs only in case or blanks.
    """
    repeated = [name for name in contract.feature_names if list(names).count(name) > 1]
    if repeated:
        raise BadColumns(f"These columns appear more than once: {', '.join(repeated)}.")
    features = {name.casefold(): name for name in contract.feature_names}
    others = {place: name for place, name in enumerate(names) if name not in contract.feature_names}
    written = {name.strip().casefold() for name in others.values() if isinstance(name, str)}
    recased = sorted(features[name] for name in written if name in features)
    if recased:
        raise BadColumns(
            f"The names of these columns differ only in case or blanks from those of the model: {', '.join(recased)}. Write them exactly so."
        )
    missing = [name for name in contract.feature_names if name not in names]
    if missing:
        raise BadColumns(f"Missing columns: {', '.join(missing)}.")
    return [name if isinstance(name, str) else f"column {place + 1}" for place, name in others.items()]


def frame_of(values: Values, contract: Contract) -> pd.DataFrame:
    """The frame that a model takes: numbers as float64, texts as objects."""
    texts = {column.name for column in contract.features if not column.numeric}
    return pd.DataFrame(
        {name: pd.Series(column, dtype="object" if name in texts else "float64") for name, column in values.items()}
    )


def check_rows(columns: Mapping[str, Cells], contract: Contract) -> Values:
    """Type the features of rows that satisfy every rule that intake applies to them.

    Args:
        columns: cells by feature, all of the same length of at least 1. In a sequence, a number is an int or a float, a text
            is a str, and a missing value is None. In a numeric array, NaN is a missing value.
        contract: the data contract. Rules that need a column that is not a feature cannot be checked here.

    Raises:
        BadRows: names the first rows that break a rule, each with its first such column.
    """
    values: Values = {}
    broken: dict[str, Broken] = {}
    for column in contract.features:
        typed = _numbers if column.numeric else _texts
        values[column.name], broken[column.name] = typed(columns[column.name], column)
    bad = np.logical_or.reduce(list(broken.values()))
    exceeding = {}
    for relation in contract.relations:
        if {relation.lesser, relation.greater} <= values.keys():
            above = ~bad & (values[relation.lesser] > values[relation.greater])
            exceeding[relation] = above
    bad = np.logical_or.reduce([bad, *exceeding.values()])
    if not bad.any():
        return values
    faults = []
    for row in np.flatnonzero(bad)[:MOST_NAMED].tolist():
        faulty = next((column for column in contract.features if broken[column.name][row]), None)
        if faulty:
            faults.append(_fault(row, faulty, int(broken[faulty.name][row])))
        else:
            relation = next(relation for relation, above in exceeding.items() if above[row])
            faults.append(Fault(row, relation.lesser, relation.rule, f"must not exceed {relation.greater}"))
    raise BadRows(faults, int(bad.sum()))


def read_cells(cells: Sequence[str], column: Column) -> list[Any]:
    """Read the cells of a text file as values. An empty cell is None; a number is read if intake would accept its notation."""
    if column.trim:
        cells = [cell.strip(" ") for cell in cells]
    if not column.numeric:
        return [cell or None for cell in cells]
    pattern = _PATTERNS[column.kind]
    return [(float(cell) if pattern.fullmatch(cell) else cell) if cell else None for cell in cells]


def _numbers(cells: Cells, column: Column) -> tuple[NDArray[np.float64], Broken]:
    if column.values:
        return _coded(cells, column)
    numbers, broken = _array_of_numbers(cells) if isinstance(cells, np.ndarray) else _typed(cells)
    infinite = np.isinf(numbers)
    if column.kind is Kind.INTEGER:
        infinite |= (np.floor(numbers) != numbers) & ~np.isnan(numbers) | (np.abs(numbers) >= _MOST)
    broken[infinite & (broken == 0)] = _TYPE
    if column.nullable:
        broken[broken == _MISSING] = 0
    for bound, outside in ((column.minimum, np.less), (column.maximum, np.greater)):
        if bound is not None:
            broken[outside(numbers, bound) & (broken == 0)] = _RANGE
    return numbers, broken


def _coded(cells: Cells, column: Column) -> tuple[NDArray[np.float64], Broken]:
    """Read cells that have a text of the contract or the number that it stands for."""
    if not (isinstance(cells, np.ndarray) and cells.dtype.kind in "iuf"):
        table: dict[str, float | None] = {**column.numbers, "": None}
        if column.ignore_case:
            table = {text.lower(): number for text, number in table.items()}
        cells = [_decoded(cell, table, column) if type(cell) is str else cell for cell in cells]
    numbers, broken = _array_of_numbers(cells) if isinstance(cells, np.ndarray) else _typed(cells)
    known = np.isin(numbers, [*column.texts])
    broken[~known & (broken != _MISSING)] = _CATEGORY
    if column.nullable:
        broken[broken == _MISSING] = 0
    return numbers, broken


def _decoded(cell: str, table: Mapping[str, float | None], column: Column) -> float | str | None:
    text = cell.strip(" ") if column.trim else cell
    return table.get(text.lower() if column.ignore_case else text, text)


def _array_of_numbers(cells: NDArray[Any]) -> tuple[NDArray[np.float64], Broken]:
    """Read an array: NaN is missing. One that does not hold numbers breaks the rule of the type in every row."""
    if cells.dtype.kind not in "iuf":
        return _typed(cells.tolist()) if cells.dtype == object else _typed([str(cell) for cell in cells])
    numbers = cells.astype(np.float64)
    return numbers, np.where(np.isnan(numbers), _MISSING, 0).astype(np.uint8)


def _typed(cells: Sequence[Any]) -> tuple[NDArray[np.float64], Broken]:
    """Read numbers cell by cell; None is missing, and anything else that is not a number breaks the rule of the type."""
    if _NUMBERS.issuperset(map(type, cells)):
        try:
            numbers = np.array(cells, dtype=np.float64)
        except OverflowError:
            pass  # the loop below finds the cell
        else:
            return numbers, np.where(np.isnan(numbers), _TYPE, 0).astype(np.uint8)
    numbers, broken = np.full(len(cells), np.nan), np.zeros(len(cells), np.uint8)
    for row, cell in enumerate(cells):
        if cell is None:
            broken[row] = _MISSING
        elif not _is_number(cell):
            broken[row] = _TYPE
        else:
            numbers[row] = cell
    return numbers, broken


def _is_number(cell: Any) -> bool:
    return abs(cell) < _MOST if type(cell) is int else type(cell) is float and math.isfinite(cell)


def _texts(cells: Cells, column: Column) -> tuple[NDArray[Any], Broken]:
    """Look up each distinct text once."""
    values: Any = np.fromiter(cells, dtype=object, count=len(cells)) if isinstance(cells, list) else cells
    try:
        codes, distinct = pd.factorize(values)
    except TypeError:  # a cell that is a list or an object has no hash
        codes, distinct = np.arange(len(values)), values
    looked_up = [_text(cell, column) for cell in distinct]
    looked_up.append((None, 0 if column.nullable else _MISSING))  # the code -1: a missing value
    texts = np.array([text for text, _ in looked_up], dtype=object)
    rules = np.array([rule for _, rule in looked_up], dtype=np.uint8)
    return texts[codes], rules[codes]


def _text(cell: Any, column: Column) -> tuple[str | None, int]:
    """The category that a cell names, and the rule that it breaks."""
    text = cell.strip(" ") if column.trim and type(cell) is str else cell
    if text is None or (type(text) is str and not text):
        return None, 0 if column.nullable else _MISSING
    if type(text) is not str:
        return None, _CATEGORY if column.categories else _TYPE
    if text in column.categories or not column.categories:
        return text, 0
    lower = [category for category in column.categories if column.ignore_case and category.lower() == text.lower()]
    return (lower[0], 0) if lower else (None, _CATEGORY)


def _fault(row: int, column: Column, rule: int) -> Fault:
    wanted = f"is missing; it must be {column.allowed}" if rule == _MISSING else f"must be {column.allowed}"
    return Fault(row, column.name, f"{column.name}.{_RULES[rule]}", wanted)
