"""Every part of the pipeline derives its columns from the contract."""

from dataclasses import replace

import pytest

from churn.contract import Column, Contract, Kind, Role, SliceBy
from churn.contracts.bank import BANK_CHURN
from churn.foundation.examples import example_rows, model_input
from churn.intake.expectations import row_expectations
from churn.learning.registered_model import inputs_of_contract
from churn.sample.generator import Night, make_night
from support.basics import small_file
from support.coded_contract import CODED
from support.judged_files import judge

NIGHT = Night(rows=50, first_customer=1, seed=3)


def without(name: str) -> Contract:
    return replace(BANK_CHURN, columns=tuple(column for column in BANK_CHURN.columns if column.name != name))


def with_column(column: Column) -> Contract:
    return replace(BANK_CHURN, columns=(*BANK_CHURN.columns, column))


def retyped(column: Column) -> Contract:
    return replace(BANK_CHURN, columns=tuple(column if old.name == column.name else old for old in BANK_CHURN.columns))


def columns_by_part(contract: Contract) -> dict[str, set[str]]:
    """Return the columns that each part of the pipeline works with."""
    header = make_night(contract, NIGHT).splitlines()[0]
    rows = judge(make_night(contract, NIGHT), contract).good
    return {
        "suite": {rule.column for rule in row_expectations(contract) if getattr(rule, "column", None)}
        | {"Surname"} & set(contract.names),
        "sample": set(header.split(",")),
        "reader": {name for name in rows.column_names if not name.startswith("_")},
        "probes": set(example_rows(contract, 5).columns),
    }


LOYALTY = Column("Loyalty", Kind.TEXT, Role.FEATURE, categories=("gold", "silver"))
CHANGES = {
    "added": with_column(LOYALTY),
    "removed": without("Tenure"),
    "retyped": retyped(Column("Tenure", Kind.TEXT, Role.FEATURE, categories=("short", "long"))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_contract_reaches_every_part(change: str) -> None:
    """A column that is added, removed or retyped changes in suite, sample, reader, probes and signature."""
    contract = CHANGES[change]
    assert all(columns == set(contract.names) for columns in columns_by_part(contract).values())
    assert list(inputs_of_contract(contract)) == list(contract.feature_names)


def test_a_retyped_column_changes_its_type_everywhere() -> None:
    """If Tenure becomes a text, it is a text in signature, probes, sample and suite."""
    contract = CHANGES["retyped"]
    assert inputs_of_contract(contract)["Tenure"].type == "string"
    assert set(model_input(contract, example_rows(contract, 20))["Tenure"]) == {"short", "long"}
    cells = {
        line.split(",")[list(contract.names).index("Tenure")] for line in make_night(contract, NIGHT).splitlines()[1:]
    }
    assert cells == {"short", "long"}
    kinds = {type(rule).__name__ for rule in row_expectations(contract) if getattr(rule, "column", None) == "Tenure"}
    assert kinds == {"ExpectColumnValuesToNotBeNull", "ExpectColumnValuesToBeInSet"}


def test_identifiers_are_never_features() -> None:
    """RowNumber, CustomerId and Surname are kept with the row, but no model is trained on them."""
    assert not {"RowNumber", "CustomerId", "Surname", "Exited"} & set(BANK_CHURN.feature_names)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (BANK_CHURN.columns[:-1], "one target"),
        ((*BANK_CHURN.columns, BANK_CHURN.columns[0]), "appears twice"),
        ((*BANK_CHURN.columns, Column("_line", Kind.NUMBER, Role.FEATURE)), "_line"),
    ],
)
def test_an_invalid_contract_is_rejected_with_the_reason(columns: tuple[Column, ...], reason: str) -> None:
    """A contract that cannot work is rejected when it is created."""
    with pytest.raises(ValueError, match=reason):
        Contract("broken", columns)


