"""DuckDB with limits from the settings, and the data root's Parquet files as its views."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow.dataset as ds

from churn.foundation.columnar.names import literal
from churn.foundation.storage import Storage


@contextmanager
def engine(memory_limit: str, threads: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A private in-memory DuckDB with a memory limit such as `1GB`; what goes beyond it is in a folder that is removed."""
    with tempfile.TemporaryDirectory(prefix="churn-spill-") as folder:
        config: dict[str, Any] = {"memory_limit": memory_limit, "temp_directory": folder}
        connection = duckdb.connect(config=config | ({"threads": threads} if threads else {}))
        try:
            connection.execute("SET enable_progress_bar = false")  # it would be drawn into logs
            yield connection
        finally:
            connection.close()


def scan(connection: duckdb.DuckDBPyConnection, view: str, storage: Storage, names: Sequence[str]) -> None:
    """Make Parquet files of the data root readable as a view; local ones by the engine itself, others by Arrow."""
    paths = [storage.path(name) for name in names]
    if storage.local:
        listed = ", ".join(literal(path) for path in paths)
        connection.execute(
            f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM read_parquet([{listed}], union_by_name = true)"  # noqa: S608 -- quoted paths
        )
    else:
        connection.register(view, ds.dataset(paths, filesystem=storage.fs, format="parquet"))
