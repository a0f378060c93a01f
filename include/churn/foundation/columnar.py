"""The columnar engine: DuckDB with limits from the settings, and the SQL of row rules and snapshots.

Values reach SQL as parameters, and names of columns quoted. SQL that Spark reads too is preferred
where two ways are equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from churn.contract import Column, Contract, Kind

INTEGER = r"-?(0|[1-9][0-9]*)(\.0+)?"
NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"
BUCKETS = 100
_BLOCK = 64  # bytes, of SHA-256: RFC 2104


@contextmanager
def engine(memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A private in-memory DuckDB with a memory limit such as `1GB`."""
    connection = duckdb.connect(config={"memory_limit": memory_limit})
    try:
        yield connection
    finally:
        connection.close()


def apply_row_rules(connection: duckdb.DuckDBPyConnection, records: pa.Table, contract: Contract) -> pa.Table:
    """Type every cell and list the rules that its row breaks.

    A rule is named `Column.missing`, `Column.type`, `Column.range` or `Column.category`.

    Args:
        connection: the engine.
        records: as `intake.reading` makes them.
        contract: the data contract.

    Returns:
        `_line`, `_raw`, `_failed` (list of rules; empty for a good row) and the typed columns,
        in the order of the lines.
    """
    parameters: dict[str, object] = {}
    typed = ", ".join(f"{_typed(column)} AS {_name(column)}" for column in contract.columns)
    rules = [rule for column in contract.columns for rule in _rules(column, parameters)]
    flags = ", ".join(f"CASE WHEN {broken} THEN '{name.replace(chr(39), chr(39) * 2)}' END" for name, broken in rules)
    connection.register("records", records)
    return connection.sql(
        f"""
        WITH typed AS (SELECT _line, _raw, _unreadable, {_raws(contract)}, {typed} FROM records AS r)
        SELECT
          _line, _raw,
          CASE WHEN _unreadable IS NOT NULL THEN [_unreadable]
               ELSE list_filter([{flags}], lambda rule: rule IS NOT NULL) END AS _failed,
          {", ".join(_name(column) for column in contract.columns)}
        FROM typed ORDER BY _line
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        params=parameters,
    ).to_arrow_table()


def _rules(column: Column, parameters: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Name of each rule of a column, and the SQL that is true where it is broken."""
    raw, value = _raw(column), _name(column)
    if not column.nullable:
        yield f"{column.name}.missing", f"{raw} IS NULL"
    if column.numeric:
        yield f"{column.name}.type", f"{raw} IS NOT NULL AND {value} IS NULL"
    for bound, sign in ((column.minimum, "<"), (column.maximum, ">")):
        if bound is not None:
            parameters[parameter := f"p{len(parameters)}"] = bound
            yield f"{column.name}.range", f"{value} {sign} ${parameter}"
    if column.categories:
        parameters[parameter := f"p{len(parameters)}"] = list(column.categories)
        yield f"{column.name}.category", f"{raw} IS NOT NULL AND NOT list_contains(${parameter}, {value})"


def _typed(column: Column) -> str:
    cell = f"r.{_name(column)}"
    if column.kind is Kind.INTEGER:
        return f"CASE WHEN regexp_full_match({cell}, '{INTEGER}') THEN TRY_CAST(regexp_replace({cell}, '\\.0+$', '') AS BIGINT) END"
    if column.kind is Kind.NUMBER:
        number = f"TRY_CAST({cell} AS DOUBLE)"
        return f"CASE WHEN regexp_full_match({cell}, '{NUMBER}') AND isfinite({number}) THEN {number} END"
    return cell


def _raws(contract: Contract) -> str:
    return ", ".join(f"r.{_name(column)} AS {_raw(column)}" for column in contract.columns)


def _name(column: Column) -> str:
    return '"' + column.name.replace('"', '""') + '"'


def _raw(column: Column) -> str:
    return '"_raw_' + column.name.replace('"', '""') + '"'


def latest_rows(connection: duckdb.DuckDBPyConnection, accepted: pa.Table, contract: Contract, salt: bytes) -> pa.Table:
    """The latest row of every customer, with the customer's bucket.

    The bucket is HMAC-SHA256(salt, key) modulo 100 (RFC 2104, written out in SQL): it depends on
    the customer and the salt alone, so nobody moves between nights.

    Args:
        connection: the engine.
        accepted: typed rows with `_arrival` (order of their batch) and `_line`.
        contract: the data contract.
        salt: the secret key.

    Returns:
        The contract's columns, `_bucket` (0-99) and `_arrival`, ordered by key.
    """
    inner, outer = hmac_pads(salt)
    key = _name(contract.key)
    columns = ", ".join(_name(column) for column in contract.columns)
    connection.register("accepted", accepted)
    return connection.sql(
        f"""
        WITH ranked AS (
          SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY _arrival DESC, _line DESC) AS _rank FROM accepted
        ), latest AS (
          SELECT *, sha256($outer || unhex(sha256($inner || encode(CAST({key} AS VARCHAR))))) AS _hash
          FROM ranked WHERE _rank = 1
        )
        SELECT {columns}, CAST(CAST('0x' || substr(_hash, 1, 8) AS UBIGINT) % {BUCKETS} AS INTEGER) AS _bucket, _arrival
        FROM latest ORDER BY {key}
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        params={"inner": inner, "outer": outer},
    ).to_arrow_table()


def content_hash(connection: duckdb.DuckDBPyConnection, table: pa.Table) -> str:
    """sha256 over the rows' values in their order; independent of how a file stores them."""
    digest = hashlib.sha256("\x1f".join(table.column_names).encode())
    connection.register("hashed", table)
    cells = ", ".join(
        f"""coalesce(CAST("{name.replace('"', '""')}" AS VARCHAR), chr(0))""" for name in table.column_names
    )
    rows = connection.sql(f"SELECT sha256(concat_ws(chr(31), {cells})) AS row_hash FROM hashed")  # noqa: S608 -- quoted names
    for batch in rows.to_arrow_reader():
        digest.update("".join(batch.column(0).to_pylist()).encode())
    return digest.hexdigest()


def hmac_pads(salt: bytes) -> tuple[bytes, bytes]:
    """Inner and outer padded key of HMAC-SHA256 (RFC 2104)."""
    key = (hashlib.sha256(salt).digest() if len(salt) > _BLOCK else salt).ljust(_BLOCK, b"\0")
    return bytes(byte ^ 0x36 for byte in key), bytes(byte ^ 0x5C for byte in key)
