"""Rows generated from the contract: the input example of a model and the probes of a served model.

No row belongs to a customer. Every category, both bounds of every range and, where allowed, a missing
value occur. All other values are drawn between the bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from churn.contract import Column, Contract, Kind


def example_rows(contract: Contract, rows: int, seed: int = 0) -> pd.DataFrame:
    """Generate rows that satisfy the contract.

    Args:
        contract: the data contract.
        rows: number of rows.
        seed: seed of the draws; the same seed gives the same rows.

    Returns:
        Frame of `rows` rows with every column of the contract; INTEGER columns are int64,
        NUMBER columns float64, TEXT columns text (`None` where a value is missing), DATE columns datetime64.
    """
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({column.name: _values(column, rows, rng) for column in contract.columns})
    for relation in contract.relations:
        greater, lesser = frame[relation.greater], frame[relation.lesser]
        frame[relation.lesser] = lesser.mask((lesser > greater).fillna(False), greater)
    return frame


def model_input(contract: Contract, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the features in the types of the model: numbers as float64, texts as objects, in contract order.

    In a model signature, a column of type long rejects floats and missing values. Every numeric feature
    is therefore a double (MLflow, "Model Signature").
    """
    columns = {
        column.name: frame[column.name].astype("float64" if column.numeric else "object")
        for column in contract.features
    }
    for column in contract.features:
        if column.nullable and not column.numeric:  # a missing text is always None, never NaN
            columns[column.name] = columns[column.name].where(columns[column.name].notna(), None)
    return pd.DataFrame(columns)


def _values(column: Column, rows: int, rng: np.random.Generator) -> pd.Series:
    edges: list[Any]
    if column.kind is Kind.DATE:
        days = pd.to_datetime("2024-01-01") + pd.to_timedelta(rng.integers(0, 700, rows), unit="D")
        return pd.Series(days)
    if column.kind is Kind.TEXT:
        count = rows if column.max_levels is None else min(rows, column.max_levels + 1)
        choices = list(column.categories) or [f"{column.name}-{number}" for number in range(max(count, 1))]
        edges, values = choices, rng.choice(choices, rows).astype(object)
    elif column.values:
        edges = [float(number) for number in column.texts]
        values = rng.choice(edges, rows)
    else:
        low = column.minimum if column.minimum is not None else -1e6
        high = column.maximum if column.maximum is not None else 1e6
        edges = [low, high]
        values = rng.uniform(low, high, rows)
    included = edges[:rows]
    values[: len(included)] = included
    rng.shuffle(values)
    if column.kind is Kind.INTEGER:
        series = pd.Series(np.round(values).astype("int64"), dtype="Int64" if column.nullable else "int64")
    else:
        series = pd.Series(values, dtype="float64" if column.numeric else "object")
    if column.nullable and rows:
        series.iloc[int(rng.integers(rows))] = None
    return series
