"""What somebody else wrote is repeated so that it can be shown, and refused if nothing can store it."""

import pytest

from churn.errors import ChurnError, is_storable, require_reason, require_storable, shown


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("Kündigung 🙂", "Kündigung 🙂"),
        ("a\0b", r"a\x00b"),
        ("a\nb\u2028c", r"a\nb\u2028c"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202eexe", r"\u202eexe"),
        ("\ud800", r"\ud800"),
        ("x" * 100, "x" * 80 + "... (100 characters)"),
        (5, "5"),
    ],
)
def test_a_message_repeats_a_text_on_one_line(text: object, repeated: str) -> None:
    """Without characters that nothing can show or store, and not in full if it is long."""
    assert shown(text) == repeated


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x\udfff"])
def test_a_text_that_no_database_keeps_is_refused(text: str) -> None:
    assert not is_storable(text)
    with pytest.raises(
        ChurnError,
        match=r"^The note has a character that cannot be stored, such as NUL: .*\\.*\. Remove it and try again\.$",
    ):
        require_storable(text, "note")
    with pytest.raises(ChurnError, match="The reason has a character"):
        require_reason(f"because {text}")


def test_any_other_text_is_kept() -> None:
    require_storable("Kündigung\n🙂", "note")
    require_storable(None, "note")
    assert require_reason(" because ") == "because"
