"""Links to the pages of Airflow, MLflow and the review."""

from __future__ import annotations

from urllib.parse import quote

from churn.foundation.paths import docs_index
from churn.settings import Settings

RETRAINING, ROLLBACK = "churn_retraining", "churn_rollback"
REVIEW = "/churn-review"
_SAFE = ":+@~"  # what the ids of runs hold, and a path may hold too


def comparison_page(settings: Settings, run_id: str) -> str:
    """Link to a run in MLflow, at the address that needs no experiment."""
    return f"{settings.mlflow_ui}/#/runs/{run_id}"


def version_page(settings: Settings, model: str, version: int | None) -> str:
    """Link to a version in the MLflow registry."""
    return f"{settings.mlflow_ui}/#/models/{model}" + (f"/versions/{version}" if version else "")


def run_page(settings: Settings, dag: str, run: str | None = None) -> str:
    """Link to a DAG, or to one of its runs."""
    return f"{settings.airflow_ui}/dags/{dag}" + (f"/runs/{quote(run, safe=_SAFE)}" if run else "")


def approval_page(settings: Settings, night: str) -> str:
    """Link to the page where a person approves or rejects the promotion of a run."""
    return f"{run_page(settings, RETRAINING, night)}/tasks/promote/required_actions"


def docs_page(settings: Settings, batch: str) -> str:
    """Link to the Data Docs of a batch, behind the login of Airflow."""
    return f"{settings.airflow_ui}{REVIEW}/{docs_index(batch)}"


def night_page(settings: Settings, night: str) -> str:
    """Link to the review of a run, within the page of Airflow."""
    return f"{settings.airflow_ui}/plugin/churn-review{REVIEW}/{night_path(night)}"


def night_path(night: str) -> str:
    """Path of the review of a run. The name of a run is free text, so it is a query parameter."""
    return f"night?name={quote(night, safe='')}"
