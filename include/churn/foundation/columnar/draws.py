"""Draws of customers that do not depend on their buckets, nor on one another: HMAC with a label for each."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from churn.contract import Contract
from churn.foundation.columnar.latest_rows import hmac_pads
from churn.foundation.columnar.names import column_name, row_key
from churn.foundation.columnar.panels import utc_date

_BETWEEN = "\x1f"


def draw_sql(key: str) -> str:
    """A number of 64 bits for each customer, in SQL. It needs the parameters of `draw_parameters`.

    HMAC-SHA256(salt, label + U+001F + key), as for the bucket in `write_latest_rows`; the label makes it another draw.

    Args:
        key: the quoted name of the column with the key.
    """
    message = f"encode($label || CAST({key} AS VARCHAR))"
    return f"CAST('0x' || substr(sha256($outer || unhex(sha256($inner || {message}))), 1, 16) AS UBIGINT)"


def draw_parameters(salt: bytes, label: str) -> dict[str, object]:
    """The parameters of a draw."""
    inner, outer = hmac_pads(salt)
    return {"inner": inner, "outer": outer, "label": label + _BETWEEN}


def draw_customers(
    connection: duckdb.DuckDBPyConnection, keys: pa.Array, salt: bytes, label: str
) -> NDArray[np.uint64]:
    """A number of 64 bits for each key of a draw, evenly spread, in the order of the keys.

    Args:
        connection: the engine.
        keys: of customers.
        salt: the secret key.
        label: the label of the draw.
    """
    connection.register("drawn", pa.table({"_at": np.arange(len(keys)), "_key": keys}))
    numbers = connection.sql(
        f"SELECT {draw_sql('_key')} AS _number FROM drawn ORDER BY _at",  # noqa: S608 -- our own name
        params=draw_parameters(salt, label),
    )
    return np.asarray(numbers.fetchnumpy()["_number"], np.uint64)


def write_drawn_rows(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    contract: Contract,
    buckets: range,
    salt: bytes,
    label: str,
    most: int,
    target: Path,
) -> None:
    """Write features and target of the customers of some buckets in the order of a draw, at most a given number of rows.

    Numbers are written as doubles, and the target as an integer. Of a panel, `_customer` is written, too.

    Args:
        connection: the engine.
        view: the rows of a snapshot.
        contract: the data contract.
        buckets: the buckets, without gaps.
        salt: the secret key.
        label: the label of the draw.
        most: the number of rows.
        target: Parquet file.
    """
    features = ", ".join(
        f"CAST({column_name(column)} AS {'DOUBLE' if column.numeric else 'VARCHAR'}) AS {column_name(column)}"
        for column in contract.features
    )
    key, label_column = column_name(contract.key), column_name(contract.target)
    customer = ", _customer" if contract.as_of else ""
    connection.execute(
        f"""
        COPY (
          SELECT {features}, CAST({label_column} AS TINYINT) AS {label_column}{customer} FROM {view}
          WHERE _bucket BETWEEN $first AND $last ORDER BY {draw_sql(key)}, {row_key(contract)} LIMIT $most
        ) TO $target (COMPRESSION zstd, ROW_GROUP_SIZE 20480)
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        draw_parameters(salt, label) | {"first": buckets[0], "last": buckets[-1], "most": most, "target": str(target)},
    )


def leave_out_contacted(
    connection: duckdb.DuckDBPyConnection, view: str, contract: Contract, treated: pa.Table
) -> None:
    """Create the views `{view}_contacted` and `{view}_others`: rows of customers whom a list had contacted meanwhile, and the others.

    That is from the as-of date to the end of the horizon; without a horizon, on the day on which the row arrived.

    Args:
        connection: the engine.
        view: the rows of a snapshot.
        contract: the data contract.
        treated: `customer` (the keyed hash), `contacted`, `since` and `until`.
    """
    begins = utc_date("_arrived_at") if contract.horizon_days is None else column_name(contract.row_key[-1])
    connection.register("treated", treated)
    within = f"treated.since <= {begins} + {contract.horizon_days or 0} AND treated.until >= {begins}"
    meanwhile = f"EXISTS (SELECT 1 FROM treated WHERE treated.contacted AND treated.customer = _customer AND {within})"  # noqa: S608
    for name, chosen in (("contacted", meanwhile), ("others", f"NOT {meanwhile}")):
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {view}_{name} AS SELECT * FROM {view} WHERE {chosen}")  # noqa: S608 -- our own names


def hash_customers(connection: duckdb.DuckDBPyConnection, keys: pa.Array, salt: bytes) -> NDArray[np.uint64]:
    """The `_customer` of `write_latest_rows` of each key, in the order of the keys.

    Args:
        connection: the engine.
        keys: of customers.
        salt: the secret key.
    """
    inner, outer = hmac_pads(salt)
    connection.register("hashed", pa.table({"_at": np.arange(len(keys)), "_key": keys}))
    numbers = connection.sql(
        """
        SELECT CAST('0x' || substr(sha256($outer || unhex(sha256($inner || encode(CAST(_key AS VARCHAR))))), 9, 16) AS UBIGINT) AS _number
        FROM hashed ORDER BY _at
        """,
        params={"inner": inner, "outer": outer},
    )
    return np.asarray(numbers.fetchnumpy()["_number"], np.uint64)
