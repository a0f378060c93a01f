"""A Parquet file is judged as the text that it would be in a CSV file."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn.contract import Column, Contract, Kind, Role
from churn.contracts.bank import BANK_CHURN
from churn.intake.batch_file import FileFault
from churn.intake.parquet_reading import ParquetBatch
from support.fuzzing.cases import KEPT

CONTRACT = Contract(
    "small",
    (
        Column("key", Kind.INTEGER, Role.KEY),
        Column("name", Kind.TEXT, Role.CARRIED),
        Column("left", Kind.INTEGER, Role.TARGET, 0, 1),
        Column("age", Kind.NUMBER, Role.FEATURE),
    ),
)


def opened(**columns: Any) -> ParquetBatch:
    table = {"key": [1, 2], "name": ["Ann", "Bob"], "left": [0, 1], "age": [42.0, None]} | columns
    stream = io.BytesIO()
    pq.write_table(pa.table(table), stream)
    stream.seek(0)
    return ParquetBatch(stream)


def test_cells_become_the_text_of_a_csv_file() -> None:
    """A whole number in a column of floats has no decimals; a missing cell is null; quotes are doubled."""
    batch = opened(name=['O"Hara, jr', "Bob"])
    batch.check(CONTRACT)
    (piece,) = batch.pieces(CONTRACT)
    assert piece.records.to_pydict() == {
        "_line": [1, 2],
        "_raw": ['1,"O""Hara, jr",0,42', "2,Bob,1,"],
        "_unreadable": [None, None],
        "key": ["1", "2"],
        "name": ['O"Hara, jr', "Bob"],
        "left": ["0", "1"],
        "age": ["42", None],
    }


@pytest.mark.parametrize(("name", "rule"), [("An\0n", "record.nul"), (b"\xff", "record.encoding")])
def test_an_unreadable_record_has_a_rule(name: str | bytes, rule: str) -> None:
    """The same rules as for a line of CSV."""
    batch = opened(name=[name, "Bob" if isinstance(name, str) else b"Bob"])
    batch.check(CONTRACT)
    (piece,) = batch.pieces(CONTRACT)
    assert piece.records["_unreadable"].to_pylist() == [rule, None]


def test_a_file_that_cannot_be_read_is_a_fault_of_the_file() -> None:
    """Nested columns, missing columns and damaged files each have a code."""
    for batch, code in [
        (opened(age=[[1], [2]]), "nested_column"),
        (ParquetBatch(io.BytesIO(b"PAR1 and nothing else PAR1")), "broken_parquet"),
    ]:
        with pytest.raises(FileFault) as fault:
            batch.check(CONTRACT)
        assert fault.value.code == code


def test_a_value_that_python_cannot_write_is_a_text_of_its_type() -> None:
    """A time in an unknown zone, or one before the year 1: in a column that is ignored, it does not stop the file."""
    times = pa.array([0, None], pa.timestamp("us", "No/Where"))
    (raw,) = opened(elsewhere=times).raw()
    assert raw["_raw"].to_pylist() == [
        '1,Ann,0,42,"a value of the type timestamp[us, tz=No/Where] that cannot be written"',
        "2,Bob,1,,",
    ]
    nested = pa.array([[-(2**62)], [1]], pa.list_(pa.timestamp("us")))
    (raw,) = opened(elsewhere=nested).raw()
    first, second = raw["_raw"].to_pylist()
    assert first == "1,Ann,0,42,a value of the type list<element: timestamp[us]> that cannot be written"
    assert second.startswith("2,Bob,1,,")


@pytest.mark.parametrize("once", [False, True])
def test_a_text_that_is_not_utf_8_is_quarantined(once: bool) -> None:
    """Writers of Parquet do not check the bytes of a column of texts. Its row is unreadable, like a line of CSV with such bytes."""
    texts = pa.array([b"A\xffn", b"Bob"], pa.binary()).view(pa.string())
    file = opened(name=pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), texts) if once else texts)
    file.check(CONTRACT)
    (piece,) = file.pieces(CONTRACT)
    assert piece.records["_unreadable"].to_pylist() == ["record.encoding", None]
    assert piece.records["_raw"].to_pylist() == [r"1,A\xffn,0,42", "2,Bob,1,"]
    assert piece.records["name"].to_pylist() == [r"A\xffn", "Bob"]


def test_a_name_of_a_column_that_is_not_utf_8_is_damage() -> None:
    stream = io.BytesIO()
    pq.write_table(pa.table({"zqkey": [1], "zqname": ["Ann"]}), stream, store_schema=False)
    for read in (ParquetBatch.names, lambda file: file.check(CONTRACT)):
        with pytest.raises(FileFault) as raised:
            read(ParquetBatch(io.BytesIO(stream.getvalue().replace(b"zqkey", b"zq\xffey"))))
        assert raised.value.code == "broken_parquet"


def test_rows_that_the_footer_counts_and_nobody_can_read_are_damage() -> None:
    """Found before any row is judged if the row groups do not add up, and otherwise when fewer rows could be read."""
    content = (KEPT / "parquet/fewer-rows-than-its-footer-says").read_bytes()
    with pytest.raises(FileFault, match="damaged or incomplete"):
        ParquetBatch(io.BytesIO(content)).check(BANK_CHURN)
    unchecked = ParquetBatch(io.BytesIO(content))
    unchecked.header = unchecked.names()
    with pytest.raises(FileFault, match="damaged or incomplete"):
        list(unchecked.pieces(BANK_CHURN))
