"""The probes of a served model: rows of the contract, extremes of the holdout, and requests that it must refuse."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from churn.contract import Column, Contract, Kind
from churn.decision.scoring import Scorer
from churn.foundation.examples import example_rows, model_input

CONTRACT_ROWS = 500
_MOST_EXTREME = 20
PLANTED = "Q7-planted-value"
"""Represents customer data in an invalid request. No answer may repeat it."""
JSON_TYPE = "application/json"


@dataclass(frozen=True)
class BadRequest:
    """A request that must be refused. The refusal must name `row` and `column`."""

    name: str
    body: bytes
    content_type: str | None = JSON_TYPE
    row: int | None = None
    column: str | None = None


def contract_rows(contract: Contract) -> pd.DataFrame:
    """Rows made from the contract: typical ones, every category, every bound. None is a customer's."""
    return model_input(contract, example_rows(contract, CONTRACT_ROWS, seed=1))


def holdout_extremes(pieces: Iterable[pd.DataFrame], scorer: Scorer, contract: Contract) -> pd.DataFrame:
    """The rows of the holdout with the lowest and highest scores, and with the smallest and largest value of every number.

    Args:
        pieces: the holdout in pieces, as frames with the columns of the contract.
        scorer: from rows to probabilities of class 1.
        contract: names the features.

    Returns:
        At most 40 rows and two for each numeric feature, as the model takes them.
    """
    kept: pd.DataFrame | None = None
    for piece in pieces:
        rows = model_input(contract, piece)
        rows = rows if kept is None else pd.concat([kept, rows], ignore_index=True)
        order = np.argsort(scorer(rows), kind="stable")
        chosen = {*order[:_MOST_EXTREME].tolist(), *order[-_MOST_EXTREME:].tolist()}
        for column in contract.features:
            if column.numeric and rows[column.name].notna().any():
                chosen |= {int(rows[column.name].argmin()), int(rows[column.name].argmax())}
        kept = rows.iloc[sorted(chosen)].reset_index(drop=True)
    return kept if kept is not None else contract_rows(contract).iloc[:0]


def rows_body(rows: pd.DataFrame) -> dict[str, Any]:
    """Rows in MLflow's form `dataframe_split`. A missing value is None."""
    return {"columns": list(rows.columns), "data": rows.astype(object).where(rows.notna(), None).to_numpy().tolist()}


def in_texts(rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Rows of the model as a file has them: the text of the contract in place of the number that it stands for."""
    texts = {column.name: column.texts for column in contract.features if column.values}
    return rows.assign(**{name: rows[name].map(known).astype("object") for name, known in texts.items()})


def bad_requests(contract: Contract) -> list[BadRequest]:
    """Requests that break the protocol or the contract, each in one way."""
    rows = rows_body(contract_rows(contract).iloc[:3])
    good = json.dumps({"dataframe_split": rows}).encode()
    requests = [
        BadRequest("no content type", good, None),
        BadRequest("wrong content type", good, "application/xml"),
        BadRequest("another charset", good, "application/json; charset=latin-1"),
        BadRequest("no body", b""),
        BadRequest("broken JSON", good[:-9] + PLANTED.encode()),
        BadRequest("not UTF-8", b'{"dataframe_split": "\xff' + PLANTED.encode() + b'"}'),
        BadRequest("deeply nested JSON", b'{"inputs": ' + b"[" * 100_000),
        BadRequest("no form", json.dumps({PLANTED: 1}).encode()),
        BadRequest("a list", json.dumps([PLANTED]).encode()),
        BadRequest("no row", json.dumps({"dataframe_split": rows | {"data": []}}).encode()),
        BadRequest("a ragged row", json.dumps({"dataframe_split": rows | {"data": [[PLANTED]]}}).encode()),
        BadRequest("10,001 columns", _split([f"{PLANTED}{number}" for number in range(10_001)], [[0] * 10_001])),
        BadRequest(
            "a column in another case",
            _split([rows["columns"][0].swapcase(), *rows["columns"][1:]], rows["data"]),
            column=rows["columns"][0],
        ),
        BadRequest("the body of an old client", json.dumps(rows).encode()),
        BadRequest(
            "a column twice", _split([*rows["columns"], rows["columns"][0]], [[*row, 1] for row in rows["data"]])
        ),
        BadRequest("a body of 50 MB", b'{"inputs": "' + b"x" * 50_000_000 + b'"}'),
        BadRequest("broken CSV", f'"{PLANTED}'.encode(), "text/csv"),
        BadRequest("CSV without a header", f"{PLANTED},1\n".encode(), "text/csv"),
    ]
    for place, column in enumerate(contract.features):
        requests.append(BadRequest(f"no {column.name}", _split(*_without(rows, place)), column=column.name))
        for name, value in _bad_values(column):
            data = [list(row) for row in rows["data"]]
            data[1][place] = value
            body = _split(rows["columns"], data)
            requests.append(BadRequest(f"{column.name}: {name}", body, row=1, column=column.name))
    return requests


def _bad_values(column: Column) -> list[tuple[str, Any]]:
    values: list[tuple[str, Any]] = [("an object", {PLANTED: 1})]
    values.append(("a number", 17) if column.open else ("a text", PLANTED))
    if not column.nullable:
        values.append(("null", None))
    if column.numeric:
        values += [("true", True), ("beyond every number", 10**400)]
    if column.kind is Kind.INTEGER:
        values.append(("1.5", (column.minimum or 0) + 1.5))
    if column.minimum is not None:
        values.append(("below", column.minimum - 1))
    if column.maximum is not None:
        values.append(("above", column.maximum + 1))
    return values


def _without(rows: dict[str, Any], place: int) -> tuple[list[str], list[list[Any]]]:
    names = [name for at, name in enumerate(rows["columns"]) if at != place]
    return names, [[value for at, value in enumerate(row) if at != place] for row in rows["data"]]


def _split(columns: list[str], data: list[list[Any]]) -> bytes:
    return json.dumps({"dataframe_split": {"columns": columns, "data": data}}).encode()
