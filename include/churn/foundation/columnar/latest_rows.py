"""The latest row of every customer, with the customer's bucket: the rows of a snapshot."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from churn.contract import Column, Contract, Kind
from churn.foundation.columnar.names import column_name, column_names, quoted

BUCKETS = 100
PARTS = 20
"""Snapshots are divided into this number of parts, and each has the customers of some buckets."""
BUCKETS_OF_PART = BUCKETS // PARTS
_BLOCK = 64  # block size of SHA-256 in bytes (RFC 2104)
_HASH = np.dtype([("bucket", ">u4"), ("customer", ">u8"), ("rest", "V20")])
_LINE_BITS = 40
_LINES = 1 << _LINE_BITS  # more lines than any file has
_TYPES = {Kind.INTEGER: pa.int64(), Kind.NUMBER: pa.float64(), Kind.TEXT: pa.string(), Kind.DATE: pa.date32()}
_ABSENT = {Kind.INTEGER: "BIGINT", Kind.NUMBER: "DOUBLE", Kind.TEXT: "VARCHAR", Kind.DATE: "DATE"}


class OtherKind(ValueError):  # noqa: N818 -- it says what is wrong
    """Accepted values are not of the kind that the contract asks for: another contract accepted them."""


def write_latest_rows(
    connection: duckdb.DuckDBPyConnection, arrivals: pa.Table, contract: Contract, salt: bytes, target: Path
) -> None:
    """Write the latest row of every customer, with the customer's bucket, ordered by key.

    The latest row is found by the as-of column if the contract has one, then by the arrival of the batch, then by line.
    The bucket is HMAC-SHA256(salt, key) modulo 100 (RFC 2104, written out in SQL): it depends
    only on the customer and the salt, so no customer changes buckets between runs.

    Args:
        connection: the engine, with the view `accepted`.
        arrivals: `_batch`, `_arrived_at` and `_rank` (order of arrival) of its batches.
        contract: the data contract.
        salt: the secret key.
        target: Parquet file with the contract's columns, `_bucket` (0-99), `_customer` (64 further bits of the
            keyed hash), `_arrived_at` and `_batch`. A column that `accepted` lacks is null in every row.
    """
    inner, outer = hmac_pads(salt)
    key, columns = column_name(contract.key), column_names(contract)
    available = set(connection.view("accepted").columns)
    selected = ", ".join(
        column_name(column)
        if column.name in available
        else f"CAST(NULL AS {_ABSENT[column.kind]}) AS {column_name(column)}"
        for column in contract.columns
    )
    order = f"_rank * {_LINES} + _line"
    if contract.as_of:
        order = f"({column_name(contract.as_of)}, {order})"
    connection.register("arrivals", arrivals)
    connection.execute(
        f"""
        COPY (
          WITH rows AS (SELECT {selected}, _arrived_at, _batch, {order} AS _order FROM accepted JOIN arrivals USING (_batch)),
          latest AS (SELECT {key}, max(_order) AS _order FROM rows GROUP BY {key}),
          hashed AS (
            SELECT {columns}, _arrived_at, _batch, sha256($outer || unhex(sha256($inner || encode(CAST({key} AS VARCHAR))))) AS _hash
            FROM rows JOIN latest USING ({key}, _order)
          )
          SELECT {columns}, CAST(CAST('0x' || substr(_hash, 1, 8) AS UBIGINT) % {BUCKETS} AS INTEGER) AS _bucket,
            CAST('0x' || substr(_hash, 9, 16) AS UBIGINT) AS _customer, _arrived_at, _batch
          FROM hashed ORDER BY {key}
        ) TO $target (COMPRESSION zstd)
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        {"inner": inner, "outer": outer, "target": str(target)},
    )


def hmac_pads(salt: bytes) -> tuple[bytes, bytes]:
    """Return the inner and the outer padded key of HMAC-SHA256 (RFC 2104)."""
    key = (hashlib.sha256(salt).digest() if len(salt) > _BLOCK else salt).ljust(_BLOCK, b"\0")
    return bytes(byte ^ 0x36 for byte in key), bytes(byte ^ 0x5C for byte in key)


