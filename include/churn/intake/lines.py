"""Blocks of lines of a text file, searched without splitting them one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_NEWLINE, _COMMA, _QUOTE, _CONTROL, _SPACE, _ASCII = 10, 44, 34, 32, 32, 128

Line = tuple[int, bytes]
"""The number of a line, and its bytes."""


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


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
