"""The columnar engine: DuckDB with limits from the settings, and its SQL: row rules, duplicates, history, snapshots.

Values reach SQL as parameters, and names of columns quoted. SQL that Spark reads too is preferred
where two ways are equal.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from churn.contract import CONFLICT, DUPLICATE, UNLABELLED, Column, Contract, Kind, Role
from churn.foundation.storage import Storage

INTEGER = r"-?(0|[1-9][0-9]*)(\.0+)?"
NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"
DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
BUCKETS = 100
SQL_TYPES = {Kind.INTEGER: "BIGINT", Kind.NUMBER: "DOUBLE", Kind.TEXT: "VARCHAR", Kind.DATE: "DATE"}
_BLOCK = 64  # bytes, of SHA-256: RFC 2104
_LINES = 1 << 40  # more than a file has


@contextmanager
def engine(memory_limit: str, threads: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A private in-memory DuckDB with a memory limit such as `1GB`; what goes beyond it is in a folder that is removed."""
    with tempfile.TemporaryDirectory(prefix="churn-spill-") as folder:
        config: dict[str, Any] = {"memory_limit": memory_limit, "temp_directory": folder}
        connection = duckdb.connect(config=config | ({"threads": threads} if threads else {}))
        try:
            yield connection
        finally:
            connection.close()


def scan(connection: duckdb.DuckDBPyConnection, view: str, storage: Storage, names: Sequence[str]) -> None:
    """Make Parquet files of the data root readable as a view; local ones by the engine itself, others by Arrow."""
    paths = [storage.path(name) for name in names]
    if storage.local:
        listed = ", ".join(_text(path) for path in paths)
        connection.execute(
            f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM read_parquet([{listed}], union_by_name = true)"  # noqa: S608 -- quoted paths
        )
    else:
        connection.register(view, ds.dataset(paths, filesystem=storage.fs, format="parquet"))


# Row rules ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlainLines:
    """The SQL that types lines in which every cell is written in its plainest form and keeps its rules."""

    sql: str
    parameters: dict[str, object]

    def type(self, connection: duckdb.DuckDBPyConnection, lines: pa.Table) -> pa.Table:
        """Type lines.

        Args:
            connection: the engine.
            lines: `_line` and `_text`, each text closed by a delimiter of its own.

        Returns:
            `_line`, the typed columns, `_key` (a hash of the key) and `_odd`: true where a line has to be
            looked at cell by cell, because it breaks a rule or is written in another form.
        """
        connection.register("lines", lines)
        return connection.sql(self.sql, params=self.parameters).to_arrow_table()


def plain_lines(contract: Contract, header: Sequence[str]) -> PlainLines:
    """Prepare the typing of plain lines of a file with this header.

    It knows less than `apply_row_rules` and is many times faster. What it accepts the other accepts
    too, with the same values; a test holds them together.
    """
    parameters: dict[str, object] = {}
    cells = ", ".join(f"cells[{header.index(column.name) + 1}] AS {_raw(column)}" for column in contract.columns)
    typed = ", ".join(f"{_plainly_typed(column)} AS {_name(column)}" for column in contract.columns)
    kept = [f"_cells = {len(header) + 1}", *(_plainly_kept(column, parameters) for column in contract.columns)]
    kept += [
        f"coalesce({_quoted(relation.greater)} >= {_quoted(relation.lesser)}, TRUE)" for relation in contract.relations
    ]
    sql = f"""
        SELECT _line, {_names(contract)}, hash({_name(contract.key)}) AS _key,
          NOT coalesce({" AND ".join(kept)}, FALSE) AS _odd
        FROM (
          SELECT _line, _cells, {_raws(contract)}, {typed}
          FROM (SELECT _line, len(cells) AS _cells, {cells} FROM (SELECT _line, string_split(_text, ',') AS cells FROM lines))
        )
        """  # noqa: S608 -- names come from the contract, quoted; values are parameters
    return PlainLines(sql, parameters)


