"""The cells of a file are read whatever contract it follows; what cannot be a table says what it is."""

from __future__ import annotations

import gzip
import io

import pandas as pd
import pytest

from churn.intake import file_columns
from churn.intake.batch_file import FileFault
from churn.intake.file_columns import FileColumns, read_columns

TEXT = 'id,city,left\n1,Bern,0\n2,"Biel, am See",1\n3,,0\n'


def read(data: str | bytes) -> FileColumns:
    return read_columns(io.BytesIO(data if isinstance(data, bytes) else data.encode()))


def as_parquet(text: str) -> bytes:
    buffer = io.BytesIO()
    pd.read_csv(io.StringIO(text)).to_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data", [TEXT.encode(), gzip.compress(TEXT.encode()), as_parquet(TEXT)], ids=["csv", "gzip", "parquet"]
)
def test_each_format_gives_the_same_cells(data: bytes) -> None:
    """As texts, in the order of the file; an empty cell is missing."""
    assert read(data).cells.to_pydict() == {
        "id": ["1", "2", "3"],
        "city": ["Bern", "Biel, am See", None],
        "left": ["0", "1", "0"],
    }


def test_what_cannot_be_split_is_counted() -> None:
    """As are columns that no contract can have; a blank line is nothing."""
    columns = read("id,,_x,city,left\n1,2,3,Bern,0\n1,2\n\n4,5,6,Zug,1\n")
    assert columns.cells.column_names == ["id", "city", "left"]
    assert (columns.cells.num_rows, columns.unreadable, columns.unusable, columns.whole) == (2, 1, ["", "_x"], True)


def test_a_long_file_is_described_by_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is not read."""
    monkeypatch.setattr(file_columns, "MOST_ROWS", 2)
    assert not read(TEXT).whole


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (
            "a;b;c\n1;2,5;x\n",
            "delimiter",
            "separated by semicolons instead of commas, and its numbers have a decimal comma",
        ),
        ("sep=;\na;b;c\n1;2;3\n", "separator_line", "a hint for Excel"),
        ("a,b,c\n1,Zürich,3\n".encode("latin-1"), "encoding", "not in UTF-8"),
        ("1,2,3\n4,5,6\n", "no_header", "has no header"),
        ("Report of May\na,b,c\n1,2,3\n", "title_line", "must be the header"),
        ("", "empty", "is empty"),
        ("a,b\n1,2\n", "too_few_columns", "has 2 columns. A contract needs at least 3"),
        ("a,A,c\n1,2,3\n", "repeated_column", "A, a appears twice"),
        ("a,b,c\n", "no_rows", "no rows that can be read"),
        (b"\x89PNG\r\n\x1a\nxyz", "other_format", "a PNG image"),
        (b"PAR1 but not really", "broken_parquet", "damaged"),
    ],
)
def test_what_is_no_table_says_what_it_is(data: str | bytes, code: str, words: str) -> None:
    """With the next step, as at intake."""
    with pytest.raises(FileFault) as fault:
        read(data)
    assert fault.value.code == code
    assert words in fault.value.sentence