def test_the_fingerprint_identifies_a_contract_and_ignores_descriptions() -> None:
    """A different range makes a different contract; a different description does not."""
    described = retyped(replace(BANK_CHURN["Age"], description="something else"))
    widened = retyped(replace(BANK_CHURN["Age"], maximum=120))
    assert described.fingerprint == BANK_CHURN.fingerprint != widened.fingerprint


def test_probe_rows_include_every_category_and_every_bound() -> None:
    """The probes of a served model cover the limits of the contract."""
    rows = example_rows(BANK_CHURN, 200)
    assert set(rows["Geography"]) == {"France", "Germany", "Spain"}
    assert (rows["Age"].min(), rows["Age"].max()) == (18, 100)


def test_the_sample_is_reproducible() -> None:
    """The same night of the generator gives the same text."""
    assert small_file() == small_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "text"}, "the kind must be one of Kind"),
        ({"nullable": "no"}, "nullable must be True or False"),
        ({"optional": 1}, "optional must be True or False"),
        ({"categories": "gold"}, "must be a tuple of texts"),
        ({"categories": ("gold", "")}, "must be a tuple of texts"),
        ({"categories": ("gold", 1)}, "must be a tuple of texts"),
        ({"categories": ("gold", "gold")}, "appears twice"),
        ({"categories": ("gold", "Gold"), "ignore_case": True}, "appears twice"),
        ({"kind": Kind.INTEGER, "categories": (), "minimum": 2, "maximum": 1}, "minimum 2 is above the maximum 1"),
        ({"kind": Kind.INTEGER, "categories": (), "minimum": "2"}, "must be numbers"),
    ],
)
def test_a_column_with_fields_of_another_type_is_refused(changes: dict[str, object], words: str) -> None:
    """The message names the column and ends in one full stop."""
    fields = {"name": "Loyalty", "kind": Kind.TEXT, "role": Role.FEATURE, "categories": ("gold", "silver")}
    with pytest.raises(ValueError, match=rf"^Column Loyalty: .*{words}.*(?<!\.)\.$"):
        Column(**(fields | changes))  # type: ignore[arg-type]


def test_the_fingerprint_of_the_bank_contract_never_changes() -> None:
    """Snapshots carry it. A new field with its default changes nothing, and neither do words."""
    assert BANK_CHURN.fingerprint == "c3e1798f1c27572f"
    described = tuple(replace(column, description="other words") for column in BANK_CHURN.columns)
    stated = tuple(replace(column, optional=column.may_be_absent) for column in BANK_CHURN.columns)
    assert {replace(BANK_CHURN, columns=columns).fingerprint for columns in (described, stated)} == {
        BANK_CHURN.fingerprint
    }


