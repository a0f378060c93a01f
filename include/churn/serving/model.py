"""The model of the image: what skops saved, of types that we trust, asked for probabilities of rows that keep the contract.

MLflow is not imported: it would take a third of the start and of the memory, to call the same function.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
import skops.io
import yaml

from churn.contract import Contract
from churn.serving.rows import Values
from churn.serving.scorer import Predict

TRUSTED_TYPES = [
    "numpy.dtype",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",  # a spline's array library
    "scipy.interpolate._bsplines.BSpline",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils._bunch.Bunch",
]
"""What a saved model may hold besides what skops trusts itself; reviewed, never taken from a model."""


def load_model(folder: Path, contract: Contract) -> Predict:
    """The MLflow model in a folder, tried on a row of the contract.

    Its rows are checked by the contract before they come here, so that scikit-learn need not look for NaN again.

    Raises:
        ValueError: it is no scikit-learn model saved by skops, or answers no two probabilities a row. Whatever else a damaged
            model raises is not caught.
    """
    saved = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]["sklearn"]
    if saved["serialization_format"] != "skops":
        raise ValueError(f"The model is saved as {saved['serialization_format']}; only skops is loaded.")
    model = skops.io.load(folder / saved["pickled_model"], trusted=TRUSTED_TYPES)
    texts = {column.name for column in contract.features if not column.numeric}
    sklearn.set_config(assume_finite=True, skip_parameter_validation=True)

    def predict(values: Values) -> np.ndarray:
        frame = pd.DataFrame(
            {name: pd.Series(column, dtype="object" if name in texts else "float64") for name, column in values.items()}
        )
        return np.asarray(model.predict_proba(frame), dtype=np.float64)

    tried = predict(_example(contract))
    if tried.shape != (1, 2) or not np.isfinite(tried).all():
        raise ValueError("The model does not answer two probabilities for a row.")
    return predict


def _example(contract: Contract) -> Values:
    values: Values = {}
    for column in contract.features:
        if column.numeric:
            values[column.name] = np.array([column.minimum if column.minimum is not None else 0.0])
        else:
            values[column.name] = np.array([column.categories[0]], dtype=object)
    return values
