"""Links to the pages of Airflow, MLflow and the review."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from churn.foundation.paths import docs_index

if TYPE_CHECKING:
    from churn.settings import Settings

RETRAINING, ROLLBACK, IMAGE_BUILD = "churn_retraining", "churn_rollback", "churn_image_build"
SCORING = "churn_scoring"
REVIEW = "/churn-review"
_SAFE = ":+@~"  # characters that run ids contain and that a path may contain


def comparison_page(mlflow_ui: str, run_id: str, experiment: str | None = None) -> str:
    """Link to a run in MLflow, or name it if MLflow has no pages; if its experiment is given, the page also shows metric columns."""
    if not _has_pages(mlflow_ui):
        return f"run {run_id} in MLflow"
    if experiment:
        return f"{mlflow_ui}/#/experiments/{experiment}/runs/{run_id}?workflowType=machine_learning"
    return f"{mlflow_ui}/#/runs/{run_id}"


def version_page(mlflow_ui: str, model: str, version: int | None = None) -> str:
    """Link to a model in the MLflow registry, or to one of its versions; name it if MLflow has no pages."""
    if not _has_pages(mlflow_ui):
        return f"version {version} of model {model} in MLflow" if version else f"model {model} in MLflow"
    return f"{mlflow_ui}/#/models/{model}" + (f"/versions/{version}" if version else "")


def _has_pages(mlflow_ui: str) -> bool:
    """Whether MLflow has a server: a database or a folder has no pages to open."""
    return mlflow_ui.startswith(("http://", "https://"))


def run_page(settings: Settings, dag: str, run: str | None = None) -> str:
    """Link to a DAG in Airflow, or to one of its runs."""
    return f"{settings.airflow_ui}/dags/{dag}" + (f"/runs/{quote(run, safe=_SAFE)}" if run else "")


def approval_page(settings: Settings, night: str) -> str:
    """Link to the page where a person approves or rejects the promotion of a run."""
    return f"{run_page(settings, RETRAINING, night)}/tasks/promote/required_actions"


def docs_page(settings: Settings, batch: str) -> str:
    """Link to the Data Docs of a batch, which require the Airflow login."""
    return f"{settings.airflow_ui}{REVIEW}/{docs_index(batch)}"


def night_page(settings: Settings, night: str) -> str:
    """Link to the review of a run, inside the Airflow UI."""
    return f"{settings.airflow_ui}/plugin/churn-review{REVIEW}/{night_path(night)}"


def scores_page(settings: Settings, name: str | None = None) -> str:
    """Link to the review of a list of scores, or of the current ones, inside the Airflow UI."""
    return f"{settings.airflow_ui}/plugin/churn-review{REVIEW}/{scores_path(name)}"


def outcomes_page(settings: Settings) -> str:
    """Link to the review of what happened afterwards, inside the Airflow UI."""
    return f"{settings.airflow_ui}/plugin/churn-review{REVIEW}/outcomes"


def trigger_page(settings: Settings, dag: str) -> str:
    """Link to a DAG in Airflow, with the form that triggers it."""
    return f"{settings.airflow_ui}/dags/{dag}/runs?modal=trigger"


def scores_path(name: str | None = None) -> str:
    """Return the path of the review of a list of scores, or of the current ones."""
    return f"scores?list={name}" if name else "scores"


def night_path(night: str) -> str:
    """Return the path of the review of a run. The name of a run is free text, so it is a query parameter."""
    return f"night?name={quote(night, safe='')}"
