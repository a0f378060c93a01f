"""Does a served model answer like the registry's, and refuse what it must? Asked over HTTP, as its users would."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from churn.contract import Contract
from churn.decision.scoring import Scorer
from churn.errors import ChurnError
from churn.foundation.local_server import ModelMismatch, ServingUnavailable
from churn.release.probes import JSON_TYPE, PLANTED, BadRequest, bad_requests, contract_rows, rows_body

TOLERANCE = 1e-12
ONE_AFTER_THE_OTHER = 20
_CLIENTS = 8
_BATCH = 100
_LONGEST_SENTENCE = 600
_TIMEOUT = 60


class ImageFault(ChurnError):  # noqa: N818 -- it says what is the matter
    """The image is not what it has to be, although its answers are the model's: it is not published, and takes nothing back."""


@dataclass(frozen=True)
class Verification:
    """How many rows were asked and how many of them are the holdout's, the largest difference, and how many bad requests were refused."""

    probes: int
    holdout_rows: int
    max_difference: float
    refused: int

    @property
    def sentence(self) -> str:
        """What was asked and found."""
        holdout = (
            f"the holdout's {self.holdout_rows} most extreme rows among them"
            if self.holdout_rows
            else "none of the holdout's rows, which are gone"
        )
        return (
            f"{self.probes} answers, {holdout}, equal the registry model's (largest difference {self.max_difference:.1e}); "
            f"{self.refused} bad requests are refused"
        )


def verify(url: str, scorer: Scorer, contract: Contract, extremes: pd.DataFrame | None = None) -> Verification:
    """Hold a served model against the registry's.

    Each row is asked by itself, some one after the other and the rest by clients side by side; then all of them in
    batches, in each form of the protocol. Then come requests that must be refused, and a good one again.

    Args:
        url: base URL of the server.
        scorer: of the registry's model: from rows to probabilities of class 1.
        contract: the probe rows are made from it: typical rows, every category, every bound.
        extremes: rows of the holdout as the model takes them; None: there are none to be had.

    Raises:
        ModelMismatch: an answer differs by more than 1e-12, or the model fails.
        ImageFault: a bad request is not refused as it has to be, or a good one is.
        ServingUnavailable: the connection broke.
    """
    rows = contract_rows(contract)
    if extremes is not None:
        rows = pd.concat([rows, extremes], ignore_index=True)
    positive = np.asarray(scorer(rows), dtype=np.float64)
    expected = np.column_stack([1 - positive, positive])
    with httpx.Client(base_url=url, timeout=_TIMEOUT, trust_env=False) as client:
        answers = [*_one_by_one(client, rows), *_in_batches(client, rows)]
        difference = max(_difference(found, expected[at], url) for at, found in answers)
        refused = [_require_refusal(client, bad) for bad in bad_requests(contract)]
        for path in ("/docs", "/openapi.json"):
            if _get(client, path).status_code != httpx.codes.NOT_FOUND:
                raise ImageFault(f"{path} of the image is open.")
        if _get(client, "/ping").status_code != httpx.codes.OK:
            raise ImageFault("After bad requests the image does not answer /ping any more.")
        difference = max(difference, _difference(_ask(client, rows.iloc[:1]), expected[:1], url))
    return Verification(
        probes=sum(len(found) for _, found in answers) + 1,
        holdout_rows=0 if extremes is None else len(extremes),
        max_difference=difference,
        refused=len(refused),
    )


Answer = tuple[slice, NDArray[np.float64]]


def _one_by_one(client: httpx.Client, rows: pd.DataFrame) -> list[Answer]:
    def single(at: int) -> Answer:
        place = slice(at, at + 1)
        return place, _ask(client, rows.iloc[place])

    found = [single(at) for at in range(ONE_AFTER_THE_OTHER)]
    with ThreadPoolExecutor(_CLIENTS) as clients:
        return [*found, *clients.map(single, range(ONE_AFTER_THE_OTHER, len(rows)))]


