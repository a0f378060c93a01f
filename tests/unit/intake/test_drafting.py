"""A draft proposes what a file shows, asks what it does not, and lists nothing of a customer."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from churn.contract import Contract, Kind, Role
from churn.contracts.yaml_file import read_contract
from churn.intake.draft_text import as_python, as_yaml
from churn.intake.drafting import Draft, draft_contract, slug
from churn.intake.file_columns import read_columns
from churn.sample.generator import NIGHTS, make_night
from support.coded_contract import CODED
from support.judged_files import judge

ROWS = 400


def frame(**columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    common: dict[str, object] = {
        "Customer": [f"7590-{at}" for at in rng.permutation(ROWS)],
        "Amount": rng.uniform(3, 90, ROWS).round(2),
        "Churn": rng.choice(["Yes", "No"], ROWS, p=[0.2, 0.8]),
    }
    return pd.DataFrame(columns | common)


def draft(rows: pd.DataFrame) -> Draft:
    return draft_contract(read_columns(io.BytesIO(rows.to_csv(index=False).encode())), "mine")


def drafted(rows: pd.DataFrame) -> Contract:
    """The contract of a draft, the same as YAML and as Python."""
    proposed = draft(rows)
    namespace: dict[str, Contract] = {}
    exec(as_python(proposed), namespace)  # noqa: S102 -- our own text
    contract = read_contract(as_yaml(proposed), "draft")
    assert contract == namespace["MINE"]
    return contract


def test_the_draft_of_the_bank_file_is_its_contract_with_room() -> None:
    """Roles, kinds and categories are those of the contract that ships, and every good row is accepted."""
    from churn.contracts.bank import BANK_CHURN

    text = make_night(BANK_CHURN, NIGHTS[2])
    contract = drafted(pd.read_csv(io.StringIO(text)).dropna().iloc[10:])
    assert {column.name: column.role for column in contract.columns} == {
        column.name: column.role for column in BANK_CHURN.columns
    } | {"RowNumber": contract["RowNumber"].role}
    assert contract["Geography"].categories == ("France", "Germany", "Spain")
    assert (contract.event, contract.target.maximum) == ("left", 1)
    assert {by.column for by in contract.slices if by.parity} == {"Gender", "Age"}


def test_texts_for_yes_and_no_are_flags_and_the_label() -> None:
    """In any case and language; the file is then accepted as it is."""
    rows = frame(Paperless=["yes", "NO"] * 200, Active=[True, False] * 200, Kunde=["ja", "nein"] * 200)
    contract = drafted(rows)
    assert contract["Paperless"].numbers == {"NO": 0, "yes": 1}
    assert contract["Active"].numbers == {"False": 0, "True": 1}
    assert contract["Kunde"].numbers == {"nein": 0, "ja": 1}
    assert (contract.target.name, contract.target.numbers) == ("Churn", {"No": 0, "Yes": 1})
    assert judge(rows.to_csv(index=False), contract).quarantined == []


@pytest.mark.parametrize(
    ("labels", "numbers", "asked"),
    [
        (["Existing Customer", "Attrited Customer"], {"Existing Customer": 0, "Attrited Customer": 1}, False),
        (["1", "2"], {"1": 0, "2": 1}, True),
        (["A", "B"], {"A": 0, "B": 1}, True),
    ],
)
def test_other_labels_are_guessed_and_asked(labels: list[str], numbers: dict[str, int], asked: bool) -> None:
    """By their words; otherwise the rarer one is the event, and the draft asks."""
    rows = frame().assign(Churn=[labels[0]] * 300 + [labels[1]] * 100)
    assert drafted(rows).target.numbers == numbers
    assert ("Which of the two is the event?" in as_yaml(draft(rows))) == asked


def test_nothing_of_a_customer_is_listed() -> None:
    """Neither names nor cities that few share, nor the exact smallest and largest number."""
    cities = ["Bern"] * 200 + ["Zug"] * 150 + [f"hamlet {at}" for at in range(50)]
    rows = frame(
        Surname=[f"Muster{at}" for at in range(ROWS)],
        City=cities,
        Remark=[f"called about invoice {at % 90} and was very unhappy with it" for at in range(ROWS)],
        Plan=["gold"] * 250 + ["silver"] * 149 + ["Ms Smith"],
    )
    proposed = as_yaml(draft(rows)) + as_python(draft(rows))
    for secret in ("Muster", "hamlet", "Bern", "invoice", "7590", "Smith", str(rows["Amount"].max())):
        assert secret not in proposed
    contract = drafted(rows)
    assert contract["Surname"].role is contract["Remark"].role is Role.CARRIED
    assert contract["City"].max_levels == 50
    assert contract["Plan"].categories == ("gold", "silver")
    assert "1 rows have other texts, too rare to list" in as_yaml(draft(rows))


def test_cells_that_are_missing_padded_or_odd_are_allowed_or_named() -> None:
    """Nullable, trimmed, and a note on what would be quarantined."""
    rows = frame(
        Total=[" "] * 5 + ["12.5"] * 395,
        Visits=["n/a"] * 2 + ["7"] * 200 + ["40"] * 198,
        Plan=[" gold", "gold", "Gold", "basic"] * 100,
        Balance=["-3"] * 200 + ["90"] * 200,
    )
    contract = drafted(rows)
    assert (contract["Total"].kind, contract["Total"].nullable, contract["Total"].trim) == (Kind.NUMBER, True, True)
    assert (contract["Visits"].kind, contract["Visits"].minimum, contract["Visits"].maximum) == (Kind.INTEGER, 0, 100)
    assert (contract["Plan"].categories, contract["Plan"].ignore_case, contract["Plan"].trim) == (
        ("basic", "gold"),
        True,
        True,
    )
    assert (contract["Balance"].minimum, contract["Balance"].maximum) == (-5, 200)
    assert "2 cells are not a integer" not in as_yaml(draft(rows))
    assert "2 cells are not whole numbers" in as_yaml(draft(rows))


def test_columns_that_say_nothing_are_carried() -> None:
    """Constants, empty columns, row numbers, dates and further numbers of customers."""
    days = pd.date_range("2026-01-01", periods=ROWS).strftime("%Y-%m-%d")
    rows = frame(
        Row=range(1, ROWS + 1),
        Country="CH",
        Empty=None,
        ContractId=np.random.default_rng(1).permutation(ROWS) + 5000,
        Joined=days,
        AsOf=days,
        Card=[f"{4_000_000_000_000_000_000 + at}" for at in range(ROWS)],
    )
    contract = drafted(rows)
    roles = {column.name: column.role for column in contract.columns}
    assert roles["Row"] is Role.POSITION
    assert roles["AsOf"] is Role.AS_OF
    assert {name for name, role in roles.items() if role is Role.CARRIED} == {
        "Country",
        "Empty",
        "ContractId",
        "Joined",
        "Card",
    }
    assert contract.key.name == "Customer"


def test_a_draft_without_a_key_or_a_label_says_so() -> None:
    """It cannot be loaded, and the first line says what is missing."""
    rows = frame().assign(Customer="one", Churn=["a", "b", "c", "d"] * 100, Amount=[1.5, 2.5] * 200)
    text = as_yaml(draft(rows))
    assert "NOT COMPLETE: no key and no target could be proposed." in text
    assert "Which column identifies the customer?" in text
    with pytest.raises(ValueError, match="exactly one key"):
        read_contract(text, "draft")


def test_a_sample_of_a_contract_gives_a_draft_that_accepts_it() -> None:
    """There and back: the coded contract of the tests."""
    from churn.sample.generator import Night

    text = make_night(CODED, Night(rows=600, first_customer=1, seed=2))
    contract = read_contract(as_yaml(draft_contract(read_columns(io.BytesIO(text.encode())), "again")), "draft")
    assert judge(text, contract).quarantined == []
    assert (contract.key.name, contract.target.name) == ("customerID", "Churn")
    assert contract["Sex"].protected


@pytest.mark.parametrize(
    ("file", "name"),
    [("Telco-Customer-Churn", "telco_customer_churn"), ("Kündigungen 2026", "k_ndigungen_2026"), ("***", "customers")],
)
def test_the_name_of_a_contract_is_plain(file: str, name: str) -> None:
    """Letters, digits and underscores."""
    assert slug(file) == name
