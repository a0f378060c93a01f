"""Does a served model answer like the registry's? Asked over HTTP, on rows made from the contract."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pandas as pd

from churn.contract import Contract
from churn.errors import ChurnError, Outage
from churn.foundation.examples import example_rows, model_input

PROBES = 200
SINGLE = 20
TOLERANCE = 1e-12
_POLL = 0.1


class ServingUnavailable(Outage):
    """The server did not come up in time, for a reason that says nothing about the model; try again."""


class ModelMismatch(ChurnError):  # noqa: N818 -- it says what is the matter
    """The served model does not load, or does not answer like the registry's."""


@dataclass(frozen=True)
class Verification:
    """How many rows were asked, and the largest difference of a probability."""

    probes: int
    max_difference: float


def wait_until_ready(url: str, exited: Callable[[], str | None], timeout: float) -> None:
    """Wait for `/ping`.

    Args:
        url: base URL of the server.
        exited: None while the server runs, else the last words of its log.
        timeout: seconds.

    Raises:
        ModelMismatch: the server ended by itself: the model does not load.
        ServingUnavailable: it runs, and does not answer in time.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        words = exited()
        if words is not None:
            raise ModelMismatch(f"The serving process ended before it was ready, so the model does not load: {words}")
        try:
            answered = httpx.get(f"{url}/ping", timeout=2, trust_env=False).is_success
        except httpx.TransportError:
            answered = False
        if answered and exited() is None:  # else it was somebody else who answered
            return
        time.sleep(_POLL)
    raise ServingUnavailable(
        f"No answer from {url}/ping within {timeout:.0f} s, while the process runs. Retry; look at the load of the machine."
    )


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


def ask(url: str, rows: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Send rows to `/invocations`; probabilities, shape (rows, 2)."""
    body = {
        "dataframe_split": {
            "columns": list(rows.columns),
            "data": rows.astype(object).where(rows.notna(), None).values.tolist(),
        }
    }
    try:
        response = httpx.post(f"{url}/invocations", json=body, timeout=30, trust_env=False)
    except httpx.TransportError as error:
        raise ServingUnavailable(f"The connection to {url} broke ({type(error).__name__}). Retry.") from error
    if not response.is_success:
        raise ModelMismatch(
            f"{url}/invocations answers {response.status_code} to {len(rows)} rows within the contract."
        )
    return np.asarray(response.json()["predictions"], dtype=np.float64)
