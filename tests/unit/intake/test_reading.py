"""Bytes become records; nothing is lost and nothing is guessed."""

from __future__ import annotations

import csv
import gzip
import io
import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn.contract import Column, Contract, Kind, Role
from churn.contracts.bank import BANK_CHURN
from churn.foundation import columnar
from churn.intake import csv_reading
from churn.intake.batch_file import FileFault
from churn.intake.csv_reading import split_lines
from churn.intake.reading import open_file
from support.basics import small_file
from support.coded_contract import CODED
from support.judged_files import judge

HEADER = ",".join(BANK_CHURN.names)
GOOD = "1,15634602,Hargrave,619,France,Female,42,2,0,1,1,1,101348.88,1"


def changed(**cells: str) -> str:
    return ",".join(cells.get(name, cell) for name, cell in zip(BANK_CHURN.names, GOOD.split(","), strict=True))


def file(*lines: str | bytes) -> bytes:
    return b"\n".join(line if isinstance(line, bytes) else line.encode() for line in (HEADER, *lines)) + b"\n"


CASES: list[tuple[str | bytes, list[str]]] = [
    (GOOD, []),
    (changed(CreditScore="619.0"), []),
    (changed(Balance="1.2e5"), []),
    (changed(Balance="-0.0"), []),
    (changed(Surname='"O\'Hara, jr"'), []),
    (changed(Surname="Grüninger"), []),
    (changed(Age=""), ["Age.missing"]),
    (changed(Age='""'), ["Age.missing"]),
    (changed(Age="old"), ["Age.type"]),
    (changed(Age="41.5"), ["Age.type"]),
    (changed(Age="040"), ["Age.type"]),
    (changed(Age="+40"), ["Age.type"]),
    (changed(Age=" 40"), ["Age.type"]),
    (changed(Age="4e1"), ["Age.type"]),
    (changed(Age="0x28"), ["Age.type"]),
    (changed(Age="1_0"), ["Age.type"]),
    (changed(Age="17"), ["Age.range"]),
    (changed(Age="99999999999999999999"), ["Age.type"]),
    (changed(Balance="NaN"), ["Balance.type"]),
    (changed(Balance="inf"), ["Balance.type"]),
    (changed(Balance="1e999"), ["Balance.type"]),
    (changed(Balance="1.000,50").replace("1.000,50", '"1.000,50"'), ["Balance.type"]),
    (changed(Balance='"1,000.50"'), ["Balance.type"]),
    (changed(Balance="€100"), ["Balance.type"]),
    (changed(Geography="Atlantis"), ["Geography.category"]),
    (changed(Gender="female"), ["Gender.category"]),
    (changed(Gender=" Female"), ["Gender.category"]),
    (changed(Gender="Male "), ["Gender.category"]),
    (changed(Exited="2"), ["Exited.range"]),
    (changed(Exited=""), ["unlabelled"]),
    (changed(Exited="", Age="x"), ["Age.type", "unlabelled"]),
    (changed(Tenure="20", Age="19"), ["Tenure.above_Age"]),
    ("1,2,3", ["record.field_count"]),
    (GOOD + ",more", ["record.field_count"]),
    (changed(Surname='"Har'), ["record.quotes"]),
    (changed(Surname='Har"grave"'), []),
    (GOOD.encode().replace(b"Hargrave", b"M\xfcller"), ["record.encoding"]),
    (GOOD.encode().replace(b"Hargrave", b"a\0b"), ["record.nul"]),
    (GOOD.encode().replace(b"Hargrave", b"a\rb"), ["record.line_break"]),
]


@pytest.mark.parametrize(("line", "rules"), CASES)
def test_a_row_breaks_exactly_these_rules(line: str | bytes, rules: list[str]) -> None:
    """A faulty cell or record is set aside with its reason; a good one is not."""
    judged = judge(file(line))
    assert [row["_failed"] for row in judged.quarantined] == ([rules] if rules else [])
    assert judged.good.num_rows == (not rules)


