"""Bytes become records: raw text, line number and cells of every line, nothing lost and nothing guessed.

A record is one physical line. A line that cannot be split as the header says is a record too, with
the reason; a file that cannot be read at all says so as a fault, and its lines are still there.
"""

from __future__ import annotations

import codecs
import csv
from dataclasses import dataclass

import pyarrow as pa

from churn.contract import Contract

DELIMITERS = {";": "semicolon", "\t": "tab", "|": "pipe"}


@dataclass(frozen=True)
class Fault:
    """Why a whole file cannot be taken: a short code, and a sentence with the next step."""

    code: str
    sentence: str


@dataclass(frozen=True)
class Reading:
    """A file's records.

    `records` has `_line` (1 is the header), `_raw`, `_unreadable` (a rule, or null) and, unless
    there is a fault, one text column per column of the contract; an empty cell is null.
    """

    records: pa.Table
    extra_columns: tuple[str, ...] = ()
    fault: Fault | None = None


def read_records(data: bytes, contract: Contract) -> Reading:
    """Split a CSV file into records.

    Args:
        data: the file's bytes; UTF-8 with or without a byte order mark.
        contract: names the columns; their order in the file is free, further ones are ignored.

    Returns:
        The records, and the fault if the file as a whole cannot be taken.
    """
    lines = data.removeprefix(codecs.BOM_UTF8).splitlines()
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        return _faulty([], "empty", "The file is empty. Have the sender drop it again.")
    header_line, body = numbered[0][1], numbered[1:]
    fault = _header_fault(header_line, contract)
    if fault:
        return _faulty(body, *fault)
    header = _cells(header_line.decode())
    if not body:
        return _faulty([], "no_rows", "The file has a header and no rows. Have the sender drop it again.")
    split = [_split(line, len(header)) for _, line in body]
    positions = {name: header.index(name) for name in contract.names}
    columns = {
        name: pa.array([cells[position] or None if cells else None for cells, _ in split], pa.string())
        for name, position in positions.items()
    }
    records = _records(body, [reason for _, reason in split])
    for name, column in columns.items():
        records = records.append_column(name, column)
    return Reading(records, tuple(name for name in header if name not in positions))


def _header_fault(line: bytes, contract: Contract) -> tuple[str, str] | None:
    try:
        header = _cells(line.decode())
    except (UnicodeDecodeError, csv.Error):
        header = []
    if not header or b"\0" in line:
        return "not_csv", "The first line is not the header of a CSV file in UTF-8. Export it as CSV and drop it again."
    missing = [name for name in contract.names if name not in header]
    if len(header) == 1:
        found = next((word for mark, word in DELIMITERS.items() if mark in header[0]), None)
        hint = f" It looks separated by {found}s." if found else ""
        return "delimiter", f"The header is one cell.{hint} Export it with commas between the cells and drop it again."
    repeated = sorted({name for name in contract.names if header.count(name) > 1})
    if repeated:
        return (
            "repeated_column",
            f"Column {', '.join(repeated)} stands twice in the header. Drop it again with one of each.",
        )
    if missing:
        plural = "s are" if len(missing) > 1 else " is"
        return (
            "missing_column",
            f"Column{plural} missing: {', '.join(missing)}. Expected: {', '.join(contract.names)}. Fix the header and drop it again.",
        )
    return None


def _faulty(body: list[tuple[int, bytes]], code: str, sentence: str) -> Reading:
    return Reading(_records(body, [f"file.{code}"] * len(body)), fault=Fault(code, sentence))


def _records(body: list[tuple[int, bytes]], unreadable: list[str | None]) -> pa.Table:
    return pa.table(
        {
            "_line": pa.array([number for number, _ in body], pa.int64()),
            "_raw": pa.array([line.decode(errors="backslashreplace") for _, line in body], pa.string()),
            "_unreadable": pa.array(unreadable, pa.string()),
        }
    )


def _split(line: bytes, width: int) -> tuple[list[str] | None, str | None]:
    if b"\0" in line:
        return None, "record.nul"
    try:
        cells = _cells(line.decode())
    except UnicodeDecodeError:
        return None, "record.encoding"
    except csv.Error:
        return None, "record.quotes"
    return (cells, None) if len(cells) == width else (None, "record.field_count")


def _cells(line: str) -> list[str]:
    if '"' not in line:
        return line.split(",")
    return next(csv.reader([line], strict=True))
