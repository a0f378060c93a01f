"""Where a person opens what the ledger names: pages of Airflow, MLflow and the review."""

from __future__ import annotations

from urllib.parse import quote

from churn.foundation.paths import docs_index
from churn.settings import Settings

RETRAINING, ROLLBACK = "churn_retraining", "churn_rollback"
REVIEW = "/churn-review"
_SAFE = ":+@~"  # what the ids of runs hold, and a path may hold too


def comparison_page(settings: Settings, run_id: str) -> str:
    """A run in MLflow, by the address that needs no experiment."""
    return f"{settings.mlflow_ui}/#/runs/{run_id}"


def version_page(settings: Settings, model: str, version: int | None) -> str:
    """A version in the registry."""
    return f"{settings.mlflow_ui}/#/models/{model}" + (f"/versions/{version}" if version else "")


def run_page(settings: Settings, dag: str, run: str | None = None) -> str:
    """A DAG, or one run of it."""
    return f"{settings.airflow_ui}/dags/{dag}" + (f"/runs/{quote(run, safe=_SAFE)}" if run else "")


def approval_page(settings: Settings, night: str) -> str:
    """Where a person answers whether a night's version is to be promoted."""
    return f"{run_page(settings, RETRAINING, night)}/tasks/promote/required_actions"


def docs_page(settings: Settings, batch: str) -> str:
    """Great Expectations' page of a batch, behind Airflow's login."""
    return f"{settings.airflow_ui}{REVIEW}/{docs_index(batch)}"


def night_page(settings: Settings, night: str) -> str:
    """The review of a night, within Airflow's own page."""
    return f"{settings.airflow_ui}/plugin/churn-review{REVIEW}/{night_path(night)}"


def night_path(night: str) -> str:
    """The review of a night below the review's own address. A night's name is free text: it goes where any text can."""
    return f"night?name={quote(night, safe='')}"
