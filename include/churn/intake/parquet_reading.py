"""Reads the rows of a Parquet file as records. Every cell is judged as the text that it would be in a CSV file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from churn.contract import Contract
from churn.intake.batch_file import FileFault, Piece
from churn.intake.file_part import FilePart
from churn.intake.header import in_contract_spelling, require_columns

_ROWS = 65_536
_WHOLE = 2.0**53  # beyond this, floats cannot represent every integer


class ParquetBatch:
    """A Parquet file, or a part of it. The number of a row serves as its line.

    Args:
        stream: the file, seekable.
        part: read only the row groups of this part.
        header: its columns in the spelling of the contract, if only a part is read.
    """

    def __init__(self, stream: IO[bytes], part: FilePart | None = None, header: Sequence[str] = ()) -> None:
        self._stream, self._range = stream, part
        self.header = list(header)

    def names(self) -> list[str]:
        """The names of its columns."""
        with _broken_parquet():
            return list(pq.ParquetFile(self._stream).schema_arrow.names)

    def check(self, contract: Contract) -> None:
        """Check the columns against the contract."""
        with _broken_parquet():
            file = pq.ParquetFile(self._stream)
            schema = file.schema_arrow
            names = schema.names
            if file.metadata.num_rows != _rows_of(file, range(file.num_row_groups)):
                raise _damaged()
        self.header = in_contract_spelling(names, contract)
        require_columns(self.header, contract)
        nested = [
            name
            for name, kind in zip(self.header, schema.types, strict=True)
            if name in contract.names and pa.types.is_nested(kind)
        ]
        if nested:
            raise FileFault(
                "nested_column", f"Column {', '.join(nested)} is nested. Export plain cells and send the file again."
            )

    def pieces(self, contract: Contract) -> Iterator[Piece]:
        """Its rows."""
        for raw, texts in self._rows():
            cells = {name: texts[self.header.index(name)] for name in contract.names if name in self.header}
            faults = [_unreadable(cell) for cell in cells.values()]
            nothing = pa.nulls(raw.num_rows, pa.string())
            present = [
                pc.if_else(pc.equal(cells[name].texts, ""), None, cells[name].texts) if name in cells else nothing
                for name in contract.names
            ]
            columns = [raw["_line"], raw["_raw"], pc.coalesce(*faults), *present]
            yield Piece(raw.num_rows, None, pa.table(columns, ["_line", "_raw", "_unreadable", *contract.names]))

    def raw(self, only: NDArray[np.int64] | None = None) -> Iterator[pa.Table]:
        """`_line` and `_raw` of every row, or of the rows with these numbers."""
        try:
            for raw, _ in self._rows():
                yield raw if only is None else raw.filter(pc.is_in(raw["_line"], pa.array(only)))
        except FileFault:
            return

    def _rows(self) -> Iterator[tuple[pa.Table, list[_Texts]]]:
        """Numbers and texts of rows, and their cells as text, column by column."""
        first, groups = (self._range.first, [*range(self._range.begin, self._range.end)]) if self._range else (1, None)
        with _broken_parquet():
            file, read = pq.ParquetFile(self._stream), 0
            for batch in file.iter_batches(_ROWS, row_groups=groups):
                texts = [_Texts(column) for column in batch.columns]
                numbers = pa.array(np.arange(first, first + batch.num_rows))
                raw = pc.binary_join_element_wise(*[_as_csv(cell.texts) for cell in texts], ",")
                yield pa.table([numbers, raw], ["_line", "_raw"]), texts
                first, read = first + batch.num_rows, read + batch.num_rows
            if read != _rows_of(file, groups):
                raise _damaged()


def _rows_of(file: pq.ParquetFile, groups: Sequence[int] | None) -> int:
    """The number of rows that a file says it has, or that its footer says these row groups have."""
    footer = file.metadata
    return sum(footer.row_group(group).num_rows for group in groups) if groups is not None else int(footer.num_rows)


class _Texts:
    """The cells of a column as text. `undecodable` marks those whose bytes are not UTF-8."""

    def __init__(self, values: pa.Array) -> None:
        self.undecodable: NDArray[np.bool_] | None = None
        try:
            self.texts = (
                _without_exponent(values) if pa.types.is_floating(values.type) else pc.cast(values, pa.string())
            )
            if _is_text(values.type):
                self.texts.validate(full=True)  # a column of texts may hold any bytes
        except pa.ArrowException:  # bytes that are not text, nested values, special types
            cells = _as_values(values)
            texts = [_as_text(cell) for cell in cells]
            self.texts = pa.array(texts, pa.string())
            binary = [
                isinstance(cell, bytes) and cell.decode(errors="replace") != text
                for cell, text in zip(cells, texts, strict=True)
            ]
            self.undecodable = np.array(binary, dtype=bool)


def _is_text(kind: pa.DataType) -> bool:
    """Whether a column has texts, also if each distinct one is stored once."""
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _as_values(values: pa.Array) -> list[Any]:
    """Return the cells as Python's values; those that it has no value for, such as times in an unknown zone, as a text of their type."""
    if _is_text(values.type):
        values = values.cast(pa.string()).cast(pa.binary())
    try:
        cells: list[Any] = values.to_pylist()
    except (ArithmeticError, LookupError, ValueError):  # also the errors of Arrow and of time zones
        return [_as_value(values, position) for position in range(len(values))]
    return cells


def _as_value(values: pa.Array, position: int) -> Any:
    try:
        return values[position].as_py()
    except (ArithmeticError, LookupError, ValueError):
        return f"a value of the type {values.type} that cannot be written"


def _as_text(cell: Any) -> str | None:
    if cell is None:
        return None
    return cell.decode(errors="backslashreplace") if isinstance(cell, bytes) else str(cell)


def _without_exponent(values: pa.Array) -> pa.Array:
    """Format whole numbers as in an integer column, because a single missing value turns a column into floats."""
    doubles = values.cast(pa.float64())
    whole = pc.and_(pc.equal(pc.floor(doubles), doubles), pc.less(pc.abs(doubles), _WHOLE))
    integers = pc.cast(pc.if_else(whole, doubles, 0.0), pa.int64())
    return pc.if_else(whole, pc.cast(integers, pa.string()), pc.cast(values, pa.string()))


def _unreadable(cell: _Texts) -> pa.Array:
    """The rule that makes a record unreadable, as for a line of CSV, or null."""
    nul = pc.if_else(pc.fill_null(pc.match_substring(cell.texts, "\0"), fill_value=False), "record.nul", None)
    if cell.undecodable is None:
        return nul.cast(pa.string())
    return pc.if_else(pa.array(cell.undecodable), "record.encoding", nul).cast(pa.string())


def _as_csv(texts: pa.Array) -> pa.Array:
    """Cells as in a line of CSV: quoted where needed, empty where missing."""
    cells = pc.fill_null(texts, "")
    special = pc.match_substring_regex(cells, '[,"\\r\\n]')
    if not pc.any(special).as_py():
        return cells
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(cells, '"', '""'), '"', "")
    return pc.if_else(special, quoted, cells)


@contextmanager
def _broken_parquet() -> Iterator[None]:
    try:
        yield
    except (
        pa.ArrowException,
        OSError,
        UnicodeDecodeError,
    ) as error:  # the last one: a name of a column that is not UTF-8
        if (
            isinstance(error, OSError) and error.errno is not None
        ):  # a fault of the storage; Arrow's own errors have no number
            raise
        raise _damaged() from error


def _damaged() -> FileFault:
    return FileFault("broken_parquet", "The Parquet file is damaged or incomplete. Ask the sender for a complete file.")
