"""Access to MLflow. A retried step finds its existing MLflow run instead of creating a second one."""

from __future__ import annotations

import fcntl
import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from json import JSONDecodeError
from pathlib import Path

import mlflow
from alembic.util import CommandError
from google.protobuf.json_format import ParseError
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS, MlflowException, RestException
from mlflow.protos.databricks_pb2 import NOT_FOUND, RESOURCE_DOES_NOT_EXIST, ErrorCode
from requests.exceptions import RequestException, Timeout
from sqlalchemy.exc import SQLAlchemyError

from churn.errors import ChurnError, Outage
from churn.foundation.digests import text_digest
from churn.foundation.links import comparison_page, version_page

NIGHT = "churn.night"
ROLE = "churn.role"
_NIGHT_KEY = "churn.night_key"
_SQLITE = "sqlite:///"
_GONE = frozenset({ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(NOT_FOUND)})


class TrackingUnreachable(Outage):
    """MLflow does not answer, or the answer does not come from MLflow. The same step may succeed later."""


class TrackingGone(ChurnError):  # noqa: N818 -- names the state
    """MLflow answered that something it is asked for no longer exists."""


class TrackingRefused(ChurnError):  # noqa: N818 -- names the answer
    """MLflow answered and refused: the permission is missing, or it does not accept the request."""


class RegistryChanged(ChurnError):  # noqa: N818 -- names the state
    """The registered model in MLflow is not the one that the ledger describes."""


class NonsenseAnswer(Exception):  # noqa: N818 -- the name says what it is; `explained` turns it into an outage
    """An answer that an MLflow server never gives to this request."""


