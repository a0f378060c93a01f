"""Scores rows with the published image of a version, over HTTP, as its users do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from churn.decision.scoring import Scorer
from churn.foundation.clients import Clients
from churn.foundation.examples import model_input
from churn.foundation.local_server import wait_until_ready
from churn.release.engine import Engine
from churn.release.image import CONTRACT_LABEL
from churn.release.image_verification import READY_TIMEOUT
from churn.release.service_checks import ask_service


@contextmanager
def image_scorer(version: int, clients: Clients) -> Iterator[Scorer | None]:
    """Run the published image of a version.

    Yields:
        A function from rows to probabilities of class 1, shape (rows,). None if this machine has no container engine or not this
        image, or if the image was made under another contract and may therefore refuse customers.

    Raises:
        EngineFailed: the container engine is unavailable although it is required, or failed.
        ServiceEnded, ServingUnavailable: the image does not start.
    """
    settings = clients.settings
    found = _find_image(version, clients)
    if found is None:
        yield None
        return
    engine, image_id = found
    name = f"churn-score-{settings.model_name}-{version}"
    with engine.running(image_id, name, READY_TIMEOUT, wait_until_ready, settings.engine_network) as running:

        def score(rows: pd.DataFrame) -> NDArray[np.float64]:
            return ask_service(running.url, model_input(clients.contract, rows))

        yield score


def _find_image(version: int, clients: Clients) -> tuple[Engine, str] | None:
    """The engine of this machine and the id of the published image in it; None if it cannot score these customers."""
    record = clients.ledger.image(clients.settings.model_name, version)
    if record is None or record.image_id is None or record.state != "published":
        return None
    engine = Engine.find(clients.settings.container_engine)
    if engine is None or engine.named(record.image_id) is None:
        return None
    same_contract = engine.labels(record.image_id).get(CONTRACT_LABEL) == clients.contract.fingerprint
    return (engine, record.image_id) if same_contract else None
