"""MLflow's scoring protocol: reads the body of a request into columns, and writes the body of an answer.

It accepts the four JSON forms and the CSV of MLflow's own server ("MLflow Serving: API Reference"), and like MLflow it ignores
further columns. Unlike MLflow, it neither casts nor guesses, and no message repeats anything that was sent.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from churn.contract import Contract
from churn.serving.rows import NO_ROWS, BadColumns, match_columns, read_cells

JSON, CSV = "application/json", "text/csv"
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_IGNORED = frozenset({"params"})
"""Fields that MLflow's clients may send with the rows; ignored, because the model has no parameters."""

Columns = dict[str, Sequence[Any]]
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True)
class Rows:
    """The features of the rows of a request, by name and all of the same length; and the names of the columns that were ignored."""

    columns: Columns
    ignored: list[str]


class BadRequest(ValueError):  # noqa: N818 -- the name says what is wrong
    """The request cannot be read; `status` is the HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def require_content_type(header: str | None, encoding: str | None = None) -> str:
    """Return the media type of the body.

    Raises:
        BadRequest: 415, if it is missing or unsupported, or if the body is compressed.
    """
    if encoding and encoding.lower() != "identity":
        raise BadRequest("The body must not be compressed. Send it without the header Content-Encoding.", 415)
    media, *parameters = [part.strip().lower().replace('"', "") for part in (header or "").split(";")]
    if media not in (JSON, CSV):
        raise BadRequest(f"The header Content-Type must be {JSON} or {CSV}.", 415)
    allowed = {"", "charset=utf-8", "charset=utf8"} | ({"header=present"} if media == CSV else set())
    other = [parameter for parameter in parameters if parameter not in allowed]
    if any(parameter.startswith("format=") for parameter in other):
        raise BadRequest(
            "The parameter format belongs to a version of MLflow before 2.0. Leave it out of the header Content-Type, and name the form in "
            "the body, for example dataframe_split.",
            415,
        )
    if other:
        raise BadRequest(
            "The only parameters allowed in the header Content-Type are charset=utf-8 and, for CSV, header=present.",
            415,
        )
    return media


def read_rows(body: bytes, media: str, contract: Contract) -> Rows:
    """Read the features of the rows in a body.

    Args:
        body: the body of the request.
        media: its media type, `application/json` or `text/csv`.
        contract: the data contract. Columns other than its features are ignored.

    Raises:
        BadRequest: the body cannot be read, does not follow the protocol, has no rows, lacks a feature, or writes the name of one
            in another case.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest("The body is not valid UTF-8.") from error
    rows = _from_json(text, contract) if media == JSON else _from_csv(text, contract)
    if not rows.columns[contract.feature_names[0]]:
        raise BadRequest(NO_ROWS)
    return rows


def answer(probabilities: NDArray[np.float64]) -> bytes:
    """Return the body of an answer; probabilities have the shape (rows, 2)."""
    return json.dumps({"predictions": probabilities.tolist()}).encode()


def _from_json(text: str, contract: Contract) -> Rows:
    try:
        document = json.loads(text, object_pairs_hook=_require_unique_names, parse_constant=_reject_constant)
    except BadRequest:
        raise
    except (ValueError, RecursionError) as error:
        raise BadRequest("The body is not valid JSON.") from error
    if isinstance(document, dict) and {"columns", "data"} <= document.keys():
        raise BadRequest(
            'The body has the form of MLflow before 2.0. Send {"dataframe_split": ...} with this object as its value.'
        )
    if isinstance(document, list):
        raise BadRequest('The body must not be a list. Send {"dataframe_records": ...} with this list as its value.')
    forms = [form for form in FORMS if form in document] if isinstance(document, dict) else []
    if len(forms) != 1 or document.keys() - {*forms, *_IGNORED}:
        raise BadRequest(
            f"The body must be a JSON object with exactly one of the fields {', '.join(FORMS)}, and no other field than params."
        )
    data = document[forms[0]]
    if forms[0] == "dataframe_split":
        return _from_split(data, contract)
    if forms[0] == "inputs" and isinstance(data, dict):
        return _from_columns(data, contract)
    return _from_records(data, forms[0], contract)


def _from_split(data: Any, contract: Contract) -> Rows:
    if not isinstance(data, dict) or not {"columns", "data"} <= data.keys() <= {"columns", "data", "index"}:
        raise BadRequest("dataframe_split must be an object with the fields columns and data; index is optional.")
    return _from_table(data["columns"], data["data"], contract)


def _from_table(names: Any, rows: Any, contract: Contract) -> Rows:
    if not isinstance(names, list) or not isinstance(rows, list):
        raise BadRequest("columns must be a list of names, and data a list of rows.")
    places, ignored = _places(names, contract)
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise BadRequest(f"Row {number} must be a list with one value for each of the {len(names)} columns.")
    return Rows({name: [row[place] for row in rows] for name, place in places.items()}, ignored)


def _from_records(data: Any, form: str, contract: Contract) -> Rows:
    if not isinstance(data, list):
        raise BadRequest(f"{form} must be a list of rows, each an object with a value for each column.")
    if not data:
        return Rows({name: [] for name in contract.feature_names}, [])
    if not isinstance(data[0], dict):
        raise BadRequest(
            f"Row 0 must be an object with a value for each column. {form} does not accept rows in another form."
        )
    names = data[0].keys()
    _, ignored = _places(list(names), contract)
    for number, row in enumerate(data):
        if not isinstance(row, dict) or row.keys() != names:
            raise BadRequest(f"Row {number} must be an object with the same columns as row 0.")
    return Rows({name: [row[name] for row in data] for name in contract.feature_names}, ignored)


def _from_columns(data: dict[str, Any], contract: Contract) -> Rows:
    """Read the form `inputs` into columns; a single value is one row."""
    _, ignored = _places(list(data), contract)
    columns = {name: data[name] if isinstance(data[name], list) else [data[name]] for name in contract.feature_names}
    if len({len(values) for values in columns.values()}) > 1:
        raise BadRequest("The columns of inputs must all have the same length.")
    return Rows(columns, ignored)


def _from_csv(text: str, contract: Contract) -> Rows:
    try:
        header, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (ValueError, csv.Error) as error:
        raise BadRequest("The body is not valid CSV with a header line.") from error
    if len(header) == 1:
        _require_commas(header[0], contract)
    rows = _from_table(header, [line for line in lines if line], contract)
    return Rows({name: read_cells(cells, contract[name]) for name, cells in rows.columns.items()}, rows.ignored)


def _require_commas(header: str, contract: Contract) -> None:
    for mark, name in _DELIMITERS.items():
        if set(header.split(mark)) & set(contract.feature_names):
            raise BadRequest(f"The cells are separated by {name}. Send them separated by commas.")


def _places(names: list[Any], contract: Contract) -> tuple[dict[str, int], list[str]]:
    """Return the position of each feature among the names, which may be of any JSON type, and the names that are ignored."""
    try:
        ignored = match_columns(names, contract)
    except BadColumns as error:
        raise BadRequest(str(error)) from error
    return {name: names.index(name) for name in contract.feature_names}, ignored


def _require_unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise BadRequest("A name appears twice in a JSON object. Send each name once.")
    return unique


def _reject_constant(_: str) -> Any:
    raise BadRequest("NaN and Infinity are not valid JSON. Send a missing value as null.")
