"""The model as it is registered in MLflow: with the checks of its contract, the code that they need, and how to use it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import numpy as np
from mlflow.models.model import ModelInfo
from mlflow.models.signature import ModelSignature
from mlflow.types import Schema, TensorSpec

from churn.contract import Contract
from churn.foundation.examples import example_rows, model_input
from churn.foundation.serving_code import copy_serving_code
from churn.foundation.tracking import Tracking
from churn.learning.needs import ModelNeeds
from churn.serving.checks import add_checks
from churn.serving.model import TRUSTED_TYPES

NAME = "model"
_CONTRACT = "churn.contract"
"""The key of the contract in the metadata of a model."""


class Input(NamedTuple):
    """A column that a model needs: its type, `double` or `string`, and whether a value is required."""

    type: str
    required: bool


def log_model(model: Any, contract: Contract, needs: ModelNeeds, types: Sequence[str]) -> ModelInfo:
    """Log a fitted model to the active MLflow run, with the checks of a contract before it.

    The signature has no inputs: MLflow would refuse whole numbers where a column may have fractions, before the checks see
    them. What the model needs is in its metadata.

    Args:
        model: the fitted estimator.
        contract: the data contract.
        needs: libraries and module of the model.
        types: types in the model that are trusted in addition; see `learning.serving_trial`.
    """
    with tempfile.TemporaryDirectory(prefix="churn-code-") as folder:
        code = [copy_serving_code(Path(folder))]
        if module := needs.travelling(types):
            code.append(module.copy_to(Path(folder)))
        logged: ModelInfo = mlflow.sklearn.log_model(
            add_checks(model, contract),
            name=NAME,
            code_paths=[str(path) for path in code],
            signature=ModelSignature(outputs=Schema([TensorSpec(np.dtype("float64"), (-1, 2))])),
            input_example=model_input(contract, example_rows(contract, 5)),
            metadata={_CONTRACT: contract.to_json()},
            pip_requirements=list(needs.requirements),
            serialization_format="skops",
            skops_trusted_types=[*TRUSTED_TYPES, *types],
            pyfunc_predict_fn="predict_proba",
        )
    return logged


def inputs_of(folder: Path) -> dict[str, Input]:
    """The columns that the model in a folder needs. Before models kept their contract, the signature had them."""
    model = mlflow.models.Model.load(str(folder))
    kept = (model.metadata or {}).get(_CONTRACT)
    if kept:
        return inputs_of_contract(Contract.from_json(kept))
    return {column.name: Input(column.type.name, column.required) for column in model.signature.inputs}


def inputs_of_contract(contract: Contract) -> dict[str, Input]:
    """The columns that a model trained under a contract needs."""
    return {
        column.name: Input("double" if column.numeric else "string", not column.nullable)
        for column in contract.features
    }


def describe_use(uri: str, contract: Contract) -> str:
    """The three lines that load and use a model, in Markdown."""
    return (
        "To use it:\n\n```python\nimport mlflow, pandas as pd\n"
        f'model = mlflow.pyfunc.load_model("{uri}")\n'
        f'model.predict(pd.read_csv("customers.csv"))[:, 1]  # the probability of the event: {contract.event_in_words}\n```\n\n'
        "It ignores columns that it does not need, and refuses rows that the contract does not allow."
    )


def describe_registered_model(contract: Contract, tracking: Tracking) -> None:
    """Create the registered model if it does not exist, with a description; one that a person wrote is kept."""
    use = describe_use(f"models:/{tracking.model}@champion", contract)
    description = f"Probability of the event {contract.event_in_words}, for each customer. {use}"
    in_numbers = f"{contract.target.name} = 1"
    first = f"Probability of {in_numbers}, for each customer."
    earlier = (first, f"{first} {use.replace(f'the event: {contract.event_in_words}', in_numbers)}")
    existing = tracking.client.search_registered_models(f"name = '{tracking.model}'")
    if not existing:
        tracking.client.create_registered_model(tracking.model, description=description)
    elif existing[0].description in earlier:
        tracking.client.update_registered_model(tracking.model, description)