def count_shared_customers(
    connection: duckdb.DuckDBPyConnection, trained: str, holdout: str, key: Column, training: range, unseen: range
) -> int:
    """Return the number of customers in the buckets `unseen` of view `holdout` that are also in the buckets `training` of view `trained`."""
    name = column_name(key)
    ((shared,),) = connection.execute(
        f"""
        SELECT count(DISTINCT {name}) FROM {holdout} WHERE _bucket BETWEEN $first_unseen AND $last_unseen
        AND {name} IN (SELECT {name} FROM {trained} WHERE _bucket BETWEEN $first_trained AND $last_trained)
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        {
            "first_unseen": unseen[0],
            "last_unseen": unseen[-1],
            "first_trained": training[0],
            "last_trained": training[-1],
        },
    ).fetchall()
    return int(shared)


def row_schema(contract: Contract) -> pa.Schema:
    """The columns of a contract, as typed values."""
    return pa.schema([(column.name, _TYPES[column.kind]) for column in contract.columns])


def bucketed_schema(contract: Contract) -> pa.Schema:
    """The columns of `read_bucketed_rows`."""
    added = [("_bucket", pa.int32()), ("_customer", pa.uint64()), ("_order", pa.int64())]
    return pa.schema([*row_schema(contract), *(pa.field(name, kind) for name, kind in added)])


def read_bucketed_rows(
    connection: duckdb.DuckDBPyConnection,
    file: Path,
    rank: int,
    contract: Contract,
    salt: bytes,
    rows: int,
    named: Mapping[str, str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Read a file of accepted rows, with the bucket of each customer.

    The bucket and `_customer` are those of `write_latest_rows`.

    Args:
        connection: the engine.
        file: Parquet file with `_line` and columns of the contract. One that it lacks is null in every row.
        rank: the place of its batch in the order of arrival, from 0.
        contract: the data contract.
        salt: the secret key.
        rows: at most this number of rows are in a batch.
        named: columns of the contract that have another name in the file.

    Yields:
        Batches with the columns of `bucketed_schema`. `_order` grows with the arrival of the batch, then with the line.

    Raises:
        OtherKind: values are not of the kind that the contract asks for.
        duckdb.Error: the file cannot be read.
    """
    inner, outer = hmac_pads(salt)
    available, other = set(pq.read_schema(file).names), named or {}
    selected = ", ".join(
        f"{quoted(other.get(column.name, column.name))} AS {column_name(column)}"
        if other.get(column.name, column.name) in available
        else f"CAST(NULL AS {_ABSENT[column.kind]}) AS {column_name(column)}"
        for column in contract.columns
    )
    reader = connection.sql(
        f"""
        SELECT {selected}, $rank * {_LINES} + _line AS _order,
          unhex(sha256($outer || unhex(sha256($inner || encode(CAST({column_name(contract.key)} AS VARCHAR)))))) AS _hash
        FROM read_parquet($file)
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        params={"inner": inner, "outer": outer, "file": str(file), "rank": rank},
    ).to_arrow_reader(rows)
    schema = bucketed_schema(contract)
    for batch in reader:
        buckets, customers = _hash_numbers(batch["_hash"])
        columns = {"_bucket": buckets, "_customer": customers}
        arrays = [columns[name] if name in columns else batch[name] for name in schema.names]
        try:
            yield pa.record_batch(arrays, schema.names).cast(schema)
        except pa.ArrowInvalid as error:
            raise OtherKind(str(schema)) from error


def _hash_numbers(hashes: pa.BinaryArray) -> tuple[pa.Array, pa.Array]:
    """The bucket and the 64 bits of `_customer` from keyed hashes of 32 bytes, none of which is missing."""
    _, offsets, data = hashes.buffers()
    first = int(np.frombuffer(offsets, np.int32, 1, 4 * hashes.offset)[0]) if len(hashes) else 0
    parts = np.frombuffer(data if data is not None else b"", _HASH, len(hashes), first)
    return pa.array((parts["bucket"] % BUCKETS).astype(np.int32)), pa.array(parts["customer"].astype(np.uint64))


def rank_of(order: pa.ChunkedArray) -> pa.ChunkedArray:
    """The rank of the batch of each row, from `_order`."""
    return pc.shift_right(order, pa.scalar(_LINE_BITS, pa.int64()))


def line_of(order: pa.ChunkedArray) -> pa.ChunkedArray:
    """The line of each row in its file, from `_order`."""
    return pc.bit_wise_and(order, pa.scalar(_LINES - 1, pa.int64()))


def sort_bucketed_rows(
    connection: duckdb.DuckDBPyConnection, batches: Iterator[pa.RecordBatch], contract: Contract, rows: int
) -> Iterator[pa.RecordBatch]:
    """Sort rows by key, and those of a customer from the oldest to the latest, on disk if they do not fit into memory.

    Args:
        connection: the engine.
        batches: rows of `bucketed_schema`.
        contract: the data contract.
        rows: at most this number of rows are in a batch.
    """
    schema = bucketed_schema(contract)
    connection.register("bucketed", pa.RecordBatchReader.from_batches(schema, batches))
    by = ", ".join(f"{quoted(name)} ASC NULLS LAST" for name in sort_columns(contract))
    for batch in connection.sql(f"SELECT * FROM bucketed ORDER BY {by}").to_arrow_reader(rows):  # noqa: S608 -- quoted names
        yield batch.cast(schema)


def sort_columns(contract: Contract) -> list[str]:
    """The columns that order rows by key, and those of a customer from the oldest to the latest; missing values are the latest."""
    return [contract.key.name, *([contract.as_of.name] if contract.as_of else []), "_order"]
