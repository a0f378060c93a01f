"""Turns bytes into records: raw text, line number and cells of every record, without losing or guessing anything.

A record of a CSV file is one physical line, and of a Parquet file one row. What cannot be split as the header says is a record
too, with the reason. A file that cannot be read at all is a `FileFault`. Files are read in pieces, so their size does not matter.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from churn.contract import Contract

DELIMITERS = {";": "semicolon", "\t": "tab", "|": "pipe"}
PIECE = 12 << 20
LONGEST_LINE = 64 << 20
csv.field_size_limit(LONGEST_LINE)  # Python's default is far shorter than a line may be
_NEWLINE, _COMMA, _QUOTE, _CONTROL, _SPACE, _ASCII = 10, 44, 34, 32, 32, 128

Line = tuple[int, bytes]


class FileFault(Exception):  # noqa: N818 -- it is turned into the rejection of the batch
    """Why a whole file cannot be read: a short code, and a sentence with the next step."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


@dataclass(frozen=True)
class Piece:
    """Some records of a file, in its order.

    `plain` has `_line` and `_text` of the lines that can be split at every comma (each ends with an extra comma). `records` has
    the others, as returned by `split_lines`. `arrived` is the number of records, counted as lines that are not blank.
    """

    arrived: int
    plain: pa.Table | None
    records: pa.Table
    lines: Lines | None = field(default=None, repr=False)


class BatchFile(Protocol):
    """A file of either format."""

    header: list[str]

    def check(self, contract: Contract) -> None:
        """Check the columns against the contract. Their order does not matter, and further ones are ignored.

        Raises:
            FileFault: the file cannot be read.
        """

    def pieces(self, contract: Contract) -> Iterator[Piece]:
        """Its records."""

    def raw(self, only: NDArray[np.int64] | None = None) -> Iterator[pa.Table]:
        """`_line` and `_raw` of every record, or of the records of these lines; of a damaged file, up to the damage."""


def open_file(stream: IO[bytes]) -> BatchFile:
    """Open a CSV file, plain or gzipped, or a Parquet file, as its first bytes say. The stream must be seekable."""
    from churn.intake.parquet_reading import ParquetBatch

    stream.seek(0)
    magic = stream.read(4)
    stream.seek(0)
    return ParquetBatch(stream) if magic == b"PAR1" else CsvBatch(stream, zipped=magic[:2] == b"\x1f\x8b")


def split_lines(lines: Iterable[Line], header: Sequence[str], contract: Contract) -> pa.Table:
    """Split lines that contain quotes or unusual bytes. Blank lines are not records.

    Returns:
        `_line`, `_raw`, `_unreadable` (a rule, or null) and one text column per column of the contract;
        an empty cell is null.
    """
    kept = [(number, line) for number, line in lines if line.strip()]
    split = [_split(line, len(header)) for _, line in kept]
    positions = [header.index(name) for name in contract.names]
    cells = [
        pa.array([cells[position] or None if cells else None for cells, _ in split], pa.string())
        for position in positions
    ]
    unreadable = pa.array([reason for _, reason in split], pa.string())
    return pa.table([*_raw_columns(kept), unreadable, *cells], ["_line", "_raw", "_unreadable", *contract.names])


