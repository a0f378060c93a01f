"""A block of lines knows its lines without splitting them."""

from __future__ import annotations

import numpy as np
import pytest

from churn.intake import lines as lines_module
from churn.intake.lines import Lines, with_line_feeds

BLOCK = b'a,1\n\n  \nb,"2"\nc\x01,3\n\xff,4\n\xc3\xa4,5\n'


def test_lines_keep_their_numbers_and_bytes() -> None:
    """Numbers go on from the first line of the block, also behind a number of lines."""
    lines = Lines(10, bytearray(BLOCK))
    assert len(lines) == 7
    assert list(lines.at([0, 3])) == [(10, b"a,1"), (13, b'b,"2"')]
    rest = lines.behind(3)
    assert (len(rest), next(rest.at([0]))) == (4, (13, b'b,"2"'))
    assert lines.positions(np.array([9, 10, 16, 17])).tolist() == [0, 6]
    assert lines.positions(np.array([], int)).size == 0


def test_blank_and_special_lines_are_found() -> None:
    """Empty lines and lines of blanks are blank; quotes, control characters and bytes that are not UTF-8 are special."""
    lines = Lines(1, bytearray(BLOCK))
    assert lines.blank() == 2
    assert lines.special().tolist() == [3, 4, 5]
    assert Lines(1, bytearray(b"a,1\nb,2\n")).special().size == 0


def test_the_table_has_every_text_with_an_extra_comma() -> None:
    """A comma takes the place of the line feed; the lines that are left out have no text."""
    lines = Lines(5, bytearray(b"a,1\nb,2\n"))
    assert lines.table(without=np.array([], int)).to_pydict() == {"_line": [5, 6], "_text": ["a,1,", "b,2,"]}
    assert lines.table(without=np.array([0])).to_pydict() == {"_line": [5, 6], "_text": [None, "b,2,"]}


def test_line_ends_of_windows_become_line_feeds() -> None:
    """A single carriage return within a line stays; a text without line ends of Windows is not copied."""
    assert with_line_feeds(bytearray(b"a\rb\r\nc\r\r\nd\n")) == b"a\rb\nc\r\nd\n"
    for text in (bytearray(b"a\nb\n"), bytearray(b"a\rb\n\rc\n")):
        assert with_line_feeds(text) is text


def test_lines_are_the_same_in_whatever_steps_they_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The border of a step may be anywhere."""
    whole = Lines(1, bytearray(BLOCK))
    for step in range(1, len(BLOCK) + 2):
        monkeypatch.setattr(lines_module, "_STEP", step)
        lines = Lines(1, bytearray(BLOCK))
        assert list(lines.at(lines.all)) == list(whole.at(whole.all))
        assert lines.special().tolist() == whole.special().tolist() == [3, 4, 5]


QUOTED = b'1,"two\nlines",x\n2,plain,y\n3,"a ""quoted"" line\n\nand another",z\n4,"stray,w\n5,plain,v\n'


def test_lines_that_one_quoted_cell_spans_are_joined() -> None:
    """The record has the number of its first line; a quote that nobody closes swallows nothing."""
    lines, rest = Lines(2, bytearray(QUOTED)).joined(3, complete=True)
    assert rest is None
    assert [number for number, _ in lines.at(lines.all)] == [2, 4, 5, 8, 9]
    assert next(lines.at([0]))[1] == b'1,"two\nlines",x'
    assert lines.positions(np.array([3, 4, 9])).tolist() == [1, 4]
    assert lines.special().tolist() == [0, 2, 3]
    assert lines.table(without=lines.special()).to_pydict() == {
        "_line": [2, 4, 5, 8, 9],
        "_text": [None, "2,plain,y,", None, None, "5,plain,v,"],
    }


def test_a_record_that_goes_on_in_the_next_block_is_joined_there() -> None:
    """The lines at the end of a block wait for the next one."""
    first, rest = Lines(1, bytearray(b'1,a,b\n2,"c\n')).joined(3, complete=False)
    assert list(first.at(first.all)) == [(1, b"1,a,b")]
    assert rest is not None
    whole, rest = rest.followed_by(Lines(3, bytearray(b'd",e\n3,f,g\n'))).joined(3, complete=False)
    assert list(whole.at(whole.all)) == [(2, b'2,"c\nd",e'), (4, b"3,f,g")]
    assert rest is None


def test_joining_needs_the_number_of_cells_of_the_header() -> None:
    """Two stray quotes far apart do not make the rows between them one record."""
    stray = b'1,"a,b\n' + b"2,c,d\n" * 5 + b'3,"e,f\n'
    lines, _ = Lines(1, bytearray(stray)).joined(3, complete=True)
    assert len(lines) == 7


def test_two_rows_with_a_stray_quote_in_the_same_place_are_two_rows() -> None:
    """Together they would be one valid record, whose text has most of both rows in it."""
    rows = b'1,",b,c\n2,",d,e\n'
    lines, _ = Lines(1, bytearray(rows)).joined(4, complete=True)
    assert len(lines) == 2
    between = b'1,"a\n' + b"2,b,c,d\n" + b'3",e,f\n'
    lines, _ = Lines(1, bytearray(between)).joined(4, complete=True)
    assert len(lines) == 3
