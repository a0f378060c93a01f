"""A block of lines knows its lines without splitting them."""

from __future__ import annotations

import numpy as np

from churn.intake.lines import Lines

BLOCK = b'a,1\n\n  \nb,"2"\nc\x01,3\n\xff,4\n\xc3\xa4,5\n'


def test_lines_keep_their_numbers_and_bytes() -> None:
    """Numbers go on from the first line of the block, also behind a number of lines."""
    lines = Lines(10, bytearray(BLOCK))
    assert len(lines) == 7
    assert list(lines.at([0, 3])) == [(10, b"a,1"), (13, b'b,"2"')]
    rest = lines.behind(3)
    assert (len(rest), rest.first, next(rest.at([0]))) == (4, 13, (13, b'b,"2"'))
    assert lines.positions(np.array([9, 10, 16, 17])).tolist() == [0, 6]


def test_blank_and_special_lines_are_found() -> None:
    """Empty lines and lines of blanks are blank; quotes, control characters and bytes that are not UTF-8 are special."""
    lines = Lines(1, bytearray(BLOCK))
    assert lines.blank() == 2
    assert lines.special().tolist() == [3, 4, 5]
    assert Lines(1, bytearray(b"a,1\nb,2\n")).special().size == 0


def test_the_table_has_every_text_with_an_extra_comma() -> None:
    """A comma takes the place of the line feed; with positions, only these lines."""
    lines = Lines(5, bytearray(b"a,1\nb,2\n"))
    assert lines.table().to_pydict() == {"_line": [5, 6], "_text": ["a,1,", "b,2,"]}
    assert lines.table(np.array([1])).to_pydict() == {"_line": [6], "_text": ["b,2,"]}
