"""Access to MLflow. A retried step finds its existing MLflow run instead of creating a second one."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from json import JSONDecodeError
from typing import Any

import mlflow
from google.protobuf.json_format import ParseError
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException, Timeout

from churn.errors import Outage
from churn.foundation.digests import text_digest
from churn.foundation.links import comparison_page, version_page

NIGHT = "churn.night"
ROLE = "churn.role"
_NIGHT_KEY = "churn.night_key"


class TrackingUnreachable(Outage):
    """MLflow does not answer, or the answer does not come from MLflow."""


class NonsenseAnswer(Exception):  # noqa: N818 -- the name says what it is; `explained` turns it into an outage
    """An answer that an MLflow server never gives to this request."""


NONSENSE = (ParseError, JSONDecodeError, NonsenseAnswer)
"""The exceptions raised when something other than MLflow answers."""


@dataclass(frozen=True)
class Tracking:
    """An MLflow server, with the experiment and the registered model of this project."""

    uri: str
    ui: str
    experiment: str
    model: str

    def __post_init__(self) -> None:
        """Point MLflow's fluent API at the same server, with little output and time-outs of seconds."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the default retries for minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")  # the default waits for two minutes
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # a venv without pip is fine
        warnings.filterwarnings("ignore", message=".*transition_model_version_stage.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message="The specified dataset source can be interpreted in multiple ways")
        mlflow.set_tracking_uri(self.uri)

    @cached_property
    def client(self) -> MlflowClient:
        """The MLflow client."""
        return MlflowClient(self.uri)

    @contextmanager
    def explained(self, act: str) -> Iterator[None]:
        """Turn an outage into one error that names the next step; `act` is what failed, such as `tag version 3`."""
        try:
            yield
        except (MlflowException, RequestException, *NONSENSE) as error:
            raise TrackingUnreachable(
                f"MLflow at {self.ui} could not {act} ({_cause(error)}). Nothing was promoted. "
                "Check that it is running (`make run` starts the local one) and check MLFLOW_TRACKING_URI, then run the step again."
            ) from error

    @cached_property
    def experiment_id(self) -> str:
        """The experiment, created on first use."""
        experiment = self.client.get_experiment_by_name(self.experiment)
        return str(experiment.experiment_id if experiment else self.client.create_experiment(self.experiment))

    def find_run(self, night: str, role: str) -> Run | None:
        """Return the MLflow run of a pipeline run in a role (`night`, `challenger`, `champion`), if it exists."""
        query = f"tags.`{_NIGHT_KEY}` = '{_digest(night)}' AND tags.`{ROLE}` = '{role}'"
        runs = self.client.search_runs([self.experiment_id], query, max_results=1)
        return runs[0] if runs else None

    def run(self, night: str, role: str, name: str, parent: str | None = None) -> Run:
        """Return the MLflow run of a pipeline run in a role; create it if it is missing."""
        existing = self.find_run(night, role)
        if existing:
            return existing
        tags = {NIGHT: night, _NIGHT_KEY: _digest(night), ROLE: role}
        if parent:
            tags["mlflow.parentRunId"] = parent
        return self.client.create_run(self.experiment_id, tags=tags, run_name=name)

    def fail_runs(self, night: str) -> None:
        """Mark the MLflow runs as failed that a pipeline run left open because it ended without a decision.

        Raises:
            TrackingUnreachable: MLflow is unavailable.
        """
        query = f"tags.`{_NIGHT_KEY}` = '{_digest(night)}' AND attributes.status = 'RUNNING'"
        with self.explained("mark the MLflow runs as failed"):
            for run in self.client.search_runs([self.experiment_id], query):
                self.client.set_terminated(run.info.run_id, "FAILED")

    def version(self, version: int) -> ModelVersion:
        """Return a registered version, by number."""
        return self.client.get_model_version(self.model, str(version))

    def version_of_run(self, run_id: str) -> int | None:
        """Return the version that was registered from an MLflow run."""
        versions = self.client.search_model_versions(f"run_id = '{run_id}'")
        numbers = sorted(int(version.version) for version in versions if version.name == self.model)
        return numbers[0] if numbers else None

    def tag_version(self, version: int, tags: dict[str, str]) -> None:
        """Set tags on a version."""
        with self.explained(f"tag version {version}"):
            for name, value in tags.items():
                self.client.set_model_version_tag(self.model, str(version), name, value)

    def model_uri(self, version: int) -> str:
        """Return the URI of a version, always by number: an alias or a stage can move at any time."""
        return f"models:/{self.model}/{version}"

    def load(self, version: int) -> Any:
        """Load a version as a pyfunc; its `predict` returns probabilities, shape (rows, 2)."""
        return mlflow.pyfunc.load_model(self.model_uri(version))

    def run_link(self, run_id: str) -> str:
        """Link to a run."""
        return comparison_page(self.ui, run_id, self.experiment_id)

    def version_link(self, version: int) -> str:
        """Link to a version."""
        return version_page(self.ui, self.model, version)


def _digest(night: str) -> str:
    """Return a digest of the name of a run, because free text is not safe in a filter."""
    return text_digest(night)[:16]


def _cause(error: Exception) -> str:
    if isinstance(error, Timeout) or isinstance(error.__cause__, Timeout) or "timed out" in str(error):
        return "its answer timed out"
    if isinstance(error, NONSENSE):
        return f"the server at this address is not MLflow: {type(error).__name__}"
    return str(error).splitlines()[0][:200] if isinstance(error, MlflowException) else type(error).__name__
