"""Rules are named with what they ask for, how often they were broken, and where; never with a value."""

from __future__ import annotations

from churn.contracts.bank import BANK_CHURN
from churn.intake.rule_words import example_lines, in_words, most_frequent


def test_every_rule_is_put_in_words() -> None:
    """Rules of cells name the column and what it may be; rules of records have words of their own."""
    assert all(in_words(rule, BANK_CHURN) for rule in BANK_CHURN.rules)
    assert in_words("HasCrCard.type", BANK_CHURN) == "HasCrCard must be a whole number from 0 to 1"
    assert in_words("record.quotes", BANK_CHURN) == "a quote that is not closed"
    assert in_words("batch.rejected", BANK_CHURN) == ""


def test_the_three_most_frequent_rules_are_described() -> None:
    """With counts and the first five lines; further lines and rules are left out."""
    broken = [
        ("Age.range", 7, [2, 3, 5, 7, 11]),
        ("batch.rejected", 1, [4]),
        ("unlabelled", 1, [6]),
        ("x.type", 1, [8]),
    ]
    assert most_frequent(broken, BANK_CHURN) == (
        "Age.range (Age must be a whole number from 18 to 100): 7 (lines 2, 3, 5, 7, 11, ...); "
        "batch.rejected: 1 (line 4); unlabelled (no label yet): 1 (line 6)"
    )
    assert example_lines(2, [1, 9]) == "lines 1, 9"
