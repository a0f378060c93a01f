"""A draft is written so that YAML and Python read the same, whatever the texts are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn.contract import Column, Contract, Kind, Role, SliceBy
from churn.contracts.yaml_file import read_contract
from churn.intake.draft_text import as_python, as_yaml
from churn.intake.drafting import Draft, DraftColumn


def draft_with(*categories: str, name: str = "plan") -> Draft:
    columns = (
        DraftColumn("id", {"kind": "text", "role": "key"}),
        DraftColumn(name, {"kind": "text", "categories": list(categories), "nullable": True}, ("A note.",)),
        DraftColumn("left", {"kind": "integer", "role": "target", "values": {categories[0]: 0, categories[1]: 1}}),
    )
    return Draft("mine", 10, "left", "stayed", columns, ({"column": name, "parity": True},), ("A question?",))


def read_both(draft: Draft) -> Contract:
    namespace: dict[str, object] = {}
    exec(as_python(draft), namespace)  # noqa: S102 -- our own text
    contract = read_contract(as_yaml(draft), "draft")
    assert contract == namespace["MINE"]
    return contract


@pytest.mark.parametrize(
    "text",
    [
        "No",
        "yes",
        "null",
        "~",
        "1",
        "a: b",
        "# no comment",
        "- x",
        "open",
        "it's",
        'a "b"',
        "Zoë, ÿ",
        "{x}",
        " x",
        "a\\b",
    ],
)
def test_a_text_that_means_something_in_yaml_is_quoted(text: str) -> None:
    """It is read back as the text that it is, as a level, as a text of the label and as a name."""
    contract = read_both(draft_with(text, "another"))
    assert contract["plan"].categories == (text, "another")
    assert dict(contract.target.values) == {text: 0, "another": 1}
    assert text in read_both(draft_with("some", "another", name=text)).names


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip),
        min_size=2,
        max_size=4,
        unique=True,
    )
)
def test_any_texts_can_be_levels(texts: list[str]) -> None:
    """Whatever the file has."""
    assert read_both(draft_with(*texts))["plan"].categories == tuple(texts)


def test_notes_and_questions_are_comments() -> None:
    """Beside what they are about; the contract is the same without them."""
    text = as_yaml(draft_with("a", "b"))
    assert "# - A question?" in text
    assert "  # A note.\n  plan:" in text
    contract = read_contract("\n".join(line for line in text.splitlines() if "#" not in line), "draft")
    assert contract["plan"] == Column("plan", Kind.TEXT, Role.FEATURE, categories=("a", "b"), nullable=True)
    assert contract.slices == (SliceBy("plan", parity=True),)
