"""The service rejects what intake quarantines, by the same rules, and accepts the rest with the same values."""

from __future__ import annotations

import csv
import io
import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn.contract import Column, Contract, Kind, Role
from churn.contracts.bank import BANK_CHURN
from churn.serving.rows import BadRows, Values, check_rows, read_cells
from support.coded_contract import CODED
from support.judged_files import judge_whole

GOOD = {
    "CreditScore": 619,
    "Geography": "France",
    "Gender": "Female",
    "Age": 42,
    "Tenure": 2,
    "Balance": 0.0,
    "NumOfProducts": 1,
    "HasCrCard": 1,
    "IsActiveMember": 1,
    "EstimatedSalary": 101348.88,
}
OTHERS = {"RowNumber": "1", "CustomerId": "15634602", "Surname": "Hargrave", "Exited": "1"}
LENIENT = Contract(
    "lenient",
    (
        Column("Id", Kind.INTEGER, Role.KEY),
        Column("Segment", Kind.TEXT, Role.FEATURE, categories=("gold", "Silver"), trim=True, ignore_case=True),
        Column("Visits", Kind.INTEGER, Role.FEATURE, minimum=0, nullable=True, trim=True),
        Column("Amount", Kind.NUMBER, Role.FEATURE, nullable=True),
        Column("Left", Kind.INTEGER, Role.TARGET, minimum=0, maximum=1),
    ),
)
ODD = ["", " ", "0", "1", "-1", "1.0", "1.5", "1e2", "01", "+1", "NaN", "inf", "1e999", "9" * 20, "x", "male", "Male ", "gold", " GOLD", "silver", "850", "851", "300", "299"]  # fmt: skip


def check(contract: Contract = BANK_CHURN, **changes: object) -> str | None:
    """Return the rule that a row with these values breaks; None for a good row."""
    columns = {name: [value] for name, value in (GOOD | changes).items()}
    try:
        check_rows(columns, contract)
    except BadRows as error:
        return error.faults[0].rule
    return None


def service_rules(contract: Contract, cells: dict[str, str]) -> tuple[str | None, dict[str, object]]:
    columns = {name: read_cells([cells[name]], contract[name]) for name in contract.feature_names}
    try:
        values = check_rows(columns, contract)
    except BadRows as error:
        return error.faults[0].rule, {}
    return None, {name: column[0] for name, column in values.items()}


Outcome = tuple[list[str], dict[str, object]]