def _in_batches(client: httpx.Client, rows: pd.DataFrame) -> list[Answer]:
    every = slice(0, len(rows))
    records = [dict(zip(rows.columns, row, strict=True)) for row in rows_body(rows)["data"]]
    columns = {name: [record[name] for record in records] for name in rows.columns}
    forms = ({"dataframe_records": records}, {"instances": records}, {"inputs": columns})
    found = [(every, _predictions(client, json.dumps(form).encode(), JSON_TYPE, len(rows))) for form in forms]
    found.append((every, _predictions(client, rows.to_csv(index=False).encode(), "text/csv", len(rows))))
    for start in range(0, len(rows), _BATCH):
        place = slice(start, start + _BATCH)
        found.append((place, _ask(client, rows.iloc[place])))
    return found


def _ask(client: httpx.Client, rows: pd.DataFrame) -> NDArray[np.float64]:
    body = json.dumps({"dataframe_split": rows_body(rows)}).encode()
    return _predictions(client, body, JSON_TYPE, len(rows))


def _predictions(client: httpx.Client, body: bytes, media: str, rows: int) -> NDArray[np.float64]:
    response = _post(client, body, media)
    if response.is_client_error:
        raise ImageFault(
            f"{client.base_url} refuses rows within the contract ({response.status_code}): it was made for another contract, or is no such service."
        )
    if not response.is_success:
        raise ModelMismatch(f"{client.base_url} answers {response.status_code} to {rows} rows within the contract.")
    try:
        return np.asarray(response.json()["predictions"], dtype=np.float64)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelMismatch(f"{client.base_url} answers {rows} rows with something else than probabilities.") from error


def _difference(found: NDArray[np.float64], expected: NDArray[np.float64], url: str) -> float:
    if found.shape != expected.shape:
        raise ModelMismatch(f"{url} answers with shape {found.shape}, the registry's model with {expected.shape}.")
    differences = np.abs(found - expected)
    wrong = ~(differences <= TOLERANCE)
    if wrong.any():
        raise ModelMismatch(
            f"{url} differs from the registry's model in {int(wrong.any(axis=1).sum())} of {len(found)} "
            f"answers, by up to {np.nanmax(differences):.3g} (allowed: {TOLERANCE:g})."
        )
    return float(differences.max())


def _require_refusal(client: httpx.Client, bad: BadRequest) -> str:
    """The sentence of a refusal, which is a 4xx, one sentence, names what it must, and repeats nothing that was sent."""
    response = _post(client, bad.body, bad.content_type)
    said = f"The image answers {response.status_code} to a bad request ({bad.name})"
    if not response.is_client_error:
        raise ImageFault(f"{said}, which is no refusal.")
    try:
        message = str(response.json()["message"])
    except (ValueError, KeyError, TypeError) as error:
        raise ImageFault(f"{said} without a message.") from error
    if PLANTED in response.text or "Traceback" in response.text:
        raise ImageFault(f"{said}, and repeats what was sent or shows its code.")
    if "\n" in message or len(message) > _LONGEST_SENTENCE:
        raise ImageFault(f"{said} with more than a sentence.")
    if bad.row is not None and not message.startswith(f"Row {bad.row}: {bad.column} "):
        raise ImageFault(f"{said} without naming row {bad.row} and column {bad.column}.")
    if bad.column is not None and bad.column not in message:
        raise ImageFault(f"{said} without naming column {bad.column}.")
    return message


def _post(client: httpx.Client, body: bytes, media: str | None) -> httpx.Response:
    try:
        return client.post("/invocations", content=body, headers={"content-type": media} if media else {})
    except httpx.TransportError as error:
        raise ServingUnavailable(
            f"The connection to {client.base_url} broke ({type(error).__name__}). Retry."
        ) from error


def _get(client: httpx.Client, path: str) -> httpx.Response:
    try:
        return client.get(path)
    except httpx.TransportError as error:
        raise ServingUnavailable(
            f"The connection to {client.base_url} broke ({type(error).__name__}). Retry."
        ) from error
