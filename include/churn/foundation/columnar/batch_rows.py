"""The repeated, accepted and quarantined rows of one batch, in Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from churn.contract import CONFLICT, DUPLICATE, Contract, Role
from churn.foundation.columnar.names import column_name, literal


def resolve_repeats(connection: duckdb.DuckDBPyConnection, rows: Path, keys: pa.Table, contract: Contract) -> pa.Table:
    """Find repeated customers in one file: of identical rows the first is kept, of conflicting rows none.

    Args:
        connection: the engine.
        rows: Parquet file of good rows.
        keys: column `_key`, the hashes that more than one row has.
        contract: the data contract; the position of a row in the file is ignored.

    Returns:
        `_line` and `_rule` of the rows to quarantine.
    """
    key = column_name(contract.key)
    compared = ", ".join(column_name(column) for column in contract.columns if column.role is not Role.POSITION)
    connection.register("repeated", keys)
    return connection.sql(
        f"""
        WITH rows AS (
          SELECT _line, {key} AS _customer, ({compared}) AS _compared FROM read_parquet($file)
          WHERE hash({key}) IN (SELECT _key FROM repeated)
        ), versions AS (
          SELECT _customer, count(DISTINCT _compared) AS _versions, min(_line) AS _first FROM rows GROUP BY _customer HAVING count(*) > 1
        )
        SELECT _line, CASE WHEN _versions > 1 THEN {literal(CONFLICT)} ELSE {literal(DUPLICATE)} END AS _rule
        FROM rows JOIN versions USING (_customer) WHERE _versions > 1 OR _line > _first ORDER BY _line
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        params={"file": str(rows)},
    ).to_arrow_table()


def leave_out(connection: duckdb.DuckDBPyConnection, rows: Path, lines: pa.Table, target: Path) -> None:
    """Copy a Parquet file without the rows of these lines, keeping the order."""
    connection.register("left_out", lines)
    connection.execute(
        "COPY (SELECT * FROM read_parquet($file) WHERE _line NOT IN (SELECT _line FROM left_out)) TO $target (COMPRESSION snappy)",
        {"file": str(rows), "target": str(target)},
    )


def merge_by_line(connection: duckdb.DuckDBPyConnection, files: Sequence[Path], target: Path) -> None:
    """Merge Parquet files into one, in the order of their lines."""
    connection.execute(
        "COPY (SELECT * FROM read_parquet($files) ORDER BY _line) TO $target (COMPRESSION zstd)",
        {"files": [str(file) for file in files], "target": str(target)},
    )


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


def count_rules(connection: duckdb.DuckDBPyConnection, rows: Path, examples: int) -> list[tuple[str, int, list[int]]]:
    """Return the rules that quarantined rows broke: name, number of rows, first lines; most frequent first."""
    return connection.execute(
        """
        SELECT rule, count(*), list_slice(list(_line ORDER BY _line), 1, $examples)
        FROM (SELECT _line, unnest(_failed) AS rule FROM read_parquet($file)) GROUP BY rule ORDER BY count(*) DESC, rule
        """,
        {"file": str(rows), "examples": examples},
    ).fetchall()
