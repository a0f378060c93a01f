"""The latest row of every customer, with the customer's bucket: the rows of a snapshot."""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
import pyarrow as pa

from churn.contract import Column, Contract, Kind
from churn.foundation.columnar.names import column_name, column_names

BUCKETS = 100
_BLOCK = 64  # block size of SHA-256 in bytes (RFC 2104)
_LINES = 1 << 40  # more lines than any file has
_ABSENT = {Kind.INTEGER: "BIGINT", Kind.NUMBER: "DOUBLE", Kind.TEXT: "VARCHAR", Kind.DATE: "DATE"}


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
