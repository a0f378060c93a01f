"""Which labels count when a list is looked back upon."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import duckdb
import pytest

from churn.contract import Contract
from churn.outcomes.list_results import _measure
from support.panels import HORIZON, PANEL
from support.score_lists import published

JANUARY = date(2026, 1, 1)
AT_ONCE = Contract("panel", (*PANEL.columns[:-1], replace(PANEL.target, nullable=False, optional=None)))
"""The same columns, whose label comes with its row."""


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Twenty customers on a list, ten of each of two dates, and their labels."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            """
            CREATE TABLE listed AS SELECT n AS "Customer", DATE '2026-01-01' + 31 * (n % 2)::INTEGER AS "AsOf", 0.5 AS probability,
              1 AS decile, 'rest' AS "group", NULL::VARCHAR AS first_list, 'a' AS list_id FROM range(20) AS t(n)
            """
        )
        connection.execute(
            """
            CREATE TABLE labels AS SELECT "Customer", "AsOf", ("Customer" % 5 = 0)::INTEGER AS "Left",
              "AsOf"::TIMESTAMPTZ + INTERVAL 40 DAY AS _first_at FROM listed
            """
        )
        yield connection


@pytest.mark.parametrize(
    ("contract", "days", "known"),
    [
        (PANEL, 0, 20),
        (PANEL, HORIZON, 20),  # on the last day of the horizon of January
        (PANEL, HORIZON + 1, 10),
        (PANEL, HORIZON + 32, None),
        (AT_ONCE, 39, 20),
        (AT_ONCE, 41, 10),  # the labels of January had come with their rows
        (AT_ONCE, 90, None),
    ],
)
def test_what_was_over_when_the_list_was_published_says_nothing_of_it(
    connection: duckdb.DuckDBPyConnection, contract: Contract, days: int, known: int | None
) -> None:
    at = datetime.combine(JANUARY, datetime.min.time(), UTC) + timedelta(days=days)
    row = replace(published("a" * 64, "retention", 1, 1, datetime.now(UTC)), published_at=at, rows=20)
    figures = _measure(connection, row, contract)
    assert (figures and figures["rows"]) == known