class CsvBatch:
    """A CSV file in UTF-8, with or without a byte order mark; line ends are LF, CRLF or CR."""

    def __init__(self, stream: IO[bytes], zipped: bool) -> None:
        self._stream, self._zipped = stream, zipped
        self.header: list[str] = []

    def check(self, contract: Contract) -> None:
        """Read the header and check it against the contract."""
        first = next((line for lines in self._blocks() for _, line in lines.at(lines.all) if line.strip()), None)
        if first is None:
            raise FileFault("empty", "The file is empty. Ask the sender for a complete file.")
        self.header = _header(first, contract)

    def pieces(self, contract: Contract) -> Iterator[Piece]:
        """The records, in pieces of some megabytes."""
        for lines in self._body():
            special = lines.special()
            plain = np.setdiff1d(lines.all, special, assume_unique=True) if len(special) else None
            records = split_lines(lines.at(special), self.header, contract)
            yield Piece(len(lines) - lines.blank(), lines.table(plain), records, lines)

    def raw(self, only: NDArray[np.int64] | None = None) -> Iterator[pa.Table]:
        """`_line` and `_raw` of every record, or of the records of these lines; of a damaged file, up to the damage."""
        try:
            for lines in self._body():
                wanted = lines.all if only is None else lines.positions(only)
                records = [(number, line) for number, line in lines.at(wanted) if line.strip()]
                yield pa.table(_raw_columns(records), ["_line", "_raw"])
        except FileFault:
            return

    def _body(self) -> Iterator[Lines]:
        """Everything after the header, which is the first line that is not blank."""
        begun = False
        for lines in self._blocks():
            if begun:
                yield lines
                continue
            header = next((int(at) for at in lines.all if next(lines.at([at]))[1].strip()), None)
            if header is not None:
                begun = True
                if header + 1 < len(lines):
                    yield lines.behind(header + 1)

    def _blocks(self) -> Iterator[Lines]:
        number = 1
        for block in _whole_lines(self._stream, self._zipped):
            lines = Lines(number, block)
            number += len(lines)
            yield lines


