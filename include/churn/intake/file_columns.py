"""Reads the cells of a file column by column as texts, whatever contract it follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from churn.contract import Column, Contract, Kind, Role
from churn.intake.batch_file import FileFault, Piece
from churn.intake.reading import open_file

MOST_ROWS = 500_000
"""Number of rows that are read; the columns of a longer file are described by these."""
_FEWEST_COLUMNS = 3


@dataclass(frozen=True)
class FileColumns:
    """The columns of a file. A missing cell is null.

    `unusable` are columns whose names no contract can have. `unreadable` records could not be split into cells. `whole` is False if
    the file has further rows.
    """

    cells: pa.Table
    unusable: list[str]
    unreadable: int
    whole: bool


def read_columns(stream: IO[bytes]) -> FileColumns:
    """Read a CSV file, plain or gzipped, or a Parquet file.

    Raises:
        FileFault: it is neither, has no rows, or has too few columns for a contract.
    """
    file = open_file(stream)
    names = file.names()
    repeated = sorted({name for name in names if [other.lower() for other in names].count(name.lower()) > 1 and name})
    if repeated:
        raise FileFault(
            "repeated_column",
            f"Column {', '.join(repeated[:5])} appears twice in the header (names that differ only in case count as equal). "
            "Rename one of each.",
        )
    unusable = [name for name in names if not name.strip() or name.startswith("_")]
    contract = provisional_contract([name for name in names if name not in unusable])
    file.check(contract)
    tables: list[pa.Table] = []
    rows, unreadable, whole = 0, 0, True
    for piece in file.pieces(contract):
        table, broken = _cells(piece, file.header, contract)
        tables.append(table)
        rows, unreadable = rows + table.num_rows, unreadable + broken
        if rows >= MOST_ROWS:
            whole = False
            break
    if not rows:
        raise FileFault(
            "no_rows", "The file has a header but no rows that can be read. Ask the sender for a complete file."
        )
    return FileColumns(pa.concat_tables(tables), unusable, unreadable, whole)


def provisional_contract(names: list[str]) -> Contract:
    """Return a contract that has these columns and says nothing about them.

    Raises:
        FileFault: there are too few for a key, a target and a feature.
    """
    if len(names) < _FEWEST_COLUMNS:
        raise FileFault(
            "too_few_columns",
            f"The file has {len(names)} {'column' if len(names) == 1 else 'columns'}. A contract needs at least {_FEWEST_COLUMNS}: "
            "the customer, the label, and something to learn from.",
        )
    key, *others, target = names
    texts = [Column(name, Kind.TEXT, Role.FEATURE, max_levels=1, nullable=True) for name in others]
    return Contract("file", (Column(key, Kind.TEXT, Role.KEY), *texts, Column(target, Kind.INTEGER, Role.TARGET, 0, 1)))


def _cells(piece: Piece, header: list[str], contract: Contract) -> tuple[pa.Table, int]:
    """The cells of a piece, and the number of its records that cannot be split."""
    readable = piece.records.filter(pc.is_null(piece.records["_unreadable"]))
    tables = [readable.select(["_line", *contract.names])]
    broken = piece.records.num_rows - readable.num_rows
    if piece.plain is not None and piece.plain.num_rows:
        lines = piece.plain["_text"].combine_chunks()
        split = pc.split_pattern(lines, ",")
        fitting = pc.equal(pc.list_value_length(split), len(header) + 1)  # each line ends with a further comma
        blank = pc.less_equal(pc.utf8_length(pc.utf8_trim_whitespace(lines)), 1)
        broken += pc.sum(pc.and_not(pc.invert(fitting), blank)).as_py() or 0
        flat, width = split.filter(fitting).flatten(), len(header) + 1
        places = [header.index(name) for name in contract.names]
        columns = [flat.take(pa.array(np.arange(place, len(flat), width))) for place in places]
        present = [pc.if_else(pc.equal(cells, ""), None, cells) for cells in columns]
        numbers = piece.plain["_line"].combine_chunks().filter(fitting)
        tables.append(pa.table([numbers, *present], ["_line", *contract.names]))
    table = pa.concat_tables(tables)
    return (table.sort_by("_line") if len(tables) > 1 else table).drop_columns(["_line"]), broken
