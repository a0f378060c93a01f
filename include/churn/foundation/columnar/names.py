"""Columns and values in SQL: names are quoted, values are parameters."""

from __future__ import annotations

from churn.contract import Column, Contract

_LARGEST = 2**63
"""No integer column holds more; DuckDB takes no parameter beyond 128 bits."""


def parameter(parameters: dict[str, object], value: object) -> str:
    """Add a value to the parameters of a query and return its placeholder. An integer that no column can hold becomes a float."""
    name = f"p{len(parameters)}"
    parameters[name] = float(value) if isinstance(value, int) and abs(value) > _LARGEST else value
    return f"${name}"


def column_names(contract: Contract) -> str:
    """Return the list of all columns of a contract."""
    return ", ".join(column_name(column) for column in contract.columns)


def raw_names(contract: Contract) -> str:
    """Return the list of all columns of a contract, as texts."""
    return ", ".join(raw_name(column) for column in contract.columns)


def column_name(column: Column) -> str:
    """Return the quoted name of the typed values of a column."""
    return quoted(column.name)


def raw_name(column: Column) -> str:
    """Return the quoted name of the cells of a column, as texts."""
    return quoted(f"_raw_{column.name}")


def quoted(name: str) -> str:
    """Quote a name, which may contain any character."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Write a constant of the code as a literal, where SQL allows no parameter."""
    return "'" + value.replace("'", "''") + "'"


def row_key(contract: Contract) -> str:
    """Return the list of the columns that identify a row: the customer, and in a panel the time."""
    return ", ".join(column_name(column) for column in contract.row_key)
