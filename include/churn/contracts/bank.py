"""The contract of the public bank file, `Churn_Modelling.csv`."""

from __future__ import annotations

from churn.contract import Column, Contract, Kind, Role, SliceBy


def _integer(name: str, role: Role, minimum: float, maximum: float, description: str) -> Column:
    return Column(name, Kind.INTEGER, role, minimum, maximum, description=description)


def _flag(name: str, role: Role, description: str) -> Column:
    return _integer(name, role, 0, 1, description)


def _number(name: str, minimum: float, maximum: float, description: str) -> Column:
    return Column(name, Kind.NUMBER, Role.FEATURE, minimum, maximum, description=description)


BANK_CHURN = Contract(
    name="bank_churn",
    columns=(
        _integer("RowNumber", Role.POSITION, 0, 2**53, "Position in the file, without meaning."),
        _integer("CustomerId", Role.KEY, 1, 2**53, "The customer."),
        Column(
            "Surname",
            Kind.TEXT,
            Role.CARRIED,
            permanent=True,
            description="Never a feature, because it identifies a person.",
        ),
        _integer("CreditScore", Role.FEATURE, 300, 850, "Credit score, points."),
        Column(
            "Geography",
            Kind.TEXT,
            Role.FEATURE,
            categories=("France", "Germany", "Spain"),
            description="Country of the account.",
        ),
        Column("Gender", Kind.TEXT, Role.FEATURE, categories=("Female", "Male"), permanent=True, protected=True),
        Column("Age", Kind.INTEGER, Role.FEATURE, 18, 100, protected=True, description="Age in years."),
        Column("Tenure", Kind.INTEGER, Role.FEATURE, 0, 20, at_most="Age", description="Years as a customer."),
        _number("Balance", 0, 1e7, "Balance of the account, euro."),
        _integer("NumOfProducts", Role.FEATURE, 1, 4, "Products that the customer has."),
        _flag("HasCrCard", Role.FEATURE, "1 = has a credit card."),
        _flag("IsActiveMember", Role.FEATURE, "1 = active."),
        _number("EstimatedSalary", 0, 1e7, "Estimated yearly salary, euro."),
        _flag("Exited", Role.TARGET, "1 = the customer left."),
    ),
    slices=(
        SliceBy("Geography"),
        SliceBy("Gender", parity=True),
        SliceBy("Age", (30, 45, 60), parity=True),
        SliceBy("NumOfProducts"),
        SliceBy("IsActiveMember"),
    ),
    event="left",
    non_event="stayed",
)
