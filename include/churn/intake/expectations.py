"""The expectations of Great Expectations, derived from the contract and from the rules for a batch as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from churn.contract import CONFLICT, DUPLICATE, UNLABELLED, Column, Contract, Kind
from churn.intake.table_rules import TableRule

RULES = "rules"
"""Key in the notes of an expectation for the rules that it covers."""
UNIQUE = ("expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique")
"""The types of the expectations for which equal values must be in one frame."""
_OF_A_TABLE = "expect_table_columns_to_match_set"
_TYPES = {
    Kind.INTEGER: ["int64", "Int64Dtype"],
    Kind.NUMBER: ["float64"],
    Kind.DATE: ["datetime64[ms]", "datetime64[s]", "datetime64[ns]"],
}


def row_expectations(contract: Contract) -> list[Any]:
    """The expectations for accepted rows and their table, derived from the contract."""
    import great_expectations.expectations as gxe

    expectations: list[Any] = [
        gxe.ExpectTableColumnsToMatchSet(column_set=list(contract.names), exact_match=True),
        _uniqueness(contract),
    ]
    for column in contract.columns:
        expectations += _column_expectations(column)
    for relation in contract.relations:
        # A missing value breaks no relation. Without this option, it would, if only one of the two is missing.
        nullable = contract[relation.greater].nullable or contract[relation.lesser].nullable
        options: dict[str, Any] = {"ignore_row_if": "either_value_is_missing"} if nullable else {}
        expectations.append(
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A=relation.greater,
                column_B=relation.lesser,
                or_equal=True,
                meta={RULES: [relation.rule]},
                **options,
            )
        )
    return expectations


def _uniqueness(contract: Contract) -> Any:
    """That what identifies a row is unique: the customer, and in a panel the customer at a time."""
    import great_expectations.expectations as gxe

    covered: dict[str, Any] = {"meta": {RULES: [DUPLICATE, CONFLICT]}}
    if contract.as_of is None:
        return gxe.ExpectColumnValuesToBeUnique(column=contract.key.name, **covered)
    names = [column.name for column in contract.row_key]
    return gxe.ExpectCompoundColumnsToBeUnique(column_list=names, **covered)


def batch_expectations(rules: Sequence[TableRule]) -> list[Any]:
    """The expectations for the numbers of a batch."""
    import great_expectations.expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    return [
        gxe.ExpectColumnValuesToBeBetween(
            column=rule.name,
            min_value=rule.minimum if isfinite(rule.minimum) else None,
            max_value=rule.maximum if isfinite(rule.maximum) else None,
            severity=FailureSeverity.CRITICAL if rule.critical else FailureSeverity.WARNING,
            meta={RULES: [rule.name]},
        )
        for rule in rules
    ]


def find_indivisible(expectations: Sequence[Any]) -> list[str]:
    """The types of the expectations whose verdict on a table does not follow from those on its frames.

    An expectation about each row holds for a table if it holds for every frame, and so does the one about the names of the
    columns. Uniqueness is judged again after the rows have been regrouped. A mean, or an order of rows, cannot be combined.
    """
    from great_expectations.expectations.expectation import (
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        MulticolumnMapExpectation,
    )

    by_row = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
    across_rows = {
        "expect_column_values_to_be_increasing",
        "expect_column_values_to_be_decreasing",
    }
    return [
        expectation.expectation_type
        for expectation in expectations
        if expectation.expectation_type != _OF_A_TABLE
        and (
            not isinstance(expectation, by_row)
            or expectation.expectation_type in across_rows
            or getattr(expectation, "mostly", 1) != 1
        )
    ]


def _column_expectations(column: Column) -> list[Any]:
    import great_expectations.expectations as gxe

    makers: dict[str, Any] = {
        UNLABELLED: gxe.ExpectColumnValuesToNotBeNull,
        f"{column.name}.missing": gxe.ExpectColumnValuesToNotBeNull,
        f"{column.name}.type": lambda **options: gxe.ExpectColumnValuesToBeInTypeList(
            type_list=_TYPES[column.kind], **options
        ),
        f"{column.name}.range": lambda **options: gxe.ExpectColumnValuesToBeBetween(
            min_value=column.minimum, max_value=column.maximum, **options
        ),
        f"{column.name}.category": lambda **options: gxe.ExpectColumnValuesToBeInSet(
            value_set=list(column.categories or column.texts), **options
        ),
    }
    return [makers[rule](column=column.name, meta={RULES: [rule]}) for rule in column.rules]
