"""A file is divided between its records, wherever the borders fall, and its parts read together are the file."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn.contracts.bank import BANK_CHURN
from churn.foundation.paths import division_note, original
from churn.foundation.storage import Storage
from churn.intake import csv_reading
from churn.intake import division as division_module
from churn.intake.arrival import keep_original
from churn.intake.batch_file import FileFault
from churn.intake.csv_reading import CsvBatch
from churn.intake.divided_file import DividedFile, divide_copy, divide_original
from churn.intake.division import (
    Divider,
    Division,
    divide_parquet,
    divide_stream,
    find_note_fault,
    note_division,
    noted_division,
)
from churn.intake.file_part import FilePart
from churn.intake.reading import open_file
from support.basics import small_file
from support.divisions import TINY_PART, assert_tiny
from support.judged_files import judge

HEADER = ["a", "b", "c"]
CELLS = st.sampled_from(["1", "", "é€", '"x,y"', '"q""z"', '"two\nlines"', '"', '"open', "z\rz", '"a\r\nb"', "\x00"])
RECORDS = st.lists(st.lists(CELLS, min_size=2, max_size=4).map(",".join), min_size=1, max_size=12)


def records(text: bytes, part: FilePart | None = None) -> list[dict[str, object]]:
    file = CsvBatch(io.BytesIO(text), zipped=False, part=part, header=HEADER)
    return [row for table in file.raw() for row in table.to_pylist()]


def divided(text: bytes, size: int, chunk: int) -> Division | None:
    divider = Divider(size)
    for start in range(0, len(text), chunk):
        divider.feed(text[start : start + chunk])
    return divider.finish()


@settings(max_examples=300)
@given(
    RECORDS, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), st.booleans(), st.integers(1, 40), st.integers(1, 50)
)
def test_the_parts_together_are_the_file(
    rows: list[str], line_end: str, marked: bool, ends: bool, size: int, chunk: int
) -> None:
    """The same records with the same numbers, whatever the size of the parts and of the chunks that arrive."""
    text = line_end.join(["a,b,c", *rows]) + (line_end if ends else "")
    content = (b"\xef\xbb\xbf" if marked else b"") + text.encode()
    division = divided(content, size, chunk)
    if division is None:
        return
    assert len(division.parts) > 1
    assert [record for part in division.parts for record in records(content, part)] == records(content)
    assert [part.begin for part in division.parts[1:]] == [part.end for part in division.parts[:-1]]
    assert division.parts[-1].end == len(content)


@pytest.mark.parametrize("size", range(1, 60))
def test_other_line_ends_that_come_late_are_counted(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file begins with CR alone, and has its first line feed only behind what is read at first."""
    content = b'a,b,c\r1,2,3\r4,5,6\r7,"x\ny",9\n\r\nlast,,\r\n10,11,12\r\n"a\r\nb",,\r13,14,15\n16,17,18\r19,20,21'
    for module in (csv_reading, division_module):
        monkeypatch.setattr(module, "PIECE", 17)
    division = divided(content, size, 5)
    assert division is not None
    assert division.parts[0].old_mac
    assert [record for part in division.parts for record in records(content, part)] == records(content)


QUOTED = 'a,b,c\r\n1,"x\r\ny, ""z""",3\r\n4,"é€\r\n\r\n",6\r\n"7","8",9\r\n'


@pytest.mark.parametrize("size", range(1, len(QUOTED.encode())))
def test_no_byte_of_a_quoted_record_is_a_border(size: int) -> None:
    """A part never begins within a record of several lines, in a line end of two bytes or in a character of several."""
    content = QUOTED.encode()
    starts = {content.index(record) for record in (b"1,", b"4,", b'"7"')}
    division = divided(content, size, 5)
    if division is None:
        assert size > len(content) // 2
        return
    assert {part.begin for part in division.parts} <= starts
    assert [record for part in division.parts for record in records(content, part)] == records(content)