def test_every_reason_is_found_among_all_the_others() -> None:
    """All the cases in one file, each as a customer of its own: the same reasons, line by line."""
    lines, expected = [], {}
    for number, (line, rules) in enumerate(CASES, start=2):
        text = line if isinstance(line, bytes) else line.encode()
        lines.append(text.replace(b"15634602", str(number).encode()))
        if rules:
            expected[number] = rules
    judged = judge(file(*lines))
    assert {row["_line"]: row["_failed"] for row in judged.quarantined} == expected
    assert judged.good["_line"].to_pylist() == [n for n in range(2, len(CASES) + 2) if n not in expected]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (HEADER.encode(), "no_rows"),
        (f"{HEADER}\n{GOOD}".replace(",", ";").encode(), "delimiter"),
        (f"{HEADER}\n{GOOD}".replace("Age", "Years").encode(), "missing_column"),
        (f"{HEADER},Age\n{GOOD},3".encode(), "repeated_column"),
        (gzip.compress(file(*[GOOD] * 500))[:120], "broken_gzip"),
        (b"\x1f\x8bnonsense", "broken_gzip"),
        (b"PAR1nonsense", "broken_parquet"),
    ],
)
def test_a_file_that_cannot_be_taken_says_why(data: bytes, code: str) -> None:
    """A fault of the whole file has a code and a next step, and no cell of it is repeated."""
    with pytest.raises(FileFault) as fault:
        judge(data)
    assert fault.value.code == code
    assert re.search(r"\b(Export|Ask|Send|send)\b", fault.value.sentence)  # the next step
    assert "Hargrave" not in fault.value.sentence


def test_a_line_without_end_is_no_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is one endless line is refused before it fills the memory."""
    monkeypatch.setattr(csv_reading, "LONGEST_LINE", 1000)
    monkeypatch.setattr(csv_reading, "PIECE", 1000)
    with pytest.raises(FileFault, match="longer than"):
        judge(b"x" * 5000)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_column_order_bom_and_line_ends_are_free(end: str, zipped: bool) -> None:
    """Columns in another order, a byte order mark, any line end, gzip and further columns change nothing."""
    header = ",".join(["Note", *reversed(BANK_CHURN.names)])
    line = ",".join(["hello", *reversed(GOOD.split(","))])
    data = f"\ufeff{header}{end}{line}{end}".encode()
    data = gzip.compress(data) if zipped else data
    opened = open_file(io.BytesIO(data))
    opened.check(BANK_CHURN)
    assert opened.header[0] == "Note"
    (row,) = judge(data).good.select(list(BANK_CHURN.names)).to_pylist()
    assert row == judge(file(GOOD)).good.select(list(BANK_CHURN.names)).to_pylist()[0]
    assert (row["Age"], row["EstimatedSalary"], row["Surname"]) == (42, 101348.88, "Hargrave")


def test_line_numbers_and_raw_text_are_kept() -> None:
    """Every record knows its line in the file, blank lines counted, and its text to the letter."""
    judged = judge(f'{HEADER}\n\n{GOOD}\n  \nbroken, "line\n'.encode())
    assert judged.good["_line"].to_pylist() == [3]
    assert [(row["_line"], row["_raw"]) for row in judged.quarantined] == [(5, 'broken, "line')]
    assert judged.counts.arrived == 2


def test_lines_are_numbered_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file read in many pieces gives the same rows and lines as one read at once."""
    text = small_file(faults=9)
    whole = judge(text)
    monkeypatch.setattr(csv_reading, "PIECE", 777)
    pieces = judge(text)
    assert pieces.good.equals(whole.good)
    assert pieces.quarantined == whole.quarantined
    assert len(whole.quarantined) == 9


def test_a_parquet_file_is_judged_like_its_text() -> None:
    """Typed columns are as good as text; absent values, and what no cell should be, are set aside with the row's number."""
    frame = pd.read_csv(io.StringIO(small_file()))
    frame["Age"] = frame["Age"].astype(float)
    frame.loc[3, "Age"] = None
    frame.loc[5, "HasCrCard"] = 7
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    judged = judge(buffer.getvalue())
    assert {row["_line"]: row["_failed"] for row in judged.quarantined} == {4: ["Age.missing"], 6: ["HasCrCard.range"]}
    text = judge(small_file()).good.to_pylist()
    kept = [row for number, row in enumerate(text, start=1) if number not in (4, 6)]
    assert [{**row, "_line": 0} for row in judged.good.to_pylist()] == [{**row, "_line": 0} for row in kept]


