"""What is wrong with the first lines of a file is said once, completely, and without a value of a row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from churn.contract import Contract, Role
from churn.contracts.bank import BANK_CHURN
from churn.intake.batch_file import FileFault
from churn.intake.header import extra_columns, require_columns
from support.basics import small_file
from support.judged_files import judge

TEXT = small_file(30)
HEADER, *ROWS = TEXT.splitlines()
REQUIRED = [column.name for column in BANK_CHURN.columns if not column.may_be_absent]
LENIENT = replace(BANK_CHURN, lenient_header=True)


def fault(data: bytes | str, contract: Contract = BANK_CHURN) -> FileFault:
    """The fault of a file that cannot be read."""
    with pytest.raises(FileFault) as raised:
        judge(data, contract)
    values = {cell for row in ROWS for cell in row.split(",") if len(cell) > 3}
    assert not [value for value in values if value in raised.value.sentence]
    return raised.value


def with_header(*names: str) -> str:
    return "\n".join([",".join(names), *ROWS])


def renamed(**names: str) -> str:
    return with_header(*(names.get(name, name) for name in BANK_CHURN.names))


def test_only_the_missing_column_is_named() -> None:
    """A header that lacks one column is told about that one, and not about the thirteen others."""
    sentence = fault(renamed(Balance="Money")).sentence
    assert "Column is missing: Balance." in sentence
    assert "Tenure" not in sentence
    assert "CHURN_CONTRACT" not in sentence


@pytest.mark.parametrize(
    "header", [HEADER.lower(), HEADER.upper(), HEADER.replace(",", " ,"), HEADER.replace(",", ", ")]
)
def test_names_that_differ_only_in_case_or_blanks_are_said_so_or_accepted(header: str) -> None:
    """The contract can accept them; otherwise the error says how."""
    text = "\n".join([header, *ROWS])
    sentence = fault(text).sentence
    assert "only in case or blanks" in sentence
    assert "missing" not in sentence
    assert "lenient_header=True" in sentence
    judged = judge(text, LENIENT)
    assert judged.good.equals(judge(TEXT, LENIENT).good)


def test_two_columns_that_a_lenient_header_takes_for_one_are_refused() -> None:
    """`Age` and `age` cannot both be the column Age."""
    assert fault(with_header(*BANK_CHURN.names[:-1], "Exited", "age"), LENIENT).code == "repeated_column"


def test_another_spelling_is_suggested() -> None:
    """Underscores, blanks and a missing letter are other spellings."""
    sentence = fault(renamed(CustomerId="customer_id", CreditScore="Credit Score", Geography="Geografy")).sentence
    for pair in ("customer_id may be CustomerId", "Credit Score may be CreditScore", "Geografy may be Geography"):
        assert pair in sentence


def test_a_file_of_another_contract_is_told_where_contracts_are_named() -> None:
    """If nearly nothing matches, the header is probably right and the contract is not."""
    sentence = fault("customerID,gender,SeniorCitizen,tenure,Churn\n7590-VHVEG,Female,0,1,No\n").sentence
    assert "CHURN_CONTRACT" in sentence
    assert "bank_churn" in sentence


def test_unnamed_columns_are_counted() -> None:
    """An index that pandas wrote has no name to show."""
    assert extra_columns(["", "Unnamed: 3", "Note", "Age"], BANK_CHURN) == ["Note", "2 unnamed columns"]
    with pytest.raises(FileFault, match="2 unnamed columns"):
        require_columns(["", "Unnamed: 0", *[name for name in REQUIRED if name != "Age"]], BANK_CHURN)


@pytest.mark.parametrize(("mark", "words"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_delimiter_decimal_comma_and_encoding_are_reported_together(mark: str, words: str) -> None:
    """One answer for a file that a German Excel wrote, instead of three rounds."""
    assert words in fault(TEXT.replace(",", mark)).sentence
    rows = [row.replace(",", mark).replace(".", ",") for row in ROWS]
    german = "\n".join([HEADER.replace(",", mark), *rows, "Müller"]).encode("cp1252")
    complete = fault(german)
    assert complete.code == "delimiter"
    for part in (words, "decimal comma", "not in UTF-8", "CSV UTF-8"):
        assert part in complete.sentence


def test_a_decimal_comma_is_not_claimed_without_one() -> None:
    """Points in numbers are no fault of a file with semicolons."""
    assert "decimal comma" not in fault(TEXT.replace(",", ";")).sentence


@pytest.mark.parametrize("hint", ['"sep=,"\r\n', "sep=,\n", "SEP=;\n"])
def test_the_hint_for_excel_is_named(hint: str) -> None:
    """`sep=` is not a header, and the line to delete is the first."""
    separated = fault(hint + TEXT)
    assert separated.code == "separator_line"
    assert "sep=" in separated.sentence


@pytest.mark.parametrize("above", ["Customers of March\n", "Report,2026\n\nExported by the warehouse\n"])
def test_lines_above_the_header_are_counted(above: str) -> None:
    """The header is found below a title, and the sentence says how many lines to delete."""
    titled = fault(above + TEXT)
    assert titled.code == "title_line"
    assert ("2 lines" if "\n\n" in above else "a line") in titled.sentence


def test_a_missing_header_is_recognised_and_no_value_is_shown() -> None:
    """The first line looks like a row; the error names the header to add."""
    headerless = fault("\n".join(ROWS))
    assert headerless.code == "no_header"
    assert ",".join(BANK_CHURN.names[:2]).replace(",", ", ") in headerless.sentence
    assert fault("\n".join(",".join(row.split(",")[:8]) for row in ROWS)).code in ("no_header", "missing_column")


def test_a_header_in_another_encoding_is_named() -> None:
    """A name with an umlaut in Latin-1 is a fault of the encoding."""
    assert fault((HEADER + ",Größe\n" + ROWS[0] + ",1\n").encode("latin-1")).code == "encoding"


def test_columns_that_mean_nothing_may_be_absent() -> None:
    """Without RowNumber and Surname a file is accepted; an `id` in their place is ignored."""
    absent = [BANK_CHURN.names.index(name) for name in ("RowNumber", "Surname")]
    lines = [
        ",".join(cell for at, cell in enumerate(line.split(",")) if at not in absent) for line in TEXT.splitlines()
    ]
    judged = judge("\n".join(["id," + lines[0], *(f"{at},{line}" for at, line in enumerate(lines[1:]))]))
    assert judged.quarantined == []
    assert judged.good["RowNumber"].null_count == judged.good["Surname"].null_count == 30
    assert judged.good["Age"].equals(judge(TEXT).good["Age"])


def test_a_cell_that_is_missing_in_a_column_of_the_file_is_still_a_fault() -> None:
    """A column may be absent as a whole, which is a decision; a hole in it is a fault of the export."""
    row = ROWS[0].split(",")
    row[0] = ""
    assert judge("\n".join([HEADER, ",".join(row)])).quarantined[0]["_failed"] == ["RowNumber.missing"]


def test_a_nullable_feature_is_optional_only_if_the_contract_says_so() -> None:
    """Its absence makes it missing in every row."""
    nullable = tuple(replace(column, nullable=column.name == "Balance") for column in BANK_CHURN.columns)
    without = "\n".join(
        ",".join(cell for at, cell in enumerate(line.split(",")) if at != BANK_CHURN.names.index("Balance"))
        for line in TEXT.splitlines()
    )
    assert "Balance" in fault(without, replace(BANK_CHURN, columns=nullable)).sentence
    optional = tuple(replace(column, optional=column.name == "Balance" or None) for column in nullable)
    judged = judge(without, replace(BANK_CHURN, columns=optional))
    assert (judged.good["Balance"].null_count, judged.quarantined) == (30, [])


@pytest.mark.parametrize("role", [Role.KEY, Role.TARGET, Role.FEATURE])
def test_a_column_that_the_model_needs_is_never_optional(role: Role) -> None:
    """The contract refuses it."""
    column = next(column for column in BANK_CHURN.columns if column.role is role)
    with pytest.raises(ValueError, match=f"Column {column.name}: a {role} can be optional only"):
        replace(column, optional=True)


@pytest.mark.parametrize(
    ("written", "repeated"),
    [("Age\u20281", "Age\\u20281"), ("Age" + "_" * 100, "Age" + "_" * 77 + "... (103 characters)")],
)
def test_a_name_of_the_header_is_repeated_so_that_it_can_be_shown(written: str, repeated: str) -> None:
    """On one line, without control characters, and cut off if it is long: messages go to logs, mails and the ledger."""
    sentence = fault(renamed(Age=written)).sentence
    assert f"{repeated} may be Age." in sentence
    assert written not in sentence
    assert extra_columns([*BANK_CHURN.names, written], BANK_CHURN) == [repeated]


def test_a_hint_with_a_control_character_is_shown_as_an_escape() -> None:
    assert "`sep=\\x1f`" in fault(f"sep=\x7f\n{TEXT}").sentence.replace("x7f", "x1f")