def apply_row_rules(connection: duckdb.DuckDBPyConnection, records: pa.Table, contract: Contract) -> pa.Table:
    """Type every cell and list the rules that its row breaks.

    A rule is named `Column.missing`, `Column.type`, `Column.range`, `Column.category`,
    `Lesser.above_Greater` or `unlabelled`.

    Args:
        connection: the engine.
        records: as `intake.reading` makes them.
        contract: the data contract.

    Returns:
        `_line`, `_raw`, `_failed` (list of rules; empty for a good row), the typed columns and `_key`
        (a hash of the key), in the order of the lines.
    """
    parameters: dict[str, object] = {}
    typed = ", ".join(f"{_typed(column)} AS {_name(column)}" for column in contract.columns)
    normal = ", ".join(f"{_normalised(column, parameters)} AS {_raw(column)}" for column in contract.columns)
    rules = [rule for column in contract.columns for rule in _rules(column, parameters)]
    rules += [
        (relation.rule, f"{_quoted(relation.lesser)} > {_quoted(relation.greater)}") for relation in contract.relations
    ]
    flags = ", ".join(f"CASE WHEN {broken} THEN {_text(name)} END" for name, broken in rules)
    connection.register("records", records)
    return connection.sql(
        f"""
        WITH cells AS (SELECT _line, _raw, _unreadable, {normal} FROM records AS r),
        typed AS (SELECT _line, _raw, _unreadable, {_raws(contract)}, {typed} FROM cells)
        SELECT
          _line, _raw,
          CASE WHEN _unreadable IS NOT NULL THEN [_unreadable]
               ELSE list_filter([{flags}], lambda rule: rule IS NOT NULL) END AS _failed,
          {_names(contract)}, hash({_name(contract.key)}) AS _key
        FROM typed ORDER BY _line
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        params=parameters,
    ).to_arrow_table()


def _rules(column: Column, parameters: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Name of each rule of a column, and the SQL that is true where it is broken."""
    raw, value = _raw(column), _name(column)
    if not column.nullable:
        yield UNLABELLED if column.role is Role.TARGET else f"{column.name}.missing", f"{raw} IS NULL"
    if column.kind is not Kind.TEXT:
        yield f"{column.name}.type", f"{raw} IS NOT NULL AND {value} IS NULL"
    for bound, sign in ((column.minimum, "<"), (column.maximum, ">")):
        if bound is not None:
            yield f"{column.name}.range", f"{value} {sign} {_parameter(parameters, bound)}"
    if column.categories:
        allowed = _parameter(parameters, list(column.categories))
        yield f"{column.name}.category", f"{raw} IS NOT NULL AND NOT list_contains({allowed}, {value})"


def _typed(column: Column) -> str:
    cell = _raw(column)
    if column.kind is Kind.INTEGER:
        return f"CASE WHEN regexp_full_match({cell}, '{INTEGER}') THEN TRY_CAST(regexp_replace({cell}, '\\.0+$', '') AS BIGINT) END"
    if column.kind is Kind.NUMBER:
        number = f"TRY_CAST({cell} AS DOUBLE)"
        return f"CASE WHEN regexp_full_match({cell}, '{NUMBER}') AND isfinite({number}) THEN {number} END"
    if column.kind is Kind.DATE:
        return f"CASE WHEN regexp_full_match({cell}, '{DATE}') THEN TRY_CAST({cell} AS DATE) END"
    return cell


def _plainly_typed(column: Column) -> str:
    cell = _raw(column)
    if column.kind is Kind.INTEGER:
        integer = f"TRY_CAST({cell} AS BIGINT)"
        return f"CASE WHEN CAST({integer} AS VARCHAR) = {cell} THEN {integer} END"
    if column.kind is Kind.TEXT:
        return f"nullif({cell}, '')"
    return _typed(column)


def _plainly_kept(column: Column, parameters: dict[str, object]) -> str:
    """The SQL that is true where a cell keeps every rule of its column."""
    value = _name(column)
    if column.categories:
        listed = ", ".join(_parameter(parameters, category) for category in column.categories)
        keeps = f"{value} IN ({listed})"
    else:
        bounds = [
            f"{value} {sign} {_parameter(parameters, bound)}"
            for bound, sign in ((column.minimum, ">="), (column.maximum, "<="))
            if bound is not None
        ]
        keeps = " AND ".join(bounds) or f"{value} IS NOT NULL"
    return f"({_raw(column)} = '' OR ({keeps}))" if column.nullable else f"({keeps})"


def _normalised(column: Column, parameters: dict[str, object]) -> str:
    """A cell as the contract has it read: as it is written, unless the owner of the data says otherwise."""
    cell = f"r.{_name(column)}"
    if column.trim:
        cell = f"nullif(trim({cell}), '')"
    if column.ignore_case:
        allowed = _parameter(parameters, list(column.categories))
        same = f"list_filter({allowed}, lambda one: lower(one) = lower({cell}))"
        cell = f"coalesce({same}[1], {cell})"
    return cell


# Rows of one customer in one file ----------------------------------------------------------------


def resolve_repeats(connection: duckdb.DuckDBPyConnection, rows: Path, keys: pa.Table, contract: Contract) -> pa.Table:
    """Of a customer's rows in one file: the first of equal ones is kept, of different ones none.

    Args:
        connection: the engine.
        rows: Parquet file of good rows.
        keys: `_key`, the hashes that more than one row has.
        contract: the data contract; where a row stands in the file makes no difference.

    Returns:
        `_line` and `_rule` of the rows to set aside.
    """
    key = _name(contract.key)
    told = ", ".join(_name(column) for column in contract.columns if column.role is not Role.POSITION)
    connection.register("repeated", keys)
    return connection.sql(
        f"""
        WITH rows AS (
          SELECT _line, {key} AS _customer, ({told}) AS _told FROM read_parquet($file)
          WHERE hash({key}) IN (SELECT _key FROM repeated)
        ), versions AS (
          SELECT _customer, count(DISTINCT _told) AS _versions, min(_line) AS _first FROM rows GROUP BY _customer HAVING count(*) > 1
        )
        SELECT _line, CASE WHEN _versions > 1 THEN {_text(CONFLICT)} ELSE {_text(DUPLICATE)} END AS _rule
        FROM rows JOIN versions USING (_customer) WHERE _versions > 1 OR _line > _first ORDER BY _line
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        params={"file": str(rows)},
    ).to_arrow_table()


def leave_out(connection: duckdb.DuckDBPyConnection, rows: Path, lines: pa.Table, target: Path) -> None:
    """Copy a Parquet file without the rows of these lines, in the same order."""
    connection.register("left_out", lines)
    connection.execute(
        "COPY (SELECT * FROM read_parquet($file) WHERE _line NOT IN (SELECT _line FROM left_out)) TO $target (COMPRESSION snappy)",
        {"file": str(rows), "target": str(target)},
    )


def merge_by_line(connection: duckdb.DuckDBPyConnection, files: Sequence[Path], target: Path) -> None:
    """Copy Parquet files into one, in the order of their lines."""
    connection.execute(
        "COPY (SELECT * FROM read_parquet($files) ORDER BY _line) TO $target (COMPRESSION zstd)",
        {"files": [str(file) for file in files], "target": str(target)},
    )


def append_rule(connection: duckdb.DuckDBPyConnection, raw: pa.Table, own: Path | None, rule: str) -> pa.Table:
    """Give every row of a rejected batch the batch's rule, behind the rules that it broke itself.

    Args:
        connection: the engine.
        raw: `_line` and `_raw`, some rows of the batch in their order.
        own: Parquet file with `_line` and `_failed` of the rows that broke rules of their own.
        rule: the batch's rule.

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
    """The rules that rows set aside broke: name, number of rows, first lines; the most frequent first."""
    return connection.execute(
        """
        SELECT rule, count(*), list_slice(list(_line ORDER BY _line), 1, $examples)
        FROM (SELECT _line, unnest(_failed) AS rule FROM read_parquet($file)) GROUP BY rule ORDER BY count(*) DESC, rule
        """,
        {"file": str(rows), "examples": examples},
    ).fetchall()


# The accepted history ----------------------------------------------------------------------------


def unite_history(
    connection: duckdb.DuckDBPyConnection, latest: str | None, more: str | None, arrivals: pa.Table, contract: Contract
) -> list[str]:
    """Make the view `before`: what was accepted before, with `_arrived_at` and `_line`.

    Args:
        connection: the engine.
        latest: view of a snapshot, or None.
        more: view of accepted batches that it does not hold, or None.
        arrivals: `_batch` and `_arrived_at` of those batches.
        contract: the data contract.

    Returns:
        The columns of the contract that all of it has: an earlier contract may not have had the others.
    """
    views = [view for view in (latest, more) if view]
    found = [set(connection.view(view).columns) for view in views]
    columns = [column for column in contract.columns if all(column.name in names for names in found)]
    listed = ", ".join(_name(column) for column in columns)
    connection.register("arrivals", arrivals)
    parts = [f"SELECT {listed}, _arrived_at, 0 AS _line FROM {latest}"] if latest else []  # noqa: S608 -- quoted names
    parts += [f"SELECT {listed}, _arrived_at, _line FROM {more} JOIN arrivals USING (_batch)"] if more else []  # noqa: S608
    connection.execute(f"CREATE OR REPLACE TEMP VIEW before AS {' UNION ALL '.join(parts)}")
    return [column.name for column in columns]


def count_disputes(
    connection: duckdb.DuckDBPyConnection, rows: Path, columns: Sequence[str], contract: Contract
) -> tuple[int, int, int]:
    """Hold a batch against what `before` says last of the same customers.

    Args:
        connection: the engine, with the view `before`.
        rows: Parquet file of good rows.
        columns: the columns of `before`.
        contract: the data contract.

    Returns:
        Customers that were known; of those, how many the batch says have not left after all; and how many
        have another value in a permanent column.
    """
    key, target = _name(contract.key), _name(contract.target)
    permanent = [column for column in contract.permanent if column.name in columns]
    told = ", ".join([key, target, *(_name(column) for column in permanent)])
    changed = " OR ".join(f"here.{_name(column)} IS DISTINCT FROM known.{_name(column)}" for column in permanent)
    found = connection.execute(
        f"""
        WITH here AS (SELECT {told} FROM read_parquet($file)),
        known AS (
          SELECT {told} FROM before WHERE {key} IN (SELECT {key} FROM here)
          QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {_latest_first(contract)}) = 1
        )
        SELECT count(*), count(*) FILTER (known.{target} = 1 AND here.{target} = 0), count(*) FILTER ({changed or "FALSE"})
        FROM here JOIN known USING ({key})
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        {"file": str(rows)},
    ).fetchall()
    ((known, reversed_labels, changed_customers),) = found
    return known, reversed_labels, changed_customers


def sample_rows(
    connection: duckdb.DuckDBPyConnection, source: Path | str, columns: Sequence[str], contract: Contract, rows: int
) -> pa.Table:
    """About so many rows of a file or view, always the same ones: chosen by a hash of the customer."""
    relation = f"read_parquet({_text(str(source))})" if isinstance(source, Path) else source
    ((total,),) = connection.execute(f"SELECT count(*) FROM {relation}").fetchall()  # noqa: S608 -- a quoted path or our view
    every = max(1, total // rows)
    listed = ", ".join(_quoted(column) for column in columns)
    return connection.sql(
        f"SELECT {listed} FROM {relation} WHERE hash({_name(contract.key)}) % $every = 0",  # noqa: S608 -- quoted names
        params={"every": every},
    ).to_arrow_table()


# Snapshots ---------------------------------------------------------------------------------------


def write_latest_rows(
    connection: duckdb.DuckDBPyConnection, arrivals: pa.Table, contract: Contract, salt: bytes, target: Path
) -> None:
    """Write the latest row of every customer, with the customer's bucket, ordered by key.

    Latest is by the as-of column if the contract has one, then by the arrival of the batch, then by line.
    The bucket is HMAC-SHA256(salt, key) modulo 100 (RFC 2104, written out in SQL): it depends on
    the customer and the salt alone, so nobody moves between nights.

    Args:
        connection: the engine, with the view `accepted`.
        arrivals: `_batch`, `_arrived_at` and `_rank` (order of arrival) of its batches.
        contract: the data contract.
        salt: the secret key.
        target: Parquet file with the contract's columns, `_bucket` (0-99) and `_arrived_at`.
    """
    inner, outer = hmac_pads(salt)
    key, columns = _name(contract.key), _names(contract)
    order = f"_rank * {_LINES} + _line"
    if contract.as_of:
        order = f"({_name(contract.as_of)}, {order})"
    connection.register("arrivals", arrivals)
    connection.execute(
        f"""
        COPY (
          WITH rows AS (SELECT {columns}, _arrived_at, {order} AS _order FROM accepted JOIN arrivals USING (_batch)),
          latest AS (SELECT {key}, max(_order) AS _order FROM rows GROUP BY {key}),
          hashed AS (
            SELECT {columns}, _arrived_at, sha256($outer || unhex(sha256($inner || encode(CAST({key} AS VARCHAR))))) AS _hash
            FROM rows JOIN latest USING ({key}, _order)
          )
          SELECT {columns}, CAST(CAST('0x' || substr(_hash, 1, 8) AS UBIGINT) % {BUCKETS} AS INTEGER) AS _bucket, _arrived_at
          FROM hashed ORDER BY {key}
        ) TO $target (COMPRESSION zstd)
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        {"inner": inner, "outer": outer, "target": str(target)},
    )


def hmac_pads(salt: bytes) -> tuple[bytes, bytes]:
    """Inner and outer padded key of HMAC-SHA256 (RFC 2104)."""
    key = (hashlib.sha256(salt).digest() if len(salt) > _BLOCK else salt).ljust(_BLOCK, b"\0")
    return bytes(byte ^ 0x36 for byte in key), bytes(byte ^ 0x5C for byte in key)


def _latest_first(contract: Contract) -> str:
    as_of = [f"{_name(contract.as_of)} DESC"] if contract.as_of else []
    return ", ".join([*as_of, "_arrived_at DESC", "_line DESC"])


# Names and values --------------------------------------------------------------------------------


def _parameter(parameters: dict[str, object], value: object) -> str:
    name = f"p{len(parameters)}"
    parameters[name] = value
    return f"${name}"


def _names(contract: Contract) -> str:
    return ", ".join(_name(column) for column in contract.columns)


def _raws(contract: Contract) -> str:
    return ", ".join(_raw(column) for column in contract.columns)


def _name(column: Column) -> str:
    return _quoted(column.name)


def _raw(column: Column) -> str:
    return _quoted(f"_raw_{column.name}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
