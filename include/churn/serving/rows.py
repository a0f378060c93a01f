"""Checks the rows of a request against the contract: the service rejects what intake quarantines, by the same rules."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from churn.contract import WRITTEN, Column, Contract, Kind

Values = dict[str, NDArray[Any]]
"""Values by column name: float64 for numbers, objects (text or None) for texts."""
_MOST = 2.0**63
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in WRITTEN.items()}
_NUMBERS = frozenset({int, float})


class BadRow(ValueError):  # noqa: N818 -- the name says what is wrong
    """A row breaks a rule. The message names the index of the row and the column, never the value."""

    def __init__(self, row: int, column: str, rule: str, wanted: str) -> None:
        super().__init__(f"Row {row}: {column} {wanted}.")
        self.row = row
        self.column = column
        self.rule = rule


def check_rows(columns: Mapping[str, Sequence[Any]], contract: Contract) -> Values:
    """Type the features of rows that satisfy every rule that intake applies to them.

    Args:
        columns: values by feature, all of the same length of at least 1. A number is an int or a float, a text a str,
            a missing value None.
        contract: the data contract. Rules that need a column that is not a feature cannot be checked in a request.

    Raises:
        BadRow: names the first row that breaks a rule, and its first such column.
    """
    values: Values = {}
    first: BadRow | None = None
    for column in contract.features:
        cells = columns[column.name]
        values[column.name], bad = _numbers(cells, column) if column.numeric else _texts(cells, column)
        if bad and (first is None or bad.row < first.row):
            first = bad
    for relation in contract.relations:
        if {relation.lesser, relation.greater} <= values.keys():
            above = (values[relation.lesser] > values[relation.greater])[: first.row if first else None]
            if above.any():
                wanted = f"must not exceed {relation.greater}"
                first = BadRow(int(above.argmax()), relation.lesser, relation.rule, wanted)
    if first:
        raise first
    return values


def read_cells(cells: Sequence[str], column: Column) -> list[Any]:
    """Read the cells of a text file as values. An empty cell is None; a number is read if intake would accept its notation."""
    if column.trim:
        cells = [cell.strip(" ") for cell in cells]
    if not column.numeric:
        return [cell or None for cell in cells]
    pattern = _PATTERNS[column.kind]
    return [(float(cell) if pattern.fullmatch(cell) else cell) if cell else None for cell in cells]


def _numbers(cells: Sequence[Any], column: Column) -> tuple[NDArray[Any], BadRow | None]:
    numbers, bad = _typed(cells, column)
    typed = numbers[: bad.row] if bad else numbers
    low, high = column.minimum, column.maximum
    outside = np.zeros(len(typed), dtype=bool)
    if low is not None:
        outside |= typed < low
    if high is not None:
        outside |= typed > high
    if outside.any():
        bad = BadRow(int(outside.argmax()), column.name, f"{column.name}.range", f"must be {column.allowed}")
    return numbers, bad


def _typed(cells: Sequence[Any], column: Column) -> tuple[NDArray[Any], BadRow | None]:
    """Read numbers up to the first cell that is not a number; a missing value is NaN if the column allows it."""
    if _NUMBERS.issuperset(map(type, cells)):
        try:
            numbers = np.array(cells, dtype=np.float64)
        except OverflowError:
            numbers = np.full(len(cells), np.inf)  # the loop below finds the cell
        valid = np.isfinite(numbers)
        if column.kind is Kind.INTEGER:
            valid &= (np.floor(numbers) == numbers) & (np.abs(numbers) < _MOST)
        if valid.all():
            return numbers, None
    numbers = np.empty(len(cells), dtype=np.float64)
    for row, cell in enumerate(cells):
        if cell is None and column.nullable:
            numbers[row] = np.nan
        elif cell is None:
            return numbers, _missing(row, column)
        elif not _is_number(cell, column):
            return numbers, BadRow(row, column.name, f"{column.name}.type", f"must be {column.allowed}")
        else:
            numbers[row] = cell
    return numbers, None


def _is_number(cell: Any, column: Column) -> bool:
    if type(cell) is int:
        return abs(cell) < _MOST
    if type(cell) is not float or not math.isfinite(cell):
        return False
    return column.kind is not Kind.INTEGER or (cell.is_integer() and abs(cell) < _MOST)


def _texts(cells: Sequence[Any], column: Column) -> tuple[NDArray[Any], BadRow | None]:
    texts = np.empty(len(cells), dtype=object)
    allowed = {category: category for category in column.categories}
    folded = {category.lower(): category for category in column.categories} if column.ignore_case else {}
    for row, cell in enumerate(cells):
        text = cell.strip(" ") if column.trim and type(cell) is str else cell
        if text is None or text == "":
            if not column.nullable:
                return texts, _missing(row, column)
            continue
        category = allowed.get(text) or folded.get(text.lower()) if type(text) is str else None
        if category is None:
            return texts, BadRow(row, column.name, f"{column.name}.category", f"must be {column.allowed}")
        texts[row] = category
    return texts, None


def _missing(row: int, column: Column) -> BadRow:
    return BadRow(row, column.name, f"{column.name}.missing", f"is missing; it must be {column.allowed}")