def test_what_decides_which_rows_are_accepted_is_in_the_fingerprint() -> None:
    """A required surname and a lenient header are other contracts."""
    required = tuple(replace(column, optional=False) for column in BANK_CHURN.columns)
    others = [replace(BANK_CHURN, columns=required), replace(BANK_CHURN, lenient_header=True)]
    assert len({BANK_CHURN.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_rules_are_put_in_words() -> None:
    """The words name the column and what it may be, for cells and for pairs of columns."""
    words = {rule: BANK_CHURN.rule_in_words(rule) for rule in BANK_CHURN.rules}
    assert words["Exited.type"] == words["Exited.range"] == "Exited must be a whole number from 0 to 1"
    assert words["Geography.category"] == "Geography must be one of France, Germany, Spain"
    assert words["Age.missing"] == "Age must not be empty"
    assert words["Tenure.above_Age"] == "Tenure must not exceed Age"
    assert words["record.conflict"] is None
    assert Column("Since", Kind.DATE, Role.CARRIED).allowed == "a date in the form YYYY-MM-DD"


def test_values_may_be_given_as_a_mapping() -> None:
    """They are kept as pairs, give the bounds, and leave the column hashable."""
    flag = Column("Paperless", Kind.INTEGER, Role.FEATURE, values={"No": 0, "Yes": 1})
    assert (flag.values, flag.minimum, flag.maximum) == ((("No", 0), ("Yes", 1)), 0, 1)
    assert hash(flag) == hash(replace(flag, values=flag.values))
    assert flag.allowed == "one of No, Yes"
    assert flag.rules == ("Paperless.missing", "Paperless.category")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"values": {"No": 0, "Yes": 1}}, "only the target and a numeric feature can have values"),
        ({"kind": Kind.INTEGER, "categories": (), "values": ["No", "Yes"]}, "must be a mapping"),
        ({"kind": Kind.INTEGER, "categories": (), "values": {"No": "0"}}, "must be a mapping"),
        ({"kind": Kind.INTEGER, "categories": (), "values": {"No": 0.5}}, "must be whole numbers"),
        ({"kind": Kind.INTEGER, "categories": (), "values": {"No": True}}, "must be a mapping"),
        (
            {"kind": Kind.INTEGER, "categories": (), "values": {"no": 0, "No": 1}, "ignore_case": True},
            "appears twice",
        ),
        ({"kind": Kind.INTEGER, "categories": (), "values": {"1": 0, "2": 1}}, "stands for another number"),
        ({"kind": Kind.INTEGER, "categories": (), "values": {"No": 0}, "maximum": 3}, "Leave the bounds out"),
        ({"max_levels": 3}, "only a text feature without categories can have max_levels"),
        ({"categories": (), "max_levels": 0}, "a whole number of at least 1"),
        ({"categories": ()}, "If any text is allowed, set max_levels"),
        ({"role": Role.CARRIED, "feature": False}, "never shown to a model"),
        ({"role": Role.CARRIED, "protected": True}, "never a reason"),
        ({"protected": "yes"}, "protected must be True or False"),
        ({"kind": Kind.DATE, "categories": ()}, "must be a number or a text"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(changes: dict[str, object], words: str) -> None:
    """The message names the column and what to write instead."""
    fields = {"name": "Loyalty", "kind": Kind.TEXT, "role": Role.FEATURE, "categories": ("gold", "silver")}
    with pytest.raises(ValueError, match=rf"^Column Loyalty: .*{words}.*\.$"):
        Column(**(fields | changes))  # type: ignore[arg-type]


def test_the_values_of_a_target_name_both_outcomes() -> None:
    """Only yes is no target. Numbers that stand for other numbers are allowed here, as in files with 1 and 2."""
    target = Column("Exited", Kind.INTEGER, Role.TARGET, values={"1": 0, "2": 1})
    assert retyped(target).target.numbers == {"1": 0, "2": 1}
    with pytest.raises(ValueError, match="an integer from 0 to 1"):
        retyped(Column("Exited", Kind.INTEGER, Role.TARGET, values={"Yes": 1}))


def test_only_what_changes_rows_or_model_changes_the_fingerprint() -> None:
    """A protected column and the name of the event are words; a column that no model sees, texts and levels are not."""
    age = BANK_CHURN["Age"]
    assert retyped(replace(age, protected=False)).fingerprint == BANK_CHURN.fingerprint
    assert replace(BANK_CHURN, event="gone", non_event="here").fingerprint == BANK_CHURN.fingerprint
    others = {
        retyped(replace(age, feature=False)).fingerprint,
        retyped(replace(BANK_CHURN["HasCrCard"], values={"No": 0, "Yes": 1})).fingerprint,
        with_column(Column("City", Kind.TEXT, Role.FEATURE, max_levels=4)).fingerprint,
        with_column(Column("City", Kind.TEXT, Role.FEATURE, max_levels=5)).fingerprint,
        BANK_CHURN.fingerprint,
    }
    assert len(others) == 5


def test_a_column_that_no_model_sees_is_still_judged() -> None:
    """It is no feature, but it has its rules and can define slices."""
    hidden = retyped(replace(BANK_CHURN["Gender"], feature=False))
    assert "Gender" not in hidden.feature_names
    assert hidden.rules == BANK_CHURN.rules
    assert "Gender" in [column.name for column in hidden.attributes]
    assert [by.column for by in hidden.slices] == [by.column for by in BANK_CHURN.slices]


def test_a_text_of_any_value_cannot_define_slices() -> None:
    """Its groups are not known."""
    with pytest.raises(ValueError, match="City cannot define slices"):
        replace(CODED, slices=(SliceBy("City"),))


def test_the_contract_names_the_event_and_its_opposite() -> None:
    """In the words of the contract, or in general ones; two words that are equal are refused."""
    assert (BANK_CHURN.event, BANK_CHURN.non_event) == ("left", "stayed")
    plain = Contract("plain", BANK_CHURN.columns)
    assert (plain.event, plain.non_event) == ("churned", "stayed")
    with pytest.raises(ValueError, match="two different words"):
        replace(BANK_CHURN, event="stayed")


def test_a_contract_of_an_earlier_release_is_still_read() -> None:
    """Its columns have no field that was added later, and its JSON is what it was."""
    earlier = Column("Balance", Kind.NUMBER, Role.FEATURE, 0, 1e7)
    assert set(earlier.written) == {
        *("name", "kind", "role", "minimum", "maximum", "categories", "nullable", "at_most", "permanent", "trim"),
        *("ignore_case", "description", "optional"),
    }
    assert Contract.from_json(BANK_CHURN.to_json().replace(', "protected": true', "")).names == BANK_CHURN.names


@pytest.mark.parametrize("bound", [10**400, -(10**400), float("nan"), float("inf"), True])
def test_a_bound_is_a_number_that_a_column_can_hold(bound: float) -> None:
    with pytest.raises(ValueError, match=r"^Column Age: minimum and maximum must be numbers, and finite\.$"):
        Column("Age", Kind.NUMBER, Role.FEATURE, maximum=bound)


@pytest.mark.parametrize("number", [10**400, float("nan"), True])
def test_a_value_stands_for_a_number_that_a_column_can_hold(number: float) -> None:
    with pytest.raises(ValueError, match=r"^Column Age: the values must be a mapping from texts"):
        Column("Age", Kind.NUMBER, Role.FEATURE, values={"No": 0, "Yes": number})


@pytest.mark.parametrize("name", ["", " ", "a\0b", "\ud800", 5])
def test_a_column_has_a_name_that_can_be_stored(name: str) -> None:
    with pytest.raises(ValueError, match=r"^The name of a column must be a text that is not empty and can be stored"):
        Column(name, Kind.NUMBER, Role.FEATURE)


def test_the_texts_of_a_column_can_be_stored() -> None:
    for changes in ({"description": "\ud800"}, {"categories": ("a", "b\0")}, {"max_levels": 5, "description": 1}):
        with pytest.raises(
            ValueError, match=r"^Column City: a text has a character that cannot be stored, or is not a text\.$"
        ):
            Column("City", Kind.TEXT, Role.FEATURE, **changes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", ": columns is missing. Make"),
        ('{"columns": [{"kind": "number"}], "name": "a"}', ": role is missing. Make"),
        ("[]", "`. Make"),
        ("[" * 100_000, "`. Make"),
        ('{"columns": [5]}', "`. Make"),
        ("{", "`. Make"),
    ],
)
def test_a_text_that_is_not_a_contract_is_refused_in_plain_words(text: str, words: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^This text is not a contract written by `to_json{'`' if words[0] == ':' else ''}{words}"
    ):
        Contract.from_json(text)


def test_what_is_wrong_with_a_contract_is_shown_on_one_line() -> None:
    """Its message may repeat a text of the contract."""
    text = BANK_CHURN.to_json().replace('"at_most": null', '"at_most": "No\\u2028where"', 1)
    with pytest.raises(ValueError, match=r"must be at most No\\u2028where, but they are not both numeric columns"):
        Contract.from_json(text)