def parquet(**changes: object) -> bytes:
    """A clean file as Parquet, with columns replaced or added."""
    frame = pd.read_csv(io.StringIO(small_file(30)))
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for name, values in changes.items():
        column = pa.array(values)  # type: ignore[call-overload]
        at = table.column_names.index(name) if name in table.column_names else None
        table = table.append_column(name, column) if at is None else table.set_column(at, name, column)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def test_what_other_columns_of_a_parquet_file_hold_makes_no_difference() -> None:
    """Bytes, lists, and two columns of one name, none of them the contract's, are ignored."""
    bytes_and_lists = parquet(Note=[b"\xff\xfe"] * 30, Tags=[["a", "b"]] * 30)
    assert judge(bytes_and_lists).good.num_rows == 30
    table = pq.read_table(io.BytesIO(parquet()))
    buffer = io.BytesIO()
    pq.write_table(pa.table([*table.columns, table["Age"], table["Age"]], [*table.column_names, "Foo", "Foo"]), buffer)
    assert judge(buffer.getvalue()).good.num_rows == 30


def test_a_column_that_stands_twice_in_a_parquet_file_is_refused_with_its_rows() -> None:
    """The fault is named, and every row is there to be set aside."""
    table = pq.read_table(io.BytesIO(parquet()))
    buffer = io.BytesIO()
    pq.write_table(pa.table([*table.columns, table["Age"]], [*table.column_names, "Age"]), buffer)
    opened = open_file(buffer)
    with pytest.raises(FileFault, match="Age appears twice"):
        opened.check(BANK_CHURN)
    assert sum(rows.num_rows for rows in opened.raw()) == 30


def test_bytes_in_a_parquet_text_are_judged_row_by_row() -> None:
    """One name in Latin-1 and one with a NUL are two records that cannot be read; the others are accepted."""
    judged = judge(parquet(Surname=[b"M\xfcller", b"a\0b", *[b"Keller"] * 28]))
    assert [(row["_line"], row["_failed"]) for row in judged.quarantined] == [
        (1, ["record.encoding"]),
        (2, ["record.nul"]),
    ]
    assert set(judged.good["Surname"].to_pylist()) == {"Keller"}


def test_whole_numbers_in_a_float_column_are_whole() -> None:
    """An absent value makes a column of floats; large keys in it are still keys, and fractions are none."""
    keys = [12_345_678_901.0 + at for at in range(28)]
    judged = judge(parquet(CustomerId=[*keys, None, 1.5]))
    assert judged.good["CustomerId"].to_pylist() == [int(key) for key in keys]
    assert [row["_failed"] for row in judged.quarantined] == [["CustomerId.missing"], ["CustomerId.type"]]


def test_the_text_of_a_parquet_row_can_be_split_again() -> None:
    """Commas, quotes and line breaks within a cell stay within it."""
    names = ["Doe, Jr", 'the "old" one', "two\nlines", *["Keller"] * 27]
    judged = judge(parquet(Surname=names, Age=[7] * 30))
    cells = [next(csv.reader(io.StringIO(row["_raw"], newline=""))) for row in judged.quarantined]
    assert [row[BANK_CHURN.names.index("Surname")] for row in cells] == names
    assert {len(row) for row in cells} == {len(BANK_CHURN.names)}


def test_a_long_quoted_cell_is_a_cell() -> None:
    """However long, a quote that closes on its line is no broken one."""
    assert judge(file(changed(Surname=f'"{"x" * 200_000}"'))).quarantined == []


