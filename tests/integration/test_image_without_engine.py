"""The service of the image on a machine without a container engine: verified all the same, and said honestly."""

from __future__ import annotations

from dataclasses import replace

import docker
import numpy as np
import pytest
from docker.errors import DockerException

from churn.decision.scoring import open_scorer
from churn.foundation.artifacts import downloaded
from churn.foundation.local_server import ModelMismatch, image_app, mlflow_app, served, serving_python
from churn.pipeline import shipping
from churn.pipeline.workspace import Workspace
from churn.release.engine import EngineFailed
from churn.release.image import BuiltImage
from churn.release.probes import contract_rows
from churn.release.publishing import unpublished
from churn.release.service import laid_out, served_here
from churn.release.service_checks import verify
from support.images import with_engine


def test_an_engine_that_is_away_is_an_outage(two_champions: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an engine is required its absence is retried; where it is not, the state is honest."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(EngineFailed, match="required"):
        shipping.build(with_engine(two_champions), 2)
    with pytest.raises(EngineFailed, match="required"):  # it is named, so it is meant
        shipping.build(with_engine(two_champions, container_engine="auto"), 2)
    monkeypatch.delenv("DOCKER_HOST")

    def nowhere(**_: object) -> None:
        raise DockerException("no engine")

    monkeypatch.setattr(docker, "from_env", nowhere)
    auto = with_engine(two_champions, container_engine="auto")
    assert shipping.build(auto, 2) == BuiltImage(2, None)
    auto.ledger.record_image(unpublished(BuiltImage(1, "sha256:1"), auto.settings.model_name, "published", "before"))
    with pytest.raises(EngineFailed, match="required"):  # there was one, so it is away
        shipping.build(auto, 2)


def test_without_an_engine_the_same_service_is_verified_and_the_state_says_so(two_champions: Workspace) -> None:
    """An environment made from the serving lock answers like the registry; never a fake success."""
    record = shipping.ship(two_champions, 2)
    assert (record.state, record.tag, record.image_id) == ("not_built", None, None)
    assert record.detail.startswith("not built, because there is no container engine")
    assert "most extreme rows" in record.detail
    assert record.max_difference is not None
    assert record.max_difference <= 1e-12


def test_mlflows_own_client_is_answered(two_champions: Workspace) -> None:
    """A client that was written for MLflow's server gets from ours what that one would answer."""
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    sources, rows = two_champions, contract_rows(two_champions.contract)
    python = serving_python(two_champions.image_spec.lock, sources.environments)
    answers = []
    with (
        laid_out(2, sources.ledger, sources.contract, sources.tracking) as folder,
        downloaded(2, sources.tracking) as files,
    ):
        ours = image_app(folder)
        two_processes = replace(ours, environment=ours.environment | {"WEB_CONCURRENCY": "2"})
        for app in (two_processes, mlflow_app(files)):
            with served(python, app) as url:
                host, port = url.removeprefix("http://").split(":")
                client = ScoringServerClient(host, int(port))
                client.wait_server_ready(timeout=30)
                answers.append(client.invoke(rows).get_predictions(predictions_format="ndarray"))
    assert answers[0].shape == (len(rows), 2)
    assert np.abs(answers[0] - answers[1]).max() <= 1e-12


def test_a_served_model_is_held_against_the_one_that_is_asked_for(two_champions: Workspace) -> None:
    """Version 1 served, version 2 expected: a mismatch that says how far apart they are."""
    sources, lock = two_champions, two_champions.image_spec.lock
    with (
        served_here(1, sources, lock) as url,
        open_scorer(2, sources.ledger, sources.tracking, sources.environments) as other,
        pytest.raises(ModelMismatch, match="differs from the registered model"),
    ):
        verify(url, other, two_champions.contract)
