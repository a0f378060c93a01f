"""Blocks of lines of a text file, searched without splitting them one by one.

Lines that one quoted cell spans (RFC 4180) are joined to one line, which has the number of the first.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_NEWLINE, _RETURN, _COMMA, _QUOTE, _CONTROL, _SPACE, _ASCII = 10, 13, 44, 34, 32, 32, 128

Line = tuple[int, bytes]
"""The number of a line, and its bytes."""


_STEP = 1 << 20
_Test = Callable[[NDArray[np.uint8]], NDArray[np.bool_]]

MOST_JOINED = 1000
"""A quoted cell that spans more lines than this is taken for a quote that nobody closed."""


class Lines:
    """A block of complete lines, beginning with this line number and ending with a line feed."""

    def __init__(
        self,
        first: int,
        block: bytearray,
        ends: NDArray[np.int64] | None = None,
        start: int = 0,
        numbers: NDArray[np.int64] | None = None,
    ) -> None:
        self._block = block
        self._bytes = np.frombuffer(block, dtype=np.uint8)
        self._ends = _find(self._bytes, lambda seen: seen == _NEWLINE) if ends is None else ends
        self._starts = np.concatenate([[start], self._ends[:-1] + 1])
        self._numbers = np.arange(first, first + len(self._ends)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def all(self) -> NDArray[np.int64]:
        """The positions of all lines."""
        return np.arange(len(self))

    def behind(self, lines: int) -> Lines:
        """The block without a number of its first lines."""
        return self._part(slice(lines, None))

    def followed_by(self, more: Lines) -> Lines:
        """One block of these lines and of those behind them in the file."""
        return Lines(
            0,
            self._block[int(self._starts[0]) :] + more._block[int(more._starts[0]) :],
            numbers=np.concatenate([self._numbers, more._numbers]),
        )

    def joined(self, width: int, *, complete: bool) -> tuple[Lines, Lines | None]:
        """Join the lines of each record that continues behind a line break in a quoted cell.

        Only a record that then has `width` cells is joined, and only if its lines are not rows by themselves, so that
        stray quotes never swallow the rows between them.

        Args:
            width: the number of cells in the header.
            complete: whether this is the last block of the file.

        Returns:
            The block with joined lines, and the lines at its end whose record may continue in the next block.
        """
        joined: list[int] = []
        behind = 0
        for at in map(int, self._opening()):
            if at < behind:
                continue
            count = self._record_length(at, width)
            if count is None and not complete and len(self) - at < MOST_JOINED:
                return self._part(slice(None, at))._without_ends(joined), self._part(slice(at, None))
            if count:
                behind = at + count
                joined += range(at, behind - 1)
        return self._without_ends(joined), None

    def _part(self, which: slice) -> Lines:
        ends, starts = self._ends[which], self._starts[which]
        block = self._block[: int(ends[-1]) + 1 if len(ends) else 0] if which.start is None else self._block
        return Lines(0, block, ends, int(starts[0]) if len(ends) else 0, self._numbers[which])

    def _without_ends(self, positions: list[int]) -> Lines:
        """The block with the lines at these positions joined to their next ones."""
        if not positions:
            return self
        numbers = np.delete(self._numbers, np.array(positions) + 1)
        return Lines(0, self._block, np.delete(self._ends, positions), int(self._starts[0]), numbers)

    def _opening(self) -> NDArray[np.int64]:
        """The positions of lines with an odd number of quotes."""
        if b'"' not in self._block or not len(self):
            return np.array([], dtype=np.int64)
        start = int(self._starts[0])
        quotes = _find(self._bytes[start : self._ends[-1]], lambda seen: seen == _QUOTE) + start
        counts = np.bincount(np.searchsorted(self._ends, quotes), minlength=len(self))
        return np.flatnonzero(counts % 2)

    def _record_length(self, at: int, width: int) -> int | None:
        """Number of lines of the record that begins here; 0 if it is none, None if it goes on behind the block."""
        whole: list[bool] = []  # of each line: whether it has the cells of a row by itself
        swallows = False

        def texts() -> Iterator[str]:
            nonlocal swallows
            for _, line in islice(self.at(range(at, len(self))), MOST_JOINED):
                if len(whole) > 1 and whole[-1]:  # the record would contain a row between its first and last line
                    swallows = True
                    return
                whole.append(line.count(b",") == width - 1)
                yield line.decode(errors="replace") + "\n"

        try:
            cells = next(csv.reader(texts(), strict=True))
        except csv.Error:
            goes_on = at + len(whole) == len(self) and len(whole) < MOST_JOINED
            return None if goes_on and not swallows else 0
        rows_swallowed = swallows or (whole[0] and whole[-1] and len(whole) > 1)
        return len(whole) if len(cells) == width and not rows_swallowed else 0

    def at(self, positions: Iterable[int] | NDArray[np.int64]) -> Iterator[Line]:
        """Line numbers and bytes of the lines at these positions."""
        view = memoryview(self._block)
        for position in positions:
            yield int(self._numbers[position]), bytes(view[self._starts[position] : self._ends[position]])

    def positions(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions of these line numbers, as far as they are in this block."""
        places = np.searchsorted(self._numbers, numbers)
        here = np.append(self._numbers, -1)[places] == numbers
        return np.asarray(places[here], dtype=np.int64)

    def blank(self) -> int:
        """Number of lines that contain only blanks."""
        empty = int((self._starts == self._ends).sum())
        begin_blank = np.flatnonzero((self._bytes[self._starts] <= _SPACE) & (self._starts < self._ends))
        return empty + sum(not line.strip() for _, line in self.at(begin_blank))

    def special(self) -> NDArray[np.int64]:
        """The positions of lines with quotes, control characters, or bytes that are not UTF-8."""
        positions: list[NDArray[np.int64]] = []
        if np.count_nonzero(self._bytes[int(self._starts[0]) :] < _CONTROL) > len(self):
            positions.append(self._holding(lambda seen: (seen < _CONTROL) & (seen != _NEWLINE)))
        if b'"' in self._block:
            positions.append(self._holding(lambda seen: seen == _QUOTE))
        try:
            self._block.decode()
        except UnicodeDecodeError:
            foreign = self._holding(lambda seen: seen >= _ASCII)
            positions.append(np.array([at for at in foreign if not _is_utf8(next(self.at([at]))[1])], dtype=np.int64))
        return np.unique(np.concatenate(positions)) if positions else np.array([], dtype=np.int64)

    def _holding(self, wanted: _Test) -> NDArray[np.int64]:
        """The positions of lines with such bytes."""
        start = int(self._starts[0])
        return np.unique(np.searchsorted(self._ends, _find(self._bytes[start:], wanted) + start))

    def table(self, without: NDArray[np.int64]) -> pa.Table:
        """`_line` and `_text` of all lines. Each text ends with an extra comma; that of lines at the positions `without` is null."""
        closed = self._bytes.copy()
        closed[self._ends] = _COMMA
        offsets = np.append(self._starts[:1], self._ends + 1).astype(np.int32)
        present = np.ones(len(self), dtype=np.bool_)
        present[without] = False
        bits = pa.py_buffer(np.packbits(present, bitorder="little")) if len(without) else None
        texts = pa.StringArray.from_buffers(
            len(self), pa.py_buffer(offsets), pa.py_buffer(closed), bits, null_count=len(without)
        )
        return pa.table([pa.array(self._numbers), texts], ["_line", "_text"])


def _find(text: NDArray[np.uint8], wanted: _Test) -> NDArray[np.int64]:
    """Where the wanted bytes are. They are looked for in steps: a mask as long as the text is slow to allocate."""
    found = [np.flatnonzero(wanted(text[at : at + _STEP])) + at for at in range(0, len(text), _STEP)]
    return np.concatenate([np.array([], dtype=np.int64), *found])


def with_line_feeds(text: bytearray) -> bytearray:
    """Text with line feeds in place of the line ends of Windows; the same object if it has none.

    Single bytes are looked for first: Python needs ten times as long to find two.
    """
    if b"\r" not in text:
        return text
    found = np.frombuffer(text, dtype=np.uint8)
    behind = _find(found[:-1], lambda seen: seen == _RETURN) + 1
    return text.replace(b"\r\n", b"\n") if (found[behind] == _NEWLINE).any() else text


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