NONSENSE = (ParseError, JSONDecodeError, NonsenseAnswer)
"""The exceptions raised when something other than MLflow answers."""
_FORBIDDEN = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})
_CLIENT_ERRORS = range(400, 499)
"""The statuses with which MLflow refuses a request; 499 means that it was cancelled."""


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
        if self.uri.startswith(_SQLITE):  # by default, MLflow would create `mlruns` in the working directory
            folder = Path(self.uri.removeprefix(_SQLITE)).absolute().parent / "mlartifacts"
            os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = folder.as_uri()
        mlflow.set_tracking_uri(self.uri)

    @cached_property
    def client(self) -> MlflowClient:
        """The MLflow client."""
        with _alone_in_file(self.uri):
            client = MlflowClient(self.uri)
            if self.uri.startswith(_SQLITE):
                client.search_experiments(max_results=1)  # creates the tables
        return client

    @contextmanager
    def explained(self, act: str, outcome: str = "Nothing was promoted.") -> Iterator[None]:
        """Turn a failure of MLflow into one error that names the next step.

        Args:
            act: what is tried, such as `tag version 3`.
            outcome: what a failure leaves behind, as a sentence.

        Raises:
            TrackingUnreachable: MLflow does not answer.
            TrackingGone: it answers that what is asked for does not exist.
            TrackingRefused: it refuses.
        """
        try:
            yield
        except (MlflowException, RequestException, SQLAlchemyError, CommandError, *NONSENSE) as error:
            raise self._classified(error, act, outcome) from error

    def _classified(self, error: Exception, act: str, outcome: str) -> ChurnError:
        """The one place that tells apart what MLflow answers: unreachable, gone or refused."""
        if self._is_gone(error):
            return TrackingGone(
                f"MLflow at {self.ui} could not {act}, because it no longer exists there ({_cause(error)}). {outcome} "
                "`churn status` lists what is missing and what to do about it."
            )
        if status := _refusal(error):
            step = (
                "Check the user and the password in MLFLOW_TRACKING_URI, and what this user may do"
                if status in _FORBIDDEN
                else "MLflow does not accept this request: compare its version with the one that is installed here"
            )
            return TrackingRefused(
                f"MLflow at {self.ui} refused to {act} ({_cause(error)}). {outcome} {step}, then run the step again."
            )
        return TrackingUnreachable(
            f"MLflow at {self.ui} could not {act} ({_cause(error)}). {outcome} "
            "Check that it is running (`make run` starts the local one) and check MLFLOW_TRACKING_URI, then run the step again."
        )

    def _is_gone(self, error: Exception) -> bool:
        """Whether MLflow itself says so: a page that is not found may come from any server."""
        itself = isinstance(error, RestException) or not self.uri.startswith("http")
        return itself and isinstance(error, MlflowException) and error.error_code in _GONE

    @cached_property
    def experiment_id(self) -> str:
        """The experiment, created on first use.

        Raises:
            TrackingGone: it was deleted, and can be restored.
        """
        experiment = self.client.get_experiment_by_name(self.experiment)
        if experiment is None:
            return str(self.client.create_experiment(self.experiment))
        deleted = self._how_to_restore(experiment)
        if deleted:
            raise TrackingGone(deleted)
        return str(experiment.experiment_id)

    def describe_deleted_experiment(self) -> list[str]:
        """Say that the experiment was deleted, if it was, and how to restore it.

        Raises:
            TrackingUnreachable: MLflow is unavailable.
        """
        with self.explained("find the experiment"):
            experiment = self.client.get_experiment_by_name(self.experiment)
        deleted = self._how_to_restore(experiment) if experiment else None
        return [deleted] if deleted else []

    def _how_to_restore(self, experiment: Experiment) -> str | None:
        if experiment.lifecycle_stage == LifecycleStage.ACTIVE:
            return None
        return (
            f"The experiment {self.experiment} was deleted in MLflow at {self.ui}. Restore it with "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}` (with MLFLOW_TRACKING_URI set), then run the step again."
        )

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

    def find_version(self, version: int) -> ModelVersion | None:
        """Return a registered version, by number; None if MLflow answers that it does not exist.

        Raises:
            TrackingUnreachable: MLflow is unavailable, which is not the same.
        """
        try:
            with self.explained(f"find version {version}"):
                return self.version(version)
        except TrackingGone:
            return None

    def missing_model(self, runs: Iterable[str]) -> str:
        """Say that the registered model does not exist, and what to do.

        Args:
            runs: ids of MLflow runs that its versions came from; if it was renamed, one of them leads to its new name.
        """
        with self.explained("find the registered model by its runs"):
            found = {version.name for run in runs for version in self.client.search_model_versions(f"run_id = '{run}'")}
        lost = f"The registered model {self.model} does not exist in MLflow at {self.ui}, but the ledger knows its versions."
        if found:
            return (
                f"{lost} It was renamed to {', '.join(sorted(found))}. Rename it back in MLflow (Models, Rename), then run the step again. "
                "Nothing was promoted."
            )
        return (
            f"{lost} It was deleted, or MLFLOW_TRACKING_URI names another server. Nothing was promoted. Correct MLFLOW_TRACKING_URI, or restore "
            "MLflow's database from a backup. To begin again without it, set CHURN_MODEL_NAME and CHURN_LEDGER_URL to new values."
        )

    def other_version(self, version: int, recorded: str, found: str) -> str:
        """Say that a version comes from another MLflow run than the ledger recorded, and what to do."""
        return (
            f"Version {version} of {self.model} in MLflow at {self.ui} comes from run {found[:8]}, but the ledger recorded run {recorded[:8]}. "
            "This is not the MLflow that the ledger describes. Nothing was promoted. Check MLFLOW_TRACKING_URI and CHURN_LEDGER_URL: "
            "they must belong together."
        )

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

    def run_link(self, run_id: str) -> str:
        """Link to a run."""
        return comparison_page(self.ui, run_id, self.experiment_id)

    def version_link(self, version: int) -> str:
        """Link to a version."""
        return version_page(self.ui, self.model, version)


def _digest(night: str) -> str:
    """Return a digest of the name of a run, because free text is not safe in a filter."""
    return text_digest(night)[:16]


def _refusal(error: Exception) -> int | None:
    """The status with which MLflow refuses; None if it does not."""
    if not isinstance(error, MlflowException):
        return None
    status: int = ERROR_CODE_TO_HTTP_STATUS.get(error.error_code, HTTPStatus.INTERNAL_SERVER_ERROR)
    itself = isinstance(error, RestException) and status in _CLIENT_ERRORS and status not in _LATER
    return status if itself or status in _FORBIDDEN else None


@contextmanager
def _alone_in_file(uri: str) -> Iterator[None]:
    """Let one process at a time open a SQLite store: MLflow creates its tables without a lock."""
    if not uri.startswith(_SQLITE):
        yield
        return
    file = Path(f"{uri.removeprefix(_SQLITE)}.lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _cause(error: Exception) -> str:
    if isinstance(error, Timeout) or isinstance(error.__cause__, Timeout) or "timed out" in str(error):
        return "its answer timed out"
    if isinstance(error, SQLAlchemyError | CommandError):
        return f"its database does not work, or another process is creating it: {type(error).__name__}"
    if isinstance(error, NONSENSE):
        return f"the server at this address is not MLflow: {type(error).__name__}"
    return str(error).splitlines()[0][:200] if isinstance(error, MlflowException) else type(error).__name__
