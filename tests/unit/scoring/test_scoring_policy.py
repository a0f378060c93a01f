"""The scoring policy is read strictly, and says whom to contact in one way only."""

from __future__ import annotations

import re

import pytest
import yaml

from churn.contracts.bank import BANK_CHURN
from churn.decision.policy_file import PolicyInvalid
from churn.scoring.scoring_policy import Capacity, ScoringPolicy
from support.basics import ROOT

SHIPPED = (ROOT / "include/churn/scoring_policy.yaml").read_text()


def changed(**sections: object) -> str:
    return yaml.safe_dump({**yaml.safe_load(SHIPPED), **sections})


def test_the_shipped_policy_fits_the_shipped_contract() -> None:
    policy = ScoringPolicy.read(SHIPPED, "scoring_policy.yaml").check(BANK_CHURN, "scoring_policy.yaml")
    assert policy.campaign.name == "retention"
    assert policy.control.share == 0.05


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"capacity": {"customers": 5, "share": 0.1}}, "capacity must have either customers or share"),
        ({"capacity": {}}, "capacity must have either customers or share"),
        ({"capacity": {"customers": -1}}, "capacity.customers must be at least 0"),
        ({"capacity": {"share": 1.5}}, "capacity.share must be at most 1"),
        ({"value": {}}, "value must have either amount or column"),
        ({"value": {"amount": 0}}, "value.amount must be greater than 0"),
        ({"campaign": {"name": "a b", "horizon_days": 9}}, "campaign.name does not have the required form"),
        ({"contact": {"cost": 1, "success_rate": 0}}, "contact.success_rate must be greater than 0"),
        ({"contact": {"cost": 1}}, "contact.success_rate is missing"),
        ({"control": {"share": 1}}, "control.share must be less than 1"),
        ({"drift": {"psi": 0.2, "action": "stop"}}, "drift.action must be 'alert' or 'refuse'"),
        ({"campaign": {"name": "Spring", "horizon_days": 9}}, "campaign.name does not have the required form"),
        ({"campaign": {"name": "a" * 41, "horizon_days": 9}}, "campaign.name does not have the required form"),
        ({"more": {}}, "more is unknown"),
    ],
)
def test_a_policy_that_cannot_be_used_says_what_is_wrong(sections: dict[str, object], words: str) -> None:
    """And that no list is published until it is fixed."""
    with pytest.raises(PolicyInvalid, match=re.escape(words)) as error:
        ScoringPolicy.read(changed(**sections), "scoring_policy.yaml")
    assert str(error.value).endswith("No list is published until it is fixed.")


@pytest.mark.parametrize("column", ["Surname", "Nowhere", "Exited", "CustomerId"])
def test_the_value_is_a_numeric_column_of_the_contract(column: str) -> None:
    policy = ScoringPolicy.read(changed(value={"column": column}), "p.yaml")
    with pytest.raises(PolicyInvalid, match=f"value.column is {column}, which is not a numeric column"):
        policy.check(BANK_CHURN, "p.yaml")
    balance = ScoringPolicy.read(changed(value={"column": "Balance", "rate": 0.01}), "p.yaml")
    assert balance.check(BANK_CHURN, "p.yaml") is balance


@pytest.mark.parametrize(
    ("capacity", "customers", "expected"),
    [
        (Capacity(customers=5), 100, 5),
        (Capacity(customers=500), 100, 100),
        (Capacity(customers=0), 100, 0),
        (Capacity(share=0.1), 1000, 100),
        (Capacity(share=0.29), 100, 29),
        (Capacity(share=0.0), 100, 0),
        (Capacity(share=1.0), 7, 7),
    ],
)
def test_a_capacity_is_never_more_than_there_are_customers(capacity: Capacity, customers: int, expected: int) -> None:
    assert capacity.of(customers) == expected


def test_a_person_may_ask_for_another_campaign_or_capacity() -> None:
    """The rest of the policy stays, and what they ask for is checked like the file."""
    policy = ScoringPolicy.read(SHIPPED, "p.yaml")
    asked = policy.changed("spring", 12)
    assert (asked.campaign.name, asked.capacity.customers, asked.capacity.share) == ("spring", 12, None)
    assert asked.campaign.horizon_days == policy.campaign.horizon_days
    assert policy.changed() == policy
    with pytest.raises(PolicyInvalid, match=r"The request: campaign\.name does not have the required form"):
        policy.changed("no blanks please")
