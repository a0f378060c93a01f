"""Bytes become records; nothing is lost and nothing is guessed."""

import pytest

from churn.contract import BANK_CHURN
from churn.foundation import columnar
from churn.intake.reading import read_records
from support import small_file

HEADER = ",".join(BANK_CHURN.names)
GOOD = "1,15634602,Hargrave,619,France,Female,42,2,0,1,1,1,101348.88,1"


def rules_of(line: str | bytes) -> list[str]:
    """The rules that one line breaks."""
    data = HEADER.encode() + b"\n" + (line if isinstance(line, bytes) else line.encode()) + b"\n"
    with columnar.engine("500MB") as connection:
        judged = columnar.apply_row_rules(connection, read_records(data, BANK_CHURN).records, BANK_CHURN)
    return judged["_failed"].to_pylist()[0]


def changed(**cells: str) -> str:
    return ",".join(cells.get(name, cell) for name, cell in zip(BANK_CHURN.names, GOOD.split(","), strict=True))


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        (GOOD, []),
        (changed(CreditScore="619.0"), []),
        (changed(Balance="1.2e5"), []),
        (changed(Surname='"O\'Hara, jr"'), []),
        (changed(Age=""), ["Age.missing"]),
        (changed(Age="old"), ["Age.type"]),
        (changed(Age="41.5"), ["Age.type"]),
        (changed(Age="040"), ["Age.type"]),
        (changed(Age="+40"), ["Age.type"]),
        (changed(Age="17"), ["Age.range"]),
        (changed(Age="99999999999999999999"), ["Age.type"]),
        (changed(Balance="NaN"), ["Balance.type"]),
        (changed(Balance="inf"), ["Balance.type"]),
        (changed(Balance="1e999"), ["Balance.type"]),
        (changed(Balance='"1,000.50"'), ["Balance.type"]),
        (changed(Geography="Atlantis"), ["Geography.category"]),
        (changed(Gender="female"), ["Gender.category"]),
        (changed(Gender=" Female"), ["Gender.category"]),
        (changed(Exited="2"), ["Exited.range"]),
        (changed(Exited="", Age="x"), ["Age.type", "Exited.missing"]),
        ("1,2,3", ["record.field_count"]),
        (GOOD + ",more", ["record.field_count"]),
        (changed(Surname='"Har'), ["record.quotes"]),
        (GOOD.encode().replace(b"Hargrave", b"M\xfcller"), ["record.encoding"]),
        (GOOD.encode().replace(b"Hargrave", b"a\0b"), ["record.nul"]),
    ],
)
def test_a_row_breaks_exactly_these_rules(line: str | bytes, rules: list[str]) -> None:
    """A faulty cell or record is set aside with its reason; a good one is not."""
    assert rules_of(line) == rules


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (HEADER.encode(), "no_rows"),
        (b"\x89PNG\r\n\x1a\n\0\0\xff", "not_csv"),
        (f"{HEADER}\n{GOOD}".replace(",", ";").encode(), "delimiter"),
        (f"{HEADER}\n{GOOD}".replace("Age", "Years").encode(), "missing_column"),
        (f"{HEADER},Age\n{GOOD},3".encode(), "repeated_column"),
        (f"{HEADER}\n{GOOD}".encode("utf-16"), "not_csv"),
    ],
)
def test_a_file_that_cannot_be_taken_says_why(data: bytes, code: str) -> None:
    """A fault of the whole file has a code and a next step, and no cell of it is repeated."""
    reading = read_records(data, BANK_CHURN)
    assert reading.fault is not None
    assert reading.fault.code == code
    assert "again" in reading.fault.sentence
    assert "Hargrave" not in reading.fault.sentence


def test_column_order_bom_and_line_ends_are_free() -> None:
    """Columns in another order, a byte order mark, CRLF and further columns change nothing."""
    header = ",".join(["Note", *reversed(BANK_CHURN.names)])
    line = ",".join(["hello", *reversed(GOOD.split(","))])
    reading = read_records(f"\ufeff{header}\r\n{line}\r\n".encode(), BANK_CHURN)
    assert reading.extra_columns == ("Note",)
    assert reading.records.select(list(BANK_CHURN.names)).to_pylist() == [
        dict(zip(BANK_CHURN.names, GOOD.split(","), strict=True))
    ]


def test_line_numbers_and_raw_text_are_kept() -> None:
    """Every record knows its line in the file, blank lines counted, and its text to the letter."""
    records = read_records(f"{HEADER}\n\n{GOOD}\nbroken\n".encode(), BANK_CHURN).records
    assert records["_line"].to_pylist() == [3, 4]
    assert records["_raw"].to_pylist() == [GOOD, "broken"]


def test_a_clean_file_breaks_nothing() -> None:
    """Every row of a clean file is good."""
    with columnar.engine("500MB") as connection:
        judged = columnar.apply_row_rules(
            connection, read_records(small_file().encode(), BANK_CHURN).records, BANK_CHURN
        )
    assert judged.num_rows == 400
    assert not any(judged["_failed"].to_pylist())
