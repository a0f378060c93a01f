"""The body of a request becomes columns in every form of MLflow, or a clear refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from churn.contract import Column, Contract, Kind, Role
from churn.serving.protocol import CSV, JSON, BadRequest, read_rows, require_content_type

CONTRACT = Contract(
    "small",
    (
        Column("key", Kind.INTEGER, Role.KEY),
        Column("left", Kind.INTEGER, Role.TARGET, 0, 1),
        Column("age", Kind.NUMBER, Role.FEATURE),
        Column("plan", Kind.TEXT, Role.FEATURE, categories=("x", "y")),
    ),
)


@pytest.mark.parametrize(
    "form",
    [
        {"dataframe_split": {"columns": ["plan", "age"], "data": [["x", 1], ["y", 2]]}},
        {"dataframe_records": [{"age": 1, "plan": "x"}, {"plan": "y", "age": 2}]},
        {"instances": [{"age": 1, "plan": "x", "key": 7}, {"age": 2, "plan": "y", "key": 8}]},
        {"inputs": {"age": [1, 2], "plan": ["x", "y"]}, "params": {}},
    ],
)
def test_every_form_gives_the_same_columns(form: dict[str, Any]) -> None:
    """Columns in any order; other columns of the contract are ignored."""
    columns = read_rows(json.dumps(form).encode(), JSON, CONTRACT)
    assert {name: list(values) for name, values in columns.items()} == {"age": [1, 2], "plan": ["x", "y"]}


def test_csv_gives_them_too() -> None:
    """With a header, in any order."""
    columns = read_rows(b"plan,age\nx,1\ny,2\n", CSV, CONTRACT)
    assert {name: list(values) for name, values in columns.items()} == {"age": [1, 2], "plan": ["x", "y"]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b'{"inputs": {"age": [1], "plan": ["x"]}, "instances": []}',
        b'{"inputs": {"age": [NaN], "plan": ["x"]}}',
        b'{"inputs": {"age": [1, 2], "plan": ["x"]}}',
        b'{"inputs": {"age": [1]}}',
        b'{"inputs": {"age": [1], "plan": ["x"], "secret-column": [1]}}',
        b'{"inputs": {"age": [], "plan": []}}',
        b'{"inputs": {"age": [1], "age": [2], "plan": ["x"]}}',
        b'{"dataframe_split": {"columns": ["age", "plan"], "data": [[1]]}}',
        b'{"dataframe_records": [{"age": 1, "plan": "x"}, {"age": 1}]}',
    ],
)
def test_any_other_body_is_refused_without_repeating_it(body: bytes) -> None:
    """400 and a sentence that has nothing of what was sent."""
    with pytest.raises(BadRequest) as refused:
        read_rows(body, JSON, CONTRACT)
    assert refused.value.status == 400
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("header", "encoding", "media"),
    [
        ("application/json", None, JSON),
        ("Application/JSON; charset=UTF-8", "identity", JSON),
        ("text/csv", None, CSV),
        (None, None, None),
        ("text/html", None, None),
        ("application/json; charset=latin-1", None, None),
        ("application/json", "gzip", None),
    ],
)
def test_the_content_type_is_required(header: str | None, encoding: str | None, media: str | None) -> None:
    """JSON and CSV in UTF-8, uncompressed; anything else is 415."""
    if media:
        assert require_content_type(header, encoding) == media
        return
    with pytest.raises(BadRequest) as refused:
        require_content_type(header, encoding)
    assert refused.value.status == 415
