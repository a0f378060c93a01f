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
    rows = read_rows(json.dumps(form).encode(), JSON, CONTRACT)
    assert {name: list(values) for name, values in rows.columns.items()} == {"age": [1, 2], "plan": ["x", "y"]}


def test_csv_gives_them_too() -> None:
    """With a header, in any order."""
    rows = read_rows(b"plan,age\nx,1\ny,2\n", CSV, CONTRACT)
    assert {name: list(values) for name, values in rows.columns.items()} == {"age": [1, 2], "plan": ["x", "y"]}


@pytest.mark.parametrize(
    ("body", "media"),
    [
        ({"dataframe_split": {"columns": ["", "age", "extra", "plan"], "data": [[0, 1, None, "x"]]}}, JSON),
        ({"dataframe_records": [{"": 0, "age": 1, "plan": "x", "extra": 2}]}, JSON),
        ({"inputs": {"": 0, "age": 1, "plan": "x", "extra": [3]}}, JSON),
        (",age,extra,plan\n0,1,,x\n", CSV),
    ],
)
def test_further_columns_are_ignored_and_named(body: object, media: str) -> None:
    """The index of a pandas frame, or an id, is no reason to refuse a request."""
    rows = read_rows((body if isinstance(body, str) else json.dumps(body)).encode(), media, CONTRACT)
    assert {name: list(values) for name, values in rows.columns.items()} == {"age": [1], "plan": ["x"]}
    assert sorted(rows.ignored) == ["", "extra"]


@pytest.mark.parametrize("name", ["Age", " age", "AGE "])
def test_a_name_in_another_case_is_refused_with_the_right_one(name: str) -> None:
    """Also if the right name is there: which of the two is meant is not guessed."""
    for columns in ([name, "plan"], [name, "plan", "age"]):
        body = {"dataframe_split": {"columns": columns, "data": [[1, "x", 2][: len(columns)]]}}
        with pytest.raises(BadRequest, match="only in case or blanks from those of the model: age"):
            read_rows(json.dumps(body).encode(), JSON, CONTRACT)


@pytest.mark.parametrize(
    ("body", "media", "words"),
    [
        ("plan;age\nx;1\n", CSV, "separated by semicolons"),
        ("plan\tage\nx\t1\n", CSV, "separated by tabs"),
        ('{"columns": ["plan", "age"], "data": [["x", 1]]}', JSON, "dataframe_split"),
        ('[{"plan": "x", "age": 1}]', JSON, "dataframe_records"),
    ],
)
def test_what_other_clients_send_gets_the_sentence_that_helps(body: str, media: str, words: str) -> None:
    """A CSV of another delimiter, and the bodies of MLflow before 2.0."""
    with pytest.raises(BadRequest, match=words):
        read_rows(body.encode(), media, CONTRACT)


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
        b'{"inputs": {"age": [1], "secret-column": [1]}}',
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
        ("text/csv; charset=utf8; header=present", None, CSV),
        ('application/json;charset="utf-8";', None, JSON),
        ("application/json; header=present", None, None),
        ("text/csv; header=absent", None, None),
        ("application/json; format=pandas-split", None, None),
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
