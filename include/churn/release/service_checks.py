"""Checks over HTTP whether a served model answers like the registered one, and refuses invalid requests."""

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
from churn.release.probes import JSON_TYPE, PLANTED, BadRequest, bad_requests, contract_rows, in_texts, rows_body

TOLERANCE = 1e-12
IN_SEQUENCE = 20
_CLIENTS = 8
_BATCH = 100
_LONGEST_SENTENCE = 600
_TIMEOUT = 60


class ImageFault(ChurnError):  # noqa: N818 -- it says what is the matter
    """The image is not what an image must be, although its answers are the model's. It is not published, and the promotion is kept."""


@dataclass(frozen=True)
class Verification:
    """What was compared: number of rows, how many of them are from the holdout, the largest difference, number of refused requests."""

    probes: int
    holdout_rows: int
    max_difference: float
    refused: int

    @property
    def sentence(self) -> str:
        """The result in a sentence."""
        holdout = (
            f"including the {self.holdout_rows} most extreme rows of the holdout"
            if self.holdout_rows
            else "without rows of the holdout, which no longer exist"
        )
        return (
            f"{self.probes:,} answers, {holdout}, equal those of the registered model (largest difference {self.max_difference:.1e}); "
            f"{self.refused} invalid requests were refused"
        )


def verify(url: str, scorer: Scorer, contract: Contract, extremes: pd.DataFrame | None = None) -> Verification:
    """Compare a served model with the registered one.

    Each row is sent by itself, some in sequence and the rest by parallel clients; then all rows in batches, in each form of the
    protocol. Then follow requests that must be refused, and a valid one again.

    Args:
        url: base URL of the server.
        scorer: scores with the registered model: from rows to probabilities of class 1.
        contract: the source of the probe rows: typical rows, every category, every bound.
        extremes: rows of the holdout as the model takes them; None if there are none.

    Raises:
        ModelMismatch: an answer differs by more than 1e-12, or the model fails.
        ImageFault: an invalid request is not refused as it must be, or a valid one is refused.
        ServingUnavailable: the connection broke.
    """
    rows = contract_rows(contract)
    if extremes is not None:
        rows = pd.concat([rows, extremes], ignore_index=True)
    positive = np.asarray(scorer(rows), dtype=np.float64)
    expected = np.column_stack([1 - positive, positive])
    with httpx.Client(base_url=url, timeout=_TIMEOUT, trust_env=False) as client:
        answers = [*_one_by_one(client, rows), *_in_batches(client, rows)]
        if any(column.values for column in contract.features):
            answers += _in_batches(client, in_texts(rows, contract))
        difference = max(_difference(answer, expected[at], url) for at, answer in answers)
        refused = [_require_refusal(client, bad) for bad in bad_requests(contract)]
        for path in ("/docs", "/openapi.json"):
            if _get(client, path).status_code != httpx.codes.NOT_FOUND:
                raise ImageFault(f"{path} of the image is accessible, but must not be.")
        if _get(client, "/ping").status_code != httpx.codes.OK:
            raise ImageFault("The image no longer answers /ping after invalid requests.")
        difference = max(difference, _difference(_ask(client, rows.iloc[:1]), expected[:1], url))
    return Verification(
        probes=sum(len(answer) for _, answer in answers) + 1,
        holdout_rows=0 if extremes is None else len(extremes),
        max_difference=difference,
        refused=len(refused),
    )


