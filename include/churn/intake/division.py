"""Divides a file into parts: ranges that begin and end between records, so that several cores can judge it at once.

A CSV file is divided while it is hashed on arrival; a record that one quoted cell spans over several lines is never cut. A Parquet
file is divided at its row groups, and a compressed file when it is unpacked. The division of a batch is noted beside its
original, so that its parts stay the same whatever the settings say later.
"""

from __future__ import annotations

import codecs
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from churn.foundation.digests import json_digest
from churn.foundation.paths import division_note
from churn.foundation.storage import Storage
from churn.intake.csv_reading import LONGEST_LINE, PIECE, header_width
from churn.intake.file_part import FilePart
from churn.intake.lines import Lines, with_line_feeds

log = logging.getLogger(__name__)
PART_SIZE = 16_000_000
"""Bytes of a part, unless the settings say otherwise."""
_FORMAT = 1
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_Bytes = TypeVar("_Bytes", bytes, bytearray)
_BLANK = b" \t\r\n\v\f"


@dataclass(frozen=True)
class Division:
    """The parts of a file, in order, without gaps behind its header."""

    parts: tuple[FilePart, ...]

    def to_json(self, batch: str) -> dict[str, Any]:
        """The division of a batch as plain JSON, with a hash over it."""
        parts = [[part.begin, part.end, part.first, part.old_mac] for part in self.parts]
        content = {"format": _FORMAT, "batch": batch, "parts": parts}
        return content | {"digest": json_digest(content)}

    @classmethod
    def of_json(cls, content: dict[str, Any], batch: str) -> Self:
        """The inverse of `to_json`.

        Raises:
            ValueError: it was changed, or belongs to another batch.
        """
        noted = {key: value for key, value in content.items() if key != "digest"}
        if content.get("digest") != json_digest(noted) or (noted["format"], noted["batch"]) != (_FORMAT, batch):
            raise ValueError("the digest differs")
        return cls(
            tuple(
                FilePart(number, begin, end, first, old_mac)
                for number, (begin, end, first, old_mac) in enumerate(noted["parts"])
            )
        )