@pytest.mark.parametrize("piece", [12 << 20, 97])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_quoted_line_break_is_part_of_a_text(piece: int, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of several lines is valid (RFC 4180), has the number of its first line, and leaves the others alone."""
    monkeypatch.setattr(csv_reading, "PIECE", piece)
    rows = [
        changed(CustomerId="2", Surname='"two\nlines"'),
        changed(CustomerId="3"),
        changed(CustomerId="4", Surname='"a\n\n""b"", c\nd"'),
        changed(CustomerId="5", Surname='"never closed'),
        changed(CustomerId="6", Age="x", Surname='"e\nf"'),
        *(changed(CustomerId=str(key)) for key in range(7, 12)),
    ]
    judged = judge(file(*rows).replace(b"\n", end.encode()))
    assert judged.good["_line"].to_pylist() == [2, 4, 5, *range(12, 17)]
    assert judged.good["Surname"].to_pylist()[:3] == ["two\nlines", "Hargrave", 'a\n\n"b", c\nd']
    assert [(row["_line"], row["_failed"]) for row in judged.quarantined] == [
        (9, ["record.quotes"]),
        (10, ["Age.type"]),
    ]
    assert judged.quarantined[1]["_raw"] == changed(CustomerId="6", Age="x", Surname='"e\nf"')
    assert judged.counts.arrived == 10


def test_a_carriage_return_is_allowed_only_in_quotes() -> None:
    """Within a quoted text it is a character; elsewhere it may be a broken line end."""
    assert judge(file(changed(Surname='"a\rb"'))).good["Surname"].to_pylist() == ["a\rb"]
    assert judge(file(changed(Surname='"a"', Geography="b\rc"))).quarantined[0]["_failed"] == ["record.line_break"]


def test_a_damaged_parquet_file_is_refused() -> None:
    """Wherever the damage is, it is a fault of the file and no crash; or it is a value that the rules find."""
    buffer = io.BytesIO()
    pd.read_csv(io.StringIO(small_file())).to_parquet(buffer)
    good = buffer.getvalue()
    refused = 0
    for place in range(10, len(good) - 10, len(good) // 40):
        damaged = bytearray(good)
        damaged[place : place + 8] = b"\xff" * 8
        try:
            judged = judge(bytes(damaged))
        except FileFault as fault:
            assert fault.code in ("broken_parquet", "missing_column", "not_csv")  # noqa: PT017 -- one of several ends
            refused += 1
        else:
            assert judged.counts.arrived == judged.good.num_rows + len(judged.quarantined)
    assert refused > 5


def test_a_nested_column_is_refused() -> None:
    """A list is no cell."""
    frame = pd.read_csv(io.StringIO(small_file(30)))
    frame["Surname"] = [["a", "b"]] * 30
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    with pytest.raises(FileFault, match="nested"):
        judge(buffer.getvalue())


def test_a_clean_file_breaks_nothing() -> None:
    """Every row of a clean file is good."""
    judged = judge(small_file())
    assert (judged.good.num_rows, judged.quarantined) == (400, [])


def tolerant(**changes: object) -> Contract:
    columns = tuple(
        replace(column, **changes) if column.name == "Gender" else column  # type: ignore[arg-type]
        for column in BANK_CHURN.columns
    )
    return replace(BANK_CHURN, columns=columns)


@pytest.mark.parametrize(
    ("contract", "cell", "taken"),
    [
        (tolerant(trim=True), " Male ", "Male"),
        (tolerant(trim=True), " male ", None),
        (tolerant(ignore_case=True), "MALE", "Male"),
        (tolerant(ignore_case=True, trim=True), "  fEmale", "Female"),
        (tolerant(trim=True), "   ", None),
    ],
)
def test_normalisation_is_a_line_in_the_contract(contract: Contract, cell: str, taken: str | None) -> None:
    """Blanks and case are forgiven only where the owner of the data says so."""
    assert judge(file(changed(Gender=cell)), contract).good["Gender"].to_pylist() == ([taken] if taken else [])


def test_blanks_around_a_free_text_are_dropped_where_the_contract_says_so() -> None:
    """A text without categories is trimmed too, at a glance or not."""
    columns = tuple(replace(column, trim=column.name == "Surname") for column in BANK_CHURN.columns)
    trimmed = replace(BANK_CHURN, columns=columns)
    assert judge(file(changed(Surname=" Hargrave ")), trimmed).good["Surname"].to_pylist() == ["Hargrave"]
    assert judge(file(changed(Surname=" Hargrave "))).good["Surname"].to_pylist() == [" Hargrave "]
    assert [row["_failed"] for row in judge(file(changed(Surname="  ")), trimmed).quarantined] == [["Surname.missing"]]


NUMBERS = [
    "0",
    "1",
    "2",
    "42",
    "42.0",
    "042",
    "+1",
    "-1",
    "1e2",
    "1e0",
    "1.5",
    "NaN",
    "300",
    "850",
    "1e7",
    "0.1",
    ".5",
    "5.",
    "9999999999999999999",
]
TEXTS = ["", " 7", "7 ", "france", "Zoë", "x", "."]
CELLS = {name: st.sampled_from([*NUMBERS, *TEXTS, *BANK_CHURN[name].categories]) for name in BANK_CHURN.names}
LINES = st.lists(st.sampled_from(BANK_CHURN.names), max_size=3).flatmap(
    lambda names: st.fixed_dictionaries({name: CELLS[name] for name in names}).map(lambda cells: changed(**cells))
)
"""A good line in which up to three cells are something else."""


@settings(max_examples=60)
@given(st.lists(LINES, min_size=1, max_size=20))
def test_the_fast_way_and_the_careful_way_agree(rows: list[str]) -> None:
    """What is accepted at a glance is accepted cell by cell too, with the same values; the rest is left to that."""
    plain, careful = both_ways(rows, BANK_CHURN)
    assert plain == careful


CODED_CELLS = ["Yes", "No", "yes", " Yes", "1", "0", "1.0", "often", "Bern", *TEXTS]
CODED_LINES = st.tuples(*[st.sampled_from(CODED_CELLS) for _ in CODED.names]).map(",".join)


@settings(max_examples=60)
@given(st.lists(CODED_LINES, min_size=1, max_size=20))
def test_both_ways_agree_on_texts_that_stand_for_numbers(rows: list[str]) -> None:
    """The same for a contract with texts for numbers and with texts of any value."""
    plain, careful = both_ways(rows, CODED)
    assert plain == careful


def both_ways(rows: list[str], contract: Contract) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines that are accepted at a glance, as they are read, and the same lines as they are read cell by cell."""
    lines = [(number, line.encode()) for number, line in enumerate(rows, start=1)]
    texts = pa.table({"_line": [n for n, _ in lines], "_text": [line.decode() + "," for _, line in lines]})
    with columnar.engine("500MB") as connection:
        fast = columnar.prepare_plain_lines(connection, contract, contract.names).type(texts)
        careful = columnar.prepare_row_rules(connection, contract).apply(split_lines(lines, contract.names, contract))
    by_line = {row["_line"]: row for row in careful.to_pylist()}
    plain, names = fast.to_pylist(), fast.column_names
    return (
        [{**row, "_failed": []} for row in plain],
        [{name: by_line[row["_line"]][name] for name in [*names, "_failed"]} for row in plain],
    )


JUNK = st.one_of(
    st.binary(max_size=80).map(lambda junk: junk.replace(b"\n", b"").rstrip(b"\r")),
    st.text(max_size=40).map(lambda text: text.replace("\n", "").rstrip("\r").encode(errors="ignore")),
    st.sampled_from([changed(Age="x"), changed(Surname='"'), GOOD + ",", changed(Exited=""), '"' + GOOD + '"']).map(
        str.encode
    ),
)
ROWS = st.integers(1, 60).map(lambda customer: changed(CustomerId=str(customer), Age=str(18 + customer)).encode())


@settings(max_examples=50)
@given(st.lists(st.one_of(JUNK, ROWS), min_size=1, max_size=40), st.sampled_from([b"\n", b"\r\n"]))
def test_no_mixture_of_rows_and_junk_loses_a_row(lines: list[bytes], end: bytes) -> None:
    """arrived = accepted + set aside; nothing is raised but a typed fault; what is accepted is clean when judged again."""
    try:
        judged = judge(HEADER.encode() + end + end.join(lines) + end)
    except FileFault as fault:
        assert fault.code == "no_rows"  # noqa: PT017 -- the one fault that junk behind a good header can be
        return
    records = [line for line in lines if line.strip()]
    assert judged.counts.arrived == len(records) == judged.good.num_rows + len(judged.quarantined)
    assert len(set(judged.good["CustomerId"].to_pylist())) == judged.good.num_rows
    for row in judged.quarantined:
        assert row["_failed"]
        assert row["_raw"] == lines[row["_line"] - 2].decode(errors="backslashreplace")
    if judged.good.num_rows:
        again = judge(judged.good.select(list(BANK_CHURN.names)).to_pandas().to_csv(index=False))
        assert (again.good.num_rows, again.quarantined) == (judged.good.num_rows, [])


def test_a_column_that_the_contract_adds_is_judged() -> None:
    """A date column is read as a date, and only a date."""
    dated = replace(BANK_CHURN, columns=(*BANK_CHURN.columns, Column("AsOf", Kind.DATE, Role.AS_OF)))
    text = "\n".join(
        [
            f"{HEADER},AsOf",
            *(
                f"{changed(CustomerId=str(n))},{day}"
                for n, day in enumerate(["2026-01-31", "2026-02-30", "31.1.2026", "2026-1-5", ""])
            ),
        ]
    )
    judged = judge(text.replace("\n1,0,", "\n1,99,"), dated)
    assert [str(day) for day in judged.good["AsOf"].to_pylist()] == ["2026-01-31"]
    assert [row["_failed"] for row in judged.quarantined] == [["AsOf.type"]] * 3 + [["AsOf.missing"]]


CODED_FILE = """customerID,Paperless,Support,City,Note,Sex,Charges,Churn
a,Yes,often,Bern,,f,1,No
b,no,,Zürich,any text,m,2.5,Yes
c,1,5,"Biel, am See",,f,3,1
d,maybe,never,Bern,,f,4,Yes
e,Yes,Often,Bern,,f,4,Yes
f,Yes,,,,f,4,Yes
g,Yes,,Bern,,x,4,Yes
h,Yes,,Bern,,f,4,yes
i,Yes,,Bern,,f,4,
"""
CODED_RULES = {
    5: ["Paperless.category"],
    6: ["Support.category"],
    7: ["City.missing"],
    8: ["Sex.category"],
    9: ["Churn.category"],
    10: ["unlabelled"],
}


def test_texts_are_kept_as_the_numbers_that_they_stand_for() -> None:
    """Accepted rows have numbers; the raw row in quarantine has what the file had."""
    judged = judge(CODED_FILE, CODED)
    assert judged.good.select(["Paperless", "Support", "Churn"]).to_pydict() == {
        "Paperless": [1, 0, 1],
        "Support": [5, None, 5],
        "Churn": [0, 1, 1],
    }
    assert judged.good["City"].to_pylist() == ["Bern", "Zürich", "Biel, am See"]
    assert {row["_line"]: row["_failed"] for row in judged.quarantined} == CODED_RULES
    assert judged.quarantined[0]["_raw"] == "d,maybe,never,Bern,,f,4,Yes"
    assert (judged.counts.events, judged.counts.unlabelled) == (2, 1)


@pytest.mark.parametrize("as_type", ["str", "category", "number"])
def test_a_parquet_file_has_texts_or_numbers(as_type: str) -> None:
    """Texts, dictionaries and numbers give the same rows as a CSV file."""
    frame = pd.read_csv(io.StringIO(CODED_FILE), keep_default_na=False, na_values=[""])[:2]
    for column in (column for column in CODED.columns if column.values):
        texts = frame[column.name]
        if as_type == "number":
            lower = {text.lower(): number for text, number in column.numbers.items()}
            frame[column.name] = texts.str.lower().map(lower)
        else:
            frame[column.name] = texts.astype(as_type)
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    of_csv = judge("\n".join(CODED_FILE.splitlines()[:3]), CODED)
    assert judge(buffer.getvalue(), CODED).good.select(list(CODED.names)) == of_csv.good.select(list(CODED.names))


def test_numbers_that_stand_for_others_are_read_as_texts_only() -> None:
    """With 1 for no and 2 for yes, a 0 is neither."""
    target = Column("Exited", Kind.INTEGER, Role.TARGET, values={"1": 0, "2": 1})
    contract = replace(BANK_CHURN, columns=(*BANK_CHURN.columns[:-1], target))
    text = file(*[changed(CustomerId=str(at), Exited=cell) for at, cell in enumerate("120", start=1)])
    judged = judge(text, contract)
    assert judged.good["Exited"].to_pylist() == [0, 1]
    assert [row["_failed"] for row in judged.quarantined] == [["Exited.category"]]