def intake_outcomes(contract: Contract, rows: list[dict[str, str]]) -> list[Outcome]:
    """The rules that each row breaks at intake, and the features of a row that breaks none; the rows have keys of their own."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(contract.names)
    writer.writerows([[cells[name] for name in contract.names] for cells in rows])
    judged = judge_whole(text.getvalue(), contract)
    outcomes: dict[int, Outcome] = {row["_line"]: (row["_failed"], {}) for row in judged.quarantined}
    for row in judged.good.to_pylist():
        outcomes[row["_line"]] = ([], {name: row[name] for name in contract.feature_names})
    return [outcomes[line] for line in range(2, len(rows) + 2)]


@cache
def odd_outcomes() -> dict[tuple[str, str], Outcome]:
    """What intake says to each odd cell in each column."""
    good = {column: str(value) for column, value in GOOD.items()} | OTHERS
    cases = [(name, cell) for name in BANK_CHURN.feature_names for cell in ODD]
    rows = [good | {"CustomerId": str(key), name: cell} for key, (name, cell) in enumerate(cases, start=1)]
    return dict(zip(cases, intake_outcomes(BANK_CHURN, rows), strict=True))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, None),
        ({"Age": 42.0}, None),
        ({"Balance": 1e2}, None),
        ({"Balance": -0.0}, None),
        ({"Age": None}, "Age.missing"),
        ({"Age": "42"}, "Age.type"),
        ({"Age": True}, "Age.type"),
        ({"Age": 41.5}, "Age.type"),
        ({"Age": [42]}, "Age.type"),
        ({"Age": {"a": 1}}, "Age.type"),
        ({"Age": 10**400}, "Age.type"),
        ({"Age": 10**30}, "Age.type"),
        ({"Balance": math.nan}, "Balance.type"),
        ({"Balance": math.inf}, "Balance.type"),
        ({"Age": 17}, "Age.range"),
        ({"Age": 101}, "Age.range"),
        ({"Geography": "Atlantis"}, "Geography.category"),
        ({"Geography": 1}, "Geography.category"),
        ({"Geography": ["France"]}, "Geography.category"),
        ({"Gender": "female"}, "Gender.category"),
        ({"Gender": ""}, "Gender.missing"),
        ({"Gender": None}, "Gender.missing"),
        ({"Tenure": 20, "Age": 19}, "Tenure.above_Age"),
    ],
)
def test_a_row_breaks_exactly_this_rule(changes: dict[str, object], rule: str | None) -> None:
    """A value that intake would quarantine is rejected, and one that it would accept is accepted."""
    assert check(**changes) == rule


def test_the_first_bad_row_is_named_and_its_value_is_not() -> None:
    """The index of the row counts from 0, and the message states what is allowed."""
    columns = {name: [value] * 4 for name, value in GOOD.items()}
    columns["Age"] = [42, 42, 42, 7]
    columns["Geography"] = ["France", "France", "Sodor", "France"]
    columns["Tenure"] = [2, 77, 2, 2]
    with pytest.raises(BadRows, match=r"Row 1: Tenure .* from 0 to 20\. 3 rows are not valid") as error:
        check_rows(columns, BANK_CHURN)
    assert "77" not in str(error.value)
    columns["Tenure"] = [2, 2, 2, 2]
    with pytest.raises(BadRows, match=r"Row 2: Geography .* France, Germany, Spain") as error:
        check_rows(columns, BANK_CHURN)
    assert "Sodor" not in str(error.value)


def test_a_broken_rule_between_columns_is_named_before_a_later_fault() -> None:
    """Of two faults of different kinds, the one in the earlier row is named."""
    columns = {name: [value] * 3 for name, value in GOOD.items()}
    columns["Age"], columns["Tenure"], columns["Balance"] = [18, 18, 42], [18, 19, 2], [0.0, 0.0, "x"]
    with pytest.raises(BadRows) as error:
        check_rows(columns, BANK_CHURN)
    first = error.value.faults[0]
    assert (first.row, first.column, first.rule) == (1, "Tenure", "Tenure.above_Age")
    assert "Age" in str(error.value)


def test_every_bad_row_is_counted_and_the_first_twenty_are_named() -> None:
    """Each with its first broken rule, in the order of the rows."""
    columns = {name: [value] * 100 for name, value in GOOD.items()}
    columns["Age"] = [42 if row % 2 else 7 for row in range(100)]
    columns["Gender"] = ["Female" if row % 3 else None for row in range(100)]
    with pytest.raises(BadRows, match=r"^Row 0: Gender is missing.* 67 rows are not valid\.$") as error:
        check_rows(columns, BANK_CHURN)
    assert (error.value.count, len(error.value.faults)) == (67, 20)
    assert [(fault.row, fault.rule) for fault in error.value.faults[:4]] == [
        (0, "Gender.missing"),
        (2, "Age.range"),
        (3, "Gender.missing"),
        (4, "Age.range"),
    ]


def arrays(frame: pd.DataFrame) -> Values:
    return {name: frame[name].to_numpy() for name in BANK_CHURN.feature_names}


def test_arrays_are_checked_like_lists() -> None:
    """Numbers in arrays of any numeric type; NaN is a missing value, and a boolean is no number."""
    frame = pd.DataFrame({name: [value] * 3 for name, value in GOOD.items()})
    assert frame["Age"].dtype == "int64"
    checked = check_rows(arrays(frame), BANK_CHURN)
    assert {name: column.tolist() for name, column in checked.items()} == {
        name: [value] * 3 for name, value in GOOD.items()
    }
    for name, dtype, value, rule in (
        ("Age", "float64", np.nan, "Age.missing"),
        ("Age", "float64", np.inf, "Age.type"),
        ("Age", "float64", 41.5, "Age.type"),
        ("Age", "int8", 17, "Age.range"),
        ("HasCrCard", "bool", True, "HasCrCard.type"),
        ("Geography", "object", "Atlantis", "Geography.category"),
        ("Geography", "object", None, "Geography.missing"),
    ):
        broken = frame.astype({name: dtype})
        broken.loc[1, name] = value
        with pytest.raises(BadRows) as error:
            check_rows(arrays(broken), BANK_CHURN)
        assert error.value.faults[-1].rule == rule, (name, value)


@pytest.mark.parametrize("name", BANK_CHURN.feature_names)
@pytest.mark.parametrize("cell", ODD)
def test_a_cell_is_judged_as_at_intake(name: str, cell: str) -> None:
    """Each odd cell in each column: the service reports a rule exactly when intake does, and it is one of intake's."""
    expected, values = odd_outcomes()[name, cell]
    cells = {column: str(value) for column, value in GOOD.items()} | OTHERS | {name: cell}
    rule, served = service_rules(BANK_CHURN, cells)
    assert (rule is None) == (expected == [])
    assert rule is None or rule in expected
    assert rule is not None or served == values


