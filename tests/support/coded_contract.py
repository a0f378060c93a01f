"""A contract with everything that the bank's has not: yes and no as texts, a text of any value, a column that no model sees."""

from churn.contract import Column, Contract, Kind, Role, SliceBy

CODED = Contract(
    "coded",
    (
        Column("customerID", Kind.TEXT, Role.KEY),
        Column("Paperless", Kind.INTEGER, Role.FEATURE, values={"No": 0, "Yes": 1}, ignore_case=True, trim=True),
        Column("Support", Kind.INTEGER, Role.FEATURE, values={"never": 0, "once": 1, "often": 5}, nullable=True),
        Column("City", Kind.TEXT, Role.FEATURE, max_levels=3, trim=True),
        Column("Note", Kind.TEXT, Role.FEATURE, max_levels=2, nullable=True),
        Column("Sex", Kind.TEXT, Role.FEATURE, categories=("f", "m"), feature=False, protected=True),
        Column("Charges", Kind.NUMBER, Role.FEATURE, 0, 1000),
        Column("Churn", Kind.INTEGER, Role.TARGET, values={"No": 0, "Yes": 1}),
    ),
    slices=(SliceBy("Paperless"), SliceBy("Support"), SliceBy("Sex", parity=True)),
    event="cancelled",
    non_event="kept the contract",
)