class Lines:
    """A block of complete lines, beginning with this line number and ending with a line feed."""

    def __init__(self, first: int, block: bytearray, ends: NDArray[np.int64] | None = None, start: int = 0) -> None:
        self.first, self._block = first, block
        self._bytes = np.frombuffer(block, dtype=np.uint8)
        self._ends = np.flatnonzero(self._bytes == _NEWLINE) if ends is None else ends
        self._starts = np.concatenate([[start], self._ends[:-1] + 1])

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def all(self) -> NDArray[np.int64]:
        """The positions of all lines."""
        return np.arange(len(self))

    def behind(self, lines: int) -> Lines:
        """The block without a number of its first lines."""
        return Lines(self.first + lines, self._block, self._ends[lines:], int(self._starts[lines]))

    def at(self, positions: Iterable[int] | NDArray[np.int64]) -> Iterator[Line]:
        """Line numbers and bytes of the lines at these positions."""
        view = memoryview(self._block)
        for position in positions:
            yield self.first + int(position), bytes(view[self._starts[position] : self._ends[position]])

    def positions(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions of these line numbers, as far as they are in this block."""
        return numbers[(numbers >= self.first) & (numbers < self.first + len(self))] - self.first

    def blank(self) -> int:
        """Number of lines that contain only blanks."""
        empty = int((self._starts == self._ends).sum())
        begin_blank = np.flatnonzero((self._bytes[self._starts] <= _SPACE) & (self._starts < self._ends))
        return empty + sum(not line.strip() for _, line in self.at(begin_blank))

    def special(self) -> NDArray[np.int64]:
        """The positions of lines with quotes, control characters, or bytes that are not UTF-8."""
        start = int(self._starts[0])
        used = self._bytes[start:]
        positions: list[NDArray[np.int64]] = []
        if np.count_nonzero(used < _CONTROL) > len(self):
            positions.append(self._holding((used < _CONTROL) & (used != _NEWLINE), start))
        if b'"' in self._block:
            positions.append(self._holding(used == _QUOTE, start))
        try:
            self._block.decode()
        except UnicodeDecodeError:
            foreign = self._holding(used >= _ASCII, start)
            positions.append(np.array([at for at in foreign if not _is_utf8(next(self.at([at]))[1])], dtype=np.int64))
        return np.unique(np.concatenate(positions)) if positions else np.array([], dtype=np.int64)

    def _holding(self, marked: NDArray[np.bool_], start: int) -> NDArray[np.int64]:
        return np.unique(np.searchsorted(self._ends, np.flatnonzero(marked) + start))

    def table(self, positions: NDArray[np.int64] | None = None) -> pa.Table:
        """`_line` and `_text` of the lines at these positions (by default all). Each text ends with an extra comma."""
        closed = self._bytes.copy()
        closed[self._ends] = _COMMA
        offsets = np.append(self._starts[:1], self._ends + 1).astype(np.int32)
        texts = pa.StringArray.from_buffers(len(self), pa.py_buffer(offsets), pa.py_buffer(closed))
        numbers = pa.array(np.arange(self.first, self.first + len(self)))
        table = pa.table([numbers, texts], ["_line", "_text"])
        return table if positions is None else table.take(pa.array(positions))


def _raw_columns(lines: Sequence[Line]) -> list[pa.Array]:
    numbers = pa.array([number for number, _ in lines], pa.int64())
    return [numbers, pa.array([line.decode(errors="backslashreplace") for _, line in lines], pa.string())]


def _whole_lines(stream: IO[bytes], zipped: bool) -> Iterator[bytearray]:
    """A file in blocks of complete lines, with line feeds as line ends and without a byte order mark."""
    stream.seek(0)
    source = gzip.GzipFile(fileobj=stream) if zipped else stream
    rest, old_mac, begun = bytearray(), False, False
    while True:
        try:
            data = source.read(PIECE)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FileFault(
                "broken_gzip", "The compressed file is damaged or incomplete. Ask the sender for a complete file."
            ) from error
        if not begun:
            data, begun = data.removeprefix(codecs.BOM_UTF8), True
            old_mac = b"\r" in data and b"\n" not in data
        if old_mac:
            data = data.replace(b"\r", b"\n")
        last = not data
        if last and rest:
            data = b"\n"
        cut = data.rfind(b"\n") + 1
        if cut:
            rest += memoryview(data)[:cut]
            yield rest.replace(b"\r\n", b"\n") if b"\r\n" in rest else rest
            rest = bytearray(memoryview(data)[cut:])
        else:
            rest += data
        if last:
            return
        if len(rest) > LONGEST_LINE:
            raise FileFault(
                "not_csv",
                f"A line is longer than {LONGEST_LINE >> 20} MB, so this is not a CSV file. Export it as CSV and send it again.",
            )


def _header(line: bytes, contract: Contract) -> list[str]:
    try:
        header = _cells(line.decode())
    except (UnicodeDecodeError, csv.Error):
        header = []
    if not header or b"\0" in line:
        raise FileFault(
            "not_csv", "The first line is not the header of a CSV file in UTF-8. Export it as CSV and send it again."
        )
    if len(header) == 1:
        delimiter = next((word for mark, word in DELIMITERS.items() if mark in header[0]), None)
        hint = f" The file seems to be separated by {delimiter}s." if delimiter else ""
        raise FileFault(
            "delimiter",
            f"The header has only one cell.{hint} Export it with commas between the cells and send it again.",
        )
    require_columns(header, contract)
    return header


def require_columns(header: Sequence[str], contract: Contract) -> None:
    """Check that every column of the contract appears in the header once.

    Raises:
        FileFault: one does not.
    """
    repeated = sorted({name for name in contract.names if header.count(name) > 1})
    if repeated:
        raise FileFault(
            "repeated_column",
            f"Column {', '.join(repeated)} appears twice in the header. Send the file again with one of each.",
        )
    missing = [name for name in contract.names if name not in header]
    if missing:
        plural = "s are" if len(missing) > 1 else " is"
        raise FileFault(
            "missing_column",
            f"Column{plural} missing: {', '.join(missing)}. Expected: {', '.join(contract.names)}. Fix the header and send the file again.",
        )


def _split(line: bytes, width: int) -> tuple[list[str] | None, str | None]:
    if b"\0" in line:
        return None, "record.nul"
    if b"\r" in line:
        return None, "record.line_break"
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


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
