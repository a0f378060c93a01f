"""DuckDB with limits from the settings, and the data root's Parquet files as its views."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs

from churn.errors import ChurnError, Outage
from churn.foundation.columnar.names import literal
from churn.foundation.storage import Storage


class EngineExhausted(Outage):
    """The columnar engine has no memory or no disk left."""


@contextmanager
def engine(memory_limit: str, threads: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A private in-memory DuckDB with a memory limit such as `1GB`; what goes beyond it is in a folder that is removed.

    Raises:
        EngineExhausted: the work needs more memory than that, or the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="churn-spill-") as folder:
        config: dict[str, Any] = {"memory_limit": memory_limit, "temp_directory": folder}
        connection = duckdb.connect(config=config | ({"threads": threads} if threads else {}))
        try:
            connection.execute("SET enable_progress_bar = false")  # it would be drawn into logs
            yield connection
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise EngineExhausted(
                f"The columnar engine has not enough memory or disk ({type(error).__name__}). Raise CHURN_DUCKDB_MEMORY_LIMIT "
                f"(now {memory_limit}) or free the disk of {folder}, then run the step again; nothing was lost."
            ) from error
        finally:
            connection.close()


def scan(connection: duckdb.DuckDBPyConnection, view: str, storage: Storage, names: Sequence[str]) -> None:
    """Make Parquet files of the data root readable as a view; local ones by the engine itself, others by Arrow.

    Raises:
        ChurnError: one of them is gone or damaged.
    """
    try:
        _scan(connection, view, storage, names)
    except (duckdb.Error, pa.ArrowException) as error:
        raise ChurnError(
            f"Of {len(names)} files of {storage.url('')} one is gone or damaged ({type(error).__name__}). "
            "`churn audit` says which. Put it back, or withdraw its batch (`churn batches withdraw`)."
        ) from error


def _scan(connection: duckdb.DuckDBPyConnection, view: str, storage: Storage, names: Sequence[str]) -> None:
    paths = [storage.path(name) for name in names]
    if storage.local:
        listed = ", ".join(literal(path) for path in paths)
        connection.execute(
            f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM read_parquet([{listed}], union_by_name = true)"  # noqa: S608 -- quoted paths
        )
    else:
        filesystem = pa.fs.PyFileSystem(pa.fs.FSSpecHandler(storage.fs))
        files = ds.FileSystemDatasetFactory(filesystem, paths, ds.ParquetFileFormat())
        connection.register(view, files.finish(pa.unify_schemas(files.inspect_schemas())))
