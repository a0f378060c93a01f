"""Types the cells of rows and lists the rules that a row breaks: fast if every cell is plain, otherwise cell by cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from churn.contract import UNLABELLED, WRITTEN, Column, Contract, Kind, Role
from churn.foundation.columnar.engine import ParsedQuery
from churn.foundation.columnar.names import (
    column_name,
    column_names,
    literal,
    parameter,
    quoted,
    raw_name,
    raw_names,
    row_key,
)

_ALL = 1 << 62
"""More rows than there are. DuckDB does not move a condition from behind a limit to before it, where it would type each cell twice."""
_ABSENT = "''"
"""The cell of a column that the file lacks: empty."""


@dataclass(frozen=True)
class PlainLines:
    """Types lines in which every cell has its plainest notation and satisfies its rules."""

    query: ParsedQuery

    def type(self, lines: pa.Table) -> pa.Table:
        """Type lines.

        Args:
            lines: `_line` and `_text`, each text ending with a delimiter; null if the line must be read cell by cell.

        Returns:
            `_line`, the typed columns and `_key` (a hash of what identifies a row) of the plain lines. The other lines are
            missing, and must be read cell by cell, because they break a rule or use another notation.
        """
        return self.query.run(lines=lines)


@dataclass(frozen=True)
class RowRules:
    """Types every cell of records in any notation that the contract allows, and lists the rules that rows break."""

    query: ParsedQuery

    def apply(self, records: pa.Table) -> pa.Table:
        """Type every cell and list the rules that its row breaks.

        A rule is named `Column.missing`, `Column.type`, `Column.range`, `Column.category`,
        `Lesser.above_Greater` or `unlabelled`.

        Args:
            records: rows as `intake.reading` returns them.

        Returns:
            `_line`, `_raw`, `_failed` (list of rules; empty for a good row), the typed columns and `_key`
            (a hash of what identifies a row), in the order of the lines.
        """
        return self.query.run(records=records)


def prepare_plain_lines(connection: duckdb.DuckDBPyConnection, contract: Contract, header: Sequence[str]) -> PlainLines:
    """Prepare the typing of plain lines of a file with this header.

    It accepts fewer notations than `RowRules` and is many times faster. Every line that it accepts,
    `RowRules` accepts with the same values; a test compares the two. A column that the header lacks is empty.
    """
    parameters: dict[str, object] = {}
    places = {name: f"cells[{place}]" for place, name in enumerate(header, start=1)}
    cells = ", ".join(f"{places.get(column.name, _ABSENT)} AS {raw_name(column)}" for column in contract.columns)
    typed = ", ".join(f"{_plain_type(column, parameters)} AS {column_name(column)}" for column in contract.columns)
    conditions = [f"_cells = {len(header) + 1}", *(_plain_condition(column, parameters) for column in contract.columns)]
    conditions += [
        f"coalesce({quoted(relation.greater)} >= {quoted(relation.lesser)}, TRUE)" for relation in contract.relations
    ]
    sql = f"""
        SELECT _line, {column_names(contract)}, _key FROM (
          SELECT _line, {column_names(contract)}, hash({row_key(contract)}) AS _key,
            coalesce({" AND ".join(conditions)}, FALSE) AS _plain
          FROM (
            SELECT _line, _cells, {raw_names(contract)}, {typed}
            FROM (SELECT _line, len(cells) AS _cells, {cells} FROM (SELECT _line, string_split(_text, ',') AS cells FROM lines))
          )
          LIMIT {_ALL}
        ) WHERE _plain
        """  # noqa: S608 -- names come from the contract, quoted; values are parameters
    return PlainLines(ParsedQuery(connection, sql, parameters))


def prepare_row_rules(connection: duckdb.DuckDBPyConnection, contract: Contract) -> RowRules:
    """Prepare the rules of a contract, with those for single cells and those for pairs of columns."""
    parameters: dict[str, object] = {}
    typed = ", ".join(f"{_typed(column, parameters)} AS {column_name(column)}" for column in contract.columns)
    normalised = ", ".join(f"{_normalised(column, parameters)} AS {raw_name(column)}" for column in contract.columns)
    rules = [rule for column in contract.columns for rule in _rules(column, parameters)]
    rules += [
        (relation.rule, f"{quoted(relation.lesser)} > {quoted(relation.greater)}") for relation in contract.relations
    ]
    flags = ", ".join(f"CASE WHEN {broken} THEN {literal(name)} END" for name, broken in rules)
    sql = f"""
        WITH cells AS (SELECT _line, _raw, _unreadable, {normalised} FROM records AS r),
        typed AS (SELECT _line, _raw, _unreadable, {raw_names(contract)}, {typed} FROM cells)
        SELECT
          _line, _raw,
          CASE WHEN _unreadable IS NOT NULL THEN [_unreadable]
               ELSE list_filter([{flags}], lambda rule: rule IS NOT NULL) END AS _failed,
          {column_names(contract)}, hash({row_key(contract)}) AS _key
        FROM typed ORDER BY _line
        """  # noqa: S608 -- names come from the contract, quoted; values are parameters
    return RowRules(ParsedQuery(connection, sql, parameters))


def _rules(column: Column, parameters: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the name of each rule of a column, with the SQL that is true where the rule is broken."""
    raw, value = raw_name(column), column_name(column)
    if not column.nullable:
        yield UNLABELLED if column.role is Role.TARGET else f"{column.name}.missing", f"{raw} IS NULL"
    if column.values:
        yield f"{column.name}.category", f"{raw} IS NOT NULL AND {value} IS NULL"
        return
    if column.kind is not Kind.TEXT:
        yield f"{column.name}.type", f"{raw} IS NOT NULL AND {value} IS NULL"
    for bound, sign in ((column.minimum, "<"), (column.maximum, ">")):
        if bound is not None:
            yield f"{column.name}.range", f"{value} {sign} {parameter(parameters, bound)}"
    if column.categories:
        allowed = parameter(parameters, list(column.categories))
        yield f"{column.name}.category", f"{raw} IS NOT NULL AND NOT list_contains({allowed}, {value})"


