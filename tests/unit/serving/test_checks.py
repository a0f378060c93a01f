"""A registered model refuses what the service refuses, whatever types of pandas the rows have."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline

from churn.contract import Column, Contract, Kind, Role
from churn.contracts.bank import BANK_CHURN
from churn.foundation.examples import example_rows, model_input
from churn.serving import UNCHECKED_VARIABLE
from churn.serving.checks import ContractChecks, add_checks, without_checks
from churn.serving.model import TRUSTED_TYPES, load_estimator
from churn.serving.rows import BadColumns, BadRows
from support.coded_contract import CODED

ROWS = example_rows(BANK_CHURN, 40)
CHECKS = ContractChecks(BANK_CHURN.to_json())
NULLABLE = Contract(
    "nullable",
    (
        Column("Id", Kind.INTEGER, Role.KEY),
        Column("Visits", Kind.INTEGER, Role.FEATURE, minimum=0, nullable=True),
        Column("Segment", Kind.TEXT, Role.FEATURE, categories=("gold", "silver"), nullable=True, ignore_case=True),
        Column("Left", Kind.INTEGER, Role.TARGET, minimum=0, maximum=1),
    ),
)


def test_rows_as_pandas_reads_them_are_typed_as_the_model_was_trained() -> None:
    """Whole numbers, further columns and another order: the frame is that of the training."""
    reversed_columns = ROWS[ROWS.columns[::-1]]
    pd.testing.assert_frame_equal(CHECKS.transform(reversed_columns), model_input(BANK_CHURN, ROWS))


@pytest.mark.parametrize("kind", ["int8", "int64", "float32", "Int64", "object", "int64[pyarrow]"])
def test_a_number_may_have_any_numeric_type(kind: str) -> None:
    """They give the same features."""
    rows = ROWS.assign(Tenure=ROWS["Tenure"].astype(kind))
    pd.testing.assert_frame_equal(CHECKS.transform(rows), model_input(BANK_CHURN, ROWS))


@pytest.mark.parametrize("kind", ["object", "str", "string", "category"])
def test_a_text_may_have_any_type_of_texts(kind: str) -> None:
    """They give the same features."""
    rows = ROWS.assign(Geography=ROWS["Geography"].astype(kind))
    pd.testing.assert_frame_equal(CHECKS.transform(rows), model_input(BANK_CHURN, ROWS))


@pytest.mark.parametrize("kind", ["object", "str", "category"])
def test_texts_that_stand_for_numbers_are_typed_as_the_model_was_trained(kind: str) -> None:
    """A file that pandas reads has the texts, and accepted rows have the numbers: both give the same features."""
    rows = example_rows(CODED, 40)
    texts = {
        column.name: rows[column.name].map(column.texts).astype(kind) for column in CODED.features if column.values
    }
    checks = ContractChecks(CODED.to_json())
    pd.testing.assert_frame_equal(checks.transform(rows.assign(**texts)), model_input(CODED, rows))
    pd.testing.assert_frame_equal(checks.transform(rows), model_input(CODED, rows))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("Geography", ["France", "Italy", "Italy"], r"Row 1: Geography must be .*France.* 2 rows are not valid\.$"),
        ("Geography", ["France", None, "France"], r"Row 1: Geography is missing"),
        ("Geography", [1, 2, 3], r"Row 0: Geography must be .* 3 rows are not valid"),
        ("Age", [40, 40, 17], r"Row 2: Age must be .* from 18 to"),
        ("Age", [40, np.nan, 40], r"Row 1: Age is missing"),
        ("Age", [40, 40.5, 40], r"Row 1: Age must be a whole number"),
        ("Age", ["40", "x", "40"], r"Row 0: Age must be a whole number .* 3 rows"),
        ("Age", [True, False, True], r"Row 0: Age must be a whole number"),
        ("Balance", [0.0, np.inf, 0.0], r"Row 1: Balance must be"),
    ],
)
def test_bad_rows_are_refused_with_the_message_of_the_service(column: str, values: list[Any], message: str) -> None:
    """Unknown category, out of range, missing, a fraction, a text or a truth value for a number."""
    with pytest.raises(BadRows, match=message):
        CHECKS.transform(ROWS[:3].assign(**{column: values}))


def test_columns_are_matched_by_their_exact_name() -> None:
    """A missing one is named; so is one in another case; an array has no names."""
    with pytest.raises(BadColumns, match=r"Missing columns: Age, Tenure\."):
        CHECKS.transform(ROWS.drop(columns=["Age", "Tenure"]))
    with pytest.raises(BadColumns, match=r"differ only in case or blanks .*: Age"):
        CHECKS.transform(ROWS.rename(columns={"Age": "age"}))
    with pytest.raises(BadColumns, match="more than once: Age"):
        CHECKS.transform(pd.concat([ROWS, ROWS[["Age"]]], axis=1))
    odd = pd.concat([ROWS, ROWS[["Surname"]], ROWS[["Age"]].rename(columns={"Age": 0})], axis=1)
    assert len(CHECKS.transform(odd)) == len(ROWS)
    with pytest.raises(ValueError, match="contains no rows"):
        CHECKS.transform(ROWS[:0])
    with pytest.raises(TypeError, match="DataFrame"):
        CHECKS.transform(ROWS.to_numpy())


def test_numbers_among_which_a_blank_is_are_read_as_in_a_file() -> None:
    """Pandas then reads the column as texts; where the contract trims it, they are numbers, and the blank is missing."""
    trimmed = replace(
        NULLABLE, columns=(replace(NULLABLE["Visits"], trim=True), *NULLABLE.columns[:1], *NULLABLE.columns[2:])
    )
    rows = pd.read_csv(io.StringIO("Visits,Segment\n3,gold\n ,silver\n"))
    assert pd.api.types.is_string_dtype(rows["Visits"])
    typed = ContractChecks(trimmed.to_json()).transform(rows)["Visits"]
    assert typed[0] == 3
    assert np.isnan(typed[1])
    with pytest.raises(BadRows, match="Row 0: Visits must be a whole number"):
        ContractChecks(NULLABLE.to_json()).transform(rows)
    with pytest.raises(BadRows, match="Row 1: Visits must be a whole number"):
        ContractChecks(trimmed.to_json()).transform(rows.assign(Visits=["3", "many"]))


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_value_of_any_kind_is_accepted_where_the_contract_allows_it(missing: Any) -> None:
    """It becomes NaN in a number and None in a text; a text in another case is corrected."""
    rows = pd.DataFrame({"Visits": [3, missing], "Segment": ["GOLD", missing]}, dtype=object)
    typed = ContractChecks(NULLABLE.to_json()).transform(rows)
    assert typed["Visits"].dtype == np.float64
    assert np.isnan(typed["Visits"][1])
    assert typed["Segment"].tolist() == ["gold", None]


def test_a_process_that_compares_versions_asks_beneath_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a wider contract reach an old model, whether it is loaded or served."""
    rows = ROWS.assign(Geography="Italy")
    monkeypatch.setenv(UNCHECKED_VARIABLE, "1")
    assert CHECKS.transform(rows) is rows


def test_a_saved_model_has_the_checks_and_the_estimator_beneath(tmp_path: Path) -> None:
    """The pipeline refuses rows; the estimator that the image and the comparison use does not check again."""
    model = DummyClassifier(strategy="prior").fit([[0]] * 4, [0, 0, 0, 1])
    skops.io.dump(add_checks(model, BANK_CHURN), tmp_path / "model.skops")
    (tmp_path / "MLmodel").write_text(
        "flavors: {sklearn: {serialization_format: skops, pickled_model: model.skops}}", "utf-8"
    )
    loaded = skops.io.load(tmp_path / "model.skops", trusted=TRUSTED_TYPES)
    assert loaded.predict_proba(ROWS).tolist() == [[0.75, 0.25]] * 40
    with pytest.raises(BadRows):
        loaded.predict_proba(ROWS.assign(Age=5))
    assert isinstance(load_estimator(tmp_path), DummyClassifier)


def test_a_model_without_checks_is_returned_as_it_is() -> None:
    """Versions of earlier releases have none."""
    earlier = Pipeline([("scale", "passthrough"), ("model", DummyClassifier())])
    assert without_checks(earlier) is earlier
    assert isinstance(without_checks(add_checks(earlier, BANK_CHURN)), Pipeline)
