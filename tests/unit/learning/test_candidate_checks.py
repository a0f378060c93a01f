"""What is wrong with the scores of a candidate is said in one sentence."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from churn.contracts.bank import BANK_CHURN
from churn.learning.candidate_checks import (
    CandidateUnusable,
    check_probabilities,
    explain_failure,
    fault_of_scores,
    require_scores,
)

GOOD = np.array([[0.4, 0.6], [0.9, 0.1]])


def test_probabilities_are_accepted() -> None:
    """A single row cannot be constant, and single precision need not sum to 1 exactly."""
    assert require_scores("mine", GOOD, 2).tolist() == [0.6, 0.1]
    assert fault_of_scores(GOOD.astype("float32"), 2) is None
    assert fault_of_scores(GOOD[:1], 1) is None


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (GOOD[:, 1], "returns shape (2,) for 2 rows"),
        (GOOD[:1], "returns shape (1, 2) for 2 rows"),
        (None, "returns shape ()"),
        (["yes", "no"], "returns list"),
        (np.where(GOOD == 0.6, np.nan, GOOD), "1 of 2 scores are NaN"),
        (GOOD * 2 - 0.5, "between -0.3 and 1.3"),
        (GOOD / 2, "do not sum to 1"),
        (np.full((2, 2), 0.5), "every row gets the same score, 0.5"),
    ],
)
def test_a_fault_is_named(scores: Any, words: str) -> None:
    with pytest.raises(CandidateUnusable) as caught:
        require_scores("mine", scores, 2)
    assert words in str(caught.value)
    assert str(caught.value).startswith("Candidate mine cannot be used: ")


def test_several_rows_are_checked_as_an_array() -> None:
    """What fitting calls: silent on probabilities, and a sentence otherwise."""
    check_probabilities(GOOD)
    for scores in (np.full((2, 2), 0.5), GOOD[:, 1], None):
        with pytest.raises(ValueError, match=r"^(every row|predict_proba returns) .*\.$|of 0 and 1\.$"):
            check_probabilities(scores)
    assert fault_of_scores(np.full((2, 2), 0.5), 2, constant=True) is None


@pytest.mark.parametrize(
    ("column", "words"), [("Exited", "a model has to predict"), ("CustomerId", "identifies the customer")]
)
def test_a_feature_made_of_key_or_label_is_named(column: str, words: str) -> None:
    """An estimator gets the features only; whichever way it asks for more, the column is named."""
    frame = pd.DataFrame({name: [] for name in BANK_CHURN.feature_names})
    for ask in (
        lambda: frame[column],
        lambda: frame[["Age", column]],
        lambda: getattr(frame, column),
        lambda: frame.drop(columns=column),
    ):
        with pytest.raises((KeyError, AttributeError)) as caught:
            ask()
        said = explain_failure(caught.value, BANK_CHURN)
        assert f"asks for the column {column}, which " in said
        assert words in said


def test_any_other_error_is_told_by_its_first_line() -> None:
    assert explain_failure(ValueError("Age is wrong\nmore"), BANK_CHURN) == "ValueError: Age is wrong"


def test_no_value_of_a_customer_is_repeated() -> None:
    """Libraries quote what they could not convert. Names of columns and modules are kept."""
    said = [
        explain_failure(error, BANK_CHURN)
        for error in (
            ValueError("could not convert string to float: 'Smith'"),
            ValueError("Found unknown categories [np.float64(310.0), np.float64(311.0)] in 'Age'"),
            ValueError("unknown categories [310, 311 and so on"),
            ModuleNotFoundError("No module named 'pyarrow'"),
        )
    ]
    assert said == [
        "ValueError: could not convert string to float: '...'",
        "ValueError: Found unknown categories [...] in 'Age'",
        "ValueError: unknown categories [...]",
        "ModuleNotFoundError: No module named 'pyarrow'",
    ]


def test_the_error_crosses_the_border_of_a_process() -> None:
    error = pickle.loads(pickle.dumps(CandidateUnusable("mine", "broken.")))  # noqa: S301 -- our own
    assert (error.candidate, error.reason, str(error)) == ("mine", "broken.", "Candidate mine cannot be used: broken.")
