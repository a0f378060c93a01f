"""Reads a CSV file as records: raw text, line number and cells of every record, without losing or guessing anything.

A record is one line, or several that one quoted cell spans (RFC 4180); its number is that of its first line. What cannot be
split as the header says is a record too, with the reason.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from churn.contract import Contract
from churn.errors import ChurnError
from churn.intake.batch_file import FileFault, Piece
from churn.intake.file_part import FilePart
from churn.intake.header import explain_first_lines, explain_header, in_contract_spelling, require_columns
from churn.intake.lines import Line, Lines, with_line_feeds

FIRST_LINES = 100
"""Number of lines that are looked at to explain what is wrong with a file."""
PIECE = 8 << 20
LONGEST_LINE = 64 << 20
csv.field_size_limit(LONGEST_LINE)  # Python's default is far shorter than a line may be


def split_lines(lines: Iterable[Line], header: Sequence[str], contract: Contract) -> pa.Table:
    """Split lines that contain quotes or unusual bytes. Blank lines are not records.

    Returns:
        `_line`, `_raw`, `_unreadable` (a rule, or null) and one text column per column of the contract;
        an empty cell is null, as is every cell of a column that the header lacks.
    """
    kept = [(number, line) for number, line in lines if line.strip()]
    split = [_split(line, len(header)) for _, line in kept]
    positions = [header.index(name) if name in header else None for name in contract.names]
    cells = [
        pa.array([cells[position] or None if cells else None for cells, _ in split], pa.string())
        if position is not None
        else pa.nulls(len(split), pa.string())
        for position in positions
    ]
    unreadable = pa.array([reason for _, reason in split], pa.string())
    return pa.table([*_raw_columns(kept), unreadable, *cells], ["_line", "_raw", "_unreadable", *contract.names])


class CsvBatch:
    """A CSV file in UTF-8, with or without a byte order mark; line ends are LF, CRLF or CR.

    Args:
        stream: the file, seekable.
        zipped: whether it is compressed with gzip.
        part: read only the records of this part of a file that is not compressed.
        header: its header in the spelling of the contract, if only a part is read.
    """

    def __init__(
        self, stream: IO[bytes], zipped: bool, part: FilePart | None = None, header: Sequence[str] = ()
    ) -> None:
        self._stream, self.zipped, self._range = stream, zipped, part
        self.header = list(header)

    def names(self) -> list[str]:
        """The names in the header, if the first line looks like one."""
        first = self._first_lines()
        fault = explain_header(first)
        if fault:
            raise fault
        return _header(first[0]) or []

    def check(self, contract: Contract) -> None:
        """Read the header and check it against the contract."""
        first = self._first_lines()
        header = _header(first[0])
        if header is None or not set(in_contract_spelling(header, contract)) & set(contract.names):
            raise explain_first_lines(first, contract)
        self.header = in_contract_spelling(header, contract)
        require_columns(self.header, contract)

    def _first_lines(self) -> list[bytes]:
        lines = (line for block in self._blocks() for _, line in block.at(block.all) if line.strip())
        first = list(islice(lines, FIRST_LINES))
        if not first:
            raise FileFault("empty", "The file is empty. Ask the sender for a complete file.")
        return first

    def pieces(self, contract: Contract) -> Iterator[Piece]:
        """The records, in pieces of some megabytes."""
        for lines in self._body():
            special = lines.special()
            records = split_lines(lines.at(special), self.header, contract)
            yield Piece(len(lines) - lines.blank(), lines.table(without=special), records, lines)

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
        """The records after the header, in blocks."""
        rest: Lines | None = None
        for lines in self._behind_header():
            block, rest = (rest.followed_by(lines) if rest else lines).joined(len(self.header), complete=False)
            if len(block):
                yield block
        if rest:
            yield rest.joined(len(self.header), complete=True)[0]

    def _behind_header(self) -> Iterator[Lines]:
        """Everything after the header, which is the first line that is not blank."""
        begun = self._range is not None
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
        number = self._range.first if self._range else 1
        for block in _whole_lines(self._stream, self.zipped, self._range):
            lines = Lines(number, block)
            number += len(lines)
            yield lines


def _raw_columns(lines: Sequence[Line]) -> list[pa.Array]:
    numbers = pa.array([number for number, _ in lines], pa.int64())
    return [numbers, pa.array([line.decode(errors="backslashreplace") for _, line in lines], pa.string())]


def unpack(stream: IO[bytes]) -> Iterator[bytes]:
    """The bytes in a file that is compressed with gzip, some megabytes at a time.

    Raises:
        FileFault: it is damaged.
    """
    stream.seek(0)
    source = gzip.GzipFile(fileobj=stream)
    try:
        while data := source.read(PIECE):
            yield data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileFault(
            "broken_gzip", "The compressed file is damaged or incomplete. Ask the sender for a complete file."
        ) from error


def _read(stream: IO[bytes], part: FilePart | None) -> Iterator[bytes]:
    """The bytes of a file or of a part of it, some megabytes at a time."""
    left = part.end - part.begin if part else None
    stream.seek(part.begin if part else 0)
    while data := stream.read(PIECE if left is None else min(PIECE, left)):
        left = None if left is None else left - len(data)
        yield data
    if left:
        raise ChurnError(
            "The file is shorter than when it was divided into parts, so it has been changed since it arrived. Nothing of it is accepted. "
            "`churn audit --hashes` names it. Restore the original from a backup, or send the file again."
        )


def _whole_lines(stream: IO[bytes], zipped: bool, part: FilePart | None = None) -> Iterator[bytearray]:
    """A file or a part of it in blocks of complete lines, with line feeds as line ends and without a byte order mark."""
    rest, old_mac, begun = bytearray(), bool(part and part.old_mac), part is not None
    for piece in chain(unpack(stream) if zipped else _read(stream, part), [b""]):
        data = piece
        if not begun:
            begun, data = True, data.removeprefix(codecs.BOM_UTF8)
            old_mac = b"\r" in data and b"\n" not in data
        if old_mac:
            data = data.replace(b"\r", b"\n")
        last = not data
        if last and rest:
            data = b"\n"
        cut = data.rfind(b"\n") + 1
        if cut:
            rest += memoryview(data)[:cut]
            yield with_line_feeds(rest)
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


def header_width(line: bytes) -> int | None:
    """The number of cells of a first line; None if it is not a line of CSV in UTF-8."""
    header = _header(line)
    return len(header) if header else None


def _header(line: bytes) -> list[str] | None:
    """The cells of the first line; None if it is not a line of CSV in UTF-8."""
    try:
        return _cells(line.decode())
    except (UnicodeDecodeError, csv.Error):
        return None


def _split(line: bytes, width: int) -> tuple[list[str] | None, str | None]:
    if b"\0" in line:
        return None, "record.nul"
    if b"\r" in line and b'"' not in line:
        return None, "record.line_break"
    try:
        cells = _cells(line.decode())
    except UnicodeDecodeError:
        return None, "record.encoding"
    except csv.Error as error:
        return None, "record.line_break" if "new-line character" in str(error) else "record.quotes"
    return (cells, None) if len(cells) == width else (None, "record.field_count")


def _cells(line: str) -> list[str]:
    if '"' not in line:
        return line.split(",")
    return next(csv.reader([line], strict=True))
