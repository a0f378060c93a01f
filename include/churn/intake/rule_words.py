"""Says in words which rules the rows of a batch broke, with their number and example lines, and never with a value."""

from __future__ import annotations

from collections.abc import Sequence

from churn.contract import Contract

BrokenRule = tuple[str, int, list[int]]
"""A rule that rows broke, the number of these rows, and the first of their lines."""
MOST_FREQUENT = 3
EXAMPLE_LINES = 5
WORDS = {
    "record.encoding": "not UTF-8, perhaps Latin-1",
    "record.field_count": "a different number of cells than the header",
    "record.quotes": "a quote that is not closed",
    "record.nul": "a NUL byte",
    "record.line_break": "a line break outside of quotes",
    "record.duplicate": "a repeated record",
    "record.conflict": "contradicting records of one customer",
    "unlabelled": "no label yet",
}
"""The meaning of rules whose names do not explain themselves."""


def in_words(rule: str, contract: Contract) -> str:
    """Return what a rule asks for or finds, in words; nothing if its name says it."""
    return WORDS.get(rule) or contract.rule_in_words(rule) or ""


def most_frequent(rules: Sequence[BrokenRule], contract: Contract) -> str:
    """Describe the most frequent failures with counts and example lines, without values."""
    return "; ".join(
        f"{rule}{f' ({words})' if (words := in_words(rule, contract)) else ''}: {count} ({example_lines(count, lines)})"
        for rule, count, lines in rules[:MOST_FREQUENT]
    )


def example_lines(count: int, lines: Sequence[int]) -> str:
    """Name the first lines of those that broke a rule."""
    shown = ", ".join(map(str, lines[:EXAMPLE_LINES]))
    return f"line{'s' if count > 1 else ''} {shown}{', ...' if count > EXAMPLE_LINES else ''}"
