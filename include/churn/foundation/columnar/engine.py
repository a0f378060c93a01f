"""DuckDB with the limits of the settings, and views of the Parquet files in the data root."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs

from churn.errors import ChurnError, Outage
from churn.foundation.columnar.instances import INSTANCES
from churn.foundation.columnar.names import literal
from churn.foundation.storage import Storage

# Of `execute`, DuckDB says that `sql` saves a copy. But `sql` compiles a query twice, which takes longer than copying some megabytes.
warnings.filterwarnings("ignore", "Arrow output on a DB-API result makes an extra copy", UserWarning)


class EngineExhausted(Outage):
    """The columnar engine ran out of memory or disk."""


class ParsedQuery:
    """A query that is parsed once, when it first runs, and run on many tables: on small ones, parsing takes longer than the work.

    Args:
        connection: the engine.
        sql: the query; it names the tables that are given to `run`.
        parameters: its named parameters.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object]) -> None:
        self._connection, self._sql, self._parameters = connection, sql, dict(parameters)

    @cached_property
    def _statement(self) -> duckdb.Statement:
        (statement,) = self._connection.extract_statements(self._sql)
        return statement

    def run(self, **tables: pa.Table) -> pa.Table:
        """Run it on tables, by their names in the query."""
        for name, table in tables.items():
            self._connection.register(name, table)
        return self._connection.execute(self._statement, self._parameters).to_arrow_table()


@contextmanager
def engine(memory_limit: str, threads: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a private in-memory DuckDB with a memory limit such as `1GB`; work beyond it spills to a temporary folder.

    Raises:
        EngineExhausted: the work needs more memory than the limit, or the disk is full.
    """
    limits = (memory_limit, threads)
    with tempfile.TemporaryDirectory(prefix="churn-spill-") as folder:
        instance, connection = INSTANCES.take(limits, Path(folder))
        try:
            yield connection
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise EngineExhausted(
                f"The columnar engine ran out of memory or disk ({type(error).__name__}). Raise CHURN_DUCKDB_MEMORY_LIMIT "
                f"(now {memory_limit}) or free disk space at {folder}, then run the step again; nothing was lost."
            ) from error
        finally:
            connection.close()
            INSTANCES.give_back(limits, instance)


def scan(connection: duckdb.DuckDBPyConnection, view: str, storage: Storage, names: Sequence[str]) -> None:
    """Create a view of Parquet files in the data root; DuckDB reads local files, Arrow reads the others.

    Raises:
        ChurnError: a file is missing or damaged.
    """
    try:
        _scan(connection, view, storage, names)
    except (duckdb.Error, pa.ArrowException) as error:
        raise ChurnError(
            f"One of {len(names)} files in {storage.url('')} is missing or damaged ({type(error).__name__}). "
            "`churn audit` names it. Restore it from a backup, or withdraw its batch: `churn batches withdraw HASH --reason ...`."
        ) from error


def scan_files(connection: duckdb.DuckDBPyConnection, view: str, files: Sequence[Path]) -> None:
    """Create a view of local Parquet files.

    Raises:
        ChurnError: a file is damaged.
    """
    try:
        _scan_local(connection, view, [str(file) for file in files])
    except duckdb.Error as error:
        raise ChurnError(
            f"One of {len(files)} files in {files[0].parent} is damaged ({type(error).__name__}). `churn audit --hashes` names it."
        ) from error


def _scan_local(connection: duckdb.DuckDBPyConnection, view: str, paths: Sequence[str]) -> None:
    listed = ", ".join(literal(path) for path in paths)
    connection.execute(
        f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM read_parquet([{listed}], union_by_name = true)"  # noqa: S608 -- quoted paths
    )


def _scan(connection: duckdb.DuckDBPyConnection, view: str, storage: Storage, names: Sequence[str]) -> None:
    paths = [storage.path(name) for name in names]
    if storage.local:
        _scan_local(connection, view, paths)
    else:
        filesystem = pa.fs.PyFileSystem(pa.fs.FSSpecHandler(storage.fs))
        files = ds.FileSystemDatasetFactory(filesystem, paths, ds.ParquetFileFormat())
        connection.register(view, files.finish(pa.unify_schemas(files.inspect_schemas())))