class Divider:
    """Finds the parts of a CSV file while its bytes pass by.

    Args:
        size: bytes of a part. A part ends at the last record that begins and ends within them; if there is none, it is longer.
    """

    def __init__(self, size: int) -> None:
        self._size = self._wanted = size
        self._buffer = bytearray()
        self._at = 0  # position of the buffer in the file
        self._line = 1
        self._width: int | None = None  # cells of the header, once it has been read
        self._old_mac = False
        self._divisible = True
        self._parts: list[FilePart] = []

    def feed(self, data: bytes) -> None:
        """Look at the next bytes of the file."""
        if not self._divisible:
            return
        self._buffer += self._with_line_feeds(data)
        if self._width is None and len(self._buffer) < PIECE:
            return
        self._advance()

    def finish(self) -> Division | None:
        """The division; None if the file has a single part, or is not one that can be divided."""
        if self._divisible and self._buffer:
            self._advance()
        if not self._divisible or not self._parts:
            return None
        if self._buffer:
            self._cut(len(self._buffer))
        return Division(tuple(self._parts))

    def _advance(self) -> None:
        if self._width is None:
            self._read_header()
        while self._divisible and len(self._buffer) > self._wanted:
            end = self._border()
            if end:
                self._cut(end)
                self._wanted = self._size
            elif len(self._buffer) > max(LONGEST_LINE, 2 * self._wanted):
                self._divisible = False  # reading it says what is wrong
            else:
                self._wanted += self._size

    def _read_header(self) -> None:
        start = self._buffer[:PIECE]
        if start[:4] == _PARQUET or start[:2] == _GZIP:
            self._divisible = False
            return
        self._old_mac = b"\r" in start and b"\n" not in start
        self._buffer = self._with_line_feeds(self._buffer)
        self._skip(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
        while (end := self._buffer.find(b"\n") + 1) > 0:
            line = bytes(self._buffer[:end])
            self._line += 1
            self._skip(end)
            if line.strip(_BLANK):
                self._width = header_width(line.rstrip(b"\r\n"))
                break
        self._divisible = self._width is not None

    def _border(self) -> int:
        """The position behind the last record that ends within the wanted bytes; 0 if none does."""
        end = self._buffer.rfind(b"\n", 0, self._wanted) + 1
        if self._buffer.find(b'"', 0, end) < 0:
            return end
        _, rest = Lines(0, with_line_feeds(self._buffer[:end])).joined(self._width or 1, complete=False)
        for _ in range(len(rest) if rest else 0):  # the lines of a record that goes on behind the border
            end = self._buffer.rfind(b"\n", 0, end - 1) + 1
        return end

    def _cut(self, end: int) -> None:
        self._parts.append(FilePart(len(self._parts), self._at, self._at + end, self._line, self._old_mac))
        passed = np.frombuffer(self._buffer, dtype=np.uint8, count=end)
        self._line += int(np.count_nonzero(passed == ord("\n")))
        del passed  # the buffer cannot shrink while it is looked at
        self._skip(end)

    def _skip(self, end: int) -> None:
        del self._buffer[:end]
        self._at += end

    def _with_line_feeds(self, data: _Bytes) -> _Bytes:
        """Of a file whose lines end with CR, as it is read: a line feed that comes later ends a line, too. No byte moves."""
        return data.replace(b"\r", b"\n") if self._old_mac else data


def divide_parquet(stream: IO[bytes], size: int) -> Division | None:
    """Divide a Parquet file into runs of row groups of this size; None if it has one part, or is damaged.

    `begin` and `end` of a part count row groups, and `first` is the number of its first row, from 1.
    """
    try:
        footer = pq.read_metadata(stream)
    except (pa.ArrowException, OSError):
        return None
    parts: list[FilePart] = []
    begin, first, rows, held = 0, 1, 0, 0
    for group in range(footer.num_row_groups):
        described = footer.row_group(group)
        if rows and held + described.total_byte_size > size:
            parts.append(FilePart(len(parts), begin, group, first))
            begin, first, rows, held = group, first + rows, 0, 0
        rows, held = rows + described.num_rows, held + described.total_byte_size
    if not parts:
        return None
    return Division((*parts, FilePart(len(parts), begin, footer.num_row_groups, first)))


def divide_stream(chunks: Iterator[bytes], size: int) -> Division | None:
    """Divide the text of a CSV file that is read in chunks."""
    divider = Divider(size)
    for chunk in chunks:
        divider.feed(chunk)
    return divider.finish()


def note_division(storage: Storage, original: str, division: Division | None) -> None:
    """Note the parts of a file beside its original. A note that is there is kept, and a file of one part needs none."""
    name = division_note(original)
    if division is None or storage.exists(name):
        return
    with storage.writing(name) as stream:
        stream.write(json.dumps(division.to_json(_hash_of(original))).encode())


def noted_division(storage: Storage, original: str) -> Division | None:
    """The parts that were noted when the file arrived; None if there is no note, or a damaged one, which is deleted.

    A file can always be divided anew, so a damaged note loses nothing.
    """
    name = division_note(original)
    if not storage.exists(name):
        return None
    fault = find_note_fault(storage, original)
    if fault:
        log.warning("%s It is divided anew.", fault)
        storage.remove(name)
        return None
    return _read_note(storage, original)


def find_note_fault(storage: Storage, original: str) -> str | None:
    """Say what is wrong with the note of a file; None if nothing is."""
    try:
        _read_note(storage, original)
    except (ValueError, TypeError, KeyError):
        return f"{division_note(original)}, which lists the parts of the file, has been changed since it was written."
    return None


def _read_note(storage: Storage, original: str) -> Division:
    with storage.reading(division_note(original)) as stream:
        return Division.of_json(dict(json.loads(stream.read())), _hash_of(original))


def _hash_of(original: str) -> str:
    """Originals are named by the hash of their bytes."""
    return original.rpartition("/")[2]