@settings(max_examples=60)
@given(
    segment=st.sampled_from([*ODD, "Gold", "SILVER ", "bronze"]),
    visits=st.one_of(st.sampled_from(ODD), st.integers(-3, 10**19).map(str)),
    amount=st.one_of(st.sampled_from(ODD), st.floats(allow_nan=False, allow_infinity=False).map(repr)),
)
def test_the_service_is_as_lenient_as_intake(segment: str, visits: str, amount: str) -> None:
    """Surrounding blanks, any case and missing values are accepted where the contract allows them, as at intake."""
    cells = {"Id": "7", "Segment": segment, "Visits": visits, "Amount": amount, "Left": "0"}
    ((expected, values),) = intake_outcomes(LENIENT, [cells])
    rule, served = service_rules(LENIENT, cells)
    assert (rule is None) == (expected == [])
    assert rule is None or rule in expected
    if rule is None:
        as_intake_stores_them = {
            name: None if isinstance(value, float) and np.isnan(value) else value for name, value in served.items()
        }
        assert as_intake_stores_them == values


CODED_CELLS = [*ODD, "Yes", "No", "YES", " no ", "0.0", "5", "5.0", "never", "often", "Often", "-0", "Zürich", '"x", y']


@settings(max_examples=80)
@given(st.tuples(*[st.sampled_from(CODED_CELLS) for _ in CODED.feature_names]))
def test_texts_that_stand_for_numbers_are_read_as_at_intake(features: tuple[str, ...]) -> None:
    """A text or its number, in the case that the contract allows; any text where there are no categories."""
    cells = {"customerID": "7590-VHVEG", "Sex": "f", "Churn": "No"} | dict(
        zip(CODED.feature_names, features, strict=True)
    )
    ((expected, values),) = intake_outcomes(CODED, [cells])
    rule, served = service_rules(CODED, cells)
    assert (rule is None) == (expected == [])
    assert rule is None or rule in expected
    if rule is None:
        assert {name: None if value != value else value for name, value in served.items()} == values  # noqa: PLR0124


@pytest.mark.parametrize(
    ("cell", "taken"), [("Yes", 1.0), (" yES", 1.0), ("No", 0.0), (1, 1.0), (0.0, 0.0), ("1", None), (True, None)]
)
def test_a_request_may_have_the_text_or_the_number(cell: object, taken: float | None) -> None:
    """In JSON a number is a number: the text "1" is no text of the contract."""
    columns = {name: [value] for name, value in CODED_ROW.items()} | {"Paperless": [cell]}
    if taken is not None:
        assert check_rows(columns, CODED)["Paperless"].tolist() == [taken]
        return
    with pytest.raises(BadRows, match=r"^Row 0: Paperless must be one of No, Yes\.$"):
        check_rows(columns, CODED)


CODED_ROW = {"Paperless": "Yes", "Support": None, "City": "Bern", "Note": None, "Charges": 1.0}


def test_an_array_of_texts_and_one_of_numbers_are_read_alike() -> None:
    """As intake keeps the numbers, a frame of accepted rows has them."""
    texts = {name: np.array([value] * 2, dtype=object) for name, value in CODED_ROW.items()}
    numbers = texts | {"Paperless": np.array([1, 1]), "Support": np.array([np.nan, np.nan])}
    first, second = check_rows(texts, CODED), check_rows(numbers, CODED)
    assert all(np.array_equal(first[name], second[name], equal_nan=name == "Support") for name in first)
    with pytest.raises(BadRows, match="Row 1: Paperless must be one of No, Yes"):
        check_rows(texts | {"Paperless": np.array([1.0, 0.5])}, CODED)
    with pytest.raises(BadRows, match="Row 0: City must be a text"):
        check_rows(texts | {"City": np.array([1, 2])}, CODED)


def test_a_contract_survives_being_written_and_read() -> None:
    """It is the same contract, with the same fingerprint, but without its slices."""
    for contract in (BANK_CHURN, LENIENT, CODED):
        read_back = Contract.from_json(contract.to_json())
        assert read_back.columns == contract.columns
        assert read_back.fingerprint == contract.fingerprint
    assert Contract.from_json(BANK_CHURN.to_json()).fingerprint == BANK_CHURN.fingerprint
    with pytest.raises(ValueError, match="not a contract"):
        Contract.from_json("{}")