def test_the_division_does_not_depend_on_how_the_bytes_arrive() -> None:
    """Whole or byte by byte: the same parts; a file of a few hundred records has many of them."""
    content = small_file(400).encode()
    parts = divided(content, TINY_PART, len(content))
    assert parts == divided(content, TINY_PART, 7)
    assert_tiny(parts)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"a,b,c\n", b"a,b,c\n1,2,3", b"PAR1" + b"x" * 99, gzip.compress(b"a,b\n1,2\n" * 9)],
    ids=["empty", "blank", "header", "one record", "parquet", "gzip"],
)
def test_a_file_of_one_part_or_another_kind_is_not_divided(content: bytes) -> None:
    assert divided(content, 20, 8) is None


def test_parquet_is_divided_at_its_row_groups(tmp_path: Path) -> None:
    """Each part continues the numbering of the rows."""
    pq.write_table(pa.table({"a": list(range(100))}), tmp_path / "rows.parquet", row_group_size=10)
    with (tmp_path / "rows.parquet").open("rb") as stream:
        assert divide_parquet(stream, 10**9) is None
        division = divide_parquet(stream, 1)
    assert division is not None
    assert [(part.begin, part.end, part.first) for part in division.parts] == [
        (n, n + 1, 10 * n + 1) for n in range(10)
    ]
    assert divide_parquet(io.BytesIO(b"no parquet"), 1) is None


def test_an_arriving_file_is_divided_while_it_is_hashed(storage: Storage) -> None:
    """The note is beside the original, is not replaced by another division, and survives another size."""
    with storage.writing("landing/a.csv") as stream:
        stream.write(small_file(100).encode())
    batch, _ = keep_original(storage, "landing/a.csv", TINY_PART)
    division = noted_division(storage, original(batch))
    assert_tiny(division)
    assert division == divide_stream(storage.chunks(original(batch)), TINY_PART)
    keep_original(storage, "landing/a.csv", 10 * TINY_PART)
    assert noted_division(storage, original(batch)) == division
    assert divided_original(storage, batch, 10**6).parts == division.parts  # type: ignore[union-attr]


def divided_original(storage: Storage, batch: str, size: int, scratch: Path = Path()) -> DividedFile:
    with storage.reading(original(batch)) as stream:
        file = open_file(stream)
        file.check(BANK_CHURN)
        return divide_original(storage, original(batch), file, scratch, size)


def test_a_note_that_was_changed_is_found_and_written_anew(storage: Storage) -> None:
    """A division that leaves rows out is never used."""
    with storage.writing("landing/a.csv") as stream:
        stream.write(small_file(100).encode())
    batch, _ = keep_original(storage, "landing/a.csv", TINY_PART)
    right = noted_division(storage, original(batch))
    assert find_note_fault(storage, original(batch)) is None
    with storage.reading(division_note(original(batch))) as stream:
        note = json.loads(stream.read())
    for wrong in (json.dumps(note | {"parts": note["parts"][:-1]}), "{", "[]", json.dumps({})):
        with storage.writing(division_note(original(batch))) as stream:
            stream.write(wrong.encode())
        assert "has been changed" in (find_note_fault(storage, original(batch)) or "")
        assert divided_original(storage, batch, TINY_PART).parts == right.parts  # type: ignore[union-attr]
        assert find_note_fault(storage, original(batch)) is None
    other = "0" * 64
    note_division(storage, original(other), right)
    storage.put(Path(storage.path(division_note(original(other)))), division_note(original(batch)))
    assert find_note_fault(storage, original(batch)) is not None


def test_a_compressed_file_is_unpacked_once_and_divided(tmp_path: Path) -> None:
    """Its rows are those of the file that is not compressed; a damaged one is a fault of the file."""
    text = small_file(60).encode()
    assert judge(gzip.compress(text)).good.equals(judge(text).good)
    copy = tmp_path / "copy"
    copy.write_bytes(gzip.compress(text)[:-20])
    with copy.open("rb") as stream, pytest.raises(FileFault, match="compressed file is damaged"):
        divide_copy(copy, open_file(stream), tmp_path, TINY_PART)
