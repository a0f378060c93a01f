"""Accepted rows of a small contract with a column of every kind, as Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from churn.contract import Column, Contract, Kind, Role

SMALL = Contract(
    "small",
    (
        Column("client", Kind.TEXT, Role.KEY),
        Column("age", Kind.INTEGER, Role.FEATURE, minimum=18, maximum=100),
        Column("years", Kind.INTEGER, Role.FEATURE, minimum=0, nullable=True, at_most="age"),
        Column("balance", Kind.NUMBER, Role.FEATURE, minimum=0),
        Column("country", Kind.TEXT, Role.FEATURE, categories=("France", "Spain")),
        Column("opened", Kind.DATE, Role.CARRIED),
        Column("gone", Kind.INTEGER, Role.TARGET, minimum=0, maximum=1),
    ),
)
_TYPES = {Kind.INTEGER: pa.int64(), Kind.NUMBER: pa.float64(), Kind.TEXT: pa.string(), Kind.DATE: pa.date32()}
_SCHEMA = pa.schema([(column.name, _TYPES[column.kind]) for column in SMALL.columns] + [("_line", pa.int64())])


def small_rows(count: int) -> list[dict[str, Any]]:
    """Rows that meet the contract."""
    return [
        {
            "client": f"C{number:04d}",
            "age": 20 + number % 60,
            "years": None if number % 4 == 1 else number % 9,
            "balance": 1000.5 * number,
            "country": ("France", "Spain")[number % 2],
            "opened": date(2020, 1, 1) + timedelta(days=number),
            "gone": number % 2,
            "_line": number + 2,
        }
        for number in range(count)
    ]


def write_parts(folder: Path, rows: Sequence[dict[str, Any]], sizes: Sequence[int], row_group: int = 2) -> list[Path]:
    """Write rows to Parquet files of so many rows each, in row groups of a few rows."""
    folder.mkdir(parents=True, exist_ok=True)
    files, first = [], 0
    for number, size in enumerate(sizes):
        files.append(folder / f"part-{number:04d}.parquet")
        table = pa.Table.from_pylist(list(rows[first : first + size]), _SCHEMA)
        pq.write_table(table, files[-1], row_group_size=row_group)
        first += size
    assert first == len(rows)
    return files
