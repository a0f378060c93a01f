"""MLflow as the rooms use it: the runs of a night, found again instead of made twice."""

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

NIGHT = "churn.night"
ROLE = "churn.role"
_NIGHT_KEY = "churn.night_key"


class TrackingUnreachable(Outage):
    """MLflow does not answer, or answers nonsense."""


class NonsenseAnswer(Exception):  # noqa: N818 -- it says what came; `explained` turns it into an outage
    """An answer that no registry gives to this question."""


NONSENSE = (ParseError, JSONDecodeError, NonsenseAnswer)
"""What is met when something else answers in MLflow's place."""


@dataclass(frozen=True)
class Tracking:
    """An MLflow server, with the experiment and the registered model of this project."""

    uri: str
    ui: str
    experiment: str
    model: str

    def __post_init__(self) -> None:
        """The fluent API of this process talks to the same server, quietly, and gives up within seconds."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the default retries for minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")  # and waits for two of them
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # a venv without pip is no fault
        warnings.filterwarnings("ignore", message=".*transition_model_version_stage.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message="The specified dataset source can be interpreted in multiple ways")
        mlflow.set_tracking_uri(self.uri)

    @cached_property
    def client(self) -> MlflowClient:
        """The MLflow client."""
        return MlflowClient(self.uri)

    @contextmanager
    def explained(self, act: str) -> Iterator[None]:
        """Turn an outage into one error with the next step; `act` says what could not be done."""
        try:
            yield
        except (MlflowException, RequestException, *NONSENSE) as error:
            raise TrackingUnreachable(
                f"MLflow at {self.ui} could not {act} ({_cause(error)}). Nothing was promoted. "
                "Check that it is up (`make run` starts the local one) and MLFLOW_TRACKING_URI, then run the step again."
            ) from error

    @cached_property
    def experiment_id(self) -> str:
        """The experiment, made on first use."""
        found = self.client.get_experiment_by_name(self.experiment)
        return str(found.experiment_id if found else self.client.create_experiment(self.experiment))

    def find_run(self, night: str, role: str) -> Run | None:
        """The night's run of a role (`night`, `challenger`, `champion`)."""
        query = f"tags.`{_NIGHT_KEY}` = '{_digest(night)}' AND tags.`{ROLE}` = '{role}'"
        found = self.client.search_runs([self.experiment_id], query, max_results=1)
        return found[0] if found else None

    def run(self, night: str, role: str, name: str, parent: str | None = None) -> Run:
        """The night's run of a role, made if it is not there; a retry finds the same one."""
        found = self.find_run(night, role)
        if found:
            return found
        tags = {NIGHT: night, _NIGHT_KEY: _digest(night), ROLE: role}
        if parent:
            tags["mlflow.parentRunId"] = parent
        return self.client.create_run(self.experiment_id, tags=tags, run_name=name)

    def fail_runs(self, night: str) -> None:
        """What still runs of a night that has ended without a decision is shown as failed.

        Raises:
            TrackingUnreachable: MLflow is away.
        """
        query = f"tags.`{_NIGHT_KEY}` = '{_digest(night)}' AND attributes.status = 'RUNNING'"
        with self.explained("show the night's runs as failed"):
            for run in self.client.search_runs([self.experiment_id], query):
                self.client.set_terminated(run.info.run_id, "FAILED")

    def version(self, version: int) -> ModelVersion:
        """A registered version, by number."""
        return self.client.get_model_version(self.model, str(version))

    def version_of_run(self, run_id: str) -> int | None:
        """The version that was registered from a run."""
        found = self.client.search_model_versions(f"run_id = '{run_id}'")
        numbers = sorted(int(version.version) for version in found if version.name == self.model)
        return numbers[0] if numbers else None

    def tag_version(self, version: int, tags: dict[str, str]) -> None:
        """Set tags of a version."""
        with self.explained(f"tag version {version}"):
            for name, value in tags.items():
                self.client.set_model_version_tag(self.model, str(version), name, value)

    def model_uri(self, version: int) -> str:
        """The URI of a version, always by number: an alias or a stage can move meanwhile."""
        return f"models:/{self.model}/{version}"

    def load(self, version: int) -> Any:
        """The version as a pyfunc; its `predict` gives probabilities, shape (rows, 2)."""
        return mlflow.pyfunc.load_model(self.model_uri(version))

    def run_link(self, run_id: str) -> str:
        """Where a person opens a run; the parameter selects the UI mode that has metric columns."""
        return f"{self.ui}/#/experiments/{self.experiment_id}/runs/{run_id}?workflowType=machine_learning"

    def version_link(self, version: int) -> str:
        """Where a person opens a version."""
        return f"{self.ui}/#/models/{self.model}/versions/{version}"


def _digest(night: str) -> str:
    """A night's name is free text; its digest is safe in a filter."""
    return text_digest(night)[:16]


def _cause(error: Exception) -> str:
    if isinstance(error, Timeout) or isinstance(error.__cause__, Timeout) or "timed out" in str(error):
        return "it answers too slowly"
    if isinstance(error, NONSENSE):
        return f"what answers there is no MLflow server: {type(error).__name__}"
    return str(error).splitlines()[0][:200] if isinstance(error, MlflowException) else type(error).__name__
