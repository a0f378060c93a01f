"""The first step of a registered model: the checks of the contract, as a scikit-learn transformer.

MLflow's own clients and notebooks thereby refuse the rows that the service refuses, with the same messages.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline

from churn.contract import Column, Contract
from churn.serving import UNCHECKED_VARIABLE
from churn.serving.rows import NO_ROWS, check_rows, frame_of, match_columns, read_cells

CHECKS, MODEL = "contract", "model"
"""Names of the steps of a registered model."""


class ContractChecks(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Checks rows against a contract, and types them as the model was trained.

    Columns that the model does not need are ignored. Whole numbers may be of any type of pandas, and missing values of any kind.

    Args:
        contract: the contract, as `Contract.to_json` writes it.
    """

    def __init__(self, contract: str) -> None:
        self.contract = contract

    def fit(self, rows: pd.DataFrame, target: Any = None) -> Self:  # noqa: ARG002 -- scikit-learn's interface
        """Learn nothing."""
        return self

    def transform(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the features of the rows, shape (rows, features).

        Raises:
            BadColumns: a feature is missing, or its name is written in another case.
            BadRows: rows break rules; the message names the first and the number of all.
            TypeError: the rows are not a DataFrame.
            ValueError: there are no rows.
        """
        if not isinstance(rows, pd.DataFrame):
            raise TypeError(f"The model needs a pandas DataFrame with named columns, not {type(rows).__name__}.")
        if os.environ.get(UNCHECKED_VARIABLE):
            return rows
        match_columns(list(rows.columns), self._rules)
        if not len(rows):
            raise ValueError(NO_ROWS)
        cells = {column.name: _cells(rows[column.name], column) for column in self._rules.features}
        return frame_of(check_rows(cells, self._rules), self._rules)

    @cached_property
    def _rules(self) -> Contract:
        return Contract.from_json(self.contract)

    def __getstate__(self) -> dict[str, Any]:
        return {"contract": self.contract}

    def __sklearn_is_fitted__(self) -> bool:
        return True


def add_checks(model: Any, contract: Contract) -> Pipeline:
    """Put the checks of a contract before a fitted model."""
    return Pipeline([(CHECKS, ContractChecks(contract.to_json())), (MODEL, model)])


def without_checks(model: Any) -> Any:
    """Return the model beneath the checks; a version that was registered before there were checks is returned as it is."""
    return model.named_steps[MODEL] if isinstance(model, Pipeline) and CHECKS in model.named_steps else model


def _cells(values: pd.Series, column: Column) -> Any:
    """The cells as the checks read them: NaN in an array of numbers, None elsewhere, where a value is missing.

    Pandas reads a column as texts if a cell of it is a blank. Where the contract trims numbers, such texts are read as in a file.
    """
    if not column.numeric:
        return values.to_numpy() if values.dtype == object else values.array
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    objects = values.astype(object)
    cells = objects.where(objects.notna(), None).to_numpy()
    if column.trim and not column.values:
        texts = read_cells([cell if type(cell) is str else "" for cell in cells], column)
        cells = np.array([text if type(cell) is str else cell for cell, text in zip(cells, texts, strict=True)], object)
    return cells
