"""A data contract of another name, for settings that name one by its module."""

from dataclasses import replace

from churn.contracts.bank import BANK_CHURN

OTHER = replace(BANK_CHURN, name="other")
