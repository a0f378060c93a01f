"""Texts of people and files are shown without the characters that could harm a page."""

import pytest

from churn.foundation.plain_text import clean


@pytest.mark.parametrize("harmful", ["\x00", "\x1b", "\x7f", "\x85", "\ud800", "\u202e", "\u2066", "\uffff"])
def test_a_harmful_character_is_replaced(harmful: str) -> None:
    """Control characters, lone surrogates, and characters that reverse the direction of text."""
    assert clean(f"night{harmful}.csv") == "night\ufffd.csv"


@pytest.mark.parametrize("text", ["kündigungen (copy).csv", "two\nlines\tand a tab", "数据 🙂", ""])
def test_any_other_text_is_unchanged(text: str) -> None:
    """Letters of every script, line feeds and tabs."""
    assert clean(text) == text
