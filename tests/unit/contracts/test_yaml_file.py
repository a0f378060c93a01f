"""A contract in YAML says the same as one in Python, and an error names the line and the column."""

from __future__ import annotations

import re

import pytest

from churn.contract import Column, Contract, Kind, Role, SliceBy
from churn.contracts.yaml_file import InvalidContract, read_contract
from support.basics import ROOT

GOOD = """
name: subscribers
event: cancelled
non_event: renewed
lenient_header: true
columns:
  id: {kind: text, role: key}
  plan: {kind: text, categories: [basic, No, Yes], nullable: true, trim: yes, ignore_case: true}
  city: {kind: text, categories: open, max_levels: 7}
  street: {kind: text, categories: open}
  paid: {kind: integer, values: {No: 0, Yes: 1}, protected: true}
  months: {kind: integer, minimum: 0, maximum: 600, at_most: age, description: Months as a customer.}
  age: {kind: number, minimum: 0, feature: false, permanent: true}
  since: {kind: date, role: as_of}
  left: {kind: integer, role: target, values: {no: 0, yes: 1}}
slices:
  - plan
  - {column: age, edges: [30, 45.5], parity: true}
"""


def test_every_field_is_read() -> None:
    """As the same contract in Python; No and Yes are texts."""
    assert read_contract(GOOD, "subscribers.yaml") == Contract(
        "subscribers",
        (
            Column("id", Kind.TEXT, Role.KEY),
            Column(
                "plan",
                Kind.TEXT,
                Role.FEATURE,
                categories=("basic", "No", "Yes"),
                nullable=True,
                trim=True,
                ignore_case=True,
            ),
            Column("city", Kind.TEXT, Role.FEATURE, max_levels=7),
            Column("street", Kind.TEXT, Role.FEATURE, max_levels=50),
            Column("paid", Kind.INTEGER, Role.FEATURE, values={"No": 0, "Yes": 1}, protected=True),
            Column("months", Kind.INTEGER, Role.FEATURE, 0, 600, at_most="age", description="Months as a customer."),
            Column("age", Kind.NUMBER, Role.FEATURE, 0, feature=False, permanent=True),
            Column("since", Kind.DATE, Role.AS_OF),
            Column("left", Kind.INTEGER, Role.TARGET, values={"no": 0, "yes": 1}),
        ),
        (SliceBy("plan"), SliceBy("age", (30, 45.5), parity=True)),
        lenient_header=True,
        event="cancelled",
        non_event="renewed",
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: number", "kind: float", "line 13, column 15: kind of column age must be one of integer, number, text"),
        (
            "permanent: true",
            "permanen: true",
            "line 13, column 51: permanen is not a key of column age. Did you mean",
        ),
        (
            "event: cancelled",
            "evnt: cancelled",
            "line 3, column 1: evnt is not a key of a contract. Did you mean event",
        ),
        ("minimum: 0, maximum: 600", "minimum: none", "line 12, column 36: minimum of column months must be a number"),
        (
            "minimum: 0, maximum: 600",
            f"minimum: {'9' * 400}",
            "line 12, column 36: minimum of column months must be a number",
        ),
        ("trim: yes", "trim: maybe", "line 8, column 74: trim of column plan must be true or false"),
        (
            "[basic, No, Yes]",
            "basic",
            "line 8, column 34: categories of column plan must be a list of texts, or the word",
        ),
        ("[basic, No, Yes]", "[basic, basic]", "line 8, column 3: Column plan: a category appears twice"),
        ("role: as_of", "role: when", "line 14, column 29: role of column since must be one of key"),
        ("{kind: date, role: as_of}", "{role: as_of}", "line 14, column 3: Column since has no kind"),
        ("{kind: date, role: as_of}", "later", "line 14, column 10: column since must be a mapping"),
        ("  since:", "  age:", "line 14, column 3: age appears twice in columns"),
        ("max_levels: 7", "max_levels: 7.5", "max_levels of column city must be a whole number"),
        ("at_most: age", "at_most: city", "line 12, column 3: months must be at most city"),
        ("  - plan", "  - city", "line 17, column 5: city cannot define slices"),
        ("{column: age, edges", "{edges", "line 18, column 5: A slice has no column"),
        ("[30, 45.5]", "[45, 30]", "line 18, column 5: Slice by age: the edges"),
        ("[30, 45.5]", "[30, old]", "An edge must be a number"),
        ("values: {no: 0, yes: 1}", "values: {no: 0}", "line 15, column 3: the target left must be an integer"),
        ("role: target, ", "", "line 2, column 1: a contract needs exactly one target column"),
        ("name: subscribers", "", "The contract has no name"),
        ("{no: 0, yes: 1}}", "{no: 0, yes: 1}", "This is not valid YAML"),
        (GOOD, "", "The file is empty"),
        (GOOD, "- a list", "line 1, column 1: a contract must be a mapping"),
        (GOOD, "a: 1\n---\nb: 2", "This is not valid YAML"),
        (GOOD, "? [1, 2]\n: 3", "A key of a contract must be a text"),
        ("minimum: 0, maximum", 'minimum: "0", maximum', "must be a number"),
        ("description: Months as a customer.", "description: [1]", "description of column months must be a text"),
    ],
)
def test_an_error_names_the_line_and_the_column(old: str, new: str, message: str) -> None:
    """Whatever is wrong: a word, a value, a rule between columns, the YAML itself."""
    assert old in GOOD
    with pytest.raises(InvalidContract) as error:
        read_contract(GOOD.replace(old, new, 1), "subscribers.yaml")
    assert str(error.value).startswith("subscribers.yaml")
    assert message in str(error.value)


def test_tags_and_deep_nesting_do_no_harm() -> None:
    """A tag creates no object, and a file that nests without end is not read."""
    with pytest.raises(InvalidContract, match="must be a mapping"):
        read_contract("!!python/object/apply:os.system [ls]", "x.yaml")
    with pytest.raises(InvalidContract):
        read_contract("[" * 100_000, "x.yaml")


def test_the_example_of_the_documentation_is_a_contract() -> None:
    """Somebody who copies it begins with something that works."""
    page = (ROOT / "docs/pages/your-own-data.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    contract = read_contract(example, "your-own-data.md")
    assert (contract.target.name, contract["city"].max_levels, contract["gender"].modelled) == ("Churn", 50, False)
