"""Only a model saved by skops, of reviewed types, that answers as a classifier is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import yaml
from sklearn.dummy import DummyClassifier
from sklearn.preprocessing import FunctionTransformer

from churn.contracts.bank import BANK_CHURN
from churn.serving.model import load_model


def saved(folder: Path, model: Any, form: str = "skops") -> Path:
    skops.io.dump(model, folder / "model.skops")
    flavor = {"serialization_format": form, "pickled_model": "model.skops"}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": flavor}}))
    return folder


@pytest.fixture(autouse=True)
def _own_configuration() -> Any:
    """Loading a model changes scikit-learn's configuration for its process; here it is restored."""
    import sklearn

    with sklearn.config_context():
        yield


def test_a_classifier_answers_two_probabilities(tmp_path: Path) -> None:
    """For every row, in the order of the rows."""
    predict = load_model(saved(tmp_path, DummyClassifier(strategy="prior").fit([[0]] * 4, [0, 0, 0, 1])), BANK_CHURN)
    values = {
        column.name: np.array([1.0, 2.0]) if column.numeric else np.array([column.categories[0]] * 2, dtype=object)
        for column in BANK_CHURN.features
    }
    assert predict(values).tolist() == [[0.75, 0.25]] * 2


@pytest.mark.parametrize(
    ("model", "form", "reason"),
    [
        (DummyClassifier().fit([[0]], [0]), "pickle", "saved as pickle"),
        (DummyClassifier().fit([[0]], [0]), "skops", "two probabilities"),
        (DummyClassifier().fit([[0]] * 3, [0, 1, 2]), "skops", "two probabilities"),
    ],
)
def test_any_other_model_is_refused(tmp_path: Path, model: Any, form: str, reason: str) -> None:
    """A pickle, one class, three classes."""
    with pytest.raises(ValueError, match=reason):
        load_model(saved(tmp_path, model, form), BANK_CHURN)


def test_a_type_that_was_not_reviewed_is_refused(tmp_path: Path) -> None:
    """A model that carries a function of its own does not load."""
    with pytest.raises(skops.io.exceptions.UntrustedTypesFoundException):
        load_model(saved(tmp_path, FunctionTransformer(draw)), BANK_CHURN)


def draw(values: Any) -> Any:
    """A function that nobody has reviewed."""
    return values
