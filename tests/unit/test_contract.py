"""Everything that knows a column derives from the contract."""

from dataclasses import replace

import pytest

from churn.contract import Column, Contract, Kind, Role
from churn.contracts.bank import BANK_CHURN
from churn.foundation.examples import example_rows, model_input
from churn.intake.validation import row_expectations
from churn.learning.training import input_signature
from churn.sample.generator import Night, make_night
from support.basics import judge, small_file

NIGHT = Night(rows=50, first_customer=1, seed=3)


def without(name: str) -> Contract:
    return replace(BANK_CHURN, columns=tuple(column for column in BANK_CHURN.columns if column.name != name))


def with_column(column: Column) -> Contract:
    return replace(BANK_CHURN, columns=(*BANK_CHURN.columns, column))


def retyped(column: Column) -> Contract:
    return replace(BANK_CHURN, columns=tuple(column if old.name == column.name else old for old in BANK_CHURN.columns))


def followers(contract: Contract) -> dict[str, set[str]]:
    """The columns that each part of the pipeline knows."""
    header = make_night(contract, NIGHT).splitlines()[0]
    rows = judge(make_night(contract, NIGHT), contract).good
    return {
        "suite": {e.column for e in row_expectations(contract) if getattr(e, "column", None)}
        | {"Surname"} & set(contract.names),
        "sample": set(header.split(",")),
        "reader": {name for name in rows.column_names if not name.startswith("_")},
        "probes": set(example_rows(contract, 5).columns),
    }


LOYALTY = Column("Loyalty", Kind.TEXT, Role.FEATURE, categories=("gold", "silver"))
CHANGES = {
    "added": with_column(LOYALTY),
    "removed": without("Tenure"),
    "retyped": retyped(Column("Tenure", Kind.TEXT, Role.FEATURE, categories=("short", "long"))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_everything_follows_a_change_of_the_contract(change: str) -> None:
    """A column that is added, removed or retyped is so for the suite, sample, reader, probes and signature."""
    contract = CHANGES[change]
    assert all(known == set(contract.names) for known in followers(contract).values())
    assert input_signature(contract).inputs.input_names() == contract.feature_names


def test_a_retyped_column_changes_its_type_everywhere() -> None:
    """Tenure as text is text in signature, probes, sample and suite."""
    contract = CHANGES["retyped"]
    types = {column.name: column.type.name for column in input_signature(contract).inputs.inputs}
    assert types["Tenure"] == "string"
    assert set(model_input(contract, example_rows(contract, 20))["Tenure"]) == {"short", "long"}
    cells = {
        line.split(",")[list(contract.names).index("Tenure")] for line in make_night(contract, NIGHT).splitlines()[1:]
    }
    assert cells == {"short", "long"}
    kinds = {type(e).__name__ for e in row_expectations(contract) if getattr(e, "column", None) == "Tenure"}
    assert kinds == {"ExpectColumnValuesToNotBeNull", "ExpectColumnValuesToBeInSet"}


def test_identifiers_are_never_features() -> None:
    """RowNumber, CustomerId and Surname are carried, never learnt from."""
    assert not {"RowNumber", "CustomerId", "Surname", "Exited"} & set(BANK_CHURN.feature_names)


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        (BANK_CHURN.columns[:-1], "exactly one target"),
        ((*BANK_CHURN.columns, BANK_CHURN.columns[0]), "appears twice"),
        ((*BANK_CHURN.columns, Column("_line", Kind.NUMBER, Role.FEATURE)), "reserved for the pipeline"),
    ],
)
def test_an_impossible_contract_says_why(columns: tuple[Column, ...], complaint: str) -> None:
    """A contract that cannot work is refused when it is made."""
    with pytest.raises(ValueError, match=complaint):
        Contract("broken", columns)


def test_the_fingerprint_tells_contracts_apart_and_ignores_descriptions() -> None:
    """Another range is another contract; another description is not."""
    described = retyped(replace(BANK_CHURN["Age"], description="something else"))
    widened = retyped(replace(BANK_CHURN["Age"], maximum=120))
    assert described.fingerprint == BANK_CHURN.fingerprint != widened.fingerprint


def test_probe_rows_hold_every_category_and_every_bound() -> None:
    """The probes of a served model reach the edges of the contract."""
    rows = example_rows(BANK_CHURN, 200)
    assert set(rows["Geography"]) == {"France", "Germany", "Spain"}
    assert (rows["Age"].min(), rows["Age"].max()) == (18, 100)


def test_the_sample_is_always_the_same() -> None:
    """The same night of the generator gives the same text."""
    assert small_file() == small_file()
