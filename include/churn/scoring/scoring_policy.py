"""scoring_policy.yaml: whom to contact, what that costs and may bring, and who is left alone for comparison. Read strictly."""

from __future__ import annotations

from math import floor
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from churn.contract import Contract
from churn.decision.policy_file import PolicyInvalid, Section, load_policy_text, read_strictly, validate_strictly
from churn.errors import shown

_CONSEQUENCE = "No list is published until it is fixed."


class Campaign(Section):
    """What the list is for. Lists of one campaign replace each other, and a customer keeps the same treatment in all of them."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    """Name of the campaign: at most 40 small letters, digits and underscores. It is part of the name of a view."""
    horizon_days: Annotated[float, Field(gt=0, le=3650)]
    """Days after delivery in which the effect of a contact is measured. Until then, a customer keeps the first treatment."""


class Capacity(Section):
    """How many customers can be contacted, control group included: a number or a share."""

    customers: Annotated[int, Field(ge=0, le=10**9)] | None = None
    """Number of customers. Leave it out if there is a share."""
    share: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the customers on the list. Leave it out if there is a number."""

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.customers is None) == (self.share is None):
            raise ValueError("must have either customers or share")
        return self

    def of(self, customers: int) -> int:
        """The number of customers that can be contacted of this number."""
        if self.customers is not None:
            return min(self.customers, customers)
        return floor((self.share or 0.0) * customers + 1e-9)


class Value(Section):
    """What a kept customer is worth: an amount, or a column of the contract times a rate."""

    amount: Annotated[float, Field(gt=0)] | None = None
    """The same amount for every customer. Leave it out if there is a column."""
    column: str | None = None
    """Numeric column of the contract, such as a balance or a yearly fee."""
    rate: Annotated[float, Field(gt=0)] = 1.0
    """What the column is multiplied by."""

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.amount is None) == (self.column is None):
            raise ValueError("must have either amount or column")
        return self


class Contact(Section):
    """What it costs to contact a customer, and how often that keeps one."""

    cost: Annotated[float, Field(ge=0)]
    """Cost of contacting one customer, in the unit of the value."""
    success_rate: Annotated[float, Field(gt=0, le=1)]
    """Share of customers who would leave and are kept by a contact. An assumption until outcomes are known."""


class Control(Section):
    """Customers who would be contacted and are not, so that the effect of contacting can be measured."""

    share: Annotated[float, Field(ge=0, lt=1)]
    """Share of the customers at the capacity, drawn at random."""


class Exclusion(Section):
    """Customers of other campaigns who are left out."""

    days: Annotated[float, Field(ge=0, le=3650)]
    """Days for which a customer whom another campaign contacted is left out."""


class ScoredDrift(Section):
    """When the customers or their scores differ too much from the training rows or the list before."""

    psi: Annotated[float, Field(gt=0)]
    """Population stability index above which a column or the scores count as drifted."""
    action: Literal["alert", "refuse"]
    """`alert`, or `refuse`: the list is not published."""


class ScoringPolicy(Section):
    """The whole of scoring_policy.yaml."""

    campaign: Campaign
    capacity: Capacity
    value: Value
    contact: Contact
    control: Control
    exclusion: Exclusion
    drift: ScoredDrift

    @classmethod
    def read(cls, text: str, name: str) -> Self:
        """Parse a scoring policy.

        Args:
            text: YAML.
            name: the name of the file in errors.

        Raises:
            PolicyInvalid: names every key that is unknown, missing or out of range.
        """
        return read_strictly(cls, text, name, _CONSEQUENCE)

    def check(self, contract: Contract, name: str) -> Self:
        """Return this policy if the column of the value is a number that is known of current customers.

        Raises:
            PolicyInvalid: it is not.
        """
        column = self.value.column
        current = contract.without_target().columns
        known = {known.name for known in current if known.numeric and known.name != contract.key.name}
        if column is not None and column not in known:
            raise PolicyInvalid(
                f"{name}: value.column is {shown(column)}, which is not a numeric column of the contract {contract.name}. "
                f"Choose one of {', '.join(sorted(known))}, or give an amount. {_CONSEQUENCE}"
            )
        return self

    def changed(self, campaign: str | None = None, capacity: int | None = None) -> Self:
        """Return this policy with another campaign or capacity, as a person asked for one list.

        Raises:
            PolicyInvalid: the campaign or the capacity is not allowed.
        """
        content = self.model_dump(exclude_none=True)
        if campaign is not None:
            content["campaign"]["name"] = campaign
        if capacity is not None:
            content["capacity"] = {"customers": capacity}
        return validate_strictly(type(self), content, "The request", _CONSEQUENCE)


def load_policy(file: Path) -> ScoringPolicy:
    """Read the scoring policy that the settings name; whether it fits the contract is not checked.

    Raises:
        PolicyInvalid: it is missing, or cannot be used.
    """
    return ScoringPolicy.read(load_policy_text(file, "CHURN_SCORING_POLICY_FILE"), file.name)
