"""The model of the image: loaded by skops from trusted types only, and called only with rows that satisfy the contract.

MLflow is not imported: it would account for a third of start time and memory, only to call the same function.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import skops.io
import yaml

from churn.contract import Contract
from churn.serving.batching import Predict
from churn.serving.checks import without_checks
from churn.serving.rows import Values, frame_of

TRUSTED_TYPES = [
    "churn.serving.checks.ContractChecks",
    "churn.serving.levels.KnownLevels",
    "churn.serving.recalibration.Recalibrated",
    "numpy.dtype",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",  # a spline's array library
    "scipy.interpolate._bsplines.BSpline",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.model_selection._split.StratifiedKFold",  # how a TargetEncoder divided its rows
    "sklearn.utils._bunch.Bunch",
]
"""Types that a saved model may contain in addition to those that skops trusts. They were reviewed; none is read from a model.

The types of an own candidate are recorded in the ledger when its version is registered, and passed on from there.
"""


def load_estimator(folder: Path, types: Iterable[str] = ()) -> Any:
    """Load the estimator of the MLflow model in a folder, without the checks before it.

    Args:
        folder: of the model.
        types: types that it may contain in addition to `TRUSTED_TYPES`, as the ledger recorded them.

    Raises:
        ValueError: it is not a scikit-learn model saved by skops. Any other error of a damaged model is not caught.
    """
    flavor = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]["sklearn"]
    if flavor["serialization_format"] != "skops":
        raise ValueError(
            f"The model is saved as {flavor['serialization_format']}. Only models saved as skops can be loaded."
        )
    return without_checks(skops.io.load(folder / flavor["pickled_model"], trusted=[*TRUSTED_TYPES, *types]))


def load_model(folder: Path, contract: Contract, types: Iterable[str] = ()) -> Predict:
    """Load the MLflow model in a folder and try it on one row of the contract.

    Rows are checked against the contract beforehand, so scikit-learn does not need to check for NaN again.

    Args:
        folder: of the model.
        contract: the contract that it was trained under.
        types: types that it may contain in addition to `TRUSTED_TYPES`.

    Raises:
        ValueError: it is not a scikit-learn model saved by skops, or does not return two probabilities per row. Any other
            error of a damaged model is not caught.
    """
    model = load_estimator(folder, types)
    sklearn.set_config(assume_finite=True, skip_parameter_validation=True)

    def predict(values: Values) -> np.ndarray:
        return np.asarray(model.predict_proba(frame_of(values, contract)), dtype=np.float64)

    probabilities = predict(_example(contract))
    if probabilities.shape != (1, 2) or not np.isfinite(probabilities).all():
        raise ValueError("The model does not return two probabilities per row.")
    return predict


def _example(contract: Contract) -> Values:
    values: Values = {}
    for column in contract.features:
        if column.numeric:
            values[column.name] = np.array([column.minimum if column.minimum is not None else 0.0])
        else:
            values[column.name] = np.array([column.categories[0] if column.categories else "a text"], dtype=object)
    return values