def ask_service(url: str, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Score rows with a served model, in batches; returns the probabilities of class 1, shape (rows,).

    Raises:
        ImageFault: it refuses the rows.
        ModelMismatch: it fails, or answers something else than probabilities.
        ServingUnavailable: the connection broke.
    """
    with httpx.Client(base_url=url, timeout=_TIMEOUT, trust_env=False) as client:
        answers = [_ask(client, rows.iloc[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)]
    return np.concatenate(answers)[:, 1] if answers else np.empty(0)


Answer = tuple[slice, NDArray[np.float64]]


def _one_by_one(client: httpx.Client, rows: pd.DataFrame) -> list[Answer]:
    def single(at: int) -> Answer:
        place = slice(at, at + 1)
        return place, _ask(client, rows.iloc[place])

    answers = [single(at) for at in range(IN_SEQUENCE)]
    with ThreadPoolExecutor(_CLIENTS) as clients:
        return [*answers, *clients.map(single, range(IN_SEQUENCE, len(rows)))]


def _in_batches(client: httpx.Client, rows: pd.DataFrame) -> list[Answer]:
    every = slice(0, len(rows))
    records = [dict(zip(rows.columns, row, strict=True)) for row in rows_body(rows)["data"]]
    columns = {name: [record[name] for record in records] for name in rows.columns}
    forms = ({"dataframe_records": records}, {"instances": records}, {"inputs": columns})
    answers = [(every, _predictions(client, json.dumps(form).encode(), JSON_TYPE, len(rows))) for form in forms]
    answers.append((every, _predictions(client, rows.to_csv(index=False).encode(), "text/csv", len(rows))))
    for start in range(0, len(rows), _BATCH):
        place = slice(start, start + _BATCH)
        answers.append((place, _ask(client, rows.iloc[place])))
    return answers


def _ask(client: httpx.Client, rows: pd.DataFrame) -> NDArray[np.float64]:
    body = json.dumps({"dataframe_split": rows_body(rows)}).encode()
    return _predictions(client, body, JSON_TYPE, len(rows))


def _predictions(client: httpx.Client, body: bytes, media: str, rows: int) -> NDArray[np.float64]:
    response = _post(client, body, media)
    if response.is_client_error:
        raise ImageFault(
            f"{client.base_url} refuses rows of the contract ({response.status_code}). It was made for another contract, or is not a scoring service."
        )
    if not response.is_success:
        raise ModelMismatch(f"{client.base_url} answers {response.status_code} to {rows} rows of the contract.")
    try:
        return np.asarray(response.json()["predictions"], dtype=np.float64)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelMismatch(
            f"{client.base_url} answers {rows} rows with something other than probabilities."
        ) from error


def _difference(answer: NDArray[np.float64], expected: NDArray[np.float64], url: str) -> float:
    if answer.shape != expected.shape:
        raise ModelMismatch(f"{url} answers with shape {answer.shape}, and the registered model with {expected.shape}.")
    differences = np.abs(answer - expected)
    wrong = ~(differences <= TOLERANCE)
    if wrong.any():
        raise ModelMismatch(
            f"{url} differs from the registered model in {int(wrong.any(axis=1).sum())} of {len(answer)} "
            f"answers, by up to {np.nanmax(differences):.3g} (allowed: {TOLERANCE:g})."
        )
    return float(differences.max())


def _require_refusal(client: httpx.Client, bad: BadRequest) -> str:
    """Check a refusal: a 4xx with one sentence that names row and column, and repeats nothing that was sent."""
    response = _post(client, bad.body, bad.content_type)
    if not response.is_client_error:
        raise ImageFault(
            f"The image did not reject an invalid request ({bad.name}): it answered {response.status_code}."
        )
    answer = f"The image rejected an invalid request ({bad.name})"
    try:
        message = str(response.json()["message"])
    except (ValueError, KeyError, TypeError) as error:
        raise ImageFault(f"{answer}, but without a message.") from error
    if PLANTED in response.text or "Traceback" in response.text:
        raise ImageFault(f"{answer}, but its answer repeats what was sent or reveals its code.")
    if "\n" in message or len(message) > _LONGEST_SENTENCE:
        raise ImageFault(f"{answer}, but its message has more than one sentence.")
    if bad.row is not None and not message.startswith(f"Row {bad.row}: {bad.column} "):
        raise ImageFault(f"{answer}, but its message does not name row {bad.row} and column {bad.column}.")
    if bad.column is not None and bad.column not in message:
        raise ImageFault(f"{answer}, but its message does not name column {bad.column}.")
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
