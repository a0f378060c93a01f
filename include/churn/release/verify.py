"""Does a served model answer like the registry's? Asked over HTTP, on rows made from the contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from churn.contract import Contract
from churn.foundation.examples import example_rows, model_input
from churn.foundation.serving import ModelMismatch, ask

PROBES = 200
SINGLE = 20
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Verification:
    """How many rows were asked, and the largest difference of a probability."""

    probes: int
    max_difference: float


def verify(url: str, model: Any, contract: Contract) -> Verification:
    """Compare a served model with the registry's.

    Args:
        url: base URL of the server, which answers `/invocations`.
        model: the registry's pyfunc; its `predict` gives probabilities, shape (rows, 2).
        contract: the probe rows are made from it: typical rows, every category, every bound.

    Returns:
        The number of rows asked, one by one and in a batch, and the largest difference.

    Raises:
        ModelMismatch: an answer differs by more than 1e-12, or a valid row is refused.
        ServingUnavailable: the connection broke.
    """
    rows = model_input(contract, example_rows(contract, PROBES, seed=1))
    expected = np.asarray(model.predict(rows))
    answers = np.vstack([*(ask(url, rows.iloc[[row]]) for row in range(SINGLE)), ask(url, rows)])
    against = np.vstack([expected[:SINGLE], expected])
    if answers.shape != against.shape:
        raise ModelMismatch(f"{url} answers with shape {answers.shape}, the registry's model with {against.shape}.")
    differences = np.abs(answers - against)
    if not np.nanmax(differences) <= TOLERANCE or np.isnan(differences).any():
        raise ModelMismatch(
            f"{url} differs from the registry's model in {int((~(differences <= TOLERANCE)).any(axis=1).sum())} of {len(answers)} "
            f"answers, by up to {np.nanmax(differences):.3g} (allowed: {TOLERANCE:g})."
        )
    return Verification(len(answers), float(differences.max()))
