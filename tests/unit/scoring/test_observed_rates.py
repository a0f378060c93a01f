"""What a reason says: the value in words, and a rate only where it is observed often enough and agrees with the contribution."""

from __future__ import annotations

import numpy as np
import pandas as pd

from churn.contract import Column, Contract, Kind, Role
from churn.scoring.observed_rates import Group, in_words, observe_rates

CONTRACT = Contract(
    "small",
    (
        Column("client", Kind.INTEGER, Role.KEY),
        Column("Age", Kind.INTEGER, Role.FEATURE, 18, 100, protected=True),
        Column("Products", Kind.INTEGER, Role.FEATURE, 1, 4, description="Products that the customer has."),
        Column("Balance", Kind.NUMBER, Role.FEATURE, 0, nullable=True, description="Balance, euro."),
        Column("Country", Kind.TEXT, Role.FEATURE, categories=("France", "Spain")),
        Column("Active", Kind.INTEGER, Role.FEATURE, values={"No": 0, "Yes": 1}),
        Column("gone", Kind.INTEGER, Role.TARGET, 0, 1),
    ),
    event="left",
)


def training_rows(count: int = 1000) -> pd.DataFrame:
    number = np.arange(count)
    return pd.DataFrame(
        {
            "Age": 30 + number % 40,
            "Products": 1 + number % 4,
            "Balance": np.where(number % 10 == 9, np.nan, 100.0 * number),
            "Country": np.where(number % 2, "France", "Spain"),
            "Active": number % 3 == 0,
            "gone": (number % 4 == 2).astype(int),
        }
    ).astype({"Active": int})


def test_values_and_ranges_are_put_into_words() -> None:
    """Few whole numbers each by themselves, many in five ranges of equal size; a coded value by its text; a missing one as that."""
    rates = observe_rates(training_rows(), CONTRACT, CONTRACT.feature_names)
    products = [group.words for group in rates["Products"].groups]
    assert products[2] == "Products is 3 (products that the customer has)"
    balance = [group.words for group in rates["Balance"].groups]
    assert balance[0] == "Balance is at most 19,960 (balance, euro)"
    assert balance[1] == "Balance is between 19,960 and 39,920 (balance, euro)"
    assert balance[4] == "Balance is above 79,840 (balance, euro)"
    assert balance[5] == "Balance is missing (balance, euro)"
    assert [group.customers for group in rates["Balance"].groups] == [180, 180, 180, 180, 180, 100]
    assert [group.words for group in rates["Country"].groups[:2]] == ["Country is France", "Country is Spain"]
    assert [group.words for group in rates["Active"].groups[:2]] == ["Active is No", "Active is Yes"]


def test_a_protected_column_has_no_words() -> None:
    """So it is never a reason; a column that the model does not have is none either."""
    assert set(observe_rates(training_rows(), CONTRACT, ["Age", "Products"])) == {"Products"}


def test_a_value_finds_its_group() -> None:
    """The end of a range belongs to it; a missing value has its group, and one that was never seen has none."""
    rates = observe_rates(training_rows(), CONTRACT, CONTRACT.feature_names)
    found = rates["Balance"].group_of(pd.Series([0.0, 19_960.0, 19_961.0, 1e9, np.nan]))
    assert found.tolist() == [0, 0, 1, 4, 5]
    assert rates["Country"].group_of(pd.Series(["Spain", "Italy", None])).tolist() == [1, -1, 2]
    assert rates["Products"].group_of(pd.Series([3.0, 9.0])).tolist() == [2, -1]


def test_a_rate_is_quoted_only_if_it_is_higher_and_well_observed() -> None:
    """A reason says why a score is high: a rate below the average would contradict it, and that of a few customers says little."""
    told = in_words(Group("Products is 3", 50, 0.42), 0.2, "left")
    assert told == "Products is 3: such customers left 2.1 times as often as the average"
    assert in_words(Group("Products is 3", 49, 0.42), 0.2, "left") == "Products is 3"
    assert in_words(Group("Products is 3", 500, 0.2), 0.2, "left") == "Products is 3"
    assert in_words(Group("Products is 3", 500, 0.1), 0.2, "left") == "Products is 3"
    assert in_words(Group("Products is 3", 500, 0.1), 0.0, "left") == "Products is 3"


def test_rates_are_those_of_the_training_rows() -> None:
    rates = observe_rates(training_rows(), CONTRACT, CONTRACT.feature_names)
    assert [group.rate for group in rates["Products"].groups] == [0.0, 0.0, 1.0, 0.0, 0.0]
