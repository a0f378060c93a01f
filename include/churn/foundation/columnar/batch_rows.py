"""The repeated, accepted and quarantined rows of one batch, in Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from churn.contract import CONFLICT, DUPLICATE, Contract, Role
from churn.foundation.columnar.names import column_name, column_names, literal, row_key


def rows_of_keys(
    connection: duckdb.DuckDBPyConnection, rows: pa.Table, keys: Sequence[Path], contract: Contract
) -> Iterator[pa.RecordBatch]:
    """The rows of some keys among good rows.

    Args:
        connection: the engine.
        rows: `_line` and the columns of the contract.
        keys: Parquet files with the column `_key`, the hashes of the keys.
        contract: the data contract.

    Returns:
        `_key`, `_line` and the columns of the contract.
    """
    key = f"hash({row_key(contract)})"
    connection.register("rows", rows)
    found = connection.sql(
        f"""
        SELECT {key} AS _key, _line, {column_names(contract)} FROM rows
        WHERE {key} IN (SELECT _key FROM read_parquet($keys))
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        params={"keys": [str(file) for file in keys]},
    )
    yield from found.to_arrow_reader()


def resolve_repeats(connection: duckdb.DuckDBPyConnection, rows: pa.Table, contract: Contract) -> pa.Table:
    """Find repeated customers, in a panel those repeated at one time: of identical rows the first is kept, of conflicting rows none.

    Args:
        connection: the engine.
        rows: all rows of some customers, with `_line`.
        contract: the data contract; the position of a row in the file is ignored.

    Returns:
        `_line` and `_rule` of the rows to quarantine.
    """
    key = f"({row_key(contract)})"
    compared = ", ".join(column_name(column) for column in contract.columns if column.role is not Role.POSITION)
    connection.register("candidates", rows)
    return connection.sql(
        f"""
        WITH rows AS (SELECT _line, {key} AS _customer, ({compared}) AS _compared FROM candidates),
        versions AS (
          SELECT _customer, count(DISTINCT _compared) AS _versions, min(_line) AS _first FROM rows GROUP BY _customer HAVING count(*) > 1
        )
        SELECT _line, CASE WHEN _versions > 1 THEN {literal(CONFLICT)} ELSE {literal(DUPLICATE)} END AS _rule
        FROM rows JOIN versions USING (_customer) WHERE _versions > 1 OR _line > _first ORDER BY _line
        """  # noqa: S608 -- names come from the contract, quoted
    ).to_arrow_table()


def append_rule(connection: duckdb.DuckDBPyConnection, raw: pa.Table, own: Path | None, rule: str) -> pa.Table:
    """Add the rule of a rejected batch to every row, after the rules that the row itself broke.

    Args:
        connection: the engine.
        raw: `_line` and `_raw` of some rows of the batch, in order.
        own: Parquet file with `_line` and `_failed` of the rows that broke rules of their own.
        rule: the rule that the batch broke.

    Returns:
        `_line`, `_raw` and `_failed`.
    """
    if own is None or not raw.num_rows:
        return raw.append_column("_failed", pa.array([[rule]] * raw.num_rows, pa.list_(pa.string())))
    connection.register("raw", raw)
    return connection.sql(
        """
        WITH own AS (SELECT _line, _failed FROM read_parquet($own) WHERE _line BETWEEN $first AND $last)
        SELECT _line, _raw, list_append(coalesce(_failed, []), $rule) AS _failed
        FROM raw LEFT JOIN own USING (_line) ORDER BY _line
        """,
        params={"own": str(own), "first": raw["_line"][0].as_py(), "last": raw["_line"][-1].as_py(), "rule": rule},
    ).to_arrow_table()