def _typed(column: Column, parameters: dict[str, object]) -> str:
    if not column.values:
        return _written(column)
    coded = _decoded(column, parameters)
    if not column.accepts_numbers:
        return coded
    number, known = _written(column), parameter(parameters, [float(number) for number in column.texts])
    return f"coalesce({coded}, CASE WHEN list_contains({known}, CAST({number} AS DOUBLE)) THEN {number} END)"


def _decoded(column: Column, parameters: dict[str, object]) -> str:
    """Return the SQL of the number that the text of a cell stands for; null if it stands for none."""
    cases = " ".join(
        f"WHEN {parameter(parameters, text)} THEN {parameter(parameters, number)}"
        for text, number in column.numbers.items()
    )
    kind = "BIGINT" if column.kind is Kind.INTEGER else "DOUBLE"
    return f"CAST(CASE {raw_name(column)} {cases} END AS {kind})"


def _written(column: Column) -> str:
    """Return the SQL of a cell in the notation of its kind; null if it has another one."""
    cell = raw_name(column)
    if column.kind is Kind.INTEGER:
        return f"CASE WHEN regexp_full_match({cell}, '{WRITTEN[Kind.INTEGER]}') THEN TRY_CAST(regexp_replace({cell}, '\\.0+$', '') AS BIGINT) END"
    if column.kind is Kind.NUMBER:
        number = f"TRY_CAST({cell} AS DOUBLE)"
        return f"CASE WHEN regexp_full_match({cell}, '{WRITTEN[Kind.NUMBER]}') AND isfinite({number}) THEN {number} END"
    if column.kind is Kind.DATE:
        return f"CASE WHEN regexp_full_match({cell}, '{WRITTEN[Kind.DATE]}') THEN TRY_CAST({cell} AS DATE) END"
    return cell


def _plain_type(column: Column, parameters: dict[str, object]) -> str:
    cell = raw_name(column)
    if column.values:
        return _decoded(column, parameters)
    if column.kind is Kind.INTEGER:
        integer = f"TRY_CAST({cell} AS BIGINT)"
        same = f"CAST({integer} AS VARCHAR) = {cell}"
        if column.minimum is not None and column.maximum is not None and 0 <= column.minimum <= column.maximum < 100:  # noqa: PLR2004
            # Of all texts that read as a number of one or two digits, only the plain one is this short. A length is fast to check.
            same = f"strlen({cell}) = CASE WHEN {integer} < 10 THEN 1 ELSE 2 END"
        return f"CASE WHEN {same} THEN {integer} END"
    if column.kind is Kind.TEXT:
        return f"nullif({cell}, '')"
    return _written(column)


def _plain_condition(column: Column, parameters: dict[str, object]) -> str:
    """Return the SQL that is true where a cell satisfies every rule of its column."""
    value = column_name(column)
    if column.categories:
        listed = ", ".join(parameter(parameters, category) for category in column.categories)
        condition = f"{value} IN ({listed})"
    elif column.values:
        condition = f"{value} IS NOT NULL"
    else:
        bounds = [
            f"{value} {sign} {parameter(parameters, bound)}"
            for bound, sign in ((column.minimum, ">="), (column.maximum, "<="))
            if bound is not None
        ]
        if column.trim and column.kind is Kind.TEXT:
            bounds.append(f"{value} = trim({value})")
        condition = " AND ".join(bounds) or f"{value} IS NOT NULL"
    return f"({raw_name(column)} = '' OR ({condition}))" if column.nullable else f"({condition})"


def _normalised(column: Column, parameters: dict[str, object]) -> str:
    """Return the SQL of a cell after the leniency that the contract allows: trimmed, in any case, or exactly as written."""
    cell = f"r.{column_name(column)}"
    if column.trim:
        cell = f"nullif(trim({cell}), '')"
    if column.ignore_case:
        allowed = parameter(parameters, list(column.categories or column.numbers))
        same = f"list_filter({allowed}, lambda category: lower(category) = lower({cell}))"
        cell = f"coalesce({same}[1], {cell})"
    return cell
