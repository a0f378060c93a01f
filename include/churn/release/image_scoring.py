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
    record = clients.ledger.image(settings.model_name, version)
    if record is None or record.image_id is None or record.state != "published":
        yield None
        return
    engine = Engine.find(settings.container_engine)
    if engine is None or engine.named(record.image_id) is None:
        yield None
        return
    if engine.labels(record.image_id).get(CONTRACT_LABEL) != clients.contract.fingerprint:
        yield None
        return
    name = f"churn-score-{settings.model_name}-{version}"
    with engine.running(record.image_id, name, READY_TIMEOUT, wait_until_ready, settings.engine_network) as running:

        def score(rows: pd.DataFrame) -> NDArray[np.float64]:
            return ask_service(running.url, model_input(clients.contract, rows))

        yield score
