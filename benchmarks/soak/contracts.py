"""The contract of the month: the bank file with an as-of date and a horizon of two days; and the wider one that it becomes.

It imports only what the earlier commit's code has too.
"""

from __future__ import annotations

from dataclasses import replace

from churn.contract import Column, Contract, Kind, Role
from churn.contracts.bank import BANK_CHURN

HORIZON = 2
NIGHTLY = Contract(
    "nightly_bank",
    (*BANK_CHURN.columns, Column("AsOf", Kind.DATE, Role.AS_OF, description="The day on which the row was true.")),
    BANK_CHURN.slices,
    event=BANK_CHURN.event,
    non_event=BANK_CHURN.non_event,
    horizon_days=HORIZON,
)
OLDEST = 110
WIDER = replace(
    NIGHTLY,
    columns=tuple(replace(column, maximum=OLDEST) if column.name == "Age" else column for column in NIGHTLY.columns),
)
"""Customers may be up to 110 years old."""
